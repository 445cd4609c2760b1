"""Does it hold for any particle? F1 from few labels, and with none, on many kinds.

Run `make bench-particles`, or `python tests/bench/bench_particles.py --quick`. Each
kind is another particle before another mask, with its own brightness, background,
jitter and drift. Kinds of `--development` chose the weight of the encoder's guess and
the usual calibration; the others were looked at once. Of these, seven bodies have never
been seen by the encoder; five are other particles of bodies that it was trained on.

"No label" is the area under the ROC curve of the encoder's guess, single against
multiple. F1 is the best one on 1,500 patterns without a label, the mean over three
draws of labels (of 1,000 labels one); "features" is the network without the encoder.
"ECE" is the expected calibration error, less what true probabilities would show.
"Slider" is in how many draws the interval of 06's slider, where it promises a purity of
0.9, holds the purity that is there.

A second table says what nobody could know: the share of the patterns, multiple or
other, that photons would not tell from a single hit, and the F1 of someone who takes
just these for single hits.

A third table is about ranking: average precision for single hits with 50 templates,
the first single hits of the stack. All patterns up to the last of them count as
labelled, and choose the metric; the others are judged.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from any_sample import SEEN_BODIES, UNSEEN_BODIES, draw_evenly
from numpy.typing import NDArray
from scipy import special
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

from helpers.classifier import (
    InvariantNetwork,
    choose_threshold,
    expect_purity,
    expected_calibration_error,
    fit_calibration_in_stack,
)
from helpers.classifier.kernel_head import fit_head
from helpers.classifier.network_base import predict_inputs
from helpers.patterns import open_patterns
from helpers.ranking import METRICS, choose_metric, rank_patterns
from helpers.simulate import (
    Detector,
    Sample,
    Simulator,
    pnccd_bad_pixels,
    write_simulated,
)
from helpers.simulate.sample import CLASSES, Shot

DEVELOPMENT, JUDGED = range(11_000, 11_011), range(21_000, 21_024)  # seeds
JUDGED_BODIES = (
    *UNSEEN_BODIES,
    "octahedron",
    "cube",
    "rod",
    "icosahedron",
    "ellipsoid",
)
DETECTOR = Detector.of_shape((130, 128))
N_POOL = 1_000
N_JUDGED = 1_500
BUDGETS = (50, 200, 1_000)
N_DRAWS = 3
N_CHANCES = 20
N_TEMPLATES = 50
SCORES = (
    *("no label", "features, 50", "200", "1,000", "with encoder, 50", "200", "1,000"),
    *("at own threshold, 50", "200", "1,000"),
    *("ECE, 50", "ECE, 200", "slider, 50", "slider, 200"),
)
PROMISED = 0.9  # purity
N_TRUTHS, N_VIEWS = 300, 100
SURE = np.log(20)  # odds

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


def main() -> None:
    """Print a line for each kind, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two kinds")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--only", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--folder", type=Path, help="keep the patterns there")
    options = parser.parse_args()
    seeds = DEVELOPMENT if options.development else JUDGED
    bodies = SEEN_BODIES if options.development else JUDGED_BODIES
    kinds = [(seed, bodies[seed % len(bodies)]) for seed in seeds]
    kinds = kinds[:2] if options.quick else kinds
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        paths = [(body, simulate_kind(seed, body, folder)) for seed, body in kinds]
        for part in options.only:
            print_table(paths, *TABLES[part])


def print_table(
    paths: list[tuple[str, Path]],
    judge: Callable[[Path], Floats],
    columns: tuple[str, ...],
) -> None:
    """Print a line for each kind, their mean, and the worst of each column."""
    print(f"| particles | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    rows = []
    for body, path in paths:
        rows.append(judge(path))
        print(format_row(body, rows[-1]), flush=True)
    is_error = np.char.startswith(columns, "ECE")
    worst = np.where(is_error, np.max(rows, axis=0), np.min(rows, axis=0))
    print(format_row("mean", np.mean(rows, axis=0)))
    print(format_row("worst", worst) + "\n")


def format_row(name: str, values: Floats) -> str:
    """Write a line of the table."""
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"


def simulate_kind(seed: int, body: str, folder: Path) -> Path:
    """Simulate a kind unless it is there, and return where."""
    path = folder / f"{seed}_{body.replace(' ', '-')}.h5"
    if not path.exists():
        sample, bad_pixels = draw_particle_kind(seed, body)
        write_simulated(
            path,
            N_POOL + N_JUDGED,
            seed,
            sample=sample,
            detector=DETECTOR,
            bad_pixels=bad_pixels,
        )
    return path


def judge_ranking(path: Path) -> Floats:
    """Return the average precision by each metric, last by the chosen one."""
    with open_patterns(path) as patterns:
        single = patterns.true_labels == "single"
        hits = np.flatnonzero(single)[:N_TEMPLATES]
        labels = patterns.true_labels.copy()
        labels[hits[-1] + 1 :] = ""
        found = {}
        for name in METRICS:
            ranking = rank_patterns(patterns, hits, name)
            nearness = -ranking.distance[labels[ranking.index] == ""]
            judged = ranking.index[labels[ranking.index] == ""]
            found[name] = average_precision_score(single[judged], nearness)
        chosen = found[choose_metric(patterns, hits, labels).metric]
    return np.array([*found.values(), chosen])


def judge_knowable(path: Path) -> Floats:
    """Return which shares of the patterns nobody could tell from a single hit.

    Of multiple and of other patterns, and the highest F1 of someone who takes all of
    these for single hits.
    """
    seed, body = path.stem.split("_")
    sample, bad_pixels = draw_particle_kind(int(seed), body.replace("-", " "))
    simulator = Simulator(
        int(seed), sample=sample, detector=DETECTOR, bad_pixels=bad_pixels
    )
    shots = [simulator.draw(N_POOL + i) for i in range(N_TRUTHS)]
    singles = [simulator.draw(i) for i in range(N_POOL)]
    views = [
        simulator.expected_photons(shot)
        for shot in singles
        if shot.true_label == "single"
    ][:N_VIEWS]
    truths = np.array([shot.true_label for shot in shots])
    alike = np.array(
        [is_unknowable(simulator, shot, views, bad_pixels) for shot in shots]
    )
    share = {name: alike[truths == name].sum() / alike.size for name in CLASSES[1:3]}
    n_single, n_alike = (truths == "single").sum(), alike.sum()
    highest = 2 * n_single / (2 * n_single + n_alike)
    return np.array([*share.values(), highest])


def is_unknowable(
    simulator: Simulator, shot: Shot, views: list[Floats], bad_pixels: Bools
) -> bool:
    """Return whether photons would not tell a shot from some single hit.

    That is so if the expected logarithm of the likelihood ratio, Kullback and Leibler's
    divergence, is below that of 20 to 1. A multiple is compared with each of its
    particles alone, anything else with many single hits in other orientations; read
    noise, streaks and jitter, which only hide more, are left out.
    """
    if shot.true_label in ("single", "blank"):
        return False
    found = simulator.expected_photons(shot)
    background = simulator.expected_background(shot.fluence)[~bad_pixels]
    if shot.true_label == "multiple":
        views = [
            simulator.expected_photons(replace(shot, particles=(particle,)))
            for particle in shot.particles
        ]
    return any(
        diverge(found[~bad_pixels], view[~bad_pixels], background) < SURE
        for view in views
    )


def diverge(found: Floats, view: Floats, background: Floats) -> float:
    """Return the divergence of photons from those of another view, as bright."""
    known = found.astype(np.float64) + background
    taken = view * (found.sum(dtype=np.float64) / view.sum(dtype=np.float64))
    taken = np.maximum(taken + background, 1e-9)
    return float((special.xlogy(known, known / taken) - known + taken).sum())


def judge_kind(path: Path) -> Floats:
    """Return a kind's line of the table of scores."""
    with open_patterns(path) as patterns:
        network = InvariantNetwork.for_patterns(patterns)
        inputs = np.concatenate([part for _, part in patterns.map(network.make_inputs)])
        words = patterns.true_labels
        plain = InvariantNetwork.for_patterns(patterns, encoder=False)
    single = words == "single"
    hits = np.isin(words, ["single", "multiple"])
    guess = roc_auc_score(single[hits], inputs[hits, -3])
    without = inputs[:, : len(plain.features)]
    f1_without, *_ = train_all(plain, without, single)
    f1, f1_own, error, holds = train_all(network, inputs, single)
    return np.array([guess, *f1_without, *f1, *f1_own, *error[:2], *holds[:2]])


def train_all(network: InvariantNetwork, inputs: Floats, single: Bools) -> Floats:
    """Return mean F1, twice, calibration error and coverage, (4, budgets)."""
    scores = [
        np.mean(list(train(network, inputs, single, budget)), axis=0)
        for budget in BUDGETS
    ]
    return np.array(scores).T


def train(
    network: InvariantNetwork, inputs: Floats, single: Bools, budget: int
) -> Iterator[tuple[float, ...]]:
    """Give scores for draws of labels.

    Best F1, that at the threshold which the labels choose, calibration error above
    chance, and coverage.
    """
    rng = np.random.default_rng(budget)
    for _ in range(N_DRAWS if budget < N_POOL else 1):
        drawn = rng.permutation(N_POOL)[:budget]
        while min(single[drawn].sum(), (~single[drawn]).sum()) < 5:
            drawn = rng.permutation(N_POOL)[:budget]
        layer = network.build()
        out_of_fold = fit_head(layer, inputs[drawn], single[drawn])
        raw = predict_inputs(layer, inputs)
        others = np.setdiff1d(np.arange(N_POOL), drawn)
        curve = fit_calibration_in_stack(out_of_fold, single[drawn], raw[others])
        judged, truth = curve.apply(raw[N_POOL:]), single[N_POOL:]
        precision, recall, _ = precision_recall_curve(truth, raw[N_POOL:])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        error = expected_calibration_error(judged, truth)
        chances = [
            expected_calibration_error(judged, rng.random(judged.size) < judged)
            for _ in range(N_CHANCES)
        ]
        known = curve.apply(out_of_fold), single[drawn]
        own = f1_score(truth, judged >= choose_threshold(*known))
        holds = slider_holds(judged, truth, *known)
        yield float(f1.max()), own, float(error - np.mean(chances)), float(holds)


def slider_holds(
    probability: Floats, truth: Bools, out_of_fold: Floats, single: Bools
) -> bool:
    """Say whether the purity at a promised one lies in the interval beside it."""
    unknown = np.full(len(probability), np.nan)
    words = np.where(single, "single", "other")
    curve = expect_purity(
        np.concatenate([probability, out_of_fold]).astype(np.float32),
        np.concatenate([unknown, out_of_fold]).astype(np.float32),
        np.concatenate([np.full(len(probability), ""), words]),
    )
    promised = min(PROMISED, curve.purity.max())
    place = curve.find_purity(promised)
    taken = probability >= curve.threshold[place]
    if not taken.any():
        return True
    return bool(curve.low[place] <= truth[taken].mean() <= curve.high[place])


def draw_particle_kind(seed: int, body: str) -> tuple[Sample, Bools]:
    """Draw what may come before a detector, and which of its pixels are bad."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([2, 2, 1.5, 1.5])
    while shares[:2].min() < 0.1:
        shares = rng.dirichlet([2, 2, 1.5, 1.5])

    photons = draw_evenly(rng, 5_000, 60_000)
    sample = Sample(
        **dict(zip(CLASSES, shares.tolist(), strict=True)),
        body=body,
        body_seed=seed,
        weak_share=rng.uniform(0, 0.4),
        close_share=rng.uniform(0, 0.6),
        size_nm=draw_evenly(rng, 45, 100),
        size_spread=draw_evenly(rng, 0.01, 0.05),
        lumpiness=rng.uniform(0.02, 0.08),
        photons=photons,
        fluence_spread=rng.uniform(0.3, 0.8),
        background=draw_evenly(rng, 300, 5_000),
        focus_nm=draw_evenly(rng, 300, 900),
        jitter_px=float(rng.choice([0, 0.5, 1])),
        drift_px=float(rng.choice([0, 1])),
        fluence_drift=float(rng.choice([0, 0.4])),
        background_drift=float(rng.choice([0, 0.7])),
        streak_share=float(rng.choice([0, 0.1])),
        read_noise=float(rng.choice([0, 0.1])),
    )
    return sample, make_masks()[rng.integers(4)]


def make_masks() -> list[Bools]:
    """Return a pnCCD, 2 × 2 gaps, a round beam stop with its wire, a lost quadrant."""
    row, column = np.indices(DETECTOR.shape)
    down, right = row - DETECTOR.centre[0], column - DETECTOR.centre[1]
    radius = np.hypot(down, right)
    wire = (np.abs(down - 0.15 * right) < 0.8) & (right > 0)
    gaps = (np.abs(row - 65 + 3) < 2) | (np.abs(column - 64 - 5) < 4)
    quadrant = (down < 0) & (right > 0)
    return [
        pnccd_bad_pixels(DETECTOR.shape),
        gaps,
        (radius < 6.5) | wire,
        quadrant | (radius < 3),
    ]


TABLES = {
    "scores": (judge_kind, SCORES),
    "knowable": (judge_knowable, ("multiple", "other", "F1 at most")),
    "ranking": (judge_ranking, (*METRICS, "chosen by the labels")),
}


if __name__ == "__main__":
    main()
