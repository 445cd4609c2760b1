"""The nearest template by features and encoder: alike whatever a particle's shape.

Two patterns may be of the same particle and yet look alike in no rotation, because a
particle that is not round shows another face. The numbers of `helpers.features` say of
a pattern how many particles it is of, how large, of what shape, not which face.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from helpers.features import N_NUMBERS, N_SUMMARY, PatternFeatures
from helpers.patterns import spread_evenly
from helpers.ranking.metric import Metric, MetricOptions, Nearest, mean_of_nearest
from helpers.ranking.rotation_metric import find_source

if TYPE_CHECKING:
    from helpers.patterns import Patterns

Array = NDArray[np.float32]
N_TO_SCALE = 1_000  # patterns whose spread is the unit of each number
FARTHEST = 3.0  # standard deviations from the mean: what is further counts as this
SMALLEST = 1e-6
N_ENCODED = N_NUMBERS + N_SUMMARY


def nearest_by_encoder(
    patterns: "Patterns", hits: NDArray[np.int64], options: MetricOptions
) -> Nearest:
    """Find the template whose features are nearest to those of each pattern.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits
        Int64, shape (n_hits,): pattern indices of the templates.
    options
        The centre; without it, the centre of symmetry of the templates.

    Returns
    -------
    Nearest
        The distance is the mean of the three smallest distances from templates: root
        mean square differences of rings and fringes, of the encoder's numbers, and of
        its summary, each in standard deviations over the stack, added in squares.
        There are no angles.
    """
    source, source_centre, centre = find_source(patterns, hits, options)
    compare = _Compare.make(patterns, centre, source, source_centre, hits)

    def find_nearest(images: Array) -> Nearest:
        distances = compare(images)
        unknown = np.full(len(distances), np.nan, np.float32)
        hit = distances.argmin(axis=1)
        return Nearest(mean_of_nearest(distances), hit, unknown, n_rotations=1)

    found = patterns.map(find_nearest, progress="Ranking")
    return Nearest.join([nearest for _, nearest in found])


def compare_by_encoder(
    patterns: "Patterns",
    index: NDArray[np.int64],
    hits: NDArray[np.int64],
    centre: tuple[float, float],
) -> NDArray[np.floating]:
    """Return the distances of some patterns from each template, (m, n_hits)."""
    compare = _Compare.make(patterns, centre, patterns, centre, hits)
    return np.concatenate([part for _, part in patterns.map(compare, index)])


def _make_features(
    patterns: "Patterns", features: PatternFeatures, index: NDArray[np.int64]
) -> Array:
    return np.concatenate([part for _, part in patterns.map(features, index)])


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of each number over a stack.

    Attributes
    ----------
    mean, deviation
        (n_numbers,) float32, of the last of the features.
    sizes
        How many numbers are of rings and fringes, of the encoder, of its summary. Of
        rings there are none where another mask makes others of them.
    """

    mean: Array
    deviation: Array
    sizes: tuple[int, int, int]

    @classmethod
    def of(cls, features: Array, n_rings: int) -> "Scale":
        """Measure (n, n_features) features, the last `n_rings` of rings and others."""
        sizes = n_rings, N_NUMBERS, N_SUMMARY
        used = features[:, -sum(sizes) :]
        deviation = np.maximum(used.std(axis=0), SMALLEST)
        return cls(used.mean(axis=0), deviation, sizes)

    def apply(self, features: Array) -> Array:
        """Standardise, so that rings, numbers and summary count the same."""
        each = [1 / np.sqrt(max(size, 1)) for size in self.sizes]
        weights = np.repeat(each, self.sizes).astype(np.float32)
        standard = (features[:, -len(weights) :] - self.mean) / self.deviation
        weighted: Array = np.clip(standard, -FARTHEST, FARTHEST) * weights
        return weighted


# Scale and templates by stack; of each, those that were asked for last.
_KEPT: WeakKeyDictionary["Patterns", dict[Any, tuple[Scale, Array]]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True, eq=False)
class _Compare:
    features: PatternFeatures
    scale: Scale
    templates: Array

    @classmethod
    def make(
        cls,
        patterns: "Patterns",
        centre: tuple[float, float],
        source: "Patterns",
        source_centre: tuple[float, float],
        hits: NDArray[np.int64],
    ) -> "_Compare":
        """Standardise over the stack that the templates are of.

        Scale and templates are kept for as long as that stack is used: who chooses the
        metric and then ranks by it would make the features of 1,000 patterns twice.
        """
        theirs = PatternFeatures(source.bad_pixels, source_centre, with_encoder=True)
        features = theirs
        if source is not patterns:
            features = PatternFeatures(patterns.bad_pixels, centre, with_encoder=True)
        n_rings = len(theirs) - N_ENCODED if len(features) == len(theirs) else 0
        known = _KEPT.setdefault(source, {})
        what = (source_centre, n_rings, hits.tobytes())
        if what not in known:
            some = spread_evenly(np.flatnonzero(source.is_measurement), N_TO_SCALE)
            scale = Scale.of(_make_features(source, theirs, some), n_rings)
            known.clear()
            known[what] = scale, scale.apply(_make_features(source, theirs, hits))
        return cls(features, *known[what])

    def __call__(self, patterns: Array) -> NDArray[np.float64]:
        """Return the distances of patterns (m, rows, columns) from each template."""
        from scipy.spatial.distance import cdist  # slow to import

        features = self.scale.apply(self.features(patterns))
        return np.asarray(cdist(features, self.templates))


ENCODER = Metric("encoder", True, nearest_by_encoder, compare_by_encoder)
