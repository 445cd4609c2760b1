"""The map of the patterns, in the colours of what is known of them; its clusters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.patterns import Patterns
from helpers.plots.pattern_plots import find_crop, plot_gallery, select_by_word

if TYPE_CHECKING:
    from helpers.pattern_map import Group

CLUSTER_COLOURS = (  # Okabe and Ito; each cluster has its number beside it, too
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
)
NO_COLOUR = "#bbbbbb"
NUMBERS_SHOWN = 25  # clusters that have their number beside them
ROWS_SHOWN = 20
PANELS = 3  # maps side by side
LOG_SPAN = 8  # numbers that differ by more than this factor are shown on a log scale


def colour_clusters(cluster: NDArray[np.integer]) -> list[str]:
    """Return a colour for each cluster number; grey for -1."""
    colours = np.array([*CLUSTER_COLOURS, NO_COLOUR])
    place = np.where(cluster < 0, len(colours) - 1, cluster % len(CLUSTER_COLOURS))
    return [str(colour) for colour in colours[place]]


def show_maps(
    position: NDArray[np.floating],
    cluster: NDArray[np.integer],
    words: NDArray[np.str_] | None = None,
    **numbers: NDArray[np.number],
) -> Figure:
    """Draw the map side by side: by cluster, by label, and by each number.

    Parameters
    ----------
    position
        (n, 2).
    cluster
        (n,), -1 = none.
    words
        (n,) label words; that map is left out where nothing is labelled.
    **numbers
        (n,) each, by the name of what they are; NaN is drawn grey.
    """
    from matplotlib import pyplot as plt  # slow to import

    is_labelled = words is not None and bool((words != "").any())
    n_panels = 1 + is_labelled + len(numbers)
    n_lines = -(-n_panels // PANELS)
    fig, axes = plt.subplots(
        n_lines,
        PANELS,
        figsize=(13, 4.2 * n_lines),
        layout="constrained",
        squeeze=False,
    )
    free = iter(axes.ravel())
    plot_clusters(next(free), position, cluster)
    for name, values in numbers.items():
        plot_on_map(next(free), position, values, name.replace("_", " "))
    if words is not None and is_labelled:
        plot_labels(next(free), position, words)
    for ax in free:
        ax.set_visible(False)
    return fig


def plot_clusters(
    ax: Axes, position: NDArray[np.floating], cluster: NDArray[np.integer]
) -> None:
    """Draw the map by cluster, each with its number in its middle.

    Parameters
    ----------
    ax
        Where to draw.
    position
        (n, 2).
    cluster
        (n,), -1 = none: grey.
    """
    _scatter(ax, position, c=colour_clusters(cluster))
    for number in range(min(int(cluster.max(initial=-1)) + 1, NUMBERS_SHOWN)):
        right, up = np.median(position[cluster == number], axis=0)
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "0.5", "alpha": 0.8}
        ax.text(right, up, str(number), fontsize=8, bbox=box, ha="center")
    _finish(ax, "cluster")


def plot_on_map(
    ax: Axes, position: NDArray[np.floating], values: NDArray[np.number], name: str
) -> None:
    """Draw the map by a number of each pattern; NaN is grey and lies below.

    Parameters
    ----------
    ax
        Where to draw.
    position
        (n, 2).
    values
        (n,).
    name
        What the number is.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    _scatter(ax, position[~known], c=NO_COLOUR)
    low, high = np.percentile(values[known], [1, 99]) if known.any() else (0.0, 1.0)
    is_wide = low > 0 and high / low > LOG_SPAN
    norm = LogNorm(low, high) if is_wide else Normalize(low, high)
    # what is rare lies on top: those far from the usual value
    rank = np.abs(values[known] - np.median(values[known])) if known.any() else []
    order = np.flatnonzero(known)[np.argsort(rank, kind="stable")]
    points = _scatter(ax, position[order], c=values[order], norm=norm, cmap="viridis")
    ax.figure.colorbar(points, ax=ax, shrink=0.8)
    _finish(ax, name)


def plot_labels(
    ax: Axes, position: NDArray[np.floating], words: NDArray[np.str_]
) -> None:
    """Draw the map by label, what has none in pale grey below.

    Parameters
    ----------
    ax
        Where to draw.
    position
        (n, 2).
    words
        (n,) label words, "" = none.
    """
    for name, chosen, colour in select_by_word(words, len(words)):
        size = 1.0 if name == "no label" else 3.0
        _scatter(ax, position[chosen], size, c=colour, label=name)
    ax.legend(fontsize=8, markerscale=2)
    _finish(ax, "label")


def _scatter(
    ax: Axes, position: NDArray[np.floating], larger: float = 1.0, **how: Any
) -> PathCollection:
    size = larger * float(np.clip(20_000 / max(len(position), 1), 2, 20))
    right, up = position.T
    return ax.scatter(right, up, s=size, linewidths=0, rasterized=True, **how)


def _finish(ax: Axes, title: str) -> None:
    ax.set(title=title, xticks=[], yticks=[])  # the axes of the map mean nothing
    ax.set_aspect("equal", adjustable="datalim")


def show_groups(
    patterns: Patterns, groups: Sequence["Group"], n_shown: int = 8
) -> Figure:
    """Draw a line for each cluster: its powder, its middle, and its edge.

    Parameters
    ----------
    patterns
        The stack.
    groups
        From `helpers.pattern_map.find_groups`; the first 20 are drawn.
    n_shown
        Patterns of each, half from its middle and half from its edge.
    """
    from matplotlib import pyplot as plt  # slow to import

    shown = list(groups)[:ROWS_SHOWN]
    rows, columns = find_crop(patterns)
    shape = rows.stop - rows.start, columns.stop - columns.start
    height = 0.35 + 12.5 / (n_shown + 1) * 1.2 * shape[0] / shape[1]
    fig, axes = plt.subplots(
        max(1, len(shown)),
        figsize=(13, height * max(1, len(shown))),
        layout="constrained",
        squeeze=False,
    )
    for ax, group in zip(axes[:, 0], shown, strict=False):
        index = group.pick(n_shown)
        cut = [group.powder[rows, columns], *patterns[index][:, rows, columns]]
        plot_gallery(
            ax,
            np.array(cut),
            ["powder", *(f"{i:,}" for i in index)],
            patterns.bad_pixels[rows, columns],
            columns=n_shown + 1,
        )
        ax.set_title(_say(group), fontsize=9, loc="left")
    return fig


def _say(group: "Group") -> str:
    known: Mapping[str, float] = group.share
    shares = ", ".join(f"{share:.0%} {word}" for word, share in known.items() if share)
    name = f"cluster {group.name}" if group.cluster >= 0 else "in no cluster"
    parts = [name, f"{group.index.size:,} patterns", f"{group.photons:,.4g} photons"]
    if np.isfinite(group.size):
        parts.append(f"size {group.size:.1f}")
    if shares:
        parts.append(f"{group.n_labels:,} labels: {shares}")
    return " · ".join(parts)
