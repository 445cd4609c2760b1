"""Masks in the files of the patterns: True = leave out."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import get_dataset, get_whole_dataset, is_numeric
from helpers.patterns.layout_table import Layout
from helpers.patterns.mask_convention import (
    NOT_ZERO,
    BadPixels,
    UnclearMask,
    add_bad_pixels,
    convert_mask,
    describe_origin,
    find_masks_of_each,
    find_pixel_problems,
    find_shape_problems,
    sample_masks,
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
