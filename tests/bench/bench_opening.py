"""Measure how soon a run of many files is on the screen.

    python tests/bench/bench_opening.py [--files 100] [--patterns 300] [--shape 260 257]

Opens the files as one stack, reads 32 patterns that are spread over the run, and draws
the first gallery of notebook 1 as a picture. The files are whole copies of each other,
compressed in chunks of one pattern; after they are written they lie in memory, so that
the time is that of the software and not of the disk.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from helpers import plots
from helpers.patterns import Patterns, open_patterns
from helpers.simulate import Detector, pnccd_bad_pixels, write_simulated

SHOWN = 32  # as in notebook 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--patterns", type=int, default=300, help="in each file")
    parser.add_argument("--shape", nargs=2, type=int, default=[260, 257])
    options = parser.parse_args()
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as name:
        rows, columns = options.shape
        write_run(Path(name), options.files, options.patterns, (rows, columns))
        patterns = measure("open", lambda: open_patterns(f"{name}/run*.h5"))
        print(f"{'':9}{len(patterns):,} patterns in {len(patterns.files)} files")
        shown = np.linspace(0, len(patterns) - 1, SHOWN).astype(int)
        images = measure("read", lambda: patterns[shown])
        measure("draw", lambda: draw(Path(name, "gallery.png"), images, patterns))


def write_run(folder: Path, n_files: int, n: int, shape: tuple[int, int]) -> None:
    """Write one file of simulated patterns, compressed, and copies of it."""
    plain, first = folder / "plain.h5", folder / "run0.h5"
    write_simulated(
        plain,
        n,
        seed=1,
        bad_pixels=pnccd_bad_pixels(shape),
        detector=Detector.of_shape(shape),
    )
    with h5py.File(plain) as source, h5py.File(first, "w") as file:
        how = {"chunks": (1, *shape), "compression": "gzip", "compression_opts": 1}
        file.create_dataset("patterns", data=source["patterns"][()], **how)
        for name in ("truth", "mask"):
            source.copy(name, file)
    for number in range(1, n_files):
        shutil.copy(first, folder / f"run{number}.h5")


def draw(path: Path, images: np.ndarray, patterns: Patterns) -> None:
    """Draw the gallery as notebook 1 does."""
    fig, ax = plt.subplots(figsize=(12, 7), layout="constrained")
    captions = [str(number) for number in range(len(images))]
    plots.plot_gallery(ax, images, captions, patterns.bad_pixels)
    fig.savefig(path)


def measure(what: str, work: Callable[[], Any]) -> Any:
    """Do some work; print what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:9}{wall:.2f} s, {cpu:.2f} s CPU", flush=True)
    return result


if __name__ == "__main__":
    main()
