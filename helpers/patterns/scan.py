"""One loop over patterns: parts of fixed size, read ahead, on all cores, in order."""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain, islice, tee
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from helpers.patterns.cluster import used_cluster
from helpers.patterns.sources import JoinedSources

Piece = TypeVar("Piece")
Task = TypeVar("Task")
Result = TypeVar("Result")
Rows = NDArray[np.int64] | range

PART_BYTES = 4 * 2**20  # of float32: large enough for NumPy, small enough for a cache
BLOCK_BYTES = 256 * 2**20  # of float32: the most that a worker is sent at a time …
WISHED_BLOCKS = 64  # in a pass: with fewer, workers wait for the last one
MANY_BLOCKS = 4096  # … but for a pass that were more
LARGEST_BLOCK_BYTES = 2**30
FEWEST_PARTS = 4  # in a block: with fewer, sending it costs too much
PIECE_BYTES = 7 * 2**18  # measured: less costs calls, more leaves a core's own cache
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

    In threads of this process; `helpers.patterns.cluster` is the same for a cluster. At
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
    with _one_blas_thread, ThreadPoolExecutor(n_threads, "patterns") as threads:
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


class Edges(Protocol):
    """Where chunks of the files begin, as places in what is read."""

    def last_edge(self, at: int) -> int:
        """Return the last place up to `at` where a chunk begins."""

    def next_edge(self, at: int) -> int:
        """Return the first place after `at` where a chunk begins, or all ends."""


class IndexEdges:
    """Where chunks begin in patterns that were picked out.

    Parameters
    ----------
    chunks
        (m,) number of the chunk of each pattern.
    """

    def __init__(self, chunks: NDArray[np.int64]) -> None:
        inside = np.flatnonzero(np.diff(chunks)) + 1
        self._edges = np.concatenate([[0], inside, [chunks.size]])

    def last_edge(self, at: int) -> int:
        """Return the last place up to `at` where another chunk begins."""
        return int(self._edges[np.searchsorted(self._edges, at, side="right") - 1])

    def next_edge(self, at: int) -> int:
        """Return the first place after `at` where another chunk begins, or the end."""
        return int(self._edges[np.searchsorted(self._edges, at, side="right")])


def cut_parts(edges: Edges, end: int, length: int, longest: int) -> Iterator[slice]:
    """Cut patterns into parts that end where chunks of the file end.

    Parameters
    ----------
    edges
        Where chunks begin.
    end
        How many patterns there are.
    length
        Most patterns in a part, but for a chunk that is longer.
    longest
        Length of a chunk from which on it is cut, because it would not fit in memory.
    """
    start = 0
    while start < end:
        stop = start + length
        if stop < end:
            whole = edges.last_edge(stop)
            if whole <= start:  # within one chunk
                whole = edges.next_edge(start)
            stop = whole if whole - start <= max(length, longest) else stop
        yield slice(start, min(stop, end))
        start = stop


def cut_range(whole: slice, length: int) -> Iterator[slice]:
    """Cut a range into pieces of one length; the last one may be shorter."""
    for start in range(whole.start, whole.stop, length):
        yield slice(start, min(start + length, whole.stop))


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
    work: Callable[[slice], Result],
    parts: Iterable[slice],
    bounds: tuple[int, int],
    name: str,
    *,
    per_block: int,
    join: Callable[[Result, Result], Result] | None = None,
    here: bool = False,
) -> Iterator[tuple[slice, Result]]:
    """Yield each part of some bounds with what `work` makes of it; show a bar.

    Parameters
    ----------
    work
        Called in several threads, or sent to workers.
    parts
        Of all patterns, in order; taken as they are needed.
    bounds
        Parts that end before the first are done already; the second is the end.
    name
        Of the work, for the bar over the patterns that the caller is done with.
    per_block
        So many parts are sent to a worker, and joined, at a time.
    join
        Puts the results of a block together, one after the other, so that one is
        yielded for each block.
    here
        Stay in this process.
    """
    start = bounds[0]
    blocks, again = tee(_group(parts, per_block, start, whole=join is not None))
    places: Iterable[slice]
    if join is None:
        places = chain.from_iterable(again)
    else:
        places = (slice(block[0].start, block[-1].stop) for block in again)
    block_work = ApplyToBlock(work, join)
    cluster = used_cluster()
    first = list(islice(blocks, 2))
    one_block = len(first) < 2  # is done before it were sent
    if cluster is None or here or one_block:
        results = block_work.run_here(chain(first, blocks))
    else:
        results = _unpack(cluster.run_in_order(block_work, chain(first, blocks)))
    yield from _show_progress(places, results, bounds, name)


def _group(
    parts: Iterable[slice], length: int, start: int, *, whole: bool
) -> Iterator[list[slice]]:
    """Put parts into blocks; leave out parts, or whole blocks, that end by `start`."""
    coming = iter(parts)
    while block := list(islice(coming, length)):
        if block[-1].stop > start:
            yield block if whole else [part for part in block if part.stop > start]


def _unpack(
    blocks: Generator[list[Result], None, None],
) -> Generator[Result, None, None]:
    with closing(blocks):
        for block in blocks:
            yield from block


def _show_progress(
    places: Iterable[slice],
    results: Generator[Result, None, None],
    bounds: tuple[int, int],
    name: str,
) -> Iterator[tuple[slice, Result]]:
    from tqdm.auto import tqdm  # slow to import, so only when it is needed

    bar = tqdm(
        total=bounds[1],
        initial=bounds[0],
        desc=name,
        unit="pattern",
        delay=BAR_DELAY_S,
        disable=not name,
    )
    with bar, closing(results):
        for place, result in zip(places, results, strict=True):
            yield place, result
            bar.update(place.stop - bar.n)


@dataclass(frozen=True)
class Scale:
    """Brings values to photons as far as is known; NaN stays where there is none."""

    pedestal: float
    adu_per_photon: float
    are_counts: bool  # so that what is below 0 stands for no value

    def __call__(self, values: NDArray[np.float32]) -> None:
        """Alter values in place."""
        if self.are_counts:
            without = values < 0
            if without.any():
                values[without] = np.nan
        if self.pedestal:
            values -= np.float32(self.pedestal)
        if self.adu_per_photon != 1:
            values /= np.float32(self.adu_per_photon)


@dataclass(frozen=True)
class Clean:
    """Sets bad pixels and what is not finite to 0."""

    bad_pixels: NDArray[np.int64]
    scale: Scale

    def __call__(self, values: NDArray[np.float32]) -> None:
        """Alter values in place."""
        self.scale(values)
        values.reshape(len(values), -1)[:, self.bad_pixels] = 0
        finite = np.isfinite(values)
        if not finite.all():
            values[~finite] = 0


@dataclass(frozen=True)
class Read:
    """Reads a part, in whichever thread or process.

    It holds what reading needs, and of a whole stack nothing that is as long as it.
    """

    stack: JoinedSources
    rows: Rows
    dtype: np.dtype[Any]
    tidy: Callable[[NDArray[Any]], None]

    def __call__(self, part: slice) -> NDArray[Any]:
        """Read into the memory of this thread, which is used again."""
        return self._read(self.rows[part], partial(reused_array, "patterns"))

    def read_all(self) -> NDArray[Any]:
        """Read all parts into new memory."""
        return self._read(self.rows, np.empty)

    def _read(self, rows: Rows, make: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        index = np.asarray(rows, np.int64)
        block = make((index.size, *self.stack.sources[0].shape[1:]), self.dtype)
        self.stack.read_into(block, index, self.tidy)
        return block


@dataclass(frozen=True)
class ApplyToBlock(Generic[Result]):
    """Work on several parts, one after the other, as a worker does it."""

    work: Callable[[slice], Result]
    join: Callable[[Result, Result], Result] | None

    def __call__(self, block: Sequence[slice]) -> list[Result]:
        """Return the result of each part, or the one that they are joined to."""
        with _one_blas_thread:
            results = map(self.work, block)
            return list(results) if self.join is None else [reduce(self.join, results)]

    def run_here(
        self, blocks: Iterable[Sequence[slice]]
    ) -> Generator[Result, None, None]:
        """Do the same with the threads of this process."""
        if self.join is None:
            yield from run_in_order(self.work, chain.from_iterable(blocks))
            return
        ahead, again = tee(blocks)
        with closing(run_in_order(self.work, chain.from_iterable(ahead))) as results:
            for block in again:
                yield reduce(self.join, islice(results, len(block)))


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


@dataclass(frozen=True)
class ApplyInBatches(Generic[Result]):
    """What a worker does in `map_in_batches`: parts as a whole, then whole batches.

    Parts do not end where batches do, so those at either end are worked on twice.
    """

    work: Callable[[slice], NDArray[Any]]
    then: Callable[[NDArray[Any]], Result]
    length: int

    def __call__(self, task: tuple[slice, Sequence[slice]]) -> list[Result]:
        """Return the result of each batch between two places, which parts cover."""
        here, touched = task
        with _one_blas_thread:
            made = np.concatenate([self.work(part) for part in touched])
        first = touched[0].start
        inside = made[here.start - first : here.stop - first]
        return [self.then(batch) for batch in batches([inside], self.length)]

    def run_here(
        self, parts: Iterable[slice], start: int
    ) -> Generator[Result, None, None]:
        """Do the same in this process, what comes before batches in its threads."""
        rest, again = tee(part for part in parts if part.stop > start)
        with closing(run_in_order(self.work, rest)) as results:
            pairs = zip(again, results, strict=True)
            made = (some[max(start - part.start, 0) :] for part, some in pairs)
            yield from map(self.then, batches(made, self.length))


def run_batches(
    work: ApplyInBatches[Result],
    parts: Iterable[slice],
    bounds: tuple[int, int],
    name: str,
    per_block: int,
) -> Iterator[tuple[slice, Result]]:
    """Yield each batch of some bounds, with its result; show a bar.

    Parameters
    ----------
    work
        What is done.
    parts
        Of all patterns, in order.
    bounds
        Batches before the first, where one begins, are done already; the second is the
        end.
    name
        Of the work, for the bar.
    per_block
        So many batches are sent to a worker at a time.
    """
    rest = slice(*bounds)
    blocks = cut_range(rest, per_block * work.length)
    cluster = used_cluster()
    one_block = bounds[1] - bounds[0] <= per_block * work.length
    if cluster is None or one_block:
        results = work.run_here(parts, bounds[0])
    else:
        results = _unpack(cluster.run_in_order(work, _cover(blocks, parts)))
    yield from _show_progress(cut_range(rest, work.length), results, bounds, name)


def _cover(
    blocks: Iterable[slice], parts: Iterable[slice]
) -> Iterator[tuple[slice, list[slice]]]:
    """Yield each block with the parts that it is in."""
    coming = iter(parts)
    touched: list[slice] = []
    for block in blocks:
        while not touched or touched[-1].stop < block.stop:
            touched.append(next(coming))
        touched = [part for part in touched if part.stop > block.start]
        yield block, touched


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


class _OneBlasThread:
    """One thread for BLAS while any loop runs; what was before after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_loops = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_loops:
                self._limits = threadpool_limits(1, user_api="blas")
            self._n_loops += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_loops -= 1
            if not self._n_loops:
                self._limits.restore_original_limits()


_one_blas_thread = _OneBlasThread()


def spread_places(n: int, n_most: int) -> NDArray[np.int64]:
    """Return places among `n`, evenly spread: all, or `n_most` if there are more."""
    return np.linspace(0, n - 1, min(n_most, n)).astype(np.int64)


def spread_evenly(index: NDArray[np.int64], n_most: int) -> NDArray[np.int64]:
    """Return some of the indices, evenly spread: all, or `n_most` if there are more."""
    return index[spread_places(index.size, n_most)]
