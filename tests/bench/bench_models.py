"""How few labels are enough? The invariant network beside its forerunners.

Run `make bench-models`, or `python tests/bench/bench_models.py --quick`. Networks and
their settings were chosen on the samples "default", "hard" and "dim" with seed 101;
what is printed is measured on other seeds, and on samples that were never looked at.

For each sample: 1,000 patterns to draw labels from, 2,500 to judge on. The threshold is
chosen with the labels alone; "F1 best" is what the best threshold would have given.
Baseline: the polar map of each pattern, its square root, the absolute Fourier
transform over the angle, logarithm, principal components of all patterns, logistic
regression; the number of components and the penalty by cross-validation on the labels.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from helpers.models import InvariantNetwork
from helpers.models.invariant import make_head
from helpers.models.trained import predict_inputs
from helpers.patterns import Patterns, open_patterns
from helpers.polar import angle_about, radius_from
from helpers.predict import predict_patterns
from helpers.simulate import SAMPLES, write_simulated
from helpers.training import (
    choose_threshold,
    fit_calibration,
    split_labels,
    train_model,
)
from helpers.training.exact import fit_exactly

BUDGETS = (50, 100, 200, 1000)
N_POOL = 1000
RING_PIXELS = 2.5
N_ANGLES = 64
REAL = Path(__file__).parents[3] / "shared" / "real" / "pr772_30.h5"

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


class Score(NamedTuple):
    """Of one training on one sample."""

    f1: float
    f1_best: float
    average_precision: float
    calibration_error: float


class Method(NamedTuple):
    """How probabilities come from a stack and some labels."""

    make_inputs: Callable[[Patterns], Floats]
    fit: Callable[[Floats, NDArray[np.int64], Bools], tuple[Floats, float]]


def main() -> None:
    """Print the tables."""
    arguments = read_arguments()
    with tempfile.TemporaryDirectory() as folder:
        for sample in arguments.samples:
            path = Path(folder) / f"{sample}.h5"
            write_simulated(
                path, N_POOL + arguments.judged, arguments.seed, sample=sample
            )
            report_sample(sample, open_patterns(path), arguments.repeats)
        report_speed(open_patterns(path), Path(folder) / "work")
    report_measured(arguments.repeats)


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="How few labels are enough?")
    parser.add_argument("--quick", action="store_true", help="one sample, less of it")
    parser.add_argument("--seed", type=int, default=2001, help="of the simulation")
    parser.add_argument("--samples", nargs="*", default=list(SAMPLES))
    arguments = parser.parse_args()
    arguments.judged, arguments.repeats = 2500, 5
    if arguments.quick:
        arguments.samples, arguments.judged, arguments.repeats = ["hard"], 1000, 2
    return arguments


def report_sample(sample: str, patterns: Patterns, repeats: int) -> None:
    """Print one line per method and budget, and what is gained."""
    single = patterns.truth == "single"
    scores = {
        name: score_method(method, patterns, single, repeats)
        for name, method in METHODS.items()
    }
    print(f"\n{sample}: {single.mean():.0%} single")
    print(f"{'labels':>20}" + "".join(f"{budget:>9,}" for budget in BUDGETS))
    for name, found in scores.items():
        for field in Score._fields:
            values = "".join(f"{getattr(score, field):9.3f}" for score in found)
            print(f"{name:>12} {field.replace('_', ' '):>20}{values}")
    old, new = (
        np.array([score.f1_best for score in scores[name]])
        for name in ("baseline", "invariant")
    )
    cut = "".join(f"{share:9.0%}" for share in 1 - (1 - new) / (1 - old))
    print(f"{'what F1 best lacks, cut by':>33}{cut}", flush=True)


def score_method(
    method: Method, patterns: Patterns, single: Bools, repeats: int
) -> list[Score]:
    """Return the mean score for each budget."""
    inputs = method.make_inputs(patterns)
    judged = slice(N_POOL, None)
    means = []
    for budget in BUDGETS:
        scores = []
        for labelled in draw_labels(single, budget, repeats):
            probability, threshold = method.fit(inputs, labelled, single[labelled])
            scores.append(judge(probability[judged], single[judged], threshold))
        means.append(Score(*np.mean(scores, axis=0)))
    return means


def draw_labels(
    single: Bools, budget: int, repeats: int
) -> Iterator[NDArray[np.int64]]:
    """Give random patterns of the pool, at least five singles and five others."""
    rng = np.random.default_rng(budget)
    for _ in range(repeats if budget < N_POOL else 1):
        drawn = rng.permutation(N_POOL)[:budget]
        while min(single[drawn].sum(), (~single[drawn]).sum()) < 5:
            drawn = rng.permutation(N_POOL)[:budget]
        yield drawn


def judge(probability: Floats, single: Bools, threshold: float) -> Score:
    """Compare probabilities with the truth."""
    precision, recall, _ = precision_recall_curve(single, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return Score(
        f1_score(single, probability >= threshold),
        f1.max(),
        average_precision_score(single, probability),
        calibration_error(probability, single),
    )


def calibration_error(probability: Floats, single: Bools, n_bins: int = 10) -> float:
    """Return the mean difference of probability and share of singles over ten bins."""
    which = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    difference = np.bincount(which, probability - single, minlength=n_bins)
    return float(np.abs(difference).sum() / single.size)


# --- methods --------------------------------------------------------------------------


def make_polar_features(patterns: Patterns) -> Floats:
    """Return the baseline's features, standardised and as principal components."""
    adder = make_cells(patterns)
    flat = (block.reshape(len(block), -1) for _, block in patterns.blocks(2**26))
    sums = np.concatenate([(adder @ block.T).T for block in flat])
    mean = np.maximum(sums, 0) / np.maximum(adder.sum(axis=1), 1)
    mean = mean.reshape(len(mean), -1, N_ANGLES)
    harmonics = np.abs(np.fft.rfft(np.sqrt(mean), axis=-1))
    features = np.log(harmonics + 0.05).reshape(len(mean), -1)
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    return PCA(100, whiten=True, random_state=0).fit_transform(features)


def make_cells(patterns: Patterns) -> sparse.csr_array:
    """Return what adds the pixels of each cell of half a turn (Friedel's law)."""
    shape, bad_pixels = patterns.shape[1:], patterns.bad_pixels
    centre = InvariantNetwork.for_patterns(patterns).centre
    ring = (radius_from(centre, shape) / RING_PIXELS).astype(int)
    angle = (angle_about(centre, shape) % 180 / 180 * N_ANGLES).astype(int) % N_ANGLES
    pixel = np.flatnonzero(~bad_pixels & (ring < min(shape) / 2 // RING_PIXELS))
    cell = (ring * N_ANGLES + angle).ravel()[pixel]
    ones = np.ones(pixel.size, np.float32)
    size = (int(cell.max()) // N_ANGLES + 1) * N_ANGLES
    return sparse.csr_array((ones, (cell, pixel)), shape=(size, bad_pixels.size))


def fit_baseline(
    inputs: Floats, labelled: NDArray[np.int64], single: Bools
) -> tuple[Floats, float]:
    """Fit a logistic regression to the best number of components."""
    first = FunctionTransformer(lambda values, n: values[:, :n])
    choices = {
        "functiontransformer__kw_args": [{"n": n} for n in (10, 20, 40, 100)],
        "logisticregression__C": [0.01, 0.1, 1.0],
    }
    search = GridSearchCV(
        make_pipeline(first, LogisticRegression()), choices, scoring="neg_log_loss"
    ).fit(inputs[labelled], single)
    best = search.best_estimator_
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    known = cross_val_predict(
        best, inputs[labelled], single, cv=folds, method="predict_proba"
    )
    return best.predict_proba(inputs)[:, 1], choose_threshold(known[:, 1], single)


def make_fringe_features(patterns: Patterns) -> Floats:
    """Return the invariant network's inputs."""
    network = InvariantNetwork.for_patterns(patterns)
    blocks = [network.make_inputs(block) for _, block in patterns.blocks(2**26)]
    return np.concatenate(blocks)


def fit_invariant(
    inputs: Floats, labelled: NDArray[np.int64], single: Bools
) -> tuple[Floats, float]:
    """Train and calibrate as `helpers.training` does."""
    keras_model = make_head(inputs.shape[1])
    unseen = fit_exactly(keras_model, inputs[labelled], single)
    calibration = fit_calibration(unseen, single)
    threshold = choose_threshold(calibration.apply(unseen), single)
    return calibration.apply(predict_inputs(keras_model, inputs, 4096)), threshold


METHODS = {
    "baseline": Method(make_polar_features, fit_baseline),
    "invariant": Method(make_fringe_features, fit_invariant),
}


# --- measured patterns and speed ------------------------------------------------------


def report_measured(repeats: int) -> None:
    """Print how well the 30 measured patterns are told apart, by cross-validation."""
    if not REAL.exists():
        print(f"\nmeasured patterns are not at {REAL}: left out")
        return
    patterns = open_patterns(REAL)
    single = patterns.recorded_labels == "single"
    inputs = make_fringe_features(patterns)
    areas = [
        roc_auc_score(single, cross_validate(inputs, single, seed))
        for seed in range(4 * repeats)
    ]
    print(f"\n{REAL.name}: area under the ROC curve, 5-fold, {len(areas)} repeats:")
    print(f"{np.mean(areas):.3f} ({np.min(areas):.3f} to {np.max(areas):.3f})")


def cross_validate(inputs: Floats, single: Bools, seed: int) -> Floats:
    """Return each pattern's output from a network that was not fitted to it."""
    outputs = np.empty(single.size)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for known, fold_index in folds.split(inputs, single):
        keras_model = make_head(inputs.shape[1])
        fit_exactly(keras_model, inputs[known], single[known])
        outputs[fold_index] = predict_inputs(keras_model, inputs[fold_index])
    return outputs


def report_speed(patterns: Patterns, work_dir: Path) -> None:
    """Print the time of a training from 200 labels, and of the whole stack."""
    labels = np.where(np.arange(len(patterns)) < 200, patterns.truth, "")
    split = split_labels(labels, patterns.groups)
    seconds = {
        "train from 200 labels": clock(
            lambda: train_model(patterns, split, labels, work_dir)
        ),
        "read all patterns": clock(lambda: [len(b) for _, b in patterns.blocks()]),
        "predict all patterns": clock(lambda: predict_patterns(patterns, work_dir)),
    }
    print(f"\n{len(patterns):,} patterns of {patterns.shape[1:]} pixels")
    for name, value in seconds.items():
        print(f"{name:>24} {value:7.2f} s {1e3 * value / len(patterns):7.3f} ms each")


def clock(work: Callable[[], object]) -> float:
    """Return the shorter time of two runs, in seconds."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
