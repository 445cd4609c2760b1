"""The centre is found by symmetry, and radii are averaged about it."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.polar import find_centre, radial_average, radius_from

SHAPE = (64, 61)


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


@settings(max_examples=20, deadline=None)
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
