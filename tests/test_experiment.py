import json
import os
import warnings

import h5py
import numpy as np
import pytest

from helpers import experiment
from helpers.errors import (
    OtherPatternsError,
    ParameterError,
    PatternsFileError,
    WorkFolderError,
)
from helpers.patterns import open_patterns
from helpers.physics import SINGLE_PIXELS


@pytest.fixture
def write(tmp_path):
    """Write patterns to a file and open them."""

    def make(patterns, bad_pixels=None, name="run.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["patterns"] = patterns
        return open_patterns(tmp_path / name, bad_pixels=bad_pixels)

    return make


@pytest.fixture
def counts():
    """Photon counts of a smooth bump: (40, 24, 20) int32."""
    row, column = np.mgrid[:24, :20]
    bump = 30 * np.exp(-((row - 12) ** 2 + (column - 9) ** 2) / 60)
    return np.random.default_rng(0).poisson(bump, (40, 24, 20)).astype(np.int32)


def test_measurements_equal_the_plain_sums(write, counts):
    bad = np.zeros(counts.shape[1:], bool)
    bad[:3] = True
    measured = experiment.measure_patterns(write(counts, bad), 2)
    good = np.where(bad, 0, counts)
    np.testing.assert_allclose(measured.photons, good.sum(axis=(1, 2)))
    np.testing.assert_array_equal(measured.lit_pixels, (good >= 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(measured.powder, good.mean(axis=0))
    np.testing.assert_allclose(measured.spread, good.std(axis=0), atol=1e-6)


def test_photons_are_adu_over_gain_without_negative_values(write, counts):
    adu = counts * np.float32(2.5) + 7
    adu[:, 0, 0] = -100
    patterns = write(adu).with_scale(7, 2.5)
    measured = experiment.measure_patterns(patterns, 2)
    expected = np.maximum(adu - 7, 0).sum(axis=(1, 2)) / 2.5
    np.testing.assert_allclose(measured.photons, expected, rtol=1e-6)


@pytest.mark.parametrize("gain", [0, -1, np.nan])
def test_a_gain_that_is_not_above_0_is_refused(write, counts, gain):
    with pytest.raises(ParameterError, match=r"adu_per_photon is .*above 0"):
        write(counts).with_scale(0, gain)


def test_pixels_that_are_not_finite_are_counted(write, counts):
    adu = counts.astype(np.float32)
    adu[3, 5, 6], adu[4, 5, 6], adu[4, 7, 7] = np.nan, np.inf, -np.inf
    measured = experiment.measure_patterns(write(adu), 1)
    assert measured.not_finite[5, 6] == pytest.approx(2 / 40)
    assert measured.not_finite.sum() == pytest.approx(3 / 40)
    assert np.isfinite(measured.photons).all()


@pytest.mark.parametrize("dtype", ["f2", ">f2", ">f4", ">i2", ">u4", "f8"])
def test_sums_of_any_numbers_are_right_and_quiet(write, counts, dtype):
    values = np.minimum(counts * 900, 30_000).astype(dtype)
    if values.dtype.kind == "f":
        values[2, 3, 4], values[5, 6, 7] = np.inf, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = write(values)
        measured = experiment.measure_patterns(patterns, 1)
    plain = np.nan_to_num(values.astype("f8"), posinf=0)
    np.testing.assert_allclose(measured.photons, plain.sum(axis=(1, 2)))
    n = np.isfinite(values.astype("f8")).sum(axis=0)
    np.testing.assert_allclose(measured.powder, plain.sum(axis=0) / n)


def test_values_too_large_for_float32_are_reported(write, counts):
    adu = counts.astype(np.float64)
    adu[3, 5, 6], adu[4, 5, 6], adu[7, 0, 0], adu[8] = 1e300, -1e300, np.inf, np.nan
    patterns = write(adu)
    with pytest.warns(UserWarning, match="2 of the 40 .* as 0: 3, 4") as caught:
        measured = experiment.measure_patterns(patterns, 1)
    assert caught[0].filename == __file__
    assert measured.not_finite[5, 6] == pytest.approx(2 / 39)  # 8 is no measurement
    assert measured.not_finite[0, 0] == pytest.approx(1 / 39)
    assert patterns[3][5, 6] == 0


@pytest.mark.parametrize(
    ("value", "said"), [(0, "every value is 0, in 5"), (7, "all patterns are alike")]
)
def test_constant_patterns_pass_with_a_warning(write, value, said):
    patterns = write(np.full((5, 16, 16), value, np.float32))
    threshold = experiment.suggest_lit_threshold(patterns)
    with pytest.warns(UserWarning, match=said):
        measured = experiment.measure_patterns(patterns, threshold)
    found = experiment.find_bad_pixels(measured, patterns.bad_pixels)
    assert not np.any([found[kind].pixels for kind in SINGLE_PIXELS])
    assert experiment.suggest_hit_threshold(measured.lit_pixels) == 0


def test_the_lit_threshold_of_counts_is_one_photon(write, counts):
    assert experiment.suggest_lit_threshold(write(counts)) == 1


def test_the_lit_threshold_of_adu_lies_above_the_noise(write):
    noise = np.random.default_rng(2).normal(3, 2, (30, 16, 16)).astype(np.float32)
    threshold = experiment.suggest_lit_threshold(write(noise))
    assert 13 < threshold < 17


def test_the_hit_threshold_lies_between_blanks_and_hits():
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.poisson(20, 900), rng.poisson(2000, 100)])
    assert 50 < experiment.suggest_hit_threshold(scores) < 1500


def test_a_single_pattern_has_a_hit_threshold():
    assert experiment.suggest_hit_threshold(np.array([12])) == 0


def test_the_powder_of_some_is_their_mean(write, counts):
    chosen = np.arange(len(counts)) % 3 == 0
    found = experiment.make_powder(write(counts), chosen)
    np.testing.assert_allclose(found, counts[chosen].mean(axis=0))
    assert not experiment.make_powder(write(counts), np.zeros(40, bool)).any()


@pytest.fixture
def written(write, counts, tmp_path):
    """Give a work folder that holds an experiment, and what it was made from."""
    patterns = write(counts)
    bad = patterns.bad_pixels.copy()
    bad[4, 5] = True
    patterns = patterns.with_bad_pixels(bad)
    measured = experiment.measure_patterns(patterns, 1)
    work_dir = tmp_path / "work"
    experiment.write_experiment(work_dir, patterns, measured, (12.25, 9), lit=1.0)
    return work_dir, patterns, measured


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of another system")
def test_a_work_folder_is_read_where_the_disk_gives_no_lock(written, monkeypatch):
    import fcntl

    monkeypatch.setattr("helpers.patterns.hdf5_opening.has_writer", lambda _: False)
    with (written[0] / "experiment.h5").open("r+b") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        found = experiment.open_experiment(written[0])
    np.testing.assert_array_equal(found.measurements.powder, written[2].powder)


def test_an_experiment_is_read_as_it_was_written(written):
    work_dir, patterns, measured = written
    found = experiment.open_experiment(work_dir)
    assert found.centre == (12.25, 9)
    assert found.metadata["lit"] == 1.0
    np.testing.assert_array_equal(found.patterns.bad_pixels, patterns.bad_pixels)
    np.testing.assert_array_equal(found.measurements.photons, measured.photons)
    np.testing.assert_array_equal(found.patterns[3], patterns[3])


def test_patterns_that_moved_are_the_same_patterns(written, tmp_path):
    moved = tmp_path / "moved.h5"
    (tmp_path / "run.h5").rename(moved)
    assert experiment.open_experiment(written[0], moved).patterns.files == (moved,)


def test_other_patterns_are_refused(written, write, counts):
    other = write(counts[::-1], name="other.h5")
    with pytest.raises(OtherPatternsError, match=r"belongs to .*run\.h5.*other\.h5"):
        experiment.open_experiment(written[0], other.files[0])


def test_a_missing_experiment_names_the_notebook_to_run(tmp_path):
    with pytest.raises(WorkFolderError, match=r"experiment\.json is not there.*01-ins"):
        experiment.open_experiment(tmp_path)


@pytest.mark.parametrize("content", ["", "{", json.dumps({"centre": [1, 2]})])
def test_a_broken_experiment_file_says_so(written, content):
    (written[0] / "experiment.json").write_text(content)
    with pytest.raises(WorkFolderError, match=r"experiment\.json.*Run 01-inspect"):
        experiment.open_experiment(written[0])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("patterns_files", [], r"patterns_files is \[\]; expected file names"),
        ("patterns_files", [7], "expected file names"),
        ("dataset", None, "dataset is None; expected a path"),
        ("centre", [1], "centre is .*; expected row and column"),
        ("fingerprint", 7, "fingerprint is 7; expected a text"),
    ],
)
def test_a_strange_fact_is_named(written, name, value, said):
    path = written[0] / "experiment.json"
    metadata = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(metadata | {name: value}))
    with pytest.raises(WorkFolderError, match=said):
        experiment.open_experiment(written[0])


def test_a_truncated_array_file_says_so(written):
    path = written[0] / "experiment.h5"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(WorkFolderError, match=r"experiment\.h5 cannot be read"):
        experiment.open_experiment(written[0])


def test_patterns_of_nothing_but_nan_are_refused(write, counts):
    with pytest.raises(PatternsFileError, match="every value is NaN or infinite"):
        experiment.measure_patterns(write(counts * np.nan), 1)


def test_a_file_of_another_size_than_was_inspected_is_reported(write, counts, tmp_path):
    patterns = write(counts)
    measured = experiment.measure_patterns(patterns, 1)
    experiment.write_experiment(tmp_path / "work", patterns, measured, (12, 9))
    patterns.close()
    with patterns.files[0].open("ab") as file:
        file.write(b"more")
    with pytest.warns(UserWarning, match="when 01-inspect read it"):
        experiment.open_experiment(tmp_path / "work")


def test_a_work_folder_in_ones_home_is_found(write, counts, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    patterns = write(counts)
    measured = experiment.measure_patterns(patterns, 1)
    experiment.write_experiment("~/work", patterns, measured, (12, 9))
    assert experiment.open_experiment("~/work").centre == (12, 9)
    assert (tmp_path / "home" / "work" / "experiment.json").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("centre", [(500, 9), (12, -20)])
def test_a_centre_outside_of_the_detector_is_reported(write, counts, tmp_path, centre):
    patterns = write(counts)
    measured = experiment.measure_patterns(patterns, 1)
    with pytest.warns(UserWarning, match="outside of the detector of 24 × 20"):
        experiment.write_experiment(tmp_path / "w", patterns, measured, centre)
    assert experiment.open_experiment(tmp_path / "w").centre == centre
    with pytest.raises(ParameterError, match="expected row and column"):
        experiment.write_experiment(tmp_path, patterns, measured, (np.nan, 3))
