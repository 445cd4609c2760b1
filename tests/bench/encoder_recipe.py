"""How the encoder was made: examples, training, and the figures that it reached.

`make encoder` does all of it again, in 70 minutes on 2 cores and with 12 GB of memory.
Examples are simulated windows of ever other particles (`any_sample.py`): 8 patterns of
each, every one turned and mirrored anew in each pass. The encoder is taught at once how
many particles there are, how large they are, of what body, how bright and how far away
the second one is. Bodies of `UNSEEN_BODIES` teach nothing; they show what it has
understood.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from any_sample import SEEN_BODIES, UNSEEN_BODIES, simulate_any
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.features import (
    N_ANGLES,
    N_CHANNELS,
    N_GUESSED,
    N_NUMBERS,
    N_RINGS,
    SCALE_OF_LIGHT,
    TOWERS,
    WEIGHTS_FILE,
    WIDTHS,
    AngularMaps,
)
from helpers.outputs import atomic_hdf5, atomic_write
from helpers.physics import PattersonMaps

CARD_FILE = WEIGHTS_FILE.with_name("encoder.md")
N_BODIES = len(SEEN_BODIES)
N_TAUGHT = N_GUESSED + 1 + N_BODIES + 3
PER_PARTICLE = 8
N_PARTICLES = 48_000
N_TO_JUDGE = 200
FIRST_TO_CHOOSE, FIRST_TO_JUDGE = 800_000, 900_000  # seeds
EPOCHS = 10
BATCH = 128
LEARNING_RATE = 3e-3
UNIT_OF_LIGHT = 0.5  # standard deviation of its logarithm: gains are not well known
# what the outputs are taught, beside none, one or several: weight in the loss, and what
# is subtracted so that they begin near 0
SIZE, BODY, SECOND, COUNT = (0.3, 2.0), 0.1, 0.05, (0.05, 2.0)


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs of the encoder and what is true of them.

    Attributes
    ----------
    maps, light
        (n, 30, 48, 5) float16 and (n, 1) float32, its inputs.
    truth
        (n, 5) float32: number of particles; log of the size and separation plus one,
        in steps of the Patterson map; fluence of the second particle; number of the
        body.
    """

    maps: NDArray[np.float16]
    light: NDArray[np.float32]
    truth: NDArray[np.float32]

    @classmethod
    def of_seed(cls, seed: int, bodies: tuple[str, ...]) -> Self:
        """Simulate the patterns of one particle."""
        sample = simulate_any(seed, PER_PARTICLE, bodies)
        maps = PattersonMaps(sample.bad_pixels, sample.centre)
        white = maps.whiten(sample.simulation.patterns)
        details = sample.simulation.details
        truth = np.column_stack(
            [
                details["n_particles"],
                np.log(np.nan_to_num(details["size_nm"], nan=1) / sample.step_nm),
                np.log1p(np.nan_to_num(details["separation_nm"]) / sample.step_nm),
                np.nan_to_num(details["second_fluence"]),
                np.full(PER_PARTICLE, bodies.index(sample.body)),
            ]
        )
        return cls(
            AngularMaps(maps)(white).astype(np.float16),
            np.log(white.level / white.noise**2),
            truth.astype(np.float32),
        )

    @classmethod
    def of_seeds(cls, seeds: range, bodies: tuple[str, ...]) -> Self:
        """Simulate many particles, in several processes."""
        with ProcessPoolExecutor() as processes:
            found = processes.map(cls.of_seed, seeds, [bodies] * len(seeds))
            parts = list(
                tqdm(found, total=len(seeds), desc="Simulate", unit="particle")
            )
        return cls(
            np.concatenate([part.maps for part in parts]),
            np.concatenate([part.light for part in parts]),
            np.concatenate([part.truth for part in parts]),
        )

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """Give maps, light and truth of all in random order, turned and mirrored."""
        order = rng.permutation(len(self.maps))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            maps = np.roll(self.maps[index], rng.integers(self.maps.shape[2]), axis=2)
            maps = maps[:, :, :: rng.choice([-1, 1])].astype(np.float32)
            noise = rng.normal(scale=UNIT_OF_LIGHT, size=(BATCH, 1))
            light = (self.light[index] + noise).astype(np.float32)
            yield maps, light, self.truth[index]


def build_encoder() -> Any:
    """Build the Keras model, untrained.

    Inputs are (n, 30, 48, 5) angular maps and (n, 1) light, the logarithm of the mean
    over the square of the noise; outputs the 64 numbers, and what it is taught: logits
    of none, one and several particles; log size; logits of the body; of the second
    particle log fluence and log separation; how many particles.
    """
    import keras

    layers, ops = keras.layers, keras.ops

    def convolve(values: Any, width: int, step: int, name: str) -> Any:
        ends = values[:, :, -1:], values, values[:, :, :1]
        closed = ops.concatenate(ends, axis=2)
        padded = ops.pad(closed, [(0, 0), (1, 1), (0, 0), (0, 0)])
        convolution = layers.Conv2D(width, 3, step, use_bias=False, name=name)
        return activate(convolution(padded), name)

    def activate(values: Any, name: str) -> Any:
        normal = layers.BatchNormalization(name=f"{name}_normal")(values)
        return layers.Activation("relu", name=f"{name}_relu")(normal)

    def build_tower(values: Any, name: str) -> Any:
        for width, step in WIDTHS:
            values = convolve(values, width, step, f"{name}_{width}")
        last = convolve(values, WIDTHS[-1][0], 1, f"{name}_last")
        return layers.Add(name=f"{name}_sum")([values, last])

    maps = keras.Input((N_RINGS, N_ANGLES, N_CHANNELS), name="maps")
    light = keras.Input((1,), name="light")
    towers = [build_tower(maps[..., some], name) for name, some in TOWERS.items()]
    both = ops.transpose(layers.Concatenate(name="towers")(towers), (0, 2, 1, 3))
    _, n_directions, n_rings, n_values = both.shape
    directions = layers.Reshape((n_directions, n_rings * n_values))(both)
    dense = layers.Dense(96, use_bias=False, name="direction")(directions)
    each = layers.Dense(96, "relu", name="direction_last")(activate(dense, "direction"))
    pooled = [ops.mean(each, axis=1), ops.max(each, axis=1), light * SCALE_OF_LIGHT]
    hidden = layers.Dense(128, "relu", name="hidden")(ops.concatenate(pooled, axis=1))
    thinned = layers.Dropout(0.1, name="dropout")(hidden)
    numbers = layers.Dense(N_NUMBERS, "relu", name="numbers")(thinned)
    taught = layers.Dense(N_TAUGHT, name="taught")(numbers)
    return keras.Model([maps, light], [numbers, taught], name="encoder")


def write_weights(model: Any) -> None:
    """Write kernel and bias of each layer, batch normalisations folded in."""
    names = {layer.name for layer in model.layers}
    with atomic_hdf5(WEIGHTS_FILE) as file:
        for layer in model.layers:
            if not hasattr(layer, "kernel"):
                continue
            kernel, *bias = layer.get_weights()
            if (normal := f"{layer.name}_normal") in names:
                fold = model.get_layer(normal)
                scale, offset, mean, variance = fold.get_weights()
                factor = scale / np.sqrt(variance + fold.epsilon)
                kernel, bias = kernel * factor, [offset - mean * factor]
            file[f"{layer.name}/kernel"] = kernel.astype(np.float16)
            file[f"{layer.name}/bias"] = bias[0].astype(np.float16)


def train_encoder(examples: Examples, epochs: int, seed: int = 1) -> Any:
    """Train the encoder from nothing; return the Keras model."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    model = build_encoder()
    n_steps = epochs * (len(examples.maps) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, n_steps, alpha=0.01)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-3)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(maps: Any, light: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            _, outputs = model([maps, light], training=True)
            loss = find_loss(truth, outputs)
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    rng = np.random.default_rng(seed)
    with tqdm(total=n_steps, desc="Train", unit="step") as bar:
        for _ in range(epochs):
            losses = []
            for maps, light, truth in examples.draw_batches(rng):
                losses.append(float(step(maps, light, truth)))
                bar.update()
            bar.set_postfix(loss=f"{np.mean(losses):.4f}")
    return model


def find_loss(truth: Any, outputs: Any) -> Any:
    """Return the mean loss over a batch, of all that the encoder is taught."""
    import keras

    ops = keras.ops
    cross_entropy = keras.losses.sparse_categorical_crossentropy
    n_particles, log_size, log_apart, fluence, body = ops.unstack(truth, axis=1)
    size, bodies = outputs[:, N_GUESSED], outputs[:, N_GUESSED + 1 :][:, :N_BODIES]
    second = outputs[:, -3:]
    guessed = ops.cast(ops.minimum(n_particles, N_GUESSED - 1), "int32")
    is_hit = ops.cast(n_particles > 0, "float32")
    is_multiple = ops.cast(n_particles > 1, "float32")
    losses = [
        cross_entropy(guessed, outputs[:, :N_GUESSED], from_logits=True),
        SIZE[0] * is_hit * (size - log_size + SIZE[1]) ** 2,
        BODY
        * is_hit
        * cross_entropy(ops.cast(body, "int32"), bodies, from_logits=True),
        SECOND * is_multiple * (second[:, 0] - ops.log(fluence + 0.01)) ** 2,
        SECOND * is_multiple * (second[:, 1] - log_apart + 2) ** 2,
        COUNT[0] * is_multiple * (second[:, 2] - n_particles + COUNT[1]) ** 2,
    ]
    return ops.mean(sum(losses))


def judge_encoder(model: Any, examples: Examples) -> tuple[float, float, float]:
    """Return how well single and multiple hits are told apart: AUC and 95 % interval.

    The interval is a bootstrap over particles, of which each has several patterns.
    """
    from sklearn.metrics import roc_auc_score

    outputs = np.concatenate(
        [
            model([maps.astype(np.float32), light], training=False)[1]
            for maps, light in zip(
                np.array_split(examples.maps, len(examples.maps) // PER_PARTICLE),
                np.array_split(examples.light, len(examples.maps) // PER_PARTICLE),
                strict=True,
            )
        ]
    )
    n_particles = examples.truth[:, 0]
    logit = outputs[:, 1] - outputs[:, 2]
    rng = np.random.default_rng(0)
    patterns = np.arange(len(logit)).reshape(-1, PER_PARTICLE)

    def find_area(index: NDArray[np.int64]) -> float:
        hits = index[n_particles[index] > 0]
        return float(roc_auc_score(n_particles[hits] == 1, logit[hits]))

    drawn = (rng.integers(0, len(patterns), len(patterns)) for _ in range(500))
    areas = [find_area(patterns[some].ravel()) for some in drawn]
    low, high = np.percentile(areas, [2.5, 97.5])
    return find_area(patterns.ravel()), float(low), float(high)


def write_card(model: Any, n_particles: int, epochs: int, figures: list[str]) -> None:
    """Write what the encoder is, how it was made and what it reached."""
    lines = "\n".join(f"- {figure}" for figure in figures)
    n_examples, n_judged = n_particles * PER_PARTICLE, N_TO_JUDGE * PER_PARTICLE
    card = f"""# The encoder

{model.count_params():,} weights in `{WEIGHTS_FILE.name}`; the architecture is in
`features.py`, the recipe in `tests/bench/encoder_recipe.py`. Made by
`make encoder` from nothing but simulated patterns: {n_examples:,} windows of
{n_particles:,} particles (their seeds count from 0), {epochs} passes, seed 1. Bodies:
{", ".join(SEEN_BODIES)}.

Area under the ROC curve for single against multiple hits without any label, on
{n_judged:,} windows of {N_TO_JUDGE} particles each, with 95 % intervals (bootstrap over
particles):

{lines}

It saw no measured pattern. What it makes of a sample is a guess, never a label.
"""
    with atomic_write(CARD_FILE) as path:
        path.write_text(card, encoding="utf-8")


def main() -> None:
    """Simulate, train, judge; write weights and card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--particles", type=int, default=N_PARTICLES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    examples = Examples.of_seeds(range(options.particles), SEEN_BODIES)
    model = train_encoder(examples, options.epochs)
    figures = []
    for what, first, bodies in (
        ("other particles of these bodies", FIRST_TO_CHOOSE, SEEN_BODIES),
        (
            f"bodies never seen ({', '.join(UNSEEN_BODIES)})",
            FIRST_TO_JUDGE,
            UNSEEN_BODIES,
        ),
    ):
        judged = Examples.of_seeds(range(first, first + N_TO_JUDGE), bodies)
        area, low, high = judge_encoder(model, judged)
        figures.append(f"{what}: {area:.3f} ({low:.3f} to {high:.3f})")
    write_weights(model)
    write_card(model, options.particles, options.epochs, figures)


if __name__ == "__main__":
    main()
