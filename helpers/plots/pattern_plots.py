"""Pictures of patterns: one, or many side by side; and the colours of the classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from helpers.patterns import Patterns, UnclearMask
from helpers.physics import flatten_patterns

if TYPE_CHECKING:
    from helpers.pattern_map import Group
    from helpers.ranking import Match

# Okabe and Ito
BLUE, SKY_BLUE, GREEN = "#0072B2", "#56B4E9", "#009E73"
VERMILION, ORANGE, YELLOW, PURPLE = "#D55E00", "#E69F00", "#F0E442", "#CC79A7"
CLASS_COLOURS = {
    "single": BLUE,
    "multiple": VERMILION,
    "other": ORANGE,
    "blank": "#555555",
    "unsure": PURPLE,
}


def select_by_word(
    labels: NDArray[np.str_],
) -> list[tuple[str, NDArray[np.bool_], str]]:
    """Give word, patterns and colour of each group that has patterns."""
    colours = {"": "#cccccc"} | CLASS_COLOURS
    groups = [(w or "no label", labels == w, c) for w, c in colours.items()]
    return [group for group in groups if group[1].any()]


def format_number(value: float) -> str:
    """Return a number as people read it: 27,740 or 0.932."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def show_legend(ax: Axes, place: Literal["best", "lower right"] = "best") -> None:
    """Show the legend where anything has a name."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc=place)


def mark_threshold(ax: Axes, threshold: float | None, *, horizontal: bool) -> None:
    """Draw the threshold as a dashed line, if there is one."""
    if threshold is None:
        return
    line = ax.axhline if horizontal else ax.axvline
    line(threshold, color=VERMILION, linestyle="--", label=f"{threshold:.4g}")


_COLOUR_MAP = colormaps["viridis"].with_extremes(bad="#8c8c8c")
CROP_SAMPLE = 64  # patterns that say where the signal is
SIGNAL_SHOWN = 0.99  # share of it in the square that galleries show
LEAST_CROP = 16  # pixels from its middle to its edge
MOST_OF_MEAN = 4.0  # times the mean of a ring: what is brighter is drawn as this
ROWS_SHOWN = 20  # clusters
COLUMNS = 6  # thumbnails in a line of a gallery
_REASONS = (VERMILION, SKY_BLUE, ORANGE, PURPLE, YELLOW, BLUE, "white")
Crop = tuple[slice, slice]
WEAK = 1.0  # log odds of a single hit: what is less stays pale
BRIGHTEST_PATTERSON = 15.0  # in units of its noise, which hardly exceeds 5
_FEW = 200  # pixels that each get a square
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
        ax.plot(centre[1], centre[0], "+", color=VERMILION, markersize=16)
    ax.set(title=title, xlabel="column", ylabel="row")
    return image


def plot_gallery(
    ax: Axes,
    patterns: NDArray[np.floating],
    captions: Sequence[str],
    bad_pixels: NDArray[np.bool_] | None = None,
    *,
    columns: int = COLUMNS,
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
        norm, shown = _on_log_scale(pattern, bad_pixels)
        thumbnail = _COLOUR_MAP(norm(shown))
        canvas[top : top + height, left : left + width] = thumbnail
        ax.text(
            left + width / 2,
            top + height + 1,
            captions[k],
            ha="center",
            va="top",
            fontsize=9,
            color=colours[k] if colours else "black",
        )
    ax.imshow(canvas, interpolation="antialiased")


def show_patterns(
    patterns: Patterns,
    index: ArrayLike,
    caption: str = "",
    *,
    labels: NDArray[np.str_] | None = None,
    flatten_about: tuple[float, float] | None = None,
    figure: Figure | None = None,
    **values: ArrayLike,
) -> Figure:
    """Draw a gallery of some patterns of a stack, in a figure of its own.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    index
        (m,) which of them, in the order in which they are shown.
    caption
        What stands under each beside its index: a format such as `"{distance:.3f}"`
        of the names in `values`.
    labels
        (n,) label words, whose colours the captions get; black without a label.
    flatten_about
        (row, column) of the beam: each pattern is divided by its mean at each radius,
        so that fringes stand out far out, too. As it is without.
    figure
        An empty one, which gets its size here; one of pyplot when not given.
    **values
        (n,) each: numbers or texts of the patterns.
    """
    from matplotlib import pyplot as plt  # slow to import

    shown = np.asarray(index, dtype=np.int64)
    arrays = {name: np.asarray(each) for name, each in values.items()}
    texts = [caption.format(**{k: v[i] for k, v in arrays.items()}) for i in shown]
    captions = [
        " · ".join(filter(None, (f"{i:,}", text)))
        for i, text in zip(shown, texts, strict=True)
    ]
    colours = None
    if labels is not None:
        colours = [CLASS_COLOURS.get(str(word), "black") for word in labels[shown]]
    rows, columns = find_crop(patterns)
    drawn = patterns[shown]
    if flatten_about is not None:
        flat = flatten_patterns(drawn, flatten_about, patterns.bad_pixels)
        drawn = np.clip(np.nan_to_num(flat), 0, MOST_OF_MEAN).astype(np.float32)
    cut = drawn[:, rows, columns]
    bad_pixels = patterns.bad_pixels[rows, columns]
    n_lines = max(1, -(-shown.size // COLUMNS))
    height = n_lines * (0.3 + 12 / COLUMNS * min(2.0, cut.shape[1] / cut.shape[2]))
    fig = plt.figure(layout="constrained") if figure is None else figure
    fig.set_size_inches(12, height)
    ax = fig.subplots()
    plot_gallery(ax, cut, captions, bad_pixels, colours=colours)
    ax.set_title(describe_crop(patterns), fontsize=8, color="0.4", loc="left")
    if flatten_about is not None:
        said = "divided by the mean at each radius"
        ax.set_title(said, fontsize=8, color="0.4", loc="right")
    return fig


_CROPS: WeakKeyDictionary[Patterns, Crop] = WeakKeyDictionary()


def find_crop(patterns: Patterns) -> Crop:
    """Find the square about the beam that holds nearly all signal, the same for all.

    Signal is what the mean of patterns spread over the stack has above its level far
    out. Patterns are read for it once.

    Parameters
    ----------
    patterns
        The stack.

    Returns
    -------
    rows, columns
        All of them where the signal reaches to the rim.
    """
    if patterns not in _CROPS:
        _CROPS[patterns] = _find_crop(patterns)
    return _CROPS[patterns]


def describe_crop(patterns: Patterns) -> str:
    """Say which part of the patterns is shown; "" where all is."""
    rows, columns = find_crop(patterns)
    whole = patterns.shape[1:]
    if (rows.stop - rows.start, columns.stop - columns.start) == whole:
        return ""
    text = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to "
    return text + f"{columns.stop - 1} of {whole[0]} × {whole[1]}, where the signal is"


def _find_crop(patterns: Patterns) -> Crop:
    sample = np.linspace(0, len(patterns) - 1, CROP_SAMPLE).astype(np.int64)
    powder = np.maximum(patterns[np.unique(sample)].mean(axis=0, dtype=np.float64), 0)
    everything = slice(0, powder.shape[0]), slice(0, powder.shape[1])
    if not powder.any():
        return everything
    row, column = (np.average(at, weights=powder) for at in np.indices(powder.shape))
    down, right = np.ogrid[everything]
    far = np.maximum(np.abs(down - row), np.abs(right - column))
    ring = np.rint(far).astype(np.intp)[~patterns.bad_pixels]
    n_pixels = np.bincount(ring)
    sums = np.bincount(ring, powder[~patterns.bad_pixels])
    level = np.median((sums / np.maximum(n_pixels, 1))[-n_pixels.size // 4 :])
    inside = np.cumsum(sums - level * n_pixels)
    reach = int(np.argmax(inside >= SIGNAL_SHOWN * inside[-1]))
    half = max(reach, LEAST_CROP)
    rows, columns = (
        slice(max(0, round(at) - half), min(n, round(at) + half + 1))
        for at, n in zip((row, column), powder.shape, strict=True)
    )
    return rows, columns


def show_unclear_masks(masks: Sequence[UnclearMask]) -> Figure | None:
    """Draw both readings of masks that say not which values mean bad, side by side.

    Parameters
    ----------
    masks
        Of a stack: `patterns.unclear_masks`. Of many only the first is drawn.
    """
    from matplotlib import pyplot as plt  # slow to import

    if not masks:
        return None
    mask = masks[0]
    fig, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    readings = {"!= 0": mask.not_zero, "== 0": ~mask.not_zero}
    for ax, (condition, bad_pixels) in zip(axes, readings.items(), strict=True):
        how = "taken for bad" if condition == mask.taken else "would be bad"
        title = f"values {condition} {how}, {bad_pixels.mean():.1%} of the pixels"
        plot_pattern(ax, mask.powder, bad_pixels, title=title)
    fig.suptitle(mask.name)
    return fig


def plot_proposed_pixels(
    ax: Axes,
    powder: NDArray[np.floating],
    bad_pixels: NDArray[np.bool_],
    proposed: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Show the powder, and proposed bad pixels over it in a colour for each reason.

    Single pixels would hardly be seen: there is a square around each, as long as there
    are few. The scale is that of the other pixels.

    Parameters
    ----------
    powder
        (rows, columns).
    bad_pixels
        (rows, columns) bool: left out already; drawn grey.
    proposed
        By reason: (rows, columns) bool.
    """
    hidden = np.any([bad_pixels, *proposed.values()], axis=0)
    _show_on_log_scale(ax, powder, hidden)
    for (reason, chosen), colour in zip(proposed.items(), _REASONS, strict=False):
        over = np.zeros((*chosen.shape, 4))
        over[chosen] = to_rgba(colour)
        ax.imshow(over)
        row, column = np.nonzero(chosen)
        if len(row) <= _FEW:
            ax.scatter(column, row, 36, marker="s", ec=colour, fc="none")
        label = f"{reason}: {len(row):,}"
        ax.scatter([], [], 36, colour, marker="s", label=label)
    if proposed:
        ax.legend(loc="upper right")
    ax.set(title=f"grey: {bad_pixels.sum():,} left out already", xlabel="column")


def _show_on_log_scale(
    ax: Axes, pattern: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> AxesImage:
    norm, shown = _on_log_scale(pattern, bad_pixels)
    return ax.imshow(shown, norm=norm, cmap=_COLOUR_MAP)


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


def plot_saliency(
    ax: Axes, values: NDArray[np.floating], *, title: str, in_separations: bool = False
) -> None:
    """Show what speaks for (blue) and against (red) a single hit.

    Parameters
    ----------
    values
        (rows, columns): change of the log odds; NaN is white.
    title
        Above the image.
    in_separations
        True for a map of separations, with 0 at [rows / 2, columns / 2].
    """
    finite = np.abs(values[np.isfinite(values)])
    most = max(float(finite.max(initial=0)), WEAK)
    extent = _separation_extent(len(values)) if in_separations else None
    image = ax.imshow(values, cmap="RdBu", vmin=-most, vmax=most, extent=extent)
    ax.figure.colorbar(image, ax=ax, label="log odds of a single hit", shrink=0.85)
    names = ("separation (steps)", "") if in_separations else ("column", "row")
    ax.set(title=title, xlabel=names[0], ylabel=names[1])


def plot_patterson(ax: Axes, patterson: NDArray[np.floating], *, title: str) -> None:
    """Show a Patterson map, separation 0 in the middle.

    Parameters
    ----------
    patterson
        (size, size), in units of its noise.
    title
        Above the image.
    """
    extent = _separation_extent(len(patterson))
    image = ax.imshow(
        patterson, cmap="viridis", vmin=0, vmax=BRIGHTEST_PATTERSON, extent=extent
    )
    ax.figure.colorbar(image, ax=ax, label="in units of the noise", shrink=0.85)
    ax.set(title=title, xlabel="separation (steps)")


def _separation_extent(size: int) -> tuple[float, float, float, float]:
    """Return the extent of a map with separation 0 at [size / 2, size / 2]."""
    half = size / 2 + 0.5
    return (-half, half - 1, half - 1, -half)


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


def plot_confusion(ax: Axes, counts: NDArray[np.integer], names: Sequence[str]) -> None:
    """Show a confusion matrix: labels down, predictions across, counts in the boxes.

    Parameters
    ----------
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
        ax.set_title(_describe_group(group), fontsize=9, loc="left")
    return fig


def _describe_group(group: "Group") -> str:
    shares = ", ".join(f"{n:.0%} {word}" for word, n in group.share.items() if n)
    name = f"cluster {group.name}" if group.cluster >= 0 else "in no cluster"
    parts = [
        name,
        f"{group.index.size:,} patterns",
        f"{format_number(group.photons)} photons",
    ]
    if np.isfinite(group.size):
        parts.append(f"size {group.size:.1f}")
    if shares:
        parts.append(f"{group.n_labels:,} labels: {shares}")
    return " · ".join(parts)
