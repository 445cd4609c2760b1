"""The map of a stack: made in one or two passes, kept in `map.h5`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier import make_network
from helpers.errors import ParameterError
from helpers.made_from import check_fits, name_centre, name_values, read_origin
from helpers.outputs import atomic_hdf5, write_provenance
from helpers.pattern_map.map_fit import FittedMap, fit_map
from helpers.patterns import Patterns
from helpers.work_folder import MAP

N_FITTED = 4000
NETWORK = "invariant"  # whose features are taken

Features = Callable[[NDArray[np.float32]], NDArray[np.float32]]


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
        n_none = np.count_nonzero(self.cluster < 0)
        placed = len(self.cluster) - len(self.fitted)
        text = f"{self.n_clusters} clusters; {n_none:,} of {len(self.cluster):,}"
        text += " patterns belong to none."
        if placed:
            text += f" {len(self.fitted):,} patterns made the map, {placed:,} were"
            text += " placed into it."
        return text


def choose_features(patterns: Patterns, centre: tuple[float, float]) -> Features:
    """Return what makes features of clean patterns: (n, …) in, (n, features) out.

    The one place that decides what a map stands on.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam, in pixels.
    """
    network = make_network(NETWORK, patterns, centre=centre, encoder=False)
    return network.make_inputs


@dataclass(frozen=True)
class _Place:
    """Places the patterns of a part."""

    features: Features
    fitted: FittedMap

    def __call__(
        self, patterns: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        return self.fitted.place(self.features(patterns))


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
    features = choose_features(patterns, centre)
    sample = np.sort(patterns.shuffled()[:n_fitted])
    parts = [p for _, p in patterns.map(features, sample, progress="Features")]
    fitted = fit_map(np.concatenate(parts), seed)
    position = np.empty((len(patterns), 2), np.float32)
    cluster = np.empty(len(patterns), np.int32)
    if len(sample) < len(patterns):
        place = _Place(features, fitted)
        for here, placed in patterns.map(place, progress="Place"):
            position[here], cluster[here] = placed
    position[sample], cluster[sample] = fitted.position, fitted.cluster
    patterns.check_unchanged()
    made_from = {
        "patterns": patterns.fingerprint,
        **name_values(patterns),
        "centre": name_centre(centre),
    }
    origin = patterns.fingerprint, made_from
    return PatternMap(position, cluster, sample, NETWORK, *origin)


def write_map(work_dir: str | Path, pattern_map: PatternMap) -> Path:
    """Write `map.h5` into a work folder; return its path."""
    path = Path(work_dir) / MAP.name
    with atomic_hdf5(path) as file:
        file["position"] = pattern_map.position
        file["cluster"] = pattern_map.cluster
        file["fitted"] = pattern_map.fitted
        facts = {name: getattr(pattern_map, name) for name in MAP.facts}
        write_provenance(file, **facts, made_from=pattern_map.made_from)
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
    arrays, facts = MAP.read_hdf5(path)
    check_fits(path, MAP)
    if arrays["position"].shape[1] != 2:
        raise MAP.make_error(path, "holds positions that are not on a plane")
    if arrays["fitted"].max(initial=-1) >= len(arrays["cluster"]):
        raise MAP.make_error(path, "was made of patterns that it does not hold")
    values: dict[str, Any] = arrays | {name: facts[name] for name in MAP.facts}
    return PatternMap(**values, made_from=read_origin(path))
