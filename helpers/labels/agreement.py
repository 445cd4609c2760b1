"""How far several labellers agree, and what they agree on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.intervals import Proportion
from helpers.labels.events import LabelEvent
from helpers.labels.schema import LABELS, WORD_DTYPE


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


def chance_agreement(first: NDArray[np.str_], second: NDArray[np.str_]) -> float:
    """Return the share of patterns that two labellers would agree on by chance.

    Parameters
    ----------
    first, second
        str (n_patterns,): the labels of each; "" = none. Only patterns that both have
        labelled count.
    """
    both = (first != "") & (second != "")
    shares = [
        (first[both] == word).mean() * (second[both] == word).mean() for word in LABELS
    ]
    return float(sum(shares))


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

Interval = tuple[float, float]


def mark_repeat(shown: str) -> str:
    """Return `shown` with the words that mark a blind repeat."""
    return f"{REPEAT}, {shown}"


@dataclass(frozen=True, eq=False)
class SelfAgreement:
    """The patterns that one labeller labelled a second time without seeing the first.

    Attributes
    ----------
    labeller
        Who.
    pattern
        (m,) int64, in the order in which they were labelled again.
    first
        (m,) str: the label that stood before.
    second
        (m,) str: the label given blind.
    """

    labeller: str
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
    def kappa_interval(self) -> Interval:
        """95 % confidence interval of kappa; NaN where nothing can be said.

        The interval of the share of the same words, with the agreement by chance held
        at its estimate, as in eq. 7 of Cohen (1960).

        References
        ----------
        Cohen, Educ. Psychol. Meas. 20, 37 (1960), doi:10.1177/001316446002000104.
        """
        if np.isnan(self.kappa):
            return float("nan"), float("nan")
        by_chance = chance_agreement(self.first, self.second)
        low, high = self.same.interval
        return (low - by_chance) / (1 - by_chance), (high - by_chance) / (1 - by_chance)


def compare_repeats(labeller: str, events: Iterable[LabelEvent]) -> SelfAgreement:
    """Compare each blind repeat that stands with what the labeller had said before.

    Parameters
    ----------
    labeller
        Whose events they are.
    events
        All of them, in the order in which they were stored.
    """
    events = list(events)
    undone = {(event.undone_session, event.undone_seq) for event in events}
    standing = [e for e in events if e.label and e.address not in undone]
    said: dict[int | None, str | None] = {}
    pairs = []
    for event in standing:
        if event.shown.startswith(REPEAT) and event.pattern in said:
            pairs.append((event.pattern, said[event.pattern], event.label))
        said[event.pattern] = event.label
    patterns, first, second = zip(*pairs, strict=True) if pairs else ((), (), ())
    return SelfAgreement(
        labeller,
        np.array(patterns, dtype=np.int64),
        np.array(first, dtype=WORD_DTYPE),
        np.array(second, dtype=WORD_DTYPE),
    )
