"""Look through a stack of patterns, one at a time."""

import numpy as np
from numpy.typing import ArrayLike

from helpers.patterns import Patterns
from helpers.widgets.keys import BROWSER_KEYS, choose_keys
from helpers.widgets.pattern_order import (
    Facts,
    check_facts,
    check_index,
    named_orders,
    sort_patterns,
)
from helpers.widgets.pixels import preview_png
from helpers.widgets.widget_base import DRAWING, Message, PatternWidget, join_files


class PatternBrowser(PatternWidget):
    """Slider, jump and next by hit score; `browse_patterns` makes one.

    Parameters
    ----------
    patterns
        The stack.
    facts
        What is shown beside each pattern.
    start
        The pattern shown first.
    """

    _esm = join_files(*DRAWING, "viewer.js", "browser.js")
    _css = join_files("common.css", "viewer.css")

    def __init__(self, patterns: Patterns, facts: Facts, start: int = 0) -> None:
        super().__init__(patterns, facts, choose_keys(BROWSER_KEYS))
        self._start = start
        self._answers["hello"] = self._greet
        self.preview = preview_png(self.pixels(start).codes)

    def _greet(self, content: Message) -> None:
        order = content.get("order") or "as recorded"
        index = sort_patterns(order, self.facts, self.patterns.shuffled())
        message = {
            "kind": "state",
            "view": content["view"],
            "orders": named_orders(self.facts),
            "order": order,
            "start": self._start,
        }
        self.send(message, [index.astype(np.int32).tobytes()])


def browse_patterns(
    patterns: Patterns,
    *,
    hit_score: ArrayLike | None = None,
    photons: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    start: int = 0,
) -> PatternBrowser:
    """Make a widget to look through patterns; the last line of a cell shows it.

    Parameters
    ----------
    patterns
        The stack.
    hit_score
        (n,) higher = more signal; given, the patterns can be gone through by it.
    photons
        (n,) photons of each pattern of the stack.
    prediction
        (n,) probability of a single hit; NaN = not predicted.
    distance
        (n,) distance to the nearest template; NaN = not ranked.
    start
        The pattern shown first.

    Raises
    ------
    ParameterError
        If there is no pattern `start`, or an array does not fit the stack.
    """
    facts = check_facts(
        len(patterns),
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    first = int(check_index("start", start, len(patterns))[0])
    return PatternBrowser(patterns, facts, first)
