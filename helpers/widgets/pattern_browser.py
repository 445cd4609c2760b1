"""Look through a stack of patterns, one at a time."""

from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets
from numpy.typing import ArrayLike

from helpers.patterns import Patterns
from helpers.widgets.keys import BROWSER_KEYS, KeyTable, choose_keys
from helpers.widgets.pattern_table import (
    AS_RECORDED,
    PatternOrder,
    check_index,
    make_pattern_table,
)
from helpers.widgets.pixels import preview_png
from helpers.widgets.widget_base import STATIC, PatternWidget, find_signal

if TYPE_CHECKING:
    from helpers.classifier import PurityCurve


class PatternBrowser(PatternWidget):
    """Slider, jump and next by hit score; `browse_patterns` makes one.

    Parameters
    ----------
    patterns, order, keys
        As for `PatternWidget`.
    start
        The pattern shown first.
    """

    _esm = STATIC / "browser.js"
    _css = STATIC / "browser.css"

    start = traitlets.Int().tag(sync=True)

    def __init__(
        self, patterns: Patterns, order: PatternOrder, keys: KeyTable, *, start: int = 0
    ) -> None:
        super().__init__(patterns, order, keys, first_order=AS_RECORDED)
        self.signal = find_signal(patterns)
        self.start = start
        self.preview = preview_png(self.pixels(start).codes)


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
    table = make_pattern_table(
        len(patterns),
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    return PatternBrowser(
        patterns,
        PatternOrder(table, patterns.shuffled(), has_labels=False),
        choose_keys(BROWSER_KEYS),
        start=int(check_index("start", start, len(patterns))[0]),
    )


class PuritySlider(ipywidgets.VBox):
    """Slide along a purity curve; `slide_purity` makes one.

    Parameters
    ----------
    curve
        Purity against number.
    threshold
        Where the slider begins.

    Attributes
    ----------
    threshold
        The probability from which patterns are taken where the slider stands; as it was
        given until the slider is moved.
    """

    def __init__(self, curve: "PurityCurve", threshold: float) -> None:
        self._curve = curve
        self.threshold = threshold
        self._slider = ipywidgets.IntSlider(
            curve.find_threshold(threshold),
            0,
            len(curve.number) - 1,
            description="few … many",
            readout=False,
            layout=ipywidgets.Layout(width="36em"),
        )
        self._text = ipywidgets.Label()
        self._slider.observe(self._follow, "value")
        super().__init__([self._slider, self._text])
        self._say()

    def move_to(self, at: int) -> None:
        """Move the slider to a place on the curve."""
        self._slider.value = at

    def _follow(self, change: Any) -> None:
        self.threshold = float(self._curve.threshold[change.new])
        self._say()

    def _say(self) -> None:
        self._text.value = self._curve.describe(self._slider.value)


def slide_purity(curve: "PurityCurve", threshold: float) -> PuritySlider:
    """Make a slider; the last line of a cell shows it.

    Parameters
    ----------
    curve
        From `review.expect_purity`.
    threshold
        Where the slider begins.
    """
    return PuritySlider(curve, threshold)
