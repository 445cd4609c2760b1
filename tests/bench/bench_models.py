"""How few labels are enough? The invariant network beside its forerunners.

Run `make bench-models`, or `python tests/bench/bench_models.py --quick`; `--speed`
prints the times alone. Networks and their settings were chosen on the samples
"default", "hard", "dim" and one with streaks, all with seed 101; what is usual in a
calibration on 40 kinds of sample drawn at random, seeds 10001 to 10040, after a look at
what its forms give for the named samples, these seeds included. The kinds of "drawn",
another one for each seed, took no part in anything. "Error by chance" is the
calibration error of true probabilities.

For each sample and seed: 1,000 patterns to draw labels from, twice for each number of
labels, for "drawn" once; 2,500 others to judge on. "F1" is reached with the threshold
that the labels alone chose, "F1 best" with the best one. Given are means and 95 %
intervals (Student's t over all trainings of a sample). The article's network takes a
hundred times longer, and is trained once per number of labels, on the first seed alone;
for "drawn" on the first eight.

Baseline: the polar map of each pattern, its square root, the absolute Fourier
transform over the angle, logarithm, principal components of all patterns, logistic
regression; the number of components and the penalty by cross-validation on the labels.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from any_sample import draw_evenly
from numpy.typing import NDArray
from scipy import sparse, stats
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
    StratifiedShuffleSplit,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from helpers.classifier import (
    ArticleNetwork,
    InvariantNetwork,
    choose_threshold,
    expected_calibration_error,
    fit_calibration,
    fit_calibration_in_stack,
    make_images,
    split_labels,
    train_model,
)
from helpers.classifier.kernel_head import fit_head
from helpers.classifier.network_base import Schedule, fit_gradient, predict_inputs
from helpers.classifier.networks import make_head
from helpers.classifier.prediction import predict_patterns
from helpers.patterns import Patterns, open_patterns
from helpers.physics import angle_about, radius_from
from helpers.simulate import Sample, write_simulated
from helpers.simulate.sample import CLASSES

BUDGETS = (20, 50, 100, 200, 1000)
DRAWN = "drawn"  # another kind of sample for each seed
SAMPLES = ("hard", "dim", "noisy", "crowded", "rare", "broad", DRAWN)
SEEDS = (2001, 2002, 2003)
DRAWN_SEEDS = tuple(range(3001, 3025))
FEWEST = 0.05  # share of single hits and of multiples in a drawn kind
N_POOL = 1000
N_JUDGED = 2500
N_DRAWS = 2
N_CHANCES = 20
N_REPEATS = 20  # of the cross-validation on measured patterns
RING_PIXELS = 2.5
N_ANGLES = 64
IMAGE_SIZE = 128
REAL = Path(__file__).parents[3] / "shared" / "real" / "pr772_30.h5"

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


class Score(NamedTuple):
    """Of one training on one sample."""

    f1: float
    f1_best: float
    average_precision: float
    calibration_error: float
    error_by_chance: float  # the calibration error if the probabilities were true


Scores = Mapping[int, list[Score]]  # of all trainings, by the number of labels


class Method(NamedTuple):
    """How probabilities come from a stack and some labels."""

    make_inputs: Callable[[Patterns], Floats]
    fit: Callable[[Floats, NDArray[np.int64], Bools], tuple[Floats, float]]


def main() -> None:
    """Print the tables."""
    arguments = read_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sample in arguments.samples:
            seeds = DRAWN_SEEDS if sample == DRAWN else SEEDS
            report_sample(sample, arguments.seeds or seeds, folder, arguments.article)
        report_speed(folder)
    if not arguments.speed:
        report_measured()


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="How few labels are enough?")
    parser.add_argument("--quick", action="store_true", help="one sample, one seed")
    parser.add_argument("--speed", action="store_true", help="the times alone")
    parser.add_argument("--article", action="store_true", help="its network too")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--samples", nargs="*", default=list(SAMPLES))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.seeds = ["hard"], SEEDS[:1]
    if arguments.speed:
        arguments.samples = []
    return arguments


def report_sample(
    sample: str, seeds: Sequence[int], folder: Path, with_article: bool
) -> None:
    """Print what each method reaches on a sample, and what of the baseline is left."""
    found: dict[str, dict[int, list[Score]]] = {}
    n_draws, n_for_article = (1, 8) if sample == DRAWN else (N_DRAWS, 1)
    for seed in seeds:
        path = folder / "sample.h5"
        made_of = draw_kind(seed) if sample == DRAWN else sample
        write_simulated(path, N_POOL + N_JUDGED, seed, sample=made_of)
        with open_patterns(path) as patterns:
            for name, method in METHODS.items():
                add_scores(found.setdefault(name, {}), method, patterns, n_draws)
            if with_article and seed in seeds[:n_for_article]:
                add_scores(found.setdefault("article", {}), ARTICLE, patterns, 1)
    print(f"\n{sample}: {len(seeds)} simulated stacks of {N_JUDGED:,} unseen patterns")
    print(f"{'labels':>30}" + "".join(f"{budget:>16,}" for budget in BUDGETS))
    for name, scores in found.items():
        for field in Score._fields:
            values = "".join(say_mean(scores[n], field) for n in BUDGETS)
            print(f"{name:>11}{field.replace('_', ' '):>19}{values}")
    for field in ("f1", "f1_best"):
        shares = "".join(f"{find_share(found, n, field):>16.2f}" for n in BUDGETS)
        print(f"{f'1 - {field} / baseline':>30}".replace("_", " ") + shares, flush=True)


def draw_kind(seed: int) -> Sample:
    """Return a kind of sample: anything that may come before a detector."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([2, 2, 1.5, 1.5])
    while shares[:2].min() < FEWEST:
        shares = rng.dirichlet([2, 2, 1.5, 1.5])

    return Sample(
        **dict(zip(CLASSES, shares.tolist(), strict=True)),
        weak_share=rng.uniform(0, 0.4),
        close_share=rng.uniform(0, 0.6),
        size_nm=draw_evenly(rng, 45, 110),
        size_spread=draw_evenly(rng, 0.01, 0.1),
        lumpiness=rng.uniform(0.02, 0.1),
        photons=draw_evenly(rng, 5_000, 60_000),
        fluence_spread=rng.uniform(0.3, 1),
        background=draw_evenly(rng, 300, 5_000),
        focus_nm=draw_evenly(rng, 300, 1_000),
        streak_share=rng.choice([0, 0.1, 0.2]),
        read_noise=rng.choice([0, 0.1, 0.2]),
    )


def add_scores(
    scores: dict[int, list[Score]], method: Method, patterns: Patterns, n_draws: int
) -> None:
    """Train with each number of labels, and judge."""
    single = patterns.true_labels == "single"
    inputs = method.make_inputs(patterns)
    judged = slice(N_POOL, None)
    for budget in BUDGETS:
        for labelled in draw_labels(single, budget, n_draws):
            probability, threshold = method.fit(inputs, labelled, single[labelled])
            score = judge(probability[judged], single[judged], threshold)
            scores.setdefault(budget, []).append(score)


def draw_labels(
    single: Bools, budget: int, n_draws: int
) -> Iterator[NDArray[np.int64]]:
    """Give random patterns of the pool, at least five singles and five others."""
    rng = np.random.default_rng(budget)
    for _ in range(n_draws if budget < N_POOL else 1):
        drawn = rng.permutation(N_POOL)[:budget]
        while min(single[drawn].sum(), (~single[drawn]).sum()) < 5:
            drawn = rng.permutation(N_POOL)[:budget]
        yield drawn


def say_mean(scores: list[Score], field: str) -> str:
    """Write a mean and half its 95 % interval, as in 0.973 ±0.004."""
    values = np.array([getattr(score, field) for score in scores])
    if values.size == 1:
        return f"{values[0]:9.3f}       "
    half = stats.t.ppf(0.975, values.size - 1) * stats.sem(values)
    return f"{values.mean():9.3f} ±{half:.3f}"


def find_share(found: Mapping[str, Scores], budget: int, field: str) -> float:
    """Return what the network lacks of a score of 1, over what the baseline lacks."""
    lacking = [
        np.mean([1 - getattr(score, field) for score in found[name][budget]])
        for name in ("invariant", "baseline")
    ]
    return float(lacking[0] / lacking[1])


def judge(probability: Floats, single: Bools, threshold: float) -> Score:
    """Compare probabilities with the truth."""
    precision, recall, _ = precision_recall_curve(single, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return Score(
        f1_score(single, probability >= threshold),
        f1.max(),
        average_precision_score(single, probability),
        expected_calibration_error(probability, single),
        find_error_by_chance(probability),
    )


def find_error_by_chance(probability: Floats) -> float:
    """Return the mean calibration error of answers drawn with these probabilities."""
    rng = np.random.default_rng(0)
    answers = (rng.random(probability.size) < probability for _ in range(N_CHANCES))
    return float(np.mean([expected_calibration_error(probability, a) for a in answers]))


# --- methods --------------------------------------------------------------------------


def make_polar_features(patterns: Patterns) -> Floats:
    """Return the baseline's features, standardised and as principal components."""
    adder = make_cells(patterns)
    parts = patterns.map(lambda block: (adder @ block.reshape(len(block), -1).T).T)
    sums = np.concatenate([part for _, part in parts])
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
    return np.concatenate([part for _, part in patterns.map(network.make_inputs)])


def fit_invariant(
    inputs: Floats, labelled: NDArray[np.int64], single: Bools
) -> tuple[Floats, float]:
    """Train and calibrate as `helpers.classifier` does, the pool being the stack."""
    keras_model = make_head(inputs.shape[1], with_encoder=True)
    out_of_fold = fit_head(keras_model, inputs[labelled], single)
    raw = predict_inputs(keras_model, inputs)
    others = np.setdiff1d(np.arange(N_POOL), labelled)
    calibration = fit_calibration_in_stack(out_of_fold, single, raw[others])
    threshold = choose_threshold(calibration.apply(out_of_fold), single)
    return calibration.apply(raw), threshold


def make_article_images(patterns: Patterns) -> Floats:
    """Return the article's images, at half the article's size."""
    make = partial(make_images, image_size=IMAGE_SIZE)
    return np.concatenate([part for _, part in patterns.map(make)])


def fit_article(
    inputs: Floats, labelled: NDArray[np.int64], single: Bools
) -> tuple[Floats, float]:
    """Train the article's network on three quarters of the labels of either class."""
    keras_model = ArticleNetwork(IMAGE_SIZE).build()
    last = choose_quarter(single)
    parts = [(inputs[labelled[some]], single[some]) for some in (~last, last)]
    fit_gradient(keras_model, *parts, Schedule())
    raw = predict_inputs(keras_model, parts[1][0])
    calibration = fit_calibration(raw, single[last])
    threshold = choose_threshold(calibration.apply(raw), single[last])
    return calibration.apply(predict_inputs(keras_model, inputs)), threshold


def choose_quarter(single: Bools) -> Bools:
    """Return a mask of the last quarter of either class."""
    quarter = np.zeros(single.size, bool)
    for members in (np.flatnonzero(single), np.flatnonzero(~single)):
        quarter[members[-max(members.size // 4, 1) :]] = True
    return quarter


METHODS = {
    "baseline": Method(make_polar_features, fit_baseline),
    "invariant": Method(make_fringe_features, fit_invariant),
}
ARTICLE = Method(make_article_images, fit_article)


# --- measured patterns and speed ------------------------------------------------------


def report_measured() -> None:
    """Print how well the 30 measured patterns are told apart, by cross-validation."""
    if not REAL.exists():
        print(f"\nmeasured patterns are not at {REAL}: left out")
        return
    patterns = open_patterns(REAL)
    single = patterns.recorded_labels == "single"
    inputs = make_fringe_features(patterns)
    outputs = [
        cross_validate(inputs, single, StratifiedKFold(5, shuffle=True, random_state=i))
        for i in range(N_REPEATS)
    ]
    areas = [roc_auc_score(single, output) for output in outputs]
    low, high = bootstrap_area(np.mean(outputs, axis=0), single)
    print(f"\n{REAL.name}: area under the ROC curve, 5-fold, {N_REPEATS} repeats:")
    print(f"{np.mean(areas):.3f} ({np.min(areas):.3f} to {np.max(areas):.3f} by split)")
    print(f"95 % interval with other {single.size} patterns: {low:.3f} to {high:.3f}")
    halves = StratifiedShuffleSplit(100, train_size=single.size // 2, random_state=0)
    areas = [
        roc_auc_score(single[judged], teach_and_ask(inputs, single, known, judged))
        for known, judged in halves.split(inputs, single)
    ]
    low, high = np.percentile(areas, [2.5, 97.5])
    print(f"from {single.size // 2} labels: {np.mean(areas):.3f}, ", end="")
    print(f"95 of 100 draws of labels {low:.3f} to {high:.3f}")


def bootstrap_area(output: Floats, single: Bools) -> tuple[float, float]:
    """Return the 95 % interval of the area, singles and others drawn separately."""
    rng = np.random.default_rng(0)
    classes = np.flatnonzero(single), np.flatnonzero(~single)
    drawn = [
        np.concatenate([rng.choice(members, members.size) for members in classes])
        for _ in range(2000)
    ]
    areas = [roc_auc_score(single[some], output[some]) for some in drawn]
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def cross_validate(inputs: Floats, single: Bools, folds: StratifiedKFold) -> Floats:
    """Return each pattern's output from a network that was not fitted to it."""
    outputs = np.empty(single.size)
    for known, judged in folds.split(inputs, single):
        outputs[judged] = teach_and_ask(inputs, single, known, judged)
    return outputs


def teach_and_ask(
    inputs: Floats, single: Bools, known: NDArray[np.int64], judged: NDArray[np.int64]
) -> Floats:
    """Return what a network that was fitted to some patterns says of others."""
    head = make_head(inputs.shape[1], with_encoder=True)
    fit_head(head, inputs[known], single[known])
    return predict_inputs(head, inputs[judged])


def report_speed(folder: Path) -> None:
    """Print the time of a training from 200 labels, and of the whole stack."""
    path = folder / "speed.h5"
    write_simulated(path, 4000, SEEDS[0])
    patterns = open_patterns(path)
    labels = np.where(np.arange(len(patterns)) < 200, patterns.true_labels, "")
    split = split_labels(labels, patterns.file_index)
    seconds = {
        "train from 200 labels": clock(
            lambda: train_model(patterns, split, labels, folder / "work")
        ),
        "read all patterns": clock(lambda: list(patterns.map(len))),
        "predict all patterns": clock(
            lambda: predict_patterns(patterns, folder / "work")
        ),
    }
    print(f"\n{len(patterns):,} patterns of {patterns.shape[1:]} pixels")
    for name, (wall, cpu) in seconds.items():
        each = f"{1e3 * wall / len(patterns):7.3f} ms each"
        print(f"{name:>24} {wall:7.2f} s ({cpu:.2f} s of processors) {each}")


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor time of the faster of two runs, in seconds."""
    seconds = []
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(seconds)


if __name__ == "__main__":
    main()
