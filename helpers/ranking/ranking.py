"""What a ranking is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ranking:
    """Patterns ordered by their distance from the nearest template, best first.

    Parameters
    ----------
    index
        Int64, shape (n_ranked,): pattern indices, nearest to a template first. The
        templates themselves are not ranked. Equal distances stand in stack order.
    distance
        Float32, shape (n_ranked,): distance from the nearest template, ascending. What
        it measures depends on the metric; compare distances of one ranking only.
    template
        Int64, shape (n_ranked,): pattern index of the nearest template.
    angle_deg
        Float32, shape (n_ranked,): degrees, counter-clockwise as displayed (row 0 at
        the top), by which that template is to be rotated to look like the pattern.
    metric
        "rotation" or "article".
    n_rotations
        Orientations in which each template was compared.
    n_templates
        Number of clean single hits.
    fingerprint
        Fingerprint of the patterns that were ranked.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float32]
    template: NDArray[np.int64]
    angle_deg: NDArray[np.float32]
    metric: str
    n_rotations: int
    n_templates: int
    fingerprint: str

    def __len__(self) -> int:
        """Count the ranked patterns."""
        return len(self.index)
