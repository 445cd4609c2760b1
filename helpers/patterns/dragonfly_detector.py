"""What Dragonfly keeps beside its sparse patterns: the shape of the detector."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import get_whole_dataset, open_hdf5
from helpers.patterns.mask_convention import DRAGONFLY
from helpers.patterns.masks import BadPixels, say_origin
from helpers.patterns.partial_hdf5 import DAMAGE

SHAPE = re.compile(r"/?\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*")
_PARTS = ("qx", "qy", "qz", "mask", "ewald_rad")


class DetectorShape(NamedTuple):
    """The shape of sparse patterns.

    Attributes
    ----------
    shape
        (rows, columns).
    bad_pixels
        From the detector file; None without one.
    note
        Where the shape is from, in words.
    """

    shape: tuple[int, int]
    bad_pixels: BadPixels | None
    note: str


def names_frame(dataset: str) -> bool:
    """Tell whether `dataset` says a shape, such as `260x257`, or a detector file."""
    return bool(SHAPE.fullmatch(dataset)) or Path(dataset).expanduser().is_file()


def find_frame(path: Path, n_pixels: int, given: str | None) -> DetectorShape:
    """Find rows and columns of patterns that know only how many pixels they have.

    Parameters
    ----------
    path
        The file of patterns.
    n_pixels
        Of a pattern.
    given
        What a person said: `260x257` (rows, columns), or the detector file. None: the
        only detector file (`*det*.h5`) beside the patterns with as many pixels.

    Raises
    ------
    PatternsFileError
        If nothing tells the shape, or it does not fit: it is never guessed.
    """
    said = SHAPE.fullmatch(given) if given else None
    if given and said:
        shape = int(said[1]), int(said[2])
        if shape[0] * shape[1] != n_pixels:
            raise PatternsFileError(path, [_ask(n_pixels, f"not {given.strip('/')}")])
        return DetectorShape(
            shape, None, f"{shape[0]} rows × {shape[1]} columns, as given."
        )
    if given:
        detector = Path(given).expanduser()
        frame = _read_detector(detector, n_pixels)
        if frame is None:
            problem = (
                f"is no Dragonfly detector of {n_pixels} pixels in rows and columns; "
                f"expected {', '.join(_PARTS)}. {_ask(n_pixels)}"
            )
            raise PatternsFileError(detector, [problem])
        return frame
    beside = sorted(path.parent.glob("*det*.h5"))
    frames = [f for p in beside if p != path and (f := _try_detector(p, n_pixels))]
    if len(frames) == 1:
        return frames[0]
    found = f"{len(frames)} detector files (*det*.h5) are beside it"
    raise PatternsFileError(path, [_ask(n_pixels, f"{found}; expected one")])


def _ask(n_pixels: int, found: str = "") -> str:
    rows = int(np.sqrt(n_pixels))
    while n_pixels % rows:
        rows -= 1
    columns = n_pixels // rows
    return (
        f"its patterns have {n_pixels} pixels, and it is not known in how many rows "
        f"and columns{f' ({found})' if found else ''}. Say it, rows first: "
        f"dataset='{columns}x{rows}' or dataset='{rows}x{columns}', or another pair "
        "with this product; or name the detector file: dataset='det.h5'."
    )


def _try_detector(path: Path, n_pixels: int) -> DetectorShape | None:
    """Read a detector file that nobody named; None if it is none."""
    try:
        return _read_detector(path, n_pixels)
    except PatternsFileError:
        return None


def _read_detector(path: Path, n_pixels: int) -> DetectorShape | None:
    """Read a detector file; None if it is none, or one of other pixels."""
    with open_hdf5(path) as file:
        try:
            parts = _read_parts(file)
        except DAMAGE:
            return None
    if [part.size for part in parts] != [n_pixels] * 4 + [1]:
        return None
    x, y, z, mask, radius = parts
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = _find_shape(x / (z + radius), y / (z + radius))
    if shape is None:
        return None
    origin = say_origin(f"{path.name}:/mask", DRAGONFLY)
    bad = BadPixels(DRAGONFLY(mask).reshape(shape), origin)
    return DetectorShape(
        shape, bad, f"{shape[0]} rows × {shape[1]} columns by {path.name}."
    )


def _read_parts(file: h5py.File) -> list[NDArray[Any]]:
    parts = [get_whole_dataset(file, name) for name in _PARTS]
    return [np.ravel(part[()]) for part in parts if part is not None]


def _find_shape(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[int, int] | None:
    """Return rows and columns of pixels at places (x, y) in a plane, row by row.

    Within a row one of the two stays and the other moves on; it is not said which.
    None if that is not so.
    """
    along, across = (x, y) if _first_step(x) > _first_step(y) else (y, x)
    step = _first_step(along)
    turns = np.flatnonzero(np.abs(np.diff(across)) > step / 2) + 1
    columns = int(turns[0]) if turns.size else x.size
    if not step > 0 or x.size % columns:
        return None
    grid = across.reshape(-1, columns)
    is_grid = np.ptp(grid, axis=1).max() < step / 2
    return (len(grid), columns) if is_grid else None


def _first_step(places: NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(places[:2])).max(initial=0))


def count_pixels(file: h5py.File) -> int | None:
    """Return `num_pix` of a sparse HDF5 file; None if it is not there."""
    found = get_whole_dataset(file, "num_pix")
    if found is None or found.size != 1 or found.dtype.kind not in "iu":
        return None
    return int(np.asarray(found[()]).item())
