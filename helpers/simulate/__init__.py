"""Patterns with known truth: singles, multiples, other particles and blanks.

`write_simulated` writes a file of them, `simulate_patterns` keeps them in memory;
`Sample` says what is in the beam, `Detector` what it is seen with.

The defaults were set beside measured single hits of the virus PR772: median photons in
a pattern (24,000 there, 25,000 here), the first dark ring's radius (the same pixel),
and the radial profile from the beam hole out to the fourth ring (0.65 to 1.15 of the
measured). The dark rings are still darker here, 0.18 of the next bright one instead of
0.37, and the bright ones differ more from shot to shot. Not simulated: what overflows
beside the beam hole, saturation, and the curvature of the Ewald sphere.

References
----------
H. K. N. Reddy et al. (2017), Sci. Data 4, 170079, https://doi.org/10.1038/sdata.2017.79
(the experiment whose geometry is the default)
"""

from helpers.simulate.detector import Detector, FarField, pnccd_bad_pixels
from helpers.simulate.exposures import (
    Simulation,
    Simulator,
    simulate_patterns,
    write_example_labels,
    write_simulated,
)
from helpers.simulate.particles import BODIES
from helpers.simulate.sample import SAMPLES, Sample

__all__ = [
    "BODIES",
    "SAMPLES",
    "Detector",
    "FarField",
    "Sample",
    "Simulation",
    "Simulator",
    "pnccd_bad_pixels",
    "simulate_patterns",
    "write_example_labels",
    "write_simulated",
]
