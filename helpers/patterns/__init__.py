"""Open the files of any facility as one lazy stack of patterns.

`open_patterns` opens one file or many. `LAYOUTS` is the table of what is recognised:
one `Layout` says how a kind of file is told from others, where it keeps things and
which values of its mask mean *bad*. Where the patterns of a kind of file are not one
three-dimensional dataset, a `Source` of their own reads them.
"""

from helpers.patterns.cluster import number_of_worker, use_cluster
from helpers.patterns.detector_geometry import ModulesSource
from helpers.patterns.dragonfly import EmcSource, SparseSource, is_emc, read_emc_head
from helpers.patterns.hdf5 import (
    describe_missing_file,
    find_datasets,
    find_first_frame,
    find_frames,
    get_whole_dataset,
    open_hdf5,
)
from helpers.patterns.layout_table import CXI_SHOTS, EMC, LAYOUTS, Layout, find_layout
from helpers.patterns.mask_convention import (
    BadPixels,
    MaskConvention,
    UnclearMask,
    find_pixel_problems,
    find_shape_problems,
)
from helpers.patterns.masks import find_mask_shape, read_bad_pixels
from helpers.patterns.opening import find_unit, match_files, open_patterns
from helpers.patterns.other_sources import FramesSource, RunSource
from helpers.patterns.pattern_file import PatternFile, open_pattern_file
from helpers.patterns.scan import (
    batches,
    count_threads,
    reused_array,
    run_in_order,
    spread_evenly,
)
from helpers.patterns.sources import DatasetSource, Hdf5Source, Source
from helpers.patterns.stack import Patterns, Unit

__all__ = [
    "CXI_SHOTS",
    "EMC",
    "LAYOUTS",
    "BadPixels",
    "DatasetSource",
    "EmcSource",
    "FramesSource",
    "Hdf5Source",
    "Layout",
    "MaskConvention",
    "ModulesSource",
    "PatternFile",
    "Patterns",
    "RunSource",
    "Source",
    "SparseSource",
    "UnclearMask",
    "Unit",
    "batches",
    "count_threads",
    "describe_missing_file",
    "find_datasets",
    "find_first_frame",
    "find_frames",
    "find_layout",
    "find_mask_shape",
    "find_pixel_problems",
    "find_shape_problems",
    "find_unit",
    "get_whole_dataset",
    "is_emc",
    "match_files",
    "number_of_worker",
    "open_hdf5",
    "open_pattern_file",
    "open_patterns",
    "read_bad_pixels",
    "read_emc_head",
    "reused_array",
    "run_in_order",
    "spread_evenly",
    "use_cluster",
]
