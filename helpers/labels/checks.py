"""What may go into a label store."""

from operator import index

import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError
from helpers.labels.schema import LABELS, NAME_LENGTH


def check_label(pattern: int, label: str, n_patterns: int) -> None:
    """Raise `LabelsError` unless there is such a pattern and such a word."""
    if not 0 <= index(pattern) < n_patterns:
        message = (
            f"There is no pattern {pattern}; expected 0 … {n_patterns - 1}. The label "
            "was not stored."
        )
        raise LabelsError(message)
    if label not in LABELS:
        message = (
            f"«{label}» for pattern {pattern} is no label; expected one of "
            f"{', '.join(LABELS)}. The label was not stored."
        )
        raise LabelsError(message)


def check_words(words: NDArray[np.str_], n_patterns: int) -> None:
    """Raise `LabelsError` unless there is a word, or "", for each pattern."""
    if words.shape != (n_patterns,):
        message = (
            f"The words have shape {words.shape}; expected ({n_patterns},), one for "
            "each pattern, with '' for none. Nothing was stored."
        )
        raise LabelsError(message)
    if unknown := sorted(set(words.tolist()) - {"", *LABELS}):
        message = (
            f"{', '.join(map(repr, unknown))} are no labels; expected "
            f"{', '.join(LABELS)}, or '' for none. Nothing was stored."
        )
        raise LabelsError(message)


def check_names(**names: str) -> None:
    """Raise `LabelsError` unless each name can be stored in any database."""
    for what, name in names.items():
        if not 0 < len(name) <= NAME_LENGTH:
            message = (
                f"The name of the {what} has {len(name)} characters; expected 1 to "
                f"{NAME_LENGTH}. Nothing was stored."
            )
            raise LabelsError(message)
