"""The one place that imports keras, and only when a model is needed."""

import logging
import os
from typing import Any


def import_keras() -> Any:
    """Import keras on TensorFlow, without TensorFlow's start-up messages.

    Whoever set `TF_CPP_MIN_LOG_LEVEL` or `KERAS_BACKEND` keeps them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import keras

    return keras
