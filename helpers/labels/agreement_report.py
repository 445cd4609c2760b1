"""How reliable the labels of a store are, in sentences."""

from itertools import combinations, starmap

import numpy as np
from numpy.typing import NDArray

from helpers.labels.agreement import (
    SelfAgreement,
    cohen_kappa,
    compare_repeats,
    disagreements,
    fleiss_kappa,
)
from helpers.labels.store import LabelStore

MOST_LISTED = 20


def self_consistency(store: LabelStore, labeller: str) -> SelfAgreement:
    """Compare what a labeller said of patterns that came back blind, and before.

    Parameters
    ----------
    store
        An open store.
    labeller
        Who.
    """
    return compare_repeats(labeller, store.history(labeller=labeller))


def describe_agreement(store: LabelStore) -> str:
    """Say how far the labellers of a store agree with each other, and where not.

    Parameters
    ----------
    store
        An open store.

    Returns
    -------
        Sentences: Cohen's kappa of each two, Fleiss' kappa of more than two, and the
        patterns that got different words.
    """
    names, votes = store.labellers(), store.votes()
    if len(names) < 2:
        return (
            "Agreement between labellers: nothing yet, because labels of "
            f"{'one labeller' if names else 'nobody'} are in the store."
        )
    columns = dict(zip(names, votes.T, strict=True))
    lines = list(starmap(_describe_pair, combinations(columns.items(), 2)))
    if len(names) > 2:
        lines.append(f"All {len(names)}: Fleiss' kappa {_say(fleiss_kappa(votes))}.")
    different = disagreements(votes)
    lines.append(f"Different words: {_say_patterns(different)}.")
    return "\n".join(lines)


def describe_repeats(store: LabelStore, labeller: str) -> str:
    """Say how far a labeller agrees with oneself, and where not.

    Parameters
    ----------
    store
        An open store.
    labeller
        Who.
    """
    repeats = self_consistency(store, labeller)
    head = f"Agreement of {labeller} with oneself:"
    n = repeats.pattern.size
    if n == 0:
        return f"{head} nothing yet, because no pattern has come back, blind."
    same = repeats.same
    return (
        f"{head} {same.n_counted} of {n} blind repeats got the same word, "
        f"{same.value:.0%} ({_say_interval(same.interval)}).\n"
        f"Cohen's kappa {_say(repeats.kappa)} "
        f"({_say_interval(repeats.kappa_interval)}).\n"
        f"Another word the second time: {_say_patterns(repeats.changed)}."
    )


def _describe_pair(
    one: tuple[str, NDArray[np.str_]], other: tuple[str, NDArray[np.str_]]
) -> str:
    (first, words), (second, others) = one, other
    both = (words != "") & (others != "")
    n, n_same = both.sum(), (both & (words == others)).sum()
    if n == 0:
        return f"{first} and {second}: no pattern in common."
    return (
        f"{first} and {second}: {n_same} of {n} patterns alike, Cohen's kappa "
        f"{_say(cohen_kappa(words, others))}."
    )


def _say(kappa: float) -> str:
    return "not defined (one word throughout)" if np.isnan(kappa) else f"{kappa:.2f}"


def _say_interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "no interval" if np.isnan(low) else f"95 % interval {low:.2f} to {high:.2f}"


def _say_patterns(patterns: NDArray[np.int64]) -> str:
    if patterns.size == 0:
        return "none"
    listed = ", ".join(map(str, patterns[:MOST_LISTED]))
    more = patterns.size - MOST_LISTED
    return f"patterns {listed}" + (f" and {more} more" if more > 0 else "")
