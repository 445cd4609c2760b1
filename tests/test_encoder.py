"""The encoder: what it is given, what it makes of it, and how it is made again."""

import encoder_recipe
import numpy as np
import pytest
from any_sample import SEEN_BODIES, simulate_any
from bench_particles import JUDGED, JUDGED_BODIES
from encoder_recipe import Examples, build_encoder, train_encoder

from helpers import features as module
from helpers.classifier import InvariantNetwork
from helpers.errors import ParameterError
from helpers.features import (
    N_ANGLES,
    N_CHANNELS,
    N_RINGS,
    AngularMaps,
    FirstGuess,
    PatternFeatures,
    guess_particles,
)
from helpers.patterns import open_patterns
from helpers.physics import PattersonMaps
from helpers.simulate import Detector, Sample, simulate_patterns, write_simulated

SHAPE = (128, 128)
DETECTOR = Detector.of_shape(SHAPE)
NONE_BAD = np.zeros(SHAPE, bool)


@pytest.fixture(scope="module")
def rods():
    sample = Sample(
        body="rod", single=0.4, multiple=0.6, other=0, blank=0, close_share=0,
        weak_share=0, background=100,
    )  # fmt: skip
    return simulate_patterns(
        48, 7, sample=sample, detector=DETECTOR, bad_pixels=NONE_BAD
    )


@pytest.fixture(scope="module")
def features():
    return PatternFeatures(NONE_BAD, DETECTOR.centre, with_encoder=True)


def test_a_turned_particle_moves_the_columns_and_nothing_else():
    centre = (63.5, 63.5)
    detector = Detector(shape=SHAPE, centre=centre, pixel_mm=0.6)
    sample = Sample(single=1, multiple=0, other=0, blank=0, body="brick", background=0)
    pattern = simulate_patterns(
        1, 3, sample=sample, detector=detector, bad_pixels=NONE_BAD
    ).patterns
    maps = PattersonMaps(NONE_BAD, centre)
    angular = AngularMaps(maps)
    turned = np.rot90(pattern, axes=(1, 2)).copy()
    before, after = (angular(maps.whiten(some)) for some in (pattern, turned))
    assert before.shape == (1, N_RINGS, N_ANGLES, N_CHANNELS)
    moved = np.roll(before, N_ANGLES // 2, axis=2)
    outer = slice(8, None)  # nearer, the pixels are coarser than the sectors
    assert np.corrcoef(moved[0, outer, :, 0].ravel(), after[0, outer, :, 0].ravel())[
        0, 1
    ] > 0.95  # fmt: skip
    assert np.corrcoef(before[0, outer, :, 0].ravel(), after[0, outer, :, 0].ravel())[
        0, 1
    ] < 0.8  # fmt: skip


@pytest.mark.parametrize("shape", [(20, 18), (64, 70), (260, 257)])
def test_numbers_are_finite_on_any_detector(shape):
    rng = np.random.default_rng(0)
    bad_pixels = rng.random(shape) < 0.3
    patterns = rng.poisson(0.5, (3, *shape)).astype(np.float32)
    patterns[1] = 0
    patterns[:, bad_pixels] = 0
    features = PatternFeatures(bad_pixels, (shape[0] / 2, 8.5), with_encoder=True)
    assert np.isfinite(features(patterns)).all()


def test_it_tells_one_rod_from_two_without_a_label(rods, features):
    odds = features(rods.patterns)[:, -3]
    single = rods.true_labels == "single"
    order = np.argsort(-odds)
    assert single[order[: single.sum()]].mean() > 0.8
    assert np.mean((odds > 0) == single) > 0.8


def test_numbers_do_not_depend_on_how_patterns_are_grouped(rods, features):
    together = features(rods.patterns[:20])
    alone = np.concatenate([features(rods.patterns[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(together, alone)


def test_it_is_what_keras_would_make_of_it(monkeypatch, tmp_path):
    model = build_encoder()
    rng = np.random.default_rng(1)
    model.set_weights(
        [np.abs(w) * 0.9 + 0.05 * rng.random(w.shape) for w in model.get_weights()]
    )
    monkeypatch.setattr(encoder_recipe, "WEIGHTS_FILE", tmp_path / "encoder.h5")
    monkeypatch.setattr(module, "WEIGHTS_FILE", tmp_path / "encoder.h5")
    encoder_recipe.write_weights(model)
    maps = rng.normal(size=(4, N_RINGS, N_ANGLES, N_CHANNELS)).astype(np.float32)
    light = rng.normal(size=(4, 1)).astype(np.float32)
    expected = [np.asarray(each) for each in model([maps, light], training=False)]
    found = module.run_encoder(module.load_weights.__wrapped__(), maps, light)
    for one, other in zip(found, expected, strict=True):
        # kept in half precision
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_a_few_steps_of_the_recipe_lower_the_loss(monkeypatch):
    monkeypatch.setattr(encoder_recipe, "BATCH", 16)
    parts = [Examples.of_seed(seed, SEEN_BODIES) for seed in range(4)]
    examples = Examples(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("maps", "light", "truth")
        )
    )
    losses = []
    for epochs in (1, 12):
        model = train_encoder(examples, epochs)
        inputs = [examples.maps.astype(np.float32), examples.light]
        outputs = model(inputs, training=True)[1]
        losses.append(float(encoder_recipe.find_loss(examples.truth, outputs)))
    assert losses[1] < 0.8 * losses[0]


def test_any_sample_depends_on_its_seed_and_covers_all_bodies():
    first, again = (simulate_any(3, 4) for _ in range(2))
    np.testing.assert_array_equal(first.simulation.patterns, again.simulation.patterns)
    assert first.simulation.patterns[:, first.bad_pixels].max() == 0
    assert {simulate_any(seed, 1).body for seed in range(60)} == {*SEEN_BODIES}


def test_no_particle_that_judges_was_among_those_it_was_trained_on():
    of_one_shape = {"octahedron", "cube", "icosahedron"}
    for seed in JUDGED:
        body = JUDGED_BODIES[seed % len(JUDGED_BODIES)]
        if body in SEEN_BODIES and seed < encoder_recipe.N_PARTICLES:
            assert body in of_one_shape or simulate_any(seed, 1).body != body


def test_a_network_that_stands_on_another_encoder_is_refused():
    with pytest.raises(ParameterError, match="stands on the encoder 0123"):
        InvariantNetwork(shape=SHAPE, centre=(64.0, 64.0), encoder="0123")
    without = InvariantNetwork(shape=SHAPE, centre=(64.0, 64.0))
    with_it = InvariantNetwork(
        shape=SHAPE, centre=(64.0, 64.0), encoder=module.name_encoder()
    )
    assert with_it.input_shape[0] == without.input_shape[0] + module.N_NUMBERS + 3


def test_a_first_guess_without_a_label(tmp_path):
    sample = Sample(body="brick", single=0.3, multiple=0.4, other=0, blank=0.3)
    path = tmp_path / "patterns.h5"
    write_simulated(path, 100, 5, sample=sample, detector=DETECTOR, bad_pixels=NONE_BAD)
    with open_patterns(path) as patterns:
        guess = guess_particles(patterns, DETECTOR.centre)
        truth = patterns.true_labels
    found = np.array(["blank", "single", "multiple"])[
        np.argmax([guess.blank, guess.single, guess.multiple], axis=0)
    ]
    assert np.mean(found == truth) > 0.8
    assert "Of 100 patterns over the run about" in guess.describe()


def test_the_first_labels_are_random_and_doubtful_in_turn():
    rng = np.random.default_rng(2)
    single, blank = rng.random((2, 80)).astype(np.float32)
    blank[:20] = 0.9
    single *= 1 - blank
    guess = FirstGuess(np.arange(80) * 3, blank, single, 1 - single - blank)
    shuffled = rng.permutation(240)
    index, reason = guess.order_first_labels(shuffled)
    assert len(np.unique(index)) == len(index) == len(reason)
    at_random, doubtful = index[::2], index[1::2]
    np.testing.assert_array_equal(at_random, shuffled[: len(at_random)])
    hit = blank < 0.5
    apart = np.abs(2 * single + blank - 1)
    others = np.setdiff1d(np.flatnonzero(hit) * 3, index) // 3
    assert hit[doubtful // 3].all()
    assert apart[doubtful // 3].max() <= apart[others].min()
    assert set(reason[1::2]) == {"first guess in doubt"}


def test_no_first_guess_of_patterns_that_are_too_small(tmp_path):
    np.save(tmp_path / "small.npy", np.ones((3, 12, 12), np.float32))
    with open_patterns(tmp_path / "small.npy") as some:
        assert guess_particles(some, (6, 6)).describe().startswith("No first guess")
