"""What figures have in common: the colours of the classes, legends, lines."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

CLASS_COLOURS = {
    "single": "#0072B2",
    "multiple": "#D55E00",
    "other": "#E69F00",
    "blank": "#555555",
    "unsure": "#CC79A7",
}


def select_by_word(
    labels: NDArray[np.str_] | None, n: int
) -> list[tuple[str, NDArray[np.bool_], str]]:
    """Give word, patterns and colour of each group that has patterns."""
    if labels is None:
        return [("", np.ones(n, bool), "#0072B2")]
    colours = {"": "#cccccc"} | CLASS_COLOURS
    groups = [(w or "no label", labels == w, c) for w, c in colours.items()]
    return [group for group in groups if group[1].any()]


def show_legend(ax: Axes, place: Literal["best", "lower right"] = "best") -> None:
    """Show the legend where anything has a name."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc=place)


def mark_threshold(ax: Axes, threshold: float | None, *, horizontal: bool) -> None:
    """Draw the threshold as a dashed line, if there is one."""
    if threshold is None:
        return
    line = ax.axhline if horizontal else ax.axvline
    line(threshold, color="#D55E00", linestyle="--", label=f"{threshold:.4g}")
