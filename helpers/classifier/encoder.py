"""An encoder that has seen particles of every shape: numbers for any pattern.

It was trained once, on simulated patterns of ever other particles, detectors and masks
(`helpers.classifier.encoder_recipe`), and comes with the package. It knows in which
direction a particle is how long, so a second particle beside a rod shows too.

It is worked out in NumPy: importing TensorFlow would take longer than a thousand
patterns do.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from helpers.classifier.angular_maps import N_CHANNELS, AngularMaps
from helpers.outputs import open_to_read, sha256_of
from helpers.physics import PattersonMaps, Whitened

Array = NDArray[np.float32]
WEIGHTS_FILE = Path(__file__).with_name("encoder.h5")
TOWERS = {"patterson": slice(0, 2), "pattern": slice(2, N_CHANNELS)}  # their channels
WIDTHS = ((16, 1), (24, 2), (40, 2))  # of each tower's layers: channels, step
N_NUMBERS = 64
N_GUESSED = 3  # no particle, one, several
AT_ONCE = 16  # patterns whose arrays stay in the processor's cache
SCALE_OF_LIGHT = 0.2


class Encoded(NamedTuple):
    """What the encoder makes of patterns.

    Attributes
    ----------
    numbers
        (n, 64) float32, 0 or more: what sets particles apart.
    guess
        (n, 3) float32, logits of no particle, one, and several.
    log_size
        (n,) float32, logarithm of a particle's size in steps of the Patterson map.
    """

    numbers: NDArray[np.float32]
    guess: NDArray[np.float32]
    log_size: NDArray[np.float32]

    def summarise(self) -> NDArray[np.float32]:
        """Return (n, 3): log odds of one against several, of a blank, and the size."""
        none, one, several = self.guess.T
        blank = none - np.logaddexp(one, several)
        return np.column_stack([one - several, blank, self.log_size])


class Encoder:
    """Encodes the patterns of one detector.

    Parameters
    ----------
    maps
        The Patterson maps of its patterns.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self._angular_maps = AngularMaps(maps)
        self._weights = load_weights()

    def __call__(self, white: Whitened) -> Encoded:
        """Encode whitened patterns; always as many at once for the same bits."""
        maps = self._angular_maps(white)
        light = np.log(white.level / white.noise**2)
        numbers, taught = run_encoder(self._weights, maps, light)
        return Encoded(numbers, taught[:, :N_GUESSED], taught[:, N_GUESSED])


def run_encoder(
    weights: dict[str, tuple[Array, Array]], maps: Array, light: Array
) -> tuple[Array, Array]:
    """Work the encoder out.

    Two towers of convolutions, one for the Patterson map and one for the pattern, go
    round the directions; then each direction is summed up, and their mean and maximum
    are taken, so that turning a particle changes next to nothing.

    Parameters
    ----------
    weights
        Kernel and bias of each layer, from `load_weights`.
    maps, light
        (n, 30, 48, 5) from `AngularMaps`, and (n, 1), the logarithm of the mean over
        the square of the noise.

    Returns
    -------
    numbers, taught
        (n, 64) and (n, 18) float32, see `encoder_recipe.build_encoder`.
    """
    towers = []
    for name, channels in TOWERS.items():
        values = maps[..., channels]
        for width, step in WIDTHS:
            values = _convolve(values, *weights[f"{name}_{width}"], step)
        towers.append(values + _convolve(values, *weights[f"{name}_last"], 1))
    both = np.concatenate(towers, axis=3).transpose(0, 2, 1, 3)
    each = both.reshape(*both.shape[:2], -1)
    for name in ("direction", "direction_last"):
        each = _rectify(each, *weights[name])
    pooled = [each.mean(axis=1), each.max(axis=1), light * np.float32(SCALE_OF_LIGHT)]
    hidden = _rectify(np.concatenate(pooled, axis=1), *weights["hidden"])
    numbers = _rectify(hidden, *weights["numbers"])
    kernel, bias = weights["taught"]
    return numbers, numbers @ kernel + bias


def _convolve(values: Array, kernel: Array, bias: Array, step: int) -> Array:
    """Convolve (n, rings, directions, channels): a circle of directions, 3 by 3."""
    closed = np.pad(values, [(0, 0), (0, 0), (1, 1), (0, 0)], mode="wrap")
    padded = np.pad(closed, [(0, 0), (1, 1), (0, 0), (0, 0)])
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::step, ::step]
    flat = kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
    columns = windows.reshape(*windows.shape[:3], -1)
    return _rectify(columns, flat, bias)


def _rectify(values: Array, kernel: Array, bias: Array) -> Array:
    sums: Array = values @ kernel + bias
    return np.maximum(sums, 0, out=sums)


@cache
def load_weights() -> dict[str, tuple[Array, Array]]:
    """Return kernel and bias of each layer."""
    with open_to_read(WEIGHTS_FILE) as file:
        return {name: _read_layer(layer) for name, layer in file.items()}


def _read_layer(layer: h5py.Group) -> tuple[Array, Array]:
    kernel, bias = (layer[name][()].astype(np.float32) for name in ("kernel", "bias"))
    return kernel, bias


@cache
def name_encoder() -> str:
    """Return by what one encoder is told from another: part of its SHA-256."""
    return sha256_of(WEIGHTS_FILE)[:16]
