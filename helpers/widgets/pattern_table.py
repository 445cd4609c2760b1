"""The list of patterns that a widget goes through: which, and in which order."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import HelpersError, OtherPatternsError, ParameterError
from helpers.labels import LABELS, Queue
from helpers.pattern_map import order_by_cluster, read_map
from helpers.patterns import Patterns
from helpers.work_folder import MAP, PREDICTIONS, RANKING, WorkFile

ALL = "all"
UNLABELLED = "unlabelled"
DISAGREEMENT = "labellers disagree"
FILTERS = (ALL, UNLABELLED, *LABELS, DISAGREEMENT)

AS_GIVEN = "as given"
AS_RECORDED = "as recorded"
QUEUE = "queue"

NOTHING_QUEUED = (
    "Nothing in the queue is unlabelled. Later notebooks write which patterns to label "
    "next; until then choose another order."
)
NOTHING_KEPT = "There is no such pattern. Choose other patterns."

NUMBERS = ("photons", "hit_score", "prediction", "distance", "cluster")


@dataclass(frozen=True)
class PatternTable:
    """What is shown beside the patterns of a stack; None = not known.

    Attributes
    ----------
    photons
        (n,) photons, or the sum in the unit of the patterns.
    hit_score
        (n,) higher = more signal; the number of lit pixels, for example.
    prediction
        (n,) probability of a single hit, 0 to 1; NaN = not predicted.
    distance
        (n,) distance to the nearest template, smaller = more alike; NaN = not ranked.
    cluster
        (n,) cluster on the map, −1 = none.
    why
        Why a pattern is asked for, {pattern index: word}.
    """

    photons: NDArray[np.float64] | None = None
    hit_score: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None
    distance: NDArray[np.float64] | None = None
    cluster: NDArray[np.float64] | None = None
    why: Mapping[int, str] = field(default_factory=dict)

    def without_model_values(self) -> "PatternTable":
        """Return what was measured alone, and nothing that a model says."""
        return replace(self, prediction=None, distance=None, cluster=None, why={})

    def row(self, pattern: int) -> dict[str, float | str | None]:
        """Return the values of one pattern by name; None where they are NaN.

        With the distance comes the `rank`: 1 for the smallest of the stack.
        """
        row: dict[str, float | str | None] = {}
        if pattern in self.why:
            row["why"] = self.why[pattern]
        row |= {
            name: _number(values[pattern])
            for name in NUMBERS
            if (values := getattr(self, name)) is not None
        }
        if row.get("cluster") == -1:
            row["cluster"] = None
        if self.distance is not None and row["distance"] is not None:
            n_nearer = np.count_nonzero(self.distance < self.distance[pattern])
            row["rank"] = 1.0 + n_nearer
        return row


def make_pattern_table(
    n_patterns: int, queue: Queue | None = None, **columns: ArrayLike | None
) -> PatternTable:
    """Make a table of arrays that hold one number for each pattern of the stack.

    Parameters
    ----------
    n_patterns
        Length of the stack.
    queue
        Which patterns are asked for, and why.
    **columns
        (n,) each.

    Raises
    ------
    ParameterError
        If an array has another length than the stack.
    """
    checked: dict[str, Any] = {
        name: check_column(name, values, n_patterns) for name, values in columns.items()
    }
    if queue is not None:
        reasons = queue.pattern.tolist(), queue.reason.tolist()
        checked["why"] = dict(zip(*reasons, strict=True))
    return PatternTable(**checked)


def check_column(
    name: str, values: ArrayLike | None, n_patterns: int
) -> NDArray[np.float64] | None:
    """Return `values` as (n_patterns,) float64; None stays None.

    Raises
    ------
    ParameterError
        If there is not one number for each pattern of the stack.
    """
    if values is None:
        return None
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (n_patterns,):
        msg = (
            f"{name}: found shape {column.shape}; expected ({n_patterns},), one number "
            "for each pattern of the stack. Where only some are known: values = "
            f"numpy.full({n_patterns}, numpy.nan); values[index] = yours."
        )
        raise ParameterError(msg)
    return column


def check_index(name: str, index: ArrayLike, n_patterns: int) -> NDArray[np.int64]:
    """Return `index` as int64 pattern indices, each of them once.

    Raises
    ------
    ParameterError
        If they are not whole numbers from 0 to `n_patterns` − 1, or one comes twice.
    """
    array = np.atleast_1d(np.asarray(index))
    if array.dtype.kind not in "iu" and array.size:
        msg = f"{name}: found {array.dtype} values; expected indices, whole numbers."
        raise ParameterError(msg)
    array = array.astype(np.int64)
    outside = array[(array < 0) | (array >= n_patterns)]
    if outside.size:
        msg = f"{name}: found pattern {outside[0]}; expected 0 to {n_patterns - 1}."
        raise ParameterError(msg)
    if np.unique(array).size < array.size:
        msg = f"{name}: a pattern comes twice; expected each once. Try numpy.unique."
        raise ParameterError(msg)
    return array


@dataclass(frozen=True, eq=False)
class PatternOrder:
    """The orders that a widget offers, over one stack.

    Attributes
    ----------
    table
        The numbers that patterns can be sorted by.
    shuffled
        (k,) the patterns that may be shown, in their random order: all measurements.
    given
        (m,) pattern indices, for the order "as given"; None = there is none.
    is_limited
        True shows none but the given patterns, in whatever order.
    queue
        What a person should label next; None = there is no such order.
    score
        (n,) one more number to sort by, NaN = none; or None.
    has_labels
        Whether patterns can be sorted by label.
    """

    table: PatternTable
    shuffled: NDArray[np.int64]
    given: NDArray[np.int64] | None = None
    is_limited: bool = False
    queue: Queue | None = None
    score: NDArray[np.float64] | None = None
    has_labels: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the orders."""
        return tuple(self._orders(np.empty(0, dtype=np.str_)))

    def index(
        self,
        order: str,
        only: str,
        labels: NDArray[np.str_],
        disagree: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Return the patterns of the list, int64.

        Parameters
        ----------
        order
            One of `names`. The queue leaves out what is labelled by now. Patterns whose
            number is NaN come last, as recorded.
        only, labels, disagree
            As in `keep_patterns`.

        Raises
        ------
        ParameterError
            If there is no such order or filter.
        """
        orders = self._orders(labels)
        if order not in orders:
            expected = ", ".join(f"'{name}'" for name in orders)
            msg = (
                f"order: found '{order}'; expected an index array or one of {expected}."
            )
            raise ParameterError(msg)
        index = keep_patterns(orders[order](), only, labels, disagree)
        index = index[np.isin(index, self.shuffled)]
        if self.is_limited and self.given is not None:
            return index[np.isin(index, self.given)]
        return index

    def why_empty(self, order: str) -> str:
        """Say why a list holds nothing, and what to do."""
        return NOTHING_QUEUED if order == QUEUE else NOTHING_KEPT

    def _orders(
        self, labels: NDArray[np.str_]
    ) -> dict[str, Callable[[], NDArray[np.int64]]]:
        """Return what sorts the patterns, by the name of the order."""
        given, score, queue, table = self.given, self.score, self.queue, self.table
        orders: dict[str, Callable[[], NDArray[np.int64]]] = {}
        if given is not None:
            orders[AS_GIVEN] = lambda: given
        if score is not None:
            orders["highest first"] = partial(_ascending, -score)
            orders["lowest first"] = partial(_ascending, score)
        orders[AS_RECORDED] = lambda: np.sort(self.shuffled)
        orders["random"] = lambda: self.shuffled
        if table.cluster is not None:
            cluster = table.cluster.astype(np.int32)
            orders["clusters"] = lambda: order_by_cluster(cluster, self.shuffled)
        if table.hit_score is not None:
            orders["hit score"] = partial(_ascending, -table.hit_score)
        if table.distance is not None:
            orders["ranking"] = partial(_ascending, table.distance)
        if table.prediction is not None:
            doubt = np.abs(table.prediction - 0.5)
            orders["uncertainty"] = partial(_ascending, doubt)
        if queue is not None:
            orders[QUEUE] = lambda: keep_patterns(queue.pattern, UNLABELLED, labels)
        if self.has_labels:
            orders["label"] = lambda: np.concatenate(
                [np.flatnonzero(labels == word) for word in (*LABELS, "")]
            )
        return orders


def keep_patterns(
    index: NDArray[np.int64],
    only: str,
    labels: NDArray[np.str_],
    disagree: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return those of `index` that belong to one of `FILTERS`, in the same order.

    Parameters
    ----------
    index
        (m,) pattern indices.
    only
        "all", "unlabelled", a label word, or "labellers disagree".
    labels
        (n,) the label word of each pattern, "" = unlabelled.
    disagree
        (n,) True where two labellers gave different labels; None = nowhere.

    Raises
    ------
    ParameterError
        If there is no such filter.
    """
    if only not in FILTERS:
        expected = ", ".join(f"'{name}'" for name in FILTERS)
        msg = f"only: found '{only}'; expected one of {expected}."
        raise ParameterError(msg)
    if only == ALL:
        return index
    if only == DISAGREEMENT:
        return index[:0] if disagree is None else index[disagree[index]]
    wanted = "" if only == UNLABELLED else only
    kept: NDArray[np.int64] = index[labels[index] == wanted]
    return kept


def _ascending(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(values, kind="stable")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_results(
    work_dir: str | Path, patterns: Patterns
) -> dict[str, NDArray[np.number]]:
    """Read map, ranking and predictions of these patterns, as far as there are any.

    A file that belongs to other patterns or cannot be read is left out with a warning.

    Parameters
    ----------
    work_dir
        The work folder, with `map.h5`, `ranking.h5`, `predictions.h5` or none of them.
    patterns
        The stack.

    Returns
    -------
        For `label_patterns` and `show_gallery`: `cluster` (n,) on the map, −1 = none;
        `distance` (n,) to the nearest template, NaN = not ranked; `prediction` (n,),
        probability of a single hit.
    """
    readers: dict[str, tuple[Callable[..., NDArray[np.number]], WorkFile]] = {
        "cluster": (_read_cluster, MAP),
        "distance": (_read_distance, RANKING),
        "prediction": (_read_prediction, PREDICTIONS),
    }
    found = {}
    for name, (read, file) in readers.items():
        path = Path(work_dir).expanduser() / file.name
        try:
            if path.exists():
                found[name] = read(path, patterns)
        except HelpersError as error:
            warnings.warn(f"Not shown beside the patterns: {error}", stacklevel=2)
    return found


def _read_cluster(path: Path, patterns: Patterns) -> NDArray[np.int32]:
    found = read_map(path.parent)
    _check_same(path, found.fingerprint, patterns, MAP)
    return found.cluster


def _read_distance(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.ranking import read_ranking

    ranking = read_ranking(path)
    _check_same(path, ranking.fingerprint, patterns, RANKING)
    distance = np.full(len(patterns), np.nan)
    distance[ranking.index] = ranking.distance
    return distance


def _read_prediction(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.classifier import read_predictions

    return read_predictions(path, patterns).probability


def _check_same(
    path: Path, fingerprint: str, patterns: Patterns, file: WorkFile
) -> None:
    if fingerprint != patterns.fingerprint:
        message = f"{path} is of other patterns. Run {file.writer} again."
        raise OtherPatternsError(message)
