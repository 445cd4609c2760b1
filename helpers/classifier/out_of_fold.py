"""What a network says of labelled patterns that it has not learnt from."""

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import fit_calibration
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.classifier.logistic_head import fit_exactly
from helpers.classifier.network import Network
from helpers.classifier.split import Split, is_labelled, is_single
from helpers.classifier.trained_model import TrainedModel
from helpers.classifier.training import read_inputs
from helpers.patterns import Patterns


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


def forget_learnt(
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
    unseen = probability.copy()
    if model.network.fit != "exact":
        unseen[split.training] = np.nan
        return unseen
    learnt = np.concatenate([split.training, split.validation])
    raw = _unseen_outputs(patterns, learnt, is_single(words[learnt]), model.network)
    unseen[learnt] = model.calibration.apply(raw)
    return unseen


def exact_network(patterns: Patterns, model: TrainedModel) -> Network:
    """Return the model's network, or the invariant one in place of a slow one."""
    if model.network.fit == "exact":
        return model.network
    return InvariantNetwork.for_patterns(patterns)


def _unseen_outputs(
    patterns: Patterns,
    index: NDArray[np.int64],
    single: NDArray[np.bool_],
    network: Network,
) -> NDArray[np.float32]:
    inputs = read_inputs(patterns, index, network)
    return fit_exactly(network.make_model(), inputs, single)
