"""Whole files of every kind, to be damaged."""

import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile

from helpers.experiment import measure_patterns, write_experiment
from helpers.patterns import open_patterns

FRAME = (6, 5)
COUNTS = np.random.default_rng(0).poisson(1, (8, *FRAME)).astype("i4")
DETECTOR = "/entry_1/instrument_1/detector_1"


def write_plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = COUNTS.astype("f4")
        file["labels"] = np.arange(8.0) % 2
        file["mask"] = np.eye(*FRAME)


def write_chunked(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        options = {"chunks": (2, *FRAME), "compression": "gzip", "shuffle": True}
        file.create_dataset("patterns", data=COUNTS, **options)
        file.create_dataset("truth", data=["single"] * 8, dtype=h5py.string_dtype())
        file["mask"] = np.eye(*FRAME, dtype="u1")


def write_cxi(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 150
        file.create_dataset(f"{DETECTOR}/data", data=COUNTS, chunks=(1, *FRAME))
        file[f"{DETECTOR}/mask"] = np.eye(*FRAME, dtype="u4")
        file["entry_1/data_1/data"] = h5py.SoftLink(f"{DETECTOR}/data")
        file["entry_1/elsewhere"] = h5py.ExternalLink("other.h5", "/patterns")


def write_modules(path: Path) -> None:
    y, x = np.mgrid[:6, :5]
    with h5py.File(path, "w") as file:
        file[f"{DETECTOR}/data"] = np.stack([COUNTS, COUNTS], axis=1)
        file[f"{DETECTOR}/good_pixels"] = np.ones((2, *FRAME), "u1")
        xyz = np.stack([[x, x + 7], [y, y], [0 * x, 0 * x]]) * 2e-4
        file[f"{DETECTOR}/xyz_map"] = xyz
        file["entry_1/data_1/data"] = h5py.SoftLink(f"{DETECTOR}/data")


def write_frames(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for number, image in enumerate(COUNTS):
            file[f"hit_{number}/image"] = image
            file[f"hit_{number}/lbl"] = number % 3


def write_nexus(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("scan/data")
        file.attrs["default"], data.parent.attrs["default"] = "scan", "data"
        data.attrs["signal"], data.attrs["axes"] = "counts", ["frame", "y", "x"]
        data["counts"] = COUNTS
        data["pixel_mask"] = np.eye(*FRAME, dtype="u4")


def write_virtual(path: Path) -> None:
    layout = h5py.VirtualLayout(COUNTS.shape, "i4")
    layout[:] = h5py.VirtualSource(".", "raw", COUNTS.shape)
    with h5py.File(path, "w") as file:
        file["raw"] = COUNTS
        file.create_virtual_dataset("patterns", layout)


def list_photons(patterns: np.ndarray) -> tuple[list[np.ndarray], ...]:
    """Return pixels with one photon, with more, and how many these have."""
    flat = patterns.reshape(len(patterns), -1)
    ones = [np.flatnonzero(row == 1) for row in flat]
    multi = [np.flatnonzero(row > 1) for row in flat]
    return ones, multi, [row[row > 1] for row in flat]


def write_sparse(path: Path, patterns: np.ndarray = COUNTS) -> None:
    with h5py.File(path, "w") as file:
        file["num_pix"] = patterns[0].size
        names = ("place_ones", "place_multi", "count_multi")
        for name, lists in zip(names, list_photons(patterns), strict=True):
            dataset = file.create_dataset(name, (len(lists),), h5py.vlen_dtype("i4"))
            for number, values in enumerate(lists):
                dataset[number] = values.astype("i4")


def write_emc(path: Path, patterns: np.ndarray = COUNTS) -> None:
    ones, multi, counts = list_photons(patterns)
    head = np.zeros(256, int)
    head[:2] = len(patterns), patterns[0].size
    lengths = [list(map(len, part)) for part in (ones, multi)]
    parts = np.concatenate([head, *lengths, *ones, *multi, *counts])
    path.write_bytes(parts.astype("<i4").tobytes())


def write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, COUNTS)


def write_tif(path: Path) -> None:
    tifffile.imwrite(path, COUNTS.astype("u2"))


def write_csv(path: Path) -> None:
    words = ("single", "multiple", "other", "blank", "unsure")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pattern", "label", "labeller", "labelled_at"])
        for number in range(8):
            row = [number, words[number % 5], "Ada", "2026-01-02T03:04:05+00:00"]
            writer.writerow(row)


def write_json(path: Path) -> None:
    """Write a work folder beside `path` and copy its experiment.json there."""
    folder = path.parent / "work"
    write_plain(path.parent / "patterns.h5")
    with open_patterns(path.parent / "patterns.h5") as patterns:
        measured = measure_patterns(patterns, lit_threshold=1)
        written = write_experiment(folder, patterns, measured, (2.5, 2.0))
    path.write_text(json.dumps(json.loads(written.read_text("utf-8")), indent=1))


SEEDS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "hdf5": (
        *(write_plain, write_chunked, write_cxi, write_modules),
        *(write_frames, write_virtual, write_sparse, write_nexus),
    ),
    "emc": (write_emc,),
    "npy": (write_npy,),
    "tif": (write_tif,),
    "csv": (write_csv,),
    "json": (write_json,),
}


def make_seeds(kind: str, folder: Path) -> list[bytes]:
    """Return the contents of whole files of one kind; write what they need."""
    contents = []
    for number, write in enumerate(SEEDS[kind]):
        path = folder / f"seed{number}"
        with warnings.catch_warnings(action="ignore"):
            write(path)
        contents.append(path.read_bytes())
    return contents
