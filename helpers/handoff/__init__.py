"""Selections out to the next program.

`select_patterns` chooses, `add_diameters` estimates sizes, `cut_selection` narrows,
`write_selection` writes our own files, and `write_handoff` writes those of other
programs; `FORMATS` lists them.
"""

from helpers.handoff.formats import FORMATS, Format, write_handoff
from helpers.handoff.geometry import Geometry, make_geometry
from helpers.handoff.request import find_scale
from helpers.handoff.selection import (
    Selection,
    cut_selection,
    select_patterns,
    write_selection,
)
from helpers.handoff.size import add_diameters, estimate_diameters

__all__ = [
    "FORMATS",
    "Format",
    "Geometry",
    "Selection",
    "add_diameters",
    "cut_selection",
    "estimate_diameters",
    "find_scale",
    "make_geometry",
    "select_patterns",
    "write_handoff",
    "write_selection",
]
