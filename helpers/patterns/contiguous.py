"""Patterns that lie in a file as they lie in memory, one after another."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError

MOST_AT_ONCE = 256  # patterns; the system takes at most 1024 places in a call


@dataclass(frozen=True)
class PlainPatterns:
    """Patterns that lie in a file as they lie in memory, one after another.

    The system can copy them from there in pieces of any size and for several threads at
    once, straight into memory that a core keeps close; HDF5 reads for one at a time.

    Attributes
    ----------
    path
        The file that holds them.
    offset
        Its byte where the first pattern begins.
    shape
        (rows, columns) of a pattern.
    dtype
        As recorded.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    @classmethod
    def of_dataset(cls, dataset: h5py.Dataset) -> Self | None:
        """Find where the patterns of a dataset lie; None if that is not so simple.

        So it is without chunks, filters and links to other files' values, for numbers
        that NumPy knows, where the system can read from a place (not in Windows).
        """
        if not hasattr(os, "preadv") or dataset.file.driver != "sec2":
            return None
        made, found = dataset.id.get_create_plist(), dataset.id
        is_plain = (
            made.get_layout() == h5py.h5d.CONTIGUOUS
            and made.get_external_count() == 0
            and found.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED
            and found.get_type() == h5py.h5t.py_create(dataset.dtype)
        )
        if not is_plain or dataset.ndim != 3:
            return None
        path = Path(dataset.file.filename)
        return cls(path, found.get_offset(), dataset.shape[1:], dataset.dtype)

    def read_pieces(
        self, memory: NDArray[Any], start: int, stop: int, rows: slice
    ) -> Iterator[NDArray[Any]]:
        """Go through some of the patterns, as many at a time as the memory holds.

        Parameters
        ----------
        memory
            (m, rows, columns), contiguous, of `dtype`; used again for every piece.
        start, stop
            The first pattern, and the one after the last.
        rows
            The rows that are wanted of each; no others are read.

        Yields
        ------
        ndarray
            (as many as fit, rows wanted, columns), contiguous.

        Raises
        ------
        PatternsFileError
            If the file is gone or shorter than it was.
        """
        first, last, _ = rows.indices(self.shape[0])
        size = (last - first) * self.shape[1]
        n_at_once = min(memory.size // size, MOST_AT_ONCE)
        lines = memory.reshape(-1)[: n_at_once * size]
        lines = lines.reshape(n_at_once, last - first, self.shape[1])
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._say_unreadable(start, error.strerror) from error
        try:
            for number in range(start, stop, n_at_once):
                piece = lines[: stop - number]
                self._fill(piece, descriptor, number, first)
                yield piece
        finally:
            os.close(descriptor)

    def _fill(
        self, piece: NDArray[Any], descriptor: int, start: int, first_row: int
    ) -> None:
        """Read in one call, which costs as much as some rows that nobody wants."""
        unwanted = np.empty((self.shape[0] - piece.shape[1], self.shape[1]), self.dtype)
        pairs = ((pattern, unwanted) for pattern in piece)
        parts: list[Any] = [part for pair in pairs for part in pair][:-1]
        place = start * math.prod(self.shape) + first_row * self.shape[1]
        try:
            n_bytes = os.preadv(
                descriptor, parts, self.offset + place * self.dtype.itemsize
            )
        except OSError as error:
            raise self._say_unreadable(start, error.strerror) from error
        if n_bytes < sum(part.nbytes for part in parts):
            raise self._say_unreadable(start, "the file ends before")

    def _say_unreadable(self, number: int, why: str | None) -> PatternsFileError:
        problem = (
            f"the patterns from {number} on cannot be read ({why}). They were there "
            "when the file was opened: was it moved, or cut short? Copy it again."
        )
        return PatternsFileError(self.path, [problem])
