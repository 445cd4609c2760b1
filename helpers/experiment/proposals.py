"""Pixels that should be left out though no mask says so."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.experiment.measurements import Measurements
from helpers.physics import MEANING, SINGLE_PIXELS, Proposal, find_defects

Bools = NDArray[np.bool_]


def find_bad_pixels(
    measurements: Measurements,
    bad_pixels: Bools,
    centre: tuple[float, float] | None = None,
) -> dict[str, Proposal]:
    """Find pixels that are no measurement; see `helpers.physics.find_defects`.

    Parameters
    ----------
    measurements
        Of the whole stack, from `measure_patterns`.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.
    centre
        (row, column) of the beam; found from the powder without it.

    Returns
    -------
    dict
        By kind, in the order of `MEANING`.

    Raises
    ------
    ParameterError
        If the measurements were read from a work folder, which keeps no sums.
    """
    if measurements.pixels is None:
        message = (
            "these measurements hold no sums over the patterns for each pixel. "
            "Make them with measure_patterns: a work folder does not keep them."
        )
        raise ParameterError(message)
    return find_defects(measurements.pixels, bad_pixels, centre)


def propose_bad_pixels(
    measurements: Measurements, bad_pixels: Bools
) -> dict[str, Bools]:
    """Return the single pixels that `find_bad_pixels` finds, (rows, columns) by kind.

    "constant", "not finite", "dead", "hot" and "flickering"; parameters and errors are
    those of `find_bad_pixels`.
    """
    found = find_bad_pixels(measurements, bad_pixels)
    return {kind: found[kind].pixels for kind in SINGLE_PIXELS}


def propose_shadows(measurements: Measurements, bad_pixels: Bools) -> Bools:
    """Return the gaps and beam stops that `find_bad_pixels` finds, (rows, columns)."""
    return find_bad_pixels(measurements, bad_pixels)["shadow"].pixels


def describe_bad_pixels(found: Mapping[str, Proposal]) -> str:
    """Say for each kind how many pixels there are, and the numbers that decided.

    Parameters
    ----------
    found
        From `find_bad_pixels`.
    """
    lines = [
        f"{kind}: {np.count_nonzero(pixels):,} pixels ({MEANING[kind]}: "
        f"{np.nanmin(evidence):.3g} to {np.nanmax(evidence):.3g})."
        for kind, (pixels, evidence) in found.items()
        if pixels.any()
    ]
    return "\n".join(lines or ["No pixel looks like a bad one."])


def accept_bad_pixels(
    found: Mapping[str, Proposal],
    *,
    accept_proposed: bool = True,
    accept_shadows: bool = True,
    accept_dim: bool = False,
) -> Bools:
    """Return the pixels to leave out, (rows, columns) bool.

    Parameters
    ----------
    found
        From `find_bad_pixels`.
    accept_proposed
        Leave out single pixels: constant, not finite, dead, hot, flickering.
    accept_shadows
        Leave out shadows: gaps between modules, beam stops, dead modules.
    accept_dim
        Leave out what is dim.
    """
    accepted = dict.fromkeys(SINGLE_PIXELS, accept_proposed)
    accepted |= {"shadow": accept_shadows, "dim": accept_dim}
    taken: Bools = np.any(
        [found[kind].pixels & yes for kind, yes in accepted.items()], axis=0
    )
    return taken
