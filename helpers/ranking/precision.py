"""How many of the best-ranked patterns really are single hits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError

_LEVEL = 0.95


@dataclass(frozen=True)
class Precision:
    """Share of single hits among the first `n` of a ranking.

    Parameters
    ----------
    n
        How many of the best were counted.
    n_single
        How many of those are single hits.
    value
        `n_single / n`; NaN if `n` is 0.
    low, high
        95 % Wilson score interval of the share.
    """

    n: int
    n_single: int
    value: float
    low: float
    high: float


def precision_at(is_single: NDArray[np.bool_], n: int) -> Precision:
    """Count the single hits among the `n` best-ranked patterns.

    Parameters
    ----------
    is_single
        Bool, shape (n_ranked,), in the order of the ranking, best first: a single hit
        or not. Leave out patterns of which that is not known.
    n
        How many of the best to look at; all of them if there are fewer.

    Returns
    -------
    Precision
        With the 95 % Wilson interval [1]_: it stays within 0 to 1 and holds for few
        patterns too.

    Raises
    ------
    ParameterError
        If `n` is negative.

    References
    ----------
    .. [1] E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927).
       doi:10.1080/01621459.1927.10502953
    """
    if n < 0:
        message = f"n is {n}; expected 0 or more best patterns to look at."
        raise ParameterError(message)
    best = is_single[:n]
    return _count(int(best.sum()), len(best))


def _count(n_single: int, n: int) -> Precision:
    from scipy.stats import binomtest  # slow to import

    if n == 0:
        return Precision(0, 0, float("nan"), 0.0, 1.0)
    low, high = binomtest(n_single, n).proportion_ci(_LEVEL, method="wilson")
    return Precision(n, n_single, n_single / n, float(low), float(high))
