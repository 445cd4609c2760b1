"""Where the patterns of one file are read from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.layouts.hdf5 import get_dataset, is_numeric, open_hdf5, say_choices


class Source(ABC):
    """The patterns of one file, in order: (n, rows, columns).

    A kind of file that keeps its patterns in another way (a group for each, sparse
    counts, detector modules) derives from this class; nothing else has to know.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of the patterns in it, as the layout gives it.

    Attributes
    ----------
    shape
        (n, rows, columns).
    dtype
        As recorded.
    chunk
        How many consecutive patterns are stored in one piece; reading less than such a
        piece costs as much as reading all of it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: int = 1

    @abstractmethod
    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        self.path = path
        self.where = where
        self._file: h5py.File | None = None

    @staticmethod
    @abstractmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the patterns cannot be read; nothing if they can."""

    @staticmethod
    @abstractmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, int, int] | None:
        """Return (n, rows, columns), or None if that cannot be told."""

    @abstractmethod
    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None: ...

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
        if self._file is None:
            self._file = open_hdf5(self.path)
        try:
            self._read_into(out, self._file, start)
        except (OSError, KeyError) as error:
            problem = (
                f"patterns {start} to {start + len(out) - 1} of {self.where} cannot be "
                "read. The file is damaged, or compressed by a filter that is not "
                "installed. Copy it again, or install the filter. "
                f"HDF5 says: {error}"
            )
            raise PatternsFileError(self.path, [problem]) from error

    def close(self) -> None:
        """Close the file; a later `read_into` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


class DatasetSource(Source):
    """Patterns in one dataset with three dimensions, whatever its chunks and links."""

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        dataset = file[where]
        self.shape = dataset.shape
        self.dtype = dataset.dtype
        self.chunk = dataset.chunks[0] if dataset.chunks else 1

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the dataset cannot be read as patterns; nothing if it can."""
        dataset = get_dataset(file, where)
        if dataset is None:
            yield f"there is no dataset {where}. {say_choices(file)}"
            return
        if not is_numeric(dataset):
            yield (
                f"{where} holds {_say_content(dataset.dtype)}; expected real numbers, "
                f"one for each pixel. {say_choices(file)}"
            )
        if dataset.ndim != 3:
            yield (
                f"{where} has shape {dataset.shape}; expected (patterns, rows, "
                f"columns). {say_choices(file)}"
            )
        elif dataset.size == 0:
            yield (
                f"{where} has shape {dataset.shape}, so no pattern is in it; expected "
                "at least one. Was the run written to the end?"
            )
        yield from _find_missing_sources(path, dataset)

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, int, int] | None:
        """Return the shape of the dataset, if it has three dimensions."""
        dataset = get_dataset(file, where)
        return dataset.shape if dataset is not None and dataset.ndim == 3 else None

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        file[self.where].read_direct(out, slice(start, start + len(out)))


def _say_content(dtype: np.dtype[Any]) -> str:
    if dtype.names:
        return f"records with the fields {', '.join(dtype.names)}"
    names = {"O": "text", "S": "text", "c": "complex numbers", "b": "true or false"}
    return names.get(dtype.kind, str(dtype))


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
