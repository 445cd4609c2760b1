"""What a cluster costs: workers against threads, and a scheduler with 200 workers.

Run `make bench-beamtime`, or `python tests/bench/bench_cluster.py --only overhead`.

`overhead`: measuring, ranking by 200 hits and predicting, in threads of this process
and on `local:2`, in turn; seconds on the clock, and of CPU in all processes. Patterns
are of 260 × 257, 300 of them repeated by a virtual dataset: all lie in the page cache.

`scheduler`: 200 workers that sleep for as long as a block takes, in a process of their
own, and `run_parts` over a plan of 10⁸ patterns, of which the first blocks are done.
The scheduler is in the caller's process, as with `slurm`: what both take per block is
what limits a cluster. The process of the workers stands for 200 machines, so workers
do not watch themselves here, which would take all of a core. Memory is what the caller
and scheduler have more at the end, and halfway, than when the first results came.
"""

import argparse
import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from helpers import classifier
from helpers.experiment import measure_patterns
from helpers.patterns import Patterns, cluster, open_patterns, scan, use_cluster
from helpers.ranking import rank_patterns
from helpers.simulate import write_simulated

PARTS = ("overhead", "scheduler")
N_PATTERNS, N_HITS, N_LABELS, N_ROUNDS = 30_000, 200, 240, 2
N_FEW = 300
PLANNED = 10**8
PATTERN_BYTES = 4 * 260 * 257
N_WORKERS, N_BLOCKS = 200, 4_000
SLEEPS_S = (4.0, 1.0)  # what a block took to measure, and a quarter
WATCH_LITTLE = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "10s",
    "distributed.admin.system-monitor.interval": "60s",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--patterns", type=int, default=N_PATTERNS)
    parser.add_argument("--blocks", type=int, default=N_BLOCKS)
    options = parser.parse_args()
    if "overhead" in options.only:
        report_overhead(options.patterns)
    if "scheduler" in options.only:
        report_scheduler(options.blocks)


# --- overhead -------------------------------------------------------------------------


def report_overhead(n: int) -> None:
    """Time each pass in threads and on two workers, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_simulated(folder / "few.h5", N_FEW, seed=1)
        teach(folder)
        patterns = open_patterns(write_many(folder, n))
        passes = list_passes(folder)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(N_ROUNDS):
            for engine in ("", "local:2"):
                begun = time.perf_counter()
                use_cluster(engine)
                took = time.perf_counter() - begun
                print(f"{engine or 'threads'}: {took:.1f} s to start")
                for what, run in passes.items():
                    found.setdefault((what, engine), []).append(take(run, patterns))
        print(
            f"\n| {n:,} patterns | threads, s | local:2, s | threads, CPU s | local:2 |"
        )
        print("|---|---:|---:|---:|---:|")
        for what in passes:
            here, there = (np.min(found[what, e], axis=0) for e in ("", "local:2"))
            cells = [f"{v:.1f}" for v in (here[0], there[0], here[1], there[1])]
            print(f"| {what} | {' | '.join(cells)} |", flush=True)


def write_many(folder: Path, n: int) -> Path:
    """Write the few patterns again and again, each time with more photons."""
    rng = np.random.default_rng(0)
    path = folder / "many.h5"
    with h5py.File(folder / "few.h5") as few, h5py.File(path, "w") as many:
        values = np.minimum(few["patterns"][()], 250).astype(np.uint8)
        shape = values.shape[1:]
        written = many.create_dataset("patterns", (n, *shape), np.uint8)
        written.attrs["unit"] = "photons"
        many["mask"] = few["mask"][()]
        for start in range(0, n, N_FEW):
            some, n_more = values.copy(), 1 + start // N_FEW
            places = rng.integers(0, some[0].size, (N_FEW, n_more))
            np.put_along_axis(some.reshape(N_FEW, -1), places, 3, axis=1)
            written[start : start + N_FEW] = some[: n - start]
    return path


def teach(folder: Path) -> None:
    """Train a model on the few patterns, without the encoder."""
    patterns = open_patterns(folder / "few.h5")
    words = np.where(np.arange(N_FEW) < N_LABELS, patterns.true_labels, "")
    split = classifier.split_labels(words, patterns.file_index)
    network = classifier.make_network("invariant", patterns, encoder=False)
    classifier.train_model(patterns, split, words, folder, network)


def list_passes(folder: Path) -> dict[str, Callable[[Patterns], Any]]:
    """Return what is timed."""
    model = classifier.load_model(folder)

    def predict(patterns: Patterns) -> None:
        out = Path(tempfile.mkdtemp(dir=folder))
        classifier.predict_patterns(patterns, out, folder, model)

    return {
        "measure": lambda patterns: measure_patterns(patterns, 1.0),
        "rank": lambda patterns: rank_patterns(patterns, range(N_HITS)),
        "predict": predict,
    }


def take(run: Callable[[Patterns], Any], patterns: Patterns) -> tuple[float, float]:
    """Return seconds on the clock and of CPU, of this process and all below it."""
    before, begun = cpu_seconds(), time.perf_counter()
    run(patterns)
    return time.perf_counter() - begun, cpu_seconds() - before


def cpu_seconds() -> float:
    """Return what this process and those below it have used."""
    this = psutil.Process()
    each = (p.cpu_times() for p in [this, *this.children(recursive=True)])
    return float(sum(times.user + times.system for times in each))


# --- scheduler ------------------------------------------------------------------------


@dataclass(frozen=True)
class Sleep:
    """Stands for work on a part; the last part of a block takes all the time."""

    seconds: float
    per_block: int

    def __call__(self, part: slice) -> np.ndarray:
        """Return a few numbers for each pattern."""
        time.sleep(self.seconds / self.per_block)
        return np.zeros((part.stop - part.start, 3), np.float32)


def report_scheduler(n_blocks: int) -> None:
    """Print what a block costs the scheduler and the caller."""
    length = scan.PART_BYTES // PATTERN_BYTES
    per_block = scan.LARGEST_BLOCK_BYTES // PATTERN_BYTES // length
    blocks = -(-PLANNED // (length * per_block))
    print(f"\n10⁸ patterns are {blocks:,} blocks of {length * per_block:,} each.\n")
    print(
        "| a block takes | blocks done | workers busy | CPU per block, ms | sent per "
        "block, KiB | memory more, MiB | all of 10⁸, min |\n|---|" + 6 * "---:|"
    )
    for seconds in SLEEPS_S:
        print(
            simulate_scheduler(seconds, length, per_block, n_blocks, blocks), flush=True
        )


def simulate_scheduler(
    seconds: float, length: int, per_block: int, n_blocks: int, blocks: int
) -> str:
    """Let 200 workers sleep; return a row of the table."""
    cluster._import_client()  # sets how much a scheduler remembers, as in the package
    from distributed import LocalCluster

    scheduler = LocalCluster(
        n_workers=0, protocol="tcp://", dashboard_address=None, processes=False
    )
    start = multiprocessing.get_context("spawn").Process
    sleepers = start(target=sleep, args=(scheduler.scheduler_address,), daemon=True)
    sleepers.start()
    scheduler.wait_for_workers(N_WORKERS)
    used = cluster.Cluster(scheduler.scheduler_address)
    cluster._used = used
    work = Sleep(seconds, per_block)
    parts = scan.cut_parts(Whole(), PLANNED, length, length)
    found = scan.run_parts(work, parts, (0, PLANNED), "", per_block=per_block)
    n_bytes = sum(next(found)[1].nbytes for _ in range(N_WORKERS * per_block))
    this = psutil.Process()
    memory = [this.memory_info().rss]
    begun, before = time.perf_counter(), time.process_time()
    for _ in range(2):
        for _, part in islice(found, n_blocks // 2 * per_block):
            n_bytes += part.nbytes
        memory.append(this.memory_info().rss)
    wall = time.perf_counter() - begun
    cpu = time.process_time() - before
    found.close()
    used.close()
    cluster._used = None
    sleepers.terminate()
    scheduler.close()
    busy = n_blocks * seconds / N_WORKERS / wall
    sent = len(pickle.dumps([slice(0, 1)] * per_block)) / 2**10
    back = n_bytes / (n_blocks + N_WORKERS) / 2**10
    half, more = ((each - memory[0]) / 2**20 for each in memory[1:])
    return (
        f"| {seconds} s | {n_blocks:,} | {busy:.0%} | {1e3 * cpu / n_blocks:.1f} | "
        f"{sent:.1f} + {back:.1f} | {half:.0f}, {more:.0f} | "
        f"{wall / n_blocks * blocks / 60:.0f} |"
    )


class Whole:
    """A file in which every pattern is a chunk of its own."""

    def last_edge(self, at: int) -> int:
        """Every place is an edge."""
        return at

    def next_edge(self, at: int) -> int:
        """So is the next one."""
        return at + 1


def sleep(address: str) -> None:
    """Be 200 workers, in this process, until it is ended."""
    import asyncio

    from dask import config
    from distributed import Worker

    config.set(WATCH_LITTLE)
    options = {"nthreads": 1, "dashboard": False, "memory_limit": 0, "silence_logs": 50}

    async def work() -> None:
        made = [Worker(address, **options) for _ in range(N_WORKERS)]
        await asyncio.gather(*made)
        await asyncio.gather(*(each.finished() for each in made))

    asyncio.run(work())


if __name__ == "__main__":
    main()
