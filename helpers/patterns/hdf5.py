"""What is in an HDF5 file, and what is wrong with it."""

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers its compression filters with HDF5)
import numpy as np

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5_opening import (
    DAMAGE,
    count_whole,
    find_fatal_damage,
    is_whole,
    open_unprobed,
)

NUMBERS = "iuf"  # kinds of NumPy dtype that a pixel may have
MOST_PATTERNS = 10**9
MOST_PIXELS = 2**28
LISTED = 10  # a message names at most so many datasets or links
EVENTS = ("/event_time", "/fiducials")  # of small data
CONFIGURATION = PurePosixPath("/UserDataCfg")
MASKS = ("mask", "cmask")  # 1 = good, as psana has it
DEEPEST = 4  # levels that groups of NeXus lie below the file
_PART = re.compile(r"(.*/\D*)\d+")


def open_hdf5(path: Path, warnings: list[str] | None = None) -> h5py.File:
    """Open an HDF5 file to read, also one that is cut short or still being written.

    Parameters
    ----------
    path
        The file.
    warnings
        Gets a sentence where the file is not whole.

    Raises
    ------
    PatternsFileError
        If it is missing, a folder, empty, not HDF5, nothing in it can be read, or the
        HDF5 library would not survive it.
    """
    check_file(path)
    if not h5py.is_hdf5(path):
        problem = (
            "is not an HDF5 file. Expected one (.h5, .hdf5, .cxi) or Dragonfly's .emc; "
            "convert it first."
        )
        raise PatternsFileError(path, [problem])
    if problem := find_fatal_damage(path):
        raise PatternsFileError(path, [problem])
    return open_unprobed(path, warnings)


@contextmanager
def wrap_hdf5_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file, which may be anything, into our error.

    Parameters
    ----------
    path
        The file.
    doing
        What cannot be done with it: "its layout cannot be read".
    """
    try:
        yield
    except DAMAGE as error:
        problem = (
            f"{doing}. The file is damaged, or compressed by a filter that is not "
            "installed. Copy it again, or install the filter. "
            f"HDF5 says: {error or type(error).__name__}"
        )
        raise PatternsFileError(path, [problem]) from error


def describe_missing_file(path: Path) -> str:
    """Say that a file is not there, and what its name is relative to."""
    counted = "" if path.is_absolute() else f" It counts from {Path.cwd()}."
    return f"there is no such file. Check the name.{counted}"


def check_file(path: Path, expected: str = "an HDF5 file", in_folder: str = "") -> None:
    """Refuse what is no file that can be read.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be.
    in_folder
        What to do where it is a folder; by default all its files are asked for.

    Raises
    ------
    PatternsFileError
        If it is missing, a folder, empty, or may not be read.
    """
    try:
        if path.is_dir():
            remedy = in_folder or f"Pass its files: '{path}/*.h5'."
            problem = f"is a folder; expected {expected}. {remedy}"
        elif path.stat().st_size == 0:
            remedy = "Copy or write it again."
            problem = f"is empty (0 bytes); expected {expected}. {remedy}"
        else:
            path.open("rb").close()
            return
    except FileNotFoundError:
        problem = describe_missing_file(path)
    except PermissionError:
        problem = "may not be read by you. Ask its owner for permission."
    except (OSError, ValueError) as error:  # a name may be too long, or hold a zero
        why = getattr(error, "strerror", error)
        problem = f"cannot be looked at ({why}). Check the name and the folder."
    raise PatternsFileError(path, [problem])


def walk(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Give the path of everything that can be reached, and what is there, each once.

    Links are followed; None where one leads nowhere.
    """
    seen = {file}
    waiting: deque[tuple[str, h5py.Group]] = deque([("", file)])
    while waiting:
        folder, group = waiting.popleft()  # what lies higher is met first
        for name in group:
            # A group in another file has another name there.
            path = f"{folder}/{name}"
            found = follow(group, name)
            if found in seen:
                continue
            yield path, found
            if found is not None:
                seen.add(found)
            if isinstance(found, h5py.Group):
                waiting.append((path, found))


def find_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset that can be reached in a file, by path, each once."""
    found = {path: item for path, item in walk(file) if isinstance(item, h5py.Dataset)}
    return dict(sorted(found.items()))


def find_stacks(file: h5py.File) -> list[str]:
    """Return the paths of all three-dimensional datasets of numbers.

    What MATLAB keeps for itself, in groups such as `/#refs#`, is none.
    """
    return [
        path
        for path, item in find_datasets(file).items()
        if is_numeric(item) and item.ndim == 3 and not path.startswith("/#")
    ]


def is_numeric(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset holds real numbers."""
    return dataset.dtype.kind in NUMBERS


def get_dataset(file: h5py.File, where: str) -> h5py.Dataset | None:
    """Return the dataset at a path; None if there is none, or one without a shape."""
    found = follow(file, where) if where else None
    is_dataset = isinstance(found, h5py.Dataset) and found.shape is not None
    return found if is_dataset else None


def get_whole_dataset(file: h5py.File, where: str) -> h5py.Dataset | None:
    """Return the dataset at a path; None if none is there, or not all of it."""
    found = get_dataset(file, where)
    return found if found is not None and is_whole(file, found) else None


def follow(group: h5py.Group, path: str) -> Any:
    """Return what a path leads to; None if it leads nowhere or to itself."""
    try:
        return group.get(path)
    except (OSError, RuntimeError):  # too many links, or one into a damaged file
        return None


def find_numbered(file: h5py.File, path: str, mark: str) -> dict[str, str]:
    """Return the paths that `/hit_*/image`, with `*` for a mark, may stand for.

    They are in the order of their numbers; with each its number, as it is written.
    """
    above, _, below = path.partition(mark)
    folder, prefix = above.rsplit("/", 1)
    suffix = below.partition("/")[0]
    group = follow(file, folder or "/")
    if not isinstance(group, h5py.Group):
        return {}
    form = re.compile(rf"{re.escape(prefix)}(\d+){re.escape(suffix)}", re.ASCII)
    numbers = sorted((m[1] for name in group if (m := form.fullmatch(name))), key=int)
    return {path.replace(mark, number): number for number in numbers}


def find_frame_paths(file: h5py.File, where: str) -> dict[str, str]:
    """Return the paths that `/hit_*/image` may stand for, each with its number."""
    return find_numbered(file, where, "*") if "*" in where else {where: "0"}


def find_frames(file: h5py.File, where: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Give those of these paths where a whole dataset is, and the dataset."""
    for path in find_frame_paths(file, where):
        found = get_whole_dataset(file, path)
        if found is not None:
            yield path, found


def find_first_frame(file: h5py.File, where: str) -> h5py.Dataset | None:
    """Return the first dataset that `where` stands for and that is there, or None."""
    _, found = next(find_frames(file, where), ("", None))
    return found


def describe_choices(file: h5py.File) -> str:
    """Say which datasets of a file could be the patterns, and how to name one."""
    stacks = find_stacks(file)
    if stacks:
        found = _list_shapes(file, stacks)
        largest = max(stacks, key=lambda path: file[path].size)
        choice = f"Datasets with three dimensions: {found}. Pass dataset='{largest}'."
    else:
        others = _describe_others(file)
        choice = f"No dataset of numbers in it has three dimensions{others}."
    squeezed = "".join(map(_describe_squeezed, find_datasets(file).values()))
    return choice + squeezed + _describe_broken_links(file)


def _list_shapes(file: h5py.File, paths: list[str]) -> str:
    return enumerate_some([f"{path} {file[path].shape}" for path in paths])


def enumerate_some(items: Sequence[str]) -> str:
    """Name the first of many things, and say how many more there are."""
    more = [f"{len(items) - LISTED} more"] if len(items) > LISTED else []
    return ", ".join([*items[:LISTED], *more])


def _describe_others(file: h5py.File) -> str:
    others = [path for path, item in find_datasets(file).items() if item.shape]
    return f"; it holds {_list_shapes(file, others)}" if others else ""


def _describe_broken_links(file: h5py.File) -> str:
    broken = [path for path, item in walk(file) if item is None]
    targets = [f"{path} -> {describe_target(file, path)}" for path in broken]
    if not broken:
        return ""
    return (
        f" Links that lead nowhere: {enumerate_some(targets)}. Put what they lead to "
        "where it was when the file was written."
    )


def describe_target(group: h5py.Group, path: str) -> str:
    """Say where a link is said to lead: a path, or a file and a path in it."""
    link = group.get(path, getlink=True)
    outside = getattr(link, "filename", "")
    inside = getattr(link, "path", "a damaged part of the file")
    return f"{outside}:{inside}" if outside else str(inside)


def find_size_problems(where: str, shape: tuple[int, ...]) -> Iterator[str]:
    """Say why patterns cannot have this shape, (n, …) as recorded."""
    if 0 in shape:
        yield (
            f"{where} has shape {shape}, so no pattern is in it; expected at least "
            "one. Was the run written to the end?"
        )
    if shape[0] > MOST_PATTERNS or math.prod(shape[1:]) > MOST_PIXELS:
        yield (
            f"{where} has shape {shape}; expected at most {MOST_PATTERNS:,} patterns "
            f"of at most {MOST_PIXELS:,} pixels. The file may be damaged."
        )


def find_dataset_problems(
    file: h5py.File, where: str, dimensions: tuple[int, ...]
) -> Iterator[str]:
    """Say why a dataset cannot be read as patterns; nothing if it can.

    Parameters
    ----------
    file, where
        An open file, and the path of the dataset in it.
    dimensions
        How many it may have.
    """
    dataset = get_dataset(file, where)
    if dataset is None:
        yield f"there is no dataset {where}. {describe_choices(file)}"
        return
    if not is_numeric(dataset):
        yield (
            f"{where} holds {describe_dtype(dataset.dtype)}; expected real numbers, "
            f"one for each pixel. {describe_choices(file)}"
        )
    if dataset.ndim not in dimensions:
        yield (
            f"{where} has shape {dataset.shape}; expected (patterns, rows, "
            f"columns). {describe_choices(file)}"
        )
    else:
        yield from find_size_problems(where, dataset.shape)
        if dataset.size and not count_whole(file, dataset):
            yield f"{where}: not one pattern of it is there. Copy the file again."
    yield from _find_missing_filters(dataset)


def _describe_squeezed(dataset: h5py.Dataset) -> str:
    """Say how to write a dataset again whose axes of length 1 are in the way."""
    shape = tuple(n for n in dataset.shape or () if n != 1)
    if len(shape) != 3 or len(shape) == dataset.ndim:
        return ""
    return (
        f" Without its axes of length 1 {dataset.name} would be {shape}: write it "
        f"again as dataset[()].reshape{shape}."
    )


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """Name the values of a dtype that are not numbers."""
    if dtype.names:
        return f"records with the fields {', '.join(dtype.names)}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references to other objects"
    vlen = h5py.check_vlen_dtype(dtype)
    if vlen is not None:
        return f"lists of {vlen} of different lengths"
    names = {"O": "text", "S": "text", "c": "complex numbers", "b": "true or false"}
    return names.get(dtype.kind, str(dtype))


def _find_missing_filters(dataset: h5py.Dataset) -> Iterator[str]:
    """Find compression that cannot be undone here."""
    properties = dataset.id.get_create_plist()
    used = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    missing = [
        f"{number} ({name.decode(errors='replace') or 'no name'})"
        for number, _, _, name in used
        if not h5py.h5z.filter_avail(number)
    ]
    if missing:
        yield (
            f"{dataset.name} is compressed by a filter that is not installed: "
            f"{', '.join(missing)}. Install its HDF5 plugin and set HDF5_PLUGIN_PATH, "
            "or write the file again with another compression (h5repack)."
        )


# NeXus says itself where its patterns are, by `default`, `signal` and `axes`: "Rules
# for Storing Data Items in NeXus Files" (associating plots with data), and the base
# class NXdetector (pixel_mask), https://manual.nexusformat.org.


def find_signal(file: h5py.File) -> str:
    """Return the path of the patterns of a NeXus file, "" where it names none.

    Of numbered parts, as Dectris' detectors write them, with `*` for their number.
    """
    for path, group in _find_data_groups(file):
        where = f"{path}/{_signal_of(group)}"
        dataset = get_dataset(file, where)
        if dataset is not None and dataset.ndim == 3:
            parts = _PART.sub(r"\1*", where)
            return parts if len(find_numbered(file, parts, "*")) > 1 else where
    possible = (f"{path}/data_*" for path, _ in _find_groups(file, "NXdata"))
    return next((each for each in possible if find_numbered(file, each, "*")), "")


def find_pixel_masks(file: h5py.File, signal: str) -> tuple[str, ...]:
    """Return where masks of the detector may be: beside the data, and in NXdetector."""
    entry = "/" + signal.strip("/").split("/")[0]
    found = [
        f"{path}/{folder}pixel_mask"
        for path, _ in _find_groups(file, "NXdetector")
        for folder in ("", "detectorSpecific/")
        if path.startswith(f"{entry}/")
    ]
    return (f"{signal.rsplit('/', 1)[0]}/pixel_mask", *found)


def _find_data_groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Give groups of class NXdata that name a signal: the default one first."""
    path, group = "", file
    for _ in range(DEEPEST):  # a default may lead back to where it stands
        if not isinstance(group, h5py.Group) or "default" not in group.attrs:
            break
        name = text_of(group.attrs["default"])
        path = (name if name.startswith("/") else f"{path}/{name}").rstrip("/")
        group = follow(group, name)
    for place, each in ((path, group), *_find_groups(file, "NXdata")):
        if isinstance(each, h5py.Group) and _signal_of(each):
            yield place, each


def _find_groups(file: h5py.File, nx_class: str) -> Iterator[tuple[str, h5py.Group]]:
    """Give all groups of a class that do not lie too deep."""
    level: list[tuple[str, h5py.Group]] = [("", file)]
    for _ in range(DEEPEST):
        level = [
            (f"{folder}/{name}", child)
            for folder, group in level
            for name in group
            if isinstance(child := follow(group, name), h5py.Group)
        ]
        for path, group in level:
            if text_of(group.attrs.get("NX_class")) == nx_class:
                yield path, group


def _signal_of(group: h5py.Group) -> str:
    """Return the name of a group's signal: its attribute, or that of a dataset."""
    if "signal" in group.attrs:
        return text_of(group.attrs["signal"])
    if text_of(group.attrs.get("NX_class")) != "NXdata":
        return ""
    marked = (n for n in group if "signal" in getattr(follow(group, n), "attrs", ()))
    return next(marked, "")


def text_of(value: Any) -> str:
    """Return the text of an attribute, which may stand alone in an array."""
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# Small data of LCLS hold many things, a value for each event, of detectors an image.


def find_detector(file: h5py.File) -> str:
    """Return where the only detector is, one image or some modules for each event.

    "" in a file that is no small data, or has several, or none.
    """
    events = [get_dataset(file, name) for name in EVENTS]
    if any(each is None or each.ndim != 1 for each in events):
        return ""
    n_events = len(file[EVENTS[0]])
    found = [
        path
        for path, item in find_datasets(file).items()
        if is_numeric(item) and item.ndim in (3, 4) and len(item) == n_events
    ]
    return found[0] if len(found) == 1 else ""


def find_detector_masks(file: h5py.File, detector: str) -> tuple[str, ...]:
    """Return where the masks of the only detector are that fit its images."""
    folder = CONFIGURATION / PurePosixPath(detector).parts[1]
    frame = file[detector].shape[1:]
    found = (str(folder / name) for name in MASKS)
    return tuple(
        name
        for name in found
        if (mask := get_dataset(file, name)) is not None and mask.shape == frame
    )
