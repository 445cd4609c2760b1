"""Links and virtual datasets, followed to what they lead to.

HDF5 reads what a virtual dataset cannot find as its fill value, in silence, and h5py
takes a link that leads nowhere for nothing at all.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import (
    describe_target,
    enumerate_some,
    follow,
    get_dataset,
    open_hdf5,
)
from helpers.patterns.partial_hdf5 import is_whole

MEND = "Put it where it was when the file was written, or copy it again."

Seen = frozenset[tuple[str, str]]


def find_link_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
    """Say why what stands at a path is not there, or not all of it.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of a dataset. Where nothing at all stands, nothing is said.
    """
    if not where or "*" in where:
        return
    broken = _find_broken_link(file, where)
    if broken:
        yield broken
        return
    dataset = get_dataset(file, where)
    if dataset is not None:
        yield from find_source_problems(path, dataset)


def warn_of_storage_outside(path: Path, file: h5py.File, where: str) -> Iterator[str]:
    """Say where the values of a dataset lie, if not in the folder of its file.

    A dataset may take any file of the machine for its values.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of a dataset.
    """
    dataset = get_dataset(file, where) if where and "*" not in where else None
    if dataset is not None and (outside := _say_storage_outside(path, dataset)):
        yield f"{dataset.name} {outside}"


def _say_storage_outside(path: Path, dataset: h5py.Dataset) -> str:
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


def find_source_problems(
    path: Path, dataset: h5py.Dataset, seen: Seen = frozenset()
) -> Iterator[str]:
    """Name the sources of a virtual dataset that cannot give their part.

    Sources may be virtual in their turn: these are followed too.

    Parameters
    ----------
    path
        The file that holds the dataset.
    dataset
        Any dataset.
    seen
        Those that led here, which must not come again.
    """
    if not dataset.is_virtual:
        return
    name_here = f"{path}:{dataset.name}" if seen else dataset.name
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


def _find_last(source: Any) -> tuple[int, ...]:
    """Return the largest index that is wanted of a source; () where none is fixed."""
    try:
        if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
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
            if outside := _say_storage_outside(path, dataset):
                return [f"{path}:{where} {outside}."]
            if not is_whole(file, dataset):
                return [f"{path}:{where} is not there as a whole. {MEND}"]
            return list(find_source_problems(path, dataset, seen))
    except PatternsFileError as error:
        return [f"{path}: {problem}" for problem in error.problems]


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
    for name in where.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or name not in group.keys():  # noqa: SIM118
            return ""
        found = follow(group, name)
        if found is None:
            here = f"{group.name.rstrip('/')}/{name}"
            target = describe_target(group, name)
            return f"{here} is a link to {target}, which is not there. {MEND}"
        group = found
    return ""
