"""What the events of a label store add up to, and how far labellers agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from helpers.intervals import Proportion
from helpers.labels.database import (
    LABELS,
    WORD_DTYPE,
    Database,
    current_labels,
    label_events,
    standing_labels,
)
from helpers.labels.events import LabelEvent, read_events


def consensus(votes: NDArray[np.integer]) -> NDArray[np.str_]:
    """Return the word that most labellers gave, `unsure` where the best two tie.

    Parameters
    ----------
    votes
        int (n_patterns, 5): for each pattern how many labellers gave each word, in
        the order of `LABELS`.

    Returns
    -------
        str (n_patterns,); "" where nobody voted.
    """
    most = votes.max(axis=1, keepdims=True, initial=0)
    words: NDArray[np.str_] = np.array(LABELS, WORD_DTYPE)[votes.argmax(axis=1)]
    words[(votes == most).sum(axis=1) > 1] = "unsure"
    words[most[:, 0] == 0] = ""
    return words


def count_votes(words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Count how many labellers gave each word to each pattern.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.

    Returns
    -------
        int64 (n_patterns, 5), in the order of `LABELS`.
    """
    return np.stack([(words == word).sum(axis=1) for word in LABELS], axis=1)


def disagreements(words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the patterns to which labellers gave different words.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.

    Returns
    -------
        int64 (n_disagreements,): indices of patterns, ascending.
    """
    return np.flatnonzero((count_votes(words) > 0).sum(axis=1) > 1)


def cohen_kappa(first: NDArray[np.str_], second: NDArray[np.str_]) -> float:
    """Return Cohen's kappa of two labellers: 1 agree always, 0 as often as by chance.

    Parameters
    ----------
    first, second
        str (n_patterns,): the labels of each; "" = none. Only patterns that both have
        labelled count; `unsure` is a word like the others.

    Returns
    -------
        NaN where nothing can be said: no pattern in common, or one word throughout.

    References
    ----------
    Cohen, Educ. Psychol. Meas. 20, 37 (1960), doi:10.1177/001316446002000104.
    """
    from sklearn.metrics import cohen_kappa_score

    both = (first != "") & (second != "")
    if len(set(first[both]) | set(second[both])) < 2:
        return float("nan")
    return float(cohen_kappa_score(first[both], second[both]))


def fleiss_kappa(words: NDArray[np.str_]) -> float:
    """Return Fleiss' kappa of any number of labellers.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.
        Only patterns that all have labelled count; `unsure` is a word like the others.

    Returns
    -------
        NaN where nothing can be said: fewer than two labellers, no pattern in common,
        or one word throughout.

    References
    ----------
    Fleiss, Psychol. Bull. 76, 378 (1971), eqs. 1 to 7, doi:10.1037/h0031619.
    """
    n_labellers = words.shape[1]
    votes = count_votes(words[(words != "").all(axis=1)])
    shares = votes.sum(axis=0) / max(votes.sum(), 1)
    by_chance = (shares**2).sum()
    if n_labellers < 2 or len(votes) == 0 or np.count_nonzero(shares) < 2:
        return float("nan")
    pairs = (votes * (votes - 1)).sum(axis=1) / (n_labellers * (n_labellers - 1))
    return float((pairs.mean() - by_chance) / (1 - by_chance))


REPEAT = "blind repeat"


def mark_repeat(shown: str) -> str:
    """Return `shown` with the words that mark a blind repeat."""
    return f"{REPEAT}, {shown}"


@dataclass(frozen=True, eq=False)
class SelfAgreement:
    """The patterns that one labeller labelled a second time without seeing the first.

    Attributes
    ----------
    pattern
        (m,) int64, in the order in which they were labelled again.
    first
        (m,) str: the label that stood before.
    second
        (m,) str: the label given blind.
    """

    pattern: NDArray[np.int64]
    first: NDArray[np.str_]
    second: NDArray[np.str_]

    @property
    def changed(self) -> NDArray[np.int64]:
        """Patterns that got another word the second time, int64."""
        changed: NDArray[np.int64] = self.pattern[self.first != self.second]
        return changed

    @property
    def same(self) -> Proportion:
        """Repeats with the same word, and repeats."""
        return Proportion(int((self.first == self.second).sum()), self.pattern.size)

    @property
    def kappa(self) -> float:
        """Cohen's kappa of first and second labels; NaN where nothing can be said."""
        return cohen_kappa(self.first, self.second)

    @property
    def kappa_interval(self) -> tuple[float, float]:
        """95 % confidence interval of kappa; NaN where nothing can be said.

        The interval of the share of the same words, with the agreement by chance held
        at its estimate, as in eq. 7 of Cohen (1960).

        References
        ----------
        Cohen, Educ. Psychol. Meas. 20, 37 (1960), doi:10.1177/001316446002000104.
        """
        if np.isnan(self.kappa):
            return float("nan"), float("nan")
        shares = [((self.first == w).mean(), (self.second == w).mean()) for w in LABELS]
        by_chance = float(sum(one * other for one, other in shares))
        low, high = self.same.interval
        return (low - by_chance) / (1 - by_chance), (high - by_chance) / (1 - by_chance)


MOST_LISTED = 20


def self_consistency(store: "LabelReader", labeller: str) -> SelfAgreement:
    """Compare each blind repeat that stands with what the labeller had said before.

    Parameters
    ----------
    store
        An open store.
    labeller
        Who.
    """
    events = store.history(labeller=labeller)
    undone = {(event.undone_session, event.undone_seq) for event in events}
    said: dict[int | None, str | None] = {}
    pairs = []
    for event in events:
        if not event.label or event.address in undone:
            continue
        if event.shown.startswith(REPEAT) and event.pattern in said:
            pairs.append((event.pattern, said[event.pattern], event.label))
        said[event.pattern] = event.label
    patterns, first, second = zip(*pairs, strict=True) if pairs else ((), (), ())
    return SelfAgreement(
        np.array(patterns, dtype=np.int64),
        np.array(first, dtype=WORD_DTYPE),
        np.array(second, dtype=WORD_DTYPE),
    )


def describe_agreement(store: "LabelReader") -> str:
    """Say how far the labellers of a store agree with each other, and where not.

    Parameters
    ----------
    store
        An open store.

    Returns
    -------
        Sentences: Cohen's kappa of each two, Fleiss' kappa of more than two, and the
        patterns that got different words.
    """
    names, votes = store.labellers(), store.votes()
    if len(names) < 2:
        return (
            "Agreement between labellers: nothing yet, because labels of "
            f"{'one labeller' if names else 'nobody'} are in the store."
        )
    lines = []
    columns = zip(names, votes.T, strict=True)
    for (first, words), (second, others) in combinations(columns, 2):
        said = "no pattern in common"
        both = (words != "") & (others != "")
        if n := np.count_nonzero(both):
            n_same = np.count_nonzero(both & (words == others))
            kappa = _format_kappa(cohen_kappa(words, others))
            said = f"{n_same} of {n} patterns alike, Cohen's kappa {kappa}"
        lines.append(f"{first} and {second}: {said}.")
    if len(names) > 2:
        lines.append(
            f"All {len(names)}: Fleiss' kappa {_format_kappa(fleiss_kappa(votes))}."
        )
    different = disagreements(votes)
    lines.append(f"Different words: {list_patterns(different.tolist())}.")
    return "\n".join(lines)


def describe_repeats(store: "LabelReader", labeller: str) -> str:
    """Say how far a labeller agrees with oneself, and where not.

    Parameters
    ----------
    store
        An open store.
    labeller
        Who.
    """
    repeats = self_consistency(store, labeller)
    head = f"Agreement of {labeller} with oneself:"
    n = repeats.pattern.size
    if n == 0:
        return f"{head} nothing yet, because no pattern has come back, blind."
    same = repeats.same
    return (
        f"{head} {same.n_counted} of {n} blind repeats got the same word, "
        f"{same.value:.0%} ({_format_interval(same.interval)}).\n"
        f"Cohen's kappa {_format_kappa(repeats.kappa)} "
        f"({_format_interval(repeats.kappa_interval)}).\n"
        f"Another word the second time: {list_patterns(repeats.changed.tolist())}."
    )


def _format_kappa(kappa: float) -> str:
    return "not defined (one word throughout)" if np.isnan(kappa) else f"{kappa:.2f}"


def _format_interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "no interval" if np.isnan(low) else f"95 % interval {low:.2f} to {high:.2f}"


def list_patterns(patterns: Sequence[int]) -> str:
    """Say which patterns they are; of many only the first."""
    if not patterns:
        return "none"
    listed = ", ".join(map(str, patterns[:MOST_LISTED]))
    more = len(patterns) - MOST_LISTED
    return f"patterns {listed}" + (f" and {more} more" if more > 0 else "")


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
        words = consensus(np.where(labelled_here, pressed, imported))
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

    def counts(self) -> dict[str, int]:
        """Return how many patterns have each word; see `current_labels`."""
        labels = self.current_labels()
        return {word: int((labels == word).sum()) for word in LABELS}

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

    def version(self) -> int:
        """Return the number of the newest event: another one, other labels."""
        newest = sa.select(sa.func.max(label_events.c.id))
        with self._database.reading() as connection:
            return connection.scalar(newest) or 0

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
