"""From the network's output to a probability, and from there to yes or no."""

import numpy as np
from numpy.typing import NDArray

from helpers.models import Calibration
from helpers.models.trained import logit_of

SMALLEST_SLOPE = 1e-3


def fit_calibration(raw: NDArray[np.float32], single: NDArray[np.bool_]) -> Calibration:
    """Fit a probability to the network's output on patterns it was not trained on.

    Logistic regression on the output's logit, with Platt's softened targets, which
    keep a small or perfectly separated sample from giving certainty. Where the network
    is no better than chance the slope is held just above 0: all probabilities are then
    near the share of singles.

    Parameters
    ----------
    raw
        (n,) float32, the network's output, 0 to 1.
    single
        (n,) bool, the labels; both values occur.

    References
    ----------
    Platt, in Advances in Large Margin Classifiers (MIT Press, 1999), p. 61,
    section 2.2 (softened targets).
    """
    from sklearn.linear_model import LogisticRegression

    n_single, n_not = int(single.sum()), int((~single).sum())
    soft = np.where(single, (n_single + 1) / (n_single + 2), 1 / (n_not + 2))
    logit = np.tile(logit_of(raw), 2)[:, np.newaxis]
    answers = np.repeat([True, False], single.size)
    weights = np.concatenate([soft, 1 - soft])
    fit = LogisticRegression(C=1e6).fit(logit, answers, sample_weight=weights)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if slope >= SMALLEST_SLOPE:
        return Calibration(slope, offset)
    return Calibration(SMALLEST_SLOPE, float(np.log(soft.sum() / (1 - soft).sum())))


def choose_threshold(
    probability: NDArray[np.float32], single: NDArray[np.bool_]
) -> float:
    """Return the threshold with the highest F1, half-way to the next lower value.

    Parameters
    ----------
    probability
        (n,) float32, calibrated, of patterns that are not in the test part.
    single
        (n,) bool, the labels.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order].astype(np.float64)
    found = np.cumsum(single[order])
    f1 = 2 * found / (np.arange(1, ranked.size + 1) + max(int(single.sum()), 1))
    f1[:-1][ranked[1:] == ranked[:-1]] = -1  # a threshold cannot part equal values
    best = int(np.argmax(f1))
    below = ranked[best + 1] if best + 1 < ranked.size else 0.0
    return float((ranked[best] + below) / 2)
