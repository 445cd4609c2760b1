"""Whether more labels would still change anything."""

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.audit import Share
from helpers.classifier.calibration import choose_threshold, fit_calibration_in_stack
from helpers.classifier.logistic_head import fit_exactly
from helpers.classifier.network import Network
from helpers.classifier.out_of_fold import exact_network
from helpers.classifier.split import is_labelled, is_single
from helpers.classifier.trained_model import TrainedModel, predict_inputs
from helpers.classifier.training import read_inputs
from helpers.patterns import Patterns

N_LOOKED_AT = 1000
N_HALVES = 6


def measure_change(
    patterns: Patterns, words: NDArray[np.str_], model: TrainedModel, seed: int = 0
) -> float:
    """Return which share of the stack half as many labels would judge differently.

    Networks are taught by random halves of the labels and compared with one that is
    taught by all of them, on at most 1,000 patterns without a label (NaN where there
    are none), which also help to calibrate. The next doubling changes less than the
    last one did, since the network has settled further by then. The invariant network
    takes the place of one that learns by gradient descent.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words; at least four of each class.
    model
        The trained model; only the kind of its network matters.
    seed
        Of the halves.

    References
    ----------
    Bloodgood and Vijay-Shanker, CoNLL (2009) 39, section 3 (to stop when the
    predictions have settled), https://aclanthology.org/W09-1107.
    """
    rng = np.random.default_rng(seed)
    others = rng.permutation(np.flatnonzero(words == ""))[:N_LOOKED_AT]
    if others.size == 0:
        return float("nan")
    network = exact_network(patterns, model)
    labelled = np.flatnonzero(is_labelled(words))
    single = is_single(words[labelled])
    inputs = read_inputs(patterns, labelled, network)
    looked_at = read_inputs(patterns, others, network)
    full = _judge(network, inputs, single, looked_at)
    halves = [_draw_half(single, rng) for _ in range(N_HALVES)]
    changed = [
        np.mean(_judge(network, inputs[half], single[half], looked_at) != full)
        for half in halves
    ]
    return float(np.mean(changed))


def advise(change: float, purity: Share, n_labels: int) -> str:
    """Say in plain words whether more labels would pay.

    Parameters
    ----------
    change
        From `measure_change`.
    purity
        Of the selection, from an audit or a test set.
    n_labels
        How many labels there are.
    """
    if np.isnan(change):
        return "Every pattern has a label: there is nothing more to ask for."
    known = f"purity is known to ±{purity.half_width:.1%}"
    effect = (
        f"With {n_labels // 2:,} labels instead of {n_labels:,} the network would "
        f"judge {change:.1%} of the patterns differently"
    )
    if change > purity.half_width:
        return f"{effect}, while {known}: label more, it still pays."
    return (
        f"{effect}, and {known}: what more labels change would not show in it. "
        "To know the purity better, label patterns of the audit alone (audit_share=1)."
    )


def _judge(
    network: Network,
    inputs: NDArray[np.float32],
    single: NDArray[np.bool_],
    looked_at: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Teach a network and let it say which of some patterns are single, (m,) bool."""
    keras_model = network.make_model()
    unseen = fit_exactly(keras_model, inputs, single)
    raw = predict_inputs(keras_model, looked_at)
    calibration = fit_calibration_in_stack(unseen, single, raw)
    threshold = choose_threshold(calibration.apply(unseen), single)
    return calibration.apply(raw) >= threshold


def _draw_half(
    single: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return half of each class, two at least."""
    classes = (np.flatnonzero(single), np.flatnonzero(~single))
    return np.concatenate(
        [rng.permutation(some)[: max(len(some) // 2, 2)] for some in classes]
    )
