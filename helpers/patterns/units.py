"""Photon counts or ADU: what a file says, or else what a few patterns show."""

from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.patterns.pattern_file import PatternFile


class Unit(NamedTuple):
    """A unit and why it is thought to be so.

    Attributes
    ----------
    name
        "photons", "ADU" or "unknown".
    why
        In words, for `Patterns.describe`.
    """

    name: str
    why: str


def find_unit(
    recording: PatternFile, bad_pixels: NDArray[np.bool_], n_sampled: int = 8
) -> Unit:
    """Tell the unit of a file's patterns.

    What the file or its layout says counts first. Otherwise a negative value or a
    fraction at any good pixel of a few patterns means ADU; whole numbers mean photons;
    and if all of them are 0, nothing is known unless they are recorded as integers.

    Parameters
    ----------
    recording
        The file.
    bad_pixels
        (rows, columns) bool, True = leave out; also NaN and infinite values count
        nowhere.
    n_sampled
        How many evenly spread patterns are looked at.
    """
    if recording.unit:
        return Unit(recording.unit, "as the file or its layout says")
    with closing(recording.source) as source:
        chosen = np.unique(np.linspace(0, source.shape[0] - 1, n_sampled).astype(int))
        patterns = np.empty((chosen.size, *source.shape[1:]), source.dtype)
        for i, row in enumerate(chosen):
            source.read_into(patterns[i : i + 1], row)
    values = patterns[:, ~bad_pixels]
    values = values[np.isfinite(values)]
    seen = f"in {chosen.size} patterns spread over {source.path.name}"
    if (values < 0).any():
        return Unit("ADU", f"negative values were seen {seen}")
    if source.dtype.kind in "iu":
        return Unit("photons", f"assumed: recorded as {source.dtype}, none negative")
    if not values.any():
        return Unit("unknown", f"nothing but 0 was seen {seen}")
    if (values % 1 != 0).any():
        return Unit("ADU", f"fractions were seen {seen}")
    return Unit("photons", f"assumed: nothing but whole numbers was seen {seen}")
