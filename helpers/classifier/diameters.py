"""How large the particle of each pattern is, where no geometry is known."""

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.fringe_features import Window
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
