"""What is known of the patterns before anyone labels them, kept in the work folder.

`experiment.json` holds the facts that a person reads: files, shape, unit, centre,
thresholds. `experiment.h5` holds the arrays that belong to them. Every later stage
starts from `open_experiment`, so a bad pixel proposed in the first notebook is left
out everywhere.
"""

from helpers.experiment.measurements import (
    Measurements,
    accept_bad_pixels,
    describe_bad_pixels,
    describe_lost_pixels,
    describe_no_measurements,
    find_bad_pixels,
    make_powder,
    measure_patterns,
    name_no_measurements,
    propose_bad_pixels,
    propose_shadows,
    suggest_hit_threshold,
    suggest_lit_threshold,
)
from helpers.experiment.photon_scale import PhotonScale, find_photon_scale
from helpers.experiment.record import Experiment, open_experiment, write_experiment

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
    "propose_bad_pixels",
    "propose_shadows",
    "suggest_hit_threshold",
    "suggest_lit_threshold",
    "write_experiment",
]
