"""Patterns of which only the pixels with photons are kept, as Dragonfly has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.dataset_source import say_content
from helpers.patterns.hdf5 import get_whole_dataset
from helpers.patterns.source import Hdf5Source, find_size_problems

LISTS = ("place_ones", "place_multi", "count_multi")
COUNTS = np.dtype(np.int32)


class SparseSource(Hdf5Source):
    """Patterns as lists: pixels with one photon, pixels with more, and how many.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Rows and columns, as `260x257`: the file knows their product only.
    """

    dtype = COUNTS

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        rows, columns = parse_frame(where)
        self.shape = (len(file["place_ones"]), rows, columns)

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the lists cannot be read; nothing if they can."""
        del path, where
        lists = {name: get_whole_dataset(file, name) for name in LISTS}
        for name, dataset in lists.items():
            if dataset is None:
                yield f"there is no whole dataset /{name}; expected {', '.join(LISTS)}."
            elif dataset.ndim != 1 or not _holds_integers(dataset):
                yield (
                    f"/{name} has shape {dataset.shape} and holds "
                    f"{say_content(dataset.dtype)}; expected a list of integers for "
                    "each pattern."
                )
        lengths = {dataset.shape for dataset in lists.values() if dataset is not None}
        if len(lengths) > 1:
            yield f"{', '.join(LISTS)} have the lengths {lengths}; expected one length."
        for length in lengths:
            yield from find_size_problems("/place_ones", length)

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, rows, columns)."""
        ones = get_whole_dataset(file, "place_ones")
        return None if ones is None else (*ones.shape, *parse_frame(where))

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        here = slice(start, start + len(out))
        lists = (file[name][here] for name in LISTS)
        for image, *one in zip(out, *lists, strict=True):
            fill_image(self.path, image, *one)


def parse_frame(text: str) -> tuple[int, int]:
    """Return rows and columns of `260x257`."""
    rows, columns = text.split("x")
    return int(rows), int(columns)


def fill_image(
    path: Path,
    image: NDArray[Any],
    ones: NDArray[np.integer],
    multi: NDArray[np.integer],
    counts: NDArray[np.integer],
) -> None:
    """Fill an image from its lists.

    Parameters
    ----------
    path
        The file, for messages.
    image
        (rows, columns), contiguous.
    ones
        Pixels with one photon, counted along the rows.
    multi
        Pixels with more.
    counts
        How many each of `multi` has.

    Raises
    ------
    PatternsFileError
        If a pixel is outside the image or the lists do not fit each other.
    """
    pixels = image.reshape(-1)
    pixels[...] = 0
    problems = []
    places = np.concatenate([ones, multi])
    if places.size and not 0 <= places.min() <= places.max() < pixels.size:
        problems.append(
            f"a pattern has photons at pixels {places.min()} to {places.max()}; "
            f"expected 0 to {pixels.size - 1}. The file is damaged."
        )
    if multi.size != counts.size:
        problems.append(
            f"a pattern has {counts.size} counts for {multi.size} pixels; expected "
            "one for each. The file is damaged."
        )
    if problems:
        raise PatternsFileError(path, problems)
    pixels[ones] = 1
    pixels[multi] = counts


def _holds_integers(dataset: h5py.Dataset) -> bool:
    base = h5py.check_vlen_dtype(dataset.dtype)
    return base is not None and np.dtype(base).kind in "iu"
