"""The networks, and the files that a trained one is kept in.

Nothing here imports keras before a model is made or read.
"""

from helpers.models.article import ArticleNetwork, make_images
from helpers.models.backend import import_keras
from helpers.models.fringes import FringeFeatures
from helpers.models.invariant import InvariantNetwork
from helpers.models.networks import NETWORKS, find_network, make_model, make_network
from helpers.models.trained import (
    CLASSES,
    Calibration,
    TrainedModel,
    check_model_fits,
    load_model,
    save_model,
)

__all__ = [
    "CLASSES",
    "NETWORKS",
    "ArticleNetwork",
    "Calibration",
    "FringeFeatures",
    "InvariantNetwork",
    "TrainedModel",
    "check_model_fits",
    "find_network",
    "import_keras",
    "load_model",
    "make_images",
    "make_model",
    "make_network",
    "save_model",
]
