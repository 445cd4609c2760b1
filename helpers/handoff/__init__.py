"""Selections out to the next program.

`select_patterns` chooses, `add_diameters` estimates sizes, `cut_selection` narrows,
`write_selection` writes our own files, and `write_handoff` writes those of other
programs; `FORMATS` lists them.
"""

from helpers.handoff.formats import FORMATS, Format, write_handoff
from helpers.handoff.particle_size import add_diameters, estimate_diameters
from helpers.handoff.selection import (
    Selection,
    cut_selection,
    find_scale,
    select_patterns,
    write_selection,
)

__all__ = [
    "FORMATS",
    "Format",
    "Selection",
    "add_diameters",
    "cut_selection",
    "estimate_diameters",
    "find_scale",
    "select_patterns",
    "write_handoff",
    "write_selection",
]
