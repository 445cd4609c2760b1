"""Fit a network by gradient descent, epoch by epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.classifier.backend import import_keras
from helpers.errors import ParameterError

Part = tuple[NDArray[np.float32], NDArray[np.bool_]]
History = dict[str, list[float]]


@dataclass(frozen=True)
class Schedule:
    """How a network that learns by gradient descent is trained.

    Parameters
    ----------
    epochs, batch_size
        Passes over the training part, and patterns per step.
    seed
        Of weights, order and augmentation.

    Raises
    ------
    ParameterError
        If there is nothing to do.
    """

    epochs: int = 10
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse less than one."""
        if self.epochs < 1 or self.batch_size < 1:
            message = (
                f"epochs is {self.epochs} and batch_size {self.batch_size}; expected "
                "1 or more. The article has 10 and 32."
            )
            raise ParameterError(message)


def fit_by_descent(
    keras_model: Any, training: Part, validation: Part, schedule: Schedule
) -> History:
    """Fit to the training part, with a progress bar; return Keras' history.

    Parameters
    ----------
    keras_model
        Compiled; changed in place.
    training, validation
        Inputs float32 (n, …) and labels bool (n,). The validation part is only watched.
    schedule
        Epochs and batch size.

    Returns
    -------
    dict
        Loss and metrics of either part (`val_…` of the validation part), one value an
        epoch.
    """
    keras = import_keras()
    with tqdm(total=schedule.epochs, unit="epoch", desc="Train") as bar:
        history = keras_model.fit(
            *_as_numbers(training),
            validation_data=_as_numbers(validation),
            epochs=schedule.epochs,
            batch_size=schedule.batch_size,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=_show_on(bar))],
        )
    return {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }


def _as_numbers(part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    inputs, single = part
    return inputs, single.astype(np.float32)


def _show_on(bar: Any) -> Callable[[int, dict[str, float]], None]:
    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
        bar.update()

    return show
