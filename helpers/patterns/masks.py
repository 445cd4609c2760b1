"""Masks, read from the file of the patterns or another: True = leave out."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

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
from helpers.patterns.layout_table import Layout, find_mask_rule
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    TRUE,
    BadPixels,
    MaskConvention,
    convert_mask,
    find_pixel_problems,
    find_shape_problems,
    say_origin,
    split_condition,
)

MASK_NAMES = ("mask", "mask_shared", "bad_pixels", "good_pixels")

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
        it in another way, say which
        values are bad after the name: `mask.npy == 0`, `file.h5:/mask != 0`.
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
    name, bad_when = split_condition(str(where))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
        with open_hdf5(path) as file:
            mask = _find_mask(path, file, in_hdf5["dataset"])
            known = find_mask_rule(file, mask.name)
            return _convert(path, name, mask, bad_when or known, frame)
    path = Path(name).expanduser()
    if not path.is_file():
        raise PatternsFileError(path, [describe_missing_file(path)])
    if path.suffix == ".byt":
        raw = _read_raw(path, frame)
        return _convert(path, name, raw, bad_when or DRAGONFLY, frame)
    return _convert(path, name, _read_array(path), bad_when, frame)


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
        _warn_of_unused_masks(path, file, layout, warn)
        return None
    mask, convention = file[where], layout.bad_when
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
        other = "!=" if convention.relation == "==" else "=="
        warn(
            f"{where} leaves out {pixels.mean():.0%} of the pixels, taking it that "
            f"values {convention} mean bad. If it is the other way round, pass "
            f"bad_pixels='{path}:{where} {other} {convention.value}'."
        )
    return BadPixels(pixels, say_origin(where, convention))


def _warn_of_unused_masks(
    path: Path, file: h5py.File, layout: Layout, warn: Callable[[str], None]
) -> None:
    folder = PurePosixPath(layout.patterns).parent
    beside = [str(folder / name) for name in MASK_NAMES if "*" not in str(folder)]
    for where in dict.fromkeys((*layout.unclear_masks, *beside)):
        if get_dataset(file, where):
            name = f"{path}:{where}"
            warn(
                f"{where} is not used, because it is not known which of its values "
                f"mean bad. Say it: bad_pixels='{name} != 0' or '{name} == 0'."
            )


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
    bad_when: MaskConvention | None,
    frame: tuple[int, int],
) -> BadPixels:
    if bad_when is None and mask.dtype == bool:
        bad_when = TRUE
    problems = list(find_shape_problems("the mask", mask.shape, frame))
    if bad_when is None:
        problems.append(_say_polarity(name, mask))
    if problems or bad_when is None:
        raise PatternsFileError(path, problems)
    pixels = convert_mask(mask, bad_when)
    problems.extend(find_pixel_problems("the mask", pixels))
    if problems:
        raise PatternsFileError(path, problems)
    return BadPixels(pixels, say_origin(name, bad_when))


def _say_polarity(name: str, mask: Any) -> str:
    values = np.unique(mask[()])
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    return (
        f"it is not known which of its values ({shown}) mean bad. Say it: "
        f"bad_pixels='{name} != 0' or bad_pixels='{name} == 0'."
    )
