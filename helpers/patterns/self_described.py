"""Files that say themselves where their patterns are: NeXus, and LCLS small data.

NeXus says it by `default`, `signal` and `axes`. Small data hold many things, a value
for each event, and of detectors an image.

References
----------
The NeXus data format, "Rules for Storing Data Items in NeXus Files" (associating plots
with data) and the base class NXdetector (pixel_mask), https://manual.nexusformat.org.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.patterns.hdf5 import (
    find_datasets,
    find_numbered,
    follow,
    get_dataset,
    is_numeric,
)
from helpers.patterns.sources import Source

_PART = re.compile(r"(.*/\D*)\d+")
MOST_NARROW, LEAST_NARROW = 3, 1.6  # sides of a detector: ratio
SIDE = 16  # pixels: no detector is smaller
_PATTERN_AXIS = re.compile(
    r"(?i).*(frame|pattern|image|event|shot|pulse|train|scan|time|tag|index)"
    r"|n(um(ber)?)?|i"
)
_PIXEL_AXIS = re.compile(r"(?i)[xy](_?pixels?)?|(fast|slow|row|col(umn)?|f|s)(_.*|s)?")
PAIRS = 16  # of neighbours along an axis that are compared, fewer of large patterns
SAMPLE_BYTES = 64 * 2**20
ALIKE = 0.06  # how much more neighbours correlate than others: 0.12 to 0.34 in pictures


def is_nexus(file: h5py.File) -> bool:
    """Tell whether a file names a signal of three dimensions, as NeXus files do."""
    return bool(find_signal(file))


def find_signal(file: h5py.File) -> str:
    """Return the path of the patterns of a NeXus file, "" where it names none.

    Of numbered parts, as Dectris' detectors write them, with `*` for their number.
    """
    for group in _find_data_groups(file):
        where = f"{group.name.rstrip('/')}/{_signal_of(group)}"
        dataset = get_dataset(file, where)
        if dataset is not None and dataset.ndim == 3:
            parts = _PART.sub(r"\1*", where)
            return parts if len(find_numbered(file, parts, "*")) > 1 else where
    possible = (f"{g.name}/data_*" for g in _find_groups(file, "NXdata"))
    return next((each for each in possible if find_numbered(file, each, "*")), "")


def find_pixel_masks(file: h5py.File, signal: str) -> tuple[str, ...]:
    """Return where masks of the detector may be: beside the data, and in NXdetector."""
    entry = "/" + signal.strip("/").split("/")[0]
    groups = _find_groups(file, "NXdetector")
    found = [
        f"{group.name}/{folder}pixel_mask"
        for group in groups
        for folder in ("", "detectorSpecific/")
        if group.name.startswith(f"{entry}/")
    ]
    return (f"{signal.rsplit('/', 1)[0]}/pixel_mask", *found)


def find_axis_problems(file: h5py.File, where: str) -> Iterator[str]:
    """Say if a file says that not the first axis of its patterns counts them."""
    dataset = get_dataset(file, where)
    if dataset is None:
        return
    said = dataset.attrs.get("axes", dataset.parent.attrs.get("axes", ()))
    names = [_text(each) for each in np.atleast_1d(said)]
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


def find_chunks(file: h5py.File, where: str) -> tuple[int, ...]:
    """Return the shape of the chunks of a dataset; () without any."""
    return getattr(get_dataset(file, where), "chunks", None) or ()


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
    n_pairs = int(np.clip(SAMPLE_BYTES // (8 * rows * columns), 4, PAIRS))
    firsts = np.unique(np.linspace(0, n - 2, n_pairs).astype(int))
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


def _find_data_groups(file: h5py.File) -> Iterator[h5py.Group]:
    """Give groups of class NXdata that name a signal: the default one first."""
    group: Any = file
    while isinstance(group, h5py.Group) and "default" in group.attrs:
        group = follow(group, _text(group.attrs["default"]))
    groups = [group, *_find_groups(file, "NXdata")]
    yield from (
        each for each in groups if isinstance(each, h5py.Group) if _signal_of(each)
    )


def _find_groups(file: h5py.File, nx_class: str) -> Iterator[h5py.Group]:
    """Give all groups of a class, down to four levels, which is as deep as they lie."""
    level: list[h5py.Group] = [file]
    for _ in range(4):
        level = [
            child
            for group in level
            for name in group
            if isinstance(child := follow(group, name), h5py.Group)
        ]
        yield from (g for g in level if _text(g.attrs.get("NX_class")) == nx_class)


def _signal_of(group: h5py.Group) -> str:
    """Return the name of a group's signal: its attribute, or that of a dataset."""
    if "signal" in group.attrs:
        return _text(group.attrs["signal"])
    if _text(group.attrs.get("NX_class")) != "NXdata":
        return ""
    marked = (n for n in group if "signal" in getattr(follow(group, n), "attrs", ()))
    return next(marked, "")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


EVENTS = ("/event_time", "/fiducials")
CONFIGURATION = PurePosixPath("/UserDataCfg")
MASKS = ("mask", "cmask")  # 1 = good, as psana has it


def find_detector(file: h5py.File) -> str:
    """Return where the only detector is, one image or some modules for each event.

    "" in a file that is no small data, or has several, or none.
    """
    events = [get_dataset(file, name) for name in EVENTS]
    if any(each is None or each.ndim != 1 for each in events):
        return ""
    n_events = len(file[EVENTS[0]])
    found = [
        name
        for name in find_datasets(file)
        if (dataset := get_dataset(file, name)) is not None
        and dataset.ndim in (3, 4)
        and len(dataset) == n_events
        and is_numeric(dataset)
    ]
    return found[0] if len(found) == 1 else ""


def find_detector_masks(file: h5py.File, detector: str) -> tuple[str, ...]:
    """Return where the masks of a detector are that fit its images.

    Parameters
    ----------
    file
        Open.
    detector
        From `find_detector`.
    """
    folder = CONFIGURATION / PurePosixPath(detector).parts[1]
    frame = file[detector].shape[1:]
    found = (str(folder / name) for name in MASKS)
    return tuple(
        name
        for name in found
        if (mask := get_dataset(file, name)) is not None and mask.shape == frame
    )
