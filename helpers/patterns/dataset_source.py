"""Patterns in one dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.patterns.contiguous import PlainPatterns
from helpers.patterns.growing_file import count_whole
from helpers.patterns.hdf5 import get_dataset, is_numeric, say_choices
from helpers.patterns.source import Hdf5Source, find_size_problems


class DatasetSource(Hdf5Source):
    """Patterns in one dataset with three dimensions, whatever its chunks and links.

    Of a file that is cut short, the patterns that are there as a whole.
    """

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self._dataset: h5py.Dataset | None = None
        dataset = file[where]
        self.shape = (count_whole(file, dataset), *dataset.shape[1:])
        self.dtype = dataset.dtype
        self.chunk = dataset.chunks[0] if dataset.chunks else 1
        self.plain = PlainPatterns.of_dataset(dataset)
        if self.shape[0] < len(dataset):
            self.remarks = (
                f"{self.shape[0]} of {len(dataset)} patterns are there; the "
                "others are left out.",
            )

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the dataset cannot be read as patterns; nothing if it can."""
        yield from find_dataset_problems(path, file, where, dimensions=(3,))

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return the shape of the dataset, if it has three dimensions."""
        dataset = get_dataset(file, where)
        return dataset.shape if dataset is not None and dataset.ndim == 3 else None

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


def find_dataset_problems(
    path: Path, file: h5py.File, where: str, dimensions: tuple[int, ...]
) -> Iterator[str]:
    """Say why a dataset cannot be read as patterns; nothing if it can.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of the dataset.
    dimensions
        How many it may have.
    """
    dataset = get_dataset(file, where)
    if dataset is None:
        yield f"there is no dataset {where}. {say_choices(file)}"
        return
    if not is_numeric(dataset):
        yield (
            f"{where} holds {say_content(dataset.dtype)}; expected real numbers, "
            f"one for each pixel. {say_choices(file)}"
        )
    if dataset.ndim not in dimensions:
        yield (
            f"{where} has shape {dataset.shape}; expected (patterns, rows, "
            f"columns). {say_choices(file)}"
        )
    else:
        yield from find_size_problems(where, dataset.shape)
        if dataset.size and not count_whole(file, dataset):
            yield f"{where}: not one pattern of it is there. Copy the file again."
    yield from _find_missing_sources(path, dataset)
    yield from _find_missing_filters(dataset)


def say_content(dtype: np.dtype[Any]) -> str:
    """Say in words what values of a dtype that is no number are."""
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


def _find_missing_sources(path: Path, dataset: h5py.Dataset) -> Iterator[str]:
    """Find the files that a virtual dataset lacks: HDF5 reads them as 0 in silence."""
    if not dataset.is_virtual:
        return
    names = {source.file_name for source in dataset.virtual_sources()}
    missing = sorted(name for name in names if not _is_there(path, name))
    if missing:
        yield (
            f"{dataset.name} is a virtual dataset whose source files are missing: "
            f"{', '.join(missing)}. Put them where they were when it was made."
        )


def _is_there(path: Path, name: str) -> bool:
    """Tell whether a source of the virtual dataset in `path` can be found.

    "." is the file itself; with "%" it is a family of files, which HDF5 resolves.
    """
    beside = path.resolve().parent / name
    return name == "." or "%" in name or beside.exists() or Path(name).exists()
