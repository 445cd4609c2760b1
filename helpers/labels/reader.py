"""What the events of a label store add up to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from helpers.labels import agreement
from helpers.labels.agreement import REPEAT
from helpers.labels.database import Database
from helpers.labels.events import LabelEvent, read_events
from helpers.labels.schema import (
    LABELS,
    WORD_DTYPE,
    current_labels,
    label_events,
    standing_labels,
)


class LabelReader:
    """The labels of one stack of patterns, for whoever only looks.

    Parameters
    ----------
    database
        Where the events lie.
    n_patterns
        How many patterns the stack has.

    Attributes
    ----------
    is_measurement
        (n_patterns,) bool: what is none has no current label, whatever was said of it;
        all are until `open_work` knows better.
    """

    def __init__(self, database: Database, n_patterns: int) -> None:
        self.n_patterns = n_patterns
        self.is_measurement = np.ones(n_patterns, np.bool_)
        self._database = database

    def current_labels(self, labeller: str | None = None) -> NDArray[np.str_]:
        """Return the word that counts for each pattern.

        Parameters
        ----------
        labeller
            Only what this labeller says. Without it, the word that most labellers
            give: a tie is `unsure`, and imported labels count only for patterns that
            nobody has labelled here, so that a correction need not outvote a file.

        Returns
        -------
            str (n_patterns,); "" = no label.
        """
        votes = np.zeros((2, self.n_patterns, len(LABELS)), dtype=np.int64)
        for row in self._current_rows(labeller):
            votes[int(row.kind == "label"), row.pattern, LABELS.index(row.label)] += 1
        imported, pressed = votes
        labelled_here = pressed.any(axis=1, keepdims=True)
        words = agreement.consensus(np.where(labelled_here, pressed, imported))
        words[~self.is_measurement] = ""
        return words

    def votes(self) -> NDArray[np.str_]:
        """Return what each labeller says of each pattern.

        Returns
        -------
            str (n_patterns, n_labellers), columns in the order of `labellers`;
            "" = no label.
        """
        rows = self._current_rows()
        columns = {name: column for column, name in enumerate(_labellers(rows))}
        words = np.zeros((self.n_patterns, len(columns)), dtype=WORD_DTYPE)
        for row in rows:
            words[row.pattern, columns[row.labeller]] = row.label
        return words

    def labellers(self) -> tuple[str, ...]:
        """Return the names of those who have current labels, sorted."""
        return _labellers(self._current_rows())

    def counts(self, labeller: str | None = None) -> dict[str, int]:
        """Return how many patterns have each word; see `current_labels`."""
        labels = self.current_labels(labeller)
        return {word: int((labels == word).sum()) for word in LABELS}

    def disagreements(self) -> NDArray[np.int64]:
        """Return the patterns to which labellers give different words, ascending."""
        return agreement.disagreements(self.votes())

    def repeated(self, labeller: str) -> NDArray[np.int64]:
        """Return the patterns that a labeller has labelled again, blind.

        Returns
        -------
            int64 (m,), ascending; a repeat that was undone does not count.
        """
        given, standing = label_events.c, standing_labels.c
        query = (
            sa.select(given.pattern)
            .join(standing_labels, standing.id == given.id)
            .where(given.labeller == labeller, given.shown.startswith(REPEAT))
            .where(given.pattern < self.n_patterns)
            .distinct()
        )
        with self._database.reading() as connection:
            return np.sort(np.array(connection.scalars(query).all(), dtype=np.int64))

    def history(
        self, pattern: int | None = None, labeller: str | None = None
    ) -> list[LabelEvent]:
        """Return every event, in the order in which they were stored.

        Parameters
        ----------
        pattern, labeller
            Only the events of this pattern; only those of this labeller.
        """
        c = label_events.c
        wanted = {c.pattern: pattern, c.labeller: labeller}
        conditions = [
            each == value for each, value in wanted.items() if value is not None
        ]
        with self._database.reading() as connection:
            return read_events(connection, *conditions)

    def _current_rows(
        self, labeller: str | None = None, *more: str
    ) -> Sequence[sa.Row[Any]]:
        # A store of a longer stack of the same run may hold labels beyond this one.
        c = current_labels.c
        columns = [c[name] for name in ("kind", "labeller", "pattern", "label", *more)]
        query = sa.select(*columns).where(c.pattern < self.n_patterns)
        if labeller is not None:
            query = query.where(c.labeller == labeller)
        with self._database.reading() as connection:
            return connection.execute(query).all()


def _labellers(rows: Sequence[sa.Row[Any]]) -> tuple[str, ...]:
    return tuple(sorted({row.labeller for row in rows}))
