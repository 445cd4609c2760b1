"""Whether more labels would help."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.fitting import fit_logistic_head, solve
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.classifier.scores import average_precision
from helpers.classifier.split import Split, is_single
from helpers.classifier.training import read_inputs
from helpers.intervals import percentile_interval
from helpers.patterns import Patterns

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
    patterns: Patterns,
    split: Split,
    labels: NDArray[np.str_],
    seed: int = 0,
    **settings: Any,
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
    seed
        Of the folds and of what is left out.
    **settings
        Of the network: `centre`.
    """
    known = np.concatenate([split.training, split.validation])
    single = is_single(labels[known])
    network = InvariantNetwork.for_patterns(patterns, **settings)
    inputs = read_inputs(patterns, known, network)
    layer = network.build()
    fit_logistic_head(layer, inputs, single)  # which columns are of use
    columns = layer.make_columns(inputs).astype(np.float64)
    sizes = _choose_sizes(single)
    rng = np.random.default_rng(seed)
    outputs = np.stack([_judge(columns, single, sizes, rng) for _ in range(N_REPEATS)])
    return _summarise(sizes, outputs, single, rng)


def _choose_sizes(single: NDArray[np.bool_]) -> NDArray[np.int64]:
    largest = single.size - -(-single.size // N_FOLDS)
    n_doublings = max(int(np.log2(largest / FEWEST)), 1)
    sizes: NDArray[np.int64] = largest // 2 ** np.arange(n_doublings, -1, -1)
    return sizes


def _judge(
    columns: NDArray[np.float64],
    single: NDArray[np.bool_],
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
            weights, bias = solve(columns[taught], single[taught])
            output[i, judged] = columns[judged] @ weights + bias
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


def _summarise(
    sizes: NDArray[np.int64],
    outputs: NDArray[np.float64],
    single: NDArray[np.bool_],
    rng: np.random.Generator,
) -> LearningCurve:
    everything = np.arange(single.size)
    score = _score(outputs, single, everything)
    drawn = np.array(
        [_score(outputs, single, _draw_again(single, rng)) for _ in range(N_DRAWS)]
    )
    low, high = percentile_interval(drawn)
    gains = drawn[:, -1] - drawn[:, -2]
    gain_low, gain_high = percentile_interval(gains)
    gain = float(score[-1] - score[-2]), float(gain_low), float(gain_high)
    return LearningCurve(sizes, score, low, high, gain)


def _score(
    outputs: NDArray[np.float64], single: NDArray[np.bool_], some: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the average precision of some patterns for each size, (sizes,)."""
    each = [[average_precision(o[some], single[some]) for o in run] for run in outputs]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    return mean


def _draw_again(
    single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    classes = np.flatnonzero(single), np.flatnonzero(~single)
    return np.concatenate([rng.choice(members, members.size) for members in classes])
