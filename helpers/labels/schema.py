"""The tables of the label store, its views, and what keeps its events unchanged."""

from datetime import UTC, datetime
from operator import index
from typing import Any

import numpy as np
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

from helpers.errors import LabelsError

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
            problems.append(_say_columns(each.name, known - columns, columns - known))
    return problems


def _say_columns(name: str, lacking: set[str], unknown: set[str]) -> str:
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
