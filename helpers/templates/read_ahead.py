"""Blocks of patterns, the next one being read while this one is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tqdm.auto import tqdm

Block = TypeVar("Block")


def read_ahead(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks in order; fetch the next one in a thread of its own meanwhile.

    At most two blocks are held at a time.
    """
    remaining = iter(blocks)
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, remaining, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, remaining, None)
            yield block


def progress_bar(n_patterns: int, work: str) -> Any:
    """Make a progress bar over patterns, whose rate is patterns per second."""
    return tqdm(total=n_patterns, desc=work, unit="pattern", unit_scale=True)
