"""The stack of patterns that every stage reads from."""

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns import scan
from helpers.patterns.dragonfly import SHAPE
from helpers.patterns.integrity import (
    digest_sample,
    find_changed,
    make_fingerprint,
    stamp,
)
from helpers.patterns.layout_table import Layout
from helpers.patterns.mask_convention import BadPixels, check_bad_pixels
from helpers.patterns.pattern_file import (
    PatternFile,
    gather_notes,
    join_labels,
    join_shots,
)
from helpers.patterns.sources import JoinedSources, keep

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Key = int | np.integer[Any] | slice | ArrayLike


class Unit(NamedTuple):
    """A unit and why it is thought to be so.

    Attributes
    ----------
    name
        "photons", "ADU" or "unknown".
    why
        In words, for `Patterns.describe`.
    is_declared
        Whether the file or its layout says so; otherwise its values suggest it.
    """

    name: str
    why: str
    is_declared: bool = False


class Patterns:
    """One or many files as one lazy, read-only stack (n, rows, columns).

    `patterns[key]` and `map` give clean float32 values: bad pixels are 0; so are NaN,
    infinite values and counts below 0, as if that pixel were bad in that pattern;
    negative ADU stay. `read_raw` gives what the files hold. Files are opened when they
    are read, one at a time. Made by `open_patterns`.

    Attributes
    ----------
    files, file_sizes, layout
        In the order of the stack; bytes when opened, 0 for a folder; of the first file.
    shape, dtype
        (n, rows, columns), as recorded; a dtype that holds the values of all files.
    unit, declares_photons
        "photons", "ADU" or "unknown", of what `patterns[key]` gives; whether files say
        so, not only their values.
    pedestal, adu_per_photon
        What is taken off, and then divided by; 0 and 1 until `with_scale` says it.
    recorded_labels, true_labels
        (n,) words from the files, "" = none; None if no file holds any.
    file_index, chunk
        (n,) int64: number of the file that each pattern is from; most patterns that are
        stored in one piece.
    unclear_masks
        Masks in the files of which nothing says which of their values mean bad.
    shots
        What the facility calls each shot, by kind ("train", "pulse", "event"): (n,)
        int64, -1 = not known.
    is_measurement
        (n,) bool: which hold a measurement, as far as `with_measurements` has said.
    """

    def __init__(
        self, pattern_files: Sequence[PatternFile], bad_pixels: BadPixels, unit: Unit
    ) -> None:
        sources = [file.source for file in pattern_files]
        self._stack = JoinedSources(sources)
        self._layouts = [file.layout for file in pattern_files]
        self._notes = gather_notes(pattern_files)
        self._bad_pixels = bad_pixels
        self._bad_pixels.pixels.setflags(write=False)
        self._unit = unit
        self.files = tuple(source.path for source in sources)
        behind = frozenset[Path]().union(*(one.behind for one in pattern_files))
        self._stamps = {path: stamp(path) for path in (*self.files, *sorted(behind))}
        self.file_sizes = tuple(self._stamps[path][0] for path in self.files)
        self.layout: Layout = self._layouts[0]
        self.shape = (len(self._stack), *sources[0].shape[1:])
        dtypes = {source.dtype for source in sources}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
        self.unit = unit.name
        self.declares_photons = unit.is_declared and unit.name == "photons"
        self.pedestal, self.adu_per_photon = 0.0, 1.0
        self.chunk = max(source.chunk for source in sources)
        lengths = [source.shape[0] for source in sources]
        self.file_index = np.repeat(np.arange(len(sources)), lengths)
        self.recorded_labels = join_labels([f.labels for f in pattern_files], lengths)
        self.true_labels = join_labels([f.true_labels for f in pattern_files], lengths)
        self.shots = join_shots([f.shots for f in pattern_files], lengths)
        self.is_measurement = np.ones(len(self._stack), np.bool_)
        found = [*(one.bad_pixels for one in pattern_files), bad_pixels]
        self.unclear_masks = tuple(
            mask for each in found if each for mask in each.unclear
        )

    def check_unchanged(self) -> None:
        """Refuse to go on where a file was cut, replaced or lost since it was opened.

        Whoever writes a result calls it first: HDF5 reads what a file has lost as 0.

        Raises
        ------
        PatternsFileError
            If a file has another size than when it was opened, or was written again
            with other values; also where it only lends its values to one of `files`.
        """
        for path, other_size in find_changed(self._stamps):
            if other_size or not self._reads_as_before():
                problem = (
                    f"{other_size or 'was written again after it was opened'}, so what "
                    "was read from it may be wrong. Copy it again, then run this again."
                )
                raise PatternsFileError(path, [problem])

    def _reads_as_before(self) -> bool:
        """Tell whether the fingerprint is known, and still the same."""
        if "fingerprint" not in vars(self):
            return False
        self.close()
        again = copy.copy(self)
        for name in ("fingerprint", "_sample"):
            vars(again).pop(name, None)
        return again.fingerprint == self.fingerprint

    def find_unwritten(self) -> NDArray[np.bool_]:
        """Return which patterns the files have room for and nothing else, (n,)."""
        return np.concatenate([each.find_unwritten() for each in self._stack.sources])

    @property
    def has_mask_of_each(self) -> bool:
        """Whether files have masks for each pattern that differ."""
        return any(source.masks for source in self._stack.sources)

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns) bool, True = leave out."""
        return self._bad_pixels.pixels

    def __len__(self) -> int:
        """Return the number of patterns."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return what the stack is, in one line."""
        n, rows, columns = self.shape
        return f"<Patterns: {n} of {rows} × {columns}, unit {self.unit}>"

    def __getitem__(self, key: Key) -> NDArray[np.float32]:
        """Return clean patterns, float32 (…, rows, columns).

        Parameters
        ----------
        key
            An index, a slice, a list or array of indices (in any order, repeats and
            negative ones allowed) or (n,) bool; as for a NumPy array.

        Raises
        ------
        IndexError
            If there is no such pattern.
        PatternsFileError
            If a file is gone or damaged.
        """
        return self._read(key, raw=False)

    def read_raw(self, key: Key) -> NDArray[Any]:
        """Return patterns exactly as recorded, in `dtype`; bad pixels and all.

        Parameters and errors are those of `patterns[key]`.
        """
        return self._read(key, raw=True)

    def map(
        self,
        function: Callable[[NDArray[Any]], Result],
        index: ArrayLike | None = None,
        *,
        start: int = 0,
        length: int | None = None,
        raw: bool = False,
        keep_nan: bool = False,
        here: bool = False,
        join: Callable[[Result, Result], Result] | None = None,
        progress: str = "",
    ) -> Iterator[tuple[slice, Result]]:
        """Apply a function to parts of the stack on all cores, or workers of a cluster.

        Parts are of about 4 MiB and end where chunks of the file end. They, and so the
        results, depend on the stack and `index` alone, never on the machine or `start`.

        Parameters
        ----------
        function
            Takes patterns (m, rows, columns). Their memory is used again: it may alter
            them, but must not return them or a view (`numpy.copy` may). It is called in
            several threads at once, or pickled and sent to workers.
        index, start
            (m,) which patterns, in any order, all without it; place there to go on at.
        length
            Most patterns in a part, in place of 4 MiB; more where a chunk is longer.
        raw, keep_nan
            Give patterns as recorded; or float32 with NaN where a pattern has no value,
            and infinite values and bad pixels as they are. Else they are clean.
        here
            Stay in this process, as what returns patterns should.
        join
            Puts the results of successive parts together, so that one is yielded for
            each block of about 256 MiB; may alter the first.
        progress
            Name of the work, for a bar that shows up if it takes long; none without it.

        Yields
        ------
        tuple
            Which places of `index` (or of the stack) a part is made of, and the
            result; in order.
        """
        rows: scan.Rows = range(len(self))
        if index is not None:
            rows = self._find_rows(index).ravel()
        length = length or self._fitting(scan.PART_BYTES)
        work = scan.Apply(self._reader(rows, raw, keep_nan), function)
        return scan.run_parts(
            work,
            self._cut(rows, length),
            (start, len(rows)),
            progress,
            per_block=self._per_block(len(rows), length),
            join=join,
            here=here,
        )

    def map_in_groups(
        self,
        function: Callable[[NDArray[Any]], Piece],
        then: Callable[[list[Piece]], Result],
        length: int,
        *,
        raw: bool = False,
        progress: str = "",
    ) -> Iterator[tuple[slice, Result]]:
        """Do what `map` does, in two steps, for work that is fast with many patterns.

        Parameters
        ----------
        function
            Takes some patterns of a group at a time, as for `map`: about 2 MiB.
        then
            Takes the list of what the function returned for a whole group.
        length
            Most patterns in a group; more only where a chunk is longer.
        raw, progress
            As for `map`.
        """
        rows = range(len(self))
        n_chunks = max(1, self._fitting(scan.PIECE_BYTES) // self.chunk)
        at_once = n_chunks * self.chunk
        work = scan.ApplyInPieces(self._reader(rows, raw), function, then, at_once)
        per_block = self._per_block(len(rows), length)
        parts = self._cut(rows, length)
        whole = 0, len(self)
        return scan.run_parts(work, parts, whole, progress, per_block=per_block)

    def map_in_batches(
        self,
        function: Callable[[NDArray[Any]], NDArray[Any]],
        then: Callable[[NDArray[Any]], Result],
        length: int,
        *,
        start: int = 0,
        progress: str = "",
    ) -> Iterator[tuple[slice, Result]]:
        """Do what `map` does, then something with batches of exactly one length.

        Parameters
        ----------
        function
            As for `map`; returns something for each pattern, (m, …).
        then
            Takes what the function returned for `length` successive patterns, the last
            batch being shorter; in the caller's thread, or a worker's.
        length
            Of a batch.
        start
            Where to go on: a multiple of `length`.
        progress
            As for `map`.
        """
        rows = range(len(self))
        parts = self._cut(rows, self._fitting(scan.PART_BYTES))
        work = scan.Apply(self._reader(rows, raw=False), function)
        in_batches = scan.ApplyInBatches(work, then, length)
        rest, per_block = (start, len(self)), self._per_block(len(self), length)
        return scan.run_batches(in_batches, parts, rest, progress, per_block)

    def _per_block(self, n: int, length: int) -> int:
        """Return how many parts of a length a worker is sent to do at a time.

        A short stack is cut into more and smaller blocks, so that no worker has to wait
        long for the last one, and a very long one into larger blocks, which keep the
        scheduler of hundreds of workers from being what all wait for.
        """
        least = self._fitting(scan.FEWEST_PARTS * scan.PART_BYTES)
        usual = self._fitting(scan.BLOCK_BYTES)
        most = self._fitting(scan.LARGEST_BLOCK_BYTES)
        if n > scan.MANY_BLOCKS * usual:
            return max(1, min(n // scan.MANY_BLOCKS, most) // length)
        return max(1, min(max(n // scan.WISHED_BLOCKS, least), usual) // length)

    def _reader(self, rows: scan.Rows, raw: bool, keep_nan: bool = False) -> scan.Read:
        if raw:
            return scan.Read(self._stack, rows, self.dtype, keep)
        are_counts = self.recorded_unit == "photons" and self.dtype.kind == "i"
        scale = scan.Scale(self.pedestal, self.adu_per_photon, are_counts)
        clean = scan.Clean(np.flatnonzero(self.bad_pixels), scale)
        tidy = scale if keep_nan else clean
        return scan.Read(self._stack, rows, np.dtype(np.float32), tidy)

    def read_later(self, index: ArrayLike) -> Callable[[], NDArray[np.float32]]:
        """Return what gives `patterns[index]` when it is called, in any process.

        Raises
        ------
        IndexError
            If there is no such pattern.
        """
        return self._reader(self._find_rows(index).ravel(), raw=False).read_all

    def _fitting(self, n_bytes: int) -> int:
        """Return how many clean patterns need so much memory; at least one."""
        return max(1, n_bytes // (4 * self.shape[1] * self.shape[2]))

    def _cut(self, rows: scan.Rows, length: int) -> Iterator[slice]:
        """Cut patterns into parts, as they are asked for: memory does not grow."""
        longest = self._fitting(scan.WHOLE_CHUNK_BYTES)
        edges: scan.Edges = self._stack
        if not isinstance(rows, range):
            edges = scan.IndexEdges(self._stack.find_chunks(rows))
        return scan.cut_parts(edges, len(rows), length, longest)

    def locate(self, index: int) -> tuple[Path, int]:
        """Return the file of a pattern, and the pattern's index in that file.

        Raises
        ------
        IndexError
            If there is no such pattern.
        """
        source, row = self._stack.locate(int(self._find_rows(operator.index(index))))
        return source.path, row

    @cached_property
    def fingerprint(self) -> str:
        """What tells this stack from others, wherever its files are: hexadecimal.

        Made from the patterns as they are recorded, what the facility calls the shots,
        and the attributes of files and datasets. Bad pixels do not change it.
        """
        return make_fingerprint(
            self._sample,
            self.shape,
            self.dtype,
            self.read_raw,
            sources=self._stack.sources,
            shots=self.shots,
        )

    @cached_property
    def _sample(self) -> str:
        return digest_sample(self.shape, self.dtype, self.read_raw)

    def shuffled(self) -> NDArray[np.int64]:
        """Return the measurements in random order, always the same for a stack.

        Whoever labels or checks patterns in this order works on the same random sample.
        """
        rng = np.random.default_rng(int(self._sample, 16))
        order = rng.permutation(len(self))
        return order[self.is_measurement[order]]

    def with_measurements(self, is_measurement: NDArray[np.bool_]) -> Self:
        """Return the same patterns, of which some are known to be no measurement.

        They keep their places and their values; nobody is asked to label them, and
        nothing is taught, ranked, predicted or summed up with them.

        Parameters
        ----------
        is_measurement
            (n,) bool.
        """
        other = copy.copy(self)
        other.is_measurement = np.array(is_measurement, np.bool_)
        return other

    def with_scale(self, pedestal: float, adu_per_photon: float) -> Self:
        """Return the same patterns, less a pedestal and in units of what a photon adds.

        `read_raw` and raw passes still give what the files hold. With more than 1 ADU
        per photon, or less, the unit is photons from then on, not whole ones.

        Parameters
        ----------
        pedestal
            What a pixel reads without light, in the unit of the files.
        adu_per_photon
            What one photon adds to it.

        Raises
        ------
        ParameterError
            If `adu_per_photon` is not above 0, or a number is not finite.
        """
        if not (0 < adu_per_photon < np.inf and np.isfinite(pedestal)):
            message = (
                f"adu_per_photon is {adu_per_photon} and the pedestal {pedestal}; "
                "expected a number above 0 and a number. For photon counts: 1 and 0."
            )
            raise ParameterError(message)
        other = copy.copy(self)
        other.pedestal, other.adu_per_photon = float(pedestal), float(adu_per_photon)
        other.unit = self.recorded_unit if adu_per_photon == 1 else "photons"
        return other

    @property
    def is_scaled(self) -> bool:
        """Whether a pedestal is taken off, or values are divided by the gain."""
        return (self.pedestal, self.adu_per_photon) != (0, 1)

    @property
    def recorded_unit(self) -> str:
        """Of the files: "photons", "ADU" or "unknown"."""
        return self._unit.name

    def with_bad_pixels(self, bad_pixels: NDArray[np.bool_]) -> Self:
        """Return the same patterns with other bad pixels instead of the present ones.

        Parameters
        ----------
        bad_pixels
            (rows, columns) bool, True = leave out.

        Raises
        ------
        PatternsFileError
            If they are not bool, have another shape, or leave out everything.
        """
        other = copy.copy(self)
        other._bad_pixels = check_bad_pixels(bad_pixels, self.shape[1:], self.files[0])
        return other

    def describe(self) -> str:
        """Say in a few sentences what was found, and what was assumed."""
        n, rows, columns = self.shape
        n_bad = np.count_nonzero(self.bad_pixels)
        layouts = dict.fromkeys(layout.name for layout in self._layouts)
        sentences = [
            f"{n:,} {'pattern' if n == 1 else 'patterns'} of {rows} × {columns} pixels "
            f"(rows × columns), recorded as {self.dtype}, in {self._describe_place()}.",
            f"Layout: {', '.join(layouts)}.",
            f"Unit: {self.recorded_unit} ({self._unit.why}).",
            f"Bad pixels: {n_bad:,} of {rows * columns:,} "
            f"({n_bad / rows / columns:.1%}) are left out ({self._bad_pixels.origin}).",
        ]
        if self.shots:
            items = self.shots.items()
            ranges = [f"{name} {ids.min()} to {ids.max()}" for name, ids in items]
            sentences.append(f"Shots: {', '.join(ranges)}.")
        if self.is_scaled:
            sentences.append(
                f"A pedestal of {self.pedestal:.4g} is taken off, and "
                f"{self.adu_per_photon:.4g} count as one photon."
            )
        found = {"Labels": self.recorded_labels, "Truth": self.true_labels}
        for name, labels in found.items():
            if labels is not None:
                counts = Counter(labels.tolist()).most_common()
                listed = ", ".join(f"{n} {word or 'unlabelled'}" for word, n in counts)
                sentences.append(f"{name} in the file: {listed}.")
        return "\n".join([*sentences, *self._notes])

    def _describe_place(self) -> str:
        first, last = self.files[0], self.files[-1]
        n = len(self.files)
        files = str(first) if n == 1 else f"{n} files, {first} to {last}"
        inside = self.layout.patterns
        is_place = inside and not SHAPE.fullmatch(inside)
        return f"{inside} of {files}" if is_place else files

    def close(self) -> None:
        """Close the file that is open; reading opens it again."""
        self._stack.close()

    def __enter__(self) -> Self:
        """Return the stack itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file that is open."""
        self.close()

    def _read(self, key: Key, *, raw: bool) -> NDArray[Any]:
        rows = self._find_rows(key)
        patterns = self._reader(rows.ravel(), raw).read_all()
        return patterns.reshape(*rows.shape, *self.shape[1:])

    def _find_rows(self, key: Key) -> NDArray[np.int64]:
        """Return the indices that a key means, in an array of the key's shape."""
        wanted = key if isinstance(key, slice) else _check_indices(key)
        try:
            return np.asarray(np.arange(len(self))[wanted])
        except IndexError as error:
            message = f"{error}; there are {len(self)} patterns, counted from 0"
            raise IndexError(message) from None


def _check_indices(key: ArrayLike) -> NDArray[Any]:
    """Return indices as an array; refuse what NumPy would take for other axes."""
    indices = np.asarray(key)
    is_no_number = indices.ndim == 0 and indices.dtype.kind not in "iu"
    if isinstance(key, tuple) or is_no_number:
        message = f"index {key!r} is not a whole number, a slice or a list"
        raise IndexError(message)
    is_empty = indices.size == 0 and indices.dtype != bool
    return indices.astype(np.int64) if is_empty else indices
