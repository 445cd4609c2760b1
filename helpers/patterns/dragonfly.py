"""Dragonfly's photons: lists of pixels, in HDF5 or in `.emc`, and the detector's shape.

An `.emc` file is, in 32-bit integers: number of patterns, number of pixels, zeros to
byte 1024; how many pixels have one photon in each pattern, how many have more; then for
all patterns the pixels with one, the pixels with more, and how many these have.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import (
    MOST_PATTERNS,
    MOST_PIXELS,
    check_file,
    describe_dtype,
    find_size_problems,
    get_whole_dataset,
    open_hdf5,
)
from helpers.patterns.hdf5_opening import DAMAGE
from helpers.patterns.mask_convention import DRAGONFLY, BadPixels, describe_origin
from helpers.patterns.sources import Hdf5Source, Source

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


def names_detector_shape(dataset: str) -> bool:
    """Tell whether `dataset` says a shape, such as `260x257`, or a detector file."""
    return bool(SHAPE.fullmatch(dataset)) or Path(dataset).expanduser().is_file()


def find_detector_shape(path: Path, n_pixels: int, given: str | None) -> DetectorShape:
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


def is_detector(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is a detector of Dragonfly."""
    return all(get_whole_dataset(file, name) is not None for name in _PARTS[:4])


def read_detector_text(path: Path) -> NDArray[np.int64] | None:
    """Return the mask of a detector of Dragonfly as text, (pixels,); None of others.

    The first line says how many pixels there are, and may say more; then a line for
    each: qx, qy, qz, correction, mask.

    Parameters
    ----------
    path
        Any file.
    """
    try:
        with path.open(encoding="ascii") as file:
            n_pixels = int(file.readline().split()[0])
            if not 0 < n_pixels <= MOST_PIXELS:
                return None
            rows = np.loadtxt(file, ndmin=2)
    except (OSError, ValueError, IndexError):
        return None
    if rows.shape != (n_pixels, 5) or not np.isin(rows[:, 4], (0, 1, 2)).all():
        return None
    return rows[:, 4].astype(np.int64)


def _try_detector(path: Path, n_pixels: int) -> DetectorShape | None:
    """Read a detector file that was not named; None if it is not one."""
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
    origin = describe_origin(f"{path.name}:/mask", DRAGONFLY)
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


LISTS = ("place_ones", "place_multi", "count_multi")
COUNTS = np.dtype(np.int32)


class SparseSource(Hdf5Source):
    """Patterns as lists: pixels with one photon, pixels with more, and how many.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
    where
        Rows and columns, as `260x257`: the file knows their product only.
    """

    dtype = COUNTS

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        rows, columns = _parse_shape(where)
        self.shape = (len(file["place_ones"]), rows, columns)

    @classmethod
    def check(  # noqa: D102
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        lists = {name: get_whole_dataset(file, name) for name in LISTS}
        for name, dataset in lists.items():
            if dataset is None:
                problems.append(
                    f"there is no whole dataset /{name}; expected {', '.join(LISTS)}."
                )
            elif dataset.ndim != 1 or not _holds_integers(dataset):
                problems.append(
                    f"/{name} has shape {dataset.shape} and holds "
                    f"{describe_dtype(dataset.dtype)}; expected a list of integers for "
                    "each pattern."
                )
        lengths = {dataset.shape for dataset in lists.values() if dataset is not None}
        if len(lengths) > 1:
            names = ", ".join(LISTS)
            problems.append(f"{names} have the lengths {lengths}; expected one length.")
        for length in lengths:
            problems.extend(find_size_problems("/place_ones", length))
        ones = lists["place_ones"]
        return None if ones is None else (*ones.shape, *_parse_shape(where))

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        here = slice(start, start + len(out))
        lists = (file[name][here] for name in LISTS)
        for image, *one in zip(out, *lists, strict=True):
            _fill_image(self.path, image, *one)


def _parse_shape(text: str) -> tuple[int, int]:
    """Return rows and columns of `260x257`."""
    rows, columns = text.split("x")
    return int(rows), int(columns)


def _fill_image(
    path: Path,
    image: NDArray[Any],
    ones: NDArray[np.integer],
    multi: NDArray[np.integer],
    counts: NDArray[np.integer],
) -> None:
    """Fill an image, contiguous: pixels with one photon, with more, and how many."""
    pixels = image.reshape(-1)
    pixels[...] = 0
    problems = []
    places = np.concatenate([ones, multi])
    if places.size and not 0 <= places.min() <= places.max() < pixels.size:
        problems.append(
            f"a pattern has photons at pixels {places.min()} to {places.max()}; "
            f"expected 0 to {pixels.size - 1}. The file is damaged."
        )
    if multi.size != counts.size:
        problems.append(
            f"a pattern has {counts.size} counts for {multi.size} pixels; expected "
            "one for each. The file is damaged."
        )
    if problems:
        raise PatternsFileError(path, problems)
    pixels[ones] = 1
    pixels[multi] = counts


def _holds_integers(dataset: h5py.Dataset) -> bool:
    base = h5py.check_vlen_dtype(dataset.dtype)
    return base is not None and np.dtype(base).kind in "iu"


HEAD = 1024
INTEGER = np.dtype("<i4")


class EmcSource(Source):
    """Patterns of an `.emc` file; of one that is cut short, those that are whole.

    Parameters
    ----------
    path
        The file.
    where
        Rows and columns, as `260x257`: the file knows their product only.

    Raises
    ------
    PatternsFileError
        If the file does not add up.
    """

    dtype = COUNTS

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        n, _ = read_emc_head(path)
        lengths = np.fromfile(path, INTEGER, 2 * n, offset=HEAD).reshape(2, -1)
        if lengths.shape[1] != n or (lengths < 0).any():
            problem = (
                "has a negative number of pixels with photons in some pattern; "
                "expected 0 or more. The file is damaged, or no .emc file."
            )
            raise PatternsFileError(path, [problem])
        ones, multi = (np.cumsum([0, *row], dtype=np.int64) for row in lengths)
        first = HEAD // INTEGER.itemsize + 2 * n
        first_count = first + ones[-1] + multi[-1]
        self._starts = first + ones, first + ones[-1] + multi, first_count + multi
        whole = self._count_whole(path.stat().st_size // INTEGER.itemsize, n)
        self.shape = (whole, *_parse_shape(where))

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        check_file(self.path, "an .emc file")
        try:
            lists = [
                self._read_lists(starts, start, len(out)) for starts in self._starts
            ]
        except (OSError, ValueError) as error:
            problem = (
                f"{self._describe_unreadable(start, len(out))}. Copy the file again."
            )
            raise PatternsFileError(self.path, [problem]) from error
        for image, *one in zip(out, *lists, strict=True):
            _fill_image(self.path, image, *one)

    def _read_lists(
        self, starts: NDArray[np.int64], first: int, n: int
    ) -> list[NDArray[np.int32]]:
        bounds = starts[first : first + n + 1]
        offset, length = bounds[0] * INTEGER.itemsize, bounds[-1] - bounds[0]
        values = np.fromfile(self.path, INTEGER, int(length), offset=int(offset))
        if values.size != length:
            message = f"{values.size} of {length} integers are there"
            raise ValueError(message)
        return [values[start:stop] for start, stop in pairwise(bounds - bounds[0])]

    def _count_whole(self, n_integers: int, n: int) -> int:
        """Return how many patterns are there; warn if the length is wrong."""
        expected = int(self._starts[2][-1])
        whole = np.all([starts[1:] <= n_integers for starts in self._starts], axis=0)
        n_whole = n if whole.all() else int(np.argmin(whole))
        if n_integers == expected:
            return n
        problem = (
            f"has {n_integers} integers of 4 bytes; expected {expected} for {n} "
            "patterns."
        )
        if not n_whole or n_integers > expected:
            problem += " So its patterns cannot be told apart. Copy the file again."
            raise PatternsFileError(self.path, [problem])
        self.warnings = (
            f"{problem} The {n_whole} patterns that are there are read. "
            "Compare its size with the original.",
        )
        return n_whole


def is_emc(path: Path) -> bool:
    """Tell whether a file is an `.emc`: by its ending, as it has no signature."""
    return path.suffix.lower() == ".emc"


def read_emc_head(path: Path) -> tuple[int, int]:
    """Return the number of patterns and of pixels that an `.emc` file has.

    Raises
    ------
    PatternsFileError
        If the file is not there or its head cannot be that of an `.emc`.
    """
    check_file(path, "an .emc file")
    head = np.fromfile(path, INTEGER, HEAD // INTEGER.itemsize)
    n, n_pixels, *rest = (
        head.tolist() if head.size == HEAD // INTEGER.itemsize else (0, 0)
    )
    size = path.stat().st_size
    possible = 0 < n <= MOST_PATTERNS and 0 < n_pixels <= MOST_PIXELS
    if not possible or any(rest) or size < HEAD + 2 * n * INTEGER.itemsize:
        problem = (
            f"is not a sparse .emc file: found {size} bytes that begin with {n} "
            f"patterns and {n_pixels} pixels; expected numbers above 0, zeros to byte "
            f"{HEAD} and two integers for each pattern. Dense .emc files are not read."
        )
        raise PatternsFileError(path, [problem])
    return n, n_pixels
