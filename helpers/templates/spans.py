"""Work through a stack with all cores, in memory that is used again and again."""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from helpers.patterns import Patterns

Result = TypeVar("Result")

_SPAN_BYTES = 8 * 2**20  # stays in the cache from reading to computing
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
    work: Callable[[int, NDArray[Any]], Result],
    patterns: "Patterns",
    progress: str,
    max_bytes: int = _SPAN_BYTES,
) -> list[Result]:
    """Call a function for stretch after stretch of a stack, in all cores.

    While one thread reads, the others compute. Libraries for linear algebra are kept to
    one thread each meanwhile.

    Parameters
    ----------
    work
        Takes the index of the first pattern, and patterns as recorded, (m, rows,
        columns), bad pixels and all. The array holds others afterwards.
    patterns
        The stack.
    progress
        Name of the work, for the bar.
    max_bytes
        Of a stretch as float32; up to eight times as much where chunks are that long,
        because a chunk that is cut is decompressed twice.

    Returns
    -------
    list
        Results in the order of the stack.
    """
    from tqdm.auto import tqdm  # slow to import

    scratch = Scratch()

    def read_and_work(start: int, stop: int) -> Result:
        shape = (stop - start, *patterns.shape[1:])
        block = scratch.array("patterns", shape, patterns.dtype)
        patterns.read_raw_into(block, start)
        return work(start, block)

    chunk_bytes = patterns.chunk * math.prod(patterns.shape[1:]) * 4
    spans = patterns.find_spans(max(max_bytes, min(chunk_bytes, 8 * max_bytes)))
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
