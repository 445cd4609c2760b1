"""Pedestal and gain are read from the values, and everything behind uses them."""

from functools import cache

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers import experiment, handoff, plots
from helpers.errors import ModelError, ParameterError
from helpers.experiment import find_photon_scale
from helpers.patterns import open_patterns
from helpers.simulate import Sample, simulate_patterns

SHAPE = (64, 62)
SAMPLES = {
    "bright": Sample(photons=12_000, background=300),
    "dim": Sample(photons=1_500, background=200),
    "sharp rings": Sample(photons=30_000, background=50, size_spread=0.01, lumpiness=0),
}


@cache
def counts_of(sample="bright"):
    """Return photon counts on every pixel, not to be changed."""
    none = np.zeros(SHAPE, bool)
    return simulate_patterns(120, 4, sample=SAMPLES[sample], bad_pixels=none).patterns


def to_adu(counts, pedestal, gain, noise):
    """Return ADU, float64; `noise` in photons."""
    rng = np.random.default_rng(1)
    return counts * gain + rng.normal(pedestal, noise * gain, counts.shape)


@pytest.fixture
def write(tmp_path):
    def write(values, unit=None):
        with h5py.File(tmp_path / "run.h5", "w") as file:
            file["patterns"] = values
            if unit:
                file["patterns"].attrs["unit"] = unit
        return open_patterns(tmp_path / "run.h5")

    return write


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize(
    "detector",  # pedestal, gain, noise in photons, and how it is recorded
    [
        (0, 130, 0.15, "f4"),
        (800, 130, 0.15, "u2"),
        (1000, 40, 0.1, "i4"),
        (0, 8, 0.17, "f4"),
        (0, 1, 0.15, "f4"),
        (-0.02, 0.05, 0.1, "f8"),
        (50, 8, 0.2, ">i2"),
    ],
)
def test_pedestal_and_gain_are_found(write, sample, detector):
    pedestal, gain, noise, dtype = detector
    values = to_adu(counts_of(sample), pedestal, gain, noise)
    values = values if np.dtype(dtype).kind == "f" else np.rint(values)
    scale = find_photon_scale(write(values.astype(dtype)))
    assert scale.pedestal == pytest.approx(pedestal, abs=0.03 * gain)
    assert scale.adu_per_photon == pytest.approx(gain, rel=0.03)


@pytest.mark.parametrize(
    ("sample", "dtype"), [("bright", "u2"), ("dim", "f4"), ("sharp rings", "i4")]
)
def test_photon_counts_stay_as_they_are(write, sample, dtype):
    patterns = write(counts_of(sample).astype(dtype))
    scale = find_photon_scale(patterns)
    assert (scale.pedestal, scale.adu_per_photon) == (0, 1)
    same = patterns.with_scale(scale.pedestal, scale.adu_per_photon)
    assert not same.is_scaled
    np.testing.assert_array_equal(same[3], patterns[3])


@pytest.mark.parametrize("offset", [1, 3, 9])
def test_counts_above_an_offset_lose_it(write, offset):
    counts = counts_of("dim")
    patterns = write(counts.astype("u2") + offset)
    scale = find_photon_scale(patterns)
    assert (scale.pedestal, scale.adu_per_photon) == (offset, 1)
    scaled = patterns.with_scale(scale.pedestal, scale.adu_per_photon)
    np.testing.assert_array_equal(scaled[:], counts)


@pytest.mark.parametrize("dtype", ["f4", "u2"])
@pytest.mark.parametrize("gain", [12, 30])
def test_values_without_noise_below_the_photons(write, dtype, gain):
    values = to_adu(counts_of(), 0, gain, 0.1)
    values = np.where(values < gain / 2, 0, np.rint(values))
    scale = find_photon_scale(write(values.astype(dtype)))
    assert scale.pedestal == 0
    assert scale.adu_per_photon == pytest.approx(gain, rel=0.03)


def test_where_no_photon_stands_out_the_pedestal_alone_is_taken(write):
    patterns = write(to_adu(counts_of(), 700, 20, 0.8).astype("f4"))
    scale = find_photon_scale(patterns)
    assert scale.adu_per_photon == 1
    assert scale.pedestal == pytest.approx(700, abs=5)
    scaled = patterns.with_scale(scale.pedestal, scale.adu_per_photon)
    assert scaled.unit == "ADU"
    assert abs(np.median(scaled[:])) < 10


def test_a_file_that_says_photons_is_believed(write):
    scale = find_photon_scale(write(counts_of() * 12, unit="photons"))
    assert (scale.pedestal, scale.adu_per_photon) == (0, 1)


def test_a_person_knows_better(write):
    found = find_photon_scale(write(counts_of()))
    assert found.override(-1, 0) == found
    given = found.override(3, 2.5)
    assert (given.pedestal, given.adu_per_photon) == (3, 2.5)
    assert "given" in given.describe()
    for wrong in ((0, -1), (np.nan, 0), (0, np.inf)):
        with pytest.raises(ParameterError, match="above 0"):
            found.override(*wrong)


def test_everything_behind_sees_photons(write, tmp_path):
    counts = counts_of()
    values = to_adu(counts, 800, 130, 0.12)
    values[:, 5, 5] = 0
    values[7, 9, 9] = np.nan
    patterns = write(values.astype("f4"))
    scale = find_photon_scale(patterns)
    patterns = patterns.with_scale(scale.pedestal, scale.adu_per_photon)
    assert (patterns.unit, patterns.recorded_unit) == ("photons", "ADU")
    bad = np.zeros(SHAPE, bool)
    bad[5, 5] = True
    patterns = patterns.with_bad_pixels(bad)
    lit = experiment.suggest_lit_threshold(patterns)
    assert 0.5 <= lit < 0.7
    measured = experiment.measure_patterns(patterns, lit)
    good = np.where(bad, 0, counts)
    lit_pixels = (good >= 1).sum(axis=(1, 2))
    np.testing.assert_allclose(measured.lit_pixels, lit_pixels, atol=4)
    np.testing.assert_allclose(measured.powder, good.mean(axis=0), rtol=0.02, atol=0.1)
    experiment.write_experiment(tmp_path / "work", patterns, measured, (32, 31))
    found = experiment.open_experiment(tmp_path / "work")
    np.testing.assert_array_equal(found.patterns[4], patterns[4])
    assert found.patterns.unit == "photons"
    assert found.patterns[7][9, 9] == found.patterns[3][5, 5] == 0
    np.testing.assert_array_equal(found.patterns.read_raw(4), patterns.read_raw(4))
    request = handoff.selection.Request(
        found.patterns,
        handoff.select_patterns(np.ones(120, "f4"), 0.5, np.full(120, "")),
        np.full(120, ""),
        handoff.find_scale(found),
    )
    photons = np.concatenate(list(request.photon_blocks())).reshape(counts.shape)
    good[7, 9, 9] = 0
    assert np.mean(photons == good) > 0.999
    assert handoff.find_scale(found, 65) == pytest.approx(0.5, rel=0.02)


def test_a_model_of_another_unit_is_refused(write, tmp_path):
    from helpers.classifier import trained_model

    adu = write(to_adu(counts_of(), 0, 130, 0.12).astype("f4"))
    metadata = trained_model.describe_patterns(adu)
    model = type("Model", (), {"metadata": metadata})
    trained_model.check_model_fits(model, adu)
    with pytest.raises(ModelError, match=r"unit is photons; .* trained with ADU"):
        trained_model.check_model_fits(model, adu.with_scale(0, 130))


def test_the_picture_marks_pedestal_and_photons(write):
    scale = find_photon_scale(write(to_adu(counts_of("dim"), 800, 130, 0.1)))
    ax = Figure().subplots()
    plots.plot_values(ax, scale)
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert said[0].startswith("pedestal 800")
    assert said[1].startswith("photons, 1")
    low, high = ax.get_xlim()
    assert low < 800
    assert high > 930


def test_a_measured_file_in_adu(real_file):
    scale = find_photon_scale(open_patterns(real_file("pnccd_adu_10.h5")))
    assert scale.pedestal == 0
    assert 7.5 < scale.adu_per_photon < 8.3
    counts = open_patterns(real_file("pr772_30.h5"))
    assert not find_photon_scale(counts).is_known
