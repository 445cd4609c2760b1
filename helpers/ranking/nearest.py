"""What every metric returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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
    n_rotations
        Orientations in which each template was compared.
    """

    distance: NDArray[np.float64]
    hit: NDArray[np.int64]
    angle_deg: NDArray[np.float32]
    n_rotations: int

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the results for successive patterns end to end."""
        return cls(
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.hit for part in parts]),
            np.concatenate([part.angle_deg for part in parts]),
            parts[0].n_rotations,
        )
