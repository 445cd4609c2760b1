"""Curves, histograms and points: along the run, of scores, of a selection, on a map."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from helpers.plots.pattern_plots import (
    BLUE,
    CLASS_COLOURS,
    GREEN,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    YELLOW,
    mark_threshold,
    select_by_word,
    show_legend,
)

if TYPE_CHECKING:
    from helpers.experiment import PhotonScale
    from helpers.ranking import RankAgreement


SHOWN_PHOTONS = 8.5
TAKEN, LEFT = BLUE, VERMILION
# each cluster has its number beside it, too
CLUSTER_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY_BLUE, VERMILION, YELLOW)
NO_COLOUR = "#bbbbbb"
NUMBERS_SHOWN = 25  # clusters that have their number beside them
PANELS = 3  # maps side by side
LOG_SPAN = 20  # numbers that differ by more than this factor are shown on a log scale
N_MEDIANS = 60  # along a run
N_BINS, FEWER_BINS = 60, 40  # fewer where histograms lie over each other


def plot_along_run(
    ax: Axes, values: NDArray[np.number], *, ylabel: str, threshold: float | None = None
) -> None:
    """Plot one value per pattern along the run, with the median of each 60th of it.

    Parameters
    ----------
    values
        (n,): photons or lit pixels of each pattern, in stack order; NaN is left out.
    ylabel
        What they are, with the unit.
    threshold
        Drawn as a line when given.
    """
    index = np.arange(len(values))
    few = len(values) < 300
    ax.plot(index, values, ".", markersize=6 if few else 2, alpha=0.5, rasterized=True)
    size = len(values) // N_MEDIANS
    if size > 1:
        n = N_MEDIANS * size
        middle = index[:n].reshape(-1, size).mean(axis=1)
        blocks = np.ma.masked_invalid(values[:n]).reshape(-1, size)
        medians = np.ma.median(blocks, axis=1)  # type: ignore[no-untyped-call]
        ax.plot(middle, medians, color="black", label="median")
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
    edges = _bin_edges(values[keep], N_BINS, log_values=log_values)
    everything = [("", np.ones(len(values), bool), BLUE)]
    groups = everything if labels is None else select_by_word(labels)
    bars = [values[keep & chosen] for _, chosen, _ in groups]
    words, colours = [word for word, *_ in groups], [colour for *_, colour in groups]
    if groups:
        ax.hist(bars, edges, color=colours, label=words, stacked=True)
    mark_threshold(ax, threshold, horizontal=False)
    ax.set(xlabel=xlabel, ylabel="patterns", xscale="log" if log_values else "linear")
    show_legend(ax)


def plot_values(ax: Axes, scale: "PhotonScale") -> None:
    """Plot how often each value occurs, with pedestal and photons marked.

    Parameters
    ----------
    scale
        From `find_photon_scale`.
    """
    counts, edges = scale.histogram
    ax.stairs(counts, edges, fill=True, color="0.7")
    gain, pedestal = scale.adu_per_photon, scale.pedestal
    ax.axvline(pedestal, color="tab:blue", label=f"pedestal {pedestal:.4g}")
    high = edges[-1]
    if scale.is_known:
        high = min(high, pedestal + SHOWN_PHOTONS * gain)
        for n in range(1, int(SHOWN_PHOTONS)):
            label = f"photons, {gain:.4g} each" if n == 1 else None
            ax.axvline(pedestal + n * gain, color="tab:red", ls="--", label=label)
    low = max(edges[0], pedestal - max(6 * scale.noise, 0.1 * (high - pedestal)))
    ax.set(xlim=(low, high), xlabel="value in the file", ylabel="how often")
    ax.set_yscale("symlog")
    ax.set_ylim(0, None)
    show_legend(ax)


def plot_radial_averages(
    ax: Axes, averages: Mapping[str, tuple[ArrayLike, ArrayLike]], *, unit: str
) -> None:
    """Plot mean intensity against the distance from the centre, on a log scale.

    Parameters
    ----------
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


def plot_training(ax: Axes, history: Mapping[str, Sequence[float]], name: str) -> None:
    """Plot one figure of merit of training and validation against the epoch.

    Parameters
    ----------
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


def plot_reliability(
    ax: Axes,
    *,
    probability: NDArray[np.floating],
    share: NDArray[np.floating],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    count: NDArray[np.integer],
    name: str,
) -> None:
    """Plot the share of singles against the probability: the diagonal is right.

    Parameters
    ----------
    probability, share
        (bins,): mean probability of the patterns in each bin, and share of singles.
    low, high
        (bins,): interval of that share.
    count
        (bins,): patterns in each bin, written beside the point.
    name
        For the legend.
    """
    ax.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    bars = np.stack([share - low, high - share])
    ax.errorbar(probability, share, bars, fmt="o", markersize=4, capsize=2, label=name)
    for x, y, n in zip(probability, share, count, strict=True):
        ax.annotate(f"{n:,}", (x, y), (6, 0), textcoords="offset points", va="center")
    ax.set(xlabel="probability of a single hit", ylabel="share of single hits")
    ax.set(xlim=(-0.03, 1.06), ylim=(-0.03, 1.03))
    ax.legend(loc="lower right")


def plot_learning_curve(
    ax: Axes,
    n_labels: NDArray[np.integer],
    score: NDArray[np.floating],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
) -> None:
    """Plot the average precision against the number of labels, each double the last.

    Parameters
    ----------
    n_labels
        (sizes,).
    score, low, high
        (sizes,): average precision and its interval.
    """
    bars = np.stack([score - low, high - score])
    ax.errorbar(n_labels, score, bars, fmt="o-", markersize=4, capsize=3)
    ax.set_xscale("log", base=2)
    ax.set_xticks(n_labels, [f"{n:,}" for n in n_labels])
    ax.minorticks_off()
    ax.set(xlabel="labels learnt from", ylabel="average precision", ylim=(None, 1.01))


def plot_distance_curve(
    ax: Axes, distance: NDArray[np.floating], labels: NDArray[np.str_]
) -> None:
    """Plot the distance against the rank and mark the labelled patterns on it.

    Parameters
    ----------
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


def plot_precision_curve(ax: Axes, is_single: NDArray[np.bool_], *, name: str) -> None:
    """Plot which part of the best N is single, against N.

    Parameters
    ----------
    is_single
        (n,) bool, best first.
    name
        For the legend.
    """
    rank = np.arange(1, len(is_single) + 1)
    ax.plot(rank, np.cumsum(is_single) / rank, label=name)
    ax.set(xlabel="N", ylabel="single among the best N", ylim=(0, 1.02))
    ax.legend()


def plot_rank_agreement(
    ax: Axes,
    agreement: "RankAgreement",
    labels: NDArray[np.str_],
    names: tuple[str, str],
) -> None:
    """Plot the rank in one ranking against the rank in the other.

    Parameters
    ----------
    agreement
        From `helpers.ranking.compare_rankings`.
    labels
        (n,) words in the order of the first ranking; "" = no label.
    names
        What the two rankings are called.
    """
    rank = np.arange(1, len(agreement.index) + 1)
    for word, at, colour in select_by_word(labels):
        size = 4 if word == "no label" else 16
        ax.scatter(rank[at], agreement.other_rank[at], size, color=colour, label=word)
    ax.plot([1, len(rank)], [1, len(rank)], color="0.5", linewidth=1)
    ax.set(xlabel=f"rank by {names[0]}", ylabel=f"rank by {names[1]}", aspect="equal")
    show_legend(ax, "lower right")


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
    bins = _bin_edges(values[keep], FEWER_BINS, log_values=log_values)
    for some, colour, name in ((taken, TAKEN, "taken"), (~taken, LEFT, "left")):
        chosen = values[keep & some]
        share = np.full(chosen.size, 100 / max(chosen.size, 1))
        ax.hist(chosen, bins, weights=share, color=colour, histtype="step", label=name)
    mark_threshold(ax, threshold, horizontal=False)
    ax.set(xlabel=xlabel, ylabel="patterns (%)")
    if log_values:
        _mark_decades(ax, bins)
    show_legend(ax)


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
        ax.axvline(chosen, color=LEFT, linestyle="--", label=f"{chosen:,} taken")
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


def _bin_edges(
    values: NDArray[np.number], n_bins: int, *, log_values: bool
) -> list[float]:
    if values.size == 0:
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    if log_values:
        return list(np.geomspace(low, max(high, low * 1.01), n_bins + 1))
    return list(np.linspace(low, high if high > low else low + 1, n_bins + 1))


def plot_way(ax: Axes, steps: Mapping[str, int]) -> None:
    """Draw how many patterns are left at each step, from all of them to those taken.

    Parameters
    ----------
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


def colour_clusters(cluster: NDArray[np.integer]) -> list[str]:
    """Return a colour for each cluster number; grey for -1."""
    colours = np.array([*CLUSTER_COLOURS, NO_COLOUR])
    place = np.where(cluster < 0, len(colours) - 1, cluster % len(CLUSTER_COLOURS))
    return [str(colour) for colour in colours[place]]


def show_maps(
    position: NDArray[np.floating],
    cluster: NDArray[np.integer],
    words: NDArray[np.str_],
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

    is_labelled = bool((words != "").any())
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
    if is_labelled:
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
    _label_map(ax, "cluster")


def plot_on_map(
    ax: Axes, position: NDArray[np.floating], values: NDArray[np.number], name: str
) -> None:
    """Draw the map by a number of each pattern; NaN is grey and lies below.

    Parameters
    ----------
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
    # what is rare lies on top: those far from the usual value
    rank = np.abs(values[known] - np.median(values[known])) if known.any() else []
    order = np.flatnonzero(known)[np.argsort(rank, kind="stable")]
    norm = choose_norm(values)
    points = _scatter(ax, position[order], c=values[order], norm=norm, cmap="viridis")
    ax.figure.colorbar(points, ax=ax, shrink=0.8)
    _label_map(ax, name)


def choose_norm(values: NDArray[np.number]) -> Normalize:
    """Return a scale that all but the most extreme numbers lie on; NaN is left out.

    It is logarithmic where they differ by much. Probabilities are not shown on such a
    one: all that matters of them is near 0 and near 1.
    """
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    is_wide = low > 0 and high > 1 and high / low > LOG_SPAN
    return (LogNorm if is_wide else Normalize)(low, high, clip=True)


def plot_labels(
    ax: Axes, position: NDArray[np.floating], words: NDArray[np.str_]
) -> None:
    """Draw the map by label, what has none in pale grey below.

    Parameters
    ----------
    position
        (n, 2).
    words
        (n,) label words, "" = none.
    """
    for name, chosen, colour in select_by_word(words):
        size = 1.0 if name == "no label" else 3.0
        _scatter(ax, position[chosen], size, c=colour, label=name)
    ax.legend(fontsize=8, markerscale=2)
    _label_map(ax, "label")


def _scatter(
    ax: Axes, position: NDArray[np.floating], larger: float = 1.0, **how: Any
) -> PathCollection:
    size = larger * float(np.clip(20_000 / max(len(position), 1), 2, 20))
    right, up = position.T
    return ax.scatter(right, up, s=size, linewidths=0, rasterized=True, **how)


def _label_map(ax: Axes, title: str) -> None:
    ax.set(title=title, xticks=[], yticks=[])  # the axes of the map mean nothing
    ax.set_aspect("equal", adjustable="datalim")
