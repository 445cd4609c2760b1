"""Rank patterns by their distance to the clean single hits, in all orientations.

A person picks a few clean single hits; every other pattern is compared with each of
them in all orientations in the plane; the patterns that come closest stand first in the
ranking and are looked at, or used for training, first.
"""

from helpers.ranking.match import Match, match_template, pick_turned
from helpers.ranking.metric import Metric, Nearest, rotate_templates, scale_to_255
from helpers.ranking.ranking import (
    AUTO,
    METRICS,
    RankAgreement,
    Ranking,
    choose_metric,
    compare_rankings,
    describe_top,
    order_singles,
    precision_at,
    rank_patterns,
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)

__all__ = [
    "AUTO",
    "METRICS",
    "Match",
    "Metric",
    "Nearest",
    "RankAgreement",
    "Ranking",
    "choose_metric",
    "compare_rankings",
    "describe_top",
    "match_template",
    "order_singles",
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
