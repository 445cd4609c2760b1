"""Where the patterns of one file are read from: one class for each way to keep them."""

from helpers.layouts.sources.base import Hdf5Source, Source
from helpers.layouts.sources.dataset import DatasetSource
from helpers.layouts.sources.emc import EmcSource, is_emc, read_emc_head
from helpers.layouts.sources.frames import FramesSource, find_first_frame, find_frames
from helpers.layouts.sources.modules import ModulesSource
from helpers.layouts.sources.run import RunSource
from helpers.layouts.sources.sparse import SparseSource

__all__ = [
    "DatasetSource",
    "EmcSource",
    "FramesSource",
    "Hdf5Source",
    "ModulesSource",
    "RunSource",
    "Source",
    "SparseSource",
    "find_first_frame",
    "find_frames",
    "is_emc",
    "read_emc_head",
]
