"""A database of labels: its tables, and transactions that keep what they acknowledge.

It knows which patterns it is for, and no event in it ever changes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TableClause,
    Text,
    TypeDecorator,
    UniqueConstraint,
    column,
    event,
    inspect,
    table,
)
from sqlalchemy.exc import SQLAlchemyError

from helpers import __version__
from helpers.errors import LabelsError, OtherPatternsError, StoreLostError
from helpers.labels.store_places import (
    StoreFile,
    StoreServer,
    describe_url,
    hide_passwords,
    read_url,
)

LABELS = ("single", "multiple", "other", "blank", "unsure")
"""The words that a label can be; `unsure` is never trained with."""

NAME_LENGTH = 200
"""Longest name of a labeller or a session, in characters."""

WORD_DTYPE = "<U8"
"""The NumPy type of an array of label words."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond, in databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Turn a moment of any time zone into UTC before it is stored."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Say that a stored moment is UTC where the database has forgotten it."""
        if value is None:
            return None
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


metadata = MetaData()

labelled_patterns = Table(
    "labelled_patterns",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", String(NAME_LENGTH), nullable=False),
    Column("n_patterns", Integer, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    CheckConstraint("id = 1", name="one_stack_of_patterns"),
)

same_runs = Table(
    "same_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(NAME_LENGTH), nullable=False),
    Column("n_patterns", Integer, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    UniqueConstraint("fingerprint", "n_patterns", name="each_said_once"),
)
"""Further fingerprints that a person has said to be of the same run."""

label_events = Table(
    "label_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session", String(NAME_LENGTH), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("labeller", String(NAME_LENGTH), nullable=False),
    Column("labelled_at", UtcDateTime, nullable=False),
    Column("time_on_screen_ms", Integer),
    Column("shown", Text, nullable=False),
    Column("pattern", Integer),
    Column("label", String(8)),
    Column("undone_session", String(NAME_LENGTH)),
    Column("undone_seq", BigInteger),
    UniqueConstraint("session", "seq", name="one_event_per_session_and_seq"),
    CheckConstraint(
        "kind IN ('label', 'import') AND pattern IS NOT NULL"
        f" AND label IS NOT NULL AND label IN {LABELS}"
        " OR kind = 'undo' AND label IS NULL",
        name="a_label_or_an_undo",
    ),
    Index("events_of_a_labeller", "labeller", "labelled_at"),
    Index("what_was_undone", "undone_session", "undone_seq"),
    sqlite_autoincrement=True,
)

_VIEW_COLUMNS = {
    "id": Integer,
    "session": String,
    "seq": BigInteger,
    "kind": String,
    "labeller": String,
    "labelled_at": UtcDateTime,
    "pattern": Integer,
    "label": String,
}


def _view(name: str) -> TableClause:
    return table(name, *(column(*each) for each in _VIEW_COLUMNS.items()))


standing_labels = _view("standing_labels")
"""View: every label that was not taken back."""

current_labels = _view("current_labels")
"""View: of the standing labels, the newest of each labeller for each pattern."""

_columns = ", ".join(_VIEW_COLUMNS)

_VIEWS = (
    f"""
CREATE VIEW standing_labels AS
SELECT {_columns} FROM label_events AS given
WHERE kind <> 'undo' AND NOT EXISTS (
    SELECT 1 FROM label_events AS undo
    WHERE undo.undone_session = given.session AND undo.undone_seq = given.seq
)""",
    f"""
CREATE VIEW current_labels AS
SELECT {_columns} FROM (
    SELECT {_columns}, ROW_NUMBER() OVER (
        PARTITION BY labeller, pattern ORDER BY labelled_at DESC, id DESC
    ) AS age
    FROM standing_labels
) AS aged WHERE age = 1""",
)

_GUARDS = {
    "sqlite": (
        """
CREATE TRIGGER no_update BEFORE UPDATE ON label_events
BEGIN SELECT RAISE(ABORT, 'label_events is append-only'); END""",
        """
CREATE TRIGGER no_delete BEFORE DELETE ON label_events
BEGIN SELECT RAISE(ABORT, 'label_events is append-only'); END""",
    ),
    "postgresql": (
        """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'label_events is append-only'; END $$""",
        """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON label_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()""",
    ),
}


@event.listens_for(metadata, "after_create")
def _add_views_and_guards(_: MetaData, connection: Connection, **__: Any) -> None:
    for statement in (*_VIEWS, *_GUARDS.get(connection.dialect.name, ())):
        connection.exec_driver_sql(statement)


def find_our_tables(connection: Connection) -> set[str]:
    """Return which tables and views of a database have names of ours."""
    found = inspect(connection)
    names = {*found.get_table_names(), *found.get_view_names()}
    return names & {*metadata.tables, standing_labels.name, current_labels.name}


def find_schema_problems(connection: Connection) -> list[str]:
    """Say in what a database differs from a store; [] = in nothing.

    A store may lack `same_runs`, which came later.
    """
    found, there = inspect(connection), find_our_tables(connection)
    needed = (labelled_patterns, label_events, standing_labels, current_labels)
    lacking = [each.name for each in needed if each.name not in there]
    problems = [f"it lacks {' and '.join(lacking)}"] if lacking else []
    for each in metadata.tables.values():
        if each.name not in there:
            continue
        columns = {column["name"] for column in found.get_columns(each.name)}
        known = {column.name for column in each.columns}
        if columns != known:
            problems.append(
                _describe_columns(each.name, known - columns, columns - known)
            )
    return problems


def _describe_columns(name: str, lacking: set[str], unknown: set[str]) -> str:
    sides = ("without", lacking), ("with unknown", unknown)
    said = [f"{word} {', '.join(sorted(side))}" for word, side in sides if side]
    return f"{name} is {' and '.join(said)}"


def check_label(pattern: int, label: str, n_patterns: int) -> None:
    """Raise `LabelsError` unless there is such a pattern and such a word."""
    if not 0 <= index(pattern) < n_patterns:
        message = (
            f"There is no pattern {pattern}; expected 0 … {n_patterns - 1}. The label "
            "was not stored."
        )
        raise LabelsError(message)
    if label not in LABELS:
        message = (
            f"«{label}» for pattern {pattern} is no label; expected one of "
            f"{', '.join(LABELS)}. The label was not stored."
        )
        raise LabelsError(message)


def check_words(words: NDArray[np.str_], n_patterns: int) -> None:
    """Raise `LabelsError` unless there is a word, or "", for each pattern."""
    if words.shape != (n_patterns,):
        message = (
            f"The words have shape {words.shape}; expected ({n_patterns},), one for "
            "each pattern, with '' for none. Nothing was stored."
        )
        raise LabelsError(message)
    if unknown := sorted(set(words.tolist()) - {"", *LABELS}):
        message = (
            f"{', '.join(map(repr, unknown))} are no labels; expected "
            f"{', '.join(LABELS)}, or '' for none. Nothing was stored."
        )
        raise LabelsError(message)


def check_names(**names: str) -> None:
    """Raise `LabelsError` unless each name can be stored in any database."""
    for what, name in names.items():
        if not 0 < len(name) <= NAME_LENGTH:
            message = (
                f"The name of the {what} has {len(name)} characters; expected 1 to "
                f"{NAME_LENGTH}. Nothing was stored."
            )
            raise LabelsError(message)


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
        with self._transaction(self._place.reader) as connection:
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
                f"{self._place.describe_recovery()}"
            )
            # The driver's own error may hold a part of a password.
            raise LabelsError(message) from None


def _reason(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().splitlines()[0]


Identity = tuple[str, int]
"""Fingerprint and number of the patterns."""


def bind_store(database: Database, ours: Identity, same_run: bool = False) -> None:
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
        f"{_describe_other_patterns(name, found, expected)} Open the files that were "
        "labelled, in the same order, or choose another work folder. If you are sure "
        "that these are the same patterns in the same order (the file was "
        "recompressed, its dtype changed, or patterns were appended at the end), say "
        "so once with same_run=True, which is a parameter of 03-label too: the labels "
        "stay as they are."
    )
    raise OtherPatternsError(message)


def _check_not_fewer(name: str, known: list[Identity], ours: Identity) -> None:
    most = max(known, key=lambda identity: identity[1])
    if ours[1] < most[1]:
        message = (
            f"{_describe_other_patterns(name, most, ours)} They cannot be the same run "
            "with patterns appended, because they are fewer. Open all files that were "
            "labelled, in the same order, or choose another work folder."
        )
        raise OtherPatternsError(message)


def _describe_other_patterns(name: str, found: Identity, expected: Identity) -> str:
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
            raise LabelsError(_describe_wrong_schema(database.name, problems))
        # Stores made before a run could change its fingerprint lack the second.
        there = [each for each in (labelled_patterns, same_runs) if each.name in tables]
        queries = [
            sa.select(each.c.fingerprint, each.c.n_patterns).order_by(each.c.id)
            for each in there
        ]
        rows = [row for query in queries for row in connection.execute(query)]
    if not rows:
        problem = f"{labelled_patterns.name} does not say for which patterns it is"
        raise LabelsError(_describe_wrong_schema(database.name, [problem]))
    return [(row.fingerprint, row.n_patterns) for row in rows]


def _describe_wrong_schema(name: str, problems: list[str]) -> str:
    return (
        f"{name}: holds no labels of this version of the package: "
        f"{'; '.join(problems)}. Nothing was changed. Name another file, or a database "
        "or schema of its own; a store of another version opens with that version, "
        "which can export its labels as CSV (store.export_csv)."
    )


def _make(database: Database, ours: Identity) -> list[Identity]:
    def fill(connection: sa.Connection) -> None:
        metadata.create_all(connection)
        connection.execute(sa.insert(labelled_patterns), {"id": 1, **_as_row(ours)})

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
            connection.execute(sa.insert(same_runs), _as_row(ours))
    except LabelsError:
        # Another process may have said so at this very moment.
        if ours not in _find(database):
            raise


def _as_row(ours: Identity) -> dict[str, Any]:
    return {
        "fingerprint": ours[0],
        "n_patterns": ours[1],
        "made_by": f"single-hits {__version__}",
        "made_at": datetime.now(UTC),
    }
