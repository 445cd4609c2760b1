"""The networks by name: the invariant one, the article's; one moved to further runs.

The inputs of the invariant network (`PatternFeatures`) do not change with the
particle's rotation about the beam, the pulse energy or the bad pixels, so it need not
learn that from labels.

The article's is kept as the baseline that everyone can compare with. Three things
differ from the article, whose code is for Keras 1: the rescaling by 1/255 is a layer of
the network, so that the validation images get it too (the article's validation
generator forgot it); the random changes of an image follow one another instead of being
one transform; and there is one channel where the article copies the same image into
three.
"""

import base64
import zlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.kernel_head import KernelHead, fit_in_closed_form
from helpers.classifier.network_base import (
    Fitted,
    Network,
    Part,
    Schedule,
    fit_in_epochs,
    import_keras,
)
from helpers.errors import ParameterError
from helpers.features import N_NUMBERS, N_SUMMARY, PatternFeatures, name_encoder
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import find_centre
from helpers.ranking import scale_to_255

POWDER_SAMPLE = 256
SMALLEST_IMAGE = 32  # below it nothing is left after the fourth pooling


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
        return fit_in_closed_form(keras_model, parts, unlabelled)


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
    some = spread_evenly(np.flatnonzero(patterns.is_measurement), POWDER_SAMPLE)
    powder = patterns[some].mean(axis=0, dtype=np.float64)
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
    n_bytes = -(-shape[0] * shape[1] // 8)
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(base64.b64decode(text), max(n_bytes + 1, 1))
    if len(content) != n_bytes:
        message = f"the bad pixels are not those of {shape[0]} × {shape[1]} pixels"
        raise ValueError(message)
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=shape[0] * shape[1])
    return bits.reshape(shape).astype(np.bool_)


@dataclass(frozen=True)
class ArticleNetwork(Network):
    """The article's convolutional network.

    Parameters
    ----------
    image_size
        Rows and columns of the images, in pixels; the article has 256.
    channels
        1, or 3 as in the article (copies of the same image: no gain, more time).
    """

    name: ClassVar[str] = "article"
    parameters: ClassVar[tuple[str, ...]] = ("image_size", "channels")
    image_size: int = 256
    channels: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that the network cannot have."""
        if self.image_size < SMALLEST_IMAGE or self.channels not in (1, 3):
            message = (
                f"the article's network cannot have image_size={self.image_size} with "
                f"channels={self.channels}; expected image_size of {SMALLEST_IMAGE} or "
                "more and 1 or 3 channels. Try image_size=128, channels=1."
            )
            raise ParameterError(message)

    @classmethod
    def for_patterns(cls, patterns: Patterns, **parameters: Any) -> Self:
        """Make the network; it is the same for every stack."""
        return cls(**parameters)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return self.image_size, self.image_size, self.channels

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the images of (n, rows, columns) patterns."""
        return make_images(patterns, self.image_size, self.channels)

    def build(self, seed: int = 0) -> Any:
        """Build and compile the Keras model; the same seed gives the same weights."""
        keras = import_keras()
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input(self.input_shape), *_augmentation(seed), *_layers()],
            name=self.name,
        )
        model.compile(
            optimizer="rmsprop",
            loss="binary_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,  # XLA on the CPU is many times slower
        )
        return model

    def fit(
        self,
        keras_model: Any,
        parts: dict[str, Part],
        unlabelled: NDArray[np.float32],
        schedule: Schedule,
    ) -> Fitted:
        """Learn from the training part in epochs, as the article does."""
        return fit_in_epochs(keras_model, parts, schedule, self.build)


def make_images(
    patterns: NDArray[np.float32], image_size: int = 256, channels: int = 1
) -> NDArray[np.float32]:
    """Make the article's images: scaled to 0 … 255, square, of one size.

    Parameters
    ----------
    patterns
        (n, rows, columns) float32, finite.
    image_size
        Rows and columns of the images. Smaller images are made by antialiased
        (area-weighted) averaging, larger ones by linear interpolation.
    channels
        1, or 3 for copies of the same image.

    Returns
    -------
    ndarray
        (n, image_size, image_size, channels) float32.
    """
    images = np.empty((len(patterns), image_size, image_size, channels), np.float32)
    for image, pattern in zip(images, scale_to_255(patterns), strict=True):
        image[...] = _resize(pattern, image_size)[..., np.newaxis]
    return images


def _resize(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    from PIL import Image

    if image.shape == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _augmentation(seed: int) -> list[Any]:
    """Return the article's random changes; Keras applies them in training only."""
    layers = import_keras().layers
    nearest = {"fill_mode": "nearest"}
    return [
        layers.RandomRotation(40 / 360, **nearest, seed=seed),
        layers.RandomTranslation(0.2, 0.2, **nearest, seed=seed + 1),
        # Keras 1 meant radians, this layer a slope, either way: tan(0.2) = 0.203
        layers.RandomShear((0.0, 0.203), (0.0, 0.0), **nearest, seed=seed + 2),
        layers.RandomZoom((-0.4, 0.4), (-0.4, 0.4), **nearest, seed=seed + 3),
        layers.RandomFlip("horizontal", seed=seed + 4),
    ]


def _layers() -> list[Any]:
    layers = import_keras().layers
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Dropout(0.5),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.ZeroPadding2D(1),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Dropout(0.5),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(1, activation="sigmoid"),
    ]


NETWORKS: dict[str, type[Network]] = {
    network.name: network for network in (ArticleNetwork, InvariantNetwork)
}


DEFAULT = InvariantNetwork.name


def find_network(name: str) -> type[Network]:
    """Return the class of a network.

    Raises
    ------
    ParameterError
        If there is no network of that name.
    """
    if name not in NETWORKS:
        message = f"model is {name!r}; expected one of {', '.join(NETWORKS)}."
        raise ParameterError(message)
    return NETWORKS[name]


def make_network(name: str, patterns: Patterns, **parameters: Any) -> Network:
    """Make a network for a stack.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    patterns
        The stack.
    **parameters
        Of the experiment and the notebook, for all networks; each takes its own.

    Raises
    ------
    ParameterError
        If there is no network of that name, no network at all takes a parameter, or
        this one cannot have such a value.
    """
    network = find_network(name)
    known = {each for one in NETWORKS.values() for each in one.parameters}
    unknown = sorted(parameters.keys() - known)
    if unknown:
        message = (
            f"no network has a parameter {', '.join(unknown)}; expected "
            f"{', '.join(sorted(known))}."
        )
        raise ParameterError(message)
    own = {key: value for key, value in parameters.items() if key in network.parameters}
    return network.for_patterns(patterns, **own)


def restore_network(name: str, settings: dict[str, Any]) -> Network:
    """Return a network with the settings that `model.json` holds.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    settings
        All fields of that network; lists, as JSON gives them, count as tuples.

    Raises
    ------
    ParameterError
        If there is no network of that name, or its fields are others.
    """
    network: Any = find_network(name)
    names = {field.name for field in fields(network)}
    if names != settings.keys():
        message = (
            f"the settings of the network {name!r} are {', '.join(sorted(settings))}; "
            f"expected {', '.join(sorted(names))}."
        )
        raise ParameterError(message)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    restored: Network = network(**values)
    return restored


Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class MovedNetwork(Network):
    """Moves patterns by whole pixels, to where the network expects the beam.

    How many inputs a network makes depends on where the centre is; weights can be kept
    only if it stays.

    Parameters
    ----------
    network
        What makes inputs of the moved patterns.
    rows, columns
        By how many pixels they are moved, down and to the right.
    """

    name: ClassVar[str] = "moved"
    network: Network
    rows: int
    columns: int

    @classmethod
    def for_patterns(cls, patterns: Patterns, **parameters: Any) -> Self:
        """Refuse: it is made for a run by `adapt_network`."""
        raise NotImplementedError

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the network."""
        return self.network.input_shape

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move patterns and make the network's inputs of them."""
        moved = move(patterns, self.rows, self.columns, np.float32(0))
        return self.network.make_inputs(moved)

    def build(self, seed: int = 0) -> Any:
        """Build the network's Keras model."""
        return self.network.build(seed)

    def fit(
        self,
        keras_model: Any,
        parts: dict[str, Part],
        unlabelled: NDArray[np.float32],
        schedule: Schedule,
    ) -> Fitted:
        """Fit as the network does."""
        return self.network.fit(keras_model, parts, unlabelled, schedule)


def move(
    images: NDArray[Value], rows: int, columns: int, outside: Value
) -> NDArray[Value]:
    """Move images (…, rows, columns) down and to the right, whole pixels.

    Parameters
    ----------
    images
        What is moved.
    rows, columns
        By how many pixels; negative ones go up and to the left.
    outside
        What comes in from outside.
    """
    moved = np.full_like(images, outside)
    there, here = zip(*(_cut(by) for by in (rows, columns)), strict=True)
    moved[..., *there] = images[..., *here]
    return moved


def _cut(by: int) -> tuple[slice, slice]:
    """Return where the image goes on an axis, and what of it."""
    there = slice(max(by, 0), min(by, 0) or None)
    here = slice(max(-by, 0), min(-by, 0) or None)
    return there, here


def adapt_network(
    network: Network, patterns: Patterns, centre: tuple[float, float]
) -> Network:
    """Return the network for a run with another centre and other bad pixels.

    Its weights are of use only if it makes as many inputs. Where it would not, however
    the run is laid under it, it stays as it is.

    Parameters
    ----------
    network
        Of a trained model. One without the fields `centre` and `bad_pixels` (from
        `encode_pixels`) stays as it is.
    patterns
        The run, with its bad pixels.
    centre
        (row, column) of its beam.
    """
    if not {"centre", "bad_pixels"} <= vars(network).keys():
        return network
    one: Any = network
    here = encode_pixels(patterns.bad_pixels)
    rows, columns = (
        round(known - found) for known, found in zip(one.centre, centre, strict=True)
    )
    moved = encode_pixels(move(patterns.bad_pixels, rows, columns, np.bool_(True)))
    there = (centre[0] + rows, centre[1] + columns)
    options = (
        replace(one, centre=centre, bad_pixels=here),
        MovedNetwork(replace(one, centre=there, bad_pixels=moved), rows, columns),
    )
    fitting = (each for each in options if each.input_shape == network.input_shape)
    return next(fitting, network)
