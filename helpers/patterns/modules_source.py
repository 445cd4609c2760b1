"""Patterns in modules of a large detector, assembled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.patterns.assembly import find_assembly
from helpers.patterns.dataset_source import DatasetSource, find_dataset_problems
from helpers.patterns.hdf5 import get_dataset

FLAT, MODULES, WITH_GAIN = 3, 4, 5  # dimensions


class ModulesSource(DatasetSource):
    """Patterns as (n, modules, [gain,] slow, fast), or (n, rows, columns) as they are.

    How the modules become one image is said by `notes`; see `find_assembly`.
    Of a gain axis the first entry is read, which holds the signal.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    where
        Path of the patterns in it.
    geometry
        CrystFEL geometry file, if a person named one.
    """

    def __init__(
        self, path: Path, file: h5py.File, where: str, geometry: Path | None = None
    ) -> None:
        super().__init__(path, file, where)
        recorded = self.shape[1:]
        if len(recorded) == FLAT - 1:
            self._assembly = None
            return
        modules = (recorded[0], *recorded[-2:])
        self._recorded = recorded
        self.plain = None
        self._assembly = find_assembly(path, file, where, modules, geometry)
        self.shape = (self.shape[0], *self._assembly.shape)
        self.gaps = self._assembly.gaps
        self.notes = (self._assembly.note,)
        self.remarks += self._assembly.remarks
        if len(recorded) == WITH_GAIN - 1 and recorded[1] > 1:
            self.notes += (
                f"Of the {recorded[1]} values of each pixel the first is read, the "
                "signal; what follows is the gain.",
            )

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the dataset cannot be read as patterns; nothing if it can."""
        dimensions = (FLAT, MODULES, WITH_GAIN)
        yield from find_dataset_problems(path, file, where, dimensions)

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, [modules,] rows, columns), leaving out a gain axis."""
        dataset = get_dataset(file, where)
        if dataset is None or dataset.ndim not in (FLAT, MODULES, WITH_GAIN):
            return None
        shape: tuple[int, ...] = dataset.shape
        return (*shape[:2], *shape[-2:]) if len(shape) == WITH_GAIN else shape

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        return values if self._assembly is None else self._assembly(values)

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        if self._assembly is None:
            super()._read_into(out, file, start)
            return
        signal = (slice(None), 0) if len(self._recorded) == WITH_GAIN - 1 else ()
        dataset = self._keep_open(file)
        for number, image in enumerate(out, start):
            values = self._assembly(np.asarray(dataset[number, *signal]))
            with np.errstate(over="ignore"):  # beyond float32 is infinite, as in HDF5
                image[...] = values
