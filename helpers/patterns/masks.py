"""Masks in the files of the patterns, and which of their values mean *bad*."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import follow, get_dataset, get_whole_dataset, is_numeric
from helpers.patterns.layout_table import Layout
from helpers.patterns.mask_convention import (
    DRAGONFLY,
    NOT_ZERO,
    ZERO,
    BadPixels,
    MaskConvention,
    UnclearMask,
    convert_mask,
    describe_origin,
    find_masks_of_each,
    find_pixel_problems,
    find_shape_problems,
    sample_masks,
    unite_bad_pixels,
)
from helpers.patterns.sources import Source

if TYPE_CHECKING:
    from helpers.physics import PixelSums

SAMPLE_BYTES = 64 * 2**20
SAMPLED = (32, 200)  # fewest and most patterns
MARKED = 0.2  # least share of plain defects among the pixels that a mask means
LIGHT = 0.2  # least share of the light that the others hold
MASK_VALUES = 8  # a mask of a name that others have too holds at most so many
_MASK_NAME = re.compile(
    r"(?i)(\w*_)?mask(_?shared|_?\d+|s)?|(bad|good|dead|hot)_?(pix\w*|map|mask)?"
)
_USUAL_NAME = re.compile(r"(pixel_)?mask(_shared)?|(bad|good)_pixel(s|_mask)")


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

    is_of_good = "good" in name.lower()
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
    path
        The file on disk.
    file
        The same, open.
    layout
        Where its mask may be, and which of its values mean bad.
    shape
        Of the patterns as recorded: (n, …).
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
    n, *frame = shape
    pattern = tuple(frame)
    problems = list(find_shape_problems(where, mask.shape, pattern, n_patterns=n))
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


class MaskJudge:
    """Lets the patterns of a file decide which values of its masks mean bad.

    Parameters
    ----------
    source
        The patterns.
    warn
        Is told what a person should be warned of.
    """

    def __init__(self, source: Source, warn: Callable[[str], None]) -> None:
        self._source = source
        self._warn = warn

    @cached_property
    def _sums(self) -> "PixelSums | None":
        return sample_sums(self._source)

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
        Is told what a person should be warned of.

    Returns
    -------
    BadPixels
        In the shape of the patterns; None without a mask that can be used.
    """
    n, *frame = shape
    pattern = tuple(frame)
    judge = MaskJudge(source, warn)
    found: BadPixels | None = None
    for where, mask in masks:
        if mask.dtype.kind not in "biuf":
            continue
        problems = list(find_shape_problems(where, mask.shape, pattern, n_patterns=n))
        if problems:
            warn(f"{problems[0]} It is not used.")
            continue
        values = mask[()] if mask.ndim == len(pattern) else _join_masks(mask)
        assembled = source.assemble(values).reshape(source.shape[1:])
        name = f"{path}:{where}" if where.startswith("/") else f"{path}:/{where}"
        one, convention = judge.judge(assembled, where, name)
        if convention is not None and isinstance(mask, h5py.Dataset):
            of_each = find_masks_of_each(mask, convention, convention(values))
            one = one._replace(of_each=of_each)
        found = unite_bad_pixels(found, one)
    return found


def _join_masks(masks: Any) -> NDArray[np.int8]:
    """Return where most masks of one for each pattern are not 0, as 0 and 1."""
    return convert_mask(masks, NOT_ZERO, masks.ndim - 1).astype(np.int8)


def find_unclear_masks(
    file: h5py.File, layout: Layout, pattern: tuple[int, ...]
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Give what may be masks, and where, of which nobody says which values mean bad.

    Parameters
    ----------
    file
        Open.
    layout
        Where such masks may be; for others see `find_mask_paths`.
    pattern
        Shape of a pattern as recorded.
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
    if mask.shape[-len(pattern) :] != pattern or mask.dtype.kind not in "biuf":
        return False
    return np.unique(next(sample_masks(mask, len(pattern)))).size <= MASK_VALUES
