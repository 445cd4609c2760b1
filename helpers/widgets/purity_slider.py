"""A slider from few, pure patterns to many."""

from typing import TYPE_CHECKING, Any

import ipywidgets

if TYPE_CHECKING:
    from helpers.classifier import PurityCurve


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
