"""What every metric returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest template of each pattern, in stack order.

    Parameters
    ----------
    distance
        Float64, shape (n_patterns,): distance from the nearest template.
    hit
        Int64, shape (n_patterns,): which template, counted among the hits given.
    angle_deg
        Float32, shape (n_patterns,): degrees, counter-clockwise as displayed, by which
        that template is to be rotated to look like the pattern.
    """

    distance: NDArray[np.float64]
    hit: NDArray[np.int64]
    angle_deg: NDArray[np.float32]
