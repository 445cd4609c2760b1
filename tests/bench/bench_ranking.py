"""Time the ranking beside plain reading of the same file, in one run; show ratios.

    python tests/bench/bench_ranking.py [--sizes N …] [--hits N …] [--quick]
    python tests/bench/bench_ranking.py --quality [--seeds N] [--quick]

Prints tables in Markdown. Every figure comes from a process of its own, which reports
its time and its peak memory above the interpreter with everything imported. Times
depend on the machine and on who else uses it; ratios of times taken one after the other
less so. `--quality` measures how well single hits are ranked instead: on simulated
samples with seeds that no setting was chosen with, and on measured patterns.
"""

import argparse
import multiprocessing
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import ndimage

from helpers.patterns import open_patterns
from helpers.physics import PolarGrid
from helpers.ranking import METRICS, rank_patterns, rotate_templates, scale_to_255
from helpers.simulate import (
    SAMPLES,
    Detector,
    Simulation,
    pnccd_bad_pixels,
    simulate_patterns,
)

SHAPE = (260, 257)
MASK = "/mask != 0"
REPEATS = 3
TURNS = 5
ANGLES = np.arange(36) * 5.0
MOST_PAIRS = 400_000  # of patterns and templates' hits that the article compares here
FIRST_SEED = 3_001  # no setting was chosen with this one and those after it
REAL = Path(__file__).parents[3] / "shared" / "real"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 30_000])
    parser.add_argument("--hits", type=int, nargs="+", default=[20, 200, 1_000])
    parser.add_argument("--quality", action="store_true", help="average precision")
    parser.add_argument("--seeds", type=int, default=3, help="for --quality")
    options = parser.parse_args()
    if options.quality:
        names = list(SAMPLES)[:2] if options.quick else list(SAMPLES)
        bench_samples(names, range(FIRST_SEED, FIRST_SEED + options.seeds))
        bench_measured(REAL / "pr772_30.h5")
    else:
        if options.quick:
            options.sizes, options.hits = [500, 2_000], [20, 100]
        bench_speed(options.sizes, options.hits)
        bench_article()


# Speed


def bench_speed(sizes: list[int], n_hits: list[int]) -> None:
    """Compare the article's loop, its matrix product and the rotation metric."""
    loop = loop_seconds()
    print(
        f"\nSeconds, and how many times as long as plain reading with h5py, for float32"
        f" patterns of {SHAPE[0]} × {SHAPE[1]} in the page cache. ≈ is extrapolated:"
        " the article's loop from 3 patterns and one hit with its 36 rotations, its"
        " matrix product from fewer patterns. MB: peak memory of matrix product and"
        " rotation metric above the interpreter.\n\n"
        "| patterns | hits | reading | article's loop | matrix product | rotation |"
        " MB |\n|---:|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for n, path in stacks(sizes, Path(folder)):
            for hits in (h for h in n_hits if h < n):
                reading, rotation = measure_in_turn(path, hits)
                product, n_compared = measure_product(path, n, hits)
                cells = [
                    f"{n:,}",
                    f"{hits:,}",
                    f"{reading:.2f}",
                    "≈ " + beside(loop * n * hits, reading),
                    "≈ " * (n_compared < n) + beside(product.seconds, reading),
                    f"**{beside(rotation.seconds, reading)}**",
                    f"{product.peak_mb:.0f}, {rotation.peak_mb:.0f}",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


def beside(seconds: float, reading: float) -> str:
    """Give a time in a handy unit, and how many times as long as reading it is."""
    units = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
    unit, size = next((u for u in units.items() if seconds >= 3 * u[1]), ("s", 1))
    ratio = seconds / reading
    return f"{seconds / size:.3g} {unit} ({ratio:{',.0f' if ratio >= 100 else '.3g'}})"


def stacks(sizes: list[int], folder: Path) -> Iterator[tuple[int, Path]]:
    """Write a file of each size in turn, read it once, and remove it afterwards."""
    for n in sizes:
        if 2 * n * 4 * SHAPE[0] * SHAPE[1] > shutil.disk_usage(folder).free:
            print(f"| {n:,} | left out: the disk has no room |")
            continue
        path = folder / f"{n}.h5"
        write_stack(path, n)
        read_plainly(path)  # into the page cache
        yield n, path
        path.unlink()


def write_stack(path: Path, n: int) -> None:
    """Write simulated patterns, the same 500 over and over."""
    patterns = simulate_patterns(min(n, 500), seed=1).patterns
    with h5py.File(path, "w") as file:
        stack = file.create_dataset("patterns", (n, *SHAPE), np.float32)
        for start in range(0, n, len(patterns)):
            stack[start : start + len(patterns)] = patterns[: n - start]
        file["mask"] = pnccd_bad_pixels(SHAPE).astype(np.uint8)


def read_plainly(path: Path) -> None:
    with h5py.File(path) as file:
        stack = file["patterns"]
        for start in range(0, len(stack), 500):
            stack[start : start + 500]


def rank(path: Path, n_hits: int, metric: str) -> None:
    with open_patterns(path, bad_pixels=f"{path}:{MASK}") as patterns:
        rank_patterns(patterns, range(n_hits), metric, centre=Detector().centre)


class Cost(NamedTuple):
    """What a piece of work took."""

    seconds: float
    peak_mb: float


def measure(work: Callable[..., None], *arguments: Any) -> Cost:
    """Run in a process of its own, up to three times; give the least time."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_here, (work, arguments))


def measure_in_turn(path: Path, n_hits: int) -> tuple[float, Cost]:
    """Read plainly and rank, in turn, in a process of its own; give the least times.

    A machine that others use too is now slower and now faster: what is compared has to
    be timed at the same time.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_in_turn_here, (path, n_hits))


def _measure_in_turn_here(path: Path, n_hits: int) -> tuple[float, Cost]:
    before = peak_mb()
    ranking = [timed(rank, path, n_hits, "rotation")]
    peak, reading = peak_mb() - before, []
    for _ in range(TURNS):
        reading.append(timed(read_plainly, path))
        ranking.append(timed(rank, path, n_hits, "rotation"))
    return min(reading), Cost(min(ranking), peak)


def _measure_here(work: Callable[..., None], arguments: tuple[Any, ...]) -> Cost:
    before, seconds = peak_mb(), []
    while len(seconds) < REPEATS and sum(seconds) < 20:
        seconds.append(timed(work, *arguments))
    return Cost(min(seconds), peak_mb() - before)


def measure_product(path: Path, n: int, n_hits: int) -> tuple[Cost, int]:
    """Rank by the article's metric; from fewer patterns where that takes minutes."""
    n_compared = max(n_hits + 1, min(n, MOST_PAIRS // n_hits))
    if n_compared == n:
        return measure(rank, path, n_hits, "article"), n
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / "part.h5"
        write_stack(part, n_compared)
        cost = measure(rank, part, n_hits, "article")
        rotating = rotating_seconds(n_hits)
    comparing = max(cost.seconds - rotating, 0)
    return cost._replace(seconds=rotating + comparing * n / n_compared), n_compared


@cache
def rotating_seconds(n_hits: int) -> float:
    return measure(rotate, n_hits).seconds


def rotate(n_hits: int) -> None:
    images = simulate_patterns(min(n_hits, 50), seed=1).patterns
    for _ in range(0, n_hits, len(images)):
        rotate_templates(images, ANGLES)


def peak_mb() -> float:
    """Read the largest memory so far; getrusage would include the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024


def timed(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def loop_seconds() -> float:
    """Time the article's own loop for one pattern and the rotations of one hit."""
    images = scale_to_255(simulate_patterns(4, seed=1).patterns).astype(np.float64)
    templates = [ndimage.rotate(images[3], angle, reshape=False) for angle in ANGLES]

    def nearest(image: np.ndarray) -> float:
        return min(np.linalg.norm(image - template) for template in templates)

    return min(timed(nearest, image) for image in images[:3])


def bench_article(n_patterns: int = 4_000, n_hits: int = 100) -> None:
    """Compare with the same product by the library alone, on all cores, in turn."""
    rotating = rotating_seconds(n_hits)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.h5" for n in (n_patterns // 2, n_patterns)]
        write_stack(paths[0], n_patterns // 2)
        write_stack(paths[1], n_patterns)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            comparing, product = pool.apply(product_seconds, (*paths, n_hits))
    print(
        f"\nArticle's metric, {n_hits} hits: {rotating:.1f} s to rotate them;"
        f" {comparing:.1f} s to read and compare {n_patterns // 2:,} patterns, which is"
        f" {product / comparing:.0%} of the speed of the bare matrix product (SGEMM)."
    )


def product_seconds(half: Path, whole: Path, n_hits: int) -> tuple[float, float]:
    """Time what the second half of the patterns adds, and SGEMM for as many."""
    seconds: dict[str, list[float]] = {"half": [], "whole": [], "product": []}
    for _ in range(REPEATS):
        seconds["half"].append(timed(rank, half, n_hits, "article"))
        seconds["whole"].append(timed(rank, whole, n_hits, "article"))
        seconds["product"].append(sgemm_seconds(400, 36 * n_hits))
    least = {name: min(times) for name, times in seconds.items()}
    with h5py.File(half) as file:
        n_products = len(file["patterns"]) / 400
    return least["whole"] - least["half"], least["product"] * n_products


def sgemm_seconds(n: int, n_templates: int) -> float:
    images = np.ones((n, SHAPE[0] * SHAPE[1]), np.float32)
    templates = np.ones((n_templates, SHAPE[0] * SHAPE[1]), np.float32)
    return min(timed(np.dot, images, templates.T) for _ in range(REPEATS))


# Quality


def bench_samples(names: list[str], seeds: range, n_hits: int = 50) -> None:
    columns = [*METRICS, "polar cosine"]
    print(
        f"\nAverage precision for single hits, {n_hits} templates: mean (lowest to"
        f" highest) of the seeds {seeds[0]} to {seeds[-1]}, which took no part in"
        f" choosing any setting.\n\n| sample | {' | '.join(columns)} |\n"
        f"|---|{'---:|' * len(columns)}"
    )
    for name in names:
        scores = np.array([score(name, seed, n_hits) for seed in seeds])
        cells = [f"{s.mean():.3f} ({s.min():.3f}–{s.max():.3f})" for s in scores.T]
        print(f"| {' | '.join([name, *cells])} |", flush=True)


def score(name: str, seed: int, n_hits: int) -> list[float]:
    """Rank a simulated sample in all ways; return the average precisions."""
    n = 2_400 if name == "rare" else 800
    simulation = simulate_patterns(n, seed=seed, sample=name)
    is_single = simulation.true_labels == "single"
    singles = np.flatnonzero(is_single)
    hits = np.random.default_rng(seed).permutation(singles)[:n_hits]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        write_simulation(path, simulation)
        with open_patterns(path, bad_pixels=f"{path}:{MASK}") as patterns:
            orders = [rank_patterns(patterns, hits, m).index for m in METRICS]
            orders.append(order_by_cosine(patterns[:], hits, patterns.bad_pixels))
    return [average_precision(is_single[order]) for order in orders]


def write_simulation(path: Path, simulation: Simulation) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = simulation.patterns
        file["mask"] = pnccd_bad_pixels(SHAPE).astype(np.uint8)


def order_by_cosine(
    patterns: np.ndarray, hits: np.ndarray, bad_pixels: np.ndarray
) -> np.ndarray:
    """Order by the largest plain cosine of polar maps over all rotations."""
    maps = PolarGrid(SHAPE, Detector().centre, bad_pixels).average(patterns)
    maps *= np.sqrt(np.arange(maps.shape[1]) + 0.5)[:, None]
    maps /= np.maximum(np.linalg.norm(maps, axis=(1, 2), keepdims=True), 1e-9)
    spectra = np.fft.rfft(maps)
    cosine = np.full(len(maps), -1.0)
    for hit in hits:
        products = np.einsum("nrh,rh->nh", spectra, spectra[hit].conj())
        np.maximum(cosine, np.fft.irfft(products).max(axis=1), out=cosine)
    others = np.setdiff1d(np.arange(len(maps)), hits)
    return others[np.argsort(-cosine[others], kind="stable")]


def average_precision(best_first: np.ndarray) -> float:
    """Average the precision over the places of the singles."""
    found = np.cumsum(best_first) / np.arange(1, len(best_first) + 1)
    return float(found[best_first].mean())


def bench_measured(path: Path) -> None:
    """Rank measured, labelled patterns, each left out of the templates in turn."""
    if not path.exists():
        print(f"\nmeasured patterns left out: {path} is not there")
        return
    with h5py.File(path) as file:
        is_single = file["labels"][:] == 1
    with open_patterns(path) as patterns:
        scores = {m: -leave_one_out(patterns, is_single, m) for m in METRICS}
        scores["photon counts"] = patterns[:].sum(axis=(1, 2))
    areas = {name: area_under(s, is_single) for name, s in scores.items()}
    draws = list(bootstrap(is_single))
    drawn = {
        n: [area_under(s[d], is_single[d]) for d in draws] for n, s in scores.items()
    }
    print(
        f"\n{len(is_single)} measured patterns of PR772, {is_single.sum()} of them"
        " single hits, each ranked by the others: area under the curve, with the 95 %"
        " interval of 2,000 bootstrap samples.\n\n| | area | interval |\n"
        "|---|---:|---:|"
    )
    drawn["rotation less photon counts"] = np.subtract(
        drawn["rotation"], drawn["photon counts"]
    ).tolist()
    areas["rotation less photon counts"] = areas["rotation"] - areas["photon counts"]
    for name, area in areas.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        print(f"| {name} | {area:.2f} | {low:.2f} to {high:.2f} |")


def leave_one_out(patterns: Any, is_single: np.ndarray, metric: str) -> np.ndarray:
    """Give each pattern's distance from the singles other than itself."""
    distance = np.empty(len(patterns))
    for number in range(len(patterns)):
        hits = np.setdiff1d(np.flatnonzero(is_single), number)
        ranking = rank_patterns(patterns, hits, metric)
        distance[number] = ranking.distance[ranking.index == number][0]
    return distance


def area_under(scores: np.ndarray, is_single: np.ndarray) -> float:
    """Count the pairs of a single and another that are in the right order."""
    above = np.sign(scores[is_single][:, None] - scores[~is_single])
    return float((above.mean() + 1) / 2)


def bootstrap(is_single: np.ndarray, n_draws: int = 2_000) -> Iterator[np.ndarray]:
    """Draw as many singles and others as there are, again and again."""
    rng = np.random.default_rng(0)
    groups = np.flatnonzero(is_single), np.flatnonzero(~is_single)
    for _ in range(n_draws):
        yield np.concatenate([rng.choice(group, len(group)) for group in groups])


if __name__ == "__main__":
    main()
