"""From labels to a trained model: split, partition files, fit, calibrate, judge."""

from helpers.training.calibration import (
    choose_threshold,
    choose_threshold_for_recall,
    fit_calibration,
    fit_calibration_in_stack,
)
from helpers.training.fit import read_images, train_from_images, train_model
from helpers.training.learning import LearningCurve, find_learning_curve
from helpers.training.metrics import METRICS, describe_scores, evaluate
from helpers.training.partition import (
    IMAGES_NAME,
    PARTITION_NAME,
    read_partition,
    write_images,
    write_partition,
)
from helpers.training.reliability import (
    Reliability,
    find_calibration_error,
    find_reliability,
)
from helpers.training.split import (
    PARTS,
    Split,
    extend_split,
    is_labelled,
    is_single,
    split_labels,
)

__all__ = [
    "IMAGES_NAME",
    "METRICS",
    "PARTITION_NAME",
    "PARTS",
    "LearningCurve",
    "Reliability",
    "Split",
    "choose_threshold",
    "choose_threshold_for_recall",
    "describe_scores",
    "evaluate",
    "extend_split",
    "find_calibration_error",
    "find_learning_curve",
    "find_reliability",
    "fit_calibration",
    "fit_calibration_in_stack",
    "is_labelled",
    "is_single",
    "read_images",
    "read_partition",
    "split_labels",
    "train_from_images",
    "train_model",
    "write_images",
    "write_partition",
]
