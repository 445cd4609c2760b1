"""The label store: append-only events, and the current labels that they add up to."""

import getpass
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from operator import index
from pathlib import Path
from typing import Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from helpers.errors import LabelsError, StoreLostError
from helpers.experiment import Experiment, open_experiment
from helpers.labels.database import (
    WORD_DTYPE,
    Database,
    bind_store,
    check_label,
    check_names,
    check_same_patterns,
    check_words,
    labelled_patterns,
)
from helpers.labels.events import (
    LabelEvent,
    Press,
    Undo,
    append_events,
    append_imports,
    find_events,
    find_newest,
    find_no_longer_held,
    holds_event,
    insert_events,
    make_head,
    make_label,
    newest_pressed,
    read_events,
    take_back,
)
from helpers.labels.label_csv import (
    UNNAMED,
    GivenLabel,
    Locate,
    read_labels_csv,
    write_labels_csv,
)
from helpers.labels.reader import LabelReader, list_patterns
from helpers.labels.store_places import PASSWORD_VARIABLE, split_password
from helpers.patterns import Patterns
from helpers.work_folder import LABELS_NAME


def open_label_store(
    url_or_path: str | Path,
    patterns_fingerprint: str,
    n_patterns: int,
    *,
    same_run: bool = False,
) -> "LabelStore":
    """Open the labels of a stack of patterns; make an empty store where there is none.

    Parameters
    ----------
    url_or_path
        An SQLite file, such as `work/labels.sqlite`; or a SQLAlchemy URL, such as
        `postgresql://name@host/database`, when several people label at once. Each
        stack needs a database of its own, or a schema (`?options=-csearch_path=name`).
    patterns_fingerprint, n_patterns
        Which patterns the labels are for: `patterns.fingerprint`, `len(patterns)`.
    same_run
        True says that these are the patterns that were labelled, in the same order,
        although their fingerprint is another: the file was recompressed, its dtype
        changed, or patterns were appended at the end. The store remembers it, so it
        needs saying once; nothing that it held is changed.

    Raises
    ------
    OtherPatternsError
        The store holds labels of other patterns; or, with `same_run`, of more.
    LabelsError
        The database cannot be opened, or is none.
    """
    database = Database(url_or_path)
    return LabelStore(database, patterns_fingerprint, n_patterns, same_run=same_run)


def open_work(
    work_dir: str | Path,
    patterns_file: str | Path | Sequence[str | Path] = "",
    store_url: str = "",
    *,
    same_run: bool = False,
) -> tuple[Experiment, "LabelStore"]:
    """Open the patterns of a work folder, as 01-inspect left them, and their labels.

    Parameters
    ----------
    work_dir
        Where 01-inspect wrote.
    patterns_file
        The patterns, if they have moved since or to make sure they are the same.
    store_url
        SQLAlchemy URL of the labels; "" takes `labels.sqlite` in the work folder. Its
        password belongs into the environment (`SINGLE_HITS_STORE_PASSWORD`) or into
        `~/.pgpass`, since a notebook shows its parameters.
    same_run
        As in `open_label_store`.

    Raises
    ------
    WorkFolderError
        If 01-inspect has not written here, or its files cannot be read.
    OtherPatternsError
        If the patterns are not those that were inspected, or labelled.
    LabelsError
        If the labels cannot be opened.
    """
    if store_url and split_password(store_url)[1]:
        message = (
            "store_url holds a password, which stands in this notebook for everybody "
            f"to read. Leave it out: set {PASSWORD_VARIABLE} in the environment, or "
            "write a line into ~/.pgpass"
        )
        warnings.warn(message, stacklevel=2)
    experiment = open_experiment(work_dir, patterns_file)
    patterns = experiment.patterns
    url = store_url or Path(work_dir) / LABELS_NAME
    store = open_label_store(
        url, patterns.fingerprint, len(patterns), same_run=same_run
    )
    store.is_measurement = patterns.is_measurement
    return experiment, store


def read_labels(
    work_dir: str | Path, patterns: Patterns, store_url: str = ""
) -> NDArray[np.str_]:
    """Return the label of each pattern, str (n,), "" = none; no store is made.

    Parameters
    ----------
    work_dir
        The work folder.
    patterns
        Its stack, n patterns.
    store_url
        As in `open_work`.

    Raises
    ------
    OtherPatternsError
        If other patterns were labelled.
    LabelsError
        If the labels cannot be opened.
    """
    path = Path(work_dir).expanduser() / LABELS_NAME
    if not store_url and not path.exists():
        return np.full(len(patterns), "", WORD_DTYPE)
    place = store_url or path
    with open_label_store(place, patterns.fingerprint, len(patterns)) as store:
        store.is_measurement = patterns.is_measurement
        return store.current_labels()


def name_labeller(given: str = "") -> str:
    """Return who labels: as given, or else the login name, or the user's number.

    In a container the number may have no name.
    """
    try:
        return given or getpass.getuser()
    except (OSError, KeyError):  # which of them depends on the version of Python
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


class LabelStore(LabelReader):
    """The labels of one stack of patterns; `open_label_store` opens them.

    Every method may be called from any thread, and several processes may have one
    store open. When a method that writes has returned, what it wrote is on the disk.

    A label counts until it is undone or until the same labeller gives the pattern a
    newer one. Where labellers differ, `current_labels` says which word counts.
    """

    def __init__(
        self,
        database: Database,
        patterns_fingerprint: str,
        n_patterns: int,
        *,
        same_run: bool = False,
    ) -> None:
        self.name = database.name
        self.patterns_fingerprint = patterns_fingerprint
        self.made_for = patterns_fingerprint, n_patterns
        super().__init__(database, n_patterns)
        self._given: dict[tuple[str, int], LabelEvent] = {}
        try:
            bind_store(database, self.made_for, same_run)
            with database.reading() as connection:
                self._origin = connection.execute(sa.select(labelled_patterns)).first()
                self._newest = find_newest(connection)
        except BaseException:
            database.close()
            raise

    def __enter__(self) -> Self:
        """Use the store in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store at the end of a `with` block."""
        self.close()

    def __repr__(self) -> str:
        """Say where the labels lie, and of how many patterns."""
        return f"<labels of {self.n_patterns} patterns in {self.name}>"

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def record(
        self,
        pattern: int,
        label: str,
        *,
        labeller: str,
        session: str,
        seq: int,
        time_on_screen_ms: float | None = None,
        shown: str = "",
    ) -> None:
        """Store one label; a repetition of the same event changes nothing.

        Parameters
        ----------
        pattern
            Index in the stack, from 0.
        label
            One of `LABELS`.
        labeller
            Who gave it.
        session, seq
            Name this event for ever: a name for the stretch of work that is used for
            no other, and a count within it, from 1.
        time_on_screen_ms
            How long the pattern had been shown, in ms; None = not known.
        shown
            How it was shown, such as `log scale, viridis`.

        Raises
        ------
        LabelsError
            No such pattern or word; another event has this session and seq already;
            or the database refused. The label is not stored then.
        """
        given = Press(pattern, label, seq, time_on_screen_ms, shown)
        self.record_all([given], labeller=labeller, session=session)

    def record_all(
        self, given: Sequence[Press], *, labeller: str, session: str
    ) -> None:
        """Store labels in one transaction, each as an event of its own: all or none.

        Parameters and errors are those of `record`.
        """
        if not given:
            return
        for each in given:
            check_label(each.pattern, each.label, self.n_patterns)
        head = make_head("label", labeller, session)
        events = [make_label(head, each) for each in given]
        with self._writing() as connection:
            known = find_events(connection, session, [each.seq for each in given])
            new = []
            for event in events:
                if event.seq not in known:
                    new.append(event)
                elif not known[event.seq].has_same_content(event):
                    raise LabelsError(self._conflict(known[event.seq], event))
            stored = known | {
                event.seq: event for event in append_events(connection, new)
            }
        self._keep([stored[each.seq] for each in given])

    def undo(self, *, labeller: str, session: str, seq: int) -> int | None:
        """Take back the newest label that this labeller pressed and that still stands.

        It does not matter in which session it was pressed, and there is no limit.
        Imported labels stay. A repetition of the same undo changes nothing and gives
        the same answer.

        Parameters
        ----------
        labeller
            Who takes back; the labels of others stay.
        session, seq
            Name this event for ever, as in `record`.

        Returns
        -------
            The pattern whose label was taken back, or None when there was none left.

        Raises
        ------
        LabelsError
            Another event has this session and seq already, or the database refused.
        """
        return self.undo_all([Undo(seq)], labeller=labeller, session=session)[0]

    def undo_all(
        self, undos: Sequence[Undo], *, labeller: str, session: str
    ) -> list[int | None]:
        """Take labels back in one transaction, as `undo` does one after the other.

        Returns
        -------
            For each undo, the pattern whose label was taken back, or None.
        """
        head = make_head("undo", labeller, session)
        now_shown: list[int | None] = []
        done: list[LabelEvent] = []
        with self._writing() as connection:
            known = find_events(connection, session, [each.seq for each in undos])
            standing = iter(
                newest_pressed(connection, labeller, self.n_patterns, len(undos))
            )
            new = []
            for seq, follows in undos:
                if follows is not None and (not now_shown or now_shown[-1] != follows):
                    now_shown.append(None)
                    continue
                event = known.get(seq)
                asked = LabelEvent(**head, seq=index(seq))
                if event is None:
                    event = take_back(asked, next(standing, None))
                    new.append(event)
                elif (event.kind, event.labeller) != ("undo", labeller):
                    raise LabelsError(self._conflict(event, asked))
                now_shown.append(event.pattern)
                done.append(event)
            dated = {each.seq: each for each in append_events(connection, new)}
        self._keep([dated.get(each.seq, each) for each in done])
        return now_shown

    def import_csv(
        self,
        path: str | Path,
        labeller: str | None = None,
        *,
        locate: Locate | None = None,
        first_index: int = 0,
        words: Mapping[str, str] | None = None,
    ) -> int:
        """Store the labels of a CSV file and return how many are new.

        A line with `labelled_at` counts from that moment, one without from now, as does
        one whose word was changed since the last import. What was imported before is
        not stored twice; labels that this file no longer holds stay, and are named in a
        warning.

        Parameters
        ----------
        path
            Columns `pattern,label` and, when known, `file,labeller,labelled_at`.
        labeller
            Who gave the labels for which the file names nobody; `imported` by default.
        locate
            `patterns.locate`, to check the column `file`.
        first_index, words
            As in `read_labels_csv`.

        Raises
        ------
        LabelsError
            The file cannot be read, or has bad lines: all are listed, none is stored.
        """
        given = read_labels_csv(
            path,
            self.n_patterns,
            labeller,
            locate,
            first_index=first_index,
            words=words,
        )
        return self._import(given, Path(path).name)

    def import_words(
        self, words: NDArray[np.str_], labeller: str = UNNAMED, *, source: str = ""
    ) -> int:
        """Store one word for each pattern, such as `patterns.recorded_labels`.

        Parameters
        ----------
        words
            str (n_patterns,): one of `LABELS` each, or "" = none.
        labeller
            Who gave them.
        source
            Where they come from, for the history.

        Returns
        -------
            How many labels are new in the store; what was imported before is not.

        Raises
        ------
        LabelsError
            There is not one word for each pattern, or a word is unknown.
        """
        words = np.asarray(words)
        check_words(words, self.n_patterns)
        check_names(labeller=labeller)
        given = [
            GivenLabel(int(pattern), str(words[pattern]), labeller, None)
            for pattern in np.flatnonzero(words != "")
        ]
        return self._import(given, source)

    def _import(self, given: list[GivenLabel], source: str) -> int:
        with self._writing() as connection:
            n_new = append_imports(connection, given, source)
            gone = find_no_longer_held(connection, given, source)
        if gone:
            message = (
                f"{source} no longer holds {len(gone)} labels that were imported from "
                f"it before ({list_patterns(gone)}); they stay as they are. To leave "
                "them out, label them unsure, there or in 03-label."
            )
            warnings.warn(message, stacklevel=4)
        return n_new

    def export_csv(self, path: str | Path, *, locate: Locate | None = None) -> int:
        """Write the current label of every labeller for every pattern.

        Parameters
        ----------
        path
            The CSV file, written whole or not at all; `import_csv` reads it.
        locate
            `patterns.locate`, to write the column `file`.

        Returns
        -------
            How many labels were written.
        """
        rows = self._current_rows(None, "labelled_at")
        given = [
            GivenLabel(row.pattern, row.label, row.labeller, row.labelled_at)
            for row in sorted(rows, key=lambda row: (row.pattern, row.labeller))
        ]
        write_labels_csv(path, given, locate)
        return len(given)

    def merge(self, other: "LabelStore") -> int:
        """Copy the events of another store of the same patterns into this one.

        Merging again copies only what is new. The other store stays as it is.

        Parameters
        ----------
        other
            A store that is open too.

        Returns
        -------
            How many events were copied.

        Raises
        ------
        OtherPatternsError
            The other store is of other patterns.
        LabelsError
            The stores hold different events of the same session and seq.
        """
        check_same_patterns(other.name, other.made_for, self.made_for)
        events = other.history()
        with self._writing() as connection:
            known = {event.address: event for event in read_events(connection)}
            for event in events:
                if not event.has_same_content(known.get(event.address, event)):
                    raise LabelsError(self._conflict(known[event.address], event))
            new = [event for event in events if event.address not in known]
            insert_events(connection, new)
        return len(new)

    def rescue(self, path: str | Path | None = None) -> Path:
        """Write what was given in this session to a new store, as when the old is lost.

        Parameters
        ----------
        path
            A file that is not there yet; None takes one beside the store, or where
            that cannot be, in the current folder. `import_labels` (`labels_file` of
            03-label) takes it into another store.

        Returns
        -------
            Where it was written.

        Raises
        ------
        LabelsError
            There is nothing to be written, the file is there, or cannot be made.
        """
        if not self._given:
            message = f"{self.name}: nothing was given in this session to be rescued."
            raise LabelsError(message)
        if path is None:
            return self._rescue_nearby()
        path = Path(path).expanduser().absolute()
        if path.exists():
            message = f"{path}: is there already. Name a file that is not."
            raise LabelsError(message)
        with (
            open_label_store(path, *self.made_for) as store,
            store._writing() as connection,
        ):
            insert_events(connection, [*self._given.values()])
        return path

    def _rescue_nearby(self) -> Path:
        name = f"labels-rescued-{datetime.now():%Y%m%d-%H%M%S-%f}.sqlite"
        beside = [] if "://" in self.name else [Path(self.name).parent]
        *folders, last = [*beside, Path.cwd(), Path(tempfile.gettempdir())]
        for folder in folders:
            if folder.is_dir():
                with suppress(LabelsError):
                    return self.rescue(folder / name)
        return self.rescue(last / name)

    def _keep(self, events: Sequence[LabelEvent]) -> None:
        for event in events:
            self._newest = event.address
            self._given[event.address] = event  # one that was sent twice stands once

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._database.writing() as connection:
            # One writer at a time; SQLite sees to that at the beginning, others here.
            origin = sa.select(labelled_patterns).with_for_update()
            is_same = connection.execute(origin).first() == self._origin
            if not is_same or not holds_event(connection, self._newest):
                raise StoreLostError(self.name, "it no longer holds what it held")
            yield connection

    def _conflict(self, known: LabelEvent, event: LabelEvent) -> str:
        return (
            f"{self.name}: event {event.seq} of session {event.session} is stored as "
            f"{known}, and cannot also be {event}. Start a new session; nothing of "
            "this step was stored."
        )
