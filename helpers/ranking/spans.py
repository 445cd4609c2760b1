"""Work through a stack with all cores, in memory that is used again and again."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from helpers.patterns import Patterns

Result = TypeVar("Result")

N_THREADS = min(os.cpu_count() or 1, 8)  # they read in turns: more would only wait


class Scratch(threading.local):
    """Arrays to compute in, each thread its own.

    New memory comes from the kernel page by page, which costs more than to fill it.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(
        self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> NDArray[Any]:
        """Return an array with arbitrary content.

        Parameters
        ----------
        name
            Asking for the same name again hands out the same memory.
        shape, dtype
            Of the array. One name has one dtype.
        """
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, dtype)
        return self._arrays[name][:size].reshape(shape)


def map_spans(
    work: Callable[[slice, Iterator[NDArray[Any]]], Result],
    patterns: "Patterns",
    progress: str,
    n_patterns: int,
    rows: slice = slice(None),
) -> list[Result]:
    """Call a function for stretch after stretch of a stack, in all cores.

    While one thread reads, the others compute. Libraries for linear algebra are kept to
    one thread each meanwhile.

    Parameters
    ----------
    work
        Takes a stretch, and its patterns as recorded, bad pixels and all, a few at a
        time: (m, rows wanted, columns). They lie in the core's cache, and the same
        memory holds the next ones afterwards.
    patterns
        The stack.
    progress
        Name of the work, for the bar.
    n_patterns
        Most patterns in a stretch; up to eight times as many where chunks are that
        long, because a chunk that is cut is decompressed twice.
    rows
        Which rows of the patterns are wanted.

    Returns
    -------
    list
        Results in the order of the stack.
    """
    from tqdm.auto import tqdm  # slow to import

    scratch = Scratch()

    def read_and_work(start: int, stop: int) -> Result:
        shape = (patterns.piece_length, *patterns.shape[1:])
        memory = scratch.array("pieces", shape, patterns.dtype)
        pieces = patterns.read_pieces(memory, start, stop, rows)
        return work(slice(start, stop), pieces)

    longest = max(n_patterns, min(patterns.chunk, 8 * n_patterns))
    spans = patterns.find_spans(longest)
    results = []
    with (
        threadpool_limits(1, user_api="blas"),
        tqdm(total=len(patterns), desc=progress, unit="pattern") as bar,
        ThreadPoolExecutor(N_THREADS) as threads,
    ):
        coming = [threads.submit(read_and_work, *span) for span in spans]
        try:
            for (start, stop), future in zip(spans, coming, strict=True):
                results.append(future.result())
                bar.update(stop - start)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return results
