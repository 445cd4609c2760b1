"""What is lost when nobody hands over the mask? Found bad pixels beside the true ones.

Run `make bench-masks`, or `python tests/bench/bench_masks.py --quick`; single lines by
`--kind`, `--photons` and `--mask`. Stacks of a whole detector are simulated, then a
mask is put on them: its pixels get a fill value, some others are dead, hot or
flickering. The same file is opened without a mask, as 01 does, and with the true one.
F1 is the best one on patterns that were not labelled, the mean over the same draws of
labels; average precision is that of ranking by 50 templates. "Without" leaves nothing
out, to show what there is to lose.

`--development` shows the kinds whose F1 and average precision were looked at while
thresholds were chosen; those of the others were looked at once. Which pixels are found
was seen on spheres, cubes and rods too, mostly of other sizes and brightness, and on
masks of the same sorts: spheroids alone took no part in anything.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from helpers import experiment
from helpers.classifier import InvariantNetwork
from helpers.classifier.kernel_head import fit_head
from helpers.classifier.network_base import predict_inputs
from helpers.classifier.networks import make_head
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import rank_patterns
from helpers.simulate import Detector, FarField, pnccd_bad_pixels
from helpers.simulate.exposures import scattered_intensity
from helpers.simulate.particles import (
    Ellipsoid,
    Polyhedron,
    Shape,
    draw_body,
    draw_direction,
    draw_lumps,
    draw_rotation,
    equal_edge_nm,
    equal_sphere_nm,
    sphere,
)
from helpers.simulate.sample import Particle

DETECTOR = Detector.of_shape((130, 128))
PHOTONS = (2_000, 10_000, 100_000)
JUDGED = ("spheroid", "cube", "rod")
DEVELOPMENT = ("icosahedron", "octahedron")
SIZE_NM = 69.0
BACKGROUND = 300  # photons
CLASSES = ("single", "multiple", "other", "blank")
SHARES = (0.3, 0.4, 0.2, 0.1)
N_POOL = 700
N_JUDGED = 1_300
BUDGETS = (50, 200)
N_DRAWS = 5
N_TEMPLATES = 50

Bools = NDArray[np.bool_]
Words = NDArray[np.str_]


class Scores(NamedTuple):
    """Of one way to leave pixels out."""

    f1: tuple[float, ...]  # for each of BUDGETS
    average_precision: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="one kind, one brightness")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--kind", action="append", help="only these particles")
    parser.add_argument("--photons", action="append", type=int, help="only so bright")
    parser.add_argument("--mask", action="append", help="only these masks")
    parser.add_argument("--seed", type=int, default=4001)
    options = parser.parse_args()
    kinds = options.kind or (DEVELOPMENT if options.development else JUDGED)
    photons = options.photons or PHOTONS
    masks = options.mask or list(make_masks())
    if options.quick:
        kinds, photons = kinds[:1], photons[1:2]
    warnings.simplefilter("ignore")
    print(
        "| particles | photons | mask | found | good lost "
        "| F1, 50: true | found | without | F1, 200: true | found | without "
        "| AP: true | found | without |\n"
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    worst = np.zeros(4)
    for kind in kinds:
        for n in photons:
            for row, losses in compare(kind, n, options.seed, masks):
                print(row, flush=True)
                worst = np.maximum(worst, losses)
    print(
        f"\nLargest losses: F1 from 50 labels {worst[0]:.3f}, from 200 {worst[1]:.3f}, "
        f"average precision {worst[2]:.3f}; good pixels left out {worst[3]:.2%}."
    )


def compare(
    kind: str, photons: float, seed: int, masks: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Give a line of the table for each mask, and what is lost."""
    patterns, words = simulate(kind, photons, seed)
    for name in masks:
        mask, value = make_masks()[name]
        recorded, bad = spoil(patterns, mask, value)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "patterns.h5"
            with h5py.File(path, "w") as file:
                file["patterns"] = recorded
            with open_patterns(path) as stack:
                found = find(stack)
                true, ours, without = (
                    score(stack.with_bad_pixels(pixels), words)
                    for pixels in (bad, found, np.zeros_like(bad))
                )
        lost = (found & ~bad).sum() / (~bad).sum()
        cells = [
            kind,
            f"{photons:,}",
            name,
            f"{found[bad].mean():.1%}",
            f"{lost:.2%}",
            *(f"{f1:.3f}" for f1 in np.ravel([true.f1, ours.f1, without.f1], "F")),
            *(f"{each.average_precision:.3f}" for each in (true, ours, without)),
        ]
        losses = [
            *np.subtract(true.f1, ours.f1),
            true.average_precision - ours.average_precision,
            lost,
        ]
        yield f"| {' | '.join(cells)} |", np.array(losses)


def find(patterns: Patterns) -> Bools:
    """Return what 01 leaves out by default."""
    lit = experiment.suggest_lit_threshold(patterns)
    measured = experiment.measure_patterns(patterns, lit)
    found = experiment.find_bad_pixels(measured, patterns.bad_pixels)
    return experiment.accept_bad_pixels(found)


def score(patterns: Patterns, words: Words) -> Scores:
    """Train on some labels and rank by some templates."""
    single = words == "single"
    network = InvariantNetwork.for_patterns(patterns)
    inputs = np.concatenate([part for _, part in patterns.map(network.make_inputs)])
    f1 = tuple(float(np.mean(list(train(inputs, single, n)))) for n in BUDGETS)
    templates = np.flatnonzero(single)[:N_TEMPLATES]
    ranking = rank_patterns(patterns, templates, centre=network.centre)
    precision = average_precision_score(single[ranking.index], -ranking.distance)
    return Scores(f1, float(precision))


def train(inputs: NDArray[np.floating], single: Bools, budget: int) -> Iterator[float]:
    """Give the best F1 for several draws of labels, the same for all masks."""
    rng = np.random.default_rng(budget)
    for _ in range(N_DRAWS):
        drawn = rng.permutation(N_POOL)[:budget]
        while min(single[drawn].sum(), (~single[drawn]).sum()) < 5:
            drawn = rng.permutation(N_POOL)[:budget]
        model = make_head(inputs.shape[1], with_encoder=True)
        fit_head(model, inputs[drawn], single[drawn])
        output = predict_inputs(model, inputs[N_POOL:])
        precision, recall, _ = precision_recall_curve(single[N_POOL:], output)
        yield float(
            (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
        )


# Masks


def make_masks() -> Mapping[str, tuple[Bools, int]]:
    """Return masks, and the value that their pixels have."""
    rows, columns = DETECTOR.shape
    row, column = np.indices(DETECTOR.shape)
    down, right = row - DETECTOR.centre[0], column - DETECTOR.centre[1]
    radius = np.hypot(down, right)
    wire = (abs(down - 0.15 * right) < 0.8) & (right > 0)
    gaps = (abs(row - rows // 2 + 3) < 2) | (abs(column - columns // 2 - 5) < 4)
    return {
        "pnCCD": (pnccd_bad_pixels(DETECTOR.shape), 0),
        "2 × 2 gap": (gaps, 65_535),
        "round beam stop, wire": ((radius < 6.5) | wire, 0),
        "missing quadrant": ((down < 0) & (right > 0), -1),
    }


def spoil(
    patterns: NDArray[np.int32], mask: Bools, value: int
) -> tuple[NDArray[np.int32], Bools]:
    """Put a mask on patterns, and some dead, hot and flickering pixels beside it."""
    rng = np.random.default_rng(7)
    spoilt, bad = patterns.copy(), mask.copy()
    good = rng.permutation(np.flatnonzero(~mask))
    dead, hot, flickering = (
        np.unravel_index(each, mask.shape) for each in good[:30].reshape(3, 10)
    )
    spoilt[:, *dead] = 0
    spoilt[:, *hot] += rng.poisson(200, (len(patterns), 10)).astype(np.int32)
    flashes = rng.random((len(patterns), 10)) < 0.03
    spoilt[:, *flickering] += (flashes * rng.poisson(300, flashes.shape)).astype(
        np.int32
    )
    for pixels in (dead, hot, flickering):
        bad[pixels] = True
    spoilt[:, mask] = value
    return spoilt, bad


# Patterns on every pixel


def simulate(kind: str, photons: float, seed: int) -> tuple[NDArray[np.int32], Words]:
    """Return photon counts on a detector without a mask, and their classes."""
    far_field = FarField(DETECTOR)
    seen = ~pnccd_bad_pixels(DETECTOR.shape)
    q_squared = far_field.q_rows_inv_nm**2 + far_field.q_columns_inv_nm**2
    around_beam = 1 / (1 + q_squared / 0.1**2)
    flat = 1 / q_squared.size + around_beam / around_beam.sum()
    rng = np.random.default_rng(seed)
    typical = Particle(draw_shape(kind, rng, SIZE_NM), SIZE_NM)
    usual = scattered_intensity((typical,), far_field)[seen].sum()
    patterns = np.empty((N_POOL + N_JUDGED, *DETECTOR.shape), np.int32)
    words = rng.choice(CLASSES, len(patterns), p=SHARES)
    for pattern, word in zip(patterns, words, strict=True):
        fluence = np.exp(rng.normal(scale=0.5))
        particles = tuple(draw_particles(kind, word, rng))
        expected = flat * BACKGROUND / 2
        if particles:
            intensity = scattered_intensity(particles, far_field)
            of_all = intensity[seen].sum() if word == "other" else usual
            expected = expected + intensity * (photons / of_all)
        pattern[...] = rng.poisson(expected * fluence)
    return patterns, words


def draw_particles(
    kind: str, word: str, rng: np.random.Generator
) -> Iterator[Particle]:
    """Draw what is in the beam: one of the kind, several, or something else."""
    if word in {"single", "multiple"}:
        yield draw_one(kind, rng)
    if word == "other":
        other = rng.choice(["sphere", "wrong size", "brick"])
        size_nm = SIZE_NM * np.exp(rng.choice([-1, 1]) * rng.uniform(0.2, 0.6))
        shape = draw_shape(kind if other == "wrong size" else other, rng, size_nm)
        yield Particle(shape, size_nm)
    if word != "multiple":
        return
    how = rng.choice(["weak second", "close pair", "several"], p=[0.2, 0.4, 0.4])
    if how == "close pair":
        apart = SIZE_NM * rng.uniform(0.9, 1.3) * draw_direction(rng)
        yield draw_one(kind, rng, apart)
        return
    for _ in range(1 if how == "weak second" else rng.choice([1, 2, 3])):
        apart = np.append(rng.uniform(-300, 300, 2), 0)
        weakest, strongest = (0.02, 0.2) if how == "weak second" else (0.2, 1)
        yield draw_one(kind, rng, apart, rng.uniform(weakest, strongest))


def draw_one(
    kind: str,
    rng: np.random.Generator,
    position_nm: NDArray[np.float64] | None = None,
    fluence: float = 1.0,
) -> Particle:
    """Draw a particle of the kind."""
    size_nm = SIZE_NM * np.exp(rng.normal(scale=0.02))
    place = np.zeros(3) if position_nm is None else position_nm
    return Particle(draw_shape(kind, rng, size_nm), size_nm, place, fluence)


def draw_shape(kind: str, rng: np.random.Generator, size_nm: float) -> Shape:
    """Draw a particle in any orientation."""
    turned = draw_rotation(rng)
    if kind == "sphere":
        return sphere(0.8 * size_nm)
    if kind == "spheroid":
        return Ellipsoid(np.array([0.95, 0.95, 1.1]) * 0.4 * size_nm, turned)
    if kind == "icosahedron":
        body, edge_nm = draw_body(kind, 0), equal_edge_nm(size_nm)
        lumps = draw_lumps(rng, equal_sphere_nm(size_nm) / 2, edge_nm, 0.04)
        return body.place(edge_nm, turned, lumps)
    if kind == "octahedron":
        corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T / np.sqrt(3)
        return convex(corners, np.full(8, size_nm / 2 / np.sqrt(3)), turned, size_nm)
    edges = {"cube": [0.8, 0.8, 0.8], "rod": [0.4, 0.4, 1.2]}
    lengths = edges.get(kind) or rng.uniform(0.4, 1.4, 3)
    half_nm = np.array(lengths) * size_nm / 2
    normals = np.vstack([np.eye(3), -np.eye(3)])
    reach_nm = float(2 * np.linalg.norm(half_nm))
    return convex(normals, np.tile(half_nm, 2), turned, reach_nm)


def convex(
    normals: NDArray[np.float64],
    distances_nm: NDArray[np.float64],
    turned: NDArray[np.float64],
    across_nm: float,
) -> Polyhedron:
    """Return what lies behind all planes, turned."""
    return Polyhedron(normals @ turned.T, distances_nm, across_nm / 2)


if __name__ == "__main__":
    main()
