"""Masks in the files of the patterns, and which of their values mean *bad*."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import get_dataset, get_whole_dataset, is_numeric
from helpers.patterns.layout_table import Layout
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    NOT_ZERO,
    ZERO,
    BadPixels,
    MaskConvention,
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

SAMPLE_BYTES = 64 * 2**20
SAMPLED = (32, 200)  # fewest and most patterns
MARKED = 0.2  # least share of plain defects among the pixels that a mask means
LIGHT = 0.2  # least share of the light that the others hold


def sample_sums(source: Source) -> "PixelSums | None":
    """Sum up at most 200 patterns spread over a file, fewer if they are large.

    None if they cannot be read; whoever reads them later is told why.
    """
    from helpers.physics import find_noise_limit  # with SciPy, which is slow

    n, rows, columns = source.shape
    most = int(np.clip(SAMPLE_BYTES // (4 * rows * columns), *SAMPLED))
    chosen = np.unique(np.linspace(0, n - 1, most).astype(int))
    blocks = np.array_split(chosen, -(-chosen.size // 8))
    try:
        with closing(source):
            first = _read_some(source, blocks[0])
            varies = first[:, (first != first[0]).any(axis=0)]
            limit = find_noise_limit(varies[np.isfinite(varies)]) if varies.size else 1
            sums = _sum_up(first, limit)
            for block in blocks[1:]:
                sums.add(_sum_up(_read_some(source, block), limit))
    except PatternsFileError:
        return None
    return sums


def _read_some(source: Source, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.empty((rows.size, *source.shape[1:]), np.float32)
    for i, row in enumerate(rows):
        source.read_into(values[i : i + 1], int(row))
    return values


def _sum_up(values: NDArray[np.float32], limit: float) -> "PixelSums":
    from helpers.physics import PixelSums

    finite = np.isfinite(values)
    return PixelSums.of(np.where(finite, values, np.float32(0)), limit, finite)


class Polarity(NamedTuple):
    """Which values of a mask mean bad, and how that is known.

    Attributes
    ----------
    convention
        Which of its values mean bad.
    is_decided
        Whether the patterns decided; otherwise the name of the mask did.
    why
        The numbers, in words.
    """

    convention: MaskConvention
    is_decided: bool
    why: str


def decide_polarity(
    mask: NDArray[Any],
    sums: "PixelSums | None",
    name: str = "mask",
    gaps: NDArray[np.bool_] | None = None,
) -> Polarity:
    """Let the patterns decide which values of a mask mean bad.

    They do where a good part of the pixels that would be left out, and a ten times
    larger one than of the others, is plainly no measurement (constant, dead, hot, in a
    shadow: `helpers.physics.find_defects`), and the others hold much of the light.
    Otherwise the name decides, as is usual: of a mask of good pixels 0 means bad, of
    all others everything else.

    Parameters
    ----------
    mask
        (rows, columns), of any type.
    sums
        Over some patterns; None without.
    name
        Of the mask.
    gaps
        (rows, columns) bool: pixels that are none; None without.
    """
    from helpers.physics import find_defects

    is_of_good = name.lower().startswith("good")
    usual, other = (ZERO, NOT_ZERO) if is_of_good else (NOT_ZERO, ZERO)
    if sums is None:
        return Polarity(usual, False, "the patterns cannot be read")
    gaps = np.zeros(mask.shape, np.bool_) if gaps is None else gaps
    found = find_defects(sums, gaps)
    defects = np.any([each.pixels for kind, each in found.items() if kind != "dim"], 0)
    lit = np.where(defects, 0, sums.n_lit)
    shares = {
        convention: _compare(convention(mask)[~gaps], defects[~gaps], lit[~gaps])
        for convention in (usual, other, DRAGONFLY)
    }
    fitting = [
        (marked - others, convention)
        for convention, (marked, others, light) in shares.items()
        if marked >= max(MARKED, 10 * others) and light >= LIGHT
    ]
    chosen = max(fitting, key=lambda each: each[0])[1] if fitting else usual
    marked, others, _ = shares[chosen]
    why = (
        f"{marked:.1%} of these pixels are plainly no measurement (constant, dead, hot "
        f"or in a shadow in {sums.n_patterns} patterns), and {others:.1%} of the others"
    )
    return Polarity(chosen, bool(fitting), why)


def _compare(
    bad: NDArray[np.bool_], defects: NDArray[np.bool_], lit: NDArray[np.integer[Any]]
) -> tuple[float, float, float]:
    """Return the share of defects among bad and good pixels, and the good ones' light.

    All 0 where no pixel, or each, is bad.
    """
    if bad.all() or not bad.any():
        return 0.0, 0.0, 0.0
    light = lit[~bad].sum() / max(lit.sum(), 1)
    return float(defects[bad].mean()), float(defects[~bad].mean()), float(light)


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
