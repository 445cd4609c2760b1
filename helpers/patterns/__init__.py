"""Open the files of any facility as one lazy stack of patterns.

`open_patterns` opens one file or many. `LAYOUTS` is the table of what is recognised:
one `Layout` says how a kind of file is told from others, where it keeps things and
which values of its mask mean *bad*. Where the patterns of a kind of file are not one
three-dimensional dataset, a `Source` of their own reads them.
"""

from helpers.patterns.cluster import number_of_worker, use_cluster
from helpers.patterns.hdf5 import describe_missing_file, get_whole_dataset, open_hdf5
from helpers.patterns.layout_table import CXI_SHOTS, LAYOUTS, Layout, find_layout
from helpers.patterns.mask_convention import UnclearMask
from helpers.patterns.masks import find_mask_shape, read_bad_pixels
from helpers.patterns.opening import find_run_numbers, match_files, open_patterns
from helpers.patterns.scan import (
    count_threads,
    reused_array,
    run_in_order,
    spread_evenly,
)
from helpers.patterns.sources import Source
from helpers.patterns.stack import Patterns

__all__ = [
    "CXI_SHOTS",
    "LAYOUTS",
    "Layout",
    "Patterns",
    "Source",
    "UnclearMask",
    "count_threads",
    "describe_missing_file",
    "find_layout",
    "find_mask_shape",
    "find_run_numbers",
    "get_whole_dataset",
    "match_files",
    "number_of_worker",
    "open_hdf5",
    "open_patterns",
    "read_bad_pixels",
    "reused_array",
    "run_in_order",
    "spread_evenly",
    "use_cluster",
]
