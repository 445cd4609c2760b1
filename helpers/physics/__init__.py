"""What patterns say without a person or a network: centre, maps, pixels, geometry."""

from helpers.physics.geometry import (
    POLARISATIONS,
    SMALLEST_WINDOW,
    Geometry,
    Window,
    angle_about,
    estimate_diameters,
    find_centre,
    flatten_patterns,
    make_geometry,
    radial_average,
    radius_from,
)
from helpers.physics.maps import (
    REACH,
    FriedelAverage,
    FriedelMaps,
    PattersonMaps,
    PolarGrid,
    Whitened,
    inverse,
)
from helpers.physics.pixel_defects import (
    MEANING,
    SINGLE_PIXELS,
    PixelSums,
    Proposal,
    find_defects,
    find_noise_limit,
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
