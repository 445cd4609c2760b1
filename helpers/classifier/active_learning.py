"""The most useful labels to give next, whether more pay, and the learning curve."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import (
    average_precision,
    choose_threshold,
    draw_again,
    fit_calibration_in_stack,
)
from helpers.classifier.kernel_head import (
    Kernel,
    KernelHead,
    fit_best,
    fit_head,
    fit_kernel,
)
from helpers.classifier.network_base import (
    Network,
    import_keras,
    predict_inputs,
    run_in_batches,
)
from helpers.classifier.networks import InvariantNetwork
from helpers.classifier.prediction import (
    compare_with_ranking,
    exact_network,
    rank_doubtful_labels,
)
from helpers.classifier.split import Split, is_labelled, is_single
from helpers.classifier.trained_model import TrainedModel
from helpers.classifier.training import read_inputs
from helpers.errors import ParameterError
from helpers.intervals import Proportion, percentile_interval
from helpers.labels import Queue
from helpers.patterns import Patterns
from helpers.ranking import Ranking

N_LOOKED_AT = 1000
N_HALVES = 6


def measure_change(
    patterns: Patterns, words: NDArray[np.str_], model: TrainedModel
) -> float:
    """Return which share of the stack half as many labels would judge differently.

    Networks are taught by random halves of the labels and compared with one that is
    taught by all of them, on at most 1,000 patterns without a label (NaN where there
    are none), which also help to calibrate. The next doubling changes less than the
    last one did, since the network has settled further by then. The invariant network
    takes the place of one that learns by gradient descent.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words; at least four of each class.
    model
        The trained model; only the kind of its network matters.

    References
    ----------
    Bloodgood and Vijay-Shanker, CoNLL (2009) 39, section 3 (to stop when the
    predictions have settled), https://aclanthology.org/W09-1107.
    """
    rng = np.random.default_rng(0)
    unlabelled = np.flatnonzero((words == "") & patterns.is_measurement)
    others = rng.permutation(unlabelled)[:N_LOOKED_AT]
    if others.size == 0:
        return float("nan")
    network = exact_network(patterns, model)
    labelled = np.flatnonzero(is_labelled(words))
    single = is_single(words[labelled])
    inputs = read_inputs(patterns, labelled, network)
    looked_at = read_inputs(patterns, others, network)
    full = _judge(network, inputs, single, looked_at)
    halves = [_draw_half(single, rng) for _ in range(N_HALVES)]
    changed = [
        np.mean(_judge(network, inputs[half], single[half], looked_at) != full)
        for half in halves
    ]
    return float(np.mean(changed))


def advise(change: float, purity: Proportion, n_labels: int) -> str:
    """Say in plain words whether more labels would pay.

    Parameters
    ----------
    change
        From `measure_change`.
    purity
        Of the selection, from an audit or a test set.
    n_labels
        How many labels there are.
    """
    if np.isnan(change):
        return "Every pattern has a label: there is nothing more to ask for."
    known = f"purity is known to ±{purity.half_width:.1%}"
    effect = (
        f"With {n_labels // 2:,} labels instead of {n_labels:,} the network would "
        f"judge {change:.1%} of the patterns differently"
    )
    if change > purity.half_width:
        return f"{effect}, while {known}: label more, it still pays."
    return (
        f"{effect}, and {known}: what more labels change would not show in it. "
        "To know the purity better, label patterns of the audit alone (audit_share=1)."
    )


def _judge(
    network: Network,
    inputs: NDArray[np.float32],
    single: NDArray[np.bool_],
    looked_at: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Teach a network and let it say which of some patterns are single, (m,) bool."""
    keras_model = network.build()
    out_of_fold = fit_head(keras_model, inputs, single)
    raw = predict_inputs(keras_model, looked_at)
    calibration = fit_calibration_in_stack(out_of_fold, single, raw)
    threshold = choose_threshold(calibration.apply(out_of_fold), single)
    return calibration.apply(raw) >= threshold


def _draw_half(
    single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return half of each class, two at least."""
    classes = (np.flatnonzero(single), np.flatnonzero(~single))
    return np.concatenate(
        [rng.permutation(some)[: max(len(some) // 2, 2)] for some in classes]
    )


MOST_CANDIDATES = 2000


def choose_next_labels(
    patterns: Patterns,
    model: TrainedModel,
    probability: NDArray[np.float32],
    words: NDArray[np.str_],
    *,
    n_labels: int = 50,
    audit_share: float = 0.2,
) -> Queue:
    """Choose the patterns whose labels are the most useful next.

    The least certain patterns, and of those the ones that stand for the others; see
    `pick_uncertain_and_diverse`. The random audit is mixed in evenly, so that stopping
    early keeps the proportion.

    Parameters
    ----------
    patterns
        The stack.
    model
        The trained model.
    probability
        (n,) float32: what it says of every pattern.
    words
        (n,) label words; patterns with one are not asked for again.
    n_labels
        How many patterns.
    audit_share
        Which part of them is drawn at random, 0 to 1.

    Returns
    -------
    Queue
        Reasons: "audit"; "uncertain" for those that the network is least sure of, and
        "diverse" for those that were taken to be unlike these.

    Raises
    ------
    ParameterError
        If the share is not from 0 to 1, or no number of labels is wanted.
    """
    _check_wanted(n_labels, audit_share)
    order = patterns.shuffled()
    audit = order[words[order] == ""][: round(audit_share * n_labels)]
    open_to_choice = (words == "") & np.isfinite(probability)
    open_to_choice[audit] = False
    index = np.flatnonzero(open_to_choice)
    least_certain = np.argsort(np.abs(probability[index] - 0.5), kind="stable")
    candidates = index[least_certain[:MOST_CANDIDATES]]
    n_wanted = min(n_labels - len(audit), len(candidates))
    if n_wanted == 0:
        return _mix(audit[:0], np.array([], "U9"), audit)
    seen = _last_inputs(patterns, candidates, model)
    picked = pick_uncertain_and_diverse(seen, probability[candidates], n_wanted)
    reasons = np.where(picked < n_wanted, "uncertain", "diverse")
    return _mix(candidates[picked], reasons, audit)


def pick_uncertain_and_diverse(
    seen: NDArray[np.floating], probability: NDArray[np.floating], n: int
) -> NDArray[np.int64]:
    """Pick patterns that are hard to tell and unlike each other.

    The patterns are grouped by k-means, each weighing as much as its label is uncertain
    (the standard deviation of a yes or no of this probability), and the one nearest to
    the middle of each group is taken.

    Parameters
    ----------
    seen
        (m, features): what tells patterns apart.
    probability
        (m,) of a single hit.
    n
        How many to pick, at most m.

    Returns
    -------
    ndarray
        (n,) int64 from 0 to m - 1, ascending.

    References
    ----------
    Zhdanov, Diverse mini-batch active learning (2019), section 3,
    doi 10.48550/arXiv.1901.05954.
    """
    from sklearn.cluster import KMeans

    if n >= len(seen):
        return np.arange(len(seen))
    spread = np.sqrt(probability * (1 - probability)).astype(np.float64)
    groups = KMeans(n, n_init=1, random_state=0)
    apart = groups.fit(seen, sample_weight=spread + 1e-6).transform(seen)
    apart[np.arange(n) != groups.labels_[:, np.newaxis]] = np.inf
    return np.unique(apart.argmin(axis=0))


def _check_wanted(n_labels: int, audit_share: float) -> None:
    if n_labels < 1 or not 0 <= audit_share <= 1:
        message = (
            f"n_labels is {n_labels} and audit_share {audit_share}; expected 1 or more "
            "labels and a share from 0 to 1, for example 50 and 0.2."
        )
        raise ParameterError(message)


def _last_inputs(
    patterns: Patterns, index: NDArray[np.int64], model: TrainedModel
) -> NDArray[np.float64]:
    """Return what the network compares patterns by, (m, …)."""
    inputs = read_inputs(patterns, index, model.network)
    network = model.keras_model
    if isinstance(network, KernelHead):
        return network.place(inputs)
    before = import_keras().Model(network.inputs[0], network.layers[-1].input)
    return run_in_batches(before, inputs).astype(np.float64)


def _mix(
    chosen: NDArray[np.int64], reasons: NDArray[np.str_], audit: NDArray[np.int64]
) -> Queue:
    """Spread the audit evenly among what was chosen; both keep their order."""
    place = np.concatenate(
        [(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in (chosen, audit)]
    )
    order = np.argsort(place, kind="stable")
    words = np.concatenate([reasons, np.full(len(audit), "audit")])
    return Queue(np.concatenate([chosen, audit])[order], words[order])


def score_patterns(
    probability: NDArray[np.float32],
    threshold: float,
    ranking: Ranking,
    words: NDArray[np.str_],
    out_of_fold: NDArray[np.float32],
) -> dict[str, NDArray[np.float64]]:
    """Score patterns by what may make them worth a look, the highest first.

    Parameters
    ----------
    probability
        (n,) float32: of a single hit.
    threshold
        From which patterns are taken.
    ranking
        Of the same stack.
    words
        (n,) label words.
    out_of_fold
        (n,) float32: probability from `substitute_out_of_fold`, NaN = left out.

    Returns
    -------
    dict
        (n,) float64 each, NaN = has no place in this order. "probability"; "unsure":
        how near to the threshold, 1 = at it; "ranking": how differently network and
        ranking place it, 0 to 1; "labels": how doubtful its label is, 0 to 1.
    """
    known = np.where(is_labelled(words), out_of_fold, np.float32(np.nan))
    doubts = rank_doubtful_labels(words, known)
    doubt = np.full(len(words), np.nan)
    doubt[doubts.pattern] = doubts.doubt
    return {
        "probability": probability.astype(np.float64),
        "unsure": 1 - np.abs(probability - np.float64(threshold)),
        "ranking": np.abs(compare_with_ranking(probability, ranking)),
        "labels": doubt,
    }


def order_by(scores: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.int64]:
    """Return the patterns that have a score, the highest first.

    Parameters
    ----------
    scores
        From `score_patterns`.
    name
        Of one of them.

    Raises
    ------
    ParameterError
        If there is no such score.
    """
    if name not in scores:
        message = f"look_at is {name!r}; expected one of {', '.join(scores)}."
        raise ParameterError(message)
    score = scores[name]
    order = np.argsort(-score, kind="stable")  # NaN sorts last
    return order[: np.count_nonzero(np.isfinite(score))]


N_REPEATS = 4
N_FOLDS = 5
N_DRAWS = 300
FEWEST = 8  # labels to begin with
SMALL_GAIN = 0.01  # of the average precision: not worth twice the labels


@dataclass(frozen=True)
class LearningCurve:
    """Average precision against the number of labels that were learnt from.

    Attributes
    ----------
    n_labels
        (sizes,) int64, ascending; each is twice the one before.
    score, low, high
        (sizes,) float64, average precision and its 95 % interval.
    gain
        What the last doubling added: value, low and high. The same patterns are judged
        before and after, so it is known better than the scores themselves.
    """

    n_labels: NDArray[np.int64]
    score: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    gain: tuple[float, float, float]

    def describe(self) -> str:
        """Say in plain words whether more labels would help."""
        value, low, high = self.gain
        before, after = self.n_labels[-2:]
        effect = (
            f"From {before:,} to {after:,} labels the average precision changed by "
            f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        )
        if low > 0:
            return f"{effect}: more labels would help."
        if high < SMALL_GAIN:
            return f"{effect}: more labels would hardly help."
        return f"{effect}: too few labels to tell; more would show."


def find_learning_curve(
    patterns: Patterns, split: Split, labels: NDArray[np.str_], **settings: Any
) -> LearningCurve:
    """Let the invariant network learn from fewer labels than there are.

    Within the training and validation parts, four times five-fold cross-validation:
    from four fifths of the labels, a half of these, a quarter, and so on, the last
    fifth is judged. The test part is not looked at.

    Parameters
    ----------
    patterns
        The stack.
    split
        Of that stack.
    labels
        (n,) label words.
    **settings
        Of the network: `centre`.
    """
    known = np.concatenate([split.training, split.validation])
    single = is_single(labels[known])
    network = InvariantNetwork.for_patterns(patterns, **settings)
    inputs = read_inputs(patterns, known, network)
    head = network.build()
    head.standardise(inputs)
    points = head.make_points(inputs)
    kernel = fit_best(points, single, head.choices).kernel
    sizes = _choose_sizes(single)
    rng = np.random.default_rng(0)
    outputs = np.stack(
        [_judge_curve(points, single, kernel, sizes, rng) for _ in range(N_REPEATS)]
    )
    score = _score(outputs, single, np.arange(single.size))
    drawn = np.array(
        [_score(outputs, single, draw_again(single, rng)) for _ in range(N_DRAWS)]
    )
    low, high = percentile_interval(drawn)
    gain_low, gain_high = percentile_interval(drawn[:, -1] - drawn[:, -2])
    gain = float(score[-1] - score[-2]), float(gain_low), float(gain_high)
    return LearningCurve(sizes, score, low, high, gain)


def _choose_sizes(single: NDArray[np.bool_]) -> NDArray[np.int64]:
    largest = single.size - -(-single.size // N_FOLDS)
    n_doublings = max(int(np.log2(largest / FEWEST)), 1)
    sizes: NDArray[np.int64] = largest // 2 ** np.arange(n_doublings, -1, -1)
    return sizes


def _judge_curve(
    points: NDArray[np.float64],
    single: NDArray[np.bool_],
    kernel: Kernel,
    sizes: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the output for each pattern after learning from each size, without it."""
    output = np.empty((sizes.size, single.size))
    order = _mix_evenly(single, rng)
    fold = np.empty(single.size, np.int64)
    fold[order] = np.arange(single.size) % N_FOLDS
    for number in range(N_FOLDS):
        judged, rest = fold == number, order[fold[order] != number]
        for i, size in enumerate(sizes):
            taught = rest[:size]
            fit = fit_kernel(points[taught], single[taught], kernel)
            output[i, judged] = fit(points[judged])
    return output


def _mix_evenly(
    single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return a random order in which either class is spread evenly."""
    place = np.empty(single.size)
    for members in (single, ~single):
        n = int(members.sum())
        place[members] = (rng.permutation(n) + rng.random()) / n
    return np.argsort(place)


def _score(
    outputs: NDArray[np.float64], single: NDArray[np.bool_], some: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the average precision of some patterns for each size, (sizes,)."""
    each = [[average_precision(o[some], single[some]) for o in run] for run in outputs]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    return mean
