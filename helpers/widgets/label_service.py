"""The kernel's end of saving labels: each label once, in order, or visibly refused.

The page numbers what it sends: `{session, events: [{seq, kind, pattern, label, …}]}`,
`kind` being "label" or "undo"; an undo that `follows` a pattern counts only if the one
before it took back that pattern's label. A label that is a `repeat` was given without
seeing the earlier one. The kernel stores an event only if its `seq` comes next in its
session, and answers with one of

- `ack`: everything up to `last` is stored; `changes` says what each pattern is now;
- `resend`: something before these events never came; send all after `last` again;
- `refused`: the store could not write. Nothing more is taken from that session, so a
  label that the page has taken back cannot slip in from a message sent twice. It says
  in `lost` if the store is gone or another by now; then the page freezes.

The page keeps what is not acknowledged and sends it again; a new page, a reloaded one
and one that was refused begin a new session.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError, StoreLostError
from helpers.labels import (
    LABELS,
    LabelStore,
    Press,
    Undo,
    consensus,
    count_votes,
    disagreements,
    mark_repeat,
)

# At least so many other patterns are labelled between the first time and the second.
APART = 20


@dataclass(frozen=True, eq=False)
class RepeatPlan:
    """A list of patterns in which some come a second time.

    Attributes
    ----------
    index
        (m,) int64 pattern indices, in the order in which they are shown.
    is_repeat
        (m,) bool: True where a pattern comes back to be labelled blind.
    """

    index: NDArray[np.int64]
    is_repeat: NDArray[np.bool_]


def choose_repeats(
    n_patterns: int, share: float, fingerprint: str, labeller: str
) -> NDArray[np.bool_]:
    """Choose which patterns come back to a labeller; the same ones at every start.

    Parameters
    ----------
    n_patterns
        Length of the stack.
    share
        Share of the labelled patterns that come back, 0 to 1.
    fingerprint, labeller
        Whose patterns, and who labels.

    Returns
    -------
        (n_patterns,) bool.
    """
    digest = hashlib.sha256(f"{fingerprint} {labeller}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return rng.random(n_patterns) < share


def plan_repeats(
    index: NDArray[np.int64],
    is_labelled: NDArray[np.bool_],
    own: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    share: float,
) -> RepeatPlan:
    """Put chosen patterns into a list a second time, among the unlabelled ones.

    A pattern that the labeller has labelled before comes somewhere in the next
    1 / `share` unlabelled ones, the next such pattern in the stretch after, and so on.
    One that is still to be labelled comes back `APART` to twice `APART` later. What
    finds no room waits for a longer list; after a list without unlabelled patterns
    come all that are due.

    Parameters
    ----------
    index
        (m,) the list.
    is_labelled
        (n,) True where a pattern of the stack has a label.
    own
        (n,) True where this labeller has labelled a pattern, and not just now.
    chosen
        (n,) True for patterns that come back; not those that have done so.
    share
        Of the patterns that come back, 0 to 1.
    """
    rng = np.random.default_rng(index.size)
    unlabelled = np.flatnonzero(~is_labelled[index])
    due = rng.permutation(np.flatnonzero(own & chosen))
    due_after = (np.arange(due.size) + rng.random(due.size)) / max(share, 1e-9)
    coming = np.flatnonzero(chosen[index[unlabelled]])
    coming_after = coming + APART * (1 + rng.random(coming.size))
    patterns = np.concatenate([due, index[unlabelled][coming]])
    after = np.concatenate([due_after, coming_after]).astype(np.int64)
    if index.size and not unlabelled.size:
        return _insert(index, due, np.full(due.size, index.size))
    has_room = after < unlabelled.size
    return _insert(index, patterns[has_room], unlabelled[after[has_room]] + 1)


def _insert(
    index: NDArray[np.int64], patterns: NDArray[np.int64], places: NDArray[np.int64]
) -> RepeatPlan:
    is_repeat = np.insert(np.zeros(index.size, dtype=bool), places, True)
    return RepeatPlan(np.insert(index, places, patterns), is_repeat)


# Labels that are stored in one transaction. Longer batches are stored and acknowledged
# in parts, so that the page sees that work goes on.
MOST_AT_ONCE = 5_000


@dataclass
class _Session:
    """What came in one session."""

    last: int = 0
    failure: str = ""
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)


class LabelService:
    """Store the events of any number of pages, and acknowledge or refuse them.

    Parameters
    ----------
    store
        Where labels are kept.
    labeller
        Who labels here.
    session
        A name for this session, kept with every label; each page adds its own number.
    blind
        True shows and counts only this labeller's own labels.
    """

    def __init__(
        self, store: LabelStore, labeller: str, session: str = "", blind: bool = False
    ) -> None:
        if not labeller.strip():
            msg = (
                "labeller: found an empty name; expected who labels, because every "
                "label is kept with its labeller. Pass labeller='your name'."
            )
            raise LabelsError(msg)
        self.store = store
        self.labeller = labeller.strip()
        self._session = session
        self._blind = blind
        self._sessions: dict[str, _Session] = {}
        self._just_now: deque[int] = deque(maxlen=APART)
        self.lost = ""
        self._read()

    def look_again(self) -> None:
        """Read from the store what others may have labelled in the meantime.

        Where the store is gone or another, `lost` says so, and what was read stays.
        """
        try:
            if self.store.version() != self._version:
                self._read()
        except StoreLostError as error:
            self.lost = f"{error}"
        else:
            self.lost = ""

    def rescue(self) -> str:
        """Write what was given in this session to a new store; say where, or why not.

        It lies beside the old one, where that can be.
        """
        try:
            place = self.store.rescue()
        except LabelsError as error:
            return f"{error}"
        return (
            f"Written: {place}. A store takes it in as labels: labels_file = '{place}' "
            "in the notebook for labelling."
        )

    def _read(self) -> None:
        self._version = self.store.version()
        others = set() if self._blind else {*self.store.labellers()} - {self.labeller}
        self._by = {
            who: self.store.current_labels(who)
            for who in (self.labeller, *sorted(others))
        }
        votes = np.stack([*self._by.values()], axis=1)[:, 1:]
        self._others = consensus(count_votes(votes))
        self._repeated = set(self.store.repeated(self.labeller).tolist())

    def take(
        self, session: str, events: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Store events in order; yield the answers to be sent to the page."""
        state = self._sessions.setdefault(session, _Session())
        unanswered: list[dict[str, Any]] = []
        for run in _cut_runs(events):
            new = [event for event in run if int(event["seq"]) > state.last]
            if new and int(new[0]["seq"]) > state.last + 1:
                yield {"kind": "resend", "session": session, "last": state.last}
                return
            if new and not self._write(session, state, new):
                known = [event for event in run if int(event["seq"]) <= state.last]
                yield self._ack(session, state, unanswered + known)
                yield {
                    "kind": "refused",
                    "session": session,
                    "last": state.last,
                    "message": state.failure,
                    "lost": self.lost,
                }
                return
            unanswered += run
            if len(run) == MOST_AT_ONCE:
                yield self._ack(session, state, unanswered)
                unanswered = []
        if unanswered:
            yield self._ack(session, state, unanswered)

    def labels(self) -> NDArray[np.str_]:
        """Return the label word shown for each pattern, (n,), "" = unlabelled.

        The labeller's own label where there is one; otherwise the consensus of the
        others, `unsure` where they tie.
        """
        own = self._by[self.labeller]
        return np.where(own == "", self._others, own)

    def disagree(self) -> NDArray[np.bool_]:
        """Return (n,) True where two labellers gave different labels."""
        disagree = np.zeros(self.store.n_patterns, dtype=bool)
        disagree[disagreements(np.stack([*self._by.values()], axis=1))] = True
        return disagree

    def plan_repeats(self, index: NDArray[np.int64], share: float) -> RepeatPlan:
        """Return a list in which a share of the labeller's own patterns comes back.

        Parameters
        ----------
        index
            (m,) the list.
        share
            0 to 1.
        """
        store = self.store
        fingerprint = store.patterns_fingerprint
        chosen = choose_repeats(store.n_patterns, share, fingerprint, self.labeller)
        chosen[[*self._repeated]] = False
        own = self._by[self.labeller] != ""
        own[[*self._just_now]] = False
        return plan_repeats(index, self.labels() != "", own, chosen, share)

    def labels_of(self, pattern: int) -> dict[str, Any]:
        """Return the label of one pattern, and who gave which."""
        by = {who: str(labels[pattern]) for who, labels in self._by.items()}
        own = by[self.labeller]
        return {
            "pattern": pattern,
            "label": own or str(self._others[pattern]),
            "by": {who: word for who, word in by.items() if word},
            "repeated": pattern in self._repeated,
        }

    def _write(self, session: str, state: _Session, run: list[dict[str, Any]]) -> bool:
        """Store events of one kind, all or none; say whether that could be done."""
        if state.failure:
            return False
        write = self._record if run[0]["kind"] == "label" else self._undo
        before = state.changes.get(int(run[0]["seq"]) - 1, {}).get("pattern")
        try:
            changes = write(session, run, before)
        except Exception as error:
            # Whatever it is, the page must hear of it.
            state.failure = f"{error}"
            self.lost = state.failure if isinstance(error, StoreLostError) else ""
            return False
        self._note_own(len(run))
        state.last = int(run[-1]["seq"])
        seqs = (int(event["seq"]) for event in run)
        state.changes |= dict(zip(seqs, changes, strict=True))
        return True

    def _note_own(self, n_events: int) -> None:
        """Spare reading again what was written here, if nobody else wrote."""
        with suppress(LabelsError):
            version = self.store.version()
            if version == self._version + n_events:
                self._version = version

    def _record(
        self, session: str, run: list[dict[str, Any]], _: int | None
    ) -> list[dict[str, Any]]:
        given = [_read_press(event) for event in run]
        self.store.record_all(
            given, labeller=self.labeller, session=self._name(session)
        )
        own = self._by[self.labeller]
        for each, event in zip(given, run, strict=True):
            own[each.pattern] = each.label
            if event.get("repeat"):
                self._repeated.add(each.pattern)
        self._just_now.extend(each.pattern for each in given[-APART:])
        return [{"kind": "label", **self.labels_of(each.pattern)} for each in given]

    def _undo(
        self, session: str, run: list[dict[str, Any]], before: int | None
    ) -> list[dict[str, Any]]:
        undos = [Undo(int(event["seq"]), event.get("follows")) for event in run]
        if undos[0].follows not in (None, before):
            return [{"kind": "nothing", "pattern": None} for _ in run]
        undos[0] = undos[0]._replace(follows=None)
        told = self.store.undo_all(
            undos, labeller=self.labeller, session=self._name(session)
        )
        self._by[self.labeller] = self.store.current_labels(self.labeller)
        self._repeated = set(self.store.repeated(self.labeller).tolist())
        return [self._describe_undo(*each) for each in zip(undos, told, strict=True)]

    def _describe_undo(self, undo: Undo, pattern: int | None) -> dict[str, Any]:
        if pattern is None:
            kind = "undo" if undo.follows is None else "nothing"
            return {"kind": kind, "pattern": None}
        return {"kind": "undo", **self.labels_of(pattern)}

    def _name(self, session: str) -> str:
        return f"{self._session}/{session}"

    @staticmethod
    def _ack(
        session: str, state: _Session, answered: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return {
            "kind": "ack",
            "session": session,
            "last": state.last,
            "changes": [state.changes[int(event["seq"])] for event in answered],
        }


def _cut_runs(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut events into runs of one kind that count on, none of them too long."""
    run: list[dict[str, Any]] = []
    for event in events:
        goes_on = run and (
            event["kind"] == run[-1]["kind"]
            and int(event["seq"]) == int(run[-1]["seq"]) + 1
            and len(run) < MOST_AT_ONCE
        )
        if run and not goes_on:
            yield run
            run = []
        run.append(event)
    if run:
        yield run


def _read_press(event: dict[str, Any]) -> Press:
    shown = event.get("shown", "")
    return Press(
        pattern=int(event["pattern"]),
        label=str(event["label"]),
        seq=int(event["seq"]),
        time_on_screen_ms=event.get("time_on_screen_ms"),
        shown=mark_repeat(shown) if event.get("repeat") else shown,
    )


def number_words(words: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Return (n,) numbers of label words: 0 = unlabelled, k = the k-th of `LABELS`."""
    numbers = np.arange(1, len(LABELS) + 1, dtype=np.uint8)
    return np.select([words == word for word in LABELS], numbers, np.uint8(0))


def name_session() -> str:
    """Return the name of a session that begins now, in local time."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"
