"""Detectors of several modules: their patterns, and how modules form one image."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import MOST_PIXELS, get_whole_dataset
from helpers.patterns.sources import DatasetSource

FLAT, MODULES, WITH_GAIN = 3, 4, 5  # dimensions

# European XFEL detectors by the shape of their data: the class of extra_geom
_DETECTORS = {
    (16, 512, 128): "AGIPD_1MGeometry",
    (8, 512, 128): "AGIPD_500K2GGeometry",
    (16, 128, 512): "DSSC_1MGeometry",
    (16, 256, 256): "LPD_1MGeometry",
    (8, 512, 1024): "JUNGFRAUGeometry",
}


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

    dimensions = FLAT, MODULES, WITH_GAIN

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
        self.contiguous = None
        self._assembly = find_assembly(path, file, where, modules, geometry)
        self.shape = (self.shape[0], *self._assembly.shape)
        self.gaps = self._assembly.gaps
        self.notes = (self._assembly.note,)
        self.warnings += self._assembly.warnings
        if len(recorded) == WITH_GAIN - 1 and recorded[1] > 1:
            self.notes += (
                f"Of the {recorded[1]} values of each pixel the first is read, the "
                "signal; what follows is the gain.",
            )

    @classmethod
    def check(  # noqa: D102
        cls, path: Path, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        shape = super().check(path, file, where, problems)
        has_gain = shape is not None and len(shape) == WITH_GAIN
        return (*shape[:2], *shape[-2:]) if shape and has_gain else shape

    @property
    def recorded_shape(self) -> tuple[int, ...]:  # noqa: D102
        if self._assembly is None:
            return self.shape[1:]
        return (self._recorded[0], *self._recorded[-2:])

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


@dataclass(frozen=True)
class Assembly:
    """Which pixel of the modules goes where in the image.

    Attributes
    ----------
    taken
        (rows, columns) int64: which pixel of the modules, counted through all of them,
        stands there; -1 in a gap.
    note
        How it was found, in words.
    warnings
        What a person should be warned of.
    """

    taken: NDArray[np.int64]
    note: str
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the image."""
        rows, columns = self.taken.shape
        return rows, columns

    @property
    def gaps(self) -> NDArray[np.bool_] | None:
        """(rows, columns) bool, True in a gap; None without any."""
        gaps: NDArray[np.bool_] = self.taken < 0
        return gaps if gaps.any() else None

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Assemble values (modules, slow, fast) into (rows, columns); 0 in gaps."""
        image: NDArray[Any] = values.reshape(-1)[np.maximum(self.taken, 0)]
        image[self.taken < 0] = 0
        return image


def find_assembly(
    path: Path,
    file: h5py.File,
    where: str,
    modules: tuple[int, int, int],
    geometry: Path | None = None,
) -> Assembly:
    """Find out how modules, (modules, slow, fast), form an image.

    By the CrystFEL geometry file (`.geom`) that a person named, if there is one, which
    the package extra_geom reads. Otherwise by the positions of the pixels in the file
    (`xyz_map`, beside the patterns or in the detector's group), or by the only geometry
    file in the same folder. Otherwise the modules are stacked, the first at the top,
    with a warning: fine for classifying by eye or by a network that is trained on it,
    useless for a centre or for rotations.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
    where, modules
        Path of the patterns, and their shape.
    geometry
        The geometry file that a person named.

    Raises
    ------
    PatternsFileError
        If the positions are of another shape or cannot be right, or the geometry file
        cannot be read or is for another detector.
    """
    if geometry is not None:
        return _from_crystfel(geometry, modules)
    if modules[0] == 1:
        return Assembly(_stack(modules), "The only module is the image.")
    positions = _find_positions(file, where)
    if positions is not None:
        return _from_xyz_map(path, positions, modules)
    geometries = sorted(path.parent.glob("*.geom"))
    if len(geometries) != 1:
        found = f"{len(geometries)} files" if geometries else "no file"
        return _stacked(
            modules, f"the file has no xyz_map, and {found} *.geom is beside it"
        )
    if find_spec("extra_geom") is None:
        why = f"{geometries[0].name} is read by the package extra-geom"
        return _stacked(modules, f"{why}, which is not installed")
    return _from_crystfel(geometries[0], modules)


def place_on_grid(
    rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give each pixel the nearest place of an image.

    Parameters
    ----------
    rows, columns
        Place of each pixel, in pixels, fractions allowed; of any shape.

    Returns
    -------
        (rows, columns) int64: the pixel that stands there, counted through the arrays;
        -1 in a gap. Where two meet, the later one stands.
    """
    row = np.rint(rows - rows.min()).astype(np.int64).ravel()
    column = np.rint(columns - columns.min()).astype(np.int64).ravel()
    taken = np.full((row.max() + 1, column.max() + 1), -1, np.int64)
    taken[row, column] = np.arange(row.size)
    return taken


def _stack(modules: tuple[int, int, int]) -> NDArray[np.int64]:
    n, slow, fast = modules
    return np.arange(n * slow * fast, dtype=np.int64).reshape(n * slow, fast)


def _stacked(modules: tuple[int, int, int], why: str) -> Assembly:
    n, slow, fast = modules
    note = f"{n} modules of {slow} × {fast} pixels are stacked, the first at the top."
    warning = (
        f"{n} modules of {slow} × {fast} pixels are stacked, not assembled: "
        f"{why}. Centre and rotations mean nothing in such an image. Install "
        "extra-geom (pip install 'single-hits[euxfel]'), and put the geometry (.geom) "
        "beside the file or name it: geometry='detector.geom'."
    )
    return Assembly(_stack(modules), note, (warning,))


def _find_positions(file: h5py.File, where: str) -> h5py.Dataset | None:
    dataset = get_whole_dataset(file, where)
    places = [where] if dataset is None else [where, dataset.name]
    places.append("/entry_1/instrument_1/detector_1/data")
    for place in places:
        beside = str(PurePosixPath(place).with_name("xyz_map"))
        found = get_whole_dataset(file, beside)
        if found is not None:
            return found
    return None


def _from_xyz_map(
    path: Path, positions: h5py.Dataset, modules: tuple[int, int, int]
) -> Assembly:
    name, shape = positions.name, positions.shape
    if shape not in ((3, *modules), (*modules, 3)):
        problem = (
            f"{name} has shape {shape}; expected {(3, *modules)} or {(*modules, 3)}, "
            "the position of each pixel. Name the patterns by dataset=."
        )
        raise PatternsFileError(path, [problem])
    xyz = np.asarray(positions[()], np.float64)
    x, y, _ = xyz if shape[0] == 3 else np.moveaxis(xyz, -1, 0)
    pitch = float(np.median(np.hypot(np.diff(x), np.diff(y))))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.ptp(x) / pitch * np.ptp(y) / pitch
    if not 0 < size < 4 * MOST_PIXELS:  # NaN is not
        problem = f"{name} holds positions that can be those of no detector."
        raise PatternsFileError(path, [problem])
    taken = place_on_grid(y / pitch, x / pitch)
    lost = x.size - np.count_nonzero(taken >= 0)
    note = (
        f"{modules[0]} modules are assembled by {name}: rows along y, columns along x, "
        f"each pixel at the nearest place; {lost} of {x.size} pixels are left out "
        "because another has the same place."
    )
    return Assembly(taken, note)


def _from_crystfel(path: Path, modules: tuple[int, int, int]) -> Assembly:
    """Assemble by a geometry file, also where the last two axes have changed places."""
    try:
        import extra_geom
    except ImportError as error:
        problem = (
            "is read by the package extra-geom, which is not installed. Install it: "
            "pip install 'single-hits[euxfel]'."
        )
        raise PatternsFileError(path, [problem]) from error
    n, slow, fast = modules
    counted = _stack(modules).astype(np.float64).reshape(modules)
    reasons = []
    for values, swapped in ((counted, ""), (counted.swapaxes(1, 2), " turned")):
        kind = _DETECTORS.get(values.shape)
        if kind is None:
            continue
        try:
            geometry = getattr(extra_geom, kind).from_crystfel_geom(str(path))
        except Exception as error:  # a parser of text may raise anything
            reasons.append(f"{kind}: {type(error).__name__} {error}")
            continue
        image, _ = geometry.position_modules(values)
        taken = np.where(np.isnan(image), -1, image).astype(np.int64)
        note = (
            f"{n} modules of {slow} × {fast} pixels are assembled{swapped} by "
            f"{path.name}, read by {kind} of extra_geom."
        )
        return Assembly(taken, note)
    problem = (
        f"is not the geometry of a detector with modules {modules}; expected one of "
        f"{', '.join(map(str, _DETECTORS))} ({'; '.join(reasons) or 'none fits'}). "
        "Put the right geometry beside the patterns, or none."
    )
    raise PatternsFileError(path, [problem])
