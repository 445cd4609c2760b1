"""What a mask means: which of its values are *bad* is said for each, never guessed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError

MASKS_SAMPLED = 64  # of one for each pattern

_CONDITION = re.compile(r"(?P<name>.*?)\s*(?P<relation>==|!=)\s*(?P<value>-?\d+)\s*")


@dataclass(frozen=True)
class MaskConvention:
    """The polarity of a mask: which of its values mean that a pixel is bad.

    Parameters
    ----------
    relation
        "==" or "!=".
    value
        What the mask is compared with.
    meaning
        In words, where a standard or a program says it: "CXI bits, 0 = good".
    """

    relation: Literal["==", "!="]
    value: int
    meaning: str = field(default="", compare=False)

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where a mask says *bad*."""
        equal: NDArray[np.bool_] = mask == self.value
        return equal if self.relation == "==" else ~equal

    def __str__(self) -> str:
        """Return it as it is written after the name of a mask: `!= 0`."""
        return f"{self.relation} {self.value}"


NOT_ZERO = MaskConvention("!=", 0)
TRUE = MaskConvention("==", 1)
ONE = MaskConvention("!=", 0, "1 = bad")
CXI_BITS = MaskConvention("!=", 0, "CXI bits, 0 = good")
NEXUS_BITS = MaskConvention("!=", 0, "NeXus bits, 0 = good")
GOOD_PIXELS = MaskConvention("==", 0, "1 = good")
DRAGONFLY = MaskConvention(
    "==", 2, "Dragonfly: 0 = good, 1 = good but not for orientation, 2 = bad"
)


def split_condition(text: str) -> tuple[str, MaskConvention | None]:
    """Take `mask.npy == 0` apart into the name and the polarity, None if not said."""
    found = _CONDITION.fullmatch(text)
    if not found:
        return text, None
    relation: Literal["==", "!="] = "==" if found["relation"] == "==" else "!="
    return found["name"], MaskConvention(relation, int(found["value"]))


class BadPixels(NamedTuple):
    """Bad pixels and where they were found.

    Attributes
    ----------
    pixels
        (rows, columns) bool, True = leave out.
    origin
        In words, for `Patterns.describe`.
    """

    pixels: NDArray[np.bool_]
    origin: str


def add_bad_pixels(
    found: BadPixels | None, pixels: NDArray[np.bool_], origin: str
) -> BadPixels:
    """Leave out more pixels than were found to be bad already."""
    if found is None:
        return BadPixels(pixels, origin)
    return BadPixels(found.pixels | pixels, f"{found.origin}; {origin}")


def say_origin(name: str, bad_when: MaskConvention) -> str:
    """Say where bad pixels come from and what was taken to mean bad."""
    meaning = f": {bad_when.meaning}" if bad_when.meaning else ""
    return f"{name}, whose values {bad_when} mean bad{meaning}"


def convert_mask(
    mask: Any, bad_when: MaskConvention, ndim: int = 2
) -> NDArray[np.bool_]:
    """Return the bad pixels of a mask, or of one for each pattern.

    With a mask for each pattern, a pixel is bad if it is so in more than half of an
    even sample of them: all of them together may be as large as the patterns.

    Parameters
    ----------
    mask
        (rows, columns) or (n, rows, columns); with detector modules, (modules, slow,
        fast) or (n, modules, slow, fast).
    bad_when
        Which of its values mean bad.
    ndim
        How many dimensions the mask of one pattern has.
    """
    if mask.ndim == ndim:
        return bad_when(mask[()])
    chosen = np.unique(np.linspace(0, len(mask) - 1, MASKS_SAMPLED).astype(int))
    votes = np.sum([bad_when(mask[i]) for i in chosen], axis=0)
    majority: NDArray[np.bool_] = 2 * votes > chosen.size
    return majority


def find_shape_problems(
    name: str,
    shape: tuple[int, ...],
    frame: tuple[int, ...],
    dimensions: tuple[int, ...] | None = None,
) -> Iterator[str]:
    """Say why a mask does not fit the patterns; nothing if it does."""
    n = len(frame)
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
