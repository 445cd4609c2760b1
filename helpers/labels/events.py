"""What happened, one event each: found, compared and appended; never changed."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import index
from typing import Any, NamedTuple

import sqlalchemy as sa

from helpers.labels.database import (
    check_names,
    current_labels,
    label_events,
    standing_labels,
)
from helpers.labels.label_csv import GivenLabel

_LATEST = datetime.max.replace(tzinfo=UTC)
EVENT_COLUMNS = [column for column in label_events.c if column.name != "id"]


@dataclass(frozen=True, kw_only=True)
class LabelEvent:
    """One thing that happened: a label given, a label imported, or an undo.

    Parameters
    ----------
    session, seq
        Which event this is: a stretch of work, and the count within it.
    kind
        `label`, `import` or `undo`.
    labeller
        Who did it.
    labelled_at
        When, in UTC. What is labelled in a store is never dated before what the same
        labeller did there earlier, even if the clock was set back.
    time_on_screen_ms
        How long the pattern had been shown, in ms; None = not known.
    shown
        How it was shown, such as the colour map; for an import, where it came from.
    pattern
        Its index; for an undo, whose label was taken back (None = there was none).
    label
        The word; None for an undo.
    undone_session, undone_seq
        For an undo, the event that was taken back.
    """

    session: str
    seq: int
    kind: str
    labeller: str
    labelled_at: datetime
    time_on_screen_ms: int | None = None
    shown: str = ""
    pattern: int | None = None
    label: str | None = None
    undone_session: str | None = None
    undone_seq: int | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Session and seq, which no other event has."""
        return self.session, self.seq

    def __str__(self) -> str:
        """Say what happened, in words."""
        if self.kind == "undo":
            return f"an undo by {self.labeller}"
        return f"«{self.label}» for pattern {self.pattern} by {self.labeller}"

    def has_same_content(self, other: "LabelEvent") -> bool:
        """Say whether the same labeller did the same, whatever the time."""
        return _content_of(self) == _content_of(other)


class Press(NamedTuple):
    """One label that a person gives.

    Attributes
    ----------
    pattern, label
        Which pattern it is, and the word.
    seq
        The count of this event within its session.
    time_on_screen_ms, shown
        As in `LabelEvent`.
    """

    pattern: int
    label: str
    seq: int
    time_on_screen_ms: float | None = None
    shown: str = ""


class Undo(NamedTuple):
    """One label that a person takes back.

    Attributes
    ----------
    seq
        The count of this event within its session.
    follows
        Take back only if the undo before took back the label of this pattern.
    """

    seq: int
    follows: int | None = None


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def make_head(kind: str, labeller: str, session: str) -> dict[str, Any]:
    """Return what events of one moment share; refuse names that cannot be stored."""
    check_names(labeller=labeller, session=session)
    return {
        "kind": kind,
        "labeller": labeller,
        "session": session,
        "labelled_at": now(),
    }


def make_label(head: dict[str, Any], given: Press) -> LabelEvent:
    """Return a label as an event, from `make_head` and what was given."""
    on_screen = given.time_on_screen_ms
    return LabelEvent(
        **head,
        seq=index(given.seq),
        time_on_screen_ms=None if on_screen is None else round(on_screen),
        shown=given.shown,
        pattern=index(given.pattern),
        label=given.label,
    )


def find_events(
    connection: sa.Connection, session: str, seqs: Sequence[int]
) -> dict[int, LabelEvent]:
    """Return those events of a session that are there, by their seq."""
    c = label_events.c
    between = c.seq.between(min(seqs), max(seqs))
    found = read_events(connection, c.session == session, between)
    return {event.seq: event for event in found}


def read_events(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool]
) -> list[LabelEvent]:
    """Return the events that meet all conditions, in the order they were stored."""
    query = sa.select(*EVENT_COLUMNS).where(*conditions).order_by(label_events.c.id)
    return [LabelEvent(**row) for row in connection.execute(query).mappings()]


def newest_pressed(
    connection: sa.Connection, labeller: str, n_patterns: int, n_most: int
) -> Sequence[sa.Row[Any]]:
    """Return the newest labels that a labeller pressed and that still stand.

    Only labels of the first `n_patterns` patterns are looked at.

    Returns
    -------
        At most `n_most` rows of the view `standing_labels`, the newest first.
    """
    c = standing_labels.c
    query = (
        sa.select(standing_labels)
        .where(c.labeller == labeller, c.kind == "label", c.pattern < n_patterns)
        .order_by(c.labelled_at.desc(), c.id.desc())
        .limit(n_most)
    )
    return connection.execute(query).all()


def take_back(undo: LabelEvent, label: sa.Row[Any] | None) -> LabelEvent:
    """Return the undo with what it takes back; with None it takes nothing back."""
    if label is None:
        return undo
    return replace(
        undo, pattern=label.pattern, undone_session=label.session, undone_seq=label.seq
    )


def find_newest(connection: sa.Connection) -> tuple[str, int] | None:
    """Return session and seq of the event that was stored last, or None."""
    c = label_events.c
    query = sa.select(c.session, c.seq).order_by(c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])


def holds_event(connection: sa.Connection, address: tuple[str, int] | None) -> bool:
    """Tell whether there is an event of this session and seq; True for None."""
    if address is None:
        return True
    c = label_events.c
    query = sa.select(c.id).where(c.session == address[0], c.seq == address[1])
    return connection.scalar(query) is not None


def append_events(
    connection: sa.Connection, events: Sequence[LabelEvent]
) -> list[LabelEvent]:
    """Store events, dated not before what their labellers did earlier; return them."""
    if not events:
        return []
    newest = _newest_moments(connection, sorted({each.labeller for each in events}))
    dated = [_dated(each, newest) for each in events]
    insert_events(connection, dated)
    return dated


def append_imports(
    connection: sa.Connection, given: Iterable[GivenLabel], source: str
) -> int:
    """Store imported labels, except those that an earlier import has stored.

    Parameters
    ----------
    connection
        In a transaction that writes.
    given
        A label with a time is known when the store has it with this labeller and
        time, pressed or imported. A label without is known when it is what was last
        imported for this labeller and pattern. The last one given for a labeller and a
        pattern is news whenever it differs from what was imported last: somebody
        mended the word and left the time as it was. Then it counts from now.
    source
        Where they come from, for the history.

    Returns
    -------
        How many were new.
    """
    given = sorted(given, key=lambda each: each.labelled_at or _LATEST)
    last = {(each.labeller, each.pattern): each for each in given}
    known = _StoredEvents(connection, sorted({each.labeller for each in given}))
    new = []
    for each in given:
        is_last = last[each.labeller, each.pattern] is each
        if is_last and known.is_mended(each):
            each = replace(each, labelled_at=None)  # noqa: PLW2901
        if event := known.as_new_event(each, source):
            new.append(event)
    insert_events(connection, new)
    return len(new)


def find_no_longer_held(
    connection: sa.Connection, given: Iterable[GivenLabel], source: str
) -> list[int]:
    """Return patterns whose label came from a source that no longer holds them.

    Parameters
    ----------
    connection
        Open.
    given
        What the source holds now.
    source
        As it was given to `append_imports`.
    """
    given = list(given)
    held = {(each.labeller, each.pattern) for each in given}
    labellers = sorted({each.labeller for each in given})
    event, now_is = label_events.c, current_labels.c
    same = (event.session == now_is.session) & (event.seq == now_is.seq)
    query = (
        sa.select(now_is.labeller, now_is.pattern)
        .join_from(current_labels, label_events, same)
        .where(event.kind == "import", event.shown == source)
        .where(now_is.labeller.in_(labellers))
    )
    rows = {(row[0], row[1]) for row in connection.execute(query)}
    return sorted({pattern for _, pattern in rows - held})


def insert_events(connection: sa.Connection, events: Sequence[LabelEvent]) -> None:
    """Store events as they are."""
    if events:
        connection.execute(sa.insert(label_events), [vars(each) for each in events])


class _StoredEvents:
    """What a store already holds of some labellers, while an import goes on."""

    def __init__(self, connection: sa.Connection, labellers: Sequence[str]) -> None:
        self._moments = _newest_moments(connection, labellers)
        self._labels_at: dict[tuple[Any, ...], set[str | None]] = {}
        self._last_word: dict[tuple[str, int | None], str | None] = {}
        self._last_seq: dict[str, int] = {}
        c = label_events.c
        for event in read_events(
            connection, c.kind != "undo", c.labeller.in_(labellers)
        ):
            self._add(event)

    def as_new_event(self, given: GivenLabel, source: str) -> LabelEvent | None:
        if self._has(given):
            return None
        session = _import_session(given)
        event = LabelEvent(
            session=session,
            seq=self._last_seq.get(session, 0) + 1,
            kind="import",
            labeller=given.labeller,
            labelled_at=given.labelled_at or now(),
            shown=source,
            pattern=given.pattern,
            label=given.label,
        )
        if given.labelled_at is None:
            event = _dated(event, self._moments)
        self._add(event)
        return event

    def is_mended(self, given: GivenLabel) -> bool:
        """Tell whether the word of a label was changed, but not its time."""
        there = self._labels_at.get(_moment_of(given), set())
        last = self._last_word.get((given.labeller, given.pattern), given.label)
        return bool(there) and (last != given.label or given.label not in there)

    def _has(self, given: GivenLabel) -> bool:
        if given.labelled_at is not None:
            return given.label in self._labels_at.get(_moment_of(given), set())
        return self._last_word.get((given.labeller, given.pattern)) == given.label

    def _add(self, event: LabelEvent) -> None:
        self._labels_at.setdefault(_moment_of(event), set()).add(event.label)
        if event.kind == "import":
            self._last_word[event.labeller, event.pattern] = event.label
            self._last_seq[event.session] = event.seq


def _content_of(event: LabelEvent) -> tuple[Any, ...]:
    undone = event.undone_session, event.undone_seq
    return event.kind, event.labeller, event.pattern, event.label, *undone


def _newest_moments(
    connection: sa.Connection, labellers: Sequence[str]
) -> dict[str, datetime]:
    c = label_events.c
    query = sa.select(c.labeller, sa.func.max(c.labelled_at)).group_by(c.labeller)
    rows = connection.execute(query.where(c.labeller.in_(labellers)))
    return {row[0]: row[1] for row in rows}


def _dated(event: LabelEvent, newest: dict[str, datetime]) -> LabelEvent:
    moment = max(event.labelled_at, newest.get(event.labeller, event.labelled_at))
    return replace(event, labelled_at=moment)


def _moment_of(each: LabelEvent | GivenLabel) -> tuple[Any, ...]:
    return each.labeller, each.pattern, each.labelled_at


def _import_session(given: GivenLabel) -> str:
    """Name an import after what it says, so that it is the same event in any store."""
    moment = given.labelled_at.isoformat() if given.labelled_at else ""
    content = json.dumps([given.labeller, given.pattern, given.label, moment])
    return f"import-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
