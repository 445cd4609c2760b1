"""What is no measurement is found from the patterns, and nothing else is."""

from functools import cache

import h5py
import numpy as np
import pytest

from helpers import experiment
from helpers.patterns import open_patterns
from helpers.simulate import Sample, pnccd_bad_pixels, simulate_patterns

SHAPE = (96, 94)
NONE = np.zeros(SHAPE, bool)
ROW, COLUMN = np.indices(SHAPE)
CENTRE = (48.3, 45.9)  # of what is simulated
RADIUS = np.hypot(ROW - CENTRE[0], COLUMN - CENTRE[1])
BRIGHT = Sample(photons=25_000, background=700)
SAMPLES = {
    "as bright as measured": BRIGHT,
    "dim": Sample(photons=2_000, background=300),
    "no background": Sample(photons=10_000, background=0),
    "sharp rings": Sample(
        photons=100_000, background=50, size_nm=150, size_spread=0.005, lumpiness=0,
        single=0.8, multiple=0.1, other=0, blank=0.1,
    ),
}  # fmt: skip
MASKS = {
    "pnCCD": pnccd_bad_pixels(SHAPE),
    "2 x 2 gap": (abs(ROW - 44) < 2) | (abs(COLUMN - 51) < 3),
    "wide gaps": (abs(ROW - 68) < 9) | (abs(COLUMN - 25) < 5),
    "beam stop with wire": (RADIUS < 7)
    | ((abs(ROW - 48.3 - 0.1 * (COLUMN - 46)) < 1) & (COLUMN > 46)),
    "rectangular beam stop": (abs(ROW - 48) < 4) & (abs(COLUMN - 46) < 6),
    "missing quadrant": (ROW < 48) & (COLUMN < 46),
    "dead module": (ROW > 30) & (ROW < 60) & (COLUMN > 58) & (COLUMN < 80),
    "rims": (ROW < 2) | (ROW > 93) | (COLUMN < 1) | (COLUMN > 90),
}


@cache
def simulated(name="as bright as measured", n=400):
    """Return photon counts on every pixel, int64, not to be changed."""
    patterns = simulate_patterns(n, 5, sample=SAMPLES[name], bad_pixels=NONE).patterns
    assert patterns.shape[1:] == SHAPE
    patterns.setflags(write=False)
    return patterns.astype(np.int64)


@pytest.fixture
def find(tmp_path):
    """Find bad pixels as 01 does."""

    def find(values, bad_pixels=None):
        with h5py.File(tmp_path / "run.h5", "w") as file:
            file["patterns"] = values
        with open_patterns(tmp_path / "run.h5", bad_pixels=bad_pixels) as patterns:
            lit = experiment.suggest_lit_threshold(patterns)
            measured = experiment.measure_patterns(patterns, lit)
            return experiment.find_bad_pixels(measured, patterns.bad_pixels)

    return find


def with_value(values, mask, value, dtype):
    values = values.astype(dtype)
    values[:, mask] = value
    return values


def left_out(found):
    """Return what is left out by default."""
    return np.any([found[kind].pixels for kind in found if kind != "dim"], axis=0)


def check(found, mask, least=0.99):
    """Check that a mask is found, and no more than 1 % of the others with it."""
    assert found[mask].mean() >= least
    assert found[~mask].mean() <= 0.01


# Regions without signal


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("sample", ["as bright as measured", "dim"])
def test_a_region_without_signal_is_found(find, sample, mask):
    found = find(with_value(simulated(sample), MASKS[mask], 0, "u2"))
    check(left_out(found), MASKS[mask], 0.99 if sample != "dim" else 0.9)
    assert not found["dim"].pixels.any()


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("n", [20, 100, 400])
def test_rings_and_dark_corners_are_no_bad_pixels(find, sample, n):
    found = find(simulated(sample)[:n])
    assert left_out(found).mean() <= 0.001
    assert not found["hot"].pixels.any()
    assert not found["dim"].pixels.any()


@pytest.mark.parametrize("moved", [(0, 30), (25, -25), (0, 60)])
def test_the_beam_may_hit_beside_the_middle_or_the_detector(find, moved):
    mask = MASKS["wide gaps"]
    beside = np.roll(simulated(), moved, (1, 2))
    check(left_out(find(with_value(beside, mask, 0, "u2"))), mask, 0.9)


def test_a_beam_stop_with_stray_light_is_a_shadow_and_a_thin_wire_is_dim(find):
    rng = np.random.default_rng(3)
    stop, wire = MASKS["rectangular beam stop"], (abs(COLUMN - 40) < 2) & (ROW < 40)
    passed = np.where(stop, 0.01, np.where(wire, 0.3, 1.0))
    found = find(rng.binomial(simulated(), passed))
    check(found["shadow"].pixels, stop)
    assert found["dim"].pixels[wire & (RADIUS < 30)].mean() > 0.5
    assert found["dim"].pixels[~wire].mean() < 0.005


def test_a_region_without_light_is_found_in_noise(find):
    mask = MASKS["2 x 2 gap"]
    noise = np.random.default_rng(4).normal(0, 15, (400, *SHAPE))
    adu = 130 * with_value(simulated(), mask, 0, "f4") + noise
    check(left_out(find(adu.astype("f4"))), mask)


def test_single_dead_pixels_are_found(find):
    mask = np.zeros(SHAPE, bool)
    mask[20, 20] = mask[40, 70] = mask[60, 50:53] = True
    found = find(with_value(simulated(), mask, 0, "u2"))
    np.testing.assert_array_equal(found["dead"].pixels, mask)
    assert (found["dead"].evidence[mask] > 20).all()
    assert np.isnan(found["dead"].evidence[~mask]).all()


# Pixels of one value


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, "u2"),
        (-1, "i4"),
        (-1, "f4"),
        (65535, "u2"),
        (2**32 - 1, "u4"),
        (-(2**15), ">i2"),
        (7, "u2"),
        (np.nan, "f4"),
        (np.inf, "f2"),
        (1e300, "f8"),
        (-9999.0, ">f4"),
    ],
)
@pytest.mark.parametrize("mask", ["pnCCD", "wide gaps"])
@pytest.mark.filterwarnings("ignore:.*values beyond")
def test_whatever_value_stands_for_none_is_found(find, value, dtype, mask):
    found = find(with_value(simulated(), MASKS[mask], value, dtype))
    check(left_out(found), MASKS[mask])


@pytest.mark.parametrize("pedestal", [1_000, 0])
@pytest.mark.parametrize("value", [0, 5])
def test_a_constant_value_in_adu_is_found(find, pedestal, value):
    mask = MASKS["wide gaps"]
    noise = np.random.default_rng(4).normal(pedestal, 8, (400, *SHAPE))
    adu = (30 * simulated() + noise).round().astype("i4")
    found = find(with_value(adu, mask, value, "i4"))
    check(found["constant"].pixels, mask)
    assert (found["constant"].evidence[mask] == 400).all()


def test_a_few_patterns_are_enough_for_a_value_that_no_good_pixel_has(find):
    mask = MASKS["wide gaps"]
    found = find(with_value(simulated()[:3], mask, 65535, "u2"))
    np.testing.assert_array_equal(found["constant"].pixels, mask)
    found = find(with_value(simulated()[:3], mask, 1, "u2"))
    assert not found["constant"].pixels.any()


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_patterns_prove_nothing(find, n):
    assert not left_out(find(simulated()[:n])).any()


# Hot and flickering pixels


def some_pixels(seed, n=30):
    rng = np.random.default_rng(seed)
    chosen = np.zeros(SHAPE, bool)
    chosen.ravel()[rng.choice(chosen.size, n, replace=False)] = True
    return chosen & (RADIUS > 15)


@pytest.mark.parametrize("sample", ["as bright as measured", "dim", "no background"])
@pytest.mark.parametrize("level", [20, 1_000])
def test_pixels_that_are_always_lit_are_hot(find, sample, level):
    values, hot = simulated(sample).copy(), some_pixels(1)
    values[:, hot] += np.random.default_rng(2).poisson(level, (400, hot.sum()))
    found = find(values)
    assert found["hot"].pixels[hot].mean() > 0.95
    assert not left_out(found)[~hot].any()


@pytest.mark.parametrize(("share", "level"), [(0.02, 300), (0.1, 100), (0.5, 40)])
def test_pixels_that_flash_now_and_then_flicker(find, share, level):
    values, bad = simulated().copy(), some_pixels(2)
    rng = np.random.default_rng(3)
    flashes = rng.random((400, bad.sum())) < share
    values[:, bad] += flashes * rng.poisson(level, flashes.shape)
    found = left_out(find(values))
    assert found[bad].mean() > 0.95
    assert not found[~bad].any()


@pytest.mark.parametrize("dtype", ["i8", "f4"])
def test_a_noisy_pixel_is_found_in_adu(find, dtype):
    noise = np.random.default_rng(4).normal(0, 5, (400, *SHAPE))
    noise[:, 5, 5] *= 30
    found = find((20 * simulated() + noise).astype(dtype))
    assert np.argwhere(left_out(found)).tolist() == [[5, 5]]


def test_a_hot_column_and_a_hot_corner_are_found(find):
    hot = (COLUMN == 20) | ((ROW < 2) & (COLUMN < 2))
    values = simulated().copy()
    values[:, hot] += np.random.default_rng(2).poisson(8, (400, hot.sum()))
    found = find(values)
    assert found["hot"].pixels[hot].mean() > 0.9
    assert not left_out(found)[~hot].any()


def test_a_single_event_condemns_no_pixel(find):
    values = simulated().copy()
    rng = np.random.default_rng(5)
    for pattern in values:  # one cosmic ray each
        pattern[tuple(rng.integers(SHAPE))] += 500
    assert left_out(find(values)).mean() < 0.005


def test_one_pattern_far_brighter_than_all_others_condemns_no_pixel(find):
    values = simulated().copy()
    values[7] = 500 * values[np.argmax(values.sum(axis=(1, 2)))]
    assert left_out(find(values)).mean() < 0.001


# What is known already, and what belongs to a pattern


def test_what_is_left_out_already_is_not_proposed_again(find):
    mask = MASKS["wide gaps"]
    found = find(with_value(simulated(), mask, 0, "u2"), mask)
    assert not left_out(found).any()


@pytest.mark.parametrize("value", [0, 65535, -5, np.nan])
def test_patterns_never_written_hide_nothing(find, value):
    mask = MASKS["2 x 2 gap"]
    values = with_value(simulated(), mask, 0, "f4")
    values[::10] = value
    check(left_out(find(values)), mask)


@pytest.mark.parametrize("n_modules", [8, 2, 3])
def test_nan_belongs_to_its_pattern(find, write, n_modules):
    values = simulated().astype("f4")
    expected = np.zeros(len(values), int)
    for module, rows in enumerate(np.array_split(np.arange(SHAPE[0]), n_modules)):
        lost = np.arange(module, len(values), 50)  # 2 % of the patterns
        values[lost[:, None], rows] = np.nan
        expected[lost] = rows.size * SHAPE[1]
    assert not left_out(find(values)).any()
    measured = experiment.measure_patterns(write(values), 1)
    np.testing.assert_array_equal(measured.lost_pixels, expected)
    np.testing.assert_allclose(measured.powder, np.nanmean(values, axis=0), rtol=1e-5)
    np.testing.assert_allclose(measured.not_finite, np.isnan(values).mean(axis=0))


def test_a_pixel_without_value_in_most_patterns_is_left_out(find):
    values = simulated().astype("f4")
    values[::2, 5:9, 5:9] = values[::3, 50, 50] = np.inf
    found = find(values)["not finite"]
    assert found.pixels.sum() == 16
    assert found.pixels[5:9, 5:9].all()


@pytest.fixture
def write(tmp_path):
    def write(values):
        with h5py.File(tmp_path / "written.h5", "w") as file:
            file["patterns"] = values
        return open_patterns(tmp_path / "written.h5")

    return write


def test_the_sums_are_the_obvious_ones(write):
    values = simulated()[:50].astype("f4")
    values[3:9, 4:8] = np.nan
    values[20] = 5  # never written
    sums = experiment.measure_patterns(write(values), 2).pixels
    values = np.delete(values, 20, axis=0)
    assert sums.n_patterns == 49
    np.testing.assert_array_equal(sums.n_finite, np.isfinite(values).sum(axis=0))
    np.testing.assert_array_equal(sums.n_lit, (values >= 2).sum(axis=0))
    np.testing.assert_allclose(sums.total, np.nansum(values, axis=0))
    np.testing.assert_allclose(sums.squares, np.nansum(values**2, axis=0))
    np.testing.assert_array_equal(sums.lowest, np.nanmin(values, axis=0))
    np.testing.assert_array_equal(sums.highest, np.nanmax(values, axis=0))
