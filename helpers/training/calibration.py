"""From the network's output to a probability, and from there to yes or no."""

import numpy as np
from numpy.typing import NDArray

from helpers.models import Calibration
from helpers.models.trained import logit_of

SMALLEST_SLOPE = 1e-3


def fit_calibration(raw: NDArray[np.float32], single: NDArray[np.bool_]) -> Calibration:
    """Fit a probability to the network's output on patterns it was not trained on.

    Logistic regression on the output's logit. A weak prior (slope normal with standard
    deviation 1) keeps a small or perfectly parted sample from giving certainty. Where
    the network is no better than chance the slope is held just above 0: all
    probabilities are then near the share of singles.

    Parameters
    ----------
    raw
        (n,) float32, the network's output, 0 to 1.
    single
        (n,) bool, the labels; both values occur.

    References
    ----------
    Platt, in Advances in Large Margin Classifiers (MIT Press, 1999), p. 61, eq. 1.
    """
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression().fit(logit_of(raw)[:, np.newaxis], single)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if slope >= SMALLEST_SLOPE:
        return Calibration(slope, offset)
    share = (single.sum() + 1) / (single.size + 2)
    return Calibration(SMALLEST_SLOPE, float(np.log(share / (1 - share))))


def choose_threshold(
    probability: NDArray[np.float32], single: NDArray[np.bool_]
) -> float:
    """Return the threshold with the highest F1.

    Of those that are as good but for what a single pattern changes, the one nearest to
    0.5 is taken: with few labels the highest F1 is a matter of luck, and with true
    probabilities it is reached just below 0.5.

    Parameters
    ----------
    probability
        (n,) float32, calibrated, of patterns that are not in the test part.
    single
        (n,) bool, the labels.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order].astype(np.float64)
    n_single = max(int(single.sum()), 1)
    f1 = 2 * np.cumsum(single[order]) / (np.arange(1, ranked.size + 1) + n_single)
    half_way = (ranked + np.append(ranked[1:], 0)) / 2
    possible = np.append(ranked[1:] < ranked[:-1], True)  # equal values stay together
    good = possible & (f1 >= f1[possible].max() - 1 / n_single)
    return float(half_way[good][np.argmin(np.abs(half_way[good] - 0.5))])
