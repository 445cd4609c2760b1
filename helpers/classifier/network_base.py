"""What a network is, and how Keras is asked and trained: the one place that imports it.

A new network is a `Network`, and a line in `helpers.classifier.networks`.
"""

import importlib.util
import logging
import math
import os
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.classifier.calibration import Calibration, fit_calibration
from helpers.errors import ParameterError
from helpers.patterns import Patterns, number_of_worker

Part = tuple[NDArray[np.float32], NDArray[np.bool_]]
History = dict[str, list[float]]

BACKENDS = ("tensorflow", "jax", "torch")
FEWEST_INPUTS = 64
BATCH_BYTES = 2**19


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


@dataclass(frozen=True)
class Fitted:
    """What is known once the weights are set.

    Attributes
    ----------
    out_of_fold, single
        (n,) float32 outputs for patterns that the weights did not know, and (n,) bool
        their labels: what calibration and thresholds come from.
    calibration
        From such outputs to probabilities.
    n_labels
        How many labels set the weights.
    history
        Of each epoch; empty where there are none.
    way
        "descent" or "exact", for `model.json`.
    how
        More for `model.json`.
    """

    out_of_fold: NDArray[np.float32]
    single: NDArray[np.bool_]
    calibration: Calibration
    n_labels: int
    history: History
    way: str
    how: dict[str, Any]


class Network(ABC):
    """What every network offers; its settings are its dataclass fields.

    Attributes
    ----------
    name
        What notebooks and `model.json` know it by.
    parameters
        What it takes from the experiment and the notebook, such as "centre". One with
        the fields `centre` and `bad_pixels` is moved to further runs, see
        `networks.adapt_network`.
    is_solved
        Whether its best weights are computed at once, not found in epochs. Then
        cross-validation takes no time, and all labels but those of the test set teach.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()
    is_solved: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def for_patterns(cls, patterns: Patterns, **parameters: Any) -> Self:
        """Make the network for a stack, with some of its `parameters`."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input that one pattern makes."""

    @abstractmethod
    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the Keras model's inputs, one per pattern (n, rows, columns)."""

    @abstractmethod
    def build(self, seed: int = 0) -> Any:
        """Build and compile the Keras model."""

    def read(self, path: Path) -> Any:
        """Read `model.keras`; code inside the file is never run."""
        saving = import_keras().saving
        return saving.load_model(path, compile=False, safe_mode=True)

    @abstractmethod
    def fit(
        self,
        keras_model: Any,
        parts: dict[str, Part],
        unlabelled: NDArray[np.float32],
        schedule: Schedule,
    ) -> Fitted:
        """Set the weights of the Keras model, and calibrate what it says.

        Parameters
        ----------
        keras_model
            From `build`.
        parts
            Inputs and (n,) bool labels of "training", "validation" and "test".
        unlabelled
            Inputs of patterns without a label, none or up to 1,000.
        schedule
            Epochs, patterns per step and seed.
        """


def import_keras() -> Any:
    """Import keras on TensorFlow, without TensorFlow's start-up messages.

    Whoever set `TF_CPP_MIN_LOG_LEVEL` or `KERAS_BACKEND` keeps them.

    Raises
    ------
    ParameterError
        If there is no such backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    check_backend()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import keras

    return keras


def list_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow sees; [] with another backend."""
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    return [each.name for each in tf.config.list_logical_devices("GPU")]


def mirror_on_gpus() -> Any:
    """Return what spreads each step of a training over all GPUs; None with one.

    The patterns of a step are divided among them, so that a step is what it is on one.
    """
    gpus = list_gpus()
    if len(gpus) < 2:
        return None
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(gpus)


def check_backend() -> None:
    """Refuse a backend of Keras that cannot train or is not installed.

    Raises
    ------
    ParameterError
        If `KERAS_BACKEND` names such a one.
    """
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if backend in BACKENDS and importlib.util.find_spec(backend) is not None:
        return
    why = "is not installed" if backend in BACKENDS else "cannot train networks"
    message = (
        f"The environment variable KERAS_BACKEND is {backend!r}, which {why} here. "
        f"Expected one of {', '.join(BACKENDS)} that is installed. Unset it "
        "(unset KERAS_BACKEND) to take tensorflow."
    )
    raise ParameterError(message)


def batch_length(input_shape: tuple[int, ...]) -> int:
    """Return how many inputs are predicted at once: 64, or as many as fill 512 KiB.

    Of small inputs a call costs more than the work in it.
    """
    return max(FEWEST_INPUTS, BATCH_BYTES // (4 * math.prod(input_shape)))


def predict_inputs(
    keras_model: Any, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the network's output, (n,) float32, for inputs (n, …)."""
    return run_in_batches(keras_model, inputs)[:, 0]


class KerasOutputs:
    """`predict_inputs` that can be sent to another process.

    Parameters
    ----------
    keras_model
        A network; what is sent is its description and its weights.
    device
        The name of the device that works; "" leaves it to Keras.
    """

    def __init__(self, keras_model: Any, device: str = "") -> None:
        self._keras_model = keras_model
        self._device = device
        self._lock = threading.Lock()

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's output, (n,) float32, for inputs (n, …)."""
        with self._lock, _on(self._device):
            return predict_inputs(self._keras_model, inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send no compiled functions, which belong to this process."""
        if not type(self._keras_model).__module__.startswith("keras."):
            return KerasOutputs, (self._keras_model,)  # needs no Keras there either
        return _restore_outputs, (pickle.dumps(self._keras_model),)


def _restore_outputs(packed: bytes) -> KerasOutputs:
    """Unpack on a worker; where a machine has several GPUs, workers take turns."""
    gpus = list_gpus()
    device = gpus[number_of_worker() % len(gpus)] if len(gpus) > 1 else ""
    with _on(device):
        return KerasOutputs(pickle.loads(packed), device)


def _on(device: str) -> AbstractContextManager[Any]:
    return import_keras().device(device) if device else nullcontext()


def run_in_batches(
    keras_model: Any, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what a Keras model makes of inputs, without a word on the screen.

    Every call has the same number of inputs, the last filled up with zeros: libraries
    add up in another order for another number, so that an output would depend on how
    many others are asked for with it.

    Parameters
    ----------
    keras_model
        One row out per input.
    inputs
        (n, …) float32.
    """
    length = batch_length(inputs.shape[1:])
    outputs = []
    for start in range(0, max(len(inputs), 1), length):
        some = inputs[start : start + length]
        missing = [(0, length - len(some)), *[(0, 0)] * (inputs.ndim - 1)]
        found = keras_model.predict_on_batch(np.pad(some, missing))
        outputs.append(np.asarray(found)[: len(some)])
    return np.concatenate(outputs)


def fit_in_epochs(
    keras_model: Any,
    parts: dict[str, Part],
    schedule: Schedule,
    build: Callable[[int], Any],
) -> Fitted:
    """Fit to the training part; what the weights do not know is the validation part.

    Parameters
    ----------
    keras_model
        From `build`.
    parts, schedule
        As for `Network.fit`.
    build
        Makes another one from a seed: its twin is trained where a machine has several
        GPUs.
    """
    inputs, single = parts["validation"]
    sets = parts["training"], parts["validation"]
    strategy = mirror_on_gpus()
    n_devices = strategy.num_replicas_in_sync if strategy else 1
    found = (
        find_batch_size(len(known), schedule.batch_size, n_devices) for _, known in sets
    )
    sizes = [size for size in found if size]
    if strategy is None or len(sizes) < len(sets):
        n_devices = 1
        history = fit_gradient(keras_model, *sets, schedule)
    else:
        with strategy.scope():
            twin = build(schedule.seed)
        history = fit_gradient(twin, *sets, schedule, sizes)
        keras_model.set_weights(twin.get_weights())
    out_of_fold = predict_inputs(keras_model, inputs)
    return Fitted(
        out_of_fold=out_of_fold,
        single=single,
        calibration=fit_calibration(out_of_fold, single),
        n_labels=len(parts["training"][1]),
        history=history,
        way="descent",
        how={"calibrated_by": "the validation part", "devices": n_devices},
    )


def fit_gradient(
    keras_model: Any,
    training: Part,
    validation: Part,
    schedule: Schedule,
    batch_sizes: Sequence[int] = (),
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
    batch_sizes
        Of the two parts, in place of the schedule's.

    Returns
    -------
    dict
        Loss and metrics of either part (`val_…` of the validation part), one value an
        epoch.
    """
    keras = import_keras()
    size, validation_size = batch_sizes or (schedule.batch_size, schedule.batch_size)
    (inputs, single), (watched, truth) = training, validation
    with tqdm(total=schedule.epochs, unit="epoch", desc="Train") as bar:

        def show(epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
            bar.update()

        history = keras_model.fit(
            inputs,
            single.astype(np.float32),
            validation_data=(watched, truth.astype(np.float32)),
            epochs=schedule.epochs,
            batch_size=size,
            validation_batch_size=validation_size,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=show)],
        )
    return {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }


def find_batch_size(n: int, wished: int, n_devices: int) -> int | None:
    """Return the batch size nearest to `wished` of which every device gets a share.

    Each takes as many patterns as fill its share, so that a last batch that is short
    may leave the last device without any, which Keras' convolutions refuse; and the
    first batch has to be full. None if there is no such size.
    """
    if n_devices == 1:
        return wished
    sizes = range(n_devices, n + 1, n_devices)
    fit = (
        size for size in sizes if not n % size or n % size > size - size // n_devices
    )
    return min(fit, key=lambda size: abs(size - wished), default=None)
