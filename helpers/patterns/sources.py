"""Where patterns come from: a `Source` reads those of one file, most often a dataset.

`JoinedSources` reads several files as one, a piece at a time.
"""

import math
import os
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import (
    find_dataset_problems,
    get_dataset,
    open_hdf5,
    wrap_hdf5_errors,
)
from helpers.patterns.hdf5_opening import count_whole, find_unwritten
from helpers.patterns.mask_convention import MaskConvention


@dataclass(frozen=True)
class ContiguousPatterns:
    """Patterns that lie in a file as they lie in memory, one after another.

    The system can copy them from there for several threads at once; HDF5 reads for one
    at a time.

    Attributes
    ----------
    path
        The file that holds them.
    offset
        Its byte where the first pattern begins.
    pattern_bytes
        Size of a pattern.
    """

    path: Path
    offset: int
    pattern_bytes: int

    @classmethod
    def of_dataset(cls, dataset: h5py.Dataset) -> Self | None:
        """Find where the patterns of a dataset lie; None if that is not so simple.

        So it is without chunks, filters and links to other files' values, for numbers
        that NumPy knows, where the system can read from a place (not in Windows).
        """
        if not hasattr(os, "preadv") or dataset.file.driver != "sec2":
            return None
        made, found = dataset.id.get_create_plist(), dataset.id
        is_contiguous = (
            made.get_layout() == h5py.h5d.CONTIGUOUS
            and made.get_external_count() == 0
            and found.get_space_status() == h5py.h5d.SPACE_STATUS_ALLOCATED
            and found.get_type() == h5py.h5t.py_create(dataset.dtype)
        )
        if not is_contiguous or dataset.ndim != 3:
            return None
        path = Path(dataset.file.filename)
        pattern_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        return cls(path, found.get_offset(), pattern_bytes)

    def open(self) -> int:
        """Open the file to read; return its descriptor."""
        try:
            return os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._make_error(0, error.strerror) from error

    def read_into(self, out: NDArray[Any], start: int, descriptor: int) -> None:
        """Fill an array with consecutive patterns.

        Parameters
        ----------
        out
            (m, rows, columns), contiguous, of the recorded dtype.
        start
            Index of the first pattern in the file.
        descriptor
            Of the file, open.

        Raises
        ------
        PatternsFileError
            If the file is shorter than it was, or the system cannot read it.
        """
        left = out.reshape(-1).view(np.uint8)
        place = self.offset + start * self.pattern_bytes
        while left.size:
            try:
                n_bytes = os.preadv(descriptor, [left.data], place)
            except OSError as error:
                raise self._make_error(start, error.strerror) from error
            if not n_bytes:
                raise self._make_error(start, "the file ends before")
            left, place = left[n_bytes:], place + n_bytes

    def _make_error(self, number: int, why: str | None) -> PatternsFileError:
        problem = (
            f"the patterns from {number} on cannot be read ({why}). They were there "
            "when the file was opened: was it moved, or cut short? Copy it again."
        )
        return PatternsFileError(self.path, [problem])


class Source(ABC):
    """The patterns of one file, in order: (n, rows, columns).

    A kind of file that keeps its patterns in another way (a group for each, sparse
    counts, detector modules) derives from this class; nothing else has to know.

    Parameters
    ----------
    path
        The file on disk.
    where
        Path of the patterns in it, as the layout gives it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]  # as recorded
    # Consecutive patterns that are stored in one piece: reading less than such a piece
    # costs as much as reading all of it.
    chunk: int = 1
    # Where a mask for each pattern is in the file, and its convention.
    masks: tuple[str, MaskConvention] | None = None
    # Where the patterns lie, if they lie there as in memory.
    contiguous: ContiguousPatterns | None = None
    # (rows, columns), True where no pixel of the detector is.
    gaps: NDArray[np.bool_] | None = None
    # What was found or assumed, one sentence each, and what a person is warned of.
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    _open_things = frozenset({"_file", "_descriptor", "_dataset"})

    def __init__(self, path: Path, where: str) -> None:
        self.path = path
        self.where = where

    @abstractmethod
    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill an array with consecutive patterns, as recorded but for the dtype.

        The file is opened when it has to be, and stays open until `close`.

        Parameters
        ----------
        out
            (m, rows, columns), contiguous, of any dtype that holds the values.
        start
            Index of the first pattern in this file.

        Raises
        ------
        PatternsFileError
            If the file is gone or damaged.
        """

    def read_rows(self, rows: NDArray[np.int64], dtype: DTypeLike) -> NDArray[Any]:
        """Return some patterns, (m, rows, columns), in the order of their indices."""
        patterns = np.empty((rows.size, *self.shape[1:]), dtype)
        for i, row in enumerate(rows.tolist()):
            self.read_into(patterns[i : i + 1], row)
        return patterns

    def leave_out(self, out: NDArray[np.float32], start: int) -> None:  # noqa: B027
        """Set to NaN what the masks for each pattern call bad in them.

        Parameters are those of `read_into`.
        """

    @property
    def recorded_shape(self) -> tuple[int, ...]:
        """Of a pattern's pixels as recorded, for `assemble`."""
        return self.shape[1:]

    def find_unwritten(self) -> NDArray[np.bool_]:
        """Return which patterns the file has room for and nothing else, (n,)."""
        return np.zeros(self.shape[0], np.bool_)

    def lend_descriptor(self) -> int | None:
        """Return a descriptor of the file, to be closed by the caller, if `contiguous`.

        It is a copy: a thread may go on reading when another closes the file.
        """
        return None

    def close(self) -> None:  # noqa: B027  (a source may have nothing to close)
        """Close the file; a later `read_into` opens it again."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open; name files so that they are found from anywhere."""
        state = vars(self) | dict.fromkeys(self._open_things & vars(self).keys())
        state["path"] = self.path.absolute()
        for name, value in vars(self).items():
            if isinstance(value, ContiguousPatterns):
                state[name] = replace(value, path=value.path.absolute())
        return state

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bring values of one pattern's pixels as recorded into (rows, columns)."""
        return values

    def _describe_unreadable(self, start: int, n: int) -> str:
        place = f" of {self.where}" if self.where else ""
        return f"patterns {start} to {start + n - 1}{place} cannot be read"


class Hdf5Source(Source):
    """Patterns in an HDF5 file.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
    where
        Path of the patterns in it, as the layout gives it.
    """

    @abstractmethod
    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, where)
        self._file: h5py.File | None = None
        self._descriptor: int | None = None

    @classmethod
    @abstractmethod
    def check(
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        """Add why the patterns cannot be read to the problems.

        Returns
        -------
        tuple
            (n, …) with the shape of a pattern as recorded; None if it is unknown.
        """

    @abstractmethod
    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None: ...

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        file = self._open()
        with wrap_hdf5_errors(self.path, self._describe_unreadable(start, len(out))):
            self._read_into(out, file, start)

    def leave_out(self, out: NDArray[np.float32], start: int) -> None:  # noqa: D102
        if self.masks is None:
            return
        where, convention = self.masks
        with wrap_hdf5_errors(self.path, f"the masks of {where} cannot be read"):
            masks = self._open()[where]
            for number, pattern in enumerate(out, start):
                bad = self.assemble(convention(masks[number]))
                pattern[bad.reshape(pattern.shape)] = np.nan

    def lend_descriptor(self) -> int | None:  # noqa: D102
        if self.contiguous is not None:
            self._open()
        return None if self._descriptor is None else os.dup(self._descriptor)

    def _open(self) -> h5py.File:
        if self._file is None:
            self._file = open_hdf5(self.path)
            if self.contiguous is not None:
                self._descriptor = self.contiguous.open()
        return self._file

    def close(self) -> None:  # noqa: D102
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class DatasetSource(Hdf5Source):
    """Patterns in one dataset with three dimensions, whatever its chunks and links.

    Of a file that is cut short, the patterns that are there as a whole.
    """

    dimensions: tuple[int, ...] = (3,)

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self._dataset: h5py.Dataset | None = None
        dataset = file[where]
        self.shape = (count_whole(file, dataset), *dataset.shape[1:])
        self.dtype = dataset.dtype
        self.chunk = dataset.chunks[0] if dataset.chunks else 1
        self.contiguous = ContiguousPatterns.of_dataset(dataset)
        if self.shape[0] < len(dataset):
            self.warnings = (
                f"{self.shape[0]} of {len(dataset)} patterns are there; the "
                "others are left out.",
            )

    @classmethod
    def check(  # noqa: D102
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        problems.extend(find_dataset_problems(file, where, cls.dimensions))
        dataset = get_dataset(file, where)
        if dataset is None or dataset.ndim not in cls.dimensions:
            return None
        shape: tuple[int, ...] = dataset.shape
        return shape

    def find_unwritten(self) -> NDArray[np.bool_]:  # noqa: D102
        with wrap_hdf5_errors(self.path, f"the chunks of {self.where} are not known"):
            return find_unwritten(self._keep_open(self._open()))[: self.shape[0]]

    def close(self) -> None:  # noqa: D102
        self._dataset = None
        super().close()

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        dataset = self._keep_open(file)
        dataset.read_direct(out, slice(start, start + len(out)))

    def _keep_open(self, file: h5py.File) -> h5py.Dataset:
        """Return the dataset; HDF5 keeps the sources of a virtual one open with it."""
        if self._dataset is None:
            self._dataset = file[self.where]
        return self._dataset


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

    def last_edge(self, at: int) -> int:
        """Return the last pattern up to `at` with which a chunk begins."""
        source, row = self.locate(at)
        return at - row % source.chunk

    def next_edge(self, at: int) -> int:
        """Return the first pattern after `at` with which a chunk begins, or the end."""
        source, row = self.locate(at)
        end = at - row + source.shape[0]
        return min(at - row % source.chunk + source.chunk, end)

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
