"""Draw on a given Axes: patterns, galleries, runs, curves and scores.

Images are shown as recorded, row 0 on top. Bad pixels are grey. Classes have the same
colour everywhere, chosen from colours that colour-blind people tell apart (Okabe and
Ito), and always a word beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

CLASS_COLOURS = {
    "single": "#0072B2",
    "multiple": "#D55E00",
    "other": "#E69F00",
    "blank": "#555555",
    "unsure": "#CC79A7",
}
_BAD = "#8c8c8c"
_GAP = 3  # pixels between the thumbnails of a gallery


def plot_pattern(
    ax: Axes,
    pattern: NDArray[np.floating],
    bad_pixels: NDArray[np.bool_] | None = None,
    *,
    centre: tuple[float, float] | None = None,
    title: str = "",
    unit: str = "",
) -> AxesImage:
    """Show one image on a log scale, with its colour scale.

    Parameters
    ----------
    ax
        Where to draw.
    pattern
        (rows, columns): a pattern or a powder.
    bad_pixels
        (rows, columns) bool, True = left out; drawn grey.
    centre
        (row, column), marked with a cross when given.
    title
        Above the image.
    unit
        Beside the colour scale.
    """
    image = _show_on_log_scale(ax, pattern, bad_pixels)
    ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    if centre is not None:
        ax.plot(centre[1], centre[0], "+", color="#D55E00", markersize=16)
    ax.set(title=title, xlabel="column", ylabel="row")
    return image


def plot_gallery(
    ax: Axes,
    patterns: NDArray[np.floating],
    captions: Sequence[str],
    bad_pixels: NDArray[np.bool_] | None = None,
    *,
    columns: int = 8,
    colours: Sequence[str] | None = None,
) -> None:
    """Show many patterns as thumbnails, each on a log scale of its own.

    Parameters
    ----------
    ax
        Where to draw; its frame is removed.
    patterns
        (n, rows, columns).
    captions
        n short texts, drawn under the thumbnails.
    bad_pixels
        (rows, columns) bool, True = left out; drawn grey.
    columns
        Thumbnails in a line.
    colours
        n colours of the captions; black by default.
    """
    ax.set_axis_off()
    if len(patterns) == 0:
        ax.text(0.5, 0.5, "no pattern to show", ha="center", transform=ax.transAxes)
        return
    height, width = patterns.shape[1:]
    step_down, step_right = height + height // 5, width + _GAP
    n_lines = -(-len(patterns) // columns)
    canvas = np.full((n_lines * step_down, columns * step_right, 4), 0.0)
    for k, pattern in enumerate(patterns):
        top, left = k // columns * step_down, k % columns * step_right
        thumbnail = _to_colours(pattern, bad_pixels)
        canvas[top : top + height, left : left + width] = thumbnail
        ax.text(
            left + width / 2,
            top + height + 1,
            captions[k],
            ha="center",
            va="top",
            fontsize=7,
            color=colours[k] if colours is not None else "black",
        )
    ax.imshow(canvas, interpolation="antialiased")


def plot_along_run(
    ax: Axes,
    values: NDArray[np.number],
    *,
    ylabel: str,
    threshold: float | None = None,
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
    _mark_threshold(ax, threshold, horizontal=True)
    ax.set(xlabel="pattern", ylabel=ylabel, yscale="symlog", ylim=(0, None))
    _show_legend(ax, "lower right")


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
    groups = _by_word(labels, len(values))
    bars = [values[keep & chosen] for _, chosen, _ in groups]
    words, colours = [word for word, *_ in groups], [colour for *_, colour in groups]
    if groups:
        ax.hist(bars, list(edges), color=colours, label=words, stacked=True)
    _mark_threshold(ax, threshold, horizontal=False)
    ax.set(xlabel=xlabel, ylabel="patterns", xscale="log" if log_values else "linear")
    _show_legend(ax)


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


def plot_proposed_pixels(
    ax: Axes,
    powder: NDArray[np.floating],
    bad_pixels: NDArray[np.bool_],
    proposed: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Show the powder with each group of proposed bad pixels as coloured squares.

    Parameters
    ----------
    ax
        Where to draw.
    powder
        (rows, columns).
    bad_pixels
        (rows, columns) bool: left out already; drawn grey.
    proposed
        By reason: (rows, columns) bool.
    """
    colours = ("#D55E00", "#56B4E9", "#E69F00")
    _show_on_log_scale(ax, powder, bad_pixels)
    for (reason, chosen), colour in zip(proposed.items(), colours, strict=False):
        row, column = np.nonzero(chosen)
        label = f"{reason}: {len(row):,}"
        ax.scatter(
            column,
            row,
            36,
            marker="s",
            label=label,
            edgecolors=colour,
            facecolors="none",
        )
    ax.legend(loc="upper right")
    ax.set(title=f"grey: {bad_pixels.sum():,} left out already", xlabel="column")


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


def plot_training(ax: Axes, history: Mapping[str, Sequence[float]], name: str) -> None:
    """Plot one figure of merit of training and validation against the epoch.

    Parameters
    ----------
    ax
        Where to draw.
    history
        Keras' history: `name` and `val_` + `name`, one value an epoch.
    name
        "loss" or "accuracy".
    """
    epoch = np.arange(1, len(history[name]) + 1)
    ax.plot(epoch, history[name], "o-", markersize=3, label="training")
    ax.plot(epoch, history[f"val_{name}"], "s-", markersize=3, label="validation")
    ax.set(xlabel="epoch", ylabel=name)
    ax.legend()


def plot_confusion(ax: Axes, counts: NDArray[np.integer], names: Sequence[str]) -> None:
    """Show a confusion matrix: labels down, predictions across, counts in the boxes.

    Parameters
    ----------
    ax
        Where to draw.
    counts
        (classes, classes).
    names
        Of the classes, in that order.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    ticks = range(len(names))
    ax.set_xticks(ticks, names)
    ax.set_yticks(ticks, names)
    ax.set(xlabel="prediction", ylabel="label")


def plot_precision_recall(
    ax: Axes,
    is_single: NDArray[np.bool_],
    probability: NDArray[np.floating],
    *,
    name: str,
) -> None:
    """Plot precision against recall of "single" for every threshold, as a staircase.

    Parameters
    ----------
    ax
        Where to draw.
    is_single
        (n,) bool: the labels.
    probability
        (n,): what the model says of the same patterns.
    name
        For the legend.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_single, probability)
    ax.step(recall, precision, where="post", label=name)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="lower left")


def _show_on_log_scale(
    ax: Axes, pattern: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> AxesImage:
    norm, shown = _on_log_scale(pattern, bad_pixels)
    return ax.imshow(shown, norm=norm, cmap=_colour_map())


def _on_log_scale(
    pattern: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> tuple[LogNorm, NDArray[np.floating]]:
    """Give a scale from half the smallest usual positive value to the brightest pixel.

    What is darker is drawn like the lower end; bad pixels and NaN are masked.
    """
    shown = np.ma.masked_invalid(pattern)
    if bad_pixels is not None:
        shown = np.ma.masked_where(bad_pixels, shown)
    positive = shown.compressed()[shown.compressed() > 0]
    if positive.size == 0:
        return LogNorm(0.5, 1), np.ma.maximum(shown, 0.5)
    low, high = np.percentile(positive, 2), positive.max()
    darkest = max(low / 2, high / 1e5)
    return LogNorm(darkest, high), np.ma.maximum(shown, darkest)


def _colour_map() -> Colormap:
    return colormaps["viridis"].with_extremes(bad=_BAD)


def _to_colours(
    pattern: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> NDArray[np.floating]:
    norm, shown = _on_log_scale(pattern, bad_pixels)
    return np.asarray(_colour_map()(norm(shown)))


def _edges(values: NDArray[np.number], *, log_values: bool) -> NDArray[np.floating]:
    if values.size == 0:
        return np.linspace(0, 1, 2)
    low, high = float(values.min()), float(values.max())
    if log_values:
        return np.geomspace(low, max(high, low * 1.01), 61)
    return np.linspace(low, high if high > low else low + 1, 61)


def _by_word(
    labels: NDArray[np.str_] | None, n: int
) -> list[tuple[str, NDArray[np.bool_], str]]:
    """Give word, patterns and colour of each group that has patterns."""
    if labels is None:
        return [("", np.ones(n, bool), "#0072B2")]
    colours = {"": "#cccccc"} | CLASS_COLOURS
    groups = [(w or "no label", labels == w, c) for w, c in colours.items()]
    return [group for group in groups if group[1].any()]


def _show_legend(ax: Axes, place: Literal["best", "lower right"] = "best") -> None:
    """Show the legend where anything has a name."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc=place)


def _mark_threshold(ax: Axes, threshold: float | None, *, horizontal: bool) -> None:
    if threshold is None:
        return
    line = ax.axhline if horizontal else ax.axvline
    line(threshold, color="#D55E00", linestyle="--", label=f"{threshold:.4g}")
