"""What tells one stack from another, and whether its files are still the same.

A fingerprint has two halves of 32 hexadecimal digits. The first is made from 16 evenly
spread patterns; versions before this one knew nothing else. The second sees more: up to
64 MiB of whole patterns, and of a larger stack a trace of all the others, so that two
runs of few hits differ also where the patterns in between are blank.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.made_from import HALF
from helpers.patterns.hdf5_opening import open_unprobed
from helpers.patterns.sources import ContiguousPatterns, Source

SAMPLE = 16  # patterns in the first half
READ_BYTES = 2**26  # of whole patterns in the second
READ_AT_ONCE = 2**24
MOST_STRIPS = 4096  # patterns of a larger stack that are looked into
STRIP_BYTES = 4096

OF_THIS_PACKAGE = ("made_at", "made_by", "package_versions")

Read = Callable[[NDArray[np.int64]], NDArray[Any]]


def digest_sample(shape: Sequence[int], dtype: np.dtype[Any], read: Read) -> str:
    """Return the SHA-256 of shape, dtype and 16 evenly spread patterns.

    Parameters
    ----------
    shape
        Of the stack.
    dtype
        As recorded.
    read
        Gives patterns as recorded.
    """
    digest = hashlib.sha256(f"{(*shape,)} {dtype.str}".encode())
    for values in read(_spread(shape[0], SAMPLE)):
        digest.update(values.tobytes())
    return digest.hexdigest()


def make_fingerprint(
    sample: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    read: Read,
    *,
    sources: Sequence[Source],
    shots: Mapping[str, NDArray[np.int64]],
) -> str:
    """Return 64 hexadecimal digits that two different stacks do not share.

    Parameters
    ----------
    sample
        From `digest_sample`.
    shape, dtype, read
        As there.
    sources
        What the stack is made of.
    shots
        What the facility calls each shot.
    """
    n = shape[0]
    pattern_bytes = max(1, int(np.prod(shape[1:])) * dtype.itemsize)
    seen = _spread(n, max(SAMPLE, READ_BYTES // pattern_bytes))
    digest = hashlib.sha256(sample.encode())
    at_once = max(1, READ_AT_ONCE // pattern_bytes)
    for start in range(0, len(seen), at_once):
        digest.update(read(seen[start : start + at_once]).tobytes())
    for name in sorted(shots):
        digest.update(name.encode() + shots[name].tobytes())
    digest.update(json.dumps(_gather_attributes(sources)).encode())
    if len(seen) < n:
        for trace in _trace(sources):
            digest.update(trace)
    return sample[:HALF] + digest.hexdigest()[:HALF]


def _spread(n: int, n_wanted: int) -> NDArray[np.int64]:
    spread = np.linspace(0, n - 1, min(max(n_wanted, SAMPLE), max(n, SAMPLE)))
    return np.unique(spread.astype(np.int64))


def _gather_attributes(sources: Sequence[Source]) -> list[list[str]]:
    """Return the attributes of files and their patterns, each once, in order."""
    found = {pair for source in sources for pair in _read_attributes(source)}
    return sorted(map(list, found))


def _read_attributes(source: Source) -> Iterator[tuple[str, str]]:
    if not _is_hdf5(source.path):
        return
    with open_unprobed(source.path) as file:
        there = [file, file.get(source.where) if "*" not in source.where else None]
        for each in there:
            for name in each.attrs if each is not None else ():
                if name not in OF_THIS_PACKAGE:
                    yield name, _describe_attribute(each, name)


def _describe_attribute(owner: Any, name: str) -> str:
    try:
        value = np.asarray(owner.attrs[name])
    except (OSError, TypeError, ValueError, RuntimeError):  # h5py cannot read all kinds
        return "unreadable"
    if value.dtype.kind == "O" or h5py.check_ref_dtype(value.dtype):
        return " ".join(map(str, value.ravel()))
    return f"{value.dtype.str} {value.tolist()}"


def _is_hdf5(path: Path) -> bool:
    try:
        return path.is_file() and h5py.is_hdf5(path)
    except OSError:
        return False


def _trace(sources: Sequence[Source]) -> Iterator[bytes]:
    """Give a little of every pattern, or of many, without reading them whole.

    Of patterns that lie in the file as in memory a strip from their middle; of packed
    ones how many bytes each piece takes, since a hit packs less well than a blank.
    """
    for source in sources:
        if source.contiguous is not None:
            yield from _read_strips(source.contiguous, source.shape[0])
        elif _is_hdf5(source.path) and "*" not in source.where:
            yield _list_piece_sizes(source)


def _read_strips(patterns: ContiguousPatterns, n: int) -> Iterator[bytes]:
    length = min(STRIP_BYTES, patterns.pattern_bytes)
    middle = (patterns.pattern_bytes - length) // 2
    descriptor = patterns.open()
    try:
        for number in _spread(n, MOST_STRIPS):
            place = patterns.offset + int(number) * patterns.pattern_bytes + middle
            yield os.pread(descriptor, length, place)
    finally:
        os.close(descriptor)


def _list_piece_sizes(source: Source) -> bytes:
    sizes: list[int] = []
    with open_unprobed(source.path) as file:
        dataset = file.get(source.where)
        if isinstance(dataset, h5py.Dataset) and dataset.chunks:
            dataset.id.chunk_iter(
                lambda piece: sizes.extend((*piece.chunk_offset, piece.size))
            )
    return np.array(sizes, np.int64).tobytes()


class Stamps:
    """Size and time of files, as they are now.

    Parameters
    ----------
    paths
        The files; a folder has size and time 0.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stamps = {path: _stamp_of(path) for path in paths}

    def size_of(self, path: Path) -> int:
        """Return the size that one of them had, in bytes; -1 if it was not there."""
        return self._stamps[path][0]

    def find_changed(self) -> Iterator[tuple[Path, str]]:
        """Give the files that are others now, and why they cannot hold the same.

        "" where only the time is another one.
        """
        for path, (size, time) in self._stamps.items():
            found, written = _stamp_of(path)
            if found != size:
                yield path, f"has {found:,} bytes; it had {size:,} when it was opened"
            elif written != time:
                yield path, ""


def _stamp_of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return (0, 0) if path.is_dir() else (found.st_size, found.st_mtime_ns)
