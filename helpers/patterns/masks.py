"""Masks in the files of patterns, and masks that a person names, as bad pixels."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.detector_geometry import read_crystfel_mask
from helpers.patterns.dragonfly import is_detector, read_detector_text
from helpers.patterns.hdf5 import (
    check_file,
    find_datasets,
    follow,
    get_dataset,
    get_whole_dataset,
    open_hdf5,
    wrap_hdf5_errors,
)
from helpers.patterns.layout_table import Layout, find_mask_convention
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    NOT_ZERO,
    TRUE,
    BadPixels,
    MaskConvention,
    UnclearMask,
    convert_mask,
    decide_polarity,
    describe_origin,
    do_masks_differ,
    find_pixel_problems,
    find_shape_problems,
    sample_masks,
    split_condition,
    unite_bad_pixels,
)
from helpers.patterns.scan import spread_places
from helpers.patterns.sources import Source

if TYPE_CHECKING:
    from helpers.physics import PixelSums

SAMPLE_BYTES = 64 * 2**20
SAMPLED = (32, 200)  # fewest and most patterns
MASK_KINDS = "biuf"  # of NumPy dtypes
A_MASK = "a mask", "Name the file of the mask in it."
MASK_VALUES = 8  # a mask of a name that others have too holds at most so many
_MASK_NAME = re.compile(
    r"(?i)(\w*_)?mask(_?shared|_?\d+|s)?|(bad|good|dead|hot)_?(pix\w*|map|mask)?"
)
_USUAL_NAME = re.compile(r"(pixel_)?mask(_shared)?|(bad|good)_pixel(s|_mask)")


def _sample_sums(source: Source) -> "PixelSums | None":
    """Sum up at most 200 patterns spread over a file, fewer if they are large.

    None if they cannot be read: reading them later says why.
    """
    from helpers.physics import PixelSums, find_noise_limit  # with SciPy, which is slow

    def sum_up(values: NDArray[np.float32], limit: float) -> PixelSums:
        finite = np.isfinite(values)
        return PixelSums.of(np.where(finite, values, np.float32(0)), limit, finite)

    n, rows, columns = source.shape
    most = int(np.clip(SAMPLE_BYTES // (4 * rows * columns), *SAMPLED))
    chosen = spread_places(n, most)
    blocks = np.array_split(chosen, -(-chosen.size // 8))
    try:
        with closing(source):
            first = source.read_rows(blocks[0], np.float32)
            varies = first[:, (first != first[0]).any(axis=0)]
            limit = find_noise_limit(varies[np.isfinite(varies)]) if varies.size else 1
            sums = sum_up(first, limit)
            for block in blocks[1:]:
                sums.add(sum_up(source.read_rows(block, np.float32), limit))
    except PatternsFileError:
        return None
    return sums


def read_layout_mask(
    path: Path,
    file: h5py.File,
    layout: Layout,
    shape: tuple[int, ...],
    warn: Callable[[str], None],
) -> BadPixels | None:
    """Read the mask that a file of patterns itself holds.

    Parameters
    ----------
    path, file
        The file on disk, and the same, open.
    layout
        Where its mask may be, and which of its values mean bad.
    shape
        Of the patterns as recorded: (n, …).
    warn
        Called with each warning for the user.

    Returns
    -------
    BadPixels
        In the shape of a pattern as recorded; None without a mask that can be used.

    Raises
    ------
    PatternsFileError
        If the mask does not fit the patterns.
    """
    where = next((each for each in layout.bad_pixels if get_dataset(file, each)), "")
    if not where:
        return None
    mask, convention = file[where], layout.mask_convention
    n, pattern = shape[0], shape[1:]
    problems = list(find_shape_problems(where, mask.shape, pattern, n_patterns=n))
    if mask.dtype.kind not in MASK_KINDS:
        problems.append(f"{where} holds {mask.dtype}; expected numbers.")
    if get_whole_dataset(file, where) is None:
        problems.append(
            f"{where} is not there as a whole. Copy the file again, or give other bad "
            "pixels: bad_pixels='mask.npy'."
        )
    if not problems:
        pixels = convert_mask(mask, convention, len(pattern))
        problems.extend(find_pixel_problems(where, pixels))
    if problems:
        raise PatternsFileError(path, problems)
    if 2 * np.count_nonzero(pixels) > pixels.size:
        warn(
            f"{where} leaves out {pixels.mean():.0%} of the pixels, taking it that "
            f"values {convention} mean bad. If it is the other way round, pass "
            f"bad_pixels='{path}:{where} {convention.reverse}'."
        )
    bits = convention.describe_bits(sample_masks(mask, len(pattern)))
    origin = describe_origin(where, convention, bits)
    if not do_masks_differ(mask, convention, pixels):
        return BadPixels(pixels, origin)
    origin += ". They differ: what only some call bad is left out in their patterns"
    return BadPixels(pixels, origin, of_each=(where, convention))


class _MaskJudge:
    """Lets the patterns of a file decide which values of its masks mean bad."""

    def __init__(self, source: Source, warn: Callable[[str], None]) -> None:
        self._source = source
        self._warn = warn

    @cached_property
    def _sums(self) -> "PixelSums | None":
        return _sample_sums(self._source)

    def judge(
        self, mask: NDArray[Any], name: str, option: str
    ) -> tuple[BadPixels, MaskConvention | None]:
        """Return what a mask leaves out, and by which of its values.

        Parameters
        ----------
        mask
            In the shape of a pattern.
        name
            Of the mask; its last part says what is usual.
        option
            What to pass for this mask as `bad_pixels`.
        """
        without = np.isnan(mask)
        if without.any() and np.unique(mask[~without]).size < 2:
            return BadPixels(without, f"{name}, whose values NaN mean bad"), None
        mask = np.where(without, 0, mask) if without.any() else mask
        if (mask == mask.flat[0]).all():
            origin = f"{name} has one value for all pixels, and leaves none out"
            return BadPixels(np.zeros(mask.shape, np.bool_), origin), None
        last = re.split(r"[/\\]", name)[-1]
        polarity = decide_polarity(mask, self._sums, last, self._source.gaps)
        convention, why = polarity.convention, polarity.why
        pixels = convention(mask) | without
        how = "as the patterns decide" if polarity.is_decided else "as its name says"
        origin = f"{describe_origin(name, convention)}, {how}: {why}"
        if polarity.is_decided:
            return BadPixels(pixels, origin), convention
        self._warn(
            f"the patterns do not decide which values of {name} mean bad: {why}. As is "
            f"usual for this name, values {convention} are taken to mean bad: "
            f"{pixels.mean():.1%} of the pixels. If it is the other way round, pass "
            f"bad_pixels='{option} {convention.reverse}'."
        )
        powder = np.zeros(mask.shape) if self._sums is None else self._sums.total
        unclear = UnclearMask(option, NOT_ZERO(mask), powder, str(convention))
        return BadPixels(pixels, origin, unclear=(unclear,)), convention


def judge_masks(
    path: Path,
    masks: Iterable[tuple[str, Any]],
    source: Source,
    shape: tuple[int, ...],
    warn: Callable[[str], None],
) -> BadPixels | None:
    """Leave out what masks call bad of which nobody says which values mean that.

    Parameters
    ----------
    path
        The file on disk.
    masks
        Names, and datasets or arrays.
    source
        The patterns, which decide.
    shape
        Of the patterns as recorded: (n, …).
    warn
        Called with each warning for the user.

    Returns
    -------
    BadPixels
        In the shape of the patterns; None without a mask that can be used.
    """
    n, pattern = shape[0], shape[1:]
    judge = _MaskJudge(source, warn)
    found: BadPixels | None = None
    for where, mask in masks:
        if mask.dtype.kind not in MASK_KINDS:
            continue
        problems = list(find_shape_problems(where, mask.shape, pattern, n_patterns=n))
        if problems:
            warn(f"{problems[0]} It is not used.")
            continue
        values = _read_mask(mask, len(pattern))
        assembled = source.assemble(values).reshape(source.shape[1:])
        name = f"{path}:{where}" if where.startswith("/") else f"{path}:/{where}"
        one, convention = judge.judge(assembled, where, name)
        if (
            convention is not None
            and isinstance(mask, h5py.Dataset)
            and do_masks_differ(mask, convention, convention(values))
        ):
            one = one._replace(of_each=(where, convention))
        found = unite_bad_pixels(found, one)
    return found


def _read_mask(mask: Any, ndim: int) -> NDArray[Any]:
    """Return a mask; where there is one for each pattern, whether most are not 0."""
    return mask[()] if mask.ndim == ndim else convert_mask(mask, NOT_ZERO, ndim)


def find_unclear_masks(
    file: h5py.File, layout: Layout, pattern: tuple[int, ...]
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Give what may be masks, and where, of which nobody says which values mean bad.

    They are where the layout says, and where `find_mask_paths` finds what is like a
    mask of patterns of a shape as recorded.
    """
    folder = PurePosixPath(layout.patterns).parent
    for where in (*layout.unclear_masks, *find_mask_paths(file, layout)):
        mask = get_whole_dataset(file, where)
        path = PurePosixPath(where)
        is_usual = path.parent == folder and _USUAL_NAME.fullmatch(path.name)
        if mask is not None and (
            where in layout.unclear_masks or is_usual or _is_like_a_mask(mask, pattern)
        ):
            yield where, mask


def find_mask_paths(file: h5py.File, layout: Layout) -> list[str]:
    """Return what has the name of a mask, beside the patterns and above them.

    Nothing where the layout itself says where the mask is, and it is there.
    """
    where = PurePosixPath(layout.patterns)
    if "*" in layout.patterns or any(get_dataset(file, x) for x in layout.bad_pixels):
        return []
    groups = ((folder, follow(file, str(folder))) for folder in where.parents)
    found = [
        str(folder / name)
        for folder, group in groups
        if isinstance(group, h5py.Group)
        for name in group
        if is_mask_name(name)
    ]
    return [each for each in found if each not in layout.unclear_masks]


def is_mask_name(name: str) -> bool:
    """Tell whether something with this name may be a mask."""
    return bool(_MASK_NAME.fullmatch(name))


def _is_like_a_mask(mask: h5py.Dataset, pattern: tuple[int, ...]) -> bool:
    """Tell whether something has the shape of a mask, and few values."""
    if mask.shape[-len(pattern) :] != pattern or mask.dtype.kind not in MASK_KINDS:
        return False
    return np.unique(next(sample_masks(mask, len(pattern)))).size <= MASK_VALUES


_IN_FILE = re.compile(r"(.{2,}):(/.+)")


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
        Called with each warning for the user.

    Raises
    ------
    PatternsFileError
        If the file is missing or of another kind, or the mask cannot be right.
    """
    name, convention = split_condition(str(where))
    path, inside = _split_name(name)
    reader = _Named(name, frame, source, warn or (lambda _: None))
    if inside and path.suffix.lower() != ".npz":
        return _read_hdf5_mask(path, inside, reader, convention)
    check_file(path, *A_MASK)
    if path.suffix == ".geom":
        return read_crystfel_mask(path, frame, source)
    if path.suffix == ".byt":
        return reader.convert(path, _read_raw(path, frame), convention or DRAGONFLY)
    if h5py.is_hdf5(path):
        return _read_hdf5_mask(path, "", reader, convention)
    mask, known = _read_array(path, inside)
    return reader.convert(path, mask, convention or known)


def find_mask_shape(where: str | Path) -> tuple[int, int] | None:
    """Return (rows, columns) of a mask in a file; None of raw bytes, which lack it.

    Parameters and errors are those of `read_bad_pixels`.
    """
    name, _ = split_condition(str(where))
    path, inside = _split_name(name)
    if path.suffix == ".byt" and not inside:
        return None
    if inside and path.suffix.lower() != ".npz":
        with open_hdf5(path) as file:
            shape = _get_mask(path, file, inside).shape
    else:
        shape = _read_array(path, inside)[0].shape
    if len(shape) < 2:
        problem = f"the mask has shape {shape}; expected (rows, columns)."
        raise PatternsFileError(path, [problem])
    rows, columns = shape[-2:]
    return int(rows), int(columns)


def _split_name(name: str) -> tuple[Path, str]:
    """Return the file, and the place in it, "" where none is named."""
    found = _IN_FILE.fullmatch(name)
    file, inside = found.groups() if found else (name, "")
    return Path(file).expanduser(), inside


@dataclass(frozen=True)
class _Named:
    """Makes bad pixels of a mask that a person named, without a condition."""

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
        n_pixels = self.frame[0] * self.frame[1]
        if mask.ndim == 1 and convention == DRAGONFLY and mask.size == n_pixels:
            mask = mask[()].reshape(self.frame)
        problems = list(find_shape_problems("the mask", mask.shape, self.frame))
        if mask.dtype.kind not in MASK_KINDS:
            problems.append(f"the mask holds {mask.dtype}; expected numbers.")
        elif convention is None and self.source is None:
            problems.append(_ask_polarity(self.name, mask))
        if problems:
            raise PatternsFileError(path, problems)
        if convention is None and self.source is not None:
            judge = _MaskJudge(self.source, self.warn)
            found, _ = judge.judge(_read_mask(mask, 2), self.name, self.name)
        else:
            convention = convention or NOT_ZERO
            origin = describe_origin(self.name, convention)
            found = BadPixels(convert_mask(mask, convention), origin)
        problems = list(find_pixel_problems("the mask", found.pixels))
        if problems:
            raise PatternsFileError(path, problems)
        return found


def _read_hdf5_mask(
    path: Path, inside: str, reader: _Named, convention: MaskConvention | None
) -> BadPixels:
    with open_hdf5(path) as file, wrap_hdf5_errors(path, "the mask cannot be read"):
        known = DRAGONFLY if is_detector(file) else None
        if not inside:
            inside = "/mask" if known else _find_only_mask(path, file, reader.frame)
            reader = replace(reader, name=f"{path}:{inside}")
        mask = _get_mask(path, file, inside)
        known = known or find_mask_convention(file, str(PurePosixPath(inside)))
        return reader.convert(path, mask, convention or known)


def _find_only_mask(path: Path, file: h5py.File, frame: tuple[int, int]) -> str:
    """Return the path of the only dataset that may be a mask of such patterns."""
    fitting = [
        name
        for name, dataset in find_datasets(file).items()
        if dataset.shape == frame and dataset.dtype.kind in MASK_KINDS
    ]
    if len(fitting) != 1:
        found = ", ".join(fitting) or "none"
        problem = (
            f"holds {len(fitting)} datasets of shape {frame} ({found}); expected one. "
            f"Say which is the mask: bad_pixels='{path}:/mask'."
        )
        raise PatternsFileError(path, [problem])
    return fitting[0]


def _get_mask(path: Path, file: h5py.File, where: str) -> h5py.Dataset:
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


def _read_array(path: Path, where: str) -> tuple[NDArray[Any], MaskConvention | None]:
    """Read a mask from a NumPy file, a text of Dragonfly or a detector image."""
    check_file(path, *A_MASK)
    detector = read_detector_text(path)
    if detector is not None:
        return detector, DRAGONFLY
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False)), None
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = [where.strip("/")] if where else arrays.files
                (mask,) = (arrays[name] for name in names)
            return np.asarray(mask), None
        import fabio  # slow to import

        with fabio.open(str(path)) as image:
            return np.array(image.data), None
    except Exception as error:  # on a damaged file a parser may raise anything
        why = str(error) or type(error).__name__
        problem = (
            f"is not a mask that can be read ({why}). Expected an array saved by "
            "numpy.save (.npy) or alone by numpy.savez (.npz, else FILE.npz:/name), "
            "raw bytes (.byt), a detector image (.tif, .edf, .cbf …), or FILE.h5:/path."
        )
        raise PatternsFileError(path, [problem]) from error


def _ask_polarity(name: str, mask: Any) -> str:
    values = np.unique(mask[()])
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    return (
        f"it is not known which of its values ({shown}) mean bad. Say it: "
        f"bad_pixels='{name} != 0' or bad_pixels='{name} == 0'."
    )
