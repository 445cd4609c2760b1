"""Patterns that are not in one HDF5 dataset: frames, arrays, images, whole runs.

Runs of the European XFEL are folders with files for each module and stretch of trains.
The package extra_data knows which pulse of which train stands where in them. It writes
a virtual file, which copies nothing, and that file is read like any other.
"""

import io
import logging
import os
import re
import shutil
import tempfile
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import (
    check_file,
    describe_dtype,
    enumerate_some,
    find_frame_paths,
    find_frames,
    find_size_problems,
    is_numeric,
)
from helpers.patterns.sources import ContiguousPatterns, Hdf5Source, Source


class FramesSource(Hdf5Source):
    """Patterns as /hit_0/image, /hit_1/image and so on, or a single image.

    In `where` a `*` stands for a number; they are read in the order of these numbers,
    of which some may be left out. Each may also hold many patterns: /data_000001.
    """

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self._names, frames = zip(*find_frames(file, where), strict=True)
        lengths = [len(frame) if frame.ndim == 3 else 1 for frame in frames]
        self._starts = [0, *accumulate(lengths)]
        self.shape = (self._starts[-1], *frames[0].shape[-2:])
        self.dtype = np.result_type(*{frame.dtype for frame in frames})
        if self._names[0] == where:
            self.notes = (f"{where} is a single image: a stack of one pattern.",)
        n_named = len(find_frame_paths(file, where))
        if n_lost := n_named - len(frames):
            self.warnings = (
                f"{n_lost} of {n_named} groups like {where} hold no image, "
                "and are left out.",
            )

    @classmethod
    def check(  # noqa: D102
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        frames = dict(find_frames(file, where))
        if not frames:
            problems.append(f"no dataset has a name like {where}, with a number for *.")
            return None
        first = next(iter(frames.values()))
        strange = [
            f"{name} {frame.shape} of {describe_dtype(frame.dtype)}"
            for name, frame in frames.items()
            if not is_numeric(frame)
            or frame.ndim not in (2, 3)
            or (frame.ndim, frame.shape[-2:]) != (first.ndim, first.shape[-2:])
        ]
        n = sum(len(frame) if frame.ndim == 3 else 1 for frame in frames.values())
        shape = n, *first.shape[-2:]
        if strange:
            problems.append(
                f"found {enumerate_some(strange)}; expected numbers of "
                "shape (rows, columns), the same for every pattern."
            )
        else:
            problems.extend(find_size_problems(where, shape))
        return shape if first.ndim in (2, 3) else None

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        while len(out):
            number = bisect_right(self._starts, start) - 1
            here = out[: self._starts[number + 1] - start]
            frame = file[self._names[number]]
            if frame.ndim == 3:
                first = start - self._starts[number]
                frame.read_direct(here, np.s_[first : first + len(here)])
            else:
                frame.read_direct(here[0])
            out, start = out[len(here) :], start + len(here)


def is_array_file(path: Path) -> bool:
    """Tell by its ending whether a file holds an array and is no HDF5."""
    return path.suffix.lower() in _SOURCES


def open_array_file(path: Path, dataset: str | None = None) -> Source:
    """Return the patterns of a `.npy`, `.npz` or TIFF file.

    Parameters
    ----------
    path
        The file.
    dataset
        Which array of an `.npz` file, where it holds several of three dimensions.

    Raises
    ------
    PatternsFileError
        If the file is missing, damaged or cut short, or holds no stack of numbers.
    """
    check_file(path)
    with _wrap_parser_errors(path, f"cannot be read as {path.suffix}"):
        return _SOURCES[path.suffix.lower()](path, dataset or "")


@contextmanager
def _wrap_parser_errors(path: Path, problem: str) -> Iterator[None]:
    """Turn what a parser raises on a damaged file, which may be anything, into ours."""
    try:
        yield
    except PatternsFileError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__} {error}".split())
        problem = f"{problem} ({why}). Copy the file again."
        raise PatternsFileError(path, [problem]) from error


class NpySource(Source):
    """Patterns in a file that `numpy.save` wrote, read from their places in it."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with path.open("rb") as file:
            shape, is_fortran, dtype = _read_header(file)
            offset = file.tell()
        _check_stack(path, "the array", shape, dtype)
        if is_fortran:
            problem = (
                f"holds an array {shape} in Fortran order, whose pixels of one pattern "
                "lie far apart. Save numpy.ascontiguousarray of it."
            )
            raise PatternsFileError(path, [problem])
        self.dtype = dtype
        pattern_bytes = shape[1] * shape[2] * dtype.itemsize
        there = (path.stat().st_size - offset) // pattern_bytes
        if there < shape[0]:
            problem = (
                f"holds {there} of {shape[0]} patterns: it is cut short. Copy the file "
                "again."
            )
            raise PatternsFileError(path, [problem])
        self.shape = shape
        self._patterns = ContiguousPatterns(path, offset, pattern_bytes)

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        found = np.empty(out.shape, self.dtype)
        descriptor = self._patterns.open()
        try:
            self._patterns.read_into(found, start, descriptor)
        finally:
            os.close(descriptor)
        out[...] = found


class NpzSource(Source):
    """Patterns in one array of a file that `numpy.savez` wrote; it is read whole."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with np.load(path, allow_pickle=False) as arrays:
            is_there = where in arrays.files
            self.where = where if is_there else _choose_array(path, arrays, where)
        array = self._read()
        self._array: NDArray[Any] | None = array
        _check_stack(path, self.where, array.shape, array.dtype)
        n, rows, columns = array.shape
        self.shape, self.dtype = (n, rows, columns), array.dtype
        self.notes = ("An .npz file cannot be read in parts: all of it is in memory.",)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the array: whoever gets the rest reads it again."""
        return super().__getstate__() | {"_array": None}

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        if self._array is None:
            problem = self._describe_unreadable(start, len(out))
            with _wrap_parser_errors(self.path, problem):
                self._array = self._read()
        out[...] = self._array[start : start + len(out)]

    def _read(self) -> NDArray[Any]:
        with np.load(self.path, allow_pickle=False) as arrays:
            return np.ascontiguousarray(arrays[self.where])


class TiffSource(Source):
    """Patterns in the pages of a TIFF file, read a few pages at a time."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        with _raise_logged_errors(), self._open() as file:
            stacks = [_describe_series(path, series) for series in file.series]
        shapes = {(shape[1:], dtype) for shape, dtype in stacks}
        if len(shapes) > 1:
            found = enumerate_some([f"{shape} {dtype}" for shape, dtype in stacks])
            problem = (
                f"holds images of several kinds ({found}); expected patterns of one "
                "shape. Write these alone into a file."
            )
            raise PatternsFileError(path, [problem])
        lengths = [shape[0] for shape, _ in stacks]
        self._starts = [0, *accumulate(lengths)]
        (_, rows, columns), self.dtype = stacks[0]
        self.shape = (self._starts[-1], rows, columns)

    def _open(self) -> Any:
        import tifffile

        file = tifffile.TiffFile(self.path)
        len(file.pages)  # else a circle of pages would be followed for ever
        return file

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        problem = self._describe_unreadable(start, len(out))
        with (
            _wrap_parser_errors(self.path, problem),
            _raise_logged_errors(),
            self._open() as file,
        ):
            for number, (first, end) in enumerate(pairwise(self._starts)):
                here = slice(max(first, start), min(end, start + len(out)))
                if here.start < here.stop:
                    part = out[here.start - start : here.stop - start]
                    _read_series(file, number, part, here.start - first, end - first)


_LESS_IS_READ = re.compile(
    "shaped series|page offset|ImageJ series|virtual_frames|missing (data|Byte)"
)


@contextmanager
def _raise_logged_errors() -> Iterator[None]:
    """Raise what tifffile only writes to its log, and then reads less than is there."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    for message in filter(_LESS_IS_READ.search, logged):  # a strange tag does no harm
        raise ValueError(message)


def _describe_series(path: Path, series: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return (n, rows, columns) and dtype of images that belong together."""
    shape, dtype = tuple(series.shape), np.dtype(series.dtype)
    if series.axes.endswith("S"):
        problem = (
            f"holds colour images {shape}; expected one value for each pixel. Were "
            "these made to look at? Write the recorded values."
        )
        raise PatternsFileError(path, [problem])
    shape = (1, *shape) if len(shape) == 2 else shape
    _check_stack(path, "the images", shape, dtype)
    return shape, dtype


def _read_series(
    file: Any, number: int, out: NDArray[Any], start: int, length: int
) -> None:
    """Fill an array with some images of a series, page by page where it has pages."""
    series = file.series[number]
    if len(series) == length and not series.is_truncated:
        pages = range(start, start + len(out))
        out[...] = file.asarray(key=pages, series=number).reshape(out.shape)
        return
    # planes of one page, or many images under one head
    if series.dataoffset is None:
        whole = series.asarray()
    else:
        path, dtype = file.filehandle.path, series.dtype.newbyteorder(file.byteorder)
        whole = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    out[...] = whole.reshape(length, *out.shape[1:])[start : start + len(out)]


_SOURCES: dict[str, Callable[[Path, str], Source]] = {
    ".npy": NpySource,
    ".npz": NpzSource,
    ".tif": TiffSource,
    ".tiff": TiffSource,
}


def _read_header(file: Any) -> tuple[Any, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = read[version](file)
    return shape, is_fortran, dtype


def read_arrays_beside(
    path: Path, is_wanted: Callable[[str], bool]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file with a wanted name; none of other files."""
    if path.suffix.lower() != ".npz":
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in filter(is_wanted, arrays.files)}


def _choose_array(path: Path, arrays: Any, wanted: str) -> str:
    stacks = [name for name in arrays.files if arrays[name].ndim == 3]
    if len(stacks) != 1 or wanted:
        found = ", ".join(f"{name} {arrays[name].shape}" for name in arrays.files)
        lacks = f"there is no array {wanted}; it " if wanted else ""
        problem = (
            f"{lacks}holds {found or 'no array'}; expected one array (patterns, rows, "
            f"columns). Pass dataset='{stacks[0] if stacks else 'NAME'}'."
        )
        raise PatternsFileError(path, [problem])
    name: str = stacks[0]
    return name


def _check_stack(
    path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    if len(shape) != 3 or dtype.kind not in "biuf":
        problem = (
            f"{what} has shape {shape} and dtype {dtype}; expected numbers of shape "
            "(patterns, rows, columns)."
        )
        raise PatternsFileError(path, [problem])
    problems = list(find_size_problems(what, shape))
    if problems:
        raise PatternsFileError(path, problems)


_OF_A_RUN = re.compile(r"[A-Z]+-R\d{4,}-\w+-S\d{5}\.h5")
MANY = 64  # files, from which on starting processes to open them pays
DATA = "/entry_1/instrument_1/detector_1/data"


@dataclass(frozen=True)
class Run:
    """A run of one detector, gathered in a virtual file.

    Attributes
    ----------
    file
        The virtual file, in a folder of its own that may be removed.
    detector
        Its name in the run: "SPB_DET_AGIPD1M-1".
    kind
        The class of extra_data that reads it: "AGIPD1M".
    is_raw
        True where the values are not corrected.
    absent
        (modules, slow, fast) bool, True in modules without anything in the whole run.
    geometry
        The only CrystFEL geometry in the run's folder; None without one.
    notes
        What is missing in it, one sentence each.
    warnings
        What a person should be warned of.
    """

    file: Path
    detector: str
    kind: str
    is_raw: bool
    absent: NDArray[np.bool_]
    geometry: Path | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def is_run(path: Path) -> bool:
    """Tell whether a path is a folder with the files of a run."""
    with suppress(OSError):
        return path.is_dir() and any(map(_is_of_a_run, path.iterdir()))
    return False


def gather_run(path: Path, detector: str | None = None) -> Run:
    """Write a virtual file of all patterns of a run, in the order of trains and pulses.

    Nothing is written in the run's own folder.

    Parameters
    ----------
    path
        The folder.
    detector
        The name of the detector; needed where the run has several.

    Raises
    ------
    PatternsFileError
        If extra_data is not installed, the run has not exactly one such detector, or
        extra_data cannot read it.
    """
    try:
        from extra_data import DataCollection
        from extra_data.components import identify_multimod_detectors
    except ImportError as error:
        problem = (
            "is a run of the European XFEL, which the package extra-data reads; it is "
            "not installed. Install it (pip install 'single-hits[euxfel]'), or pass a "
            "CXI file that was made of the run."
        )
        raise PatternsFileError(path, [problem]) from error
    with _wrap_extra_data_errors(path):
        # RunDirectory would keep its notes in the folder of the run
        files = sorted(map(str, filter(_is_of_a_run, path.iterdir())))
        data = DataCollection.from_paths(
            files, is_single_run=True, parallelize=len(files) >= MANY
        )
        found = dict(identify_multimod_detectors(data))
        name = _choose(path, list(found), detector)
        opened = {each.filename for each in data.files}
        unreadable = [Path(each).name for each in files if each not in opened]
        return _link(path, found[name](data, name), unreadable)


def _choose(path: Path, found: list[str], detector: str | None) -> str:
    wanted = [name for name in sorted(found) if not detector or name == detector]
    if len(wanted) == 1:
        return wanted[0]
    if not found:
        problem = (
            "no detector of several modules is in this run; expected AGIPD, DSSC, LPD "
            "or JUNGFRAU. Pass the folder with the files of the detector."
        )
    else:
        asked = f"there is no detector {detector} in it; " if detector else ""
        problem = (
            f"{asked}found {', '.join(sorted(found))}. Name one of them: "
            f"dataset='{min(found)}'."
        )
    raise PatternsFileError(path, [problem])


def _link(path: Path, parts: Any, unreadable: list[str]) -> Run:
    """Write the virtual file of a detector of extra_data."""
    file = Path(tempfile.mkdtemp(prefix="run-"), "run.cxi")
    parts.write_virtual_cxi(str(file))
    there = parts.data_availability(module_gaps=True)
    absent = ~there.any(axis=1)
    n_incomplete = np.count_nonzero(~there[~absent].all(axis=0))
    is_raw = _is_raw(file, parts)
    notes, cautions = [], []
    if absent.any():
        numbers = ", ".join(map(str, np.flatnonzero(absent)))
        notes.append(f"Modules without data in this run: {numbers}.")
    if n_incomplete:
        notes.append(
            f"{n_incomplete} patterns lack a module; its pixels are 0 in them."
        )
    if unreadable:
        cautions.append(
            f"{enumerate_some(unreadable)} cannot be opened and is left out, with the "
            "patterns in it. Copy it again."
        )
    if is_raw:
        cautions.append(
            "the values are raw: offsets and gain are not corrected, so that photons "
            "hardly show. Open the corrected run (proc/) if there is one."
        )
    geometries = sorted(path.glob("*.geom"))
    return Run(
        file=file,
        detector=parts.detector_name,
        kind=type(parts).__name__,
        is_raw=is_raw,
        absent=np.broadcast_to(
            absent[:, None, None], (len(absent), *parts.module_shape)
        ),
        geometry=geometries[0] if len(geometries) == 1 else None,
        notes=tuple(notes),
        warnings=tuple(cautions),
    )


def _is_raw(file: Path, parts: Any) -> bool:
    """Tell whether whole numbers come from files of which one is raw."""
    with h5py.File(file) as virtual:
        whole = virtual[DATA].dtype.kind in "iu"
    names = [Path(each.filename).name for each in parts.data.files]
    return whole and any(name.startswith("RAW-") for name in names)


def _is_of_a_run(path: Path) -> bool:
    return _OF_A_RUN.fullmatch(path.name) is not None


@contextmanager
def _wrap_extra_data_errors(path: Path) -> Iterator[None]:
    """Turn what extra_data raises or prints into our error."""
    printed = io.StringIO()
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(printed),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    except PatternsFileError:
        raise
    except Exception as error:  # a reader of a hundred files may raise anything
        more = " ".join(printed.getvalue().split())
        problem = (
            "cannot be read as a run of the European XFEL. Expected the files of one "
            f"run, whole. extra-data says: {error or type(error).__name__} {more}"
        )
        raise PatternsFileError(path, [problem.strip()]) from error


class RunSource(Source):
    """Patterns of a folder; the virtual file that leads to them goes away with it.

    Parameters
    ----------
    path
        The folder of the run.
    where
        The name of the detector.
    linked
        The patterns of the virtual file, which lies in a folder of its own.
    """

    def __init__(self, path: Path, where: str, linked: Source) -> None:
        super().__init__(path, where)
        self._linked = linked
        self.shape, self.dtype, self.chunk = linked.shape, linked.dtype, linked.chunk
        self.gaps, self.notes = linked.gaps, linked.notes
        self.masks = linked.masks
        weakref.finalize(self, shutil.rmtree, linked.path.parent, ignore_errors=True)

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        try:
            self._linked.read_into(out, start)
        except PatternsFileError as error:
            problem = (
                f"{self._describe_unreadable(start, len(out))}. A file of the run is "
                f"gone or damaged. {' '.join(error.problems)}"
            )
            raise PatternsFileError(self.path, [problem]) from error

    def leave_out(self, out: NDArray[np.float32], start: int) -> None:  # noqa: D102
        self._linked.leave_out(out, start)

    def close(self) -> None:  # noqa: D102
        self._linked.close()

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        return self._linked.assemble(values)
