"""Lay patterns out on a plane, so that those of one kind lie together.

What a pattern is placed by are the features of the invariant network, which do not
change with its rotation about the beam, the pulse energy or the bad pixels. The plane
is made of a sample; every other pattern goes where those most like it lie.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.patterns import count_threads

COMPONENTS = 30  # principal components that are looked at
FARTHEST = 3.0  # standard deviations from the mean: what is further counts as this
PERPLEXITY = 30.0  # about how many neighbours matter to a pattern
STEPS = (250, 500)  # of the layout, first with exaggerated attraction
STEPS_AT_ONCE = 50
WORTH_THREADS = 1000  # patterns; fewer are laid out sooner by one thread
ALIKE = 1e-6  # standard deviations: patterns that differ less are the same
FEWEST = 12  # less than that are laid out by their first two components
SMALLEST_SHARE = 0.02  # of the sample: what a cluster holds at least
SMALLEST_CLUSTER = 5
NEIGHBOURS = 5  # of the sample, which say where another pattern goes
NONE = -1  # the cluster of patterns that belong to none


@dataclass(frozen=True, eq=False)
class FittedMap:
    """A map of a sample, and how other patterns are placed into it.

    Attributes
    ----------
    mean, scale
        (features,) of the sample.
    axes
        (components, features): the principal axes.
    points
        (m, components) float32: the sample by its components.
    position
        (m, 2) float32: where it lies.
    cluster
        (m,) int32: cluster of each, the largest is 0; -1 = none.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    points: NDArray[np.float32]
    position: NDArray[np.float32]
    cluster: NDArray[np.int32]

    def project(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the components of patterns, (n, components), of (n, features)."""
        return _project(features, self.mean, self.scale, self.axes)

    def place(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Place patterns where the sample's patterns most like them lie.

        The nearest five vote for the cluster; the position is the mean of those that
        won, so that nothing lies in the void between two groups.

        Parameters
        ----------
        features
            (n, features).

        Returns
        -------
        tuple
            (n, 2) float32 positions, and (n,) int32 clusters.
        """
        own = self.project(features)
        squares = (self.points**2).sum(axis=1) - 2 * own @ self.points.T
        n_asked = min(NEIGHBOURS, len(self.points))
        nearest = np.argpartition(squares, n_asked - 1, axis=1)[:, :n_asked]
        by_distance = np.take_along_axis(squares, nearest, 1).argsort(kind="stable")
        nearest = np.take_along_axis(nearest, by_distance, 1)
        voted = self.cluster[nearest]
        votes = (voted[:, :, np.newaxis] == voted[:, np.newaxis]).sum(axis=2)
        cluster = voted[np.arange(len(own)), votes.argmax(axis=1)]  # a tie: the nearest
        won = (voted == cluster[:, np.newaxis])[..., np.newaxis]
        total = (self.position[nearest] * won).sum(axis=1, dtype=np.float32)
        return total / won.sum(axis=1, dtype=np.float32), cluster


def fit_map(features: NDArray[np.floating], seed: int = 0) -> FittedMap:
    """Lay a sample of patterns out, and find the groups that it falls into.

    Parameters
    ----------
    features
        (m, features) of the sample.
    seed
        The same features and seed give the same map.

    References
    ----------
    The layout: van der Maaten and Hinton, J. Mach. Learn. Res. 9, 2579 (2008); its
    implementation: Poličar et al., J. Stat. Softw. 109, 3 (2024),
    doi 10.18637/jss.v109.i03. The groups: Campello et al., PAKDD (2013),
    doi 10.1007/978-3-642-37456-2_14.
    """
    features = np.asarray(features, np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-9] = 1  # of a feature that is the same everywhere
    standard = np.clip((features - mean) / scale, -FARTHEST, FARTHEST)
    standard -= standard.mean(axis=0)
    axes = np.linalg.svd(standard, full_matrices=False).Vh[:COMPONENTS]
    points = _project(features, mean, scale, axes)
    position = _lay_out(points, seed)
    return FittedMap(mean, scale, axes, points, position, _find_clusters(position))


def _project(
    features: NDArray[np.floating],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    axes: NDArray[np.float64],
) -> NDArray[np.float32]:
    standard = np.clip((features - mean) / scale, -FARTHEST, FARTHEST)
    return (standard @ axes.T).astype(np.float32)


def _lay_out(points: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return (m, 2) positions on the plane."""
    if len(points) < FEWEST or np.ptp(points[:, 0]) < ALIKE:
        plane = np.zeros((len(points), 2), np.float32)
        plane[:, : points.shape[1]] = points[:, :2]
        return plane
    import openTSNE

    with tqdm(total=sum(STEPS), desc="Lay out the map", unit="step", delay=2) as bar:

        def count(*_: Any) -> None:
            bar.update(min(STEPS_AT_ONCE, bar.total - bar.n))

        layout = openTSNE.TSNE(
            perplexity=min(PERPLEXITY, (len(points) - 1) / 3),
            early_exaggeration_iter=STEPS[0],
            n_iter=STEPS[1],
            initialization="pca",
            neighbors="exact",
            n_jobs=count_threads() if len(points) >= WORTH_THREADS else 1,
            random_state=seed,
            callbacks=count,
            callbacks_every_iters=STEPS_AT_ONCE,
        )
        return np.asarray(layout.fit(points.astype(np.float64)), np.float32)


def _find_clusters(position: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the cluster of each position, numbered from the largest; -1 = none."""
    from sklearn.cluster import HDBSCAN

    found = np.full(len(position), NONE, np.int32)
    smallest = max(SMALLEST_CLUSTER, round(SMALLEST_SHARE * len(position)))
    if len(position) < max(FEWEST, 2 * smallest):
        return found
    groups = HDBSCAN(smallest, min_samples=SMALLEST_CLUSTER, copy=True)
    numbers = groups.fit_predict(position.astype(np.float64))
    sizes = np.bincount(numbers[numbers >= 0])
    for new, old in enumerate(np.argsort(-sizes, kind="stable")):
        found[numbers == old] = new
    return found
