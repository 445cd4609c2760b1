"""The network that starts from what is known of every diffraction pattern.

Its inputs (`PatternFeatures`) do not change with the particle's rotation about the
beam, the pulse energy or the bad pixels, so it need not learn that from labels.
"""

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.kernel_head import KernelHead, learn_at_once
from helpers.classifier.network import Fitted, Network, Part, Schedule
from helpers.errors import ParameterError
from helpers.features import N_NUMBERS, N_SUMMARY, PatternFeatures, name_encoder
from helpers.patterns import Patterns
from helpers.physics import find_centre

POWDER_SAMPLE = 256


@dataclass(frozen=True)
class InvariantNetwork(Network):
    """Features that know the symmetries, and least squares with a kernel on them.

    Half precision would gain nothing: next to the features, the rest takes no time.

    Parameters
    ----------
    shape
        Rows and columns of a pattern.
    centre
        (row, column) of the beam, in pixels.
    bad_pixels
        As `encode_pixels` gives them; "" = none.
    encoder
        Which encoder's numbers stand beside the features, as `name_encoder` gives it;
        "" = none.
    """

    name: ClassVar[str] = "invariant"
    parameters: ClassVar[tuple[str, ...]] = ("centre", "encoder")
    is_solved: ClassVar[bool] = True
    shape: tuple[int, int]
    centre: tuple[float, float]
    bad_pixels: str = ""
    encoder: str = ""

    def __post_init__(self) -> None:
        """Refuse an encoder that is not there."""
        if self.encoder not in ("", name_encoder()):
            message = (
                f"the network stands on the encoder {self.encoder}; this version of "
                f"the package has {name_encoder()}. Train it again in 05-train."
            )
            raise ParameterError(message)

    @classmethod
    def for_patterns(cls, patterns: Patterns, **parameters: Any) -> Self:
        """Make the network for a stack.

        Parameters
        ----------
        patterns
            The stack.
        **parameters
            `centre`, (row, column) in pixels; without it, found in the stack.
            `encoder`, False = the features alone; faster, and weaker on particles that
            are not round.
        """
        return cls(
            shape=patterns.shape[1:],
            centre=parameters.get("centre") or _find_centre(patterns),
            bad_pixels=encode_pixels(patterns.bad_pixels),
            encoder=name_encoder() if parameters.get("encoder", True) else "",
        )

    @cached_property
    def features(self) -> PatternFeatures:
        """What makes the inputs."""
        bad_pixels = decode_pixels(self.bad_pixels, self.shape)
        return PatternFeatures(bad_pixels, self.centre, with_encoder=bool(self.encoder))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """How many features there are."""
        return (len(self.features),)

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the features of (n, rows, columns) clean patterns."""
        return self.features(patterns)

    def build(self, seed: int = 0) -> Any:
        """Make what learns from the labels; not by chance, so the seed does nothing."""
        return make_head(len(self.features), with_encoder=bool(self.encoder))

    def read(self, path: Path) -> Any:
        """Read the head out of `model.keras`, without Keras where that is possible."""
        head = KernelHead.read(path, self.name, len(self.features))
        return super().read(path) if head is None else head

    def fit(
        self,
        keras_model: Any,
        parts: dict[str, Part],
        unlabelled: NDArray[np.float32],
        schedule: Schedule,
    ) -> Fitted:
        """Solve for the weights, from the training and validation parts."""
        return learn_at_once(keras_model, parts, unlabelled)


def make_head(n_features: int, *, with_encoder: bool = False) -> KernelHead:
    """Make what learns from the labels; it can become a Keras model, see `KernelHead`.

    Parameters
    ----------
    n_features
        Of a pattern, those of the encoder among them.
    with_encoder
        Whether the last ones are the encoder's.
    """
    encoded = [(N_NUMBERS, 1.0), (N_SUMMARY, 2.0)] if with_encoder else []
    n_plain = n_features - sum(n for n, _ in encoded)
    return KernelHead(InvariantNetwork.name, [(n_plain, 1.0), *encoded])


def _find_centre(patterns: Patterns) -> tuple[float, float]:
    measured = np.flatnonzero(patterns.is_measurement)
    some = np.linspace(0, measured.size - 1, POWDER_SAMPLE).astype(np.int64)
    powder = patterns[measured[np.unique(some)]].mean(axis=0, dtype=np.float64)
    return find_centre(powder, patterns.bad_pixels)


def encode_pixels(pixels: NDArray[np.bool_]) -> str:
    """Return (rows, columns) bool as a short text; "" if none is True."""
    if not pixels.any():
        return ""
    return base64.b64encode(zlib.compress(np.packbits(pixels).tobytes())).decode()


def decode_pixels(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return what `encode_pixels` was given."""
    if not text:
        return np.zeros(shape, np.bool_)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    n_pixels = shape[0] * shape[1]
    return np.unpackbits(bits, count=n_pixels).reshape(shape).astype(np.bool_)
