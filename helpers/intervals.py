"""How sure one can be of a number: the 95 % intervals of all scores.

A share of a sample has the interval of Jeffreys' prior. It covers the truth as often as
it says, on average, also with few patterns and near 0 or 1, where the normal
approximation fails and Clopper and Pearson's is a good deal too wide. What has no
formula is bootstrapped; its interval is the middle of what was drawn.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Proportion:
    """A share of a whole, estimated from a random sample, with its interval.

    Attributes
    ----------
    n_counted, n_sample
        So many of so many.
    """

    n_counted: int
    n_sample: int

    @property
    def value(self) -> float:
        """The share; NaN without a sample."""
        return self.n_counted / self.n_sample if self.n_sample else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """From `proportion_interval`."""
        low, high = proportion_interval(self.n_counted, self.n_sample)
        return float(low), float(high)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.interval[1]

    @property
    def half_width(self) -> float:
        """Half of the interval; 0.5 without a sample."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        """Say it in percent, with the interval and the counts."""
        if not self.n_sample:
            return "not known yet"
        interval = f"{self.low:.0%} to {self.high:.0%}"
        return f"{self.value:.0%} ({interval}; {self.n_counted} of {self.n_sample})"


def proportion_interval(
    n_counted: ArrayLike, n_sample: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper ends of shares' 95 % intervals.

    Quantiles of the posterior under Jeffreys' prior; 0 or 1 where the sample has
    nothing below or above, and so 0 to 1 without a sample.

    Parameters
    ----------
    n_counted, n_sample
        So many of so many, drawn at random; numbers or arrays.

    References
    ----------
    Brown, Cai and DasGupta, Statist. Sci. 16, 101 (2001), doi 10.1214/ss/1009213286,
    section 3.1.
    """
    from scipy.special import betaincinv

    counted, rest = np.asarray(n_counted), np.subtract(n_sample, n_counted)
    low, high = (betaincinv(counted + 0.5, rest + 0.5, tail) for tail in TAILS)
    return np.where(counted > 0, low, 0.0), np.where(rest > 0, high, 1.0)


def percentile_interval(
    drawn: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the middle 95 % of what was drawn, along the first axis.

    Parameters
    ----------
    drawn
        (draws, …), from a bootstrap or a posterior.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13,
    doi 10.1201/9780429246593.
    """
    low, high = np.quantile(drawn, TAILS, axis=0)
    return low, high


def sample_for(share: float, half_width: float) -> int:
    """Return how large a sample tells a share to plus or minus `half_width`.

    Parameters
    ----------
    share
        About what is expected, between 0 and 1.
    half_width
        Of the interval, in its normal approximation.
    """
    from scipy.special import ndtri

    spread = float(ndtri(TAILS[1])) / half_width
    return math.ceil(spread**2 * share * (1 - share))
