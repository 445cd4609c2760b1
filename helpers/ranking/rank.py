"""Rank a stack of patterns by the distance from clean single hits."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.ranking.article_metric import ARTICLE
from helpers.ranking.metric import Metric, MetricOptions, Nearest
from helpers.ranking.ranking import Ranking
from helpers.ranking.rotation_metric import ROTATION

if TYPE_CHECKING:
    from helpers.patterns import Patterns

METRICS = {metric.name: metric for metric in (ROTATION, ARTICLE)}


def rank_patterns(
    patterns: "Patterns",
    hits_index: ArrayLike,
    metric: str = "rotation",
    *,
    centre: tuple[float, float] | None = None,
    n_rotations: int = 36,
    step_deg: float = 5.0,
    max_bytes: int = 6 * 2**30 // 5,
) -> Ranking:
    """Rank all patterns but the templates by their distance from the nearest template.

    Parameters
    ----------
    patterns
        The stack.
    hits_index
        Int, shape (n_hits,): pattern indices of the clean single hits.
    metric
        "rotation": all rotations at once, whatever the brightness, bad pixels left out,
        noise accounted for; see `helpers.ranking.rotation_metric.RotatedTemplates`.
        "article": each pattern without its negative values and scaled to a maximum of
        255; the Frobenius norm of its difference from every rotation of every
        template; the smallest of them. Kept as the baseline.
    centre
        Row and column about which "rotation" rotates; without it, the centre of
        symmetry of the templates. "article" rotates about the middle of the image.
    n_rotations
        Orientations of each template for "article": 0, `step_deg`, 2 `step_deg`, …
    step_deg
        Degrees between these orientations. 36 steps of 5° are half a turn, which is
        enough where patterns are centrosymmetric.
    max_bytes
        Memory for "article" to work in; "rotation" needs less.

    Returns
    -------
    Ranking
        Best first.

    Raises
    ------
    ParameterError
        If the metric is unknown, there is no template, a template is named twice or
        does not exist, or there are no rotations.
    """
    chosen = find_metric(metric)
    hits = _check_hits(hits_index, len(patterns))
    if n_rotations < 1:
        message = f"n_rotations is {n_rotations}; expected at least 1."
        raise ParameterError(message)
    options = MetricOptions(centre, n_rotations, step_deg, max_bytes)
    nearest = chosen.nearest(patterns, hits, options)
    return _order(nearest, hits, metric, patterns.fingerprint)


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


def _order(
    nearest: Nearest, hits: NDArray[np.int64], metric: str, fingerprint: str
) -> Ranking:
    others = np.setdiff1d(np.arange(len(nearest.distance)), hits)
    best_first = np.argsort(nearest.distance[others], kind="stable")
    index = others[best_first]
    return Ranking(
        index=index,
        distance=nearest.distance[index].astype(np.float32),
        template=hits[nearest.hit[index]],
        angle_deg=nearest.angle_deg[index],
        metric=metric,
        n_rotations=nearest.n_rotations,
        n_templates=len(hits),
        fingerprint=fingerprint,
    )


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
