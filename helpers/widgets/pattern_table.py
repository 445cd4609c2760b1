"""The list of patterns that a widget goes through: which, and in which order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.labels import LABELS, Queue
from helpers.widgets.pattern_order import (
    UNLABELLED,
    Facts,
    check_order,
    keep_patterns,
    named_orders,
    sort_patterns,
)

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
