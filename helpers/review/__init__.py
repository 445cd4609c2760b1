"""What is worth a person's second look, and what the selection is worth.

Doubtful labels, disagreements, reasons for a judgement, physics without a network, an
unbiased audit, the labels that would help most, and training again on them.
"""

from helpers.review.advice import advise, measure_change
from helpers.review.audit import (
    Audit,
    Share,
    audit_selection,
    estimate_share,
    find_audited,
)
from helpers.review.choose import choose_next_labels, pick_uncertain_and_diverse
from helpers.review.diameters import measure_diameters
from helpers.review.doubts import Doubts, compare_with_ranking, rank_doubtful_labels
from helpers.review.orders import order_by, score_patterns
from helpers.review.patterson import PattersonScore
from helpers.review.physics import Physics, measure_physics
from helpers.review.purity import PurityCurve, expect_purity
from helpers.review.retrain import retrain
from helpers.review.saliency import Saliency, describe_saliency, explain_pattern
from helpers.review.unseen import cross_validate, forget_learnt

__all__ = [
    "Audit",
    "Doubts",
    "PattersonScore",
    "Physics",
    "PurityCurve",
    "Saliency",
    "Share",
    "advise",
    "audit_selection",
    "choose_next_labels",
    "compare_with_ranking",
    "cross_validate",
    "describe_saliency",
    "estimate_share",
    "expect_purity",
    "explain_pattern",
    "find_audited",
    "forget_learnt",
    "measure_change",
    "measure_diameters",
    "measure_physics",
    "order_by",
    "pick_uncertain_and_diverse",
    "rank_doubtful_labels",
    "retrain",
    "score_patterns",
]
