"""How the training went, and what the network is worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray


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
    ax
        Where to draw.
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
    ax
        Where to draw.
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
