"""Clean single hits as templates: their rotations, distances and the ranking by them.

A person picks a few clean single hits; every other pattern is compared with each of
them in all orientations in the plane; the patterns that come closest stand first in the
ranking and are looked at, or used for training, first.
"""

from helpers.templates.agreement import RankAgreement, compare_rankings
from helpers.templates.article import scale_to_255
from helpers.templates.files import (
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.templates.match import Match, match_template, pick_turned
from helpers.templates.precision import Precision, precision_at
from helpers.templates.rank import METRICS, rank_patterns
from helpers.templates.ranking import Ranking
from helpers.templates.splines import rotate_templates

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
