"""Stacks that lie in files of other kinds than HDF5: NumPy arrays and TIFF images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import find_file_problem, find_size_problems
from helpers.patterns.sources import ContiguousPatterns, Source


def is_array_file(path: Path) -> bool:
    """Tell by its ending whether a file holds an array and is no HDF5."""
    return path.suffix.lower() in _SOURCES


def open_array_file(path: Path, dataset: str | None = None) -> Source:
    """Return the patterns of a `.npy`, `.npz` or TIFF file.

    Parameters
    ----------
    path
        The file.
    dataset
        Which array of an `.npz` file, where it holds several of three dimensions.

    Raises
    ------
    PatternsFileError
        If the file is missing, damaged or cut short, or holds no stack of numbers.
    """
    problem = find_file_problem(path)
    if problem:
        raise PatternsFileError(path, [problem])
    try:
        return _SOURCES[path.suffix.lower()](path, dataset or "")
    except PatternsFileError:
        raise
    except Exception as error:  # on a damaged file a parser may raise anything
        why = " ".join(f"{type(error).__name__} {error}".split())
        problem = f"cannot be read as {path.suffix} ({why}). Copy the file again."
        raise PatternsFileError(path, [problem]) from error


class NpySource(Source):
    """Patterns in a file that `numpy.save` wrote, read from their places in it."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with path.open("rb") as file:
            shape, is_fortran, dtype = _read_header(file)
            offset = file.tell()
        _check_stack(path, "the array", shape, dtype)
        if is_fortran:
            problem = (
                f"holds an array {shape} in Fortran order, whose pixels of one pattern "
                "lie far apart. Save numpy.ascontiguousarray of it."
            )
            raise PatternsFileError(path, [problem])
        self.dtype = dtype
        pattern_bytes = shape[1] * shape[2] * dtype.itemsize
        there = (path.stat().st_size - offset) // pattern_bytes
        if there < shape[0]:
            problem = (
                f"holds {there} of {shape[0]} patterns: it is cut short. Copy the file "
                "again."
            )
            raise PatternsFileError(path, [problem])
        self.shape = shape
        self._patterns = ContiguousPatterns(path, offset, pattern_bytes)

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        found = np.empty(out.shape, self.dtype)
        descriptor = self._patterns.open()
        try:
            self._patterns.read_into(found, start, descriptor)
        finally:
            os.close(descriptor)
        out[...] = found


class NpzSource(Source):
    """Patterns in one array of a file that `numpy.savez` wrote; it is read whole."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with np.load(path, allow_pickle=False) as arrays:
            self.where = where or _choose_array(path, arrays)
        array = self._read()
        self._array: NDArray[Any] | None = array
        _check_stack(path, self.where, array.shape, array.dtype)
        n, rows, columns = array.shape
        self.shape, self.dtype = (n, rows, columns), array.dtype
        self.notes = ("An .npz file cannot be read in parts: all of it is in memory.",)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the array: whoever gets the rest reads it again."""
        return super().__getstate__() | {"_array": None}

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        if self._array is None:
            self._array = self._read()
        out[...] = self._array[start : start + len(out)]

    def _read(self) -> NDArray[Any]:
        with np.load(self.path, allow_pickle=False) as arrays:
            return np.ascontiguousarray(arrays[self.where])


class TiffSource(Source):
    """Patterns in the pages of a TIFF file, read a few pages at a time."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with self._open() as file:
            series = file.series[0]
            shape, dtype = tuple(series.shape), np.dtype(series.dtype)
        shape = (1, *shape) if len(shape) == 2 else shape
        _check_stack(path, "the images", shape, dtype)
        n, rows, columns = shape
        self.shape, self.dtype = (n, rows, columns), dtype

    def _open(self) -> Any:
        import tifffile

        file = tifffile.TiffFile(self.path)
        len(file.pages)  # else a circle of pages would be followed for ever
        return file

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        try:
            with self._open() as file:
                pages = file.asarray(key=range(start, start + len(out)), series=0)
                out[...] = np.asarray(pages).reshape(out.shape)
        except Exception as error:  # on a damaged file a parser may raise anything
            why = f"{type(error).__name__} {error}"
            problem = f"{self._describe_unreadable(start, len(out))} ({why})."
            raise PatternsFileError(self.path, [problem]) from error


_SOURCES: dict[str, Callable[[Path, str], Source]] = {
    ".npy": NpySource,
    ".npz": NpzSource,
    ".tif": TiffSource,
    ".tiff": TiffSource,
}


def _read_header(file: Any) -> tuple[Any, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = read[version](file)
    return shape, is_fortran, dtype


def _choose_array(path: Path, arrays: Any) -> str:
    stacks = [name for name in arrays.files if arrays[name].ndim == 3]
    if len(stacks) != 1:
        found = ", ".join(f"{name} {arrays[name].shape}" for name in arrays.files)
        problem = (
            f"holds {found or 'no array'}; expected one array (patterns, rows, "
            f"columns). Pass dataset='{stacks[0] if stacks else 'NAME'}'."
        )
        raise PatternsFileError(path, [problem])
    name: str = stacks[0]
    return name


def _check_stack(
    path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    if len(shape) != 3 or dtype.kind not in "biuf":
        problem = (
            f"{what} has shape {shape} and dtype {dtype}; expected numbers of shape "
            "(patterns, rows, columns)."
        )
        raise PatternsFileError(path, [problem])
    problems = list(find_size_problems(what, shape))
    if problems:
        raise PatternsFileError(path, problems)
