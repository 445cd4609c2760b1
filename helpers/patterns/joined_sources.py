"""Several files read as one, a piece at a time."""

import math
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.patterns.sources import Source

READ_BYTES = 8 * 2**20  # in one go: large enough to be fast


class JoinedSources:
    """Sources end to end; one file is open at a time, however many there are.

    Threads may share it; only where HDF5 reads do they take turns.

    Parameters
    ----------
    sources
        With patterns of one shape.

    Attributes
    ----------
    starts
        (n_sources + 1,) int64: index of each source's first pattern; then the total.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        lengths = [source.shape[0] for source in self.sources]
        self.starts = np.cumsum([0, *lengths])
        self._starts = self.starts.tolist()
        self._chunks = np.array([source.chunk for source in self.sources])
        self._pieces = np.array([_piece_length(source) for source in self.sources])
        self._open = self.sources[0]
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of patterns."""
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process: the lock."""
        return vars(self) | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a lock of this process."""
        vars(self).update(state, _lock=threading.Lock())

    def locate(self, index: int) -> tuple[Source, int]:
        """Return the source of a pattern and the pattern's index within it."""
        number = bisect_right(self._starts, index) - 1
        return self.sources[number], index - self._starts[number]

    def find_chunks(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return in which chunk each pattern lies, numbered through all files."""
        number = np.searchsorted(self.starts, rows, side="right") - 1
        n_chunks = -(-np.diff(self.starts) // self._chunks)
        first = np.cumsum([0, *n_chunks])[number]
        chunks: NDArray[np.int64] = (
            first + (rows - self.starts[number]) // self._chunks[number]
        )
        return chunks

    def read_into(
        self,
        out: NDArray[Any],
        rows: NDArray[np.int64],
        tidy: Callable[[NDArray[Any]], None],
    ) -> None:
        """Read patterns in the order in which they lie in the files.

        Parameters
        ----------
        out
            (m, rows, columns), contiguous: where they go, in the order of `rows`.
        rows
            (m,) indices from 0, in any order, with repeats.
        tidy
            Alters each piece in place as soon as it is read; `keep` reads it exactly as
            recorded, without what masks for each pattern leave out.
        """
        if _are_consecutive(rows):
            self._read_range(out, int(rows[0]), tidy)
            return
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for run in self._find_runs(ascending):
            places, wanted = order[run], ascending[run]
            first = int(wanted[0])
            if _are_consecutive(places) and _are_consecutive(wanted):
                self._read_range(out[places[0] : places[-1] + 1], first, tidy)
            else:
                piece = np.empty((wanted[-1] - first + 1, *out.shape[1:]), out.dtype)
                self._read_range(piece, first, tidy)
                out[places] = piece[wanted - first]

    def close(self) -> None:
        """Close the file that is open; reading opens it again."""
        with self._lock:
            self._open.close()

    def _read_range(
        self, out: NDArray[Any], first: int, tidy: Callable[[NDArray[Any]], None]
    ) -> None:
        """Read consecutive patterns, in pieces that end with files and chunks."""
        done = 0
        while done < len(out):
            source, row = self.locate(first + done)
            n = _piece_length(source) - row % source.chunk
            piece = out[done : done + min(n, source.shape[0] - row)]
            self._read_piece(piece, source, row)
            if tidy is not keep and source.masks is not None:
                with self._lock:
                    self._turn_to(source)
                    source.leave_out(piece, row)
            tidy(piece)
            done += len(piece)

    def _read_piece(self, out: NDArray[Any], source: Source, row: int) -> None:
        recorded = out
        if out.dtype != source.dtype:  # NumPy converts faster, and for many at once
            recorded = np.empty(out.shape, source.dtype)
        with self._lock:
            self._turn_to(source)
            descriptor = source.lend_descriptor()
            if descriptor is None:
                source.read_into(recorded, row)
        if descriptor is not None and source.contiguous is not None:
            try:
                source.contiguous.read_into(recorded, row, descriptor)
            finally:
                os.close(descriptor)
        if recorded is not out:
            with np.errstate(over="ignore", invalid="ignore"):
                out[...] = recorded

    def _turn_to(self, source: Source) -> None:
        """Close the file that is open if another is wanted; the lock is held."""
        if source is not self._open:
            self._open.close()
            self._open = source

    def _find_runs(self, ascending: NDArray[np.int64]) -> Iterator[slice]:
        """Cut sorted indices into runs that are worth reading in one go.

        A run stays within a file and a piece; it has gaps only within a chunk, which
        is read as a whole anyway.
        """
        number = np.searchsorted(self.starts, ascending, side="right") - 1
        row = ascending - self.starts[number]
        chunk, piece = row // self._chunks[number], row // self._pieces[number]
        apart = (np.diff(ascending) > 1) & (np.diff(chunk) != 0)
        cut = apart | (np.diff(piece) != 0) | (np.diff(number) != 0)
        bounds = [0, *(np.flatnonzero(cut) + 1).tolist(), ascending.size]
        if ascending.size:
            yield from (slice(start, stop) for start, stop in pairwise(bounds))


def _piece_length(source: Source) -> int:
    """Return how many patterns, in whole chunks, make about `READ_BYTES`."""
    chunk_bytes = source.chunk * math.prod(source.shape[1:]) * source.dtype.itemsize
    return source.chunk * max(1, READ_BYTES // chunk_bytes)


def keep(values: NDArray[Any]) -> None:
    """Leave values as they were read."""


def _are_consecutive(index: NDArray[np.int64]) -> bool:
    n = index.size
    return n > 0 and bool((index == np.arange(index[0], index[0] + n)).all())
