"""What a network says of labelled patterns that it has not learnt from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import fit_calibration
from helpers.classifier.fitting import fit_logistic_head
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.classifier.network import Network
from helpers.classifier.split import Split, is_labelled, is_single
from helpers.classifier.trained_model import TrainedModel
from helpers.classifier.training import read_inputs
from helpers.patterns import Patterns
from helpers.ranking import Ranking


def cross_validate(
    patterns: Patterns, words: NDArray[np.str_], model: TrainedModel
) -> NDArray[np.float32]:
    """Ask of each labelled pattern a network that was taught by the others.

    Cross-validation: each pattern is judged by a network that most of the labels have
    taught, this one not among them. A network that learns by gradient descent would
    need many long trainings, so its place is taken by the invariant network.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words; "" and "unsure" are left out.
    model
        The trained model; only the kind of its network matters.

    Returns
    -------
    ndarray
        (n,) float32: calibrated probability of a single hit; NaN = no label.
    """
    labelled = np.flatnonzero(is_labelled(words))
    single = is_single(words[labelled])
    raw = _unseen_outputs(patterns, labelled, single, exact_network(patterns, model))
    probability = np.full(len(patterns), np.nan, np.float32)
    probability[labelled] = fit_calibration(raw, single).apply(raw)
    return probability


def substitute_out_of_fold(
    patterns: Patterns,
    model: TrainedModel,
    split: Split,
    words: NDArray[np.str_],
    probability: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Replace what a model says of patterns that taught it.

    Where the weights are computed exactly, by what cross-validation says of them, as in
    the training; the patterns of a training by gradient descent are left out, which
    does no harm to an average, since they were drawn at random.

    Parameters
    ----------
    patterns
        The stack.
    model
        The trained model.
    split, words
        What it was trained with, from `read_partition`.
    probability
        (n,) float32: what the model says of every pattern.

    Returns
    -------
    ndarray
        (n,) float32, NaN = left out.
    """
    out_of_fold = probability.copy()
    if not model.network.is_solved:
        out_of_fold[split.training] = np.nan
        return out_of_fold
    learnt = np.concatenate([split.training, split.validation])
    raw = _unseen_outputs(patterns, learnt, is_single(words[learnt]), model.network)
    out_of_fold[learnt] = model.calibration.apply(raw)
    return out_of_fold


def exact_network(patterns: Patterns, model: TrainedModel) -> Network:
    """Return the model's network, or the invariant one in place of a slow one."""
    if model.network.is_solved:
        return model.network
    return InvariantNetwork.for_patterns(patterns)


def _unseen_outputs(
    patterns: Patterns,
    index: NDArray[np.int64],
    single: NDArray[np.bool_],
    network: Network,
) -> NDArray[np.float32]:
    inputs = read_inputs(patterns, index, network)
    return fit_logistic_head(network.build(), inputs, single)


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
    words: NDArray[np.str_], out_of_fold: NDArray[np.float32]
) -> Doubts:
    """Sort the labels by how far networks that did not know them disagree.

    Only single against the rest is looked at: "multiple" for "other" does not show.

    Parameters
    ----------
    words
        (n,) label words.
    out_of_fold
        (n,) float32: probability of a single hit from `cross_validate`, NaN = none.

    References
    ----------
    Northcutt, Jiang and Chuang, J. Artif. Intell. Res. 70, 1373 (2021),
    doi 10.1613/jair.1.12125, section 3 (ranking by the probability of the given label).
    """
    pattern = np.flatnonzero(np.isfinite(out_of_fold))
    given = out_of_fold[pattern].astype(np.float64)
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
