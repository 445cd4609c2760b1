"""What the invariant network is given, and what cannot change it."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers.classifier.networks import decode_pixels, encode_pixels
from helpers.errors import ParameterError
from helpers.features import PatternFeatures
from helpers.physics import PattersonMaps, Window, maps

SIZE = 48
MIDDLE = ((SIZE - 1) / 2, (SIZE - 1) / 2)


def make_bad_pixels() -> np.ndarray:
    """Make bad pixels that look the same after a quarter of a turn."""
    bad_pixels = np.zeros((SIZE, SIZE), bool)
    bad_pixels[22:26, 22:26] = True
    for turns in range(4):
        np.rot90(bad_pixels, turns)[5, 18:30] = True
    return bad_pixels


def make_patterns(bad_pixels: np.ndarray, n: int = 5, seed: int = 0) -> np.ndarray:
    """Make speckles that fall off with the radius."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(bad_pixels.shape)
    radius = np.hypot(rows - MIDDLE[0], columns - MIDDLE[1])
    mean = 80 * np.exp(-radius / 8) * rng.uniform(0.5, 1.5, (n, *radius.shape))
    return np.where(bad_pixels, 0, rng.poisson(mean)).astype(np.float32)


def make_features(bad_pixels, centre):
    return PatternFeatures(bad_pixels, centre, with_encoder=False)


@pytest.fixture
def features() -> PatternFeatures:
    return make_features(make_bad_pixels(), MIDDLE)


@pytest.fixture
def patterns() -> np.ndarray:
    return make_patterns(make_bad_pixels())


# Sums run over the same values in another order; a feature is at most about 10.
SAME = {"abs": 2e-3}


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_changes_nothing(features, patterns, turns):
    turned = np.rot90(patterns, turns, axes=(1, 2))
    assert features(turned) == pytest.approx(features(patterns), **SAME)


def test_mirroring_changes_nothing(features, patterns):
    assert features(patterns[:, ::-1]) == pytest.approx(features(patterns), **SAME)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e5])
def test_pulse_energy_and_unit_change_nothing(features, patterns, factor):
    scaled = patterns * np.float32(factor)
    assert features(scaled) == pytest.approx(features(patterns), **SAME)


def test_patterns_do_not_know_each_other_and_are_left_alone(features, patterns):
    before = patterns.copy()
    one_by_one = np.concatenate([features(patterns[i : i + 1]) for i in range(5)])
    many = features(np.tile(patterns, (9, 1, 1)))
    assert many[:5] == pytest.approx(one_by_one, abs=1e-5)
    assert np.array_equal(many[:5], many[40:])
    assert np.array_equal(patterns, before)


def test_other_patterns_have_other_features(features, patterns):
    values = features(patterns)
    assert values.shape == (5, len(features))
    assert np.abs(values[0] - values[1]).max() > 0.1


@pytest.mark.parametrize("value", [0.0, -3.0, 5.0])
def test_patterns_without_structure_are_finite(features, value):
    flat = np.full((2, SIZE, SIZE), value, np.float32)
    flat[:, make_bad_pixels()] = 0
    flat[1, 20, 20] = 1e6
    assert np.isfinite(features(flat)).all()


@given(hnp.arrays(np.float32, (1, 20, 18), elements=st.floats(-1e4, 1e6, width=32)))
def test_features_are_always_finite(patterns):
    assert np.isfinite(
        make_features(np.zeros((20, 18), bool), (9, 8.5))(patterns)
    ).all()


def test_a_hot_pixel_is_kept_down(features, patterns, monkeypatch):
    hot = patterns.copy()
    hot[:, 8, 30] = 50 * patterns.max()
    change = np.median(np.abs(features(hot) - features(patterns)))
    monkeypatch.setattr(maps, "LOUDEST", 1e9)
    without_limit = np.median(np.abs(features(hot) - features(patterns)))
    assert change < without_limit / 2


# --- the map --------------------------------------------------------------------------


def test_the_map_is_that_of_the_slow_twin(patterns):
    bad_pixels = make_bad_pixels()
    bad_pixels[30, 10:20] = True
    patterns = np.where(bad_pixels, 0, patterns)
    centre = (22.8, 24.1)
    maps = PattersonMaps(bad_pixels, centre).make_maps(patterns[:2])
    for found, pattern in zip(maps, patterns, strict=False):
        expected = reference.fringe_map(pattern, bad_pixels, centre)
        scale = np.abs(expected).max() / np.abs(found).max()
        # single precision; the highest frequency is its own mirror image
        assert found[1:, 1:] * scale == pytest.approx(
            expected[1:, 1:], abs=1e-4 * scale * 10
        )


@pytest.mark.parametrize(("down", "right"), [(14, 5), (-9, 12), (0, 16)])
def test_a_weak_second_particle_is_a_peak_at_its_place(features, down, right):
    rows, columns = np.indices((SIZE, SIZE))
    phase = down * (rows - MIDDLE[0]) + right * (columns - MIDDLE[1])
    fringe_features = 1 + 0.3 * np.cos(2 * np.pi * phase / SIZE)
    pattern = make_patterns(make_bad_pixels(), 1) * fringe_features.astype(np.float32)
    (found,) = PattersonMaps(make_bad_pixels(), MIDDLE).make_maps(pattern)
    rows_apart, columns_apart = np.indices(found.shape) - SIZE // 2
    found[np.hypot(rows_apart, columns_apart) < 6] = 0
    peak = np.unravel_index(np.argmax(found), found.shape)
    place = np.array(peak) - SIZE // 2
    assert place.tolist() in ([down, right], [-down, -right])
    assert found[peak] > 4 * np.abs(found).mean()


# --- the window -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size", "binning"),
    [
        ((260, 257), 128, 1),
        ((128, 128), 128, 1),
        ((41, 40), 40, 1),
        ((1024, 1030), 128, 4),
    ],
)
def test_window_is_the_middle_and_inside(shape, size, binning):
    for centre in ((shape[0] / 2, shape[1] / 2), (0.0, shape[1] - 1.0)):
        window = Window.around(centre, shape)
        assert (window.size, window.binning) == (size, binning)
        assert 0 <= window.row <= shape[0] - size * binning
        assert 0 <= window.column <= shape[1] - size * binning


def test_binned_patterns_have_the_features_of_small_ones():
    small = make_patterns(np.zeros((256, 256), bool), 2)
    bad_pixels = np.zeros((256, 256), bool)
    bad_pixels[120:130, 100:140] = True
    small[:, bad_pixels] = 0
    large = np.kron(small / 4, np.ones((1, 2, 2), np.float32))
    large_bad = np.kron(bad_pixels, np.ones((2, 2), bool))
    found = make_features(large_bad, (255.1, 255.7))(large)
    expected = make_features(bad_pixels, (127.3, 127.6))(small)
    assert found[:, :-1] == pytest.approx(expected[:, :-1], **SAME)
    # four pixels that always agree are counted as one photon each
    assert found[:, -1] == pytest.approx(expected[:, -1] - np.log(4), **SAME)


def test_too_small_patterns_are_refused():
    with pytest.raises(ParameterError, match="12 × 40 pixels are too small"):
        make_features(np.zeros((12, 40), bool), (6, 20))


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_bad_pixels_survive_being_written_as_text(pixels):
    assert np.array_equal(decode_pixels(encode_pixels(pixels), pixels.shape), pixels)
