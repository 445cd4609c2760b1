"""What a metric is: how far each pattern is from its nearest template.

A new metric is a module that makes a `Metric`, and a line in the table `METRICS` of
`helpers.ranking.ranking`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from helpers.patterns import Patterns


N_NEAREST = 3


def mean_of_nearest(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of the three smallest distances (n, n_templates) of each row."""
    n_nearest = min(N_NEAREST, distances.shape[1])
    smallest = np.partition(distances, n_nearest - 1, axis=1)[:, :n_nearest]
    return np.asarray(smallest.mean(axis=1, dtype=np.float64))


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
        that template is to be rotated to look like the pattern; NaN where the metric
        does not ask.
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


@dataclass(frozen=True)
class MetricOptions:
    """What a metric may be told; each takes what it needs.

    Parameters
    ----------
    centre
        (row, column) of the beam in pixels; None = find it from the templates.
    n_rotations
        Orientations of each template, where they are counted.
    step_deg
        Degrees from one of them to the next.
    max_bytes
        Memory to work in.
    source
        The stack that the templates are of; None = the one that is ranked.
    source_centre
        As `centre`, of that stack.
    """

    centre: tuple[float, float] | None
    n_rotations: int
    step_deg: float
    max_bytes: int
    source: "Patterns | None" = None
    source_centre: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metric:
    """A way to say how alike two patterns are, whatever their orientation.

    Parameters
    ----------
    name
        What `rank_patterns` and the notebooks know it by.
    turns_about_centre
        Whether templates are turned about the centre of the beam; else about the
        middle of the image.
    nearest
        Takes the stack, the (n_hits,) int64 pattern indices of the templates (in
        `source`, where there is one) and the options; returns the nearest template of
        each pattern of the stack.
    compare
        Takes the stack, (m,) int64 pattern indices, those of the templates, and the
        centre; returns the distances (m, n_hits), so that the labels can choose the
        metric. None = it is not to be chosen unless named.
    """

    name: str
    turns_about_centre: bool
    nearest: Callable[["Patterns", NDArray[np.int64], MetricOptions], Nearest]
    compare: Callable[..., NDArray[np.floating]] | None = None
