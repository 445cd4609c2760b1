"""Measure the peak memory of each notebook on runs of very different length.

    python tests/bench/bench_memory.py [--sizes 3000 30000 300000] [--shape 260 257]
        [--only inspect rank review] [--keep FOLDER]

A few hundred simulated patterns are repeated by a virtual dataset, so that a run of
any length needs no room on the disk. Every notebook runs by the command line on its
own, and the largest resident memory of its processes is asked of the system. What a
notebook needs for the length of the run is the difference between the columns.

A notebook starts from what those before it have written. With `--only`, the others are
not run, so what they write has to be there: `--keep` names a folder where files and
results stay, for one call after the other, each with the notebooks that there is time
for.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from helpers.simulate import Detector, pnccd_bad_pixels, write_simulated

STAGES = ("inspect", "map", "label", "rank", "train", "review", "improve")
REPEATED = 300  # patterns that are simulated
SETTINGS = {"rank": ["-p", "baseline", ""], "train": ["-p", "epochs", "2"]}


class Use(NamedTuple):
    """What one notebook took: resident memory in bytes, times in seconds."""

    peak: int
    cpu: float
    elapsed: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[3000, 30000, 300000])
    parser.add_argument("--shape", nargs=2, type=int, default=[260, 257])
    parser.add_argument("--only", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    rows, columns = options.shape
    with make_folder(options.keep, f"{rows}x{columns}") as folder:
        write_few(folder, (rows, columns))
        used = {n: measure(folder, n, options.only) for n in options.sizes}
    print_table(used, options.only)


@contextmanager
def make_folder(kept: Path | None, name: str) -> Iterator[Path]:
    """Make a folder for patterns of one shape; it stays if it is to be kept."""
    if kept is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = kept.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def write_few(folder: Path, shape: tuple[int, int]) -> None:
    """Write the patterns that are repeated, and labels of all of them, once."""
    if (folder / "labels.csv").exists():
        return
    write_simulated(
        folder / "few.h5",
        REPEATED,
        seed=1,
        bad_pixels=pnccd_bad_pixels(shape),
        detector=Detector.of_shape(shape),
    )
    with h5py.File(folder / "few.h5") as file:
        words = file["truth"].asstr()[:]
    with (folder / "labels.csv").open("w", newline="") as labels:
        rows = csv.writer(labels)
        rows.writerow(["pattern", "label"])
        rows.writerows(enumerate(words))


def write_long(folder: Path, n: int) -> Path:
    """Write a virtual dataset that repeats the few patterns up to `n`, once."""
    path = folder / f"{n}.h5"
    if path.exists():
        return path
    with h5py.File(folder / "few.h5") as few, h5py.File(path, "w") as file:
        patterns = few["patterns"]
        layout = h5py.VirtualLayout((n, *patterns.shape[1:]), patterns.dtype)
        source = h5py.VirtualSource(patterns)
        for start in range(0, n, REPEATED):
            stop = min(start + REPEATED, n)
            layout[start:stop] = source[: stop - start]
        file.create_virtual_dataset("patterns", layout)
        file["patterns"].attrs["unit"] = "photons"
        file["truth"] = np.resize(few["truth"][:], n)
        file["mask"] = few["mask"][:]
    return path


def measure(folder: Path, n: int, only: list[str]) -> dict[str, Use]:
    """Run the notebooks one by one on `n` patterns."""
    path = write_long(folder, n)
    used = {}
    for stage in only:
        command = [sys.executable, "-m", "helpers", "run", "--patterns", str(path)]
        command += ["--work-dir", str(folder / f"work{n}"), "--only", stage]
        if stage == "label":
            command += ["--labels", str(folder / "labels.csv")]
        used[stage] = run(command + SETTINGS.get(stage, []))
        print(f"{n:,} patterns, {stage}: {say(used[stage])}", flush=True)
    return used


def run(command: list[str]) -> Use:
    """Run a command; ask the system what it and its kernels took."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with status {status}")
    elapsed = time.perf_counter() - begun
    return Use(usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, elapsed)


def say(use: Use) -> str:
    times = f"{use.cpu:,.0f} s CPU, {use.elapsed:,.0f} s elapsed"
    return f"{use.peak / 2**20:,.0f} MiB, {times}"


def print_table(used: dict[int, dict[str, Use]], stages: list[str]) -> None:
    print("\npeak memory".ljust(13) + "".join(f"{n:>16,}" for n in used))
    for stage in stages:
        peaks = [f"{each[stage].peak / 2**20:,.0f} MiB" for each in used.values()]
        print(f"{stage:<12}" + "".join(f"{peak:>16}" for peak in peaks))


if __name__ == "__main__":
    main()
