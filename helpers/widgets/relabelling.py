"""Where in a list patterns come back, to be labelled again without seeing the label."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# At least so many other patterns are labelled between the first time and the second.
APART = 20


@dataclass(frozen=True, eq=False)
class RepeatPlan:
    """A list of patterns in which some come a second time.

    Attributes
    ----------
    index
        (m,) int64 pattern indices, in the order in which they are shown.
    is_repeat
        (m,) bool: True where a pattern comes back to be labelled blind.
    """

    index: NDArray[np.int64]
    is_repeat: NDArray[np.bool_]


def choose_repeats(
    n_patterns: int, share: float, fingerprint: str, labeller: str
) -> NDArray[np.bool_]:
    """Choose which patterns come back to a labeller; the same ones at every start.

    Parameters
    ----------
    n_patterns
        Length of the stack.
    share
        Share of the labelled patterns that come back, 0 to 1.
    fingerprint, labeller
        Whose patterns, and who labels.

    Returns
    -------
        (n_patterns,) bool.
    """
    digest = hashlib.sha256(f"{fingerprint} {labeller}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return rng.random(n_patterns) < share


def plan_repeats(
    index: NDArray[np.int64],
    is_labelled: NDArray[np.bool_],
    own: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    share: float,
) -> RepeatPlan:
    """Put chosen patterns into a list a second time, among the unlabelled ones.

    A pattern that the labeller has labelled before comes somewhere in the next
    1 / `share` unlabelled ones, the next such pattern in the stretch after, and so on.
    One that is still to be labelled comes back `APART` to twice `APART` later. What
    finds no room waits for a longer list; after a list without unlabelled patterns
    come all that are due.

    Parameters
    ----------
    index
        (m,) the list.
    is_labelled
        (n,) True where a pattern of the stack has a label.
    own
        (n,) True where this labeller has labelled a pattern, and not just now.
    chosen
        (n,) True for patterns that come back; not those that have done so.
    share
        Of the patterns that come back, 0 to 1.
    """
    rng = np.random.default_rng(index.size)
    unlabelled = np.flatnonzero(~is_labelled[index])
    due = rng.permutation(np.flatnonzero(own & chosen))
    due_after = (np.arange(due.size) + rng.random(due.size)) / max(share, 1e-9)
    coming = np.flatnonzero(chosen[index[unlabelled]])
    coming_after = coming + APART * (1 + rng.random(coming.size))
    patterns = np.concatenate([due, index[unlabelled][coming]])
    after = np.concatenate([due_after, coming_after]).astype(np.int64)
    if index.size and not unlabelled.size:
        return _insert(index, due, np.full(due.size, index.size))
    has_room = after < unlabelled.size
    return _insert(index, patterns[has_room], unlabelled[after[has_room]] + 1)


def _insert(
    index: NDArray[np.int64], patterns: NDArray[np.int64], places: NDArray[np.int64]
) -> RepeatPlan:
    is_repeat = np.insert(np.zeros(index.size, dtype=bool), places, True)
    return RepeatPlan(np.insert(index, places, patterns), is_repeat)
