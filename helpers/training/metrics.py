"""How well predictions agree with labels, and how sure one can be of that."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("precision", "recall", "f1", "average_precision", "accuracy")


def evaluate(
    probability: NDArray[np.float32],
    single: NDArray[np.bool_],
    threshold: float,
    seed: int = 0,
    n_resamples: int = 1000,
) -> dict[str, Any]:
    """Compare probabilities with labels; each number with its 95 % interval.

    Intervals are percentiles of a bootstrap that draws singles and not-singles
    separately, so that a sample without singles never comes up. They are too narrow
    where fewer than about ten patterns of a class are judged.

    Parameters
    ----------
    probability
        (n,) float32, calibrated probability of a single hit.
    single
        (n,) bool, the labels.
    threshold
        From this probability on a pattern counts as single.
    seed
        Of the bootstrap.
    n_resamples
        Of the bootstrap.

    Returns
    -------
    dict
        "confusion_matrix": [[not single kept out, not single let in], [single missed,
        single found]]; "precision", "recall", "f1", "average_precision", "accuracy":
        {"value", "low", "high"}, all of the class "single". What is undefined, such as
        the precision of no selection, is 0.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13,
    doi 10.1201/9780429246593.
    """
    chosen = probability >= threshold
    values = _metrics(probability, chosen, single)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _metrics(probability[i], chosen[i], single[i])
            for i in (_resample(single, rng) for _ in range(n_resamples))
        ]
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    bounds = zip(METRICS, values, low, high, strict=True)
    return {
        "confusion_matrix": confusion_matrix(chosen, single).tolist(),
        **{
            name: {"value": float(value), "low": float(below), "high": float(above)}
            for name, value, below, above in bounds
        },
    }


def confusion_matrix(
    chosen: NDArray[np.bool_], single: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return (2, 2) counts, [label, prediction]: 0 not single, 1 single."""
    cells = 2 * single.astype(np.int64) + chosen
    return np.bincount(cells, minlength=4).reshape(2, 2)


def average_precision(
    probability: NDArray[np.float32], single: NDArray[np.bool_]
) -> float:
    """Return the mean precision over the singles, best first; 0 without singles."""
    order = np.argsort(-probability, kind="stable")
    ranked, scores = single[order], probability[order]
    last_of_tie = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(ranked)[last_of_tie]
    precision = found / (np.flatnonzero(last_of_tie) + 1)
    return float(np.diff(found, prepend=0) @ precision / max(int(single.sum()), 1))


def _metrics(
    probability: NDArray[np.float32],
    chosen: NDArray[np.bool_],
    single: NDArray[np.bool_],
) -> tuple[float, ...]:
    (kept_out, let_in), (missed, found) = confusion_matrix(chosen, single)
    return (
        found / max(found + let_in, 1),
        found / max(found + missed, 1),
        2 * found / max(2 * found + let_in + missed, 1),
        average_precision(probability, single),
        (found + kept_out) / max(single.size, 1),
    )


def _resample(single: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    classes = (np.flatnonzero(single), np.flatnonzero(~single))
    return np.concatenate([rng.choice(c, c.size) for c in classes if c.size])
