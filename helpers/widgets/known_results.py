"""What earlier runs of later notebooks have found out about the patterns."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.errors import HelpersError, OtherPatternsError
from helpers.patterns import Patterns

RANKING_NAME = "ranking.h5"


def read_known(
    work_dir: str | Path, patterns: Patterns
) -> dict[str, NDArray[np.floating]]:
    """Read ranking and predictions of these patterns, as far as there are any.

    A file that belongs to other patterns or cannot be read is left out with a warning.

    Parameters
    ----------
    work_dir
        The work folder, with `ranking.h5` or `predictions.h5` or neither.
    patterns
        The stack.

    Returns
    -------
        For `label_patterns` and `show_gallery`: `distance` (n,) to the nearest
        template, NaN = not ranked; `prediction` (n,), probability of a single hit.
    """
    from helpers.classifier import PREDICTIONS_NAME

    readers = {
        "distance": (_read_distance, RANKING_NAME),
        "prediction": (_read_prediction, PREDICTIONS_NAME),
    }
    known = {}
    for name, (read, file) in readers.items():
        path = Path(work_dir) / file
        try:
            if path.exists():
                known[name] = read(path, patterns)
        except HelpersError as error:
            warnings.warn(f"Not shown beside the patterns: {error}", stacklevel=2)
    return known


def _read_distance(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.ranking import read_ranking

    ranking = read_ranking(path)
    if ranking.fingerprint != patterns.fingerprint:
        message = f"{path} is of other patterns. Run 03-rank again."
        raise OtherPatternsError(message)
    distance = np.full(len(patterns), np.nan)
    distance[ranking.index] = ranking.distance
    return distance


def _read_prediction(path: Path, patterns: Patterns) -> NDArray[np.floating]:
    from helpers.classifier import read_predictions

    return read_predictions(path, patterns).probability
