"""Whether all values of a stack are there, the same, no others', and in right order.

HDF5 reads what a virtual dataset cannot find as its fill value, in silence, and h5py
takes a link that leads nowhere for nothing at all. So links and sources are followed.

A fingerprint has two halves of 32 hexadecimal digits. The first is made from 16 evenly
spread patterns; versions before this one knew nothing else. The second sees more: up to
64 MiB of whole patterns, and of a larger stack a trace of all the others, so that two
runs of few hits differ also where the patterns in between are blank.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.made_from import HALF
from helpers.patterns.hdf5 import (
    describe_target,
    enumerate_some,
    find_frame_paths,
    follow,
    get_dataset,
    open_hdf5,
    text_of,
)
from helpers.patterns.hdf5_opening import is_whole, open_unprobed
from helpers.patterns.scan import spread_places
from helpers.patterns.sources import ContiguousPatterns, Source

SAMPLE = 16  # patterns in the first half
READ_BYTES = 2**26  # of whole patterns in the second
READ_AT_ONCE = 2**24
MOST_STRIPS = 4096  # patterns of a larger stack that are looked into
STRIP_BYTES = 4096

MOST_NARROW, LEAST_NARROW = 3, 1.6  # sides of a detector: ratio
SIDE = 16  # pixels: no detector is smaller
_PATTERN_AXIS = re.compile(
    r"(?i).*(frame|pattern|image|event|shot|pulse|train|scan|time|tag|index)"
    r"|n(um(ber)?)?|i"
)
_PIXEL_AXIS = re.compile(r"(?i)[xy](_?pixels?)?|(fast|slow|row|col(umn)?|f|s)(_.*|s)?")
PAIRS = 16  # of neighbours along an axis that are compared, fewer of large patterns
PAIRS_BYTES = 64 * 2**20
ALIKE = 0.06  # how much more neighbours correlate than others: 0.12 to 0.34 in pictures
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
    for values in read(spread_places(shape[0], SAMPLE)):
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
    seen = spread_places(n, max(SAMPLE, READ_BYTES // pattern_bytes))
    digest = hashlib.sha256(sample.encode())
    at_once = max(1, READ_AT_ONCE // pattern_bytes)
    for start in range(0, len(seen), at_once):
        digest.update(np.ascontiguousarray(read(seen[start : start + at_once])).data)
    for name in sorted(shots):
        digest.update(name.encode() + shots[name].tobytes())
    digest.update(json.dumps(_gather_attributes(sources)).encode())
    if len(seen) < n:
        for trace in _trace(sources):
            digest.update(trace)
    return sample[:HALF] + digest.hexdigest()[:HALF]


def _gather_attributes(sources: Sequence[Source]) -> list[list[str]]:
    """Return the attributes of files and their patterns, each once, in order."""
    found = {pair for source in sources for pair in _read_attributes(source)}
    return sorted(map(list, found))


def _read_attributes(source: Source) -> Iterator[tuple[str, str]]:
    if not _is_hdf5(source.path):
        return
    with open_unprobed(source.path) as file:
        for each in (file, file.get(source.where)):
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
        elif _is_hdf5(source.path):
            yield _list_piece_sizes(source)


def _read_strips(patterns: ContiguousPatterns, n: int) -> Iterator[bytes]:
    length = min(STRIP_BYTES, patterns.pattern_bytes)
    middle = (patterns.pattern_bytes - length) // 2
    descriptor = patterns.open()
    try:
        for number in spread_places(n, MOST_STRIPS):
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


Stamp = tuple[int, int]


def stamp(path: Path) -> Stamp:
    """Return size in bytes and time of a file: 0 of a folder, -1 where none is."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return (0, 0) if path.is_dir() else (found.st_size, found.st_mtime_ns)


def find_changed(stamps: Mapping[Path, Stamp]) -> Iterator[tuple[Path, str]]:
    """Give the files that have other stamps now, and why they cannot hold the same.

    "" where only the time is another one.
    """
    for path, (size, time) in stamps.items():
        found, written = stamp(path)
        if found != size:
            yield path, f"has {found:,} bytes; it had {size:,} when it was opened"
        elif written != time:
            yield path, ""


MEND = "Put it where it was when the file was written, or copy it again."

Seen = frozenset[tuple[str, str]]


def find_link_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
    """Say why what stands at a path is not there, or not all of it.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
    where
        Path of a dataset. Where nothing at all stands, nothing is said.
    """
    for each in find_frame_paths(file, where) if where else ():
        dataset = get_dataset(file, each)
        if dataset is not None:
            yield from _find_source_problems(path, dataset)
        elif broken := _find_broken_link(file, each):
            yield broken


def warn_of_storage_outside(path: Path, file: h5py.File, where: str) -> Iterator[str]:
    """Say where the values of a dataset lie, if not in the folder of its file.

    A dataset may take any file of the machine for its values. Parameters are those of
    `find_link_problems`.
    """
    dataset = get_dataset(file, where)
    if dataset is not None and (outside := _describe_storage_outside(path, dataset)):
        yield f"{dataset.name} {outside}"


def _describe_storage_outside(path: Path, dataset: h5py.Dataset) -> str:
    places = [Path(name).resolve() for name, _, _ in dataset.external or ()]
    folder = path.resolve().parent
    outside = sorted({str(each) for each in places if folder not in each.parents})
    if not outside:
        return ""
    return (
        f"takes its values from {enumerate_some(outside)}, outside of the folder of "
        "this file. If you do not know why, ask who gave you the file: what is read is "
        "whatever stands there"
    )


def _find_source_problems(
    path: Path, dataset: h5py.Dataset, seen: Seen = frozenset()
) -> Iterator[str]:
    """Name the sources of a virtual dataset that cannot give their part.

    Sources may be virtual in their turn: these are followed too, but for those that
    led here.
    """
    name_here = f"{path}:{dataset.name}" if seen else dataset.name
    for problem in _find_storage_problems(path, dataset):
        yield f"{name_here} takes its values from {problem} {MEND}"
    if not dataset.is_virtual:
        return
    ends: dict[tuple[str, str], tuple[int, ...]] = {}
    for source in dataset.virtual_sources():
        key = source.file_name, source.dset_name
        last = _find_last(source)
        ends[key] = tuple(map(max, last, ends.get(key, last)))
    names = sorted({name for name, _ in ends if not _locate(path, name)})
    if names:
        yield (
            f"{name_here} is a virtual dataset whose source files are missing: "
            f"{enumerate_some(names)}. Put them where they were when it was made."
        )
    for (name, where), last in ends.items():
        found = _locate(path, name)
        if found and "%" not in name + where:
            if (str(found), where) in seen:
                problems = [f"{found}:{where} leads back to itself"]
            else:
                deeper = seen | {(str(found), where)}
                problems = _find_problems_of(found, where, last, deeper)
            for problem in problems:
                yield f"{name_here} is a virtual dataset: its source {problem}"


def _find_storage_problems(path: Path, dataset: h5py.Dataset) -> Iterator[str]:
    """Name the raw files that values lie in and that cannot give their part."""
    for name, offset, size in dataset.external or ():
        places = (Path(name), path.resolve().parent / name)
        found = next((each for each in places if each.is_file()), None)
        if found is None:
            yield f"{name}, which is not there."
        elif size != h5py.h5f.UNLIMITED and found.stat().st_size < offset + size:
            n_bytes = found.stat().st_size
            yield f"{name}, which has {n_bytes:,} of {offset + size:,} bytes."


def _find_last(source: Any) -> tuple[int, ...]:
    """Return the largest index that is wanted of a source; () where none is fixed."""
    try:
        if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            if source.vspace.is_regular_hyperslab():  # maybe every third pattern
                _, _, count, block = source.vspace.get_regular_hyperslab()
                return tuple(n * m - 1 for n, m in zip(count, block, strict=True))
            first, last = source.vspace.get_select_bounds()  # as long as its part
            return tuple(end - start for start, end in zip(first, last, strict=True))
        return tuple(source.src_space.get_select_bounds()[1])
    except (ValueError, RuntimeError):  # as long as the source is, whatever that is
        return ()


def _find_problems_of(
    path: Path, where: str, last: tuple[int, ...], seen: Seen
) -> list[str]:
    """Say why one source cannot give its part; nothing if it can."""
    try:
        with open_hdf5(path) as file:
            dataset = get_dataset(file, where)
            if dataset is None:
                return [f"{path}:{where} is not there. {MEND}"]
            ends = zip(last, dataset.shape, strict=False)
            if len(last) == dataset.ndim and any(end >= n for end, n in ends):
                wanted = tuple(end + 1 for end in last)
                found = f"has shape {dataset.shape}; {wanted} is wanted"
                return [f"{path}:{where} {found}. {MEND}"]
            if outside := _describe_storage_outside(path, dataset):
                return [f"{path}:{where} {outside}."]
            if not is_whole(file, dataset):
                return [f"{path}:{where} is not there as a whole. {MEND}"]
            return list(_find_source_problems(path, dataset, seen))
    except PatternsFileError as error:
        return [f"{path}: {problem}" for problem in error.problems]


def find_files_behind(
    path: Path, dataset: h5py.Dataset, seen: Seen = frozenset()
) -> set[Path]:
    """Return all files that hold values of a dataset, through links and sources.

    Parameters
    ----------
    path
        The file that holds the dataset.
    dataset
        Any dataset; what is wrong with it is not told.
    seen
        Files and paths that led here, which must not come again.
    """
    linked = Path(dataset.file.filename)  # of an external link the other file
    path = linked if linked.is_file() else path
    outside = {_locate(path, name) for name, _, _ in dataset.external or ()}
    found = {path, *(each for each in outside if each)}
    sources = dataset.virtual_sources() if dataset.is_virtual else ()
    for name, where in {(each.file_name, each.dset_name) for each in sources}:
        there = _locate(path, name)
        if there is None or "%" in name + where or (str(there), where) in seen:
            continue
        with suppress(PatternsFileError), open_hdf5(there) as file:
            source = get_dataset(file, where)
            if source is not None:
                deeper = seen | {(str(there), where)}
                found |= find_files_behind(there, source, deeper)
    return found


def _locate(path: Path, name: str) -> Path | None:
    """Return where a source of the virtual dataset in `path` is; None if nowhere.

    "." is the file itself; with "%" it is a family of files, which HDF5 resolves.
    """
    if name == "." or "%" in name:
        return path
    candidates = (path.resolve().parent / name, Path(name))
    return next((each for each in candidates if each.exists()), None)


def _find_broken_link(file: h5py.File, where: str) -> str:
    """Say which link on the way to a path leads nowhere; "" if none does."""
    group: h5py.Group = file
    here = ""
    for name in where.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or name not in group.keys():  # noqa: SIM118
            return ""
        here += f"/{name}"
        found = follow(group, name)
        if found is None:
            target = describe_target(group, name)
            return f"{here} is a link to {target}, which is not there. {MEND}"
        group = found
    return ""


def find_axis_problems(file: h5py.File, where: str) -> Iterator[str]:
    """Say if a file says that not the first axis of its patterns counts them."""
    dataset = get_dataset(file, where)
    if dataset is None:
        return
    said = dataset.attrs.get("axes", dataset.parent.attrs.get("axes", ()))
    names = [text_of(each) for each in np.atleast_1d(said)]
    axes = names[0].split(":") if len(names) == 1 else names
    if not axes or len(axes) != dataset.ndim:
        return
    counts = [bool(_PATTERN_AXIS.fullmatch(axis)) for axis in axes]
    if not any(counts) and _PIXEL_AXIS.fullmatch(axes[0]):
        counts = [not _PIXEL_AXIS.fullmatch(axis) for axis in axes]
    if any(counts) and not counts[0]:
        counted_by = f"{axes[counts.index(True)]}, axis {counts.index(True)}"
        yield (
            f"{where} {dataset.shape} has the axes ({', '.join(axes)}), so that its "
            f"patterns are counted by {counted_by}; expected that axis first: "
            "(patterns, rows, columns). Write it again with numpy.moveaxis."
        )


def find_scale_attributes(file: h5py.File, where: str) -> Iterator[str]:
    """Warn where attributes say that values should be scaled, which is not done."""
    attributes = getattr(get_dataset(file, where), "attrs", {})
    found = [name for name in ("scale_factor", "add_offset") if name in attributes]
    if found:
        said = ", ".join(f"{name} = {attributes[name]}" for name in found)
        yield (
            f"{where} says {said}, which is not applied: values are those that are "
            "stored. Set pedestal and adu_per_photon, or write the scaled values."
        )


def warn_of_axis_order(
    source: Source, where: str, chunks: tuple[int, ...] = (), *, by_values: bool = True
) -> Iterator[str]:
    """Warn where the last of three axes may be the one that counts the patterns.

    So it is where the first two axes make a usual detector, and a pattern would be long
    and narrow, or a chunk holds one value of the last axis and much of the first, or
    neighbours along the first axis are plainly more alike than others, as pixels are,
    and those along the last are not.

    Parameters
    ----------
    source
        The patterns.
    where
        What they are called.
    chunks
        Shape of the chunks that they are stored in.
    by_values
        Compare neighbours too, for which some patterns are read.
    """
    n, rows, columns = source.shape
    is_narrow = max(rows, columns) > MOST_NARROW * min(rows, columns)
    is_detector = max(n, rows) < LEAST_NARROW * min(n, rows) and min(n, rows) >= SIDE
    is_last_cut = len(chunks) == 3 and chunks[0] > 1 == chunks[2] < columns
    seems_so = is_narrow or is_last_cut
    if is_detector and (seems_so or (by_values and _counts_last(source))):
        yield (
            f"{where} {source.shape} is read as {n} patterns of {rows} × {columns}. If "
            f"these are {columns} patterns of {n} × {rows}, the last axis counts them: "
            "write the array again with numpy.moveaxis(array, -1, 0)."
        )


def _counts_last(source: Source) -> bool:
    """Tell whether neighbours are alike along the first axis, and not the last."""
    n, rows, columns = source.shape
    if columns < SIDE:
        return False
    n_pairs = int(np.clip(PAIRS_BYTES // (8 * rows * columns), 4, PAIRS))
    firsts = spread_places(n - 1, n_pairs)
    some = np.empty((firsts.size, 2, rows, columns), np.float32)
    with closing(source):
        for pair, first in zip(some, firsts.tolist(), strict=True):
            source.read_into(pair, first)
    some = np.sqrt(np.maximum(np.nan_to_num(some), 0))
    along_first = _compare_neighbours(some[:, 0], some[:, 1]).mean()
    last = np.moveaxis(some[:, 0], -1, 0)
    along_last = _compare_neighbours(last[:-1], last[1:]).mean()
    return bool(along_first > ALIKE and along_last < along_first / 4)


def _compare_neighbours(
    some: NDArray[np.float32], neighbours: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how much more each correlates with its neighbour than with one far off."""
    one, other = (
        each.reshape(len(each), -1) - each.mean(axis=(1, 2))[:, np.newaxis]
        for each in (some, neighbours)
    )
    far = np.roll(other, len(other) // 2, axis=0)
    length = [np.linalg.norm(each, axis=1) + 1e-9 for each in (one, other, far)]
    near = np.einsum("ij,ij->i", one, other) / (length[0] * length[1])
    distant = np.einsum("ij,ij->i", one, far) / (length[0] * length[2])
    return np.asarray(near - distant, np.float64)
