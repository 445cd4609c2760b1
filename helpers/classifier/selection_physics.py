"""What physics says of the patterns that were taken and those that were left."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.diameters import measure_diameters
from helpers.classifier.patterson import PattersonScore
from helpers.errors import ParameterError
from helpers.experiment import Experiment


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
    try:
        score = PattersonScore(patterns.bad_pixels, experiment.centre, usual)
    except ParameterError as error:
        warnings.warn(f"No search for second particles: {error}", stacklevel=2)
        peak, level = np.full(len(index), np.nan), float("nan")
    else:
        peak, level = score(patterns, index), score.chance_level
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
