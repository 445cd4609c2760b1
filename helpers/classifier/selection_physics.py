"""What physics says of the patterns that were taken and those that were left."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.fringe_features import Window
from helpers.classifier.patterson import PattersonScore
from helpers.errors import ParameterError
from helpers.experiment import Experiment
from helpers.handoff import estimate_diameters
from helpers.patterns import Patterns
from helpers.physics import Geometry

FAR = 1e6  # pixels to the detector, so that angles are small


def measure_diameters(
    patterns: Patterns, index: NDArray[np.int64], centre: tuple[float, float]
) -> NDArray[np.float64]:
    """Estimate diameters in steps of the Patterson map; see `estimate_diameters`.

    Parameters
    ----------
    patterns
        The stack.
    index
        (m,) which of them.
    centre
        (row, column) of the beam, in pixels.

    Returns
    -------
    ndarray
        (m,) float64: rings of a particle of diameter d repeat every size / d pixels of
        the window of `size` pixels that the map is made from. NaN without photons.
    """
    geometry = _geometry_in_steps(centre, patterns.shape[1:])
    return estimate_diameters(patterns, index, geometry)


def _geometry_in_steps(centre: tuple[float, float], shape: tuple[int, ...]) -> Geometry:
    """Return a geometry in which one nanometre is one step of the map."""
    window = Window.around(centre, (shape[0], shape[1]))
    period = window.size * window.binning
    return Geometry(
        centre=centre,
        pixel_size_um=1.0,
        distance_mm=FAR / 1000,
        wavelength_nm=period / FAR,
    )


@dataclass(frozen=True)
class Physics:
    """Numbers that no network has made, of some patterns.

    Attributes
    ----------
    taken
        (m,) bool: whether the pattern is in the selection.
    photons
        (m,) float64.
    diameter
        (m,) float64: of the sphere that scatters most alike, over the median of those
        taken; NaN without photons.
    peak
        (m,) float64: `PattersonScore`; NaN where the particle fills the map.
    chance_level
        A peak that noise alone exceeds in one pattern of a hundred; NaN likewise.
    """

    taken: NDArray[np.bool_]
    photons: NDArray[np.float64]
    diameter: NDArray[np.float64]
    peak: NDArray[np.float64]
    chance_level: float


def measure_physics(
    experiment: Experiment, taken: NDArray[np.bool_], n_most: int = 1000
) -> Physics:
    """Measure photons, size and second particles of taken and left patterns.

    Parameters
    ----------
    experiment
        The patterns.
    taken
        (n,) bool: the selection.
    n_most
        At most so many of either are measured, evenly spread over the stack.
    """
    patterns = experiment.patterns
    parts = (_spread_evenly(np.flatnonzero(some), n_most) for some in (taken, ~taken))
    index = np.concatenate(list(parts))
    diameter = measure_diameters(patterns, index, experiment.centre)
    usual = _median(diameter[taken[index]])
    peak = np.full(len(index), np.nan)
    try:
        score = PattersonScore(patterns.bad_pixels, experiment.centre, usual)
    except ParameterError as error:
        warnings.warn(f"No search for second particles: {error}", stacklevel=2)
        level = float("nan")
    else:
        level = score.chance_level
        for here, scores in patterns.map(score, index):
            peak[here] = scores
    photons = experiment.measurements.photons[index]
    return Physics(taken[index], photons, diameter / usual, peak, level)


def _median(values: NDArray[np.float64]) -> float:
    """Return the median of what is finite; infinite where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("inf")


def _spread_evenly(index: NDArray[np.int64], n_most: int) -> NDArray[np.int64]:
    if len(index) <= n_most:
        return index
    return index[np.linspace(0, len(index) - 1, n_most).astype(np.int64)]
