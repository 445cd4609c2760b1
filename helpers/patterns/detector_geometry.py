"""Where the modules and the bad regions of a detector lie.

Patterns of several modules become one image by a CrystFEL geometry, by the positions in
their file, or by stacking; a geometry also says which pixels are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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

    How the modules become one image is said by `notes`; see `_find_assembly`.
    Of a gain axis the first entry is read, which holds the signal.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
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
        self._assembly = _find_assembly(path, file, where, modules, geometry)
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
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        shape = super().check(file, where, problems)
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


def _find_assembly(
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


def _place_on_grid(
    rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return which pixel is nearest to each place of an image; -1 in a gap.

    Places are in pixels. Where two pixels meet, the later one stands.
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
    for place in (where, "/entry_1/instrument_1/detector_1/data"):
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
    taken = _place_on_grid(y / pitch, x / pitch)
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

IN_DATA = ("min_fs", "max_fs", "min_ss", "max_ss")
IN_LABORATORY = ("min_x", "max_x", "min_y", "max_y")
# keys of a mask: its path, its file, and which of its bits mean bad, which good
MASK_KEYS = (
    ("mask", "mask_file", "mask_bad", "mask_good"),
    *(
        (f"mask{n}_data", f"mask{n}_file", f"mask{n}_badbits", f"mask{n}_goodbits")
        for n in range(8)
    ),
)
_GEOMETRY_LINE = re.compile(r"\s*(?:([^/=\s]+)/)?([\w]+)\s*=\s*(.*?)\s*")
_TERM = re.compile(r"([+-]?[\d.eE+-]*?)([xyz])")
_YES = ("1", "true", "yes")


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
        panels, regions = _parse_geometry(path)
        pixels, n_masks = _find_bad(path, panels, regions, frame, source)
    except (ValueError, OverflowError, OSError) as error:
        problem = f"is no CrystFEL geometry that can be read ({error})."
        raise PatternsFileError(path, [problem]) from error
    problems = list(find_pixel_problems("the geometry", pixels))
    if problems:
        raise PatternsFileError(path, problems)
    origin = (
        f"{path.name}: {len(regions)} bad regions, {n_masks} masks, and what belongs "
        "to no panel that is used"
    )
    return BadPixels(pixels, origin)


def _parse_geometry(path: Path) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return the values of each panel and of each bad region, by their names.

    What stands without the name of a panel holds for the panels that follow.
    """
    panels: dict[str, Values] = {}
    regions: dict[str, Values] = {}
    common: Values = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _GEOMETRY_LINE.fullmatch(line.split(";", 1)[0])
        if not found:
            continue
        name, key, value = found.groups()
        if name is None:
            common[key] = value
        elif name.startswith("bad"):
            regions.setdefault(name, {})[key] = value
        elif not name.startswith(("rigid_group", "group")):
            panels.setdefault(name, dict(common))[key] = value
    if not panels:
        message = "it names no panel with min_fs, max_fs, min_ss and max_ss"
        raise ValueError(message)
    return panels, regions


def _find_bad(
    path: Path,
    panels: dict[str, Values],
    regions: dict[str, Values],
    frame: tuple[int, int],
    source: Source | None,
) -> tuple[Bools, int]:
    """Return the bad pixels, (rows, columns), and how many masks the panels name."""
    bad = np.ones(frame if source is None else source.recorded_shape, np.bool_)
    own_file = path if source is None else source.path
    masks = set()
    for name, values in panels.items():
        if values.get("no_index", "0").lower() in _YES:
            continue
        panel = _Panel(name, values)
        view = panel.cut_out(bad)
        view[...] = False
        for region in regions.values():
            view |= panel.find_region(region)
        for where, in_file, *bits in MASK_KEYS:
            if where in values:
                named = values.get(in_file)
                file = path.parent / named if named else own_file
                masks.add((file, values[where]))
                words = _read_words(path, file, values[where], bad.ndim)
                bad_bits, good_bits = (int(values.get(each, "0"), 0) for each in bits)
                view |= _find_masked(panel.cut_out(words), bad_bits, good_bits)
    assembled = bad if source is None else source.assemble(bad)
    if assembled.shape != frame:
        message = f"its pixels are {assembled.shape}, the patterns' {frame}"
        raise ValueError(message)
    gaps = None if source is None else source.gaps
    return assembled if gaps is None else assembled | gaps, len(masks)


@dataclass(frozen=True)
class _Panel:
    """A rectangle of pixels, and what a geometry file says of it."""

    name: str
    values: Values

    @cached_property
    def edges(self) -> list[int]:
        """First and last pixel along fs, then along ss."""
        return list(map(round, _read_numbers(self.name, self.values, IN_DATA)))

    def cut_out(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the panel's part of all pixels as recorded."""
        numbers = [self.values.get(f"dim{n}", "") for n in range(5)]
        modules = [int(number) for number in numbers if number.isdecimal()]
        part = pixels[modules[0]] if pixels.ndim == 3 and modules else pixels
        fs0, fs1, ss0, ss1 = self.edges
        if part.ndim != 2 or ss1 >= part.shape[0] or fs1 >= part.shape[1]:
            message = (
                f"panel {self.name} reaches to ss {ss1}, fs {fs1}; there are "
                f"{pixels.shape} pixels as recorded"
            )
            raise ValueError(message)
        view: NDArray[Any] = part[ss0 : ss1 + 1, fs0 : fs1 + 1]
        return view

    def find_region(self, region: Values) -> Bools:
        """Find a bad region, by its place in the data or in the laboratory."""
        fs0, fs1, ss0, ss1 = self.edges
        y, x = np.mgrid[ss0 : ss1 + 1, fs0 : fs1 + 1]
        if "min_fs" in region:
            if region.get("panel", self.name) != self.name:
                return np.zeros(x.shape, np.bool_)
            ends = np.rint(_read_numbers("a bad region", region, IN_DATA))
        else:
            x, y = self._place_in_laboratory(x - fs0, y - ss0)
            ends = np.array(_read_numbers("a bad region", region, IN_LABORATORY))
        low_x, high_x, low_y, high_y = ends  # which belong to the region
        found: Bools = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
        return found

    def _place_in_laboratory(
        self, fs: NDArray[np.int64], ss: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Return x and y of the panel's pixels, in pixels."""
        corner = _read_numbers(self.name, self.values, ("corner_x", "corner_y"))
        along_fs = _parse_vector(self.values.get("fs", ""))
        along_ss = _parse_vector(self.values.get("ss", ""))
        return [
            start + fs * along_fs.get(axis, 0.0) + ss * along_ss.get(axis, 0.0)
            for axis, start in zip("xy", corner, strict=True)
        ]


def _read_words(path: Path, file: Path, where: str, ndim: int) -> NDArray[np.int64]:
    """Read a mask that a geometry names; of one for each pattern, the first."""
    with open_hdf5(file) as opened:
        dataset = get_dataset(opened, where)
        if dataset is None:
            problem = f"there is no {where}, which {path.name} names as mask."
            raise PatternsFileError(file, [problem])
        words = np.asarray(dataset[()]).astype(np.int64)
    return words[0] if words.ndim > ndim else words


def _find_masked(words: NDArray[np.int64], bad_bits: int, good_bits: int) -> Bools:
    """Find what a mask calls bad; without such bits, all that is not 0."""
    found: Bools = ((words & bad_bits) != 0) | ((words & good_bits) != good_bits)
    return found if bad_bits or good_bits else np.asarray(words != 0)


def _read_numbers(name: str, values: Values, keys: Sequence[str]) -> list[float]:
    """Return the numbers that have to stand for some keys."""
    missing = [key for key in keys if key not in values]
    if missing:
        message = f"{name} lacks {', '.join(missing)}"
        raise ValueError(message)
    return [float(values[key]) for key in keys]


def _parse_vector(text: str) -> dict[str, float]:
    """Read `+0.99x -0.01y`."""
    return {
        axis: float(number + "1" if number in ("", "+", "-") else number)
        for number, axis in _TERM.findall(text.replace(" ", ""))
    }
