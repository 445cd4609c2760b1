"""Intervals of shares."""

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


def find_share_interval(
    found: NDArray[np.number], total: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact 95 % interval of shares `found` / `total`.

    Parameters
    ----------
    found, total
        (n,) counts; `total` is above 0.

    Returns
    -------
    low, high
        (n,) float64; 0 and 1 where none or all were found.

    References
    ----------
    Clopper and Pearson, Biometrika 26 (1934) 404, doi 10.1093/biomet/26.4.404.
    """
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    with np.errstate(invalid="ignore"):  # the ends of the scale are put in below
        low = beta.ppf(tail, found, total - found + 1)
        high = beta.ppf(1 - tail, found + 1, total - found)
    return np.where(found > 0, low, 0.0), np.where(found < total, high, 1.0)
