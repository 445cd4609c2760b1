"""Patterns that lie otherwise: a dataset for each shot, modules, or photon lists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.assembly import find_assembly
from helpers.patterns.hdf5 import (
    LISTED,
    follow,
    get_dataset,
    get_whole_dataset,
    is_numeric,
)
from helpers.patterns.sources import (
    DatasetSource,
    Hdf5Source,
    find_dataset_problems,
    find_size_problems,
    say_content,
)


class FramesSource(Hdf5Source):
    """Patterns as /hit_0/image, /hit_1/image and so on, or a single image.

    In `where` a `*` stands for the number of the pattern; they are read in the order
    of these numbers, of which some may be left out.
    """

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self._names = find_frames(file, where)
        frames = [file[name] for name in self._names]
        self.shape = (len(frames), *frames[0].shape)
        self.dtype = np.result_type(*{frame.dtype for frame in frames})
        if self._names[0] == where:
            self.notes = (f"{where} is a single image: a stack of one pattern.",)

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the images cannot be read as one stack; nothing if they can."""
        frames = {name: file[name] for name in find_frames(file, where)}
        if not frames:
            yield f"no dataset has a name like {where}, with a number for *."
            return
        expected = next(iter(frames.values())).shape
        strange = [
            f"{name} {frame.shape} of {say_content(frame.dtype)}"
            for name, frame in frames.items()
            if frame.shape != expected or len(expected) != 2 or not is_numeric(frame)
        ]
        if strange:
            more = f" and {len(strange) - LISTED} more" if len(strange) > LISTED else ""
            yield (
                f"found {', '.join(strange[:LISTED])}{more}; expected numbers of "
                "shape (rows, columns), the same for every pattern."
            )
        else:
            yield from find_size_problems(where, (len(frames), *expected))

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, rows, columns), going by the first image."""
        names = find_frames(file, where)
        shape = file[names[0]].shape if names else ()
        return (len(names), *shape) if len(shape) == 2 else None

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        for image, name in zip(out, self._names[start:], strict=False):
            file[name].read_direct(image)


def find_frames(file: h5py.File, where: str) -> list[str]:
    """Return the paths of the datasets that `where` stands for, in their order.

    Parameters
    ----------
    file
        Open.
    where
        Such as `/hit_*/image`, or a path without `*`.
    """
    paths = _find_paths(file, where)
    return [path for path in paths if get_whole_dataset(file, path) is not None]


def find_first_frame(file: h5py.File, where: str) -> h5py.Dataset | None:
    """Return the first dataset that `where` stands for; None if there is none.

    Parameters are those of `find_frames`.
    """
    paths = _find_paths(file, where)
    return get_whole_dataset(file, paths[0]) if paths else None


def read_numbers(file: h5py.File, where: str) -> NDArray[np.int64]:
    """Return the numbers that `*` stands for, (n,) int64, in the order of patterns."""
    before, after = where.split("*")
    paths = find_frames(file, where)
    numbers = [int(path[len(before) : len(path) - len(after)]) for path in paths]
    return np.array(numbers, np.int64)


def _find_paths(file: h5py.File, where: str) -> list[str]:
    if "*" not in where:
        return [where]
    above, _, rest = where.partition("*")
    folder, prefix = above.rsplit("/", 1)
    suffix, _, below = rest.partition("/")
    group = follow(file, folder or "/")
    if not isinstance(group, h5py.Group):
        return []
    form = re.compile(rf"{re.escape(prefix)}(\d+){re.escape(suffix)}", re.ASCII)
    numbered = [(int(m[1]), m[0]) for name in group if (m := form.fullmatch(name))]
    return [f"{folder}/{name}/{below}".rstrip("/") for _, name in sorted(numbered)]


FLAT, MODULES, WITH_GAIN = 3, 4, 5  # dimensions


class ModulesSource(DatasetSource):
    """Patterns as (n, modules, [gain,] slow, fast), or (n, rows, columns) as they are.

    How the modules become one image is said by `notes`; see `find_assembly`.
    Of a gain axis the first entry is read, which holds the signal.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of the patterns in it.
    geometry
        CrystFEL geometry file, if a person named one.
    """

    def __init__(
        self, path: Path, file: h5py.File, where: str, geometry: Path | None = None
    ) -> None:
        super().__init__(path, file, where)
        recorded = self.shape[1:]
        if len(recorded) == FLAT - 1:
            self._assembly = None
            return
        modules = (recorded[0], *recorded[-2:])
        self._recorded = recorded
        self.plain = None
        self._assembly = find_assembly(path, file, where, modules, geometry)
        self.shape = (self.shape[0], *self._assembly.shape)
        self.gaps = self._assembly.gaps
        self.notes = (self._assembly.note,)
        self.remarks += self._assembly.remarks
        if len(recorded) == WITH_GAIN - 1 and recorded[1] > 1:
            self.notes += (
                f"Of the {recorded[1]} values of each pixel the first is read, the "
                "signal; what follows is the gain.",
            )

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the dataset cannot be read as patterns; nothing if it can."""
        dimensions = (FLAT, MODULES, WITH_GAIN)
        yield from find_dataset_problems(path, file, where, dimensions)

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, [modules,] rows, columns), leaving out a gain axis."""
        dataset = get_dataset(file, where)
        if dataset is None or dataset.ndim not in (FLAT, MODULES, WITH_GAIN):
            return None
        shape: tuple[int, ...] = dataset.shape
        return (*shape[:2], *shape[-2:]) if len(shape) == WITH_GAIN else shape

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        return values if self._assembly is None else self._assembly(values)

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        if self._assembly is None:
            super()._read_into(out, file, start)
            return
        signal = (slice(None), 0) if len(self._recorded) == WITH_GAIN - 1 else ()
        dataset = self._keep_open(file)
        for number, image in enumerate(out, start):
            values = self._assembly(np.asarray(dataset[number, *signal]))
            with np.errstate(over="ignore"):  # beyond float32 is infinite, as in HDF5
                image[...] = values


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
