"""The centre is found by symmetry, and radii are averaged about it."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.physics import (
    FriedelAverage,
    PolarGrid,
    angle_about,
    find_centre,
    flatten_patterns,
    radial_average,
    radius_from,
)
from helpers.simulate import Detector, Sample, pnccd_bad_pixels, simulate_patterns

SHAPE = (64, 61)
LARGE_CENTRE = (98.3, 97.1)


def rings(centre, shape=SHAPE, size=6.0):
    """Give the expected photons of a ball: rings about the centre, steeply falling."""
    return 900 * np.sinc(radius_from(centre, shape) / size) ** 2 + 0.2


@pytest.fixture
def crossed_by_gaps():
    """Mark a beam-stop hole and the gaps of a detector in two halves, as on a pnCCD."""
    bad = np.zeros(SHAPE, dtype=bool)
    bad[29:34] = True
    bad[25:38, 26:35] = True
    bad[:2] = bad[:, -2:] = True
    return bad


@settings(max_examples=20)
@given(st.floats(24, 38), st.floats(24, 38))
def test_the_centre_of_rings_is_found_within_a_tenth_of_a_pixel(row, column):
    found = find_centre(rings((row, column)))
    # a parabola through three values is not quite the peak of sinc²
    assert found == pytest.approx((row, column), abs=0.1)


def test_bad_pixels_do_not_pull_the_centre(crossed_by_gaps):
    powder = np.random.default_rng(1).poisson(rings((33.3, 28.8))).astype(float)
    clean = find_centre(powder, crossed_by_gaps)
    powder[crossed_by_gaps] = 1e6
    powder[30, 30] = np.nan
    assert find_centre(powder, crossed_by_gaps) == clean
    assert clean == pytest.approx((33.3, 28.8), abs=0.4)  # pixel noise and the hole


def test_an_unmarked_hot_pixel_is_not_the_centre():
    powder = rings((31.5, 30.0))
    powder[5, 50] = 1e9
    assert find_centre(powder) == pytest.approx((31.5, 30.0), abs=0.1)


def test_the_centre_agrees_with_trying_every_half_pixel():
    rng = np.random.default_rng(2)
    shape = (17, 19)
    rows, columns = np.mgrid[:17, :19]
    powder = rng.poisson(rings((8.5, 9.0), shape) * (2 + np.sin(rows + columns)))
    bad = rng.random(shape) < 0.15
    half_pixels = [(r / 2, c / 2) for r in range(12, 22) for c in range(14, 24)]
    slow = reference.centre_by_trial(powder, bad, half_pixels)
    assert find_centre(powder, bad) == pytest.approx(slow, abs=0.25)


def test_a_powder_without_symmetry_warns_and_tells_what_to_do():
    noise = np.random.default_rng(3).poisson(5, size=SHAPE)
    with pytest.warns(UserWarning, match=r"not symmetric.*pass the centre"):
        find_centre(noise)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_even_powder_warns_and_gives_the_middle(value):
    with pytest.warns(UserWarning, match="not symmetric"):
        assert find_centre(np.full(SHAPE, value)) == (31.5, 30.0)


def test_the_centre_of_measured_photon_counts(real_file):
    h5py = pytest.importorskip("h5py")
    with h5py.File(real_file("pr772_30.h5")) as file:
        powder = file["patterns"][:].sum(axis=0)
        bad = file["mask"][:] > 0
    assert find_centre(powder, bad) == pytest.approx((63.3, 63.8), abs=0.5)


@pytest.mark.parametrize("first_bad", [1, 2])
def test_the_centre_of_measured_raw_frames(real_file, first_bad):
    h5py = pytest.importorskip("h5py")
    with h5py.File(real_file("pnccd_adu_10.h5")) as file:
        powder = file["patterns"][:].sum(axis=0)
    marks = np.fromfile(real_file("mask_pnccd_back_260_257.byt"), dtype=np.uint8)
    bad = marks.reshape(powder.shape) >= first_bad
    assert find_centre(powder, bad) == pytest.approx((129, 128.2), abs=0.7)


def test_the_radial_average_of_a_radius_is_the_radius():
    centre = (30.0, 31.0)
    radius, mean = radial_average(radius_from(centre, SHAPE), centre)
    np.testing.assert_array_equal(radius, np.arange(len(radius)))
    np.testing.assert_allclose(mean, radius, atol=0.5)


def test_the_radial_average_leaves_bad_pixels_out(crossed_by_gaps):
    centre = (31.0, 30.0)
    image = rings(centre)
    _, clean = radial_average(image, centre, crossed_by_gaps)
    image[crossed_by_gaps] = 1e9
    image[3, 3] = np.inf
    radius, mean = radial_average(image, centre, crossed_by_gaps)
    assert np.isnan(mean[:2]).all()
    far = radius < 35
    np.testing.assert_allclose(mean[far], clean[far])
    assert len(mean) == len(clean)


def test_angles_run_counter_clockwise_as_displayed():
    angle = angle_about((10, 10), (21, 21))
    corners = angle[10, 20], angle[0, 10], angle[10, 0], angle[20, 10]
    assert corners == (0, 90, 180, 270)


@pytest.fixture
def grid(crossed_by_gaps):
    return PolarGrid(SHAPE, (31.3, 29.6), crossed_by_gaps)


def test_a_polar_map_of_angles_is_sorted_by_angle(grid):
    upper_half = angle_about((31.3, 29.6), SHAPE).astype(np.float32)[None]
    cells = grid.average(upper_half)[0, grid.n_rings // 2 :, 1:-1]
    seen = grid.weight[grid.n_rings // 2 :, 1:-1] > 0.99
    middle = (np.arange(1, grid.n_angles - 1) + 0.5) * 360 / grid.n_angles
    off = np.abs(cells - middle)[seen]
    # a pixel far out is 2° wide
    assert off.max() < 2
    assert seen.mean() > 0.5


def test_a_polar_map_of_an_even_pattern_is_even(grid, crossed_by_gaps):
    even = np.where(crossed_by_gaps, 0, 3).astype(np.float32)[None]
    cells = grid.average(even)[0]
    np.testing.assert_allclose(cells[grid.weight > 0], 3, rtol=1e-5)
    assert not cells[grid.weight == 0].any()


def test_many_patterns_at_once_are_averaged_like_one_at_a_time(grid):
    patterns = np.random.default_rng(9).random((19, *SHAPE), dtype=np.float32)
    together = grid.average(patterns)
    for pattern, cells in zip(patterns, together, strict=True):
        np.testing.assert_array_equal(grid.average(pattern[None])[0], cells)


def test_what_is_bad_is_taken_from_the_opposite_side():
    centre, bad = (31.5, 30.0), np.zeros(SHAPE, dtype=bool)
    bad[:30] = True  # nearly half of the pattern
    pattern = rings(centre).astype(np.float32)[None]
    whole = FriedelAverage(PolarGrid(SHAPE, centre, np.zeros(SHAPE, dtype=bool)))
    halved = FriedelAverage(PolarGrid(SHAPE, centre, bad))
    expected, _ = whole.average(pattern)
    found, _ = halved.average(np.where(bad, 0, pattern))
    # half of a cell at the edge of what is good has another mean
    np.testing.assert_allclose(found[0, 8:], expected[0, 8:], atol=1)


@pytest.mark.parametrize("gain", [1.0, 130.0])
def test_the_noise_is_measured_in_the_unit_of_the_pattern(grid, crossed_by_gaps, gain):
    rate = 900 * np.exp(-radius_from((31.3, 29.6), SHAPE) / 12)
    rate[crossed_by_gaps] = 0
    counts = np.random.default_rng(10).poisson(rate, size=(200, *SHAPE))
    mean, variance = FriedelAverage(grid).average(gain * counts.astype(np.float32))
    lit = (grid.weight > 0).mean(axis=1) > 0.8
    found, measured = variance.mean(axis=0)[lit], mean.var(axis=0).sum(axis=-1)[lit]
    # 48 variances a ring, each known to 10 % from 200 patterns; brightness differs
    # within a cell, which counts as noise
    np.testing.assert_allclose(found, measured, rtol=0.2)


def test_a_beam_that_moves_is_not_taken_for_noise():
    detector = Detector.of_shape((130, 128))
    bad = pnccd_bad_pixels(detector.shape)
    average = FriedelAverage(PolarGrid(detector.shape, detector.centre, bad)).average
    singles = Sample(single=1, multiple=0, other=0, blank=0, photons=40_000)
    noise = [
        average(simulate_patterns(40, 4, sample=sample, detector=detector).patterns)
        for sample in (singles, replace(singles, jitter_px=1.0))
    ]
    still, moving = (np.median(maps.variance.sum(axis=1)) for maps in noise)
    # 16 times as large where all cells count alike
    assert moving < 4 * still


def test_charge_that_ran_over_is_taken_for_what_it_is(grid):
    clean = rings((31.3, 29.6), size=20.0).astype(np.float32)[None]
    streaky = clean.copy()
    streaky[:, 40:, 33] += 500

    def change(average):
        return np.abs(average(streaky) - average(clean)).max()

    assert change(grid.average) > 100
    assert change(lambda pattern: FriedelAverage(grid).average(pattern).mean) < 50


def test_nothing_is_known_of_the_noise_where_one_half_is_bad():
    bad = np.zeros(SHAPE, dtype=bool)
    bad[:34] = True
    pattern = np.where(bad, 0, rings((31.3, 29.6))).astype(np.float32)[None]
    mean, variance = FriedelAverage(PolarGrid(SHAPE, (31.3, 29.6), bad)).average(
        pattern
    )
    assert np.isfinite(mean).all()
    assert not variance.any()


@pytest.fixture
def large():
    """Make a grid with outer cells that count pixels; and its bad pixels."""
    bad = np.zeros((200, 196), dtype=bool)
    bad[97:101] = bad[80:115, 85:110] = bad[:, 130] = True
    return PolarGrid(bad.shape, LARGE_CENTRE, bad), bad


@pytest.mark.parametrize("dtype", ["u2", "i8", "f4", "f8"])
def test_cells_are_those_of_the_obvious_loops(large, dtype):
    grid, bad = large
    image = np.random.default_rng(4).integers(0, 999, bad.shape).astype(dtype)
    width = 0.375 * 196 / grid.n_rings
    cells = reference.polar_weights(
        ~bad, LARGE_CENTRE, width, grid.n_rings, grid.n_angles
    )
    slow = np.array([reference.polar_cell(image, weight) for weight in cells.values()])
    mean, weight, variance = slow.T.reshape(3, grid.n_rings, grid.n_angles)
    # float32 sums of a few pixels
    np.testing.assert_allclose(grid.average(image[None])[0], mean, rtol=1e-5)
    np.testing.assert_allclose(grid.weight, weight, rtol=1e-5)
    np.testing.assert_allclose(grid.variance, variance, rtol=1e-5)


def test_large_cells_of_an_even_pattern_are_even_too(large):
    grid, bad = large
    even = np.where(bad, np.nan, 3).astype(np.float32)[None]
    cells = grid.average(even)[0]
    np.testing.assert_allclose(cells[grid.weight > 0], 3, rtol=1e-5)
    assert grid.weight.max() <= 1


def test_bad_pixels_do_not_matter_and_what_is_not_finite_counts_as_0(large):
    grid, bad = large
    rng = np.random.default_rng(5)
    clean = rng.random((3, *bad.shape), dtype=np.float32)
    clean[1, 40, 90:110] = 0
    dirty = clean.copy()
    dirty[:, bad] = rng.choice([np.nan, np.inf, -1e9], bad.sum())
    dirty[1, 40, 90:110] = np.nan
    before = dirty.copy()
    np.testing.assert_array_equal(grid.average(dirty), grid.average(clean))
    np.testing.assert_array_equal(dirty, before)


def test_flattened_rings_are_1_and_fringes_stand_out_far_out():
    row, column = np.indices((61, 51)) - np.array([30, 20])[:, None, None]
    radius = np.hypot(row, column)
    rings = 1e4 / (1 + radius) ** 2
    bad = np.zeros(rings.shape, bool)
    bad[:5] = True
    fringes = rings * np.where(column % 4 == 0, 1.8, 0.6)
    flat = flatten_patterns(np.stack([rings, fringes]), (30, 20), bad, least=0.01)
    far = (radius > 4) & ~bad
    assert np.abs(flat[0][far] - 1).max() < 0.2
    contrast = [flat[1][30 + r, 20] / flat[1][30 + r, 22] for r in (6, 12, 28)]
    assert min(contrast) > 2
    dark = flatten_patterns(np.zeros((1, 61, 51)), (30, 20))
    assert (dark == 1).all()
