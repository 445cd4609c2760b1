"""Split, partition files, calibration, metrics and training."""

import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from helpers.classifier import (
    NETWORKS,
    PARTS,
    ArticleNetwork,
    Calibration,
    Fitted,
    LearningCurve,
    Network,
    Schedule,
    Split,
    choose_threshold,
    choose_threshold_for_recall,
    describe_scores,
    evaluate,
    expected_calibration_error,
    find_learning_curve,
    fit_calibration,
    fit_calibration_in_stack,
    is_single,
    kernel_head,
    load_model,
    make_images,
    make_network,
    read_images,
    read_partition,
    reliability_curve,
    split_labels,
    train_from_images,
    train_model,
    write_images,
    write_partition,
)
from helpers.classifier.calibration import SCORES, average_precision
from helpers.classifier.kernel_head import (
    GENERAL,
    RIDGES,
    STEEP,
    Kernel,
    fit_head,
    fit_kernel,
)
from helpers.classifier.network_base import predict_inputs
from helpers.classifier.networks import make_head
from helpers.errors import LabelsError, ParameterError, WorkFolderError
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import scale_to_255
from helpers.simulate import pnccd_bad_pixels, write_simulated

WORDS = ("single", "multiple", "other", "blank", "unsure", "")


def make_labels(seed: int = 0, **counts: int) -> NDArray[np.str_]:
    words = np.repeat(list(counts), list(counts.values()))
    words[words == "unlabelled"] = ""
    return np.random.default_rng(seed).permutation(words)


def no_groups(labels: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.zeros(labels.size, np.int64)


def parts_of(split: Split) -> list[NDArray[np.int64]]:
    return [getattr(split, name) for name in PARTS]


def write_rings(path: Path, n: int, seed: int, size: int = 40) -> NDArray[np.str_]:
    """Write patterns that a small network can tell apart: disc = single."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(["single", "multiple", "other"], n))
    rows, columns = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(rows, columns)
    disc, ring = np.exp(-radius / 3), np.exp(-((radius - 12) ** 2) / 8)
    mean = np.where((labels == "single")[:, None, None], disc, ring)
    mean *= rng.uniform(20, 200, (n, 1, 1))
    with h5py.File(path, "w") as file:
        file["patterns"] = rng.poisson(mean).astype(np.float32)
    return labels


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Patterns, NDArray[np.str_]]:
    """Two files of 30 patterns of 40 × 40 pixels; the last 10 have no label."""
    files = [tmp_path / "run1.h5", tmp_path / "run2.h5"]
    labels = np.concatenate([write_rings(file, 30, i) for i, file in enumerate(files)])
    labels[-10:] = ""
    return open_patterns(files), labels


@pytest.fixture
def trainable(
    stack: tuple[Patterns, NDArray[np.str_]],
) -> tuple[Patterns, Split, NDArray[np.str_]]:
    patterns, labels = stack
    return patterns, split_labels(labels, patterns.file_index), labels


@pytest.fixture
def with_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge by a test part, as with many labels: nested cross-validation takes long."""
    monkeypatch.setattr("helpers.classifier.training.ENOUGH_TO_TEST", 10)


# --- split ----------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(WORDS), min_size=12, max_size=80),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_split_is_a_partition_with_both_classes_in_each_part(words, n_runs, seed):
    labels = np.array(words + ["single", "other"] * 5)
    groups = np.arange(labels.size) % n_runs
    split = split_labels(labels, groups, seed)
    everything = np.concatenate([*parts_of(split), split.to_predict])
    assert np.array_equal(np.sort(everything), np.arange(labels.size))
    assert np.isin(labels[split.to_predict], ("", "unsure")).all()
    for part in parts_of(split):
        assert (np.diff(part) > 0).all()
        assert set(is_single(labels[part])) == {True, False}


def test_split_keeps_the_proportions_of_each_word():
    labels = make_labels(single=60, multiple=100, other=40, blank=20, unsure=7)
    split = split_labels(labels, no_groups(labels))
    for word, count in {
        "single": 60,
        "multiple": 100,
        "other": 40,
        "blank": 20,
    }.items():
        found = [(labels[part] == word).sum() for part in parts_of(split)]
        assert np.abs(found - count * np.array([0.6, 0.2, 0.2])).max() <= 1


def test_same_seed_same_split_other_seed_other_split():
    labels = make_labels(single=30, other=30)
    first, again, other = (
        split_labels(labels, no_groups(labels), s) for s in (1, 1, 2)
    )
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_eight_labels_per_class_are_enough():
    labels = make_labels(single=8, multiple=4, other=4, unlabelled=100)
    split = split_labels(labels, no_groups(labels))
    assert [part.size for part in parts_of(split)] == [10, 4, 2]


def test_whole_runs_stay_together_where_there_are_enough():
    labels = make_labels(single=80, multiple=80, other=80)
    runs = np.arange(labels.size) // 20
    split = split_labels(labels, runs)
    in_part = [set(runs[part]) for part in parts_of(split)]
    assert split.grouped
    assert "12 runs" in split.why
    assert not in_part[0] & in_part[1]
    assert not in_part[0] & in_part[2]
    assert not in_part[1] & in_part[2]


@pytest.mark.parametrize("runs", [np.arange(60) % 3, np.maximum(np.arange(60) - 54, 0)])
def test_split_says_why_runs_are_not_kept_together(runs):
    labels = make_labels(single=30, other=30)
    split = split_labels(labels, runs)
    assert not split.grouped
    assert split.why.startswith("divided by pattern")


def make_mixed_labels() -> NDArray[np.str_]:
    """Return 300 words in random order, 30 of them "unsure"."""
    labels = make_labels(single=90, multiple=100, other=80, unsure=30)
    return np.random.default_rng(2).permutation(labels)


def test_labels_that_were_asked_for_teach_and_never_judge():
    labels = make_mixed_labels()
    drawn = np.random.default_rng(3).permutation(300)[:120]
    labels[np.setdiff1d(np.arange(300), drawn)[:40]] = ""
    split = split_labels(labels, no_groups(labels), drawn=drawn)
    judging = np.concatenate([split.validation, split.test])
    assert np.isin(judging, drawn).all()
    labelled = np.flatnonzero(~np.isin(labels, ["", "unsure"]))
    assert np.array_equal(split.training, np.setdiff1d(labelled, judging))
    assert np.array_equal(split.to_predict, np.setdiff1d(np.arange(300), labelled))
    n_asked = np.setdiff1d(labelled, drawn).size
    assert split.why.endswith(f"then {n_asked} more labels to train on")
    assert len(split.test) == pytest.approx(0.2 * np.isin(labelled, drawn).sum(), abs=2)


@pytest.mark.parametrize("drawn", [range(300), range(60), range(0)])
def test_all_labels_are_divided_where_all_or_too_few_were_drawn(drawn):
    labels = make_mixed_labels()
    among = np.fromiter(drawn, np.int64)
    split = split_labels(labels, no_groups(labels), drawn=among)
    alike = split_labels(labels, no_groups(labels))
    for name in (*PARTS, "to_predict"):
        assert np.array_equal(getattr(split, name), getattr(alike, name))
    assert split.why == alike.why


@pytest.mark.parametrize(("single", "other"), [(4, 50), (50, 4), (0, 50)])
def test_too_small_a_class_is_refused_with_the_counts(single, other):
    labels = make_labels(single=single, other=other, unsure=9)
    with pytest.raises(
        LabelsError, match=f"{single} labels say single and {other} say"
    ):
        split_labels(labels, no_groups(labels))


def test_unknown_words_and_wrong_lengths_are_refused():
    labels = make_labels(single=9, other=9, droplet=1)
    with pytest.raises(LabelsError, match="unknown labels droplet"):
        split_labels(labels, no_groups(labels))
    with pytest.raises(LabelsError, match=r"shape \(19,\) and groups \(18,\)"):
        split_labels(labels, no_groups(labels)[1:])


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (1.0, 0.0, 0.0)])
def test_impossible_fractions_are_refused(fractions):
    labels = make_labels(single=9, other=9)
    with pytest.raises(ParameterError, match="add up to 1"):
        split_labels(labels, no_groups(labels), fractions=fractions)


def test_the_thirty_measured_patterns_can_be_split(real_file):
    patterns = open_patterns(real_file("pr772_30.h5"))
    assert patterns.recorded_labels is not None
    split = split_labels(patterns.recorded_labels, patterns.file_index)
    assert [part.size for part in parts_of(split)] == [18, 6, 6]


# --- partition files ------------------------------------------------------------------


def test_partition_holds_clean_labelled_patterns_and_reads_back(trainable, tmp_path):
    patterns, split, labels = trainable
    path = write_partition(tmp_path / "work" / "partition.h5", patterns, split, labels)
    with h5py.File(path) as file:
        for name in PARTS:
            index = file[name]["index"][()]
            assert np.array_equal(file[name]["patterns"], patterns[index])
    again, words = read_partition(path)
    assert np.array_equal(words, labels)
    assert all(
        np.array_equal(getattr(again, name), getattr(split, name))
        for name in (*PARTS, "to_predict")
    )
    assert (again.grouped, again.why) == (split.grouped, split.why)


def test_patterns_to_predict_are_linked_not_copied(trainable, tmp_path):
    patterns, split, labels = trainable
    labels[20:40:3] = ""
    split = split_labels(labels, patterns.file_index)
    path = write_partition(tmp_path / "work" / "partition.h5", patterns, split, labels)
    with h5py.File(path) as file:
        linked = file["to_predict"]["patterns"]
        assert linked.is_virtual
        assert all(
            not Path(s.file_name).is_absolute() for s in linked.virtual_sources()
        )
        assert np.array_equal(linked, patterns.read_raw(split.to_predict))


def test_partition_still_reads_after_the_whole_folder_moved(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    labels = write_rings(old / "run.h5", 30, 0)
    labels[::2] = ""
    patterns = open_patterns(old / "run.h5")
    split = split_labels(labels, patterns.file_index)
    write_partition(old / "work" / "partition.h5", patterns, split, labels)
    expected = patterns.read_raw(split.to_predict)
    old.rename(new)
    with h5py.File(new / "work" / "partition.h5") as file:
        assert np.array_equal(file["to_predict"]["patterns"], expected)


def test_a_missing_or_foreign_partition_is_refused(tmp_path):
    with pytest.raises(
        WorkFolderError, match=r"partition.h5 is not there.*Run 04-rank"
    ):
        read_partition(tmp_path / "partition.h5")
    write_rings(tmp_path / "run.h5", 5, 0)
    with pytest.raises(WorkFolderError, match=r"run.h5 is not what 04-rank writes"):
        read_partition(tmp_path / "run.h5")


def test_image_folders_are_the_articles_and_keras_reads_them(trainable, tmp_path):
    patterns, split, labels = trainable
    folder = write_images(tmp_path / "images", patterns, split, labels)
    dataset = keras.utils.image_dataset_from_directory(
        folder / "training_set",
        color_mode="grayscale",
        image_size=(40, 40),
        shuffle=False,
        batch_size=None,
        verbose=False,
    )
    assert dataset.class_names == ["not_single", "single"]
    names = [int(Path(path).stem) for path in dataset.file_paths]
    assert sorted(names) == split.training.tolist()
    for name, (image, answer) in zip(names, dataset, strict=True):
        expected = np.rint(scale_to_255(patterns[[name]])[0])
        assert np.array_equal(image[..., 0], expected)
        assert bool(answer) == (labels[name] == "single")


def test_images_written_again_replace_the_old_ones(trainable, tmp_path):
    patterns, split, labels = trainable
    write_images(tmp_path / "images", patterns, split, labels)
    write_images(
        tmp_path / "images", patterns, split_labels(labels, labels != "", 5), labels
    )
    assert len(list((tmp_path / "images").rglob("*.png"))) == 50


# --- calibration and threshold --------------------------------------------------------


def test_calibration_finds_slope_and_offset_again():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, 20_000)
    truth = rng.random(logit.size) < 1 / (1 + np.exp(-(0.5 * logit - 1)))
    raw = (1 / (1 + np.exp(-logit))).astype(np.float32)
    calibration = fit_calibration(raw, truth)
    # standard errors of the two are 0.008 and 0.02
    assert calibration.slope == pytest.approx(0.5, abs=0.04)
    assert calibration.offset == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize(
    "raw",
    [
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],  # constant
        [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],  # perfect, saturated
        [1.0, 1.0, 1.0, 0.0, 0.0, 0.0],  # worse than chance
    ],
)
@pytest.mark.parametrize("with_stack", [False, True])
def test_degenerate_outputs_give_usable_probabilities(raw, with_stack):
    raw = np.array(raw, np.float32)
    single = np.array([False, False, False, False, True, True])
    calibration = (
        fit_calibration_in_stack(raw, single, raw)
        if with_stack
        else fit_calibration(raw, single)
    )
    probability = calibration.apply(raw)
    assert calibration.slope > 0
    assert np.isfinite(probability).all()
    assert 0 < probability.min() <= probability.max() < 1
    assert 0 < choose_threshold(probability, single) < 1


def test_calibration_keeps_the_order():
    raw = np.linspace(0, 1, 50, dtype=np.float32)
    single = np.random.default_rng(1).random(50) < raw
    assert (np.diff(fit_calibration(raw, single).apply(raw)) > 0).all()
    with_stack = fit_calibration_in_stack(raw, single, raw)
    assert (np.diff(with_stack.apply(raw)) > 0).all()


def test_with_many_labels_either_slope_is_found_whatever_is_usual():
    rng = np.random.default_rng(0)
    truth = Calibration(slope=1.5, offset=-0.75, below=0.5)
    raw = expit(rng.normal(0, 3, 20_000)).astype(np.float32)
    single = rng.random(raw.size) < truth.apply(raw)
    found = fit_calibration_in_stack(raw, single, raw)
    # standard errors, from other seeds: 0.04, 0.06 and 0.02
    assert found.slope == pytest.approx(1.5, abs=0.25)
    assert found.offset == pytest.approx(-0.75, abs=0.4)
    assert found.below == pytest.approx(0.5, abs=0.1)


def draw_logits(
    n: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw logits as the invariant network gives them: single hits are a cluster."""
    single = rng.random(n) < share
    return rng.normal(np.where(single, 2.5, -2.5), 1.95), single


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_with_few_labels_the_stack_shows_where_the_singles_begin(share):
    logit, _ = draw_logits(1000, share, np.random.default_rng(0))
    odds = np.log(share / (1 - share)) + norm.logpdf(logit, 2.5, 1.95)
    true = expit(odds - norm.logpdf(logit, -2.5, 1.95))
    stack = expit(logit).astype(np.float32)
    apart = {"labels alone": 0.0, "with the stack": 0.0}
    for seed in range(20):
        known, single = draw_logits(40, share, np.random.default_rng(100 + seed))
        out_of_fold = expit(known).astype(np.float32)
        alone = fit_calibration(out_of_fold, single)
        helped = fit_calibration_in_stack(out_of_fold, single, stack)
        apart["labels alone"] += np.abs(alone.apply(stack) - true).mean()
        apart["with the stack"] += np.abs(helped.apply(stack) - true).mean()
    assert apart["with the stack"] < 0.95 * apart["labels alone"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_no_threshold_is_better_by_more_than_a_pattern_or_nearer_to_half(pairs):
    probability = np.array([value for value, _ in pairs], np.float32) / 6
    single = np.array([answer for _, answer in pairs])
    single[0] = True
    values = np.unique(probability).astype(float)
    candidates = np.append(values[:1] / 2, (values[1:] + values[:-1]) / 2)
    f1 = np.array(
        [sklearn_metrics.f1_score(single, probability >= t) for t in candidates]
    )
    chosen = choose_threshold(probability, single)
    good = candidates[f1 >= f1.max() - 1 / single.sum()]
    distance = np.abs(good - 0.5).min()
    assert abs(chosen - 0.5) == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize("recall", [0.8, 0.9, 0.95])
def test_the_stated_recall_is_reached_on_new_patterns_on_average(recall):
    rng = np.random.default_rng(0)
    single = np.arange(60) % 2 == 0
    found = []
    for _ in range(400):
        known, new = rng.random((2, 60), dtype=np.float32) ** 2
        threshold = choose_threshold_for_recall(known, single, recall)
        found.append((new[single] >= threshold).mean())
    # 31 places between 30 singles: never less, and at most one place more;
    # the mean of 400 has a standard error of 0.005
    assert recall - 0.015 < np.mean(found) < recall + 1 / 31 + 0.015


def test_with_too_few_singles_to_promise_a_recall_all_are_found():
    probability = np.array([0.9, 0.2, 0.8, 0.1], np.float32)
    single = np.array([True, True, True, False])
    assert choose_threshold_for_recall(probability, single, 0.9) == pytest.approx(0.1)
    assert choose_threshold_for_recall(probability, single, 0.75) == pytest.approx(0.2)


@pytest.mark.parametrize("recall", [0.0, 1.0, 90])
def test_an_impossible_recall_is_refused_before_the_training(
    trainable, tmp_path, recall
):
    patterns, split, labels = trainable
    with pytest.raises(ParameterError, match=r"recall is .*such as 0.9"):
        train_model(patterns, split, labels, tmp_path / "work", recall=recall)
    assert not (tmp_path / "work").exists()


# --- reliability ----------------------------------------------------------------------


def test_true_probabilities_are_reliable_and_others_are_not():
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    single = rng.random(probability.size) < probability
    found = reliability_curve(probability, single)
    assert found.count.sum() == probability.size
    assert ((found.low < found.share) & (found.share < found.high)).all()
    assert (found.low < found.probability).mean() > 0.8
    assert expected_calibration_error(probability, single) < 0.01  # 2,000 in each bin
    # the mean of |p - p²| over 0 to 1 is 1/6
    assert expected_calibration_error(probability**2, single) == pytest.approx(
        1 / 6, abs=0.01
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_the_calibration_error_is_that_of_the_bins(pairs):
    probability = np.array([value for value, _ in pairs])
    single = np.array([answer for _, answer in pairs])
    bins = reliability_curve(probability, single)
    expected = bins.count @ np.abs(bins.probability - bins.share) / single.size
    assert expected_calibration_error(probability, single) == pytest.approx(expected)
    assert ((bins.low <= bins.share) & (bins.share <= bins.high)).all()


def test_exact_probabilities_are_not_blamed_for_chance():
    rng = np.random.default_rng(0)
    probability = rng.random(60).astype(np.float32)
    single = rng.random(60) < probability
    error = evaluate(probability, single, 0.5)["calibration_error"]
    assert error["low"] <= error["value"] <= error["high"]
    assert 0.05 < error["by_chance"] < 0.15
    worse = evaluate(1 - probability, single, 0.5)["calibration_error"]
    assert worse["low"] > worse["by_chance"]


# --- metrics --------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_metrics_agree_with_sklearn(pairs):
    probability = np.array([value for value, _ in pairs], np.float32) / 5
    single = np.array([answer for _, answer in pairs])
    single[0] = True
    chosen = probability >= 0.5
    found = evaluate(probability, single, 0.5, n_draws=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "precision": sklearn_metrics.precision_score(
                single, chosen, zero_division=0
            ),
            "recall": sklearn_metrics.recall_score(single, chosen),
            "f1": sklearn_metrics.f1_score(single, chosen),
            "average_precision": sklearn_metrics.average_precision_score(
                single, probability
            ),
            "accuracy": sklearn_metrics.accuracy_score(single, chosen),
        }
        table = sklearn_metrics.confusion_matrix(single, chosen, labels=[0, 1])
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected)
    assert found["confusion_matrix"] == table.tolist()


def test_a_few_right_answers_are_not_certainty():
    single = np.array([True, True, True, False, False, False])
    found = evaluate(single.astype(np.float32), single, 0.5)
    for name in ("precision", "recall", "f1", "accuracy"):
        assert found[name]["value"] == found[name]["high"] == 1
        assert 0.3 < found[name]["low"] < 0.8


def test_scores_are_said_with_their_intervals():
    single = np.array([True, True, True, False, False, False])
    lines = describe_scores(evaluate(single.astype(np.float32), single, 0.5))
    first, *_, last = lines.splitlines()
    assert re.fullmatch(r" +precision: 1\.00  \(0\.\d\d to 1\.00\)", first)
    assert re.match(r" calibration error: 0\.00  \(0\.00 to 0\.00\); by chance", last)


def test_intervals_hold_the_value_and_shrink_with_more_patterns():
    rng = np.random.default_rng(0)
    width = []
    for n in (40, 4000):
        single = rng.random(n) < 0.4
        probability = np.clip(rng.normal(0.35 + 0.3 * single, 0.2), 0, 1)
        f1 = evaluate(probability.astype(np.float32), single, 0.5)["f1"]
        assert f1["low"] < f1["value"] < f1["high"]
        width.append(f1["high"] - f1["low"])
    assert width[1] < width[0] / 5  # 10 times narrower in theory


@pytest.mark.parametrize("single", [[True, True, False], [True, True], [False, False]])
def test_tiny_or_one_sided_test_parts_are_judged(single):
    single = np.array(single)
    found = evaluate(np.full(single.size, 0.5, np.float32), single, 0.5)
    assert all(np.isfinite(found[name]["high"]) for name in SCORES)


def test_average_precision_without_singles_is_zero():
    assert average_precision(np.ones(3, np.float32), np.zeros(3, bool)) == 0


# --- training -------------------------------------------------------------------------

SMALL = ArticleNetwork(32)


def test_training_learns_saves_and_reports(trainable, tmp_path):
    patterns, split, labels = trainable
    trained = train_model(
        patterns, split, labels, tmp_path, SMALL, schedule=Schedule(20, 8)
    )
    assert {path.name for path in tmp_path.glob("model*")} == {
        "model.keras",
        "model.weights.h5",
        "model.json",
    }
    assert len(trained.history["val_accuracy"]) == 20
    assert trained.metrics["average_precision"]["value"] > 0.9
    again = load_model(tmp_path)
    test = patterns[split.test]
    assert np.array_equal(
        again.predict_uncalibrated(test), trained.predict_uncalibrated(test)
    )
    assert again.metadata["n_labels"]["test"] == {"not_single": 7, "single": 3}
    assert again.threshold == trained.threshold
    assert again.metadata["n_fitted"] == split.training.size
    assert again.metadata["training"]["calibrated_by"] == "the validation part"


def test_both_thresholds_and_what_was_fitted_are_written_down(trainable, tmp_path):
    patterns, split, labels = trainable
    train_model(patterns, split, labels, tmp_path, recall=0.8)
    metadata = load_model(tmp_path).metadata
    assert metadata["thresholds"].keys() == {"highest_f1", "recall"}
    assert metadata["thresholds"]["highest_f1"] == metadata["threshold"]
    assert 0 < metadata["thresholds"]["recall"] < 1
    assert metadata["recall"] == 0.8
    n_labels = sum(getattr(split, part).size for part in PARTS)
    assert metadata["n_fitted"] == n_labels
    assert metadata["judged"]["by"] == "nested cross-validation"
    assert len(metadata["judged"]["index"]) == n_labels
    assert metadata["training"]["fit"] == "exact"
    by = metadata["training"]["calibrated_by"]
    assert "cross-validation" in by
    assert by.endswith(f"and {split.to_predict.size} patterns without a label")


def test_patterns_without_a_label_are_drawn_by_the_seed(
    trainable, with_test_part, tmp_path, monkeypatch
):
    monkeypatch.setattr("helpers.classifier.training.N_UNLABELLED", 4)
    patterns, split, labels = trainable
    trained = [
        train_model(patterns, split, labels, tmp_path, schedule=Schedule(seed=seed))
        for seed in (0, 0, 1)
    ]
    curves = [model.calibration for model in trained]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_the_network_can_be_trained_where_every_pattern_has_a_label(
    with_test_part, tmp_path
):
    labels = write_rings(tmp_path / "run.h5", 40, 0)
    patterns = open_patterns(tmp_path / "run.h5")
    split = split_labels(labels, patterns.file_index)
    assert split.to_predict.size == 0
    trained = train_model(patterns, split, labels, tmp_path)
    assert trained.metrics["average_precision"]["value"] > 0.9


def test_the_same_labels_make_the_same_file(trainable, with_test_part, tmp_path):
    patterns, split, labels = trainable
    for name in ("a", "b"):
        train_model(patterns, split, labels, tmp_path / name)
        time.sleep(1.1)  # Keras notes the second
    for file in ("model.keras", "model.weights.h5"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("a", "b"))
        assert first == second
    again = keras.saving.load_model(tmp_path / "a" / "model.keras")
    inputs = np.zeros((64, *again.input_shape[1:]), np.float32)
    ours = load_model(tmp_path / "a").keras_model
    np.testing.assert_allclose(
        again.predict_on_batch(inputs), ours.predict_on_batch(inputs), atol=1e-6
    )


def test_what_the_encoder_says_is_left_out_where_it_misleads():
    rng = np.random.default_rng(0)
    single = rng.random(60) < 0.5
    helpful = rng.normal(single[:, np.newaxis], 0.5, (60, 4)).astype(np.float32)
    noise = rng.normal(size=(60, 67)).astype(np.float32)
    told = np.where(single, 3, -3)[:, np.newaxis] + noise[:, -3:]
    clear = np.concatenate([noise[:, :-3], told], axis=1).astype(np.float32)
    for encoded, is_used in ((noise, False), (clear, True)):
        layer = make_head(71, with_encoder=True)
        fit_head(layer, np.concatenate([helpful, encoded], axis=1), single)
        assert (layer.scale[4:] != 0).all() == is_used
        hidden = layer.get_weights()[2].reshape(2, 71, -1)
        assert (hidden[:, 4:] != 0).any() == is_used


def test_with_many_labels_a_test_part_stays_aside(trainable, with_test_part, tmp_path):
    patterns, split, labels = trainable
    model = train_model(patterns, split, labels, tmp_path)
    assert model.metadata["n_fitted"] == split.training.size + split.validation.size
    assert model.judged.by == "test set"
    assert np.array_equal(model.judged.index, split.test)
    assert np.array_equal(model.judged.probability, model.predict(patterns[split.test]))


def test_each_label_is_judged_without_itself(trainable, tmp_path):
    """A wrong label draws the network to itself where it teaches, and only there."""
    patterns, split, labels = trainable
    wrong = split.training[0]
    flipped = labels.copy()
    flipped[wrong] = "other" if labels[wrong] == "single" else "single"
    judged = train_model(patterns, split, flipped, tmp_path).judged
    probability = dict(zip(judged.index, judged.probability, strict=True))
    assert (probability[wrong] > 0.5) == (labels[wrong] == "single")
    assert judged.index.size == np.unique(judged.index).size


def test_labels_of_the_test_part_change_nothing_but_the_metrics(
    trainable, with_test_part, tmp_path
):
    patterns, split, labels = trainable
    trained = train_model(patterns, split, labels, tmp_path / "a")
    flipped = labels.copy()
    flipped[split.test] = np.where(is_single(labels[split.test]), "other", "single")
    other = train_model(patterns, split, flipped, tmp_path / "b")
    assert other.calibration == trained.calibration
    assert other.threshold == trained.threshold
    assert other.metrics != trained.metrics
    assert np.array_equal(
        other.predict_uncalibrated(patterns[:5]),
        trained.predict_uncalibrated(patterns[:5]),
    )


def test_training_from_image_folders_equals_training_from_the_stack(tmp_path):
    labels = write_rings(tmp_path / "run.h5", 40, 0, size=32)
    patterns = open_patterns(tmp_path / "run.h5")
    split = split_labels(labels, patterns.file_index)
    folder = write_images(tmp_path / "images", patterns, split, labels)
    images, single = read_images(folder / "test_set", image_size=32)
    order = np.argsort(is_single(labels[split.test]), kind="stable")
    expected = make_images(patterns[split.test[order]], 32)
    assert np.abs(images - expected).max() <= 0.5 + 1e-3  # 8 bits
    assert np.array_equal(single, is_single(labels[split.test[order]]))
    trained = train_from_images(
        folder, tmp_path / "work", schedule=Schedule(1, 8), image_size=32
    )
    assert load_model(tmp_path / "work").threshold == trained.threshold


def test_an_image_folder_without_singles_is_refused(tmp_path):
    (tmp_path / "training_set" / "good").mkdir(parents=True)
    with pytest.raises(LabelsError, match="training_set holds good; expected a folder"):
        train_from_images(tmp_path, tmp_path)


def test_labels_of_another_stack_and_no_epochs_are_refused(trainable, tmp_path):
    patterns, split, labels = trainable
    with pytest.raises(LabelsError, match="60 patterns, 59 labels"):
        train_model(patterns, split, labels[1:], tmp_path)
    with pytest.raises(ParameterError, match="epochs is 0"):
        Schedule(epochs=0)


@dataclass(frozen=True)
class MeanNetwork(Network):
    """A network of another kind, as somebody might add it: one number a pattern."""

    name: ClassVar[str] = "mean"
    parameters: ClassVar[tuple[str, ...]] = ("scale",)
    scale: float = 1.0

    @classmethod
    def for_patterns(cls, patterns, **parameters):
        return cls(**parameters)

    @property
    def input_shape(self):
        return (1,)

    def make_inputs(self, patterns):
        return patterns.mean(axis=(1, 2))[:, None] * np.float32(self.scale)

    def build(self, seed=0):
        dense = keras.layers.Dense(1, "sigmoid")
        return keras.Sequential([keras.Input((1,)), dense])

    def fit(self, keras_model, parts, unlabelled, schedule):
        assert len(unlabelled) == 0
        inputs, single = parts["validation"]
        raw = predict_inputs(keras_model, inputs)
        return Fitted(raw, single, Calibration(), 0, {}, "not at all", {})


def test_a_network_is_a_line_in_the_table(trainable, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "mean", MeanNetwork)
    patterns, split, labels = trainable
    network = make_network("mean", patterns, scale=0.5, centre=(1, 2))
    trained = train_model(patterns, split, labels, tmp_path, network)
    restored = load_model(tmp_path)
    assert restored.network == network == MeanNetwork(0.5)
    assert restored.metadata["training"]["fit"] == "not at all"
    assert np.array_equal(
        restored.predict_uncalibrated(patterns[:3]),
        trained.predict_uncalibrated(patterns[:3]),
    )


# --- the exact solution ---------------------------------------------------------------


def make_two_clouds(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Make features of singles (one small cloud) and others (all around it)."""
    rng = np.random.default_rng(seed)
    single = np.arange(n) % 3 == 0
    width = np.where(single, 0.3, 2.0)[:, np.newaxis]
    return rng.normal(5, width, (n, 6)).astype(np.float32), single


def test_what_a_fit_without_a_pattern_says_needs_no_other_fit():
    points, single = make_two_clouds(40, 0)
    points = (points - 5).astype(np.float64) / 3
    scale = np.array([1, 1, 0.5, 0.5, 0, 2])
    fit = fit_kernel(points, single, Kernel(scale, 4))
    target = np.where(single, 1.0, -1.0)
    weight = np.where(single, 0.5 / single.mean(), 0.5 / (~single).mean())
    apart = (points[:, np.newaxis] - points) * scale
    plain = points[:, :4]
    products = plain @ plain.T + plain**2 @ (plain**2).T / 2
    alike = np.exp(-(apart**2).sum(axis=2)) + 1 + GENERAL * products / 4

    def leave_out(i: int, ridge: float) -> float:
        rest = np.arange(40) != i
        matrix = alike[np.ix_(rest, rest)] + np.diag(ridge / weight[rest])
        return alike[i, rest] @ np.linalg.solve(matrix, target[rest])

    by_ridge = {r: [leave_out(i, r) for i in range(40)] for r in RIDGES}
    errors = {r: (weight * (v - target) ** 2).mean() for r, v in by_ridge.items()}
    best = min(errors, key=errors.__getitem__)
    np.testing.assert_allclose(fit.unseen, by_ridge[best], atol=1e-4)
    assert fit.error.mean() == pytest.approx(errors[best], rel=1e-3)


@pytest.mark.parametrize("with_encoder", [False, True])
def test_the_head_says_what_the_fit_found(with_encoder):
    rng = np.random.default_rng(1)
    inputs = rng.normal(3, 2, (60, 90)).astype(np.float32)
    single = inputs[:, 0] + inputs[:, -1] > 6
    head = make_head(90, with_encoder=with_encoder)
    head.standardise(inputs)
    points = head.make_points(inputs)
    for kernel in head.choices:
        fit = fit_kernel(points[:40], single[:40], kernel)
        head.set_fit(fit.kernel, fit.landmarks, fit.weights)
        expected = 1 / (1 + np.exp(-STEEP * fit(points)))
        np.testing.assert_allclose(predict_inputs(head, inputs), expected, atol=1e-4)


def test_many_labels_share_landmarks(monkeypatch):
    monkeypatch.setattr(kernel_head, "MOST_LANDMARKS", 50)
    inputs, single = make_two_clouds(400, 0)
    head = make_head(6)
    fit_head(head, inputs, single)
    assert head.get_weights()[3].shape == (50,)
    unknown, truth = make_two_clouds(300, 1)
    assert ((predict_inputs(head, unknown) > 0.5) == truth).mean() > 0.9


def test_the_head_finds_what_lies_in_the_middle_of_everything_else():
    inputs, single = make_two_clouds(150, 0)
    head = make_head(6)
    fit_head(head, inputs, single)
    unknown, truth = make_two_clouds(300, 1)
    chosen = predict_inputs(head, unknown) > 0.5
    assert (chosen == truth).mean() > 0.95


def test_each_pattern_is_judged_by_weights_that_do_not_know_it():
    inputs, single = make_two_clouds(60, 0)
    single[0] = False  # a wrong label
    head = make_head(6)
    out_of_fold = fit_head(head, inputs, single)
    assert out_of_fold[0] > 0.5
    assert out_of_fold.size == 60
    assert not np.array_equal(out_of_fold, predict_inputs(head, inputs))


def test_two_of_a_class_are_enough_for_the_head():
    inputs, single = make_two_clouds(12, 0)
    single[:] = False
    single[[3, 9]] = True
    out_of_fold = fit_head(make_head(6), inputs, single)
    assert ((out_of_fold > 0) & (out_of_fold < 1)).all()


def test_the_invariant_network_learns_from_few_labels(tmp_path):
    bad_pixels = pnccd_bad_pixels((128, 128))
    path = tmp_path / "run.h5"
    write_simulated(path, 300, 3, bad_pixels=bad_pixels)
    patterns = open_patterns(path)
    assert patterns.true_labels is not None
    labels = np.where(np.arange(300) < 100, patterns.true_labels, "")
    split = split_labels(labels, patterns.file_index)
    trained = train_model(patterns, split, labels, tmp_path / "work")
    raw = trained.predict_uncalibrated(patterns[split.to_predict])
    single = is_single(patterns.true_labels[split.to_predict])
    assert average_precision(raw, single) > 0.9
    assert load_model(tmp_path / "work").network == trained.network
    assert trained.history == {}


def test_thirty_measured_patterns_are_enough_to_go_through(real_file, tmp_path):
    patterns = open_patterns(real_file("pr772_30.h5"))
    assert patterns.recorded_labels is not None
    labels = patterns.recorded_labels
    split = split_labels(labels, patterns.file_index)
    trained = train_model(patterns, split, labels, tmp_path)
    assert trained.metadata["n_labels"]["test"] == {"not_single": 4, "single": 2}
    assert 0 < trained.threshold < 1
    raw = trained.predict_uncalibrated(patterns[:])
    known = np.concatenate([split.training, split.validation])
    assert average_precision(raw[known], is_single(labels[known])) > 0.9


# --- learning curve -------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnable(tmp_path_factory) -> tuple[Patterns, NDArray[np.str_]]:
    """200 simulated patterns and their true labels."""
    path = tmp_path_factory.mktemp("learn") / "run.h5"
    write_simulated(path, 200, 3, bad_pixels=pnccd_bad_pixels((128, 128)))
    patterns = open_patterns(path)
    assert patterns.true_labels is not None
    return patterns, patterns.true_labels


def test_the_learning_curve_rises_and_does_not_look_at_the_test_part(learnable):
    patterns, truth = learnable
    split = split_labels(truth, patterns.file_index)
    curve = find_learning_curve(patterns, split, truth)
    assert curve.n_labels.tolist() == [8, 16, 32, 64, 128]
    assert curve.score[-1] > max(curve.score[0], 0.8)
    assert ((curve.low <= curve.score) & (curve.score <= curve.high)).all()
    flipped = truth.copy()
    flipped[split.test] = "unsure"
    again = find_learning_curve(patterns, split, flipped)
    assert np.array_equal(again.score, curve.score)


def test_labels_drawn_by_lot_teach_nothing(learnable):
    patterns, truth = learnable
    curves = []
    for seed in range(4):
        drawn = np.random.default_rng(seed).permutation(truth)
        split = split_labels(drawn, patterns.file_index)
        curves.append(find_learning_curve(patterns, split, drawn))
    share = is_single(truth).mean()
    assert np.mean([curve.score[-1] for curve in curves]) < share + 0.1
    hopeful = ["more labels would help" in curve.describe() for curve in curves]
    assert sum(hopeful) <= 1  # one of forty intervals lies above 0 by chance


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((0.05, 0.01, 0.09), "+0.050 (+0.010 to +0.090): more labels would help."),
        ((0.001, -0.004, 0.006), "more labels would hardly help."),
        ((0.02, -0.03, 0.07), "too few labels to tell; more would show."),
    ],
)
def test_what_the_learning_curve_says(gain, verdict):
    flat = np.full(2, 0.9)
    curve = LearningCurve(np.array([50, 100]), flat, flat, flat, gain)
    assert curve.describe().startswith("From 50 to 100 labels")
    assert curve.describe().endswith(verdict)
