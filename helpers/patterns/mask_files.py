"""Masks that a person names: arrays, images, and files of neighbouring programs."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.dragonfly import is_detector, read_detector_text
from helpers.patterns.hdf5 import (
    describe_missing_file,
    find_datasets,
    get_dataset,
    is_numeric,
    open_hdf5,
)
from helpers.patterns.layout_table import find_mask_convention
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    NOT_ZERO,
    TRUE,
    BadPixels,
    MaskConvention,
    convert_mask,
    describe_origin,
    find_pixel_problems,
    find_shape_problems,
    split_condition,
)
from helpers.patterns.masks import MaskJudge
from helpers.patterns.sources import Source

_IN_HDF5 = re.compile(r"(?P<file>.{2,}):(?P<dataset>/.+)")


def read_bad_pixels(
    where: str | Path,
    frame: tuple[int, int],
    source: Source | None = None,
    warn: Callable[[str], None] | None = None,
) -> BadPixels:
    """Read bad pixels from a mask in a file.

    The polarity is known where the values are boolean (True = bad), in `.byt` files (2
    = bad) and for the mask of a known layout. Otherwise the patterns decide, or what is
    usual for its name. To read it in another way, say which values are bad after the
    name: `mask.npy == 0`, or which bits: `file.cxi:/entry_1/data_1/mask & 0x21f`. Of
    masks for each pattern, what more than half of an even sample call bad counts.

    Parameters
    ----------
    where
        `mask.npy`, `mask.npz`, a detector image (`mask.tif`, `mask.edf` …), `mask.byt`
        (raw uint8), `file.h5:/path/to/mask`, a detector file of Dragonfly (`det.h5`,
        `det.dat`), or a CrystFEL geometry (`.geom`).
    frame, source
        (rows, columns) of the patterns, and the patterns, without which those do not
        decide and an unknown polarity is an error.
    warn
        Is told what a person should be warned of.

    Raises
    ------
    PatternsFileError
        If the file is missing or of another kind, or the mask cannot be right.
    """
    name, convention = split_condition(str(where))
    reader = _Named(name, frame, source, warn or (lambda _: None))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
        if path.suffix.lower() == ".npz":
            mask, _ = _read_array(path, in_hdf5["dataset"].strip("/"))
            return reader.convert(path, mask, convention)
        with open_hdf5(path) as file:
            mask = _find_mask(path, file, in_hdf5["dataset"])
            known = DRAGONFLY if is_detector(file) else None
            known = known or find_mask_convention(file, mask.name)
            return reader.convert(path, mask, convention or known)
    path = Path(name).expanduser()
    if not path.is_file():
        raise PatternsFileError(path, [describe_missing_file(path)])
    if path.suffix == ".geom":
        return read_crystfel_mask(path, frame, source)
    if path.suffix == ".byt":
        return reader.convert(path, _read_raw(path, frame), convention or DRAGONFLY)
    if h5py.is_hdf5(path):
        return _read_only_mask(path, reader, convention)
    mask, known = _read_array(path)
    return reader.convert(path, mask, convention or known)


def find_mask_shape(where: str | Path) -> tuple[int, int] | None:
    """Return (rows, columns) of a mask in a file; None of raw bytes, which lack it.

    Parameters and errors are those of `read_bad_pixels`.
    """
    name, _ = split_condition(str(where))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
        if path.suffix.lower() == ".npz":
            shape = _read_array(path, in_hdf5["dataset"].strip("/"))[0].shape
        else:
            with open_hdf5(path) as file:
                shape = _find_mask(path, file, in_hdf5["dataset"]).shape
    elif name.endswith(".byt"):
        return None
    else:
        path = Path(name).expanduser()
        shape = _read_array(path)[0].shape
    if len(shape) < 2:
        problem = f"the mask has shape {shape}; expected (rows, columns)."
        raise PatternsFileError(path, [problem])
    rows, columns = shape[-2:]
    return int(rows), int(columns)


@dataclass(frozen=True)
class _Named:
    """Makes bad pixels of the mask that a person named.

    Attributes
    ----------
    name
        As it was given, without a condition.
    frame
        (rows, columns) of the patterns.
    source
        The patterns, or None.
    warn
        Is told what a person should be warned of.
    """

    name: str
    frame: tuple[int, int]
    source: Source | None
    warn: Callable[[str], None]

    def convert(
        self, path: Path, mask: Any, convention: MaskConvention | None
    ) -> BadPixels:
        """Check a mask, and let the patterns decide where nobody says what is bad."""
        if convention is None and mask.dtype == bool:
            convention = TRUE
        if mask.ndim == 1 and convention == DRAGONFLY and mask.size == self._n_pixels:
            mask = mask[()].reshape(self.frame)
        problems = list(find_shape_problems("the mask", mask.shape, self.frame))
        if convention is None and self.source is None:
            problems.append(_ask_polarity(self.name, mask))
        if problems:
            raise PatternsFileError(path, problems)
        if convention is None and self.source is not None:
            return self._decide(path, mask, self.source)
        convention = convention or NOT_ZERO
        pixels = convert_mask(mask, convention)
        self._check(path, pixels)
        return BadPixels(pixels, describe_origin(self.name, convention))

    @property
    def _n_pixels(self) -> int:
        return self.frame[0] * self.frame[1]

    def _decide(self, path: Path, mask: Any, source: Source) -> BadPixels:
        values = mask[()] if mask.ndim == 2 else convert_mask(mask, NOT_ZERO)
        found, _ = MaskJudge(source, self.warn).judge(values, self.name, self.name)
        self._check(path, found.pixels)
        return found

    def _check(self, path: Path, pixels: NDArray[np.bool_]) -> None:
        problems = list(find_pixel_problems("the mask", pixels))
        if problems:
            raise PatternsFileError(path, problems)


def _read_only_mask(
    path: Path, reader: _Named, convention: MaskConvention | None
) -> BadPixels:
    """Read an HDF5 file of which only the name is given."""
    with open_hdf5(path) as file:
        if is_detector(file):
            return reader.convert(path, file["mask"], convention or DRAGONFLY)
        fitting = [
            name
            for name in find_datasets(file)
            if file[name].shape == reader.frame
            and (is_numeric(file[name]) or file[name].dtype == bool)
        ]
        if len(fitting) != 1:
            found = ", ".join(fitting) or "none"
            problem = (
                f"holds {len(fitting)} datasets of shape {reader.frame} ({found}); "
                f"expected one. Say which is the mask: bad_pixels='{path}:/mask'."
            )
            raise PatternsFileError(path, [problem])
        known = find_mask_convention(file, fitting[0])
        named = _Named(f"{path}:{fitting[0]}", reader.frame, reader.source, reader.warn)
        return named.convert(path, file[fitting[0]], convention or known)


def _find_mask(path: Path, file: h5py.File, where: str) -> h5py.Dataset:
    dataset = get_dataset(file, where)
    if dataset is None:
        found = ", ".join(find_datasets(file)) or "none"
        problem = f"there is no dataset {where}. Datasets in the file: {found}."
        raise PatternsFileError(path, [problem])
    return dataset


def _read_raw(path: Path, frame: tuple[int, int]) -> NDArray[np.uint8]:
    values = np.fromfile(path, np.uint8)
    if values.size != frame[0] * frame[1]:
        problem = (
            f"has {values.size} bytes; expected {frame[0] * frame[1]}, one for each "
            f"pixel of a pattern {frame}."
        )
        raise PatternsFileError(path, [problem])
    return values.reshape(frame)


def _read_array(
    path: Path, where: str = ""
) -> tuple[NDArray[Any], MaskConvention | None]:
    """Read a mask from a NumPy file, a text of Dragonfly or a detector image."""
    if not path.is_file():
        raise PatternsFileError(path, [describe_missing_file(path)])
    detector = read_detector_text(path)
    if detector is not None:
        return detector, DRAGONFLY
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False)), None
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                (mask,) = (arrays[name] for name in ([where] if where else arrays))
            return np.asarray(mask), None
        return _read_image(path), None
    except Exception as error:  # on a damaged file a parser may raise anything
        why = str(error) or type(error).__name__
        problem = (
            f"is not a mask that can be read ({why}). Expected an array saved by "
            "numpy.save (.npy) or alone by numpy.savez (.npz, else FILE.npz:/name), "
            "raw bytes (.byt), a detector image (.tif, .edf, .cbf …), or FILE.h5:/path."
        )
        raise PatternsFileError(path, [problem]) from error


def _read_image(path: Path) -> NDArray[Any]:
    import fabio  # slow to import

    try:
        with fabio.open(str(path)) as image:
            return np.array(image.data)
    except OSError:
        raise
    except Exception as error:  # whatever a broken image makes its reader raise
        raise ValueError(str(error) or type(error).__name__) from error


def _ask_polarity(name: str, mask: Any) -> str:
    values = np.unique(mask[()])
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    return (
        f"it is not known which of its values ({shown}) mean bad. Say it: "
        f"bad_pixels='{name} != 0' or bad_pixels='{name} == 0'."
    )


Bools = NDArray[np.bool_]
Values = dict[str, str]

RANGE = ("min_fs", "max_fs", "min_ss", "max_ss")
_LINE = re.compile(r"\s*(?:([^/=\s]+)/)?([\w]+)\s*=\s*(.*?)\s*(?:;.*)?")
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
        found = _LINE.fullmatch(line.split(";", 1)[0])
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
        reader = _Reader(path, geometry, frame, source)
        pixels = reader.find_bad()
    except (ValueError, OSError) as error:
        problem = f"is no CrystFEL geometry that can be read ({error})."
        raise PatternsFileError(path, [problem]) from error
    problems = list(find_pixel_problems("the geometry", pixels))
    if problems:
        raise PatternsFileError(path, problems)
    n_bad = len(geometry.bad)
    origin = f"{path.name}: {n_bad} bad regions, {len(reader.masks)} masks, and what "
    return BadPixels(pixels, f"{origin}belongs to no panel that is used")


class _Reader:
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
        missing = [key for key in RANGE if key not in values]
        if missing:
            message = f"{name} lacks {', '.join(missing)}"
            raise ValueError(message)
        return tuple(round(float(values[key])) for key in RANGE)

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
        x, y = _find_places(panel, fs - fs0, ss - ss0)
        low_x, high_x, low_y, high_y = (
            float(region[key]) for key in ("min_x", "max_x", "min_y", "max_y")
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


def _find_places(
    panel: Values, fs: NDArray[np.int64], ss: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y in the laboratory of pixels of a panel, in pixels."""
    along = {key: _parse_vector(panel.get(key, "")) for key in ("fs", "ss")}
    x, y = (
        float(panel[f"corner_{axis}"])
        + fs * along["fs"].get(axis, 0.0)
        + ss * along["ss"].get(axis, 0.0)
        for axis in "xy"
    )
    return x, y


def _parse_vector(text: str) -> dict[str, float]:
    """Read `+0.99x -0.01y`."""
    return {
        axis: float(number + "1" if number in ("", "+", "-") else number)
        for number, axis in _TERM.findall(text.replace(" ", ""))
    }
