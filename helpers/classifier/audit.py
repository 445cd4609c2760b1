"""How pure and how complete the selection is, from patterns drawn at random.

The patterns to audit are the beginning of the stack's random order, in which
notebook 2 shows them. What has been audited is the longest beginning of it in
which every pattern has a label, whoever gave it and why. So nothing but labels is
stored, and no choice of the network can slip in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from helpers.patterns import Patterns


@dataclass(frozen=True)
class Share:
    """A share of a whole, estimated from a sample, with its 95 % interval.

    Attributes
    ----------
    n_counted, n_sample
        So many of so many.
    value
        Their ratio; NaN without a sample.
    low, high
        Quantiles of the posterior under Jeffreys' prior; 0 or 1 where the sample has
        nothing below or above.
    """

    n_counted: int
    n_sample: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Say it in percent, with the interval and the counts."""
        if not self.n_sample:
            return "not known yet"
        interval = f"{self.low:.0%} to {self.high:.0%}"
        return f"{self.value:.0%} ({interval}; {self.n_counted} of {self.n_sample})"

    @property
    def half_width(self) -> float:
        """Half of the interval; 0.5 without a sample."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Audit:
    """What a random sample says of patterns that are selected by threshold.

    Attributes
    ----------
    n_audited
        How many patterns have been audited.
    purity
        Single hits among those that the threshold takes.
    completeness
        Those taken among the single hits.
    singles
        Single hits among all patterns of the stack.
    """

    n_audited: int
    purity: Share
    completeness: Share
    singles: Share


def find_audited(patterns: Patterns, words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return what has been audited: the beginning of the order, as far as labelled.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words.
    """
    order = patterns.shuffled()
    missing = np.flatnonzero(words[order] == "")
    return order[: missing[0]] if missing.size else order


def audit_selection(
    audited: NDArray[np.int64],
    words: NDArray[np.str_],
    unseen: NDArray[np.float32],
    threshold: float,
) -> Audit:
    """Estimate purity and completeness of what a threshold takes, without bias.

    Parameters
    ----------
    audited
        Patterns drawn at random, from `find_audited`.
    words
        (n,) label words; "unsure" counts as not single, which flatters nothing.
    unseen
        (n,) float32: probability from `forget_learnt`, so that no pattern is judged by
        what it taught; NaN = left out.
    threshold
        Patterns at or above it are taken.

    References
    ----------
    Brown, Cai and DasGupta, Statist. Sci. 16, 101 (2001), doi 10.1214/ss/1009213286,
    section 3.1 (Jeffreys' interval).
    """
    judged = audited[np.isfinite(unseen[audited])]
    single, taken = words[judged] == "single", unseen[judged] >= threshold
    right = int((single & taken).sum())
    return Audit(
        n_audited=len(audited),
        purity=estimate_share(right, int(taken.sum())),
        completeness=estimate_share(right, int(single.sum())),
        singles=estimate_share(int((words[audited] == "single").sum()), len(audited)),
    )


def estimate_share(n_counted: int, n_sample: int) -> Share:
    """Return n_counted / n_sample with its 95 % interval.

    Parameters
    ----------
    n_counted, n_sample
        So many of so many, drawn at random.
    """
    if n_sample == 0:
        return Share(0, 0, float("nan"), 0.0, 1.0)
    posterior = n_counted + 0.5, n_sample - n_counted + 0.5
    low, high = betaincinv(*posterior, 0.025), betaincinv(*posterior, 0.975)
    return Share(
        n_counted,
        n_sample,
        value=n_counted / n_sample,
        low=float(low) if n_counted > 0 else 0.0,
        high=float(high) if n_counted < n_sample else 1.0,
    )
