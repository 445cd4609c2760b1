"""Whether probabilities mean what they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_BINS = 10
LEVEL = 0.95


@dataclass(frozen=True)
class Reliability:
    """Patterns in bins of equal width of their probability; empty bins are left out.

    Attributes
    ----------
    probability
        (bins,) float64, mean probability of the patterns in each bin.
    share
        (bins,) float64, share of them that are single.
    low, high
        (bins,) float64, exact 95 % interval of that share.
    count
        (bins,) int64, patterns in each bin.
    """

    probability: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]


def find_reliability(
    probability: NDArray[np.floating], single: NDArray[np.bool_], n_bins: int = N_BINS
) -> Reliability:
    """Sort patterns into bins of probability, and count the singles in each.

    Parameters
    ----------
    probability
        (n,), 0 to 1, of patterns that the model was not trained on.
    single
        (n,) bool, their labels.
    n_bins
        Of equal width from 0 to 1.

    References
    ----------
    Clopper and Pearson, Biometrika 26 (1934) 404, doi 10.1093/biomet/26.4.404.
    DeGroot and Fienberg, The Statistician 32 (1983) 12, doi 10.2307/2987588 (diagram).
    Naeini, Cooper and Hauskrecht, AAAI (2015) 2901, doi 10.1609/aaai.v29i1.9602 (ECE).
    """
    from scipy.stats import binomtest

    which = _find_bins(probability, n_bins)
    count = np.bincount(which, minlength=n_bins)
    total = np.bincount(which, probability, minlength=n_bins)
    found = np.bincount(which, single, minlength=n_bins)
    filled = count > 0
    count, found = count[filled], found[filled]
    pairs = zip(found, count, strict=True)
    intervals = [binomtest(int(k), int(n)).proportion_ci(LEVEL) for k, n in pairs]
    low, high = np.array(intervals).reshape(-1, 2).T
    return Reliability(total[filled] / count, found / count, low, high, count)


def find_calibration_error(
    probability: NDArray[np.floating], single: NDArray[np.bool_], n_bins: int = N_BINS
) -> float:
    """Return the expected calibration error: mean |probability - share| of the bins.

    Bins are those of `find_reliability`, and weigh what they hold. It is above 0 even
    for perfect probabilities, the more so the fewer patterns there are.
    """
    which = _find_bins(probability, n_bins)
    apart = np.bincount(which, probability - single, minlength=n_bins)
    return float(np.abs(apart).sum() / max(single.size, 1))


def _find_bins(probability: NDArray[np.floating], n_bins: int) -> NDArray[np.int64]:
    """Return the bin of each probability; 1 belongs to the last."""
    return np.minimum((probability * n_bins).astype(np.int64), n_bins - 1)
