"""Train a network on the labels, predict the whole stack, and review what it says.

Nothing here imports keras before a model is made or read.
"""

from helpers.classifier.active_learning import (
    advise,
    choose_next_labels,
    measure_change,
    order_by,
    pick_uncertain_and_diverse,
    score_patterns,
)
from helpers.classifier.article_network import ArticleNetwork, make_images
from helpers.classifier.calibration import (
    Calibration,
    Reliability,
    choose_threshold,
    choose_threshold_for_recall,
    expected_calibration_error,
    fit_calibration,
    fit_calibration_in_stack,
    reliability_curve,
)
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.classifier.learning_curve import LearningCurve, find_learning_curve
from helpers.classifier.network import (
    Fitted,
    Network,
    Schedule,
    check_backend,
    import_keras,
)
from helpers.classifier.networks import (
    NETWORKS,
    find_network,
    make_network,
    restore_network,
)
from helpers.classifier.partition import (
    IMAGES_NAME,
    read_partition,
    write_images,
    write_partition,
)
from helpers.classifier.prediction import (
    Doubts,
    compare_with_ranking,
    cross_validate,
    predict_patterns,
    rank_doubtful_labels,
    read_predictions,
    substitute_out_of_fold,
    write_predictions,
)
from helpers.classifier.purity import (
    Audit,
    PurityCurve,
    audit_selection,
    audited_prefix,
    describe_selection_by_truth,
    expect_purity,
)
from helpers.classifier.saliency import Saliency, describe_saliency, explain_pattern
from helpers.classifier.scores import METRICS, describe_scores, evaluate
from helpers.classifier.selection_physics import (
    PattersonScore,
    Physics,
    measure_diameters,
    measure_physics,
)
from helpers.classifier.split import (
    PARTS,
    Split,
    extend_split,
    is_labelled,
    is_single,
    split_labels,
)
from helpers.classifier.trained_model import (
    CLASSES,
    TrainedModel,
    check_model_fits,
    fit_to_run,
    load_model,
    save_model,
)
from helpers.classifier.training import (
    read_images,
    retrain,
    train_from_images,
    train_model,
)

__all__ = [
    "CLASSES",
    "IMAGES_NAME",
    "METRICS",
    "NETWORKS",
    "PARTS",
    "ArticleNetwork",
    "Audit",
    "Calibration",
    "Doubts",
    "Fitted",
    "InvariantNetwork",
    "LearningCurve",
    "Network",
    "PattersonScore",
    "Physics",
    "PurityCurve",
    "Reliability",
    "Saliency",
    "Schedule",
    "Split",
    "TrainedModel",
    "advise",
    "audit_selection",
    "audited_prefix",
    "check_backend",
    "check_model_fits",
    "choose_next_labels",
    "choose_threshold",
    "choose_threshold_for_recall",
    "compare_with_ranking",
    "cross_validate",
    "describe_saliency",
    "describe_scores",
    "describe_selection_by_truth",
    "evaluate",
    "expect_purity",
    "expected_calibration_error",
    "explain_pattern",
    "extend_split",
    "find_learning_curve",
    "find_network",
    "fit_calibration",
    "fit_calibration_in_stack",
    "fit_to_run",
    "import_keras",
    "is_labelled",
    "is_single",
    "load_model",
    "make_images",
    "make_network",
    "measure_change",
    "measure_diameters",
    "measure_physics",
    "order_by",
    "pick_uncertain_and_diverse",
    "predict_patterns",
    "rank_doubtful_labels",
    "read_images",
    "read_partition",
    "read_predictions",
    "reliability_curve",
    "restore_network",
    "retrain",
    "save_model",
    "score_patterns",
    "split_labels",
    "substitute_out_of_fold",
    "train_from_images",
    "train_model",
    "write_images",
    "write_partition",
    "write_predictions",
]
