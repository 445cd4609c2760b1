"""Masks, read from the file of the patterns or another: True = leave out."""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import (
    describe_missing_file,
    find_datasets,
    get_dataset,
    get_whole_dataset,
    is_numeric,
    open_hdf5,
)
from helpers.patterns.layout_table import Layout, find_mask_convention
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    NOT_ZERO,
    TRUE,
    BadPixels,
    MaskConvention,
    add_bad_pixels,
    convert_mask,
    describe_origin,
    find_masks_of_each,
    find_pixel_problems,
    find_shape_problems,
    sample_masks,
    split_condition,
)
from helpers.patterns.sources import Source

if TYPE_CHECKING:
    from helpers.physics import PixelSums

MASK_NAMES = (
    "mask",
    "mask_shared",
    "pixel_mask",
    "bad_pixels",
    "bad_pixel_mask",
    "good_pixels",
    "good_pixel_mask",
)

_IN_HDF5 = re.compile(r"(?P<file>.{2,}):(?P<dataset>/.+)")


def read_bad_pixels(where: str | Path, frame: tuple[int, int]) -> BadPixels:
    """Read bad pixels from a mask in a file.

    Parameters
    ----------
    where
        `mask.npy`, `mask.npz`, a detector image (`mask.tif`, `mask.edf` …), `mask.byt`
        (raw uint8, as Dragonfly ships it) or `file.h5:/path/to/mask`. The polarity must
        be known: it is where the values are boolean (True = bad), in `.byt` files (2 =
        bad, as in Dragonfly) and for the mask of a known layout. Otherwise, or to read
        it in another way, say which values are bad after the name: `mask.npy == 0`,
        `file.h5:/mask != 0`, or which bits: `file.cxi:/entry_1/data_1/mask & 0x21f`.
    frame
        (rows, columns) of the patterns.

    Returns
    -------
    BadPixels
        A mask for each pattern (n, rows, columns) gives the pixels that are bad in
        more than half of an even sample of 64 patterns.

    Raises
    ------
    PatternsFileError
        If the file is missing or of another kind, the polarity is not known, the shape
        is not that of the patterns, or every pixel is bad.
    """
    name, convention = split_condition(str(where))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
        with open_hdf5(path) as file:
            mask = _find_mask(path, file, in_hdf5["dataset"])
            known = find_mask_convention(file, mask.name)
            return _convert(path, name, mask, convention or known, frame)
    path = Path(name).expanduser()
    if not path.is_file():
        raise PatternsFileError(path, [describe_missing_file(path)])
    if path.suffix == ".byt":
        raw = _read_raw(path, frame)
        return _convert(path, name, raw, convention or DRAGONFLY, frame)
    return _convert(path, name, _read_array(path), convention, frame)


def find_mask_shape(where: str | Path) -> tuple[int, int] | None:
    """Return (rows, columns) of a mask in a file; None of raw bytes, which lack it.

    Parameters and errors are those of `read_bad_pixels`.
    """
    name, _ = split_condition(str(where))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
        with open_hdf5(path) as file:
            shape = _find_mask(path, file, in_hdf5["dataset"]).shape
    elif name.endswith(".byt"):
        return None
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            raise PatternsFileError(path, [describe_missing_file(path)])
        shape = _read_array(path).shape
    if len(shape) < 2:
        problem = f"the mask has shape {shape}; expected (rows, columns)."
        raise PatternsFileError(path, [problem])
    rows, columns = shape[-2:]
    return int(rows), int(columns)


def read_layout_mask(
    path: Path,
    file: h5py.File,
    layout: Layout,
    pattern: tuple[int, ...],
    warn: Callable[[str], None],
) -> BadPixels | None:
    """Read the mask that a file of patterns itself holds.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    layout
        Where its mask may be, and which of its values mean bad.
    pattern
        Shape of a pattern as recorded.
    warn
        Is told what a person should be warned of.

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
    problems = list(find_shape_problems(where, mask.shape, pattern))
    if not is_numeric(mask) and mask.dtype != bool:
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
    of_each = find_masks_of_each(mask, convention, pixels)
    if of_each:
        origin += ". They differ: what only some call bad is left out in their patterns"
    return BadPixels(pixels, origin, of_each)


class UnclearMask(NamedTuple):
    """A mask of which neither the file nor the patterns say which values mean bad.

    Attributes
    ----------
    name
        `file:/path`.
    not_zero
        (rows, columns) bool: where it is not 0.
    powder
        (rows, columns) float64: sum over some patterns.
    """

    name: str
    not_zero: NDArray[np.bool_]
    powder: NDArray[np.float64]


def read_unclear_masks(
    path: Path,
    file: h5py.File,
    layout: Layout,
    source: Source,
    *,
    pattern: tuple[int, ...],
    warn: Callable[[str], None],
) -> tuple[BadPixels | None, tuple[UnclearMask, ...]]:
    """Read masks beside the patterns of which nobody says which values mean bad.

    Parameters
    ----------
    path
        The file on disk.
    file
        The same, open.
    layout
        Where such masks may be.
    source
        The patterns, which decide.
    pattern
        Shape of a pattern as recorded.
    warn
        Is told what a person should be warned of.

    Returns
    -------
    bad_pixels
        In the shape of the patterns; None without a mask.
    unclear
        The masks that were read as is usual for their names.
    """
    from helpers.patterns.mask_polarity import (  # and SciPy, which is slow
        decide_polarity,
        sample_sums,
    )

    found: BadPixels | None = None
    unclear = []
    sums: PixelSums | None = None
    for where, values in _find_unclear_masks(file, layout, pattern, warn):
        mask = source.assemble(values).reshape(source.shape[1:])
        if (mask == mask.flat[0]).all():
            origin = f"{where} has one value for all pixels, and leaves none out"
            found = add_bad_pixels(found, np.zeros(mask.shape, np.bool_), origin)
            continue
        sums = sums or sample_sums(source)
        polarity = decide_polarity(mask, sums, where.rsplit("/", 1)[1], source.gaps)
        convention = polarity.convention
        pixels = convention(mask)
        how = "as the patterns decide" if polarity.is_decided else "as its name says"
        origin = f"{describe_origin(where, convention)}, {how}: {polarity.why}"
        found = add_bad_pixels(found, pixels, origin)
        if not polarity.is_decided:
            warn(
                f"the patterns do not decide which values of {where} mean bad: "
                f"{polarity.why}. As is usual for this name, values {convention} are "
                f"taken to mean bad: {pixels.mean():.1%} of the pixels. If it is the "
                f"other way round, pass bad_pixels='{path}:{where} "
                f"{convention.reverse}'."
            )
            powder = np.zeros(mask.shape) if sums is None else sums.total
            unclear.append(UnclearMask(f"{path}:{where}", NOT_ZERO(mask), powder))
    return found, tuple(unclear)


def _find_unclear_masks(
    file: h5py.File,
    layout: Layout,
    pattern: tuple[int, ...],
    warn: Callable[[str], None],
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give places and values; of masks for each pattern, where most are not 0."""
    folder = PurePosixPath(layout.patterns).parent
    beside = [str(folder / name) for name in MASK_NAMES if "*" not in str(folder)]
    for where in dict.fromkeys((*layout.unclear_masks, *beside)):
        mask = get_whole_dataset(file, where)
        if mask is None or not (is_numeric(mask) or mask.dtype == bool):
            continue
        problems = list(find_shape_problems(where, mask.shape, pattern))
        if problems:
            warn(f"{problems[0]} It is not used.")
        elif mask.ndim == len(pattern):
            yield where, mask[()]
        else:
            yield where, convert_mask(mask, NOT_ZERO, len(pattern))


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


def _read_array(path: Path) -> NDArray[Any]:
    """Read a mask from a NumPy file or a detector image of any kind."""
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                (mask,) = (arrays[name] for name in arrays.files)
            return np.asarray(mask)
        return _read_image(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problem = (
            f"is not a mask that can be read ({error}). Expected an array saved by "
            "numpy.save (.npy) or alone by numpy.savez (.npz), raw bytes (.byt), a "
            "detector image (.tif, .edf, .cbf …), or FILE.h5:/path/to/mask."
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


def _convert(
    path: Path,
    name: str,
    mask: Any,
    convention: MaskConvention | None,
    frame: tuple[int, int],
) -> BadPixels:
    if convention is None and mask.dtype == bool:
        convention = TRUE
    problems = list(find_shape_problems("the mask", mask.shape, frame))
    if convention is None:
        problems.append(_ask_polarity(name, mask))
    if problems or convention is None:
        raise PatternsFileError(path, problems)
    pixels = convert_mask(mask, convention)
    problems.extend(find_pixel_problems("the mask", pixels))
    if problems:
        raise PatternsFileError(path, problems)
    return BadPixels(pixels, describe_origin(name, convention))


def _ask_polarity(name: str, mask: Any) -> str:
    values = np.unique(mask[()])
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    return (
        f"it is not known which of its values ({shown}) mean bad. Say it: "
        f"bad_pixels='{name} != 0' or bad_pixels='{name} == 0'."
    )
