"""One loop over patterns: parts of fixed size, read ahead, on all cores, in order."""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

Task = TypeVar("Task")
Result = TypeVar("Result")

PART_BYTES = 4 * 2**20  # of float32: large enough for NumPy, small enough for a cache
PIECE_BYTES = 7 * 2**18  # measured: less costs calls, more leaves a core's own cache
WHOLE_CHUNK_BYTES = 64 * 2**20  # a chunk up to this size is not cut
BAR_DELAY_S = 2
MOST_THREADS = 8  # reading takes turns: more would only wait


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
