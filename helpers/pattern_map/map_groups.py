"""What the groups of a map are: their members, their numbers, and who comes first."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.classifier import measure_diameters
from helpers.experiment import make_powder
from helpers.labels import LABELS
from helpers.pattern_map.mapping import PatternMap
from helpers.patterns import Patterns

MOST_SUMMED = 300  # patterns of a cluster, for its powder


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
        groups.append(
            Group(
                number,
                index,
                _median(photons[index]),
                _median(sizes[index]),
                share,
                known.size,
                _sum_some(patterns, index),
            )
        )
    return groups


def _sum_some(patterns: Patterns, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the powder of patterns, (rows, columns), of not too many of them."""
    places = np.linspace(0, index.size - 1, MOST_SUMMED).astype(np.int64)
    chosen = np.zeros(len(patterns), np.bool_)
    chosen[index[places]] = True
    return make_powder(patterns, chosen)


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
    return "\n".join(_write_lines(groups))


def _write_lines(groups: list[Group]) -> Iterator[str]:
    yield f"{'cluster':>7} {'patterns':>9} {'photons':>10} {'size':>6}  labels"
    for group in groups:
        shares = [f"{word} {share:.0%}" for word, share in group.share.items() if share]
        labels = f"{group.n_labels:,}: {', '.join(shares)}" if shares else "none"
        size = f"{group.size:6.1f}" if np.isfinite(group.size) else f"{'–':>6}"
        yield (
            f"{group.name:>7} {group.index.size:>9,} {group.photons:>10,.4g} {size}  "
            f"{labels}"
        )


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
