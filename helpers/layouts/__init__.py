"""What each facility's file looks like, and which one this is.

`LAYOUTS` is the table: one `Layout` says how a kind of file is recognised, where it
keeps things and which values of its mask mean *bad*. `open_recording` reads one file by
it. Where the patterns of a kind of file are not one three-dimensional dataset, a
`Source` of their own reads them.
"""

from helpers.layouts.bad_pixels import (
    BadPixels,
    find_mask_shape,
    find_pixel_problems,
    find_shape_problems,
    read_bad_pixels,
)
from helpers.layouts.hdf5 import find_datasets, open_hdf5
from helpers.layouts.polarity import BadWhen
from helpers.layouts.recording import Recording, open_recording
from helpers.layouts.sources import DatasetSource, Hdf5Source, Source
from helpers.layouts.table import EMC, LAYOUTS, Layout, find_layout
from helpers.layouts.units import Unit, find_unit

__all__ = [
    "EMC",
    "LAYOUTS",
    "BadPixels",
    "BadWhen",
    "DatasetSource",
    "Hdf5Source",
    "Layout",
    "Recording",
    "Source",
    "Unit",
    "find_datasets",
    "find_layout",
    "find_mask_shape",
    "find_pixel_problems",
    "find_shape_problems",
    "find_unit",
    "open_hdf5",
    "open_recording",
    "read_bad_pixels",
]
