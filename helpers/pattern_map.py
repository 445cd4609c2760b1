"""The map of a stack, kept in map.h5, and what the groups are that show in it.

Patterns of one kind lie together. What a pattern is placed by does not change with its
rotation about the beam, the pulse energy or the bad pixels. The plane is made of a
sample; every other pattern goes where those most like it lie.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.classifier import make_network, measure_diameters
from helpers.errors import ParameterError
from helpers.experiment import make_powder
from helpers.features import N_NUMBERS, N_SUMMARY, name_encoder, standardise
from helpers.labels import LABELS
from helpers.made_from import check_fits, name_centre, name_values, read_origin
from helpers.outputs import atomic_hdf5, write_provenance
from helpers.patterns import Patterns, count_threads, spread_evenly
from helpers.work_folder import MAP

__all__ = [
    "FittedMap",
    "Group",
    "PatternMap",
    "choose_features",
    "describe_groups",
    "estimate_sizes",
    "find_groups",
    "fit_map",
    "make_map",
    "name_cluster",
    "order_by_cluster",
    "read_map",
    "sort_inside_out",
    "write_map",
]

COMPONENTS = 30  # principal components that are looked at
PERPLEXITY = 30.0  # about how many neighbours matter to a pattern
STEPS = (250, 500)  # of the layout, first with exaggerated attraction
STEPS_AT_ONCE = 50
WORTH_THREADS = 1000  # patterns; fewer are laid out sooner by one thread
ALIKE = 1e-6  # standard deviations: patterns that differ less are the same
FEWEST = 12  # less than that are laid out by their first two components
SMALLEST_SHARE = 0.02  # of the sample: what a cluster holds at least
DOMINANT = 0.4  # of the sample: from which share on a cluster is looked at by itself
NEAR_IN_PART = 15  # with fewer neighbours chance makes parts where there are none
LEAST_INSIDE = 0.3  # of its members: what its parts hold at least, or it stays whole
SMALLEST_PART = 0.05  # of a dominant cluster: what a part of it holds at least
SMALLEST_CLUSTER = 5
NEIGHBOURS = 5  # of the sample, which say where another pattern goes
NONE = -1  # the cluster of patterns that belong to none
N_FITTED = 4000
NETWORK = "invariant"  # whose inputs are taken
MOST_SUMMED = 300  # patterns of a cluster, for its powder
SUMMARY_WEIGHT = 0.3  # of what the encoder says of blank, one and several

Features = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Blocks = tuple[tuple[int, float], ...]
"""How many successive features belong together, and their share of all variance."""


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
        standard = standardise(features, self.mean, self.scale)
        return (standard @ self.axes.T).astype(np.float32)

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


def fit_map(
    features: NDArray[np.floating], seed: int = 0, blocks: Blocks = ()
) -> FittedMap:
    """Lay a sample of patterns out, and find the groups that it falls into.

    Parameters
    ----------
    features
        (m, features) of the sample.
    seed
        The same features and seed give the same map.
    blocks
        How the features share the variance; without it all count the same.

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
    standard = standardise(features, mean, scale)
    centred = standard - standard.mean(axis=0)
    weight = _weigh(centred, blocks)
    axes = np.linalg.svd(centred * weight, full_matrices=False).Vh[:COMPONENTS]
    axes *= weight  # so that whoever projects need not know it
    points = (standard @ axes.T).astype(np.float32)
    position = _lay_out(points, seed)
    return FittedMap(mean, scale, axes, points, position, _find_clusters(position))


def _weigh(standard: NDArray[np.float64], blocks: Blocks) -> NDArray[np.float64]:
    """Return a factor for each feature that gives the blocks their shares."""
    weight = np.ones(standard.shape[1])
    start = 0
    for length, share in blocks:
        here = slice(start, start + length)
        total = float(standard[:, here].var(axis=0).sum())
        weight[here] = np.sqrt(share / max(total, ALIKE))
        start += length
    return weight


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
    """Return the cluster of each position, numbered from the largest; -1 = none.

    A cluster that holds most of the sample is cut again where its own members lie in
    groups: next to the blanks all that has light may look alike.
    """
    n = len(position)
    found = np.full(n, NONE, np.int32)
    smallest = max(SMALLEST_CLUSTER, round(SMALLEST_SHARE * n))
    if n < max(FEWEST, 2 * smallest):
        return found
    numbers = _group(position, smallest, SMALLEST_CLUSTER)
    for number in range(numbers.max() + 1):
        own = np.flatnonzero(numbers == number)
        if own.size > DOMINANT * n:
            parts = _cut_cluster(position[own])
            numbers[own] = np.where(parts == 0, number, numbers.max() + parts)
    sizes = np.bincount(numbers[numbers >= 0])
    for new, old in enumerate(np.argsort(-sizes, kind="stable")):
        found[numbers == old] = new
    return found


def _group(
    position: NDArray[np.float32], smallest: int, n_near: int
) -> NDArray[np.int64]:
    """Return the group of each; how dense it is somewhere, `n_near` neighbours tell."""
    from sklearn.cluster import HDBSCAN

    groups = HDBSCAN(smallest, min_samples=min(n_near, len(position)), copy=True)
    return np.asarray(groups.fit_predict(position.astype(np.float64)), np.int64)


def _cut_cluster(position: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the part of a cluster that each member is in, 0 for all if it is one.

    Members between the parts go with the nearest five that are in one.
    """
    from sklearn.neighbors import KNeighborsClassifier

    smallest = max(SMALLEST_CLUSTER, round(SMALLEST_PART * len(position)))
    part = _group(position, smallest, NEAR_IN_PART)
    inside = part >= 0
    if part.max(initial=-1) < 1 or inside.mean() < LEAST_INSIDE:
        return np.zeros(len(position), np.int64)
    nearest = KNeighborsClassifier(NEIGHBOURS).fit(position[inside], part[inside])
    return np.asarray(nearest.predict(position), np.int64)


@dataclass(frozen=True, eq=False)
class PatternMap:
    """Where each pattern of a stack lies, and to which group it belongs.

    Attributes
    ----------
    position
        (n, 2) float32: on the plane; its axes mean nothing.
    cluster
        (n,) int32: 0 for the largest, 1, …; -1 = in no cluster.
    fitted
        (m,) int64, ascending: the patterns that the map was made of; the others were
        placed into it.
    features
        Whose features the patterns were placed by.
    fingerprint
        Of the patterns.
    made_from
        What else the map depends on; see `helpers.made_from`.
    """

    position: NDArray[np.float32]
    cluster: NDArray[np.int32]
    fitted: NDArray[np.int64]
    features: str
    fingerprint: str
    made_from: dict[str, str] = field(default_factory=dict)

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.cluster.max(initial=-1)) + 1

    def describe(self) -> str:
        """Say what was found, in a sentence or two."""
        n, n_fitted = len(self.cluster), len(self.fitted)
        n_none = np.count_nonzero(self.cluster < 0)
        found = (
            f"{self.n_clusters} clusters; {n_none:,} of {n:,} patterns belong to none."
        )
        if n == n_fitted:
            return found
        return (
            f"{found} {n_fitted:,} patterns made the map, {n - n_fitted:,} were placed "
            "into it."
        )


def choose_features(
    patterns: Patterns, centre: tuple[float, float]
) -> tuple[Features, Blocks]:
    """Return what makes features of clean patterns, and how these are weighed.

    The one place that decides what a map stands on: (n, …) in, (n, features) out. The
    features of rings and fringes and the encoder's numbers count the same, what the
    encoder says of blank, one and several counts less.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam, in pixels.
    """
    network = make_network(NETWORK, patterns, centre=centre)
    n_fringes = network.input_shape[0] - N_NUMBERS - N_SUMMARY
    blocks = (n_fringes, 1.0), (N_NUMBERS, 1.0), (N_SUMMARY, SUMMARY_WEIGHT)
    return network.make_inputs, blocks


def make_map(
    patterns: Patterns,
    centre: tuple[float, float],
    *,
    n_fitted: int = N_FITTED,
    seed: int = 0,
) -> PatternMap:
    """Lay the patterns of a stack out on a plane and find the groups they fall into.

    A random sample makes the map, all others are placed into it, so that neither memory
    nor time for the layout grow with the stack.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam, in pixels.
    n_fitted
        Patterns that make the map.
    seed
        The same stack, `n_fitted` and seed give the same map.

    Raises
    ------
    ParameterError
        If no patterns are to make the map, or the patterns are too small.
    """
    if n_fitted < 1:
        message = f"n_fitted is {n_fitted}; expected 1 or more, such as {N_FITTED}."
        raise ParameterError(message)
    features, blocks = choose_features(patterns, centre)
    sample = np.sort(patterns.shuffled()[:n_fitted])
    parts = [p for _, p in patterns.map(features, sample, progress="Features")]
    fitted = fit_map(np.concatenate(parts), seed, blocks)
    position = np.empty((len(patterns), 2), np.float32)
    cluster = np.empty(len(patterns), np.int32)

    def place(
        block: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        return fitted.place(features(block))

    if len(sample) < len(patterns):
        for here, placed in patterns.map(place, progress="Place"):
            position[here], cluster[here] = placed
    position[sample], cluster[sample] = fitted.position, fitted.cluster
    patterns.check_unchanged()
    made_from = {
        "patterns": patterns.fingerprint,
        **name_values(patterns),
        "centre": name_centre(centre),
    }
    named = f"{NETWORK}, encoder {name_encoder()}"
    fingerprint = patterns.fingerprint
    return PatternMap(position, cluster, sample, named, fingerprint, made_from)


def write_map(work_dir: str | Path, pattern_map: PatternMap) -> Path:
    """Write `map.h5` into a work folder; return its path."""
    path = Path(work_dir) / MAP.name
    with atomic_hdf5(path) as file:
        for name in MAP.datasets:
            file[name] = getattr(pattern_map, name)
        metadata = {name: getattr(pattern_map, name) for name in MAP.metadata}
        write_provenance(file, **metadata, made_from=pattern_map.made_from)
    return path


def read_map(work_dir: str | Path) -> PatternMap:
    """Read the map of a work folder.

    Raises
    ------
    WorkFolderError
        If there is none, it is damaged, or bad pixels or centre are others by now.
    OtherPatternsError
        If it is of other patterns than the folder.
    """
    path = Path(work_dir) / MAP.name
    arrays, metadata = MAP.read_hdf5(path)
    check_fits(path, MAP)
    if arrays["position"].shape[1] != 2:
        raise MAP.make_error(path, "holds positions that are not on a plane")
    if arrays["fitted"].max(initial=-1) >= len(arrays["cluster"]):
        raise MAP.make_error(path, "was made of patterns that it does not hold")
    if arrays["cluster"].max(initial=-1) >= len(arrays["cluster"]):
        raise MAP.make_error(path, "numbers more clusters than it has patterns")
    values: dict[str, Any] = arrays | {name: metadata[name] for name in MAP.metadata}
    return PatternMap(**values, made_from=read_origin(path))


@dataclass(frozen=True, eq=False)
class Group:
    """One cluster of a map.

    Attributes
    ----------
    cluster
        Its number; -1 for what is in no cluster.
    index
        (m,) int64: its patterns, the innermost first.
    photons
        Median over its patterns.
    size
        Median diameter, in steps of the Patterson map (`measure_diameters`); NaN
        without photons.
    share
        By label word, its part of those patterns of the cluster that have a label.
    n_labels
        How many have one.
    powder
        (rows, columns) float64: the mean of up to 300 of its patterns.
    """

    cluster: int
    index: NDArray[np.int64]
    photons: float
    size: float
    share: dict[str, float]
    n_labels: int
    powder: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Its number, or "none"."""
        return name_cluster(self.cluster)

    def pick(self, n: int) -> NDArray[np.int64]:
        """Return `n` patterns, half from its middle and half from its edge."""
        n_middle = -(-min(n, self.index.size) // 2)
        n_edge = min(n, self.index.size) - n_middle
        return np.concatenate(
            [self.index[:n_middle], self.index[self.index.size - n_edge :]]
        )


def name_cluster(cluster: int) -> str:
    """Return what a cluster is called: its number, or "none"."""
    return str(cluster) if cluster >= 0 else "none"


def estimate_sizes(
    patterns: Patterns, centre: tuple[float, float], pattern_map: PatternMap
) -> NDArray[np.float64]:
    """Estimate the diameters of the particles of the patterns that made the map.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam, in pixels.
    pattern_map
        Of the stack.

    Returns
    -------
    ndarray
        (n,) float64, in steps of the Patterson map, see `measure_diameters`; NaN for
        patterns that were placed into the map, or without photons.
    """
    sizes = np.full(len(patterns), np.nan)
    sizes[pattern_map.fitted] = measure_diameters(patterns, pattern_map.fitted, centre)
    return sizes


def find_groups(
    patterns: Patterns,
    pattern_map: PatternMap,
    photons: NDArray[np.floating],
    sizes: NDArray[np.floating],
    words: NDArray[np.str_],
) -> list[Group]:
    """Measure each cluster of a map, the largest first, what is in none last.

    Parameters
    ----------
    patterns
        The stack.
    pattern_map
        Of the stack.
    photons, sizes
        (n,) of each pattern; NaN = not known.
    words
        (n,) label words, "" = none.
    """
    groups = []
    for number in [*range(pattern_map.n_clusters), -1]:
        index = sort_inside_out(pattern_map, number)
        if not index.size:
            continue
        known = words[index][words[index] != ""]
        share = {word: float(np.mean(known == word)) for word in LABELS if known.size}
        chosen = np.zeros(len(patterns), np.bool_)
        chosen[spread_evenly(index, MOST_SUMMED)] = True
        groups.append(
            Group(
                number,
                index,
                _median(photons[index]),
                _median(sizes[index]),
                share,
                known.size,
                make_powder(patterns, chosen),
            )
        )
    return groups


def _median(values: NDArray[np.floating]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def sort_inside_out(pattern_map: PatternMap, cluster: int) -> NDArray[np.int64]:
    """Return the patterns of a cluster, int64, the nearest to its middle first.

    Parameters
    ----------
    pattern_map
        The map.
    cluster
        Which cluster; its middle is the median of the positions.
    """
    index = np.flatnonzero(pattern_map.cluster == cluster)
    if not index.size:
        return index
    position = pattern_map.position[index]
    apart = np.hypot(*(position - np.median(position, axis=0)).T)
    return index[np.argsort(apart, kind="stable")]


def describe_groups(groups: list[Group]) -> str:
    """Return a table of the clusters, one line each."""
    lines = [f"{'cluster':>7} {'patterns':>9} {'photons':>10} {'size':>6}  labels"]
    for group in groups:
        shares = [f"{word} {share:.0%}" for word, share in group.share.items() if share]
        labels = f"{group.n_labels:,}: {', '.join(shares)}" if shares else "none"
        decimals = 0 if group.photons >= 1000 else 2
        photons = f"{group.photons:,.{decimals}f}"
        size = f"{group.size:6.1f}" if np.isfinite(group.size) else f"{'–':>6}"
        number = f"{group.name:>7} {group.index.size:>9,}"
        lines.append(f"{number} {photons:>10} {size}  {labels}")
    return "\n".join(lines)


def order_by_cluster(
    cluster: NDArray[np.int32], shuffled: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return all patterns, one at random from each cluster in turn.

    Small clusters come as often as large ones until they are used up, so that they are
    met early. What is in no cluster counts as one more.

    Parameters
    ----------
    cluster
        (n,) of each pattern, -1 = none.
    shuffled
        (n,) all patterns in random order.
    """
    turn = np.empty(len(shuffled), np.int64)
    for number in np.unique(cluster):
        own = cluster[shuffled] == number
        turn[own] = np.arange(np.count_nonzero(own))
    return shuffled[np.lexsort((cluster[shuffled], turn))]
