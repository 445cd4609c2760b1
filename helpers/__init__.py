"""Select clean single hits from X-ray single-particle imaging data.

The notebooks import one subpackage for each stage of the work; they hand
data to each other through files in a work folder. Start with
`helpers.patterns.open_patterns`.
"""

import os

__version__ = "0.1.0"

# Threads of OpenMP (layout of the map, k-means) sleep while they wait for each other:
# those that spin take six times the work where others use the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
