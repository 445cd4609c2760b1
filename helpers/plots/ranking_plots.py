"""How the patterns were ranked, and how good the ranking is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from helpers.plots.marks import CLASS_COLOURS, select_by_word, show_legend
from helpers.plots.pattern_plots import plot_pattern

if TYPE_CHECKING:
    from helpers.ranking import Match, RankAgreement


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


def plot_match(axes: Sequence[Axes], match: "Match") -> None:
    """Show a pattern, its nearest template turned to match, and their difference.

    Parameters
    ----------
    axes
        Three, side by side.
    match
        From `helpers.ranking.match_template`.
    """
    titles = (
        f"pattern {match.index:,}, distance {match.distance:z.3f}",
        f"template {match.template:,}, turned by {match.angle_deg:.0f}°",
    )
    left = plot_pattern(axes[0], match.pattern, title=titles[0])
    right = plot_pattern(axes[1], match.turned, title=titles[1])
    right.set_norm(left.norm)
    limit = np.nanpercentile(np.abs(match.difference), 99.5)
    shown = axes[2].imshow(match.difference, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].figure.colorbar(shown, ax=axes[2], shrink=0.85)
    axes[2].set(title="√pattern − √template")
    for ax in axes:
        ax.set_axis_off()


def plot_rank_agreement(
    ax: Axes,
    agreement: "RankAgreement",
    labels: NDArray[np.str_],
    names: tuple[str, str],
) -> None:
    """Plot the rank in one ranking against the rank in the other.

    Parameters
    ----------
    ax
        Where to draw.
    agreement
        From `helpers.ranking.compare_rankings`.
    labels
        (n,) words in the order of the first ranking; "" = no label.
    names
        What the two rankings are called.
    """
    rank = np.arange(1, len(agreement.index) + 1)
    for word, at, colour in select_by_word(labels, len(rank)):
        size = 4 if word == "no label" else 16
        ax.scatter(rank[at], agreement.other_rank[at], size, color=colour, label=word)
    ax.plot([1, len(rank)], [1, len(rank)], color="0.5", linewidth=1)
    ax.set(xlabel=f"rank by {names[0]}", ylabel=f"rank by {names[1]}", aspect="equal")
    show_legend(ax, "lower right")
