"""Intervals of shares and of what was drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from helpers.intervals import (
    Proportion,
    percentile_interval,
    proportion_interval,
    sample_for,
)


@settings(max_examples=50)
@given(st.integers(1, 300), st.data())
def test_a_proportion_has_jeffreys_interval(n, data):
    k = data.draw(st.integers(0, n))
    share = Proportion(k, n)
    low, high = beta.ppf([0.025, 0.975], k + 0.5, n - k + 0.5)
    assert share.low == (0 if k == 0 else pytest.approx(low))
    assert share.high == (1 if k == n else pytest.approx(high))
    assert share.low <= share.value <= share.high


def test_a_proportion_of_nothing_is_not_known():
    share = Proportion(0, 0)
    assert np.isnan(share.value)
    assert str(share) == "not known yet"
    assert (share.low, share.high, share.half_width) == (0, 1, 0.5)


def test_a_proportion_is_said_in_percent():
    # quantiles of the beta distribution of 19.5 and 1.5
    assert Proportion(19, 20).interval == pytest.approx((0.7892, 0.9946), abs=1e-4)
    assert str(Proportion(19, 20)) == "95% (79% to 99%; 19 of 20)"


def test_many_proportions_at_once_are_those_of_each():
    counted, sample = np.array([0, 3, 5]), np.array([5, 4, 5])
    each = [Proportion(k, n).interval for k, n in zip(counted, sample, strict=True)]
    np.testing.assert_array_equal(
        np.transpose(proportion_interval(counted, sample)), each
    )


def test_the_middle_of_what_was_drawn():
    drawn = np.tile(np.arange(1001.0)[:, np.newaxis], 2)
    low, high = percentile_interval(drawn)
    np.testing.assert_allclose(low, [25, 25])
    np.testing.assert_allclose(high, [975, 975])


@pytest.mark.parametrize(("share", "half_width"), [(0.5, 0.05), (0.9, 0.02)])
def test_a_sample_for_a_width_has_about_that_width(share, half_width):
    n = sample_for(share, half_width)
    found = Proportion(round(share * n), n)
    assert found.half_width == pytest.approx(half_width, rel=0.02)
