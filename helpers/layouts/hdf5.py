"""HDF5 files, opened with a plain word about what is wrong with them."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers its compression filters with HDF5)

from helpers.errors import PatternsFileError

NUMBERS = "iuf"  # kinds of NumPy dtype that a pixel may have
LISTED = 10  # a message names at most so many datasets or links


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file to read.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    PatternsFileError
        If it is missing, a folder, empty, not HDF5, cut short or locked.
    """
    problem = _find_problem(path)
    if problem:
        raise PatternsFileError(path, [problem])
    try:
        return h5py.File(path, "r")
    except OSError as error:
        problem = (
            "begins like an HDF5 file but cannot be opened. It may be cut short "
            "(copied in part) or still being written. Compare its size with the "
            f"original, or wait until it is whole. HDF5 says: {error}"
        )
        raise PatternsFileError(path, [problem]) from error


def say_missing(path: Path) -> str:
    """Say that a file is not there, and from where its name counts."""
    counted = "" if path.is_absolute() else f" It counts from {Path.cwd()}."
    return f"there is no such file. Check the name.{counted}"


def _find_problem(path: Path) -> str:
    if not path.exists():
        return say_missing(path)
    if path.is_dir():
        return f"is a folder; expected an HDF5 file. Pass its files: '{path}/*.h5'."
    if path.stat().st_size == 0:
        return "is empty (0 bytes); expected an HDF5 file. Copy or write it again."
    if not os.access(path, os.R_OK):
        return "may not be read by you. Ask its owner for permission."
    if not h5py.is_hdf5(path):
        return "is not an HDF5 file. Expected one (.h5, .hdf5, .cxi); convert it first."
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
            found = parent.get(name)
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
    found = file.get(where) if where else None
    is_dataset = isinstance(found, h5py.Dataset) and found.shape is not None
    return found if is_dataset else None


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
    return f" Links that lead nowhere: {_enumerate(targets)}." if broken else ""


def _say_target(file: h5py.File, path: str) -> str:
    link = file.get(path, getlink=True)
    outside = getattr(link, "filename", "")
    return f"{outside}:{link.path}" if outside else str(link.path)
