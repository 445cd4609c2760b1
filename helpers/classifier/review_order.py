"""In which order to look at patterns again."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.doubtful_labels import (
    compare_with_ranking,
    rank_doubtful_labels,
)
from helpers.errors import ParameterError
from helpers.ranking import Ranking


def score_patterns(
    probability: NDArray[np.float32],
    threshold: float,
    ranking: Ranking,
    words: NDArray[np.str_],
    unseen: NDArray[np.float32],
) -> dict[str, NDArray[np.float64]]:
    """Score patterns by what may make them worth a look, the highest first.

    Parameters
    ----------
    probability
        (n,) float32: of a single hit.
    threshold
        From which patterns are taken.
    ranking
        Of the same stack.
    words
        (n,) label words.
    unseen
        (n,) float32: probability from `forget_learnt`, NaN = left out.

    Returns
    -------
    dict
        (n,) float64 each, NaN = has no place in this order. "probability"; "unsure":
        how near to the threshold, 1 = at it; "ranking": how differently network and
        ranking place it, 0 to 1; "labels": how doubtful its label is, 0 to 1.
    """
    known = ~np.isin(words, ("", "unsure"))
    doubts = rank_doubtful_labels(words, np.where(known, unseen, np.float32(np.nan)))
    doubt = np.full(len(words), np.nan)
    doubt[doubts.pattern] = doubts.doubt
    return {
        "probability": probability.astype(np.float64),
        "unsure": 1 - np.abs(probability - np.float64(threshold)),
        "ranking": np.abs(compare_with_ranking(probability, ranking)),
        "labels": doubt,
    }


def order_by(scores: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.int64]:
    """Return the patterns that have a score, the highest first.

    Parameters
    ----------
    scores
        From `score_patterns`.
    name
        Of one of them.

    Raises
    ------
    ParameterError
        If there is no such score.
    """
    if name not in scores:
        message = f"look_at is {name!r}; expected one of {', '.join(scores)}."
        raise ParameterError(message)
    score = scores[name]
    order = np.argsort(-score, kind="stable")  # NaN sorts last
    return order[: np.count_nonzero(np.isfinite(score))]
