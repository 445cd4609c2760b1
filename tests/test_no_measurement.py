"""Patterns that are no measurement are found, named, and left out of everything."""

import warnings
from functools import cache

import h5py
import numpy as np
import pytest

from helpers import classifier, experiment, handoff, labels, run
from helpers.classifier.trained_model import describe_patterns
from helpers.patterns import open_patterns
from helpers.ranking import rank_patterns
from helpers.simulate import Sample, pnccd_bad_pixels, simulate_patterns
from helpers.widgets import label_patterns
from helpers.widgets.pattern_table import PatternOrder, make_pattern_table

N = 300
SHAPE = (96, 94)
SAMPLES = {
    "bright": Sample(photons=25_000, background=700),
    "dim": Sample(photons=2_000, background=300),
    "many kinds": Sample(
        photons=20_000, background=400, single=0.2, multiple=0.4, other=0.2, blank=0.2
    ),
    "sharp rings": Sample(
        photons=60_000, background=50, size_nm=150, size_spread=0.01, lumpiness=0
    ),
}


@cache
def simulated(name="bright"):
    """Return photon counts on every pixel, not to be changed."""
    none = np.zeros(SHAPE, bool)
    found = simulate_patterns(N, 7, sample=SAMPLES[name], bad_pixels=none).patterns
    found.setflags(write=False)
    return found


def to_adu(counts, pedestal=0.0, noise=20.0):
    """Return ADU of 130 a photon, float32."""
    rng = np.random.default_rng(0)
    return (130 * counts + rng.normal(pedestal, noise, counts.shape)).astype("f4")


@pytest.fixture
def write(tmp_path):
    """Write patterns and open them."""

    def write(values, bad_pixels=None, **how):
        with h5py.File(tmp_path / "run.h5", "w") as file:
            file.create_dataset("patterns", data=values, **how)
        return open_patterns(tmp_path / "run.h5", bad_pixels=bad_pixels)

    return write


def measure(patterns):
    lit = experiment.suggest_lit_threshold(patterns)
    return experiment.measure_patterns(patterns, lit)


def names_of(measured):
    """Return the kinds that were found, by pattern."""
    names = experiment.name_no_measurements(measured)
    return {int(i): str(names[i]) for i in np.flatnonzero(names != "")}


@pytest.mark.parametrize(
    ("sample", "unit", "masked"),
    [
        ("bright", "photons", False),
        ("bright", "ADU", True),
        ("dim", "photons", True),
        ("dim", "ADU", False),
        ("many kinds", "photons", False),
        ("sharp rings", "photons", True),
        ("sharp rings", "ADU", False),
    ],
)
def test_every_simulated_pattern_is_a_measurement(write, sample, unit, masked):
    values = simulated(sample)
    values = values if unit == "photons" else to_adu(values)
    mask = pnccd_bad_pixels(SHAPE) if masked else None
    patterns = write(np.where(mask, 0, values) if masked else values, mask)
    assert names_of(measure(patterns)) == {}


@pytest.mark.parametrize(
    ("value", "dtype", "masked"),
    [
        (0, "f4", False),
        (0, "u2", True),
        (65535, "u2", False),
        (-1, "i4", True),
        (np.nan, "f4", True),
        (7.5, "f4", False),
    ],
)
def test_patterns_of_one_value_are_constant(write, value, dtype, masked):
    values = simulated().astype(dtype)
    mask = pnccd_bad_pixels(SHAPE) if masked else np.zeros(SHAPE, bool)
    values[:, mask] = 3 if masked else values[:, mask]
    values[[0, 17, 299]] = value
    values[:, mask] = 3
    found = names_of(measure(write(values, mask)))
    assert found == dict.fromkeys([0, 17, 299], "constant")


@pytest.mark.parametrize(("chunk", "fill"), [(1, 0), (7, 5)])
def test_what_was_never_written_is_named(tmp_path, chunk, fill):
    values = simulated()
    with h5py.File(tmp_path / "run.h5", "w") as file:
        dataset = file.create_dataset(
            "patterns", values.shape, "u2", chunks=(chunk, *SHAPE), fillvalue=fill
        )
        dataset[:210] = values[:210]
    found = names_of(measure(open_patterns(tmp_path / "run.h5")))
    assert found == dict.fromkeys(range(210, N), "never written")


def test_a_blank_without_a_photon_is_a_measurement_among_faint_ones(write):
    rng = np.random.default_rng(3)
    values = rng.poisson(3e-4, (N, *SHAPE))  # 2.7 photons each
    values[::3] += rng.poisson(0.1, values[::3].shape)
    assert not values.any(axis=(1, 2)).all()
    measured = measure(write(values))
    assert measured.is_measurement.all()
    np.testing.assert_allclose(measured.powder, values.mean(axis=0))


@pytest.mark.parametrize(("dtype", "share"), [("u2", 0.6), ("f4", 0.99)])
def test_patterns_at_the_limit_are_found(write, dtype, share):
    values = simulated().astype(dtype)
    at_limit = np.random.default_rng(1).random((2, *SHAPE)) < share
    values[[40, 41]] = np.where(at_limit, 16383, values[[40, 41]])
    found = names_of(measure(write(values)))
    assert found == dict.fromkeys([40, 41], "at the limit")


MODULES = {
    "half": np.s_[:48, :],
    "other half": np.s_[:, 47:],
    "quadrant": np.s_[48:, :47],
    "one of eight": np.s_[24:48, :47],
    "one of sixteen, beside the beam": np.s_[24:48, 23:47],
}


def bright_singles(sample="bright"):
    return np.argsort(-simulated(sample).sum(axis=(1, 2)))[5:60:10]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *((where, 0) for where in MODULES),
        ("half", -1),
        ("quadrant", 65535),
        ("one of sixteen, beside the beam", np.nan),
    ],
)
def test_patterns_from_a_lost_module_are_found(write, where, value):
    values = simulated().astype("f4")
    lost = bright_singles()
    for i in lost:
        values[i][MODULES[where]] = value
    found = names_of(measure(write(values)))
    assert found == dict.fromkeys(sorted(lost.tolist()), "lost module")


@pytest.mark.parametrize(
    ("where", "value", "scale"),
    [
        ("quadrant", 0, (0, 1)),
        ("quadrant", 800, (800, 130)),
        ("one of sixteen, beside the beam", 0, (800, 130)),
        ("one of sixteen, beside the beam", 4095, (800, 130)),
        ("one of sixteen, beside the beam", 800, (0, 1)),
    ],
)
def test_patterns_from_a_lost_module_are_found_in_adu(write, where, value, scale):
    values = to_adu(simulated(), pedestal=800)
    lost = [3, 100, 217]  # whatever they are, blanks too
    for i in lost:
        values[i][MODULES[where]] = value
    found = names_of(measure(write(values).with_scale(*scale)))
    assert found == dict.fromkeys(lost, "lost module")


@pytest.mark.parametrize(
    ("unit", "limit"), [("photons", 60), ("photons", 200), ("ADU", 60)]
)
def test_a_bright_spot_at_the_limit_of_the_detector_is_no_lost_module(
    write, unit, limit
):
    row, column = np.indices(SHAPE)
    spot = 5e5 / (10 + np.hypot(row - 48, column - 46)) ** 3
    counts = np.minimum(
        simulated() + np.rint(spot) * (np.arange(N) % 9 == 0)[:, None, None], limit
    )
    values = (
        counts if unit == "photons" else np.minimum(to_adu(counts, 800), 130 * limit)
    )
    assert (values == values.max()).sum(axis=(1, 2)).max() > 200
    assert names_of(measure(write(values))) == {}


@pytest.mark.parametrize("unit", ["photons", "ADU"])
def test_a_module_that_is_always_dark_condemns_no_pattern(write, unit):
    values = (simulated() if unit == "photons" else to_adu(simulated())).astype("f4")
    values[:, 24:48, :47] = 0
    assert names_of(measure(write(values))) == {}


@pytest.mark.parametrize("unit", ["photons", "ADU"])
def test_repeated_patterns_are_duplicates(write, unit):
    values = (simulated() if unit == "photons" else to_adu(simulated())).copy()
    bright = bright_singles()
    first, second = sorted(bright[:2].tolist())
    values[[first + 1, 298]] = values[first]
    values[299] = values[second] if second < 298 else values[first]
    found = names_of(measure(write(values)))
    assert {298, 299} <= set(found)
    assert set(found.values()) == {"duplicate"}
    assert first not in found


def test_faint_patterns_may_be_equal_by_chance(write):
    values = np.zeros((N, *SHAPE), "u2")
    values[np.arange(N), 48, np.arange(N) % 5 + 45] = 1
    values[:30] += np.random.default_rng(0).poisson(1, (30, *SHAPE)).astype("u2")
    assert names_of(measure(write(values))) == {}


def test_the_sums_are_those_of_the_measurements(write):
    values = simulated().astype("f4")
    lost = bright_singles()
    for i in lost[:3]:
        values[i][MODULES["half"]] = 0
    values[lost[3]] = 9999
    values[299] = values[298] = values[lost[4]]
    measured = measure(write(values))
    whole = values[measured.is_measurement]
    assert len(whole) in (N - 6, N - 5)  # one of the last may be among the brightest
    np.testing.assert_allclose(measured.powder, whole.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(measured.spread, whole.std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(measured.pixels.n_lit, (whole >= 1).sum(axis=0))


def test_they_are_named_counted_and_warned_of(write):
    values = simulated().astype("f4")
    values[[3, 8]] = 0
    values[11] = np.nan
    measured = measure(write(values))
    with pytest.warns(UserWarning, match="3 of 300 patterns are no measurement"):
        text = experiment.describe_no_measurements(measured)
    assert "3 constant (one value in all pixels, or none in any): 3, 8, 11" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert experiment.describe_no_measurements(measure(write(simulated()))) == ""


def test_the_work_folder_says_which_patterns_are_measurements(write, tmp_path):
    values = simulated().astype("f4")
    values[[3, 8]] = 0
    patterns = write(values)
    measured = measure(patterns)
    experiment.write_experiment(tmp_path / "work", patterns, measured, (48, 46))
    found = experiment.open_experiment(tmp_path / "work")
    assert np.flatnonzero(~found.patterns.is_measurement).tolist() == [3, 8]
    assert found.metadata["no_measurement"]["constant"] == 2
    assert names_of(found.measurements) == {3: "constant", 8: "constant"}
    with h5py.File(tmp_path / "work" / "experiment.h5") as file:
        assert "2: constant" in file["no_measurement"].attrs["meaning"]
    order = found.patterns.shuffled()
    assert sorted(order) == [i for i in range(N) if i not in (3, 8)]
    kept = [i for i in patterns.shuffled() if i not in (3, 8)]
    np.testing.assert_array_equal(order, kept)
    powder = experiment.make_powder(found.patterns, np.ones(N, bool))
    np.testing.assert_allclose(powder, measured.powder)


@pytest.mark.parametrize("value", [40, 65535])
def test_what_is_no_measurement_is_no_hit(write, tmp_path, value):
    values = simulated().astype("u2")
    values[[3, 8]] = value
    patterns = write(values)
    measured = measure(patterns)
    hits = measured.lit_pixels > 0
    hits[[3, 8]] = False
    experiment.write_experiment(
        tmp_path, patterns, measured, (48, 46), lit_threshold=1, hit_threshold=0
    )
    said = run.summarise(tmp_path)
    assert any(f" {hits.sum()} of {N} have over 0 lit" in str(line) for line in said)


@pytest.fixture
def work(write, tmp_path):
    """Return a work folder after 01, with labels of everything."""
    values = simulated().astype("f4")
    values[[3, 8]] = 0
    values[bright_singles()[0]][MODULES["half"]] = 0
    patterns = write(values)
    measured = measure(patterns)
    experiment.write_experiment(tmp_path / "work", patterns, measured, (48.3, 45.9))
    inspected, store = labels.open_work(tmp_path / "work")
    words = np.where(np.arange(N) % 2, "single", "blank")
    store.import_words(words, labeller="file")
    out = np.flatnonzero(~inspected.patterns.is_measurement)
    assert out.size == 3
    return inspected, store, out


def test_what_is_no_measurement_has_no_label_and_trains_nothing(work):
    inspected, store, out = work
    words = store.current_labels()
    assert (words[out] == "").all()
    assert np.count_nonzero(words == "") == out.size
    split = classifier.split_labels(words, inspected.patterns.file_index)
    np.testing.assert_array_equal(split.to_predict, out)


def test_nobody_is_asked_to_label_what_is_no_measurement(work):
    inspected, store, out = work
    patterns, measured = inspected.patterns, inspected.measurements
    table = make_pattern_table(
        N,
        photons=measured.photons,
        hit_score=measured.lit_pixels,
        prediction=np.full(N, 0.5),
        distance=np.zeros(N),
    )
    queue = labels.Queue(np.arange(N), np.full(N, "audit"))
    order = PatternOrder(table, patterns.shuffled(), given=np.arange(N), queue=queue)
    nothing = np.full(N, "")
    for name in order.names:
        shown = order.index(name, "all", nothing)
        assert not np.isin(shown, out).any()
        assert len(shown) == N - out.size
    labeller = label_patterns(patterns, store, labeller="ann", order="as recorded")
    assert not np.isin(labeller.index(), out).any()


def test_what_is_no_measurement_is_not_ranked(work):
    inspected, _, out = work
    hits = np.setdiff1d(bright_singles(), out)
    for metric in ("rotation", "article"):
        ranking = rank_patterns(
            inspected.patterns, hits, metric, centre=inspected.centre, n_rotations=4
        )
        others = np.setdiff1d(np.arange(N), np.union1d(out, hits))
        np.testing.assert_array_equal(np.sort(ranking.index), others)


def test_what_is_no_measurement_has_no_prediction_and_is_not_handed_on(work, tmp_path):
    inspected, _, out = work
    patterns = inspected.patterns
    network = classifier.ArticleNetwork(32)
    trained = classifier.TrainedModel(
        network,
        network.build(),
        classifier.Calibration(2, 0.1),
        0.3,
        describe_patterns(patterns),
    )
    classifier.save_model(trained, tmp_path / "work")
    predictions = classifier.predict_patterns(patterns, tmp_path / "work")
    for values in (predictions.probability, predictions.raw):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), out)
    with h5py.File(tmp_path / "work" / "predictions.h5") as file:
        assert "3 of 300 patterns are no meas" in file["predictions"].attrs["nan"]
    words = np.full(N, "single")  # as someone else may say
    selection = handoff.select_patterns(predictions.probability, 0.0, words)
    np.testing.assert_array_equal(
        selection.index, np.flatnonzero(patterns.is_measurement)
    )
    model = classifier.load_model(tmp_path / "work")
    queue = classifier.choose_next_labels(
        patterns, model, predictions.probability, np.full(N, ""), n_labels=N
    )
    assert not np.isin(queue.pattern, out).any()
    taken = patterns.is_measurement & (np.arange(N) % 3 == 0)
    classifier.measure_physics(inspected, taken)


@pytest.mark.parametrize("dtype", ["i2", "i4", ">i8"])
def test_counts_below_0_have_no_value_in_their_pattern(write, dtype):
    values = simulated().astype(dtype)
    rare = np.random.default_rng(2).random(values.shape) < 1e-4
    values[rare] = -1
    values[5, 3, 3] = values[:, 7, 7] = -1
    patterns = write(values)
    assert patterns.unit == "photons"
    expected = np.where(values < 0, 0, values)
    np.testing.assert_array_equal(patterns[:], expected)
    np.testing.assert_array_equal(patterns.read_raw(5), values[5])
    measured = measure(patterns)
    assert measured.is_measurement.all()
    np.testing.assert_array_equal(measured.lost_pixels, (values < 0).sum(axis=(1, 2)))
    found = experiment.find_bad_pixels(measured, patterns.bad_pixels)
    bad = experiment.accept_bad_pixels(found)
    assert bad[7, 7]
    assert bad.sum() == 1
    few = np.ma.masked_less(values, 0).mean(axis=0).filled(0)
    np.testing.assert_allclose(measured.powder, few)
