"""The centre of diffraction patterns, and what depends on it: radii and angles."""

from helpers.polar.centre import find_centre
from helpers.polar.grid import PolarGrid
from helpers.polar.maps import HalfTurn, HalfTurnMaps
from helpers.polar.radial import angle_about, radial_average, radius_from

__all__ = [
    "HalfTurn",
    "HalfTurnMaps",
    "PolarGrid",
    "angle_about",
    "find_centre",
    "radial_average",
    "radius_from",
]
