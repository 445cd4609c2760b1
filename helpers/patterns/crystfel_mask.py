"""The bad pixels of a CrystFEL geometry file: bad regions, masks, panels left out.

Of such a file only what says where a pixel is in the data, and whether it is used, is
read here. See the manual page crystfel_geometry(5).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import get_dataset, open_hdf5
from helpers.patterns.mask_convention import BadPixels, find_pixel_problems
from helpers.patterns.sources import Source

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
