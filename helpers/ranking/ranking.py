"""Rank a stack by one of the `METRICS`, which the labels can choose; judge rankings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.intervals import Proportion
from helpers.made_from import check_fits, name_centre, name_values, read_origin
from helpers.outputs import atomic_hdf5, write_provenance
from helpers.patterns import Patterns
from helpers.physics import SMALLEST_WINDOW
from helpers.ranking.invariant_metrics import ENCODER, ROTATION, find_templates_centre
from helpers.ranking.metric import ARTICLE, Metric, MetricOptions, mean_of_nearest
from helpers.work_folder import CLEAN_SINGLE_HITS, RANKING


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
        Int64, shape (n_ranked,): pattern index of the nearest template, in the stack
        that the templates are of.
    angle_deg
        Float32, shape (n_ranked,): degrees, counter-clockwise as displayed (row 0 at
        the top), by which that template is to be rotated to look like the pattern; NaN
        where the metric does not ask (`match_template` finds it).
    metric
        Which of the `METRICS`.
    n_rotations
        Orientations in which each template was compared.
    n_templates
        Number of clean single hits.
    fingerprint
        Fingerprint of the patterns that were ranked.
    made_from
        What else the ranking depends on; see `helpers.made_from`.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float32]
    template: NDArray[np.int64]
    angle_deg: NDArray[np.float32]
    metric: str
    n_rotations: int
    n_templates: int
    fingerprint: str
    made_from: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the ranked patterns."""
        return len(self.index)


def write_clean_single_hits(
    path: str | Path, patterns: Patterns, hits_index: ArrayLike
) -> None:
    """Copy the clean single hits out of the stack into a file of their own.

    Parameters
    ----------
    path
        The file to write: `/clean_single_hits` float32 (n, rows, columns), bad pixels
        0, and `/index` int64 (n,), where each hit stands in the stack.
    patterns
        The stack.
    hits_index
        Pattern indices of the clean single hits.
    """
    index = np.asarray(hits_index, dtype=np.int64)
    with atomic_hdf5(path) as file:
        file["clean_single_hits"] = np.asarray(patterns[index], dtype=np.float32)
        file["index"] = index
        write_provenance(
            file,
            source_files=[str(source) for source in patterns.files],
            fingerprint=patterns.fingerprint,
            made_from=name_values(patterns),
        )


def read_clean_single_hits(
    path: str | Path,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the clean single hits and their places in the stack.

    Parameters
    ----------
    path
        A file written by `write_clean_single_hits`.

    Returns
    -------
    hits : NDArray[np.float32]
        Shape (n, rows, columns).
    index : NDArray[np.int64]
        Shape (n,): pattern indices.

    Raises
    ------
    WorkFolderError
        If the file is missing or is not one of ours.
    """
    arrays, _ = CLEAN_SINGLE_HITS.read_hdf5(path)
    check_fits(path, CLEAN_SINGLE_HITS)
    return arrays["clean_single_hits"], arrays["index"]


def write_ranking(path: str | Path, ranking: Ranking) -> None:
    """Write a ranking as HDF5: its arrays as datasets, its metadata as attributes."""
    with atomic_hdf5(path) as file:
        for name, values in RANKING.datasets.items():
            file[name] = np.asarray(getattr(ranking, name), dtype=values.dtype)
        metadata = {name: getattr(ranking, name) for name in RANKING.metadata}
        write_provenance(file, **metadata, made_from=ranking.made_from)


def read_ranking(path: str | Path) -> Ranking:
    """Read what `write_ranking` wrote.

    Raises
    ------
    WorkFolderError
        If the file is missing or is not a ranking, or was made about another centre or
        with other bad pixels than the folder has now.
    OtherPatternsError
        If it is of other patterns.
    """
    arrays, metadata = RANKING.read_hdf5(path)
    check_fits(path, RANKING)
    values: dict[str, Any] = arrays | {
        name: metadata[name] for name in RANKING.metadata
    }
    return Ranking(**values, made_from=read_origin(path))


TOPS = (10, 30, 100, 300, 1000)


def precision_at(is_single: NDArray[np.bool_], n: int) -> Proportion:
    """Count the single hits among the `n` best-ranked patterns.

    Parameters
    ----------
    is_single
        Bool, shape (n_ranked,), in the order of the ranking, best first: a single hit
        or not. Leave out patterns of which that is not known.
    n
        How many of the best to look at; all of them if there are fewer.

    Raises
    ------
    ParameterError
        If `n` is negative.
    """
    if n < 0:
        message = f"n is {n}; expected 0 or more best patterns to look at."
        raise ParameterError(message)
    best = is_single[:n]
    return Proportion(int(best.sum()), len(best))


@dataclass(frozen=True, eq=False)
class RankAgreement:
    """Two rankings side by side.

    Parameters
    ----------
    index
        Int64, shape (n_ranked,): pattern indices, in the order of the first ranking.
    other_rank
        Int64, same shape: rank of each in the other ranking, from 1.
    spearman
        Spearman's correlation of the ranks: 1 for the same order, -1 for the reverse.
        NaN for fewer than two patterns.
    """

    index: NDArray[np.int64]
    other_rank: NDArray[np.int64]
    spearman: float

    def share_in_both(self, n: int) -> float:
        """Say which share of the best `n` of one is among the best `n` of the other."""
        best = self.other_rank[:n]
        return float((best <= n).mean()) if best.size else float("nan")


def compare_rankings(ranking: Ranking, other: Ranking) -> RankAgreement:
    """Compare the orders of two rankings.

    Parameters
    ----------
    ranking, other
        Of the same patterns by the same templates.

    Raises
    ------
    ParameterError
        If they rank different patterns.
    """
    if set(ranking.index) != set(other.index):
        message = (
            f"The rankings hold different patterns: {len(ranking)} and {len(other)}."
            " Rank the same stack by the same hits."
        )
        raise ParameterError(message)
    place = np.empty(max(ranking.index, default=-1) + 1, dtype=np.int64)
    place[other.index] = np.arange(1, len(other) + 1)
    other_rank = place[ranking.index]
    rank = np.arange(1, len(ranking) + 1)
    spearman = np.corrcoef(rank, other_rank)[0, 1] if len(rank) > 1 else np.nan
    return RankAgreement(ranking.index, other_rank, float(spearman))


def order_singles(ranking: Ranking, labels: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which of the ranked patterns are single, best first.

    Parameters
    ----------
    ranking
        Of a stack of n patterns.
    labels
        (n,) label words, or what is known of them otherwise; "" and "unsure" are left
        out.
    """
    ordered = labels[ranking.index]
    return np.asarray(ordered[~np.isin(ordered, ("", "unsure"))] == "single")


def describe_top(is_single: NDArray[np.bool_]) -> str:
    """Say which share of the best 10, 30, 100 … is single, with 95 % intervals.

    Parameters
    ----------
    is_single
        (n,) bool, best first, from `order_singles`.
    """
    lines = []
    for n in TOPS:
        if n <= len(is_single):
            best = precision_at(is_single, n)
            interval = f"95 % interval {best.low:.0%} to {best.high:.0%}"
            lines.append(f"best {n:>5,}: {best.value:4.0%} single ({interval})")
    return "\n".join(lines) or "too few patterns with a label to judge the top"


METRICS = {metric.name: metric for metric in (ROTATION, ENCODER, ARTICLE)}


def rank_patterns(
    patterns: Patterns,
    hits_index: ArrayLike,
    metric: str = "rotation",
    *,
    centre: tuple[float, float] | None = None,
    n_rotations: int = 36,
    step_deg: float = 5.0,
    max_bytes: int = 6 * 2**30 // 5,
    source: Patterns | None = None,
    source_centre: tuple[float, float] | None = None,
) -> Ranking:
    """Rank all patterns but the templates by their distance from the nearest template.

    What is no measurement is not ranked.

    Parameters
    ----------
    patterns
        The stack.
    hits_index
        Int, shape (n_hits,): pattern indices of the clean single hits.
    metric
        "rotation": all rotations at once, whatever the brightness, bad pixels left out,
        noise accounted for; see `helpers.ranking.invariant_metrics.RotatedTemplates`.
        "encoder": how far apart the features and the encoder's numbers are, for
        particles that show another face each time; see
        `helpers.ranking.invariant_metrics`. Twenty times slower than reading.
        "article": each pattern without its negative values and scaled to a maximum of
        255; the Frobenius norm of its difference from every rotation of every
        template; the smallest of them. Kept as the baseline.
    centre
        Row and column of the beam; without it, the centre of symmetry of the templates.
        "article" rotates about the middle of the image.
    n_rotations
        Orientations of each template for "article": 0, `step_deg`, 2 `step_deg`, …
    step_deg
        Degrees between these orientations. 36 steps of 5° are half a turn, which is
        enough where patterns are centrosymmetric.
    max_bytes
        Memory for "article" to work in; "rotation" needs less.
    source, source_centre
        Where the templates are of another run: that stack, which `hits_index` is of,
        and its centre.

    Returns
    -------
    Ranking
        Best first.

    Raises
    ------
    ParameterError
        If the metric is unknown, there is no template, a template is named twice, does
        not exist or is of another shape, or there are no rotations.
    """
    chosen = find_metric(metric)
    hits = _check_hits(hits_index, len(source or patterns))
    if source is not None and source.shape[1:] != patterns.shape[1:]:
        message = (
            f"The templates are of shape {source.shape[1:]}, the patterns of shape "
            f"{patterns.shape[1:]}. Rank by templates from the same detector."
        )
        raise ParameterError(message)
    if n_rotations < 1:
        message = f"n_rotations is {n_rotations}; expected at least 1."
        raise ParameterError(message)
    options = MetricOptions(
        centre, n_rotations, step_deg, max_bytes, source, source_centre
    )
    nearest = chosen.nearest(patterns, hits, options)
    patterns.check_unchanged()
    others = np.flatnonzero(patterns.is_measurement)
    if source is None:
        others = np.setdiff1d(others, hits)
    index = others[np.argsort(nearest.distance[others], kind="stable")]
    made_from = {"patterns": patterns.fingerprint, **name_values(patterns)}
    if centre is not None and chosen.turns_about_centre:
        made_from["centre"] = name_centre(centre)
    return Ranking(
        index=index,
        distance=nearest.distance[index].astype(np.float32),
        template=hits[nearest.hit[index]],
        angle_deg=nearest.angle_deg[index],
        metric=metric,
        n_rotations=nearest.n_rotations,
        n_templates=len(hits),
        fingerprint=patterns.fingerprint,
        made_from=made_from,
    )


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises
    ------
    ParameterError
        If there is none.
    """
    if name not in METRICS:
        message = f"metric is {name!r}; expected one of {', '.join(METRICS)}."
        raise ParameterError(message)
    return METRICS[name]


def _check_hits(hits_index: ArrayLike, n_patterns: int) -> NDArray[np.int64]:
    hits = np.atleast_1d(np.asarray(hits_index))
    if hits.size == 0:
        message = "No clean single hits to rank by. Label some patterns 'single' first."
        raise ParameterError(message)
    if hits.dtype.kind not in "iu" or hits.min() < 0 or hits.max() >= n_patterns:
        message = (
            f"hits_index has values from {hits.min()} to {hits.max()} ({hits.dtype});"
            f" expected whole numbers from 0 to {n_patterns - 1}."
        )
        raise ParameterError(message)
    if len(np.unique(hits)) < len(hits):
        message = "hits_index names a pattern twice. Pass every template once."
        raise ParameterError(message)
    return hits.astype(np.int64)


AUTO = "auto"
HEAD_START = 0.02  # of the encoder metric, the better one on most kinds of particle
FEWEST = 5  # templates, and labelled patterns that are not single, to choose by


@dataclass(frozen=True)
class MetricChoice:
    """A metric, and how well each of the candidates orders the labelled patterns.

    Attributes
    ----------
    metric
        The name of the chosen one.
    average_precision
        By name: for single hits among the labelled patterns, templates judged by the
        other templates. Empty where there were too few labels.
    n_single, n_other
        How many labelled patterns are single, and how many are not.
    """

    metric: str
    average_precision: dict[str, float]
    n_single: int
    n_other: int

    def describe(self) -> str:
        """Say which metric was taken, and why."""
        counts = f"{self.n_single} single hits and {self.n_other} other patterns"
        if not self.average_precision:
            return (
                f"Metric: {self.metric}. {counts} are too few to choose by, or the "
                f"patterns too small; expected {FEWEST} of either, and "
                f"{SMALLEST_WINDOW} × {SMALLEST_WINDOW} pixels."
            )
        scores = ", ".join(
            f"{name} {value:.3f}" for name, value in self.average_precision.items()
        )
        return (
            f"Metric: {self.metric}, as the labels say. Average precision "
            f"for single hits among {counts}, each judged without itself: {scores}."
        )


def choose_metric(
    patterns: Patterns,
    hits_index: ArrayLike,
    labels: NDArray[np.str_],
    *,
    centre: tuple[float, float] | None = None,
) -> MetricChoice:
    """Choose the metric that orders the labelled patterns best.

    Each labelled pattern is compared with the templates other than itself. The encoder
    metric is taken where it is about as good: few labels do not tell small differences,
    and it is the better one on most kinds of particle. The article's metric is not
    among the candidates: it takes hundreds of times as long, and was best on none of
    the kinds of particle that these were chosen with.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits_index
        Pattern indices of the clean single hits.
    labels
        (n,) label words of what may choose; "" and "unsure" are left out.
    centre
        (row, column) of the beam, in pixels; without it, found from the templates.
    """
    hits = np.unique(np.asarray(hits_index, np.int64))
    known = ~np.isin(labels, ("", "unsure"))
    known[hits] = True
    index = np.flatnonzero(known & patterns.is_measurement)
    single = (labels[index] == "single") | np.isin(index, hits)
    n_single, n_other = int(single.sum()), int((~single).sum())
    if min(patterns.shape[1:]) < SMALLEST_WINDOW:
        return MetricChoice(ROTATION.name, {}, n_single, n_other)
    if len(hits) < FEWEST or n_other < FEWEST:
        return MetricChoice(ENCODER.name, {}, n_single, n_other)
    about = centre or find_templates_centre(patterns, hits)
    itself = index[:, np.newaxis] == hits
    scores = {
        name: _judge(metric.compare(patterns, index, hits, about), itself, single)
        for name, metric in METRICS.items()
        if metric.compare is not None
    }
    head_start = {ENCODER.name: HEAD_START}
    best = max(scores, key=lambda name: scores[name] + head_start.get(name, 0))
    return MetricChoice(best, scores, n_single, n_other)


def _judge(
    distances: NDArray[np.floating],
    itself: NDArray[np.bool_],
    single: NDArray[np.bool_],
) -> float:
    """Return the average precision by distances, where no template judges itself."""
    from sklearn.metrics import average_precision_score  # slow to import

    nearness = -mean_of_nearest(np.where(itself, np.inf, distances))
    return float(average_precision_score(single, nearness))
