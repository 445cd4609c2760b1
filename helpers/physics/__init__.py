"""What a pattern says without a person or a network: centre, polar maps, geometry."""

from helpers.physics.centre import find_centre
from helpers.physics.friedel import HalfTurn, HalfTurnMaps
from helpers.physics.geometry import POLARISATIONS, Geometry, make_geometry
from helpers.physics.polar_grid import REACH, PolarGrid, inverse
from helpers.physics.radial import angle_about, radial_average, radius_from

__all__ = [
    "POLARISATIONS",
    "REACH",
    "Geometry",
    "HalfTurn",
    "HalfTurnMaps",
    "PolarGrid",
    "angle_about",
    "find_centre",
    "inverse",
    "make_geometry",
    "radial_average",
    "radius_from",
]
