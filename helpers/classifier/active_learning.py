"""Which labels would teach the network most, and which would judge it."""

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.backend import import_keras
from helpers.classifier.trained_model import TrainedModel
from helpers.classifier.training import BATCH, read_inputs
from helpers.errors import ParameterError
from helpers.labels import Queue
from helpers.patterns import Patterns

MOST_CANDIDATES = 2000


def choose_next_labels(
    patterns: Patterns,
    model: TrainedModel,
    probability: NDArray[np.float32],
    words: NDArray[np.str_],
    *,
    n_labels: int = 50,
    audit_share: float = 0.2,
) -> Queue:
    """Choose the patterns whose labels are the most useful next.

    The least certain patterns, and of those the ones that stand for the others; see
    `pick_uncertain_and_diverse`. The random audit is mixed in evenly, so that stopping
    early keeps the proportion.

    Parameters
    ----------
    patterns
        The stack.
    model
        The trained model.
    probability
        (n,) float32: what it says of every pattern.
    words
        (n,) label words; patterns with one are not asked for again.
    n_labels
        How many patterns.
    audit_share
        Which part of them is drawn at random, 0 to 1.

    Returns
    -------
    Queue
        Reasons: "audit"; "uncertain" for those that the network is least sure of, and
        "diverse" for those that were taken to be unlike these.

    Raises
    ------
    ParameterError
        If the share is not from 0 to 1, or no number of labels is wanted.
    """
    _check_wanted(n_labels, audit_share)
    order = patterns.shuffled()
    audit = order[words[order] == ""][: round(audit_share * n_labels)]
    open_to_choice = (words == "") & np.isfinite(probability)
    open_to_choice[audit] = False
    candidates = _least_certain(probability, np.flatnonzero(open_to_choice))
    n_wanted = min(n_labels - len(audit), len(candidates))
    if n_wanted == 0:
        return _mix(audit[:0], np.array([], "U9"), audit)
    seen = _last_inputs(patterns, candidates, model)
    picked = pick_uncertain_and_diverse(seen, probability[candidates], n_wanted)
    reasons = np.where(picked < n_wanted, "uncertain", "diverse")
    return _mix(candidates[picked], reasons, audit)


def pick_uncertain_and_diverse(
    seen: NDArray[np.floating], probability: NDArray[np.floating], n: int
) -> NDArray[np.int64]:
    """Pick patterns that are hard to tell and unlike each other.

    The patterns are grouped by k-means, each weighing as much as its label is uncertain
    (the standard deviation of a yes or no of this probability), and the one nearest to
    the middle of each group is taken.

    Parameters
    ----------
    seen
        (m, features): what tells patterns apart.
    probability
        (m,) of a single hit.
    n
        How many to pick, at most m.

    Returns
    -------
    ndarray
        (n,) int64 from 0 to m - 1, ascending.

    References
    ----------
    Zhdanov, Diverse mini-batch active learning (2019), section 3,
    doi 10.48550/arXiv.1901.05954.
    """
    from sklearn.cluster import KMeans

    if n >= len(seen):
        return np.arange(len(seen))
    spread = np.sqrt(probability * (1 - probability)).astype(np.float64)
    groups = KMeans(n, n_init=1, random_state=0)
    apart = groups.fit(seen, sample_weight=spread + 1e-6).transform(seen)
    apart[np.arange(n) != groups.labels_[:, np.newaxis]] = np.inf
    return np.unique(apart.argmin(axis=0))


def _check_wanted(n_labels: int, audit_share: float) -> None:
    if n_labels < 1 or not 0 <= audit_share <= 1:
        message = (
            f"n_labels is {n_labels} and audit_share {audit_share}; expected 1 or more "
            "labels and a share from 0 to 1, for example 50 and 0.2."
        )
        raise ParameterError(message)


def _least_certain(
    probability: NDArray[np.float32], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the patterns that are hardest to tell, the hardest first."""
    distance = np.abs(probability[index] - 0.5)
    return index[np.argsort(distance, kind="stable")[:MOST_CANDIDATES]]


def _last_inputs(
    patterns: Patterns, index: NDArray[np.int64], model: TrainedModel
) -> NDArray[np.float64]:
    """Return what the network's last layer is given, (m, …)."""
    keras_model = model.keras_model
    before = import_keras().Model(keras_model.inputs[0], keras_model.layers[-1].input)
    inputs = read_inputs(patterns, index, model.network)
    batches = [
        np.asarray(before.predict_on_batch(inputs[start : start + BATCH]))
        for start in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(batches)


def _mix(
    chosen: NDArray[np.int64], reasons: NDArray[np.str_], audit: NDArray[np.int64]
) -> Queue:
    """Spread the audit evenly among what was chosen; both keep their order."""
    place = np.concatenate(
        [(np.arange(len(some)) + 0.5) / max(len(some), 1) for some in (chosen, audit)]
    )
    order = np.argsort(place, kind="stable")
    words = np.concatenate([reasons, np.full(len(audit), "audit")])
    return Queue(np.concatenate([chosen, audit])[order], words[order])
