"""What is no measurement is found from the patterns, and nothing else is."""

import warnings
from functools import cache
from itertools import product

import h5py
import numpy as np
import pytest
from scipy import ndimage

from helpers import experiment, plots
from helpers.patterns import open_patterns
from helpers.patterns.mask_convention import (
    EUXFEL_BITS,
    NEXUS_BITS,
    MaskConvention,
    decide_polarity,
)
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


@pytest.mark.parametrize(
    ("sample", "mask"),
    [
        *(("as bright as measured", mask) for mask in MASKS),
        *(("dim", mask) for mask in ("pnCCD", "2 x 2 gap", "rims")),
    ],
)
def test_a_region_without_signal_is_found(find, sample, mask):
    found = find(with_value(simulated(sample), MASKS[mask], 0, "u2"))
    check(left_out(found), MASKS[mask], 0.99 if sample != "dim" else 0.9)
    assert not found["dim"].pixels.any()


@pytest.mark.parametrize(
    ("sample", "n"),
    [
        *((sample, 400) for sample in SAMPLES),
        ("as bright as measured", 20),
        ("sharp rings", 20),
        ("dim", 100),
    ],
)
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
    ("value", "dtype", "mask"),
    [
        (0, "u2", "wide gaps"),
        (-1, "i4", "pnCCD"),
        (-1, "f4", "wide gaps"),
        (65535, "u2", "pnCCD"),
        (2**32 - 1, "u4", "wide gaps"),
        (-(2**15), ">i2", "pnCCD"),
        (7, "u2", "wide gaps"),
        (np.nan, "f4", "pnCCD"),
        (np.inf, "f2", "wide gaps"),
        (1e300, "f8", "pnCCD"),
        (-9999.0, ">f4", "wide gaps"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*values beyond")
def test_whatever_value_stands_for_none_is_found(find, value, dtype, mask):
    found = find(with_value(simulated(), MASKS[mask], value, dtype))
    check(left_out(found), MASKS[mask])


@pytest.mark.parametrize(("pedestal", "value"), [(1_000, 0), (0, 0), (0, 5)])
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


@pytest.mark.parametrize(
    ("sample", "level"),
    [
        ("as bright as measured", 20),
        ("as bright as measured", 1_000),
        ("dim", 20),
        ("no background", 1_000),
    ],
)
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
    np.testing.assert_array_equal(measured.is_measurement, expected == 0)
    whole = values[expected == 0]
    np.testing.assert_allclose(measured.powder, whole.mean(axis=0), rtol=1e-5)
    assert not measured.not_finite.any()


def test_a_pixel_without_value_in_most_patterns_is_left_out(find):
    values = simulated().astype("f4")
    values[np.arange(400) % 5 > 1, 5:9, 5:9] = values[::2, 50, 50] = np.inf
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


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("shadow", {"accept_shadows": False}),
        ("hot", {"accept_proposed": False}),
        ("dim", {"accept_dim": True}),
    ],
)
def test_each_kind_is_left_out_as_its_parameter_says(find, kind, said):
    values = simulated().copy()
    values[:, MASKS["2 x 2 gap"]] = 0
    values[:, 5, 7] += 1_000
    found = find(values)
    text = experiment.describe_bad_pixels(found)
    found["dim"].pixels[20:23, 20:23] = True
    accepted = experiment.accept_bad_pixels(found)
    assert (accepted & MASKS["2 x 2 gap"]).sum() > 0.99 * MASKS["2 x 2 gap"].sum()
    assert accepted[5, 7]
    assert not accepted[20, 20]
    other = experiment.accept_bad_pixels(found, **said)
    np.testing.assert_array_equal(other != accepted, found[kind].pixels)
    assert "shadow: 7" in text
    assert "hot: 1 pixels (lit too often or too bright; times its surrou" in text


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


# A mask of which nobody says which values mean bad


@pytest.fixture
def open_masked(tmp_path):
    """Open patterns with a mask beside them."""

    def open_masked(values, **masks):
        with h5py.File(tmp_path / "masked.h5", "w") as file:
            file["patterns"] = values
            for name, mask in masks.items():
                file[name] = mask
        return open_patterns(tmp_path / "masked.h5")

    return open_masked


def dilated(mask, n):
    return ndimage.binary_dilation(mask, iterations=n)


MARKED = {
    "pnCCD": MASKS["pnCCD"],
    "wide gaps": MASKS["wide gaps"],
    "beam stop, with a margin": dilated(MASKS["beam stop with wire"], 2),
    "missing quadrant, with a margin": dilated(MASKS["missing quadrant"], 1),
    "dead pixels": some_pixels(7, 12),
}
TRUE_GAPS = MARKED | {
    "beam stop, with a margin": MASKS["beam stop with wire"],
    "missing quadrant, with a margin": MASKS["missing quadrant"],
}


STORED = [(0, "u1"), (-1, "f8"), (65535, bool)]


@pytest.mark.parametrize(
    ("kind", "marked", "value", "dtype"),
    [
        (kind, marked, *STORED[number % len(STORED)])
        for number, (kind, marked) in enumerate(product(MARKED, ["bad", "good"]))
    ],
)
def test_the_patterns_decide_which_values_of_a_mask_are_bad(
    open_masked, kind, marked, value, dtype
):
    values = with_value(simulated(), TRUE_GAPS[kind], value, "i4")
    mask = MARKED[kind] if marked == "bad" else ~MARKED[kind]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the patterns do not decide")
        patterns = open_masked(values, mask=mask.astype(dtype))
    np.testing.assert_array_equal(patterns.bad_pixels, MARKED[kind])
    assert not patterns.unclear_masks
    assert "as the patterns decide: " in patterns.describe()
    assert "% of these pixels are plainly no measurement" in patterns.describe()


def test_a_mask_of_hot_pixels_alone_is_decided_by_them(open_masked):
    values, hot = simulated().copy(), some_pixels(1)
    values[:, hot] += np.random.default_rng(2).poisson(100, (400, hot.sum()))
    patterns = open_masked(values, bad_pixels=hot.astype("u1"))
    np.testing.assert_array_equal(patterns.bad_pixels, hot)


def test_dragonfly_values_are_recognised(open_masked):
    mask = np.where(MASKS["pnCCD"], 2, RADIUS > 30).astype("u1")
    patterns = open_masked(with_value(simulated(), MASKS["pnCCD"], 0, "u2"), mask=mask)
    np.testing.assert_array_equal(patterns.bad_pixels, MASKS["pnCCD"])
    assert "Dragonfly" in patterns.describe()


@pytest.mark.parametrize(
    ("name", "bad_when"),
    [("mask", 1), ("bad_pixels", 1), ("pixel_mask", 1), ("good_pixels", 0)],
)
def test_where_the_patterns_do_not_decide_the_name_does(open_masked, name, bad_when):
    mask = (ROW > 50) & (COLUMN < 40)
    with pytest.warns(UserWarning, match=f"do not decide which values of /{name} mean"):
        patterns = open_masked(simulated(), **{name: mask.astype("u1")})
    np.testing.assert_array_equal(patterns.bad_pixels, mask == bad_when)
    (unclear,) = patterns.unclear_masks
    np.testing.assert_array_equal(unclear.not_zero, mask)
    assert "as its name says" in patterns.describe()


@pytest.mark.parametrize("name", ["mask", "good_pixels"])
def test_both_readings_of_an_undecided_mask_are_drawn(open_masked, name):
    mask = np.roll(ROW < 20, 30, axis=1)
    with pytest.warns(UserWarning, match="do not decide"):
        patterns = open_masked(simulated()[:60], **{name: mask})
    figure = plots.show_unclear_masks(patterns.unclear_masks)
    readings = [ax for ax in figure.axes if ax.get_title()]
    hidden = [np.ma.getmaskarray(ax.images[0].get_array()) for ax in readings]
    np.testing.assert_array_equal(hidden, [mask, ~mask])
    titles = [ax.get_title() for ax in readings]
    taken = ["taken for bad" in title for title in titles]
    assert taken == [name == "mask", name == "good_pixels"]
    assert "would be bad" in titles[taken.index(False)]


def test_an_incomplete_mask_does_not_turn_round(open_masked):
    """The gap is not in the mask, and what is in it cannot be seen to be bad."""
    mask, gap = some_pixels(3), MASKS["missing quadrant"]
    with pytest.warns(UserWarning, match="do not decide"):
        patterns = open_masked(
            with_value(simulated(), gap, 0, "u2"), mask=mask.astype("u1")
        )
    np.testing.assert_array_equal(patterns.bad_pixels, mask)


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_of_one_value_leaves_nothing_out(open_masked, value):
    patterns = open_masked(simulated(), mask=np.full(SHAPE, value, "u1"))
    assert not patterns.bad_pixels.any()
    assert "has one value for all pixels" in patterns.describe()


@pytest.mark.parametrize("good", [0.0, 1.0])
@pytest.mark.parametrize("also", [False, True])
def test_nan_in_a_mask_means_bad(open_masked, good, also):
    bad, more = ROW == 44, also & (COLUMN == 3)
    mask = np.where(bad, np.nan, np.where(more, 1 - good, good))
    patterns = open_masked(np.where(bad | more, 0, simulated()[:100]), mask=mask)
    np.testing.assert_array_equal(patterns.bad_pixels, bad | more)


@pytest.mark.parametrize("bad_is", [0, 1])
def test_masks_for_each_pattern_of_unsaid_polarity_belong_to_it(open_masked, bad_is):
    bad = np.tile(MASKS["wide gaps"], (60, 1, 1))
    bad[[7, 30], :30] = True
    values = np.where(bad, 0, simulated()[:60])
    patterns = open_masked(values, mask=np.where(bad, bad_is, 1 - bad_is))
    np.testing.assert_array_equal(patterns.bad_pixels, MASKS["wide gaps"])
    assert patterns.has_mask_of_each
    ((_, seen),) = patterns.map(np.copy, [6, 7], keep_nan=True)
    seen[:, patterns.bad_pixels] = np.nan
    np.testing.assert_array_equal(np.isnan(seen), bad[[6, 7]])


@pytest.mark.parametrize(
    ("where", "bad_is"),
    [
        *(("mask", 1), ("entry/mask", 0), ("entry/data/Mask", 1), ("badpix", 1)),
        *(("entry/data/good_pixels", 0), ("detector_mask", 0), ("bad_pixel_map", 1)),
        *(("entry/dead_pixels", 1), ("good", 0)),
    ],
)
def test_a_mask_is_found_beside_and_above_the_patterns(tmp_path, where, bad_is):
    bad = MASKS["wide gaps"]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/images"] = np.where(bad, 0, simulated()[:100])
        file[where] = np.where(bad, bad_is, 1 - bad_is)
        file["entry/hot"] = np.ones(100)  # of the patterns
        file["entry/masks"] = simulated()[:100] * 2.0  # another stack
        file["entry/mask_of_a_person"] = "who wears one"
    patterns = open_patterns(tmp_path / "run.h5", dataset="/entry/data/images")
    np.testing.assert_array_equal(patterns.bad_pixels, bad)
    assert f"/{where}, whose values" in patterns.describe()


def test_a_mask_of_another_shape_is_reported(open_masked):
    with pytest.warns(UserWarning, match=r"/mask has shape .* It is not used"):
        patterns = open_masked(simulated(), mask=np.zeros((3, 3)))
    assert not patterns.bad_pixels.any()


def test_without_patterns_the_name_decides():
    mask = np.eye(4, dtype="u1")
    assert decide_polarity(mask, None).convention == MaskConvention("!=", 0)
    found = decide_polarity(mask, None, "good_pixel_mask")
    assert found.convention == MaskConvention("==", 0)
    assert not found.is_decided


# The words of a CXI mask


def words(*pairs):
    mask = np.zeros(SHAPE, "u4")
    for where, bits in pairs:
        mask[where] |= bits
    return mask


EVERYWHERE, INNER, COLUMN_7 = NONE | True, RADIUS < 12, COLUMN == 7


@pytest.mark.parametrize(
    ("mask", "bad", "said"),
    [
        (words((EVERYWHERE, 16384 | 2048), (COLUMN_7, 4)), COLUMN_7, "2048 (artifact"),
        (words((INNER, 2048)), NONE, "2048 (artifact corrected) in"),
        (words((INNER, 8192)), NONE, "8192 (peak for hit finder) in"),
        (words((INNER, 32), (COLUMN_7, 512)), COLUMN_7, "512 (missing) in 96: bad"),
        (words((EVERYWHERE, 256), (INNER, 1)), INNER, "1 (invalid) in"),
        (words((INNER, 4096)), INNER, "4096 (failed artifact correction)"),
        (words((INNER, 2048 | 128)), INNER, "128 (bad)"),
        (words((COLUMN_7, 65536)), COLUMN_7, "65536 (not in the list) in 96: bad"),
    ],
)
def test_bits_of_cxi_masks_count_by_their_meaning(tmp_path, mask, bad, said):
    path = tmp_path / "run.cxi"
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 140
        file["entry_1/data_1/data"] = simulated()[:5].astype("f4")
        file["entry_1/data_1/mask"] = mask
    patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns.bad_pixels, bad)
    assert said in patterns.describe()
    where = f"{path}:/entry_1/data_1/mask"
    for condition in ("& 0x4", "& 4"):
        asked = open_patterns(path, bad_pixels=f"{where} {condition}")
        np.testing.assert_array_equal(asked.bad_pixels, mask & 4 != 0)


def test_bits_may_be_stored_as_floating_point_numbers(tmp_path):
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["cxi_version"] = 140
        file["entry_1/data_1/data"] = simulated()[:5].astype("f4")
        file["entry_1/data_1/mask"] = words((INNER, 2048), (COLUMN_7, 4)).astype("f8")
    patterns = open_patterns(tmp_path / "run.cxi")
    np.testing.assert_array_equal(patterns.bad_pixels, COLUMN_7)


def test_bits_of_a_mask_for_each_pattern_are_counted(tmp_path):
    path = tmp_path / "run.cxi"
    mask = np.tile(words((COLUMN_7, 8)), (6, 1, 1))
    mask[2] |= 2048
    with h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = simulated()[:6].astype("f4")
        file["entry_1/data_1/mask"] = mask
    patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns.bad_pixels, COLUMN_7)
    assert (
        f"2048 (artifact corrected) in {COLUMN_7.size:,}: good" in patterns.describe()
    )


@pytest.fixture
def masked_now_and_then(tmp_path):
    """Write photons, and masks that call four rows bad in one pattern of fifty."""
    path, n = tmp_path / "run.cxi", 200
    masks = np.tile(words((COLUMN_7, 8)), (n, 1, 1))
    masks[::50, :4] |= 512
    with h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = simulated()[:n]
        file["entry_1/data_1/mask"] = masks
    return path, masks != 0


def test_a_mask_for_each_pattern_belongs_to_its_pattern(masked_now_and_then):
    path, masks = masked_now_and_then
    patterns, values = open_patterns(path), simulated()[: len(masks)]
    np.testing.assert_array_equal(patterns.bad_pixels, COLUMN_7)
    assert "what only some call bad is left out in their patterns" in (
        patterns.describe()
    )
    expected = np.where(masks, 0, values)
    np.testing.assert_array_equal(patterns[:], expected)
    np.testing.assert_array_equal(patterns[[150, 3, 50]], expected[[150, 3, 50]])
    np.testing.assert_array_equal(patterns.read_raw(50), values[50])
    measured = experiment.measure_patterns(patterns, 1)
    lost = (masks & ~COLUMN_7).sum(axis=(1, 2))
    np.testing.assert_array_equal(measured.lost_pixels, lost)
    powder = np.where(masks, np.nan, values).astype("f8")
    powder[:, COLUMN_7] = 0
    np.testing.assert_allclose(measured.powder, np.nanmean(powder, axis=0))
    assert not left_out(experiment.find_bad_pixels(measured, COLUMN_7)).any()


def test_masks_for_each_pattern_count_in_later_stages(masked_now_and_then, tmp_path):
    path, masks = masked_now_and_then
    patterns = open_patterns(path)
    measured = experiment.measure_patterns(patterns, 1)
    more = COLUMN_7 | (ROW == 50)
    patterns = patterns.with_bad_pixels(more)
    experiment.write_experiment(tmp_path / "work", patterns, measured, CENTRE)
    found = experiment.open_experiment(tmp_path / "work").patterns
    np.testing.assert_array_equal(found.bad_pixels, more)
    np.testing.assert_array_equal(
        found[50], np.where(masks[50] | more, 0, simulated()[50])
    )
    given = open_patterns(path, bad_pixels=more)
    np.testing.assert_array_equal(given[50], np.where(more, 0, simulated()[50]))


@pytest.mark.parametrize("n", [3, 200])
def test_equal_masks_for_all_patterns_are_one_mask(tmp_path, n):
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["entry_1/data_1/data"] = simulated()[:n]
        file["entry_1/data_1/mask"] = np.tile(words((COLUMN_7, 8)), (n, 1, 1))
    patterns = open_patterns(tmp_path / "run.cxi")
    assert not patterns.has_mask_of_each
    np.testing.assert_array_equal(patterns.bad_pixels, COLUMN_7)


def test_words_of_other_facilities_keep_their_own_meaning(tmp_path):
    mask = words((COLUMN_7, 2048))  # "value is NaN" at the European XFEL
    found = EUXFEL_BITS(mask)
    np.testing.assert_array_equal(found, COLUMN_7)
    assert "2048 (value is NaN) in 96: bad" in EUXFEL_BITS.describe_bits([mask])
    mask = words((COLUMN_7, 1 << 31), (INNER, 1))  # a virtual pixel is good in NeXus
    np.testing.assert_array_equal(NEXUS_BITS(mask), INNER)
