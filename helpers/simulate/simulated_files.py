"""Simulated patterns as files."""

import csv
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.errors import PatternsFileError
from helpers.outputs import (
    atomic_hdf5,
    atomic_write,
    escape_formula,
    open_to_read,
    write_provenance,
)
from helpers.patterns import open_patterns
from helpers.simulate.detector import Detector
from helpers.simulate.exposures import (
    DETAILS,
    Simulation,
    Simulator,
    check_whole_number,
)
from helpers.simulate.sample import Sample


def write_simulated(
    path: str | Path,
    n: int,
    seed: int,
    *,
    bad_pixels: NDArray[np.bool_] | None = None,
    sample: Sample | str = "default",
    detector: Detector | None = None,
) -> None:
    """Write a file of patterns with known truth.

    `/patterns` float32 (n, rows, columns), photon counts, bad pixels 0; `/truth` class
    names; `/mask` uint8 (rows, columns), 1 = bad; `/truth_details`, a group with one
    dataset (n,) for each field of `Simulation.details`; the seed, the sample and the
    detector as attributes.

    Parameters
    ----------
    path
        The HDF5 file; replaced if it is there.
    n
        How many patterns; 270 kB each with the default detector.
    seed
        The same seed gives the same patterns, and the first of a longer file.
    bad_pixels
        bool (rows, columns), True = leave out; without it, `pnccd_bad_pixels`.
    sample
        A `Sample` or a name in `SAMPLES`.
    detector
        Without it, `Detector.of_shape` of the bad pixels, or the default.

    Raises
    ------
    ParameterError
        If a parameter has an impossible value.
    """
    n = check_whole_number("n", n, lowest=1)
    simulator = Simulator(seed, sample=sample, detector=detector, bad_pixels=bad_pixels)
    with (
        atomic_hdf5(path) as file,
        tqdm(total=n, desc="Simulating", unit="pattern") as progress,
    ):
        _write_frame(file, simulator, n)
        for start, simulation in simulator.blocks(n):
            _write_block(file, start, simulation)
            progress.update(len(simulation.true_labels))


def write_example_labels(
    patterns_path: str | Path, csv_path: str | Path, n_labels: int = 240
) -> None:
    """Write labels as a person would have given them to some simulated patterns.

    The labels are the truth, of the first patterns in the stack's random order.
    `labelled_at` is when the patterns were made, so that the same file gives the same
    labels.

    Parameters
    ----------
    patterns_path
        A file of `write_simulated`.
    csv_path
        The CSV file, with the columns `pattern,label,file,labeller,labelled_at`;
        replaced if it is there.
    n_labels
        How many; a file with fewer patterns gets a label for each.

    Raises
    ------
    ParameterError
        If `n_labels` is impossible.
    PatternsFileError
        If the file cannot be read, or no truth is in it.
    """
    check_whole_number("n_labels", n_labels, lowest=1)
    truth, made_at = _read_truth(patterns_path)
    with open_patterns(patterns_path) as patterns:
        chosen = patterns.shuffled()[:n_labels]
    with (
        atomic_write(csv_path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["pattern", "label", "file", "labeller", "labelled_at"])
        name = escape_formula(Path(patterns_path).name)
        rows.writerows(
            [i, truth[i], name, "simulated", made_at] for i in np.sort(chosen)
        )


def _write_frame(file: h5py.File, simulator: Simulator, n: int) -> None:
    """Write what is known beforehand, and make room for the patterns."""
    # Contiguous: nothing reads faster, and any slice of patterns is one read.
    shape = (n, *simulator.detector.shape)
    file.create_dataset("patterns", shape, dtype="f4").attrs["unit"] = "photons"
    file.create_dataset("truth", n, dtype=h5py.string_dtype("ascii", length=8))
    file["mask"] = simulator.bad_pixels.astype(np.uint8)
    for name in DETAILS.names or ():
        dtype = DETAILS[name]
        if dtype.kind == "S":
            dtype = h5py.string_dtype("ascii", length=dtype.itemsize)
        file.create_dataset(f"truth_details/{name}", n, dtype=dtype)
    write_provenance(
        file,
        seed=simulator.seed,
        sample=asdict(simulator.sample),
        detector=asdict(simulator.detector),
    )


def _write_block(file: h5py.File, start: int, simulation: Simulation) -> None:
    rows = slice(start, start + len(simulation.true_labels))
    file["patterns"][rows] = simulation.patterns
    file["truth"][rows] = simulation.true_labels.astype("S8")
    for name, values in file["truth_details"].items():
        values[rows] = simulation.details[name]


def _read_truth(path: str | Path) -> tuple[NDArray[np.str_], str]:
    try:
        with open_to_read(path) as file:
            truth = file["truth"].asstr()[:].astype(str)
            return truth, str(file.attrs.get("made_at", ""))
    except KeyError as error:
        problem = "/truth is not there; expected a file of `simulate`."
        raise PatternsFileError(path, [problem]) from error
    except OSError as error:
        problem = f"cannot be read as HDF5 ({error})."
        raise PatternsFileError(path, [problem]) from error
