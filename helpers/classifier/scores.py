"""How well predictions agree with labels, and how sure one can be of that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import expected_calibration_error
from helpers.intervals import percentile_interval

METRICS = ("precision", "recall", "f1", "average_precision", "accuracy")
N_CALIBRATION_DRAWS = 200


def evaluate(
    probability: NDArray[np.float32],
    single: NDArray[np.bool_],
    threshold: float | NDArray[np.float64],
    seed: int = 0,
    n_draws: int = 1000,
) -> dict[str, Any]:
    """Compare probabilities with labels; each number with its 95 % interval.

    Intervals of what comes from counts are quantiles of their posterior under Jeffreys'
    prior, which stay honest where a few patterns are all judged right: 6 of 6 is not
    certainty. That of the average precision is a bootstrap, which draws singles and
    not-singles separately; it is too narrow with fewer than about ten of a class. That
    of the calibration error is a bootstrap over all.

    Parameters
    ----------
    probability
        (n,) float32, calibrated probability of a single hit.
    single
        (n,) bool, the labels.
    threshold
        From this probability on a pattern counts as single; one for all, or (n,).
    seed
        Of the drawing.
    n_draws
        From the posterior, and of the bootstrap.

    Returns
    -------
    dict
        "confusion_matrix": [[not single kept out, not single let in], [single missed,
        single found]]; "precision", "recall", "f1", "average_precision", "accuracy":
        {"value", "low", "high"}, all of the class "single". What is undefined, such as
        the precision of no selection, is 0. "calibration_error": {"value", "low",
        "high", "by_chance"}, the last what exact probabilities would show on average on
        as many patterns.

    References
    ----------
    Goutte and Gaussier, Advances in Information Retrieval (2005) 345, section 2,
    doi 10.1007/978-3-540-31865-1_25 (posterior of precision, recall and F1).
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13,
    doi 10.1201/9780429246593.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(single, probability >= threshold, labels=[False, True])
    rng = np.random.default_rng(seed)
    possible = rng.dirichlet(counts.ravel() + 0.5, n_draws).T.reshape(2, 2, n_draws)
    drawn = _from_counts(possible)
    drawn["average_precision"] = np.array(
        [
            average_precision(probability[some], single[some])
            for some in (_resample(single, rng) for _ in range(n_draws))
        ]
    )
    values = _from_counts(counts[..., np.newaxis])
    values["average_precision"] = np.array([average_precision(probability, single)])
    return {
        "chance": float(np.mean(single)),
        "confusion_matrix": counts.tolist(),
        **{name: _with_interval(values[name], drawn[name]) for name in METRICS},
        "calibration_error": _judge_calibration(probability, single, rng),
    }


def describe_scores(
    scores: dict[str, Any], names: Sequence[str] = (*METRICS, "calibration_error")
) -> str:
    """Say the scores that `evaluate` gave, a line each, with their intervals.

    Parameters
    ----------
    scores
        From `evaluate`.
    names
        Which ones, in that order.
    """
    lines = [
        f"{name.replace('_', ' '):>18}: {scores[name]['value']:.2f}  "
        f"({scores[name]['low']:.2f} to {scores[name]['high']:.2f})"
        f"{_say_chance(scores[name])}"
        for name in names
    ]
    return "\n".join([*lines, *filter(None, [explain_chance(scores)])])


def explain_chance(scores: dict[str, Any]) -> str:
    """Name the usual causes where scores are no better than chance; "" where they are.

    Parameters
    ----------
    scores
        From `evaluate`.
    """
    found, chance = scores.get("average_precision"), scores.get("chance")
    if found is None or chance is None or not 0 < chance < 1:
        return ""
    if found["low"] > chance or found["value"] > (1 + chance) / 2:
        return ""
    return (
        f"This is no better than chance: average precision {found['value']:.2f}, where "
        f"patterns in random order have {chance:.2f}. Usual causes: labels that are "
        "shifted by one (a file that counts from 1 needs first_index=1), labels of "
        "another run or of files in another order, too few labels of one class, or a "
        "centre or bad pixels that are wrong. Look at what is labelled, class by class."
    )


def _say_chance(score: dict[str, float]) -> str:
    return f"; by chance {score['by_chance']:.2f}" if "by_chance" in score else ""


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


def _from_counts(counts: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Return the scores of (2, 2, n) confusion matrices, 0 where one is undefined."""
    (kept_out, let_in), (missed, found) = counts.astype(np.float64)
    scores = {
        "precision": (found, found + let_in),
        "recall": (found, found + missed),
        "f1": (2 * found, 2 * found + let_in + missed),
        "accuracy": (found + kept_out, found + kept_out + let_in + missed),
    }
    return {
        name: np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        for name, (part, whole) in scores.items()
    }


def _with_interval(
    value: NDArray[np.float64], drawn: NDArray[np.float64]
) -> dict[str, float]:
    low, high = percentile_interval(drawn)
    found = float(value[0])
    # a score at its end of the scale lies outside the middle 95 % of the posterior
    return {
        "value": found,
        "low": min(float(low), found),
        "high": max(float(high), found),
    }


def _judge_calibration(
    probability: NDArray[np.float32],
    single: NDArray[np.bool_],
    rng: np.random.Generator,
) -> dict[str, float]:
    drawn = rng.integers(0, single.size, (N_CALIBRATION_DRAWS, single.size))
    errors = [
        expected_calibration_error(probability[some], single[some]) for some in drawn
    ]
    true = rng.random(drawn.shape) < probability
    by_chance = [expected_calibration_error(probability, answers) for answers in true]
    value = np.array([expected_calibration_error(probability, single)])
    interval = _with_interval(value, np.array(errors))
    return interval | {"by_chance": float(np.mean(by_chance))}


def _resample(single: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    classes = (np.flatnonzero(single), np.flatnonzero(~single))
    return np.concatenate([rng.choice(c, c.size) for c in classes if c.size])
