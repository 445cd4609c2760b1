"""From the network's output to a probability and a threshold, and how well both do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from helpers.errors import ParameterError
from helpers.intervals import percentile_interval, proportion_interval

N_BINS = 10
RAW_LIMIT = 1e-7  # float32 rounds what is nearer to 1
SCORES = ("precision", "recall", "f1", "average_precision", "accuracy")
N_CALIBRATION_DRAWS = 200


@dataclass(frozen=True)
class Calibration:
    """From the network's own output to a probability.

    The output's logit times `slope` plus `offset` is the logit of the probability;
    what is below 0 then, a probability below 1/2, is multiplied by `below`.

    Attributes
    ----------
    slope, offset
        Above 0, so that the order of the patterns stays; and any number.
    below
        Above 0. Single hits are alike and other patterns are not, so that the
        probability often rises more slowly on one side of 1/2 than on the other.
    """

    slope: float = 1.0
    offset: float = 0.0
    below: float = 1.0

    def apply(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated probability of a single hit, float32 like `raw`."""
        probability: NDArray[np.float64] = expit(self.calibrated_logit(logit_of(raw)))
        return np.minimum(probability, 1 - RAW_LIMIT).astype(np.float32)

    def calibrated_logit(self, logit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logit of the probability for logits of the output."""
        line = self.slope * logit + self.offset
        return np.where(line < 0, self.below * line, line)


def logit_of(
    raw: NDArray[np.float32], lowest: float = RAW_LIMIT
) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) as float64, finite also for 0 and 1."""
    clipped = np.clip(raw.astype(np.float64), lowest, 1 - RAW_LIMIT)
    logit: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return logit


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
        (bins,) float64, 95 % interval of that share.
    count
        (bins,) int64, patterns in each bin.
    """

    probability: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]


def reliability_curve(
    probability: NDArray[np.floating], single: NDArray[np.bool_]
) -> Reliability:
    """Sort patterns into ten bins of probability, and count the singles in each.

    Parameters
    ----------
    probability
        (n,), 0 to 1, of patterns that the model was not trained on.
    single
        (n,) bool, their labels.

    References
    ----------
    DeGroot and Fienberg, The Statistician 32 (1983) 12, doi 10.2307/2987588 (diagram).
    Naeini, Cooper and Hauskrecht, AAAI (2015) 2901, doi 10.1609/aaai.v29i1.9602 (ECE).
    """
    which = _find_bins(probability)
    count = np.bincount(which, minlength=N_BINS)
    total = np.bincount(which, probability, minlength=N_BINS)
    found = np.bincount(which, single, minlength=N_BINS)
    filled = count > 0
    count, found = count[filled], found[filled]
    low, high = proportion_interval(found, count)
    return Reliability(total[filled] / count, found / count, low, high, count)


def expected_calibration_error(
    probability: NDArray[np.floating], single: NDArray[np.bool_]
) -> float:
    """Return the expected calibration error: mean |probability - share| of the bins.

    Bins are those of `reliability_curve`, and weigh what they hold. It is above 0 even
    for perfect probabilities, the more so the fewer patterns there are.
    """
    apart = np.bincount(_find_bins(probability), probability - single)
    return float(np.abs(apart).sum() / max(single.size, 1))


def _find_bins(probability: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin of each probability; 1 belongs to the last."""
    return np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)


SMALLEST_SLOPE = 1e-3
USUAL_SLOPE = 3.0  # standard deviation of its prior: wide, tuned on simulated patterns
# of `fit_calibration_in_stack`: where the curve crosses 1/2, and the logarithms of its
# slopes above and below; how far from them it may be
USUAL_CROSSING = (2.65, 0.35)
USUAL_LOG_SLOPES = (0.1, 0.4)
SPREAD = np.array([0.5, 0.2, 0.2])
SURE = 1e-9  # neither class is ever without a share in a pattern


def fit_calibration(raw: NDArray[np.float32], single: NDArray[np.bool_]) -> Calibration:
    """Fit a probability to the network's output on patterns it was not trained on.

    Logistic regression on the output's logit. A weak prior (slope normal with standard
    deviation 3) keeps a small or perfectly parted sample from giving certainty. Where
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

    fit = LogisticRegression(C=USUAL_SLOPE**2)
    fit.fit(logit_of(raw)[:, np.newaxis], single)
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if slope >= SMALLEST_SLOPE:
        return Calibration(slope, offset)
    share = (single.sum() + 1) / (single.size + 2)
    return Calibration(SMALLEST_SLOPE, float(np.log(share / (1 - share))))


def fit_calibration_in_stack(
    out_of_fold: NDArray[np.float32],
    single: NDArray[np.bool_],
    others: NDArray[np.float32],
) -> Calibration:
    """Fit a probability to outputs of an exact fit, with the help of the whole stack.

    From few labels alone one does not learn where the probability crosses 1/2. But the
    single hits of a stack form a cluster, which also shows without labels, and after an
    exact fit (`helpers.classifier.kernel_head`) the crossing lies at a rather certain
    distance below its mean: the farther, the more of the stack is single. So the most
    probable curve is taken, given the labels (logistic likelihood) and normal priors of
    the crossing and of the logarithms of the slopes above and below it; each pattern of
    the stack counts as single with the curve's own probability. From a few hundred
    labels on the priors hardly matter; where they come from stands in docs/methods.md.

    Parameters
    ----------
    out_of_fold
        (n,) float32, for each labelled pattern the output of weights that do not know
        it.
    single
        (n,) bool, the labels; both values occur.
    others
        (m,) float32, outputs for patterns without a label: all, or a random sample.

    References
    ----------
    Kull, Silva Filho and Flach, PMLR 54 (2017) 623: one slope on each side.
    """
    from scipy.optimize import minimize  # slow to import

    known = logit_of(out_of_fold)
    stack = np.concatenate([known, logit_of(others)])
    sign = np.where(single, -1, 1)

    def cost(numbers: NDArray[np.float64]) -> float:
        curve = _make_curve(*numbers)
        usual = (_find_usual_crossing(curve, stack), *USUAL_LOG_SLOPES)
        unusual = (numbers - usual) / SPREAD
        misfit = np.logaddexp(0, sign * curve.calibrated_logit(known)).sum()
        return float(misfit + unusual @ unusual / 2)

    start = np.array([0, *USUAL_LOG_SLOPES])
    return _make_curve(*minimize(cost, start, method="Nelder-Mead").x)


def _find_usual_crossing(curve: Calibration, stack: NDArray[np.float64]) -> float:
    """Return where curves usually cross that part a stack (logits) as this one does."""
    single = np.clip(expit(curve.calibrated_logit(stack)), SURE, 1 - SURE)
    mean_single = np.average(stack, weights=single)
    below, per_odds = USUAL_CROSSING
    return float(mean_single - (below + per_odds * logit(single.mean())))


def _make_curve(crossing: float, log_above: float, log_below: float) -> Calibration:
    slope = float(np.exp(log_above))
    return Calibration(slope, -slope * crossing, float(np.exp(log_below - log_above)))


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


def choose_threshold_for_recall(
    probability: NDArray[np.float32], single: NDArray[np.bool_], recall: float = 0.9
) -> float:
    """Return the threshold that is expected to find a stated share of the singles.

    With n singles it lies at the k-th lowest probability among them, k being
    (1 - recall) (n + 1) rounded down: a new single then lies below it with a
    probability of 1 - recall at most, whatever the probabilities are worth. Where n is
    too small for that (8 or fewer at a recall of 0.9) it lies at half of the lowest.

    Parameters
    ----------
    probability
        (n,) float32, calibrated, of patterns that the weights do not know and that are
        not in the test part.
    single
        (n,) bool, the labels; at least one is True.
    recall
        Above 0 and below 1.

    Raises
    ------
    ParameterError
        If `recall` is not between 0 and 1.

    References
    ----------
    Angelopoulos and Bates, Found. Trends Mach. Learn. 16 (2023) 494, section 1,
    doi 10.1561/2200000101 (split conformal prediction).
    """
    check_recall(recall)
    lowest_first = np.sort(probability[single]).astype(np.float64)
    n_missed = int(
        (1 - recall) * (lowest_first.size + 1) + 1e-9
    )  # 0.1 · 10 counts as 1
    if n_missed == 0:
        return float(lowest_first[0] / 2)
    return float(lowest_first[n_missed - 1])


def check_recall(recall: float) -> None:
    """Refuse what is no share of the singles.

    Raises
    ------
    ParameterError
        If `recall` is not between 0 and 1.
    """
    if not 0 < recall < 1:
        message = f"recall is {recall}; expected a share between 0 and 1, such as 0.9."
        raise ParameterError(message)


def evaluate(
    probability: NDArray[np.float32],
    single: NDArray[np.bool_],
    threshold: float | NDArray[np.float64],
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
    rng = np.random.default_rng(0)
    possible = rng.dirichlet(counts.ravel() + 0.5, n_draws).T.reshape(2, 2, n_draws)
    drawn = _from_counts(possible)
    drawn["average_precision"] = np.array(
        [
            average_precision(probability[some], single[some])
            for some in (draw_again(single, rng) for _ in range(n_draws))
        ]
    )
    values = _from_counts(counts[..., np.newaxis])
    values["average_precision"] = np.array([average_precision(probability, single)])
    return {
        "chance": float(np.mean(single)),
        "confusion_matrix": counts.tolist(),
        **{name: _with_interval(values[name], drawn[name]) for name in SCORES},
        "calibration_error": _judge_calibration(probability, single, rng),
    }


def describe_scores(
    scores: dict[str, Any], names: Sequence[str] = (*SCORES, "calibration_error")
) -> str:
    """Say the scores that `evaluate` gave, a line each, with their intervals.

    Parameters
    ----------
    scores
        From `evaluate`.
    names
        Which ones, in that order.
    """
    lines = []
    for name in names:
        score = scores[name]
        interval = f"({score['low']:.2f} to {score['high']:.2f})"
        line = f"{name.replace('_', ' '):>18}: {score['value']:.2f}  {interval}"
        if "by_chance" in score:
            line += f"; by chance {score['by_chance']:.2f}"
        lines.append(line)
    if why := explain_chance(scores):
        lines.append(why)
    return "\n".join(lines)


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


def average_precision(
    probability: NDArray[np.float32], single: NDArray[np.bool_]
) -> float:
    """Return the mean precision over the singles, best first; 0 without singles."""
    # scikit-learn's takes twenty times as long, and a bootstrap asks a thousand times
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


def draw_again(
    single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw as many of each class again, with replacement: a bootstrap sample."""
    classes = (np.flatnonzero(single), np.flatnonzero(~single))
    return np.concatenate([rng.choice(c, c.size) for c in classes if c.size])
