"""How far two rankings of the same patterns agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.ranking.ranking import Ranking


@dataclass(frozen=True, eq=False)
class RankAgreement:
    """Two rankings side by side.

    Parameters
    ----------
    index
        Int64, shape (n_ranked,): pattern indices, in the order of the first ranking.
    other_rank
        Int64, same shape: rank of each in the other ranking, from 1.
    spearman
        Spearman's correlation of the ranks: 1 for the same order, -1 for the reverse.
        NaN for fewer than two patterns.
    """

    index: NDArray[np.int64]
    other_rank: NDArray[np.int64]
    spearman: float

    def share_in_both(self, n: int) -> float:
        """Say which share of the best `n` of one is among the best `n` of the other."""
        best = self.other_rank[:n]
        return float((best <= n).mean()) if best.size else float("nan")


def compare_rankings(ranking: Ranking, other: Ranking) -> RankAgreement:
    """Compare the orders of two rankings.

    Parameters
    ----------
    ranking, other
        Of the same patterns by the same templates.

    Raises
    ------
    ParameterError
        If they rank different patterns.
    """
    if set(ranking.index) != set(other.index):
        message = (
            f"The rankings hold different patterns: {len(ranking)} and {len(other)}."
            " Rank the same stack by the same hits."
        )
        raise ParameterError(message)
    place = np.empty(max(ranking.index, default=-1) + 1, dtype=np.int64)
    place[other.index] = np.arange(1, len(other) + 1)
    other_rank = place[ranking.index]
    rank = np.arange(1, len(ranking) + 1)
    spearman = np.corrcoef(rank, other_rank)[0, 1] if len(rank) > 1 else np.nan
    return RankAgreement(ranking.index, other_rank, float(spearman))
