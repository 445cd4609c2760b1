"""What physics says of the patterns that were taken and those that were left."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from helpers.errors import ParameterError
from helpers.experiment import Experiment
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import Geometry, PattersonMaps, Window, estimate_diameters

FEWEST_CELLS = 100
MAD_TO_SIGMA = 1.4826


class PattersonScore:
    """How far a peak beyond the particle's own size stands out of the noise.

    The Fourier transform of a pattern is a map of the distances in what scattered: one
    particle fills it out to its diameter and no further, a second one adds a peak at
    the distance between the two, the higher the brighter it is.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.
    diameter
        Of one particle, in steps of the map, as `measure_diameters` gives it.

    Attributes
    ----------
    beyond
        (size, size) bool: the part of the map that one particle leaves empty.

    Raises
    ------
    ParameterError
        If the particle fills the map, so that a second one would not show.

    References
    ----------
    Patterson, Phys. Rev. 46, 372 (1934), doi 10.1103/PhysRev.46.372.
    """

    margin = 1.2  # an icosahedron reaches a little beyond the sphere that is alike

    def __init__(
        self,
        bad_pixels: NDArray[np.bool_],
        centre: tuple[float, float],
        diameter: float,
    ) -> None:
        self._maps = PattersonMaps(bad_pixels, centre)
        size = self._maps.window.size
        separation = np.hypot(*np.indices((size, size)) - size // 2)
        self.beyond = (separation > self.margin * diameter) & (separation < size // 2)
        if np.count_nonzero(self.beyond) < FEWEST_CELLS:
            message = (
                f"a particle of {diameter:.3g} steps fills the map of {size} × {size}; "
                "a second one cannot be told from it. Use patterns that are binned "
                "less, or leave this score out."
            )
            raise ParameterError(message)

    @property
    def chance_level(self) -> float:
        """What noise alone exceeds in one pattern of a hundred."""
        n_independent = np.count_nonzero(self.beyond) / 2  # the map is point-symmetric
        return float(-ndtri(0.01 / n_independent))

    def __call__(self, patterns: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of patterns (m, rows, columns), clean.

        Returns
        -------
        ndarray
            (m,) float64: the highest value beyond the particle's size, in standard
            deviations of the map there; 0 for a pattern without photons.
        """
        maps = self._maps.make_maps(patterns)
        values = maps[:, self.beyond].astype(np.float64)
        noise = MAD_TO_SIGMA * np.median(np.abs(values), axis=1)
        score = np.zeros(len(patterns))
        np.divide(values.max(axis=1), noise, out=score, where=noise > 0)
        return score


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
    left = ~taken & patterns.is_measurement
    parts = (spread_evenly(np.flatnonzero(some), n_most) for some in (taken, left))
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
