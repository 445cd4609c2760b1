"""Pictures of patterns: one, or many side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.image import AxesImage
from numpy.typing import NDArray

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
    colours = ("#D55E00", "#56B4E9", "#E69F00", "#009E73")
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
