"""What a pattern says without a person or a network: centre, polar maps, geometry."""

from helpers.physics.centre import angle_about, find_centre, radial_average, radius_from
from helpers.physics.geometry import POLARISATIONS, Geometry, make_geometry
from helpers.physics.polar_grid import (
    REACH,
    FriedelAverage,
    FriedelMaps,
    PolarGrid,
    inverse,
)

__all__ = [
    "POLARISATIONS",
    "REACH",
    "FriedelAverage",
    "FriedelMaps",
    "Geometry",
    "PolarGrid",
    "angle_about",
    "find_centre",
    "inverse",
    "make_geometry",
    "radial_average",
    "radius_from",
]
