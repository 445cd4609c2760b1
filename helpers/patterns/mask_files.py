"""Masks that a person names: arrays, images, and files of neighbouring programs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.crystfel_mask import read_crystfel_mask
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
    UnclearMask,
    convert_mask,
    describe_origin,
    find_pixel_problems,
    find_shape_problems,
    split_condition,
)
from helpers.patterns.sources import Source

_IN_HDF5 = re.compile(r"(?P<file>.{2,}):(?P<dataset>/.+)")


def read_bad_pixels(
    where: str | Path,
    frame: tuple[int, int],
    source: Source | None = None,
    warn: Callable[[str], None] | None = None,
) -> BadPixels:
    """Read bad pixels from a mask in a file.

    Parameters
    ----------
    where
        `mask.npy`, `mask.npz`, a detector image (`mask.tif`, `mask.edf` …), `mask.byt`
        (raw uint8, as Dragonfly ships it), `file.h5:/path/to/mask`, a detector file of
        Dragonfly (`det.h5`, `det.dat`), or a CrystFEL geometry (`.geom`). The polarity
        is known where the values are boolean (True = bad), in `.byt` files (2 = bad, as
        in Dragonfly) and for the mask of a known layout. Otherwise the patterns decide,
        or what is usual for its name. To read
        it in another way, say which values are bad after the name: `mask.npy == 0`,
        `file.h5:/mask != 0`, or which bits: `file.cxi:/entry_1/data_1/mask & 0x21f`.
    frame
        (rows, columns) of the patterns.
    source
        The patterns, which decide where nobody says which values mean bad; without
        them that is an error.
    warn
        Is told what a person should be warned of.

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
    reader = _Named(name, frame, source, warn or (lambda _: None))
    in_hdf5 = _IN_HDF5.fullmatch(name)
    if in_hdf5:
        path = Path(in_hdf5["file"]).expanduser()
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
        with open_hdf5(path) as file:
            shape = _find_mask(path, file, in_hdf5["dataset"]).shape
    elif name.endswith(".byt"):
        return None
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            raise PatternsFileError(path, [describe_missing_file(path)])
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
        if convention is None:
            return self._decide(path, mask)
        pixels = convert_mask(mask, convention)
        self._check(path, pixels)
        return BadPixels(pixels, describe_origin(self.name, convention))

    @property
    def _n_pixels(self) -> int:
        return self.frame[0] * self.frame[1]

    def _decide(self, path: Path, mask: Any) -> BadPixels:
        from helpers.patterns.mask_polarity import (  # and SciPy, which is slow
            decide_polarity,
            sample_sums,
        )

        values = mask[()] if mask.ndim == 2 else convert_mask(mask, NOT_ZERO)
        if self.source is None or (values == values.flat[0]).all():
            origin = f"{self.name} has one value for all pixels, and leaves none out"
            return BadPixels(np.zeros(self.frame, np.bool_), origin)
        sums = sample_sums(self.source)
        last = re.split(r"[/\\]", self.name)[-1]
        polarity = decide_polarity(values, sums, last, self.source.gaps)
        convention = polarity.convention
        pixels = convention(values)
        self._check(path, pixels)
        how = "as the patterns decide" if polarity.is_decided else "as its name says"
        origin = f"{describe_origin(self.name, convention)}, {how}: {polarity.why}"
        if polarity.is_decided:
            return BadPixels(pixels, origin)
        self.warn(
            f"the patterns do not decide which values of {self.name} mean bad: "
            f"{polarity.why}. As is usual for this name, values {convention} are taken "
            f"to mean bad: {pixels.mean():.1%} of the pixels. If it is the other way "
            f"round, pass bad_pixels='{self.name} {convention.reverse}'."
        )
        powder = np.zeros(self.frame) if sums is None else sums.total
        unclear = UnclearMask(self.name, NOT_ZERO(values), powder)
        return BadPixels(pixels, origin, unclear=(unclear,))

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


def _read_array(path: Path) -> tuple[NDArray[Any], MaskConvention | None]:
    """Read a mask from a NumPy file, a text of Dragonfly or a detector image."""
    detector = read_detector_text(path)
    if detector is not None:
        return detector, DRAGONFLY
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False)), None
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                (mask,) = (arrays[name] for name in arrays.files)
            return np.asarray(mask), None
        return _read_image(path), None
    except Exception as error:  # on a damaged file a parser may raise anything
        why = str(error) or type(error).__name__
        problem = (
            f"is not a mask that can be read ({why}). Expected an array saved by "
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


def _ask_polarity(name: str, mask: Any) -> str:
    values = np.unique(mask[()])
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    return (
        f"it is not known which of its values ({shown}) mean bad. Say it: "
        f"bad_pixels='{name} != 0' or bad_pixels='{name} == 0'."
    )
