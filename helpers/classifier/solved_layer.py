"""One layer whose best weights are computed at once: NumPy until Keras is asked for.

Importing TensorFlow takes longer than all that the layer has to do. So it works in
NumPy, and builds the Keras model that it stands for when someone wants that: to save
it, or to look at its layers.
"""

import io
import json
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from helpers.classifier.network import import_keras

FARTHEST = 3.0  # standard deviations from the mean: what is further counts as this
SQUARES = 0.5**0.5  # what makes their standard deviation 1, as that of the values
WEIGHTY = 6.0  # times as large are the columns of features that tell most
SMALLEST = 1e-7  # standard deviation, as in Keras
LAYERS = (
    *("InputLayer", "Normalization", "Clip", "Square", "Multiply"),
    *("Concatenate", "Dense"),
)
NORMALISATION, DENSE = "layers/normalization/vars", "layers/dense/vars"


class SolvedLayer:
    """Features in, standardised, clipped, squared, one sigmoid out.

    Everything that a Keras model has can be asked of it.

    Parameters
    ----------
    n_features
        Length of an input.
    name
        Of the Keras model.
    n_optional
        How many features, the last, may be left out where they do not help.
    n_weighty
        How many of these, the last, the penalty on weights holds back less.

    Attributes
    ----------
    choices
        Factors (columns,) for what weights are solved for, the simplest first.
    importance
        The one that was chosen.
    """

    def __init__(
        self, n_features: int, name: str, n_optional: int = 0, n_weighty: int = 0
    ) -> None:
        self.n_features = n_features
        every = np.ones(n_features, np.float32)
        every[n_features - n_weighty :] = WEIGHTY
        without = every.copy()
        without[n_features - n_optional :] = 0
        choices = (without, every) if n_optional else (every,)
        self.choices = tuple(np.tile(choice, 2) for choice in choices)
        self.importance = self.choices[-1]
        self.name = name
        self._mean, self._variance = np.zeros((2, n_features), np.float32)
        self._variance += 1
        self._kernel = np.zeros((2 * n_features, 1), np.float32)
        self._bias = np.zeros(1, np.float32)

    @classmethod
    def read(cls, path: Path, n_features: int, name: str) -> Self | None:
        """Read the weights out of `model.keras`; None if it is not such a layer.

        Parameters
        ----------
        path
            A file that `save` wrote.
        n_features, name
            As it should be.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))["config"]
                weights = archive.read("model.weights.h5")
            layer = cls(n_features, name)
            return layer if layer._take(config, weights) else None
        except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile):
            return None  # Keras says what is wrong with it

    def _take(self, config: dict[str, Any], weights: bytes) -> bool:
        layers = config["layers"]
        kinds = tuple(layer["class_name"] for layer in layers)
        if kinds != LAYERS or layers[-1]["config"]["activation"] != "sigmoid":
            return False
        clip = layers[2]["config"]
        scale = layers[4]["inbound_nodes"][0]["args"][1]
        if (clip["x_min"], clip["x_max"], scale) != (-FARTHEST, FARTHEST, SQUARES):
            return False
        with h5py.File(io.BytesIO(weights), "r") as file:
            found = [
                file[f"{where}/{number}"][()].astype(np.float32)
                for where in (NORMALISATION, DENSE)
                for number in (0, 1)
            ]
        shapes = [each.shape for each in self._weights]
        if [each.shape for each in found] != shapes:
            return False
        self._mean, self._variance, self._kernel, self._bias = found
        return True

    @property
    def _weights(self) -> tuple[NDArray[np.float32], ...]:
        return self._mean, self._variance, self._kernel, self._bias

    @cached_property
    def keras_model(self) -> Any:
        """The Keras model, with these weights."""
        keras = import_keras()
        inputs = keras.Input((self.n_features,), name="features")
        standard = keras.layers.Normalization(name="standardise")
        clipped = keras.ops.clip(standard(inputs), -FARTHEST, FARTHEST)
        both = keras.layers.Concatenate(name="and_squares")(
            [clipped, keras.ops.square(clipped) * SQUARES]
        )
        single = keras.layers.Dense(
            1, "sigmoid", kernel_initializer="zeros", name="single"
        )
        model = keras.Model(inputs, single(both), name=self.name)
        model.compile(loss="binary_crossentropy", jit_compile=False)
        standard.set_weights([self._mean, self._variance, np.array(0)])
        standard.finalize_state()
        single.set_weights([self._kernel, self._bias])
        return model

    def __getattr__(self, name: str) -> Any:
        """Return what only the Keras model has."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.keras_model, name)

    @property
    def input_shape(self) -> tuple[int | None, int]:
        """As Keras gives it."""
        return None, self.n_features

    @property
    def _is_keras(self) -> bool:
        return "keras_model" in self.__dict__

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Return all weights, as Keras does."""
        if self._is_keras:
            return list(self.keras_model.get_weights())
        return list(self._weights)

    def standardise(self, inputs: NDArray[np.float32]) -> None:
        """Set mean and variance from inputs (n, n_features)."""
        if self._is_keras:
            self.keras_model.get_layer("standardise").adapt(inputs)
        self._mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._variance = inputs.var(axis=0, dtype=np.float64).astype(np.float32)

    def set_last(self, weights: NDArray[np.float64], bias: float) -> None:
        """Set the weights of the plain columns, and the bias of the sigmoid."""
        self._kernel = weights[:, np.newaxis].astype(np.float32)
        self._bias = np.array([bias], np.float32)
        if self._is_keras:
            self.keras_model.layers[-1].set_weights([self._kernel, self._bias])

    def make_columns(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what weights are solved for, (n, 2 n_features)."""
        return self.make_plain_columns(inputs) * self.importance

    def make_plain_columns(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the sigmoid is given, (n, 2 n_features)."""
        deviation = np.maximum(np.sqrt(self._variance), SMALLEST)
        clipped = np.clip((inputs - self._mean) / deviation, -FARTHEST, FARTHEST)
        return np.concatenate([clipped, clipped**2 * np.float32(SQUARES)], axis=1)

    def predict_on_batch(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output, (n, 1) float32."""
        sums = self.make_plain_columns(inputs) @ self._kernel + self._bias
        return np.asarray(expit(sums), np.float32)
