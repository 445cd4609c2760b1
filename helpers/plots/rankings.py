"""How the patterns were ranked, and how good the ranking is."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from helpers.plots.marks import CLASS_COLOURS


def plot_distance_curve(
    ax: Axes, distance: NDArray[np.floating], labels: NDArray[np.str_]
) -> None:
    """Plot the distance against the rank and mark the labelled patterns on it.

    Parameters
    ----------
    ax
        Where to draw.
    distance
        (n,): smallest first.
    labels
        (n,) words in the same order; "" = no label.
    """
    rank = np.arange(1, len(distance) + 1)
    ax.plot(rank, distance, color="0.6", linewidth=1)
    for word, colour in CLASS_COLOURS.items():
        at = labels == word
        if at.any():
            ax.plot(rank[at], distance[at], "o", color=colour, markersize=4, label=word)
    ax.set(xlabel="rank", ylabel="distance to the nearest template")
    if labels.astype(bool).any():
        ax.legend(title="label")


def plot_precision_curve(
    ax: Axes,
    is_single: NDArray[np.bool_],
    *,
    name: str = "",
    share: float | None = None,
) -> None:
    """Plot which part of the best N is single, against N.

    Parameters
    ----------
    ax
        Where to draw.
    is_single
        (n,) bool, best first.
    name
        For the legend.
    share
        Share of singles among all, what a random order would give; drawn as a line.
    """
    rank = np.arange(1, len(is_single) + 1)
    ax.plot(rank, np.cumsum(is_single) / rank, label=name)
    if share is not None:
        ax.axhline(share, color="0.5", linestyle=":", label="random order")
    ax.set(xlabel="N", ylabel="single among the best N", ylim=(0, 1.02))
    ax.legend()
