"""What every source of patterns can do."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.patterns.contiguous import PlainPatterns
from helpers.patterns.hdf5 import open_hdf5, saying_damage

MOST_PATTERNS = 10**9
MOST_PIXELS = 2**28


class Source(ABC):
    """The patterns of one file, in order: (n, rows, columns).

    A kind of file that keeps its patterns in another way (a group for each, sparse
    counts, detector modules) derives from this class; nothing else has to know.

    Parameters
    ----------
    path
        The file on disk.
    where
        Path of the patterns in it, as the layout gives it.

    Attributes
    ----------
    shape
        (n, rows, columns).
    dtype
        As recorded.
    chunk
        How many consecutive patterns are stored in one piece; reading less than such a
        piece costs as much as reading all of it.
    plain
        Where they lie, if they lie there as in memory; None otherwise.
    gaps
        (rows, columns) bool, True where no pixel of the detector is; None without any.
    notes
        What was found or assumed, one sentence each, for `Patterns.describe`.
    remarks
        The same, where a person should be warned of it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: int = 1
    plain: PlainPatterns | None = None
    gaps: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __init__(self, path: Path, where: str) -> None:
        self.path = path
        self.where = where

    @abstractmethod
    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill an array with consecutive patterns, as recorded but for the dtype.

        The file is opened when it has to be, and stays open until `close`.

        Parameters
        ----------
        out
            (m, rows, columns), contiguous, of any dtype that holds the values.
        start
            Index of the first pattern in this file.

        Raises
        ------
        PatternsFileError
            If the file is gone or damaged.
        """

    def close(self) -> None:  # noqa: B027  (a source may have nothing to close)
        """Close the file; a later `read_into` opens it again."""

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bring values of one pattern's pixels as recorded into (rows, columns)."""
        return values

    def _say_unreadable(self, start: int, n: int) -> str:
        return f"patterns {start} to {start + n - 1} of {self.where} cannot be read"


class Hdf5Source(Source):
    """Patterns in an HDF5 file.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of the patterns in it, as the layout gives it.
    """

    @abstractmethod
    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, where)
        self._file: h5py.File | None = None

    @staticmethod
    @abstractmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the patterns cannot be read; nothing if they can."""

    @staticmethod
    @abstractmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, …) with the shape of a pattern as recorded; None if unknown."""

    @abstractmethod
    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None: ...

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        if self._file is None:
            self._file = open_hdf5(self.path)
        with saying_damage(self.path, self._say_unreadable(start, len(out))):
            self._read_into(out, self._file, start)

    def close(self) -> None:  # noqa: D102
        if self._file is not None:
            self._file.close()
            self._file = None


def find_size_problems(where: str, shape: tuple[int, ...]) -> Iterator[str]:
    """Say why patterns of this shape can be no measurement; nothing if they can.

    Parameters
    ----------
    where
        Path of the patterns.
    shape
        (n, …) as recorded.
    """
    if 0 in shape:
        yield (
            f"{where} has shape {shape}, so no pattern is in it; expected at least "
            "one. Was the run written to the end?"
        )
    n_pixels = 1
    for length in shape[1:]:
        n_pixels *= length  # in Python's integers, which have no largest one
    if shape[0] > MOST_PATTERNS or n_pixels > MOST_PIXELS:
        yield (
            f"{where} has shape {shape}; expected at most {MOST_PATTERNS:,} patterns "
            f"of at most {MOST_PIXELS:,} pixels. The file may be damaged."
        )
