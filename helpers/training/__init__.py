"""From labels to a trained model: split, partition files, fit, calibrate, judge."""

from helpers.training.calibration import choose_threshold, fit_calibration
from helpers.training.fit import read_images, train_from_images, train_model
from helpers.training.metrics import METRICS, describe_scores, evaluate
from helpers.training.partition import (
    IMAGES_NAME,
    PARTITION_NAME,
    read_partition,
    write_images,
    write_partition,
)
from helpers.training.split import PARTS, Split, is_single, split_labels

__all__ = [
    "IMAGES_NAME",
    "METRICS",
    "PARTITION_NAME",
    "PARTS",
    "Split",
    "choose_threshold",
    "describe_scores",
    "evaluate",
    "fit_calibration",
    "is_single",
    "read_images",
    "read_partition",
    "split_labels",
    "train_from_images",
    "train_model",
    "write_images",
    "write_partition",
]
