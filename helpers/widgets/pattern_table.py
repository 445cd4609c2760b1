"""The list of patterns that a widget goes through: which, and in which order."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import HelpersError, OtherPatternsError, ParameterError
from helpers.labels import LABELS, Queue
from helpers.patterns import Patterns
from helpers.work_folder import PREDICTIONS, RANKING

ALL = "all"
UNLABELLED = "unlabelled"
DISAGREEMENT = "labellers disagree"
FILTERS = (ALL, UNLABELLED, *LABELS, DISAGREEMENT)
NUMBERS = ("photons", "hit_score", "prediction", "distance")


@dataclass(frozen=True)
class Facts:
    """What is known of each pattern of a stack besides its picture; None = not known.

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
    why
        Why a pattern is asked for, {pattern index: word}.
    """

    photons: NDArray[np.float64] | None = None
    hit_score: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None
    distance: NDArray[np.float64] | None = None
    why: Mapping[int, str] = field(default_factory=dict)

    def without_opinions(self) -> "Facts":
        """Return what was measured alone, and nothing that a model says."""
        return replace(self, prediction=None, distance=None, why={})

    def of(self, pattern: int) -> dict[str, float | str | None]:
        """Return the known facts of one pattern by name; None where they are NaN.

        With the distance comes the `rank`: 1 for the smallest of the stack.
        """
        known: dict[str, float | str | None] = {}
        if pattern in self.why:
            known["why"] = self.why[pattern]
        known |= {
            name: _number(values[pattern])
            for name in NUMBERS
            if (values := getattr(self, name)) is not None
        }
        if self.distance is not None and known["distance"] is not None:
            n_nearer = np.count_nonzero(self.distance < self.distance[pattern])
            known["rank"] = 1.0 + n_nearer
        return known


def check_facts(
    n_patterns: int, queue: Queue | None = None, **facts: ArrayLike | None
) -> Facts:
    """Make `Facts` of arrays that hold one number for each pattern of the stack.

    Parameters
    ----------
    n_patterns
        Length of the stack.
    queue
        Which patterns are asked for, and why.
    **facts
        (n,) each.

    Raises
    ------
    ParameterError
        If an array has another length than the stack.
    """
    checked: dict[str, Any] = {
        name: check_column(name, facts[name], n_patterns) for name in facts
    }
    if queue is not None:
        reasons = queue.pattern.tolist(), queue.reason.tolist()
        checked["why"] = dict(zip(*reasons, strict=True))
    return Facts(**checked)


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


def check_order(order: str, names: Sequence[str]) -> None:
    """Raise `ParameterError` unless there is an order of this name."""
    if order in names:
        return
    expected = ", ".join(f"'{name}'" for name in names)
    msg = f"order: found '{order}'; expected an index array or one of {expected}."
    raise ParameterError(msg)


def named_orders(facts: Facts) -> tuple[str, ...]:
    """Return the names of the orders that these facts allow."""
    return ("as recorded", "random", *_sort_keys(facts))


def sort_patterns(
    order: str, facts: Facts, shuffled: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return all pattern indices in a named order.

    Parameters
    ----------
    order
        "as recorded"; "random"; "hit score", highest first; "ranking", smallest
        distance first; "uncertainty", predictions nearest to 0.5 first. Patterns
        whose number is NaN come last, as recorded.
    facts
        The numbers to sort by.
    shuffled
        (n,) all patterns of the stack in their random order.

    Raises
    ------
    ParameterError
        If there is no such order, or the numbers it needs were not given.
    """
    check_order(order, named_orders(facts))
    if order == "as recorded":
        return np.arange(len(shuffled))
    if order == "random":
        return shuffled
    return np.argsort(_sort_keys(facts)[order], kind="stable")


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


def _sort_keys(facts: Facts) -> dict[str, NDArray[np.float64]]:
    """Return what each order that the facts allow sorts by, ascending."""
    keys = {}
    if facts.hit_score is not None:
        keys["hit score"] = -facts.hit_score
    if facts.distance is not None:
        keys["ranking"] = facts.distance
    if facts.prediction is not None:
        keys["uncertainty"] = np.abs(facts.prediction - 0.5)
    return keys


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_known(
    work_dir: str | Path, patterns: Patterns
) -> dict[str, NDArray[np.floating]]:
    """Read ranking and predictions of these patterns, as far as there are any.

    A file that belongs to other patterns or cannot be read is left out with a warning.

    Parameters
    ----------
    work_dir
        The work folder, with `ranking.h5` or `predictions.h5` or neither.
    patterns
        The stack.

    Returns
    -------
        For `label_patterns` and `show_gallery`: `distance` (n,) to the nearest
        template, NaN = not ranked; `prediction` (n,), probability of a single hit.
    """
    readers = {
        "distance": (_read_distance, RANKING.name),
        "prediction": (_read_prediction, PREDICTIONS.name),
    }
    known = {}
    for name, (read, file) in readers.items():
        path = Path(work_dir) / file
        try:
            if path.exists():
                known[name] = read(path, patterns)
        except HelpersError as error:
            warnings.warn(f"Not shown beside the patterns: {error}", stacklevel=2)
    return known


def _read_distance(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.ranking import read_ranking

    ranking = read_ranking(path)
    if ranking.fingerprint != patterns.fingerprint:
        message = f"{path} is of other patterns. Run 03-rank again."
        raise OtherPatternsError(message)
    distance = np.full(len(patterns), np.nan)
    distance[ranking.index] = ranking.distance
    return distance


def _read_prediction(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.classifier import read_predictions

    return read_predictions(path, patterns).probability


AS_GIVEN = "as given"
QUEUE = "queue"
HIGHEST = "highest first"
LOWEST = "lowest first"
BY_LABEL = "label"

NOTHING_QUEUED = (
    "Nothing in the queue is unlabelled. Later notebooks write which patterns to label "
    "next; until then choose another order."
)
NOTHING_KEPT = "There is no such pattern. Choose other patterns."


@dataclass(frozen=True, eq=False)
class Listing:
    """The orders that a widget offers, over one stack.

    Attributes
    ----------
    facts
        The numbers that patterns can be sorted by.
    shuffled
        (n,) all patterns of the stack in their random order.
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

    facts: Facts
    shuffled: NDArray[np.int64]
    given: NDArray[np.int64] | None = None
    is_limited: bool = False
    queue: Queue | None = None
    score: NDArray[np.float64] | None = None
    has_labels: bool = True

    @property
    def orders(self) -> tuple[str, ...]:
        """Names of the orders."""
        offered = {
            AS_GIVEN: self.given is not None,
            HIGHEST: self.score is not None,
            LOWEST: self.score is not None,
            **dict.fromkeys(named_orders(self.facts), True),
            QUEUE: self.queue is not None,
            BY_LABEL: self.has_labels,
        }
        return tuple(name for name, is_offered in offered.items() if is_offered)

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
            One of `orders`. The queue leaves out what is labelled by now.
        only, labels, disagree
            As in `keep_patterns`.

        Raises
        ------
        ParameterError
            If there is no such order or filter.
        """
        check_order(order, self.orders)
        index = keep_patterns(self._sort(order, labels), only, labels, disagree)
        if self.is_limited and self.given is not None:
            return index[np.isin(index, self.given)]
        return index

    def why_empty(self, order: str) -> str:
        """Say why a list holds nothing, and what to do."""
        return NOTHING_QUEUED if order == QUEUE else NOTHING_KEPT

    def _sort(self, order: str, labels: NDArray[np.str_]) -> NDArray[np.int64]:
        if order == AS_GIVEN and self.given is not None:
            return self.given
        if order == QUEUE and self.queue is not None:
            return keep_patterns(self.queue.pattern, UNLABELLED, labels)
        if order in (HIGHEST, LOWEST) and self.score is not None:
            sign = -1 if order == HIGHEST else 1
            return np.argsort(sign * self.score, kind="stable")
        if order == BY_LABEL:
            places = [labels == word for word in (*LABELS, "")]
            return np.concatenate([np.flatnonzero(place) for place in places])
        return sort_patterns(order, self.facts, self.shuffled)
