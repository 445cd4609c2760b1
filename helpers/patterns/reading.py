"""The patterns of several files end to end, read in few large pieces."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.patterns.sources import Source

Item = TypeVar("Item")
Result = TypeVar("Result")

PIECE_BYTES = 8 * 2**20  # large enough to read fast, small enough to stay in the cache
PLAIN_PIECE_BYTES = 3 * 2**19  # without a library less is enough: near one core


class Stack:
    """Sources end to end; one file is open at a time, however many there are.

    Threads may share a stack: they read one after another.

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
        self._chunks = np.array([source.chunk for source in self.sources])
        self._pieces = np.array([_piece_length(source) for source in self.sources])
        self._open = self.sources[0]
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of patterns."""
        return int(self.starts[-1])

    def locate(self, index: int) -> tuple[Source, int]:
        """Return the source of a pattern and the pattern's index within it."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.sources[number], int(index - self.starts[number])

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
            Alters each piece in place as soon as it is read.
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for run in self._find_runs(ascending):
            places, wanted = order[run], ascending[run]
            first = int(wanted[0])
            if _are_consecutive(places) and _are_consecutive(wanted):
                self._read_run(out[places[0] : places[-1] + 1], first, tidy)
            else:
                piece = np.empty((wanted[-1] - first + 1, *out.shape[1:]), out.dtype)
                self._read_run(piece, first, tidy)
                out[places] = piece[wanted - first]

    @property
    def piece_length(self) -> int:
        """How many patterns `read_pieces` had best be given memory for."""
        if any(source.plain is None for source in self.sources):
            return int(self._pieces.max())
        _, rows, columns = self.sources[0].shape
        n_bytes = rows * columns * max(s.dtype.itemsize for s in self.sources)
        return max(1, PLAIN_PIECE_BYTES // n_bytes)

    def read_pieces(
        self, memory: NDArray[Any], start: int, stop: int, rows: slice
    ) -> Iterator[NDArray[Any]]:
        """Go through consecutive patterns, as many at a time as fit.

        Parameters
        ----------
        memory
            (m, rows, columns), contiguous; used again for every piece.
        start, stop
            The first pattern, and the one after the last.
        rows
            The rows that are wanted of each.

        Yields
        ------
        ndarray
            (some, rows wanted, columns), as recorded.
        """
        while start < stop:
            source, first = self.locate(start)
            last = min(first + stop - start, source.shape[0])
            if source.plain is not None and source.dtype == memory.dtype:
                yield from source.plain.read_pieces(memory, first, last, rows)
            else:
                yield from self._read_pieces(memory, start, start + last - first, rows)
            start += last - first

    def _read_pieces(
        self, memory: NDArray[Any], start: int, stop: int, rows: slice
    ) -> Iterator[NDArray[Any]]:
        for number in range(start, stop, len(memory)):
            piece = memory[: stop - number]
            self._read_run(piece, number, keep)
            yield piece[:, rows]

    def align(self, start: int, stop: int) -> int:
        """Return where a stretch of patterns should stop so that no chunk is cut.

        It is never later than `stop`, and after `start`; a chunk that is longer than
        the whole stretch is cut.
        """
        if stop >= len(self):
            return len(self)
        source, row = self.locate(stop)
        aligned = stop - row % source.chunk
        return aligned if aligned > start else stop

    def close(self) -> None:
        """Close the file that is open; reading opens it again."""
        with self._lock:
            self._open.close()

    def _read_run(
        self, out: NDArray[Any], first: int, tidy: Callable[[NDArray[Any]], None]
    ) -> None:
        source, row = self.locate(first)
        with self._lock:
            if source is not self._open:
                self._open.close()
                self._open = source
            source.read_into(out, row)
        tidy(out)

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


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield `read(item)` for each item; the next is read while the caller works.

    Parameters
    ----------
    read
        Called in another thread, for one item after another.
    items
        What to read.
    """
    coming: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        for item in items:
            coming.append(reader.submit(read, item))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _piece_length(source: Source) -> int:
    """Return how many patterns, in whole chunks, make about `PIECE_BYTES`."""
    pattern_bytes = source.shape[1] * source.shape[2] * source.dtype.itemsize
    return source.chunk * max(1, PIECE_BYTES // (source.chunk * pattern_bytes))


def keep(values: NDArray[Any]) -> None:
    """Leave values as they were read."""


def _are_consecutive(index: NDArray[np.int64]) -> bool:
    return bool((np.diff(index) == 1).all())
