"""HDF5 files, opened with a plain word about what is wrong with them."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers its compression filters with HDF5)

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5_probe import find_fatal_damage
from helpers.patterns.partial_hdf5 import DAMAGE, is_whole, open_unprobed

NUMBERS = "iuf"  # kinds of NumPy dtype that a pixel may have
LISTED = 10  # a message names at most so many datasets or links


def open_hdf5(path: Path, remarks: list[str] | None = None) -> h5py.File:
    """Open an HDF5 file to read, also one that is cut short or still being written.

    Parameters
    ----------
    path
        The file.
    remarks
        Is told when the file is not whole.

    Raises
    ------
    PatternsFileError
        If it is missing, a folder, empty, not HDF5, nothing in it can be read, or the
        HDF5 library would not survive it.
    """
    if problem := _find_hdf5_problem(path):
        raise PatternsFileError(path, [problem])
    return open_unprobed(path, remarks)


def _find_hdf5_problem(path: Path) -> str:
    if problem := find_file_problem(path):
        return problem
    if not h5py.is_hdf5(path):
        return (
            "is not an HDF5 file. Expected one (.h5, .hdf5, .cxi) or Dragonfly's .emc; "
            "convert it first."
        )
    return find_fatal_damage(path)


@contextmanager
def wrap_hdf5_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file, which may be anything, into our error.

    Parameters
    ----------
    path
        The file.
    doing
        What cannot be done with it: "its layout cannot be read".

    Raises
    ------
    PatternsFileError
        If the block fails.
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


def say_missing(path: Path) -> str:
    """Say that a file is not there, and from where its name counts."""
    counted = "" if path.is_absolute() else f" It counts from {Path.cwd()}."
    return f"there is no such file. Check the name.{counted}"


def find_file_problem(path: Path, expected: str = "an HDF5 file") -> str:
    """Say why a file cannot be read at all; "" if it can.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be.
    """
    try:
        if path.is_dir():
            return f"is a folder; expected {expected}. Pass its files: '{path}/*.h5'."
        if path.stat().st_size == 0:
            return f"is empty (0 bytes); expected {expected}. Copy or write it again."
        path.open("rb").close()
    except FileNotFoundError:
        return say_missing(path)
    except PermissionError:
        return "may not be read by you. Ask its owner for permission."
    except (OSError, ValueError) as error:  # a name may be too long, or hold a zero
        why = getattr(error, "strerror", error)
        return f"cannot be looked at ({why}). Check the name and the folder."
    return ""


def walk(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Visit everything that can be reached, links followed, each object once.

    Parameters
    ----------
    group
        Where to begin; an open file to visit all of it.

    Yields
    ------
    tuple
        The path, and the group or dataset there; None where a link leads nowhere.
    """
    seen = {group}
    waiting = deque([group])
    while waiting:
        parent = waiting.popleft()  # what lies higher is met first
        for name in parent:
            path = f"{parent.name.rstrip('/')}/{name}"
            found = follow(parent, name)
            if found in seen:
                continue
            yield path, found
            if found is not None:
                seen.add(found)
            if isinstance(found, h5py.Group):
                waiting.append(found)


def find_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset that can be reached in a file, by path, each once."""
    found = {path: item for path, item in walk(file) if isinstance(item, h5py.Dataset)}
    return dict(sorted(found.items()))


def find_stacks(file: h5py.File) -> list[str]:
    """Return the paths of all three-dimensional datasets of numbers."""
    datasets = find_datasets(file).items()
    return [path for path, item in datasets if is_numeric(item) and item.ndim == 3]


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
    """Return what a path leads to; None if it leads nowhere or round in a circle."""
    try:
        return group.get(path)
    except (OSError, RuntimeError):  # too many links, or one into a damaged file
        return None


def say_choices(file: h5py.File) -> str:
    """Say which datasets of a file could be the patterns, and how to name one."""
    stacks = find_stacks(file)
    if stacks:
        found = _list_shapes(file, stacks)
        choice = f"Datasets with three dimensions: {found}. Pass dataset='{stacks[0]}'."
    else:
        choice = f"No dataset in it has three dimensions{_say_others(file)}."
    return choice + _say_broken_links(file)


def _list_shapes(file: h5py.File, paths: list[str]) -> str:
    return _enumerate([f"{path} {file[path].shape}" for path in paths])


def _enumerate(items: list[str]) -> str:
    more = [f"{len(items) - LISTED} more"] if len(items) > LISTED else []
    return ", ".join(items[:LISTED] + more)


def _say_others(file: h5py.File) -> str:
    others = [path for path, item in find_datasets(file).items() if item.shape]
    return f"; it holds {_list_shapes(file, others)}" if others else ""


def _say_broken_links(file: h5py.File) -> str:
    broken = [path for path, item in walk(file) if item is None]
    targets = [f"{path} -> {_say_target(file, path)}" for path in broken]
    if not broken:
        return ""
    return (
        f" Links that lead nowhere: {_enumerate(targets)}. Put what they lead to where "
        "it was when the file was written."
    )


def _say_target(file: h5py.File, path: str) -> str:
    link = file.get(path, getlink=True)
    outside = getattr(link, "filename", "")
    inside = getattr(link, "path", "a damaged part of the file")
    return f"{outside}:{inside}" if outside else str(inside)
