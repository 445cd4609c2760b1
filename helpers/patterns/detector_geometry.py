"""Where the modules and the bad regions of a detector lie.

Patterns of several modules become one image by a CrystFEL geometry, by the positions in
their file, or by stacking; a geometry also says which pixels are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import MOST_PIXELS, get_dataset, get_whole_dataset, open_hdf5
from helpers.patterns.mask_convention import BadPixels, find_pixel_problems
from helpers.patterns.sources import DatasetSource, Source

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


Bools = NDArray[np.bool_]
Values = dict[str, str]

PANEL_RANGE = ("min_fs", "max_fs", "min_ss", "max_ss")
_GEOMETRY_LINE = re.compile(r"\s*(?:([^/=\s]+)/)?([\w]+)\s*=\s*(.*?)\s*(?:;.*)?")
_TERM = re.compile(r"([+-]?[\d.eE+-]*?)([xyz])")
_YES = ("1", "true", "yes")


@dataclass
class CrystfelGeometry:
    """What stands in a geometry file.

    Attributes
    ----------
    panels
        By name; each with the values that hold for all where it has none of its own.
    bad
        Bad regions by name.
    """

    panels: dict[str, Values] = field(default_factory=dict)
    bad: dict[str, Values] = field(default_factory=dict)


def parse_geometry(text: str) -> CrystfelGeometry:
    """Read the lines of a geometry file.

    What stands without the name of a panel holds for the panels that follow.

    Parameters
    ----------
    text
        Content of the file.
    """
    geometry, common = CrystfelGeometry(), Values()
    for line in text.splitlines():
        found = _GEOMETRY_LINE.fullmatch(line.split(";", 1)[0])
        if not found:
            continue
        name, key, value = found.groups()
        if name is None:
            common[key] = value
        elif name.startswith("bad"):
            geometry.bad.setdefault(name, Values())[key] = value
        elif not name.startswith(("rigid_group", "group")):
            geometry.panels.setdefault(name, Values(common))[key] = value
    return geometry


def read_crystfel_mask(
    path: Path, frame: tuple[int, int], source: Source | None
) -> BadPixels:
    """Read which pixels a geometry file leaves out.

    Parameters
    ----------
    path
        The geometry file.
    frame
        (rows, columns) of the patterns.
    source
        The patterns, which may be assembled from modules; None: they are not.

    Raises
    ------
    PatternsFileError
        If the file is no geometry, or that of another detector.
    """
    try:
        geometry = parse_geometry(path.read_text(encoding="utf-8", errors="replace"))
        reader = _GeometryReader(path, geometry, frame, source)
        pixels = reader.find_bad()
    except (ValueError, OverflowError, OSError) as error:
        problem = f"is no CrystFEL geometry that can be read ({error})."
        raise PatternsFileError(path, [problem]) from error
    problems = list(find_pixel_problems("the geometry", pixels))
    if problems:
        raise PatternsFileError(path, problems)
    n_bad = len(geometry.bad)
    origin = f"{path.name}: {n_bad} bad regions, {len(reader.masks)} masks, and what "
    return BadPixels(pixels, f"{origin}belongs to no panel that is used")


class _GeometryReader:
    def __init__(
        self,
        path: Path,
        geometry: CrystfelGeometry,
        frame: tuple[int, int],
        source: Source | None,
    ) -> None:
        self._path = path
        self._panels = geometry.panels
        self._bad = geometry.bad
        self._source = source
        self._shape = frame if source is None else source.recorded_shape
        self._frame = frame
        self.masks: set[tuple[Path, str]] = set()
        if not geometry.panels:
            message = "it names no panel with min_fs, max_fs, min_ss and max_ss"
            raise ValueError(message)

    def find_bad(self) -> Bools:
        """Return the bad pixels, in the shape of a pattern."""
        bad = np.ones(self._shape, np.bool_)
        for name, panel in self._panels.items():
            if panel.get("no_index", "0").lower() in _YES:
                continue
            view = self._view(bad, name, panel)
            view[...] = self._find_masked(name, panel)
            for region in self._bad.values():
                view |= self._find_region(region, name, panel)
        assembled = bad if self._source is None else self._source.assemble(bad)
        if assembled.shape != self._frame:
            message = f"its pixels are {assembled.shape}, the patterns' {self._frame}"
            raise ValueError(message)
        gaps = None if self._source is None else self._source.gaps
        return assembled if gaps is None else assembled | gaps

    def _view(self, values: NDArray[Any], name: str, panel: Values) -> NDArray[Any]:
        """Return the part of an array that a panel is."""
        module = _find_module(panel)
        part = values[module] if values.ndim == 3 and module is not None else values
        fs0, fs1, ss0, ss1 = self._range(name, panel)
        if part.ndim != 2 or ss1 >= part.shape[0] or fs1 >= part.shape[1]:
            message = (
                f"panel {name} reaches to ss {ss1}, fs {fs1}; the patterns have "
                f"{self._shape} pixels as recorded"
            )
            raise ValueError(message)
        view: NDArray[Any] = part[ss0 : ss1 + 1, fs0 : fs1 + 1]
        return view

    def _range(self, name: str, values: Values) -> tuple[int, ...]:
        return tuple(map(round, _read_numbers(name, values, PANEL_RANGE)))

    def _find_region(self, region: Values, name: str, panel: Values) -> Bools:
        """Find a bad region in a panel, by its place in the data or in the laboratory.

        Both ends of a range in the data belong to it.
        """
        fs0, fs1, ss0, ss1 = self._range(name, panel)
        ss, fs = np.mgrid[ss0 : ss1 + 1, fs0 : fs1 + 1]
        if "min_fs" in region:
            if region.get("panel", name) != name:
                return np.zeros(ss.shape, np.bool_)
            low_fs, high_fs, low_ss, high_ss = self._range("a bad region", region)
            inside: Bools = (fs >= low_fs) & (fs <= high_fs)
            inside &= (ss >= low_ss) & (ss <= high_ss)
            return inside
        x, y = _find_positions_of(name, panel, fs - fs0, ss - ss0)
        low_x, high_x, low_y, high_y = _read_numbers(
            "a bad region", region, ("min_x", "max_x", "min_y", "max_y")
        )
        found: Bools = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
        return found

    def _find_masked(self, name: str, panel: Values) -> Bools:
        """Find what the masks that a panel names call bad."""
        fs0, fs1, ss0, ss1 = self._range(name, panel)
        bad = np.zeros((ss1 - ss0 + 1, fs1 - fs0 + 1), np.bool_)
        for prefix, where, file in (
            ("mask", "mask", "mask_file"),
            *((f"mask{n}", f"mask{n}_data", f"mask{n}_file") for n in range(8)),
        ):
            if where not in panel:
                continue
            words = self._read_mask(panel[where], panel.get(file, ""), name, panel)
            ends = ("bad", "good") if prefix == "mask" else ("badbits", "goodbits")
            bits, good = (int(panel.get(f"{prefix}_{end}", "0"), 0) for end in ends)
            if not bits and not good:
                bad |= words != 0
            bad |= ((words & bits) != 0) | ((words & good) != good)
        return bad

    def _read_mask(
        self, where: str, file: str, name: str, panel: Values
    ) -> NDArray[np.int64]:
        own = self._path if self._source is None else self._source.path
        path = self._path.parent / file if file else own
        self.masks.add((path, where))
        with open_hdf5(path) as opened:
            dataset = get_dataset(opened, where)
            if dataset is None:
                problem = f"there is no {where}, which {self._path.name} names as mask."
                raise PatternsFileError(path, [problem])
            words = np.asarray(dataset[()]).astype(np.int64)
        if words.ndim > len(self._shape):  # one for each pattern: of the first
            words = words[0]
        return np.asarray(self._view(words, name, panel), np.int64)


def _find_module(panel: Values) -> int | None:
    """Return which module a panel is in: the only dimension that is a number."""
    numbers = [panel.get(f"dim{n}", "") for n in range(5)]
    modules = [int(number) for number in numbers if number.isdecimal()]
    return modules[0] if modules else None


def _read_numbers(name: str, values: Values, keys: Sequence[str]) -> list[float]:
    """Return the numbers that have to stand for some keys."""
    missing = [key for key in keys if key not in values]
    if missing:
        message = f"{name} lacks {', '.join(missing)}"
        raise ValueError(message)
    return [float(values[key]) for key in keys]


def _find_positions_of(
    name: str, panel: Values, fs: NDArray[np.int64], ss: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y in the laboratory of pixels of a panel, in pixels."""
    along = {key: _parse_vector(panel.get(key, "")) for key in ("fs", "ss")}
    corner = _read_numbers(name, panel, ("corner_x", "corner_y"))
    x, y = (
        start + fs * along["fs"].get(axis, 0.0) + ss * along["ss"].get(axis, 0.0)
        for axis, start in zip("xy", corner, strict=True)
    )
    return x, y


def _parse_vector(text: str) -> dict[str, float]:
    """Read `+0.99x -0.01y`."""
    return {
        axis: float(number + "1" if number in ("", "+", "-") else number)
        for number, axis in _TERM.findall(text.replace(" ", ""))
    }
