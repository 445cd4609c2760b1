"""What patterns say without a person or a network: centre, maps, pixels, geometry."""

from helpers.physics.geometry import (
    POLARISATIONS,
    Geometry,
    angle_about,
    estimate_diameters,
    find_centre,
    flatten_patterns,
    make_geometry,
    radial_average,
    radius_from,
)
from helpers.physics.patterson import SMALLEST_WINDOW, PattersonMaps, Whitened, Window
from helpers.physics.pixel_defects import (
    MEANING,
    SINGLE_PIXELS,
    PixelSums,
    Proposal,
    find_defects,
    find_noise_limit,
)
from helpers.physics.polar_grid import (
    REACH,
    FriedelAverage,
    FriedelMaps,
    PolarGrid,
    inverse,
)

__all__ = [
    "MEANING",
    "POLARISATIONS",
    "REACH",
    "SINGLE_PIXELS",
    "SMALLEST_WINDOW",
    "FriedelAverage",
    "FriedelMaps",
    "Geometry",
    "PattersonMaps",
    "PixelSums",
    "PolarGrid",
    "Proposal",
    "Whitened",
    "Window",
    "angle_about",
    "estimate_diameters",
    "find_centre",
    "find_defects",
    "find_noise_limit",
    "flatten_patterns",
    "inverse",
    "make_geometry",
    "radial_average",
    "radius_from",
]
