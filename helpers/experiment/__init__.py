"""What is known of the patterns before anyone labels them, kept in the work folder.

`experiment.json` holds the facts that a person reads: files, shape, unit, centre,
thresholds. `experiment.h5` holds the arrays that belong to them. Every later stage
starts from `open_experiment`, so a bad pixel proposed in the first notebook is left
out everywhere.
"""

from helpers.experiment.measurements import (
    Experiment,
    Measurements,
    describe_lost_pixels,
    describe_no_measurements,
    make_powder,
    measure_patterns,
    name_no_measurements,
    open_experiment,
    write_experiment,
)
from helpers.experiment.suggestions import (
    PhotonScale,
    accept_bad_pixels,
    describe_bad_pixels,
    find_bad_pixels,
    find_photon_scale,
    suggest_hit_threshold,
    suggest_lit_threshold,
)

__all__ = [
    "Experiment",
    "Measurements",
    "PhotonScale",
    "accept_bad_pixels",
    "describe_bad_pixels",
    "describe_lost_pixels",
    "describe_no_measurements",
    "find_bad_pixels",
    "find_photon_scale",
    "make_powder",
    "measure_patterns",
    "name_no_measurements",
    "open_experiment",
    "suggest_hit_threshold",
    "suggest_lit_threshold",
    "write_experiment",
]
