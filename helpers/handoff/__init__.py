"""Selections out to the next program.

`select_patterns` chooses, `add_diameters` adds sizes, `cut_selection` narrows,
`write_selection` writes our own files, and `write_handoff` writes those of other
programs; `FORMATS` lists them.
"""

from helpers.handoff.formats import FORMATS, Format, write_handoff
from helpers.handoff.selection import (
    Selection,
    add_diameters,
    cut_selection,
    find_scale,
    read_threshold,
    select_patterns,
    write_selection,
)

__all__ = [
    "FORMATS",
    "Format",
    "Selection",
    "add_diameters",
    "cut_selection",
    "find_scale",
    "read_threshold",
    "select_patterns",
    "write_handoff",
    "write_selection",
]
