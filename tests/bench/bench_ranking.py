"""Time the ranking beside plain reading of the same file, in one run; show ratios.

    python tests/bench/bench_ranking.py [--quick] [--quality]

Every figure comes from a process of its own, which reports its time and its peak memory
above the interpreter with everything imported. Times depend on the machine and on who
else uses it; ratios of times taken one after the other less so. Where others keep all
cores busy, the ratio of CPU times is the fairer one, halved for two cores.
"""

import argparse
import multiprocessing
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import ndimage

from helpers.patterns import open_patterns
from helpers.simulate import (
    SAMPLES,
    Detector,
    Simulation,
    pnccd_bad_pixels,
    simulate_patterns,
)
from helpers.templates import METRICS, rank_patterns
from helpers.templates.article import (
    nearest_in_set,
    rotate_templates,
    scale_to_255,
)

SHAPE = (260, 257)
MASK = "/mask != 0"
REPEATS = 3
ANGLES = np.arange(36) * 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute")
    parser.add_argument("--quality", action="store_true", help="average precision too")
    options = parser.parse_args()
    sizes = [500, 2_000] if options.quick else [1_000, 10_000, 30_000]
    n_hits = [20, 100] if options.quick else [20, 200, 1_000]
    with tempfile.TemporaryDirectory() as folder:
        files = {n: Path(folder) / f"{n}.h5" for n in fitting(sizes, Path(folder))}
        for n, path in files.items():
            write_stack(path, n)
        bench_speed(files, n_hits)
        bench_article(files[min(files)], n_hits[:2])
    if options.quality:
        bench_quality(list(SAMPLES)[:3] if options.quick else list(SAMPLES))


def fitting(sizes: list[int], folder: Path) -> list[int]:
    """Leave out sizes for which the disk has no room twice over."""
    room = shutil.disk_usage(folder).free / 2
    fit = [n for n in sizes if 2 * n * 4 * SHAPE[0] * SHAPE[1] < room]
    for n in sorted(set(sizes) - set(fit)):
        print(f"{n} patterns left out: the disk has no room")
    return fit


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


def rotate(n_hits: int) -> None:
    images = simulate_patterns(min(n_hits, 20), seed=1).patterns
    for _ in range(0, n_hits, len(images)):
        rotate_templates(images, ANGLES)


class Cost(NamedTuple):
    """What a piece of work took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(work: Callable[..., None], *arguments: Any) -> Cost:
    """Run in a process of its own, up to three times; give the least times."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_here, (work, arguments))


def _measure_here(work: Callable[..., None], arguments: tuple[Any, ...]) -> Cost:
    before, seconds, cpu_seconds = peak_mb(), [], []
    while len(seconds) < REPEATS and sum(seconds) < 20:
        cpu_start = time.process_time()
        seconds.append(timed(work, *arguments))
        cpu_seconds.append(time.process_time() - cpu_start)
    return Cost(min(seconds), min(cpu_seconds), peak_mb() - before)


def peak_mb() -> float:
    """Read the largest memory so far; getrusage would include the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024


def bench_speed(files: dict[int, Path], n_hits: list[int]) -> None:
    print("\nrotation metric beside plain reading with h5py; ms per pattern")
    print("patterns  hits  reading  ranking  ratio  CPU: reading  ranking  peak MB")
    for n, path in files.items():
        read_plainly(path)  # into the page cache
        for hits in (h for h in n_hits if h < n):
            reading = measure(read_plainly, path)
            ranking = measure(rank, path, hits, "rotation")
            print(
                f"{n:8d} {hits:5d} {reading.seconds / n * 1e3:8.3f}"
                f" {ranking.seconds / n * 1e3:8.3f}"
                f" {ranking.seconds / reading.seconds:6.1f}"
                f" {reading.cpu_seconds / n * 1e3:13.3f}"
                f" {ranking.cpu_seconds / n * 1e3:8.3f} {ranking.peak_mb:8.0f}"
            )


def bench_article(path: Path, n_hits: list[int]) -> None:
    loop = loop_seconds()
    product, sgemm = product_and_sgemm_seconds()
    print("\narticle's metric, per pattern and template with its 36 rotations:")
    print(f"loop {loop * 1e3:.1f} ms, extrapolated from 3 patterns and one template")
    print(
        f"product {product * 1e3:.4f} ms, {loop / product:.0f} times faster,"
        f" {sgemm / product:.0%} of this machine's SGEMM"
    )
    with h5py.File(path) as file:
        n = len(file["patterns"])
    print("hits  rotating s  all in all s  ms per pattern  peak MB")
    for hits in n_hits:
        whole, rotating = measure(rank, path, hits, "article"), measure(rotate, hits)
        print(
            f"{hits:4d} {rotating.seconds:11.1f} {whole.seconds:13.1f}"
            f" {whole.seconds / n * 1e3:15.2f} {whole.peak_mb:8.0f}"
        )


def product_and_sgemm_seconds(n_hits: int = 20) -> tuple[float, float]:
    """Time the comparison, and its bare matrix product, in turn."""
    images = scale_to_255(simulate_patterns(400, seed=1).patterns)
    templates = rotate_templates(images[:n_hits], ANGLES)
    flat, templates = images.reshape(len(images), -1), templates.reshape(-1, 66_820)
    none_yet = np.full(len(flat), np.inf)
    seconds = [
        (timed(nearest_in_set, flat, templates, none_yet), timed(np.dot, flat, many))
        for many in [templates.T] * (REPEATS + 1)
    ]
    product, sgemm = np.min(seconds, axis=0) / len(flat) / n_hits
    return float(product), float(sgemm)


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


def bench_quality(names: list[str], n_hits: int = 50, n_seeds: int = 3) -> None:
    print(f"\naverage precision for singles, {n_hits} templates, {n_seeds} seeds")
    print("sample    " + "".join(f"{metric:>22}" for metric in METRICS))
    for name in names:
        scores = [score(name, seed, n_hits) for seed in range(n_seeds)]
        columns = zip(*scores, strict=True)
        texts = (f"{np.mean(c):.3f} ({min(c):.3f}-{max(c):.3f})" for c in columns)
        print(f"{name:10}" + "".join(f"{text:>22}" for text in texts))


def score(name: str, seed: int, n_hits: int) -> list[float]:
    """Rank a simulated sample with each metric; return the average precisions."""
    n = 2_400 if name == "rare" else 800
    simulation = simulate_patterns(n, seed=1_000 + seed, sample=name)
    singles = np.flatnonzero(simulation.truth == "single")
    hits = np.random.default_rng(seed).permutation(singles)[:n_hits]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        write_simulation(path, simulation)
        with open_patterns(path, bad_pixels=f"{path}:{MASK}") as patterns:
            rankings = [rank_patterns(patterns, hits, metric) for metric in METRICS]
    is_single = simulation.truth == "single"
    return [average_precision(is_single[ranking.index]) for ranking in rankings]


def write_simulation(path: Path, simulation: Simulation) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = simulation.patterns
        file["mask"] = pnccd_bad_pixels(SHAPE).astype(np.uint8)


def average_precision(best_first: np.ndarray) -> float:
    """Average the precision over the places of the singles."""
    found = np.cumsum(best_first) / np.arange(1, len(best_first) + 1)
    return float(found[best_first].mean())


if __name__ == "__main__":
    main()
