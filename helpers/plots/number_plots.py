"""Numbers of the patterns: along the run, as histograms, around the centre."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from helpers.plots.marks import (
    CLASS_COLOURS,
    mark_threshold,
    select_by_word,
    show_legend,
)


def plot_along_run(
    ax: Axes, values: NDArray[np.number], *, ylabel: str, threshold: float | None = None
) -> None:
    """Plot one value per pattern along the run, with the median of each 60th of it.

    Parameters
    ----------
    ax
        Where to draw.
    values
        (n,): photons or lit pixels of each pattern, in stack order.
    ylabel
        What they are, with the unit.
    threshold
        Drawn as a line when given.
    """
    index = np.arange(len(values))
    few = len(values) < 300
    ax.plot(index, values, ".", markersize=6 if few else 2, alpha=0.5, rasterized=True)
    size = len(values) // 60
    if size > 1:
        blocks = values[: 60 * size].reshape(60, size)
        middle = index[: 60 * size].reshape(60, size).mean(axis=1)
        ax.plot(middle, np.median(blocks, axis=1), color="black", label="median")
    mark_threshold(ax, threshold, horizontal=True)
    ax.set(xlabel="pattern", ylabel=ylabel, yscale="symlog", ylim=(0, None))
    show_legend(ax, "lower right")


def plot_histogram(
    ax: Axes,
    values: NDArray[np.number],
    *,
    xlabel: str,
    threshold: float | None = None,
    log_values: bool = False,
    labels: NDArray[np.str_] | None = None,
) -> None:
    """Plot how often each value occurs, stacked by label where labels are given.

    Parameters
    ----------
    ax
        Where to draw.
    values
        (n,): one value per pattern.
    xlabel
        What they are, with the unit.
    threshold
        Drawn as a line when given.
    log_values
        Whether bins grow in proportion; values of 0 or less are then left out.
    labels
        (n,) words; patterns without a word are drawn in light grey.
    """
    keep = values > 0 if log_values else np.isfinite(values)
    edges = _edges(values[keep], log_values=log_values)
    groups = select_by_word(labels, len(values))
    bars = [values[keep & chosen] for _, chosen, _ in groups]
    words, colours = [word for word, *_ in groups], [colour for *_, colour in groups]
    if groups:
        ax.hist(bars, list(edges), color=colours, label=words, stacked=True)
    mark_threshold(ax, threshold, horizontal=False)
    ax.set(xlabel=xlabel, ylabel="patterns", xscale="log" if log_values else "linear")
    show_legend(ax)


def plot_radial_averages(
    ax: Axes, averages: Mapping[str, tuple[ArrayLike, ArrayLike]], *, unit: str
) -> None:
    """Plot mean intensity against the distance from the centre, on a log scale.

    Parameters
    ----------
    ax
        Where to draw.
    averages
        By name: radius in pixels and mean in `unit`; NaN is a gap in the curve.
    unit
        Of the intensity.
    """
    for name, (radius, mean) in averages.items():
        ax.plot(radius, mean, label=name, color=CLASS_COLOURS.get(name))
    ax.set(
        xlabel="distance from the centre (pixels)",
        ylabel=f"mean intensity ({unit})",
        yscale="log",
    )
    if len(averages) > 1:
        ax.legend()


def _edges(values: NDArray[np.number], *, log_values: bool) -> NDArray[np.floating]:
    if values.size == 0:
        return np.linspace(0, 1, 2)
    low, high = float(values.min()), float(values.max())
    if log_values:
        return np.geomspace(low, max(high, low * 1.01), 61)
    return np.linspace(low, high if high > low else low + 1, 61)
