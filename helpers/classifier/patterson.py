"""A second particle seen without labels: the highest peak of the Patterson map."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from helpers.classifier.fringe_features import FringeFeatures
from helpers.errors import ParameterError

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
        self._features = FringeFeatures(bad_pixels, centre)
        size = self._features.window.size
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
        maps = self._features.make_maps(patterns)
        values = maps[:, self.beyond].astype(np.float64)
        noise = MAD_TO_SIGMA * np.median(np.abs(values), axis=1)
        score = np.zeros(len(patterns))
        np.divide(values.max(axis=1), noise, out=score, where=noise > 0)
        return score
