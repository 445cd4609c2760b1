"""Where two opinions differ: labels, network and ranking."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.ranking import Ranking


class Doubts(NamedTuple):
    """Labelled patterns, the most doubtful label first.

    Attributes
    ----------
    pattern
        (m,) int64: pattern indices.
    doubt
        (m,) float64: probability that the label is wrong, as to single or not.
    """

    pattern: NDArray[np.int64]
    doubt: NDArray[np.float64]


def rank_doubtful_labels(
    words: NDArray[np.str_], unseen: NDArray[np.float32]
) -> Doubts:
    """Sort the labels by how far networks that did not know them disagree.

    Only single against the rest is looked at: "multiple" for "other" does not show.

    Parameters
    ----------
    words
        (n,) label words.
    unseen
        (n,) float32: probability of a single hit from `cross_validate`, NaN = none.

    References
    ----------
    Northcutt, Jiang and Chuang, J. Artif. Intell. Res. 70, 1373 (2021),
    doi 10.1613/jair.1.12125, section 3 (ranking by the probability of the given label).
    """
    pattern = np.flatnonzero(np.isfinite(unseen))
    given = unseen[pattern].astype(np.float64)
    doubt = np.where(words[pattern] == "single", 1 - given, given)
    order = np.argsort(-doubt, kind="stable")
    return Doubts(pattern[order], doubt[order])


def compare_with_ranking(
    probability: NDArray[np.float32], ranking: Ranking
) -> NDArray[np.float64]:
    """Say how far the network departs from what the ranking lets expect.

    At each place of the ranking a certain probability is usual: the falling curve that
    fits the network's probabilities best (isotonic regression).

    Parameters
    ----------
    probability
        (n,) float32: of a single hit.
    ranking
        Of the same stack.

    Returns
    -------
    ndarray
        (n,) float64: the probability less the usual one. Near 1 the network alone takes
        the pattern for a single hit, near -1 the ranking alone does. NaN = not ranked,
        being a template.
    """
    from sklearn.isotonic import isotonic_regression

    ranked = probability[ranking.index].astype(np.float64)
    difference = np.full(len(probability), np.nan)
    usual = isotonic_regression(ranked, increasing=False) if len(ranked) else ranked
    difference[ranking.index] = ranked - usual
    return difference
