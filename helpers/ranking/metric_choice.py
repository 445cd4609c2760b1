"""Which metric orders a sample best: the labels say it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.physics import SMALLEST_WINDOW
from helpers.ranking.encoder_metric import ENCODER
from helpers.ranking.metric import mean_of_nearest
from helpers.ranking.ranking import METRICS
from helpers.ranking.rotation_metric import ROTATION, find_templates_centre

if TYPE_CHECKING:
    from helpers.patterns import Patterns

AUTO = "auto"
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
            f"Metric: {self.metric}, which orders the labels best. Average precision "
            f"for single hits among {counts}, each judged without itself: {scores}."
        )


def choose_metric(
    patterns: "Patterns",
    hits_index: ArrayLike,
    labels: NDArray[np.str_],
    *,
    centre: tuple[float, float] | None = None,
) -> MetricChoice:
    """Choose the metric that orders the labelled patterns best.

    Each labelled pattern is compared with the templates other than itself. The
    article's metric is not among the candidates: it takes hundreds of times as long,
    and was best on none of the kinds of particle that these were chosen with.

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
    from sklearn.metrics import average_precision_score  # slow to import

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
    scores = {}
    for name, metric in METRICS.items():
        if metric.compare is None:
            continue
        distances = metric.compare(patterns, index, hits, about)
        distances[index[:, np.newaxis] == hits] = np.inf  # none judges itself
        nearness = -mean_of_nearest(distances)
        scores[name] = float(average_precision_score(single, nearness))
    best = max(scores, key=lambda name: scores[name])
    return MetricChoice(best, scores, n_single, n_other)
