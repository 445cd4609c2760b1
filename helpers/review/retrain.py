"""Train again on the corrected labels, judged by the same test patterns."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from helpers.models import TrainedModel, load_model
from helpers.patterns import Patterns
from helpers.training import (
    PARTITION_NAME,
    PARTS,
    Split,
    read_partition,
    train_model,
    write_partition,
)
from helpers.training.split import LEFT_OUT_WORDS

FROM_PATTERNS = ("shape", "bad_pixels")
SCHEDULE = ("epochs", "batch_size", "seed")


def retrain(
    patterns: Patterns, words: NDArray[np.str_], work_dir: str | Path
) -> TrainedModel:
    """Train the work folder's model again, from the labels as they are now.

    Network, settings and schedule are those of `model.json`; the sets are extended by
    `extend_split`. Replaces `partition.h5` and the model's files.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words as they are now.
    work_dir
        The work folder, with the files of an earlier training.
    """
    path = Path(work_dir) / PARTITION_NAME
    before = load_model(work_dir)
    split = extend_split(read_partition(path)[0], words, patterns.groups)
    write_partition(path, patterns, split, words)
    settings = asdict(cast(Any, before.network))
    options = {k: v for k, v in settings.items() if k not in FROM_PATTERNS}
    schedule = {name: before.facts["training"][name] for name in SCHEDULE}
    schedule["recall"] = before.facts["recall"]
    return train_model(
        patterns,
        split,
        words,
        work_dir,
        model=before.network.name,
        **options,
        **schedule,
    )


def extend_split(
    split: Split, words: NDArray[np.str_], runs: NDArray[np.integer]
) -> Split:
    """Let new labels teach, and leave every other pattern in its set.

    The test set stays the random sample that it was: labels that were asked for because
    the network was unsure would make it harder than the stack. Where whole runs stay
    together, new labels from runs that test or validate teach nothing.

    Parameters
    ----------
    split
        The sets so far.
    words
        (n,) label words as they are now. Patterns without one, or "unsure", leave
        their set.
    runs
        (n,) the run (file) of each pattern.
    """
    labelled = ~np.isin(words, LEFT_OUT_WORDS)
    kept = {name: _where(getattr(split, name), labelled) for name in PARTS}
    known = np.concatenate([getattr(split, name) for name in PARTS])
    new = np.setdiff1d(np.flatnonzero(labelled), known)
    if split.grouped:
        judging = np.unique(runs[np.concatenate([split.validation, split.test])])
        new = new[~np.isin(runs[new], judging)]
    kept["training"] = np.union1d(kept["training"], new)
    taken = np.concatenate(list(kept.values()))
    rest = np.setdiff1d(np.arange(len(words)), taken)
    why = f"{split.why.split('; then')[0]}; then {len(new)} new labels to train on"
    return Split(
        **kept, to_predict=rest, grouped=split.grouped, why=why, seed=split.seed
    )


def _where(index: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return index[chosen[index]]
