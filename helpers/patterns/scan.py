"""One loop over patterns: parts of fixed size, read ahead, on all cores, in order."""

import math
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from helpers.patterns.sources import Source

Piece = TypeVar("Piece")
Task = TypeVar("Task")
Result = TypeVar("Result")

PART_BYTES = 4 * 2**20  # of float32: large enough for NumPy, small enough for a cache
PIECE_BYTES = 7 * 2**18  # measured: less costs calls, more leaves a core's own cache
READ_BYTES = 8 * 2**20  # in one go: large enough to be fast
WHOLE_CHUNK_BYTES = 64 * 2**20  # a chunk up to this size is not cut
BAR_DELAY_S = 2
MOST_THREADS = 8  # more would wait for each other: Python and HDF5 lock


def count_threads() -> int:
    """Return how many threads are of use on the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a batch system may have lent only some
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)


def run_in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task]
) -> Generator[Result, None, None]:
    """Yield `work(task)` for each task, in the order of the tasks.

    The one place that decides where work is done: today in threads of this process. At
    most two tasks per thread are under way or waiting for the caller, so memory does
    not grow. Libraries for linear algebra keep to one thread each meanwhile.

    Parameters
    ----------
    work
        Called in several threads at once. An exception ends the loop and is raised
        where the result would have come.
    tasks
        Taken one by one, in the caller's thread.
    """
    n_threads = count_threads()
    coming: deque[Future[Result]] = deque()
    with _one_blas_thread(), ThreadPoolExecutor(n_threads, "patterns") as threads:
        try:
            for task in tasks:
                coming.append(threads.submit(work, task))
                if len(coming) == 2 * n_threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def cut_parts(chunks: NDArray[np.int64], length: int, longest: int) -> Iterator[slice]:
    """Cut patterns into parts that end where chunks of the file end.

    Parameters
    ----------
    chunks
        (m,) number of the chunk of each pattern.
    length
        Most patterns in a part, but for a chunk that is longer.
    longest
        Length of a chunk from which on it is cut, because it would not fit in memory.
    """
    edges = np.flatnonzero(np.diff(chunks)) + 1
    start, end = 0, chunks.size
    while start < end:
        stop = start + length
        if stop < end:
            before, after = np.searchsorted(edges, [stop, start], side="right")
            whole = edges[before - 1] if before else 0
            if whole <= start:  # within one chunk
                whole = edges[after] if after < edges.size else end
            stop = whole if whole - start <= max(length, longest) else stop
        yield slice(start, min(int(stop), end))
        start = int(stop)


def cut_range(whole: slice, length: int) -> list[slice]:
    """Cut a range into pieces of one length; the last one may be shorter."""
    starts = range(whole.start, whole.stop, length)
    return [slice(start, min(start + length, whole.stop)) for start in starts]


def batches(parts: Iterable[NDArray[Any]], length: int) -> Iterator[NDArray[Any]]:
    """Put arrays end to end and cut them anew, all of one length but for the last."""
    waiting: list[NDArray[Any]] = []
    n_waiting = 0
    for part in parts:
        waiting.append(part)
        n_waiting += len(part)
        if n_waiting >= length:
            joined = np.concatenate(waiting)
            n_whole = n_waiting - n_waiting % length
            yield from np.split(joined[:n_whole], n_whole // length)
            waiting, n_waiting = [joined[n_whole:]], n_waiting - n_whole
    if n_waiting:
        yield np.concatenate(waiting)


def run_parts(
    work: Callable[[slice], Result], parts: Sequence[slice], start: int, name: str
) -> Iterator[tuple[slice, Result]]:
    """Yield each part from `start` on with what `work` makes of it; show a bar.

    Parameters
    ----------
    work
        Called in several threads at once.
    parts
        Of all patterns, in order.
    start
        Parts that end before are done already.
    name
        Of the work, for the bar over the patterns that the caller is done with.
    """
    from tqdm.auto import tqdm  # slow to import, so only when it is needed

    rest = [part for part in parts if part.stop > start]
    bar = tqdm(
        total=parts[-1].stop if parts else 0,
        initial=start,
        desc=name,
        unit="pattern",
        delay=BAR_DELAY_S,
        disable=not name,
    )
    with bar, closing(run_in_order(work, rest)) as results:
        for part, result in zip(rest, results, strict=True):
            yield part, result
            bar.update(part.stop - bar.n)


@dataclass(frozen=True)
class Apply(Generic[Result]):
    """What `map` does with a part."""

    read: Callable[[slice], NDArray[Any]]
    function: Callable[[NDArray[Any]], Result]

    def __call__(self, part: slice) -> Result:
        """Read a part and apply the function."""
        return self.function(self.read(part))


@dataclass(frozen=True)
class ApplyInPieces(Generic[Piece, Result]):
    """What `map_in_groups` does with a group."""

    read: Callable[[slice], NDArray[Any]]
    function: Callable[[NDArray[Any]], Piece]
    then: Callable[[list[Piece]], Result]
    length: int

    def __call__(self, group: slice) -> Result:
        """Read a group piece by piece and make its result."""
        pieces = cut_range(group, self.length)
        return self.then([self.function(self.read(piece)) for piece in pieces])


_of_this_thread = threading.local()


def reused_array(
    name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Return an array with arbitrary content, in the same memory for the same name.

    Each thread has its own. New memory comes from the system page by page, which costs
    more than to fill it.
    """
    dtype = np.dtype(dtype)
    n_bytes = math.prod(shape) * dtype.itemsize
    arrays: dict[str, NDArray[np.uint8]] = _of_this_thread.__dict__
    if name not in arrays or arrays[name].size < n_bytes:
        arrays[name] = np.empty(n_bytes, np.uint8)
    return arrays[name][:n_bytes].view(dtype).reshape(shape)


class _BlasLimit:
    """One thread for BLAS while any loop runs; what was before after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_loops = 0
        self._limits: Any = None

    def enter(self) -> None:
        with self._lock:
            if not self._n_loops:
                self._limits = threadpool_limits(1, user_api="blas")
            self._n_loops += 1

    def leave(self) -> None:
        with self._lock:
            self._n_loops -= 1
            if not self._n_loops:
                self._limits.restore_original_limits()


_blas_limit = _BlasLimit()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    _blas_limit.enter()
    try:
        yield
    finally:
        _blas_limit.leave()


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
