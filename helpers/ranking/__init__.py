"""Rank patterns by their distance to the clean single hits, in all orientations.

A person picks a few clean single hits; every other pattern is compared with each of
them in all orientations in the plane; the patterns that come closest stand first in the
ranking and are looked at, or used for training, first.
"""

from helpers.ranking.article_metric import scale_to_255
from helpers.ranking.match import Match, match_template, pick_turned
from helpers.ranking.precision import Precision, precision_at
from helpers.ranking.rank import METRICS, rank_patterns
from helpers.ranking.rank_agreement import RankAgreement, compare_rankings
from helpers.ranking.ranking import Ranking
from helpers.ranking.ranking_files import (
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.ranking.splines import rotate_templates

__all__ = [
    "METRICS",
    "Match",
    "Precision",
    "RankAgreement",
    "Ranking",
    "compare_rankings",
    "match_template",
    "pick_turned",
    "precision_at",
    "rank_patterns",
    "read_clean_single_hits",
    "read_ranking",
    "rotate_templates",
    "scale_to_255",
    "write_clean_single_hits",
    "write_ranking",
]
