"""A database that keeps what it acknowledged, and knows which patterns it is for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from helpers import __version__
from helpers.errors import LabelsError, OtherPatternsError, StoreLostError
from helpers.labels.events import now
from helpers.labels.schema import (
    find_our_tables,
    find_schema_problems,
    labelled_patterns,
    metadata,
    same_runs,
)
from helpers.labels.store_places import (
    StoreFile,
    StoreServer,
    describe_url,
    hide_passwords,
    read_url,
)


class Database:
    """An open database; one transaction at a time, whichever thread asks.

    JupyterLab calls widget handlers in another thread than the cells', so one lock
    stands round every transaction. Whatever the database refuses becomes a
    `LabelsError`, and then nothing of that transaction is kept.

    Parameters
    ----------
    url_or_path
        A path is an SQLite file; anything with `://` in it is a SQLAlchemy URL.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self._url = read_url(url_or_path)
        self.name = describe_url(self._url)
        self._lock = threading.RLock()
        self._is_file = self._url.get_backend_name() == "sqlite"
        make_place = StoreFile if self._is_file else StoreServer
        self._place: StoreFile | StoreServer = make_place(self._url, self.name)
        self._writer = self._place.engine.execution_options(writes=True)

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing yet to be opened."""
        return self._place.is_absent

    @property
    def may_be_filled(self) -> bool:
        """Whether a database without tables of ours is one for a new store.

        An SQLite file without them is another program's.
        """
        return not self._is_file

    def make(self, fill: Callable[[sa.Connection], None]) -> None:
        """Make a new store; `fill` runs in one transaction."""
        with self._lock, self._explaining_errors():
            self._place.make(fill)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection inside a transaction that only reads."""
        with self._transaction(self._place.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection inside a transaction; on disk once the block has ended."""
        with self._transaction(self._writer) as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._place.engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with (
            self._lock,
            self._explaining_errors(),
            self._place.watching(),
            engine.begin() as connection,
        ):
            yield connection

    @contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = hide_passwords(_reason(error), self._url)
            if self._place.is_lost(getattr(error, "orig", None)):
                raise StoreLostError(self.name, f"it is damaged («{reason}»)") from None
            message = (
                f"{self.name}: the database answered «{reason}». "
                f"{self._place.say_what_to_do()}"
            )
            # The driver's own error may hold a part of a password.
            raise LabelsError(message) from None


def _reason(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().splitlines()[0]


Identity = tuple[str, int]
"""Fingerprint and number of the patterns."""


def claim_store(database: Database, ours: Identity, same_run: bool = False) -> None:
    """Make a new store for these patterns, or check that an old one is for them.

    Parameters
    ----------
    database
        Where the store is, or is to be.
    ours
        Fingerprint and number of the patterns.
    same_run
        True adds them to those that the store is for.

    Raises
    ------
    OtherPatternsError
        The store is for other patterns; or, with `same_run`, for more than these.
    LabelsError
        The database cannot be read, or not be written where the store is new.
    """
    known = _find(database) or _make(database, ours)
    if same_run and ours not in known:
        _check_not_fewer(database.name, known, ours)
        _remember(database, ours)
    elif ours not in known:
        check_same_patterns(database.name, known[-1], ours)


def check_same_patterns(name: str, found: Identity, expected: Identity) -> None:
    """Raise `OtherPatternsError` unless fingerprint and number of patterns agree."""
    if found == expected:
        return
    message = (
        f"{_say_other(name, found, expected)} Open the files that were labelled, in "
        "the same order, or choose another work folder. If you are sure that these "
        "are the same patterns in the same order (the file was recompressed, its "
        "dtype changed, or patterns were appended at the end), say so once with "
        "same_run=True, which is a parameter of 03-label too: the labels stay as "
        "they are."
    )
    raise OtherPatternsError(message)


def _check_not_fewer(name: str, known: list[Identity], ours: Identity) -> None:
    most = max(known, key=lambda identity: identity[1])
    if ours[1] < most[1]:
        message = (
            f"{_say_other(name, most, ours)} They cannot be the same run with patterns "
            "appended, because they are fewer. Open all files that were labelled, in "
            "the same order, or choose another work folder."
        )
        raise OtherPatternsError(message)


def _say_other(name: str, found: Identity, expected: Identity) -> str:
    return (
        f"{name}: these are labels of {found[1]} patterns with fingerprint {found[0]}; "
        f"expected labels of {expected[1]} patterns with fingerprint {expected[0]}."
    )


def _find(database: Database) -> list[Identity]:
    """Return all that the store is for, what it was made for first; [] = no store."""
    if database.is_absent:
        return []
    with database.reading() as connection:
        tables = find_our_tables(connection)
        if not tables and database.may_be_filled:
            return []
        if problems := find_schema_problems(connection):
            raise LabelsError(_say_schema(database.name, problems))
        # Stores made before a run could change its fingerprint lack the second.
        there = [each for each in (labelled_patterns, same_runs) if each.name in tables]
        queries = [
            sa.select(each.c.fingerprint, each.c.n_patterns).order_by(each.c.id)
            for each in there
        ]
        rows = [row for query in queries for row in connection.execute(query)]
    if not rows:
        problem = f"{labelled_patterns.name} does not say for which patterns it is"
        raise LabelsError(_say_schema(database.name, [problem]))
    return [(row.fingerprint, row.n_patterns) for row in rows]


def _say_schema(name: str, problems: list[str]) -> str:
    return (
        f"{name}: holds no labels of this version of the package: "
        f"{'; '.join(problems)}. Nothing was changed. Name another file, or a database "
        "or schema of its own; a store of another version opens with that version, "
        "which can export its labels as CSV (store.export_csv)."
    )


def _make(database: Database, ours: Identity) -> list[Identity]:
    def fill(connection: sa.Connection) -> None:
        metadata.create_all(connection)
        connection.execute(sa.insert(labelled_patterns), {"id": 1, **_facts(ours)})

    try:
        database.make(fill)
    except LabelsError:
        # Another process may have made the store at this very moment.
        if not (found := _find(database)):
            raise
        return found
    return _find(database)


def _remember(database: Database, ours: Identity) -> None:
    try:
        with database.writing() as connection:
            same_runs.create(connection, checkfirst=True)
            connection.execute(sa.insert(same_runs), _facts(ours))
    except LabelsError:
        # Another process may have said so at this very moment.
        if ours not in _find(database):
            raise


def _facts(ours: Identity) -> dict[str, Any]:
    return {
        "fingerprint": ours[0],
        "n_patterns": ours[1],
        "made_by": f"single-hits {__version__}",
        "made_at": now(),
    }
