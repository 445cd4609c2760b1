"""What a mask means: which of its values are *bad*, as said or as patterns decide."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError

if TYPE_CHECKING:
    from helpers.physics import PixelSums

MASKS_SAMPLED = 64  # of one for each pattern
COMPARED = (64, 512)  # fewest and most that are looked at to see if they differ
COMPARED_BYTES = 256 * 2**20
MARKED = 0.2  # least share of plain defects among the pixels that a mask means
LIGHT = 0.2  # least share of the light that the others hold

_CONDITION = re.compile(
    r"(?P<name>.*?)\s*(?P<relation>==|!=|&)\s*(?P<value>-?\d+|0[xX][0-9a-fA-F]+)\s*"
)
Relation = Literal["==", "!=", "&"]


@dataclass(frozen=True)
class MaskConvention:
    """The polarity of a mask: which of its values mean that a pixel is bad.

    Parameters
    ----------
    relation
        "==", "!=", or "&": any of these bits.
    value
        What the mask is compared with.
    meaning
        In words, where a standard or a program says it: "CXI bits, 0 = good".
    bits
        What each bit of the mask means, where they have meanings.
    """

    relation: Relation
    value: int
    meaning: str = field(default="", compare=False)
    bits: Mapping[int, str] = field(default_factory=dict, compare=False)

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where a mask says *bad*."""
        if self.relation == "&":
            words = _as_words(mask)
            found: NDArray[np.bool_] = (words & self.value != 0) | (words != mask)
            return found
        equal: NDArray[np.bool_] = mask == self.value
        return equal if self.relation == "==" else ~equal

    def __str__(self) -> str:
        """Return it as it is written after the name of a mask: `!= 0`."""
        number = f"{self.value:#x}" if self.relation == "&" else self.value
        return f"{self.relation} {number}"

    @property
    def reverse(self) -> str:
        """What to write for the other polarity."""
        if self.relation == "&":
            return "== 0"
        return f"{'!=' if self.relation == '==' else '=='} {self.value}"

    def describe_bits(self, masks: Iterable[NDArray[Any]]) -> str:
        """Say which bits occur, in how many pixels, and which of them mean bad.

        Parameters
        ----------
        masks
            One, or some of those for each pattern: (rows, columns) each.
        """
        if not self.bits:
            return ""
        words = np.bitwise_or.reduce([_as_words(mask) for mask in masks])
        counts = {1 << n: np.count_nonzero(words & (1 << n)) for n in range(32)}
        parts = [
            f"{bit} ({self.bits.get(bit, 'not in the list')}) in {count:,}: "
            f"{'bad' if self(np.array(bit)) else 'good'}"
            for bit, count in counts.items()
            if count
        ]
        return f"bits that occur, in pixels: {'; '.join(parts)}" if parts else ""


def _as_words(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole numbers; what is none, or NaN, comes out different."""
    values = np.rint(np.nan_to_num(mask)) if mask.dtype.kind == "f" else mask
    return np.asarray(values).astype(np.int64)


def _name_bits(names: str) -> dict[int, str]:
    """Return the name of each bit, from the lowest on; "-" has none."""
    each = enumerate(names.split(", "))
    return {1 << n: name for n, name in each if name != "-"}


# Bits of the CXI file format, version 1.40, table of the pixel masks; F. R. N. C. Maia,
# Nat. Methods 9, 854 (2012), doi 10.1038/nmeth.2110. The last one is Cheetah's.
CXI_NAMES = _name_bits(
    "invalid, saturated, hot, dead, shadowed, in peak mask, to be ignored, bad, "
    "out of resolution limits, missing, noisy, artifact corrected, "
    "failed artifact correction, peak for hit finder, photon background corrected, "
    "in jet"
)
# These say what was done with a pixel or what it was used for, not that it is unusable.
CXI_GOOD = 0x20 | 0x100 | 0x800 | 0x2000 | 0x4000
# Base class NXdetector, pixel_mask: the upper half does not exclude a pixel.
NEXUS_NAMES = _name_bits(
    "gap, dead, under-responding, over-responding, noisy, -, "
    "cluster of problematic pixels, -, user defined mask"
) | {1 << 31: "virtual pixel"}
# `BadPixels` of European XFEL's calibration (EXtra); nothing says which are harmless.
EUXFEL_NAMES = _name_bits(
    "offset out of threshold, noise out of threshold, offset or noise evaluation error,"
    " no dark data, gain out of threshold, linear deviation, charge injection error, "
    "flat-field gain error, flat-field gain deviation, no flat-field entries, "
    "second charge injection error, value is NaN, value out of range, "
    "gain thresholding error, standard deviation is zero, ASIC below noise, "
    "interpolated, noisy ADC, overscan, non-sensitive, non-linear response, "
    "wrong gain value, non-standard size"
)
NOT_ZERO = MaskConvention("!=", 0)
ZERO = MaskConvention("==", 0)
TRUE = MaskConvention("==", 1)
ONE = MaskConvention("!=", 0, "1 = bad")
CXI_BITS = MaskConvention("&", 0xFFFFFFFF & ~CXI_GOOD, "CXI bits, 0 = good", CXI_NAMES)
NEXUS_BITS = MaskConvention("&", 0xFFFF, "NeXus bits, 0 = good", NEXUS_NAMES)
EUXFEL_BITS = MaskConvention("!=", 0, "European XFEL bits, 0 = good", EUXFEL_NAMES)
GOOD_PIXELS = MaskConvention("==", 0, "1 = good")
DRAGONFLY = MaskConvention(
    "==", 2, "Dragonfly: 0 = good, 1 = good but not for orientation, 2 = bad"
)


def split_condition(text: str) -> tuple[str, MaskConvention | None]:
    """Take `mask.npy == 0` apart into the name and the polarity, None if not said."""
    found = _CONDITION.fullmatch(text)
    if not found:
        return text, None
    relation = cast("Relation", found["relation"])
    is_hexadecimal = found["value"].lower().startswith("0x")
    value = int(found["value"], 16 if is_hexadecimal else 10)
    return found["name"], MaskConvention(relation, value)


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
    taken
        Which of its values are taken to mean bad: "!= 0" or "== 0".
    """

    name: str
    not_zero: NDArray[np.bool_]
    powder: NDArray[np.float64]
    taken: str = "!= 0"


class BadPixels(NamedTuple):
    """Bad pixels and where they were found.

    Attributes
    ----------
    pixels
        (rows, columns) bool, True = leave out.
    origin
        In words, for `Patterns.describe`.
    of_each
        Where the file has a mask for each pattern, and its convention, if these masks
        differ: what only some of them call bad is left out in their patterns.
    unclear
        Masks that were read as is usual for their names.
    """

    pixels: NDArray[np.bool_]
    origin: str
    of_each: tuple[str, MaskConvention] | None = None
    unclear: tuple[UnclearMask, ...] = ()


def unite_bad_pixels(
    found: BadPixels | None, others: BadPixels | None
) -> BadPixels | None:
    """Leave out what either calls bad."""
    if found is None or others is None:
        return found or others
    return BadPixels(
        found.pixels | others.pixels,
        f"{found.origin}; {others.origin}",
        found.of_each or others.of_each,
        found.unclear + others.unclear,
    )


def describe_origin(name: str, convention: MaskConvention, bits: str = "") -> str:
    """Say where bad pixels come from and what was taken to mean bad."""
    parts = [part for part in (convention.meaning, bits) if part]
    meaning = f": {'; '.join(parts)}" if parts else ""
    return f"{name}, whose values {convention} mean bad{meaning}"


def convert_mask(
    mask: Any, convention: MaskConvention, ndim: int = 2
) -> NDArray[np.bool_]:
    """Return the bad pixels of a mask, or of one for each pattern.

    With a mask for each pattern, a pixel is bad if it is so in more than half of an
    even sample of them: all of them together may be as large as the patterns.

    Parameters
    ----------
    mask
        (rows, columns) or (n, rows, columns); with detector modules, (modules, slow,
        fast) or (n, modules, slow, fast).
    convention
        Which of its values mean bad.
    ndim
        How many dimensions the mask of one pattern has.
    """
    votes = [convention(each) for each in sample_masks(mask, ndim)]
    return np.asarray(2 * np.sum(votes, axis=0) > len(votes))


def sample_masks(
    mask: Any, ndim: int = 2, n: int = MASKS_SAMPLED
) -> Iterator[NDArray[Any]]:
    """Give a mask, or an even sample if there is one for each pattern."""
    if mask.ndim == ndim:
        yield mask[()]
        return
    for i in np.unique(np.linspace(0, len(mask) - 1, n).astype(int)):
        yield mask[i]


def do_masks_differ(
    mask: h5py.Dataset, convention: MaskConvention, pixels: NDArray[np.bool_]
) -> bool:
    """Tell whether there is a mask for each pattern, and they may not all be the same.

    Parameters
    ----------
    mask
        One mask, or one for each pattern.
    convention
        Which of its values mean bad.
    pixels
        Which are bad in most patterns.
    """
    if mask.ndim == pixels.ndim:
        return False
    n = int(np.clip(COMPARED_BYTES // max(mask[0].nbytes, 1), *COMPARED))
    return n < min(len(mask), COMPARED[1]) or any(
        (convention(each) != pixels).any()
        for each in sample_masks(mask, pixels.ndim, n)
    )


def find_shape_problems(
    name: str,
    shape: tuple[int, ...],
    frame: tuple[int, ...],
    dimensions: tuple[int, ...] | None = None,
    n_patterns: int | None = None,
) -> Iterator[str]:
    """Say why a mask does not fit the patterns; nothing if it does."""
    n = len(frame)
    if n_patterns and shape[1:] == frame and shape[0] not in (1, n_patterns):
        yield (
            f"{name} has shape {shape}; expected one mask, or one for each of the "
            f"{n_patterns} patterns."
        )
    dimensions = dimensions or (n, n + 1)
    if shape[-n:] != frame or len(shape) not in dimensions or 0 in shape:
        turned = (
            ", not transposed" if shape[-n:] == (*frame[:-2], *frame[:-3:-1]) else ""
        )
        yield (
            f"{name} has shape {shape}; expected {frame}, one value for each pixel of "
            f"a pattern{turned}."
        )


def find_pixel_problems(name: str, pixels: NDArray[np.bool_]) -> Iterator[str]:
    """Say why bad pixels cannot be right; nothing if they can."""
    if pixels.all():
        yield (
            f"{name} leaves out every pixel; expected some good ones. Look at its "
            "values, and say which of them mean bad: bad_pixels='FILE.h5:/mask == 0'."
        )


def check_bad_pixels(
    bad_pixels: NDArray[np.bool_], frame: tuple[int, int], path: Path
) -> BadPixels:
    """Check bad pixels that a caller gives; return a copy that cannot be changed.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    frame
        (rows, columns) of the patterns.
    path
        A file of the patterns, for messages.

    Raises
    ------
    PatternsFileError
        If they are not bool, have another shape, or leave out everything.
    """
    pixels = np.array(bad_pixels)
    name = "the array bad_pixels"
    problems = list(find_shape_problems(name, pixels.shape, frame, dimensions=(2,)))
    if pixels.dtype != bool:
        problems.append(
            f"{name} has dtype {pixels.dtype}; expected bool, True = leave out. "
            "Compare it with the value that means bad, as in mask == 1."
        )
    problems.extend(find_pixel_problems(name, pixels) if not problems else ())
    if problems:
        raise PatternsFileError(path, problems)
    pixels.setflags(write=False)
    return BadPixels(pixels, "given by the caller")


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
