"""Train again on the corrected labels, judged by the same test patterns."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.partition import PARTITION_NAME, read_partition, write_partition
from helpers.classifier.split import extend_split
from helpers.classifier.trained_model import TrainedModel, load_model
from helpers.classifier.training import train_model
from helpers.patterns import Patterns

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
