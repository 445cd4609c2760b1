"""The network of the original article, and the images that it is given.

Kept as the baseline that everyone can compare with. Three things differ from the
article, whose code is for Keras 1: the rescaling by 1/255 is a layer of the network, so
that the validation images get it too (the article's validation generator forgot it);
the random changes of an image follow one another instead of being one transform; and
there is one channel where the article copies the same image into three.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.classifier.calibration import fit_calibration
from helpers.classifier.network import (
    Fitted,
    History,
    Network,
    Part,
    Schedule,
    import_keras,
    mirror_on_gpus,
    predict_inputs,
)
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


def learn_in_epochs(
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
    with tqdm(total=schedule.epochs, unit="epoch", desc="Train") as bar:
        history = keras_model.fit(
            *_as_numbers(training),
            validation_data=_as_numbers(validation),
            epochs=schedule.epochs,
            batch_size=size,
            validation_batch_size=validation_size,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=_show_on(bar))],
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


def _as_numbers(part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    inputs, single = part
    return inputs, single.astype(np.float32)


def _show_on(bar: Any) -> Callable[[int, dict[str, float]], None]:
    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
        bar.update()

    return show
