"""What speaks for and against a selection, a label, a single pattern."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from helpers.plots.pattern_plots import mark_threshold, show_legend

TAKEN, LEFT = "#0072B2", "#D55E00"
N_BINS = 40
WEAK = 1.0  # log odds: what is less stays pale


def plot_taken_and_left(
    ax: Axes,
    values: NDArray[np.floating],
    taken: NDArray[np.bool_],
    *,
    xlabel: str,
    threshold: float | None = None,
    log_values: bool = False,
) -> None:
    """Plot how often each value occurs among patterns taken and among those left.

    Each histogram is scaled to an area of its own number of patterns in percent, so
    that a small selection can be compared with a large rest.

    Parameters
    ----------
    ax
        Where to draw.
    values
        (m,): one value per pattern; NaN is left out.
    taken
        (m,) bool.
    xlabel
        What the values are, with the unit.
    threshold
        Drawn as a line when given.
    log_values
        Whether bins grow in proportion; values of 0 or less are then left out.
    """
    keep = np.isfinite(values) & ((values > 0) | (not log_values))
    bins = _make_bins(values[keep], log_values=log_values)
    for some, colour, name in ((taken, TAKEN, "taken"), (~taken, LEFT, "left")):
        chosen = values[keep & some]
        share = np.full(chosen.size, 100 / max(chosen.size, 1))
        ax.hist(chosen, bins, weights=share, color=colour, histtype="step", label=name)
    mark_threshold(ax, threshold, horizontal=False)
    ax.set(xlabel=xlabel, ylabel="patterns (%)")
    if log_values:
        _mark_decades(ax, bins)
    show_legend(ax)


def plot_way(ax: Axes, steps: Mapping[str, int]) -> None:
    """Draw how many patterns are left at each step, from all of them to those taken.

    Parameters
    ----------
    ax
        Where to draw.
    steps
        Number of patterns by the name of the step, the first one all of them.
    """
    names, counts = [*steps], [*steps.values()]
    n_all = max(counts[0], 1)
    places = range(len(names))
    ax.barh(places, counts, height=0.7, color=TAKEN)
    for place, count in zip(places, counts, strict=True):
        text = f" {count:,} ({count / n_all:.1%})"
        ax.text(count, place, text, va="center", ha="left")
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * n_all)
    ax.set_xlabel("patterns")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def plot_saliency(
    ax: Axes, values: NDArray[np.floating], *, title: str, in_separations: bool = False
) -> None:
    """Show what speaks for (blue) and against (red) a single hit.

    Parameters
    ----------
    ax
        Where to draw.
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


def plot_patterson(
    ax: Axes, patterson: NDArray[np.floating], *, title: str, chance_level: float = 5.0
) -> None:
    """Show a Patterson map, separation 0 in the middle.

    Parameters
    ----------
    ax
        Where to draw.
    patterson
        (size, size), in units of its noise.
    title
        Above the image.
    chance_level
        What noise hardly exceeds; the colours reach three times as far.
    """
    image = ax.imshow(
        patterson,
        cmap="viridis",
        vmin=0,
        vmax=3 * chance_level,
        extent=_separation_extent(len(patterson)),
    )
    ax.figure.colorbar(image, ax=ax, label="in units of the noise", shrink=0.85)
    ax.set(title=title, xlabel="separation (steps)")


def plot_purity_curve(
    ax: Axes,
    number: NDArray[np.number],
    purity: NDArray[np.floating],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    *,
    chosen: int | None = None,
) -> None:
    """Plot how pure a selection is against how many patterns it has.

    Parameters
    ----------
    ax
        Where to draw.
    number
        (k,): patterns taken.
    purity, low, high
        (k,): expected share of single hits, and its interval.
    chosen
        A number that is marked when given.
    """
    ax.plot(number, purity, color=TAKEN, label="expected")
    ax.fill_between(number, low, high, color=TAKEN, alpha=0.2, label="95 % interval")
    if chosen is not None:
        ax.axvline(chosen, color=LEFT, linestyle="--", label=f"{chosen:,} patterns")
    lowest = max(float(low.min(initial=1)) - 0.05, 0)
    ax.set(xlabel="patterns taken", ylabel="purity", ylim=(lowest, 1.005))
    show_legend(ax)


def _mark_decades(ax: Axes, bins: list[float]) -> None:
    """Make the axis logarithmic, with numbers that do not run into each other."""
    few = bins[-1] < 100 * bins[0]
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _separation_extent(size: int) -> tuple[float, float, float, float]:
    """Return the extent of a map with separation 0 at [size / 2, size / 2]."""
    half = size / 2 + 0.5
    return (-half, half - 1, half - 1, -half)


def _make_bins(values: NDArray[np.floating], *, log_values: bool) -> list[float]:
    if values.size == 0:
        return [0.0, 1.0]
    low, high = (float(edge) for edge in (values.min(), values.max()))
    if log_values:
        return list(np.geomspace(low, max(high, low * 1.01), N_BINS + 1))
    return list(np.linspace(low, high if high > low else low + 1, N_BINS + 1))
