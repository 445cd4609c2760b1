"""Patterns labelled a second time, blind: how far a labeller agrees with oneself.

A blind repeat is a label like any other, and counts as the newest. The store tells it
from a correction by the first words of `shown`, so that stores of any age can hold it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.labels.agreement import chance_agreement, cohen_kappa
from helpers.labels.events import LabelEvent
from helpers.labels.schema import WORD_DTYPE

if TYPE_CHECKING:
    from helpers.labels.store import LabelStore

REPEAT = "blind repeat"
LEVEL = 0.95

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
    def share(self) -> float:
        """Share of the repeats with the same word; NaN = no repeats."""
        same = self.first == self.second
        return float(same.mean()) if same.size else float("nan")

    @cached_property
    def share_interval(self) -> Interval:
        """95 % confidence interval of the share; NaN = no repeats.

        References
        ----------
        Clopper & Pearson, Biometrika 26, 404 (1934), doi:10.1093/biomet/26.4.404.
        """
        from scipy.stats import binomtest

        n_same = int((self.first == self.second).sum())
        if not self.pattern.size:
            return float("nan"), float("nan")
        interval = binomtest(n_same, self.pattern.size).proportion_ci(LEVEL)
        return float(interval.low), float(interval.high)

    @property
    def kappa(self) -> float:
        """Cohen's kappa of first and second labels; NaN where nothing can be said."""
        return cohen_kappa(self.first, self.second)

    @property
    def kappa_interval(self) -> Interval:
        """95 % confidence interval of kappa; NaN where nothing can be said.

        The interval of the share, with the agreement by chance held at its estimate,
        as in eq. 7 of Cohen (1960), but exact where repeats are few or all agree.

        References
        ----------
        Cohen, Educ. Psychol. Meas. 20, 37 (1960), doi:10.1177/001316446002000104.
        """
        if np.isnan(self.kappa):
            return float("nan"), float("nan")
        by_chance = chance_agreement(self.first, self.second)
        low, high = self.share_interval
        return (low - by_chance) / (1 - by_chance), (high - by_chance) / (1 - by_chance)


def agreement_with_oneself(store: "LabelStore", labeller: str) -> SelfAgreement:
    """Compare what a labeller said of patterns that came back blind, and before.

    Parameters
    ----------
    store
        An open store.
    labeller
        Who.
    """
    return compare_repeats(labeller, store.history(labeller=labeller))


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
