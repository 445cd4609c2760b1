"""The network of the original article, and the images that it is given.

Kept as the baseline that everyone can compare with. Three things differ from the
article, whose code is for Keras 1: the rescaling by 1/255 is a layer of the network, so
that the validation images get it too (the article's validation generator forgot it);
the random changes of an image follow one another instead of being one transform; and
there is one channel where the article copies the same image into three.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.fitting import learn_in_epochs
from helpers.classifier.network import Fitted, Network, Part, Schedule, import_keras
from helpers.errors import ParameterError
from helpers.patterns import Patterns
from helpers.ranking import scale_to_255

SMALLEST_IMAGE = 32  # below it nothing is left after the fourth pooling


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
        return learn_in_epochs(keras_model, parts, schedule, self.build)


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
