"""One model on many runs: what is new is done, what is wrong is told, nothing stops."""

import csv
import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pytest
from matplotlib import pyplot
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from helpers import classifier
from helpers.__main__ import main
from helpers.beamtime import (
    Beamtime,
    apply_model,
    applying,
    audit_runs,
    audit_whole,
    describe_table,
    drift,
    find_runs,
    find_thresholds,
    read_table,
    show_drift,
    write_pages,
)
from helpers.beamtime.drift import Drift, estimate_share_of_singles, two_sample_auc
from helpers.classifier.networks import (
    ArticleNetwork,
    adapt_network,
    decode_pixels,
    move,
)
from helpers.errors import ModelError, ParameterError
from helpers.experiment import (
    Measurements,
    measure_patterns,
    open_experiment,
    suggest_hit_threshold,
    write_experiment,
)
from helpers.labels import open_label_store, read_queue
from helpers.patterns import open_patterns
from helpers.physics import find_centre
from helpers.ranking import (
    rank_patterns,
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.simulate import SAMPLES, Detector, write_simulated

SHAPE, N, N_RUN = (64, 62), 300, 120
FACTS = {"lit_threshold": 1.0, "geometry_file": ""}


def write_run(path: Path, seed: int, n: int = N_RUN, **changes: Any) -> Path:
    shape = changes.pop("shape", SHAPE)
    bad_pixels = np.zeros(shape, bool)
    bad_pixels[30:32] = True
    sample = replace(SAMPLES["default"], **changes)
    detector = Detector.of_shape(shape)
    write_simulated(
        path, n, seed, bad_pixels=bad_pixels, sample=sample, detector=detector
    )
    return path


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do what the notebooks do up to 06."""
    folder = tmp_path_factory.mktemp("model")
    patterns = open_patterns(write_run(folder / "model.h5", 1, N))
    measured = measure_patterns(patterns, 1.0)
    centre = find_centre(measured.powder, patterns.bad_pixels)
    write_experiment(folder, patterns, measured, centre, hit_threshold=9.0, **FACTS)
    words = np.where(np.arange(N) < 150, patterns.true_labels, "")
    split = classifier.split_labels(words, patterns.file_index)
    classifier.write_partition(folder / "partition.h5", patterns, split, words)
    network = classifier.make_network("invariant", patterns, centre=centre)
    with pytest.MonkeyPatch.context() as patch:  # nested cross-validation takes long
        patch.setattr("helpers.classifier.training.ENOUGH_TO_TEST", 10)
        classifier.train_model(patterns, split, words, folder, network)
    classifier.predict_patterns(patterns, folder)
    hits = np.flatnonzero(words == "single")[:20]
    write_clean_single_hits(folder / "clean_single_hits.h5", patterns, hits)
    ranking = rank_patterns(patterns, hits, centre=centre)
    write_ranking(folder / "ranking.h5", ranking)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "run1.h5", 11)
    write_run(folder / "run2.h5", 12, photons=SAMPLES["default"].photons * 0.5)
    (folder / "run3.h5").write_bytes((folder / "run1.h5").read_bytes()[:3000])
    write_run(folder / "run10.h5", 13, shape=(66, 62))
    return folder


@pytest.fixture(scope="module")
def done(model_dir: Path, runs: Path, tmp_path_factory: Any) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("out")
    beamtime = Beamtime(model_dir, [runs / "run*.h5"], out)
    said: list[str] = []
    rows = apply_model(beamtime, log=said.append)
    return SimpleNamespace(beamtime=beamtime, out=out, rows=rows, said=said)


def test_every_run_has_a_row_and_none_stops_the_others(done: Any) -> None:
    assert [row.run for row in done.rows] == ["run1", "run2", "run3", "run10"]
    one, two, three, ten = done.rows
    assert one.drift == "Like what the model was trained on."
    assert "times as bright" in two.drift
    assert two.labels_advised >= 50 > one.labels_advised == 0
    assert "cut short" in three.problem
    assert "(66, 62)" in ten.problem
    assert "another detector" in ten.problem
    assert 0 <= one.low <= one.singles <= one.high <= one.taken
    assert np.isnan([two.low, two.singles, two.high, three.singles]).all()
    assert len(done.said) == 4


def test_predictions_are_those_of_the_model(done: Any, model_dir: Path) -> None:
    run = open_experiment(done.out / "runs" / "run1")
    path = done.out / "runs" / "run1" / "predictions.h5"
    found = classifier.read_predictions(path, run.patterns)
    fitted = classifier.fit_to_run(
        classifier.load_model(model_dir), run.patterns, run.centre
    )
    with threadpool_limits(1, "blas"):  # as in the loop: threads add up in other orders
        expected = fitted.predict_uncalibrated(run.patterns[:])
    np.testing.assert_array_equal(found.raw, expected)
    assert not (done.out / "runs" / "run3" / "predictions.h5").exists()


@pytest.mark.parametrize("metric", ["rotation", "article"])
def test_a_run_is_ranked_by_templates_of_another_as_if_both_were_one(
    done: Any, model_dir: Path, metric: str
) -> None:
    model, run = open_experiment(model_dir), open_experiment(done.out / "runs" / "run1")
    _, hits = read_clean_single_hits(model_dir / "clean_single_hits.h5")
    there = rank_patterns(
        run.patterns,
        hits,
        metric,
        centre=run.centre,
        source=model.patterns,
        source_centre=model.centre,
    )
    assert there.index.size == N_RUN
    both = open_patterns([*model.patterns.files, *run.patterns.files])
    together = rank_patterns(both, hits, metric, centre=model.centre)
    own = together.index >= N
    if run.centre == model.centre:
        one, other = np.argsort(there.index), np.argsort(together.index[own])
        distance = together.distance[own][other]
        # one less a share near one: rounding is as large for the nearest of all
        np.testing.assert_allclose(there.distance[one], distance, rtol=1e-5, atol=1e-6)
        template = together.template[own][other]
        np.testing.assert_array_equal(there.template[one], template)
    if metric == "rotation":
        written = read_ranking(done.out / "runs" / "run1" / "ranking.h5")
        np.testing.assert_array_equal(written.distance, there.distance)


def test_all_runs_have_one_ranking(done: Any) -> None:
    whole = read_ranking(done.out / "ranking.h5")
    assert sorted(whole.index) == list(range(2 * N_RUN))
    assert (np.diff(whole.distance) >= 0).all()
    for number, name in enumerate(("run1", "run2")):
        one = read_ranking(done.out / "runs" / name / "ranking.h5")
        own = whole.index // N_RUN == number
        np.testing.assert_array_equal(whole.index[own] - number * N_RUN, one.index)
        np.testing.assert_array_equal(whole.template[own], one.template)


def test_a_second_call_does_what_is_new_changed_or_failed(
    model_dir: Path, tmp_path: Path, runs: Path
) -> None:
    for name in ("run1.h5", "run3.h5"):
        (tmp_path / name).write_bytes((runs / name).read_bytes())
    beamtime = Beamtime(model_dir, [tmp_path / "run*.h5"], tmp_path / "out")
    apply_model(beamtime)

    def again() -> list[str]:
        said: list[str] = []
        apply_model(
            Beamtime(model_dir, [tmp_path / "run*.h5"], tmp_path / "out"),
            log=said.append,
        )
        return [line.split(":")[0] for line in said]

    assert again() == ["run3"]
    (tmp_path / "run3.h5").write_bytes((runs / "run1.h5").read_bytes())
    (tmp_path / "run2.h5").write_bytes((runs / "run2.h5").read_bytes())
    os.utime(tmp_path / "run1.h5", (1, 1))
    assert again() == ["run1", "run2", "run3"]
    assert again() == []


def test_a_file_that_breaks_later_leaves_no_old_predictions(
    model_dir: Path, tmp_path: Path, runs: Path
) -> None:
    path = tmp_path / "run1.h5"
    path.write_bytes((runs / "run1.h5").read_bytes())
    beamtime = Beamtime(model_dir, [path], tmp_path / "out")
    apply_model(beamtime)
    folder = tmp_path / "out" / "runs" / "run1"
    (folder / "labels.sqlite").touch()
    path.write_bytes(path.read_bytes()[:2000])
    (row,) = apply_model(beamtime)
    assert row.problem
    assert sorted(each.name for each in folder.iterdir()) == [
        "labels.sqlite",
        "run.json",
    ]


def test_watching_takes_runs_that_arrive_and_lets_them_settle(
    model_dir: Path, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "POLL_S", 0.01)
    beamtime = Beamtime(model_dir, [tmp_path / "run*.h5"], tmp_path / "out")
    content = (runs / "run1.h5").read_bytes()
    said: list[str] = []

    def sleep(_: float) -> None:
        path = tmp_path / "run7.h5"
        if not path.exists():
            path.write_bytes(content)
        elif time.time() - path.stat().st_mtime < 100:
            assert said == []  # it may still grow
            os.utime(path, (1000, 1000))
        elif said:
            raise KeyboardInterrupt

    monkeypatch.setattr(applying.time, "sleep", sleep)
    rows = apply_model(beamtime, watch_s=3600, log=said.append)
    assert [row.run for row in rows] == ["run7"]
    assert said[-1] == "Stopped watching."


def test_the_whole_is_one_work_folder_with_one_audit(done: Any, runs: Path) -> None:
    whole = open_experiment(done.out)
    assert [path.name for path in whole.patterns.files] == ["run1.h5", "run2.h5"]
    path = done.out / "predictions.h5"
    both = classifier.read_predictions(path, whole.patterns).raw
    each = [
        classifier.read_predictions(done.out / "runs" / name / "predictions.h5").raw
        for name in ("run1", "run2")
    ]
    np.testing.assert_array_equal(both, np.concatenate(each))
    np.testing.assert_allclose(
        whole.measurements.powder,
        measure_patterns(whole.patterns, 1.0).powder,
        atol=1e-9,
    )
    assert audit_whole(done.out, done.rows) is None
    order = whole.patterns.shuffled()[:80]
    truth = whole.patterns.true_labels
    store_path = done.out / "labels.sqlite"
    with open_label_store(
        store_path, whole.patterns.fingerprint, len(whole.patterns)
    ) as store:
        assert audit_whole(done.out, done.rows) is None  # nobody has labelled yet
        words = np.full(len(truth), "", "U8")
        words[order] = truth[order]
        store.import_words(words, "anna")
    audit = audit_whole(done.out, done.rows)
    thresholds = np.repeat([row.threshold for row in done.rows[:2]], N_RUN)
    probability = classifier.read_predictions(path).probability
    taken = probability[order] >= thresholds[order].astype("f4")
    assert audit.describe().startswith("80 patterns of 2 runs audited: purity ")
    assert audit_whole(done.out, done.rows[:1]) == audit  # asked about one run alone
    right = (truth[order] == "single") & taken
    assert audit.audit.purity.n_sample == taken.sum()
    assert audit.audit.purity.n_counted == right.sum()
    store_path.unlink()


def test_handoff_takes_all_runs_as_one_selection(
    done: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir = str(done.out)
    assert main(["handoff", "--to", "indices", "--work-dir", work_dir]) == 0, (
        capsys.readouterr().err
    )
    expected = sum(row.taken for row in done.rows)
    assert f"{expected} patterns selected" in capsys.readouterr().out


def test_table_and_report_name_every_run(done: Any) -> None:
    text = describe_table(done.rows)
    assert "2 of 4 runs could be used: 240 patterns" in text
    one, two = text.splitlines()[1:3]
    assert f"{done.rows[0].singles:.0f} ({done.rows[0].low:.0f} to " in one
    advised = done.rows[1].labels_advised
    assert f"not known: label {advised}" in two
    assert two.endswith("  drifted")
    assert [line.split()[-1] for line in text.splitlines()[3:5]] == ["used", "used"]
    in_one_line = " ".join(text.split())
    assert f"{done.rows[1].run}: {done.rows[1].summary} " in in_one_line
    assert "of the other 1 it is not known" in in_one_line
    assert "its own labels alone can say" in in_one_line
    assert max(map(len, text.splitlines())) <= 96
    path = write_pages(done.out, done.rows, done.beamtime.reference)
    html = path.read_text("utf-8")
    for row in done.rows:
        assert f'id="run-{row.run}"' in html
    assert html.count("data:image/png;base64") == 4
    assert "<script" not in html
    assert html.count(f"not known: label {advised}") == 2
    assert "its own labels alone can say" in html
    with (done.out / "beamtime.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [bool(row["singles"]) for row in table] == [True, False, False, False]
    assert read_table(done.out)[0].made_from == done.rows[0].made_from


def test_drift_is_drawn_with_the_names_of_the_runs(done: Any) -> None:
    figure = show_drift([*done.rows, replace(done.rows[0], features=math.nan)])
    first, *_, last = figure.axes
    good = [row.run for row in done.rows if not row.problem]
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == [*good, good[0]]
    assert [text.get_text() for text in last.texts] == ["not known"]
    inside, beyond = figure.axes[1].lines[1:]
    assert list(inside.get_ydata()) == [0, 2]
    assert list(beyond.get_ydata()) == [1]  # hits of run2 are fainter
    pyplot.close(figure)


def test_page_says_what_is_not_known(done: Any, tmp_path: Path) -> None:
    known = replace(done.rows[0], background=1.0)
    row = replace(known, features=math.nan, brightness=math.nan, size=math.nan)
    html = write_pages(tmp_path, [row]).read_text("utf-8")
    assert html.count("<td>not known</td>") == 3
    assert html.count('<td class="n">not known</td>') == 1  # in the table of all runs
    assert "nan" not in html.lower()


def test_labels_of_a_run_that_drifted_say_what_the_model_cannot(
    model_dir: Path, runs: Path, tmp_path: Path
) -> None:
    little = Beamtime(model_dir, [runs / "run[12].h5"], tmp_path, purity=0.3)
    rows = apply_model(little)
    row = rows[1]
    folder = tmp_path / "runs" / row.run
    run = open_experiment(folder)
    truth = run.patterns.true_labels
    queue = read_queue(folder, len(truth))
    assert len(queue.pattern) == row.labels_advised
    probability = classifier.read_predictions(folder / "predictions.h5").probability
    taken = probability >= np.float32(row.threshold)
    n_asked = min(row.taken, row.labels_advised)
    assert n_asked > 21
    assert taken[queue.pattern[:n_asked]].all()
    assert not (tmp_path / "runs" / "run1" / "to_label.csv").exists()

    def audit(n_labels: int) -> dict[str, Any]:
        words = np.full(len(truth), "", "U8")
        words[queue.pattern[:n_labels]] = truth[queue.pattern[:n_labels]]
        words[queue.pattern[n_labels + 1 :]] = "single"  # after one that is missing
        store_path = folder / "labels.sqlite"
        with open_label_store(store_path, run.patterns.fingerprint, len(truth)) as to:
            to.import_words(words, "anna")
        found = audit_runs(tmp_path, rows)
        store_path.unlink()
        return found

    found = audit(21)
    assert list(found) == [row.run]
    share = found[row.run]
    assert share.n_sample == 21
    assert share.n_counted == (truth[queue.pattern[:21]] == "single").sum()
    said = describe_table(rows, found)
    expected = [row.taken * each for each in (share.value, share.low, share.high)]
    assert "{:,.0f} ({:,.0f} to {:,.0f})".format(*expected) in said.splitlines()[2]
    assert "not known" not in said
    assert "not known" in describe_table(rows, audit(19)).splitlines()[2]


def test_from_the_command_line(
    model_dir: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["apply", "--model", str(model_dir), "--out", str(tmp_path / "out")]
    assert main([*command, "--patterns", str(runs / "run1.h5")]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 runs" in shown
    assert str(tmp_path / "out" / "report.html") in shown
    assert main([*command, "--patterns", str(runs / "none*.h5")]) == 1
    assert "no file has a name like this" in capsys.readouterr().err
    assert main([*command, "--patterns", "x.h5", "--purity", "2"]) == 1


def test_a_folder_without_a_model_is_refused(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ModelError, match="Run 05-train"):
        apply_model(Beamtime(tmp_path, [runs / "run1.h5"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_runs_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("run2.h5", "run10.h5"):
        (tmp_path / name).touch()
    assert list(find_runs([tmp_path / "run*.h5"])) == ["run2", "run10"]
    (tmp_path / "run2.cxi").touch()
    with pytest.raises(ParameterError, match="would both be the run run2"):
        find_runs([tmp_path / "run*"])


def test_thresholds_of_runs_are_found_through_a_link(tmp_path: Path) -> None:
    """A work folder keeps where files really are, a run how it was named."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "run1.h5").touch()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    named = tmp_path / "data" / "run1.h5"
    drift.write_row(tmp_path, drift.RunRow("run1", str(named), threshold=0.75))
    stack = SimpleNamespace(files=(named.resolve(),), file_index=np.zeros(3, int))
    found = find_thresholds(tmp_path, cast(Any, stack))
    np.testing.assert_array_equal(found, [0.75] * 3)


def test_alike_samples_cannot_be_told_apart_and_others_can() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 300, 20)).astype("f4")
    assert abs(two_sample_auc(one, other) - 0.5) < 0.1
    other[:, 3] += 2
    assert two_sample_auc(one, other) > 0.85
    assert np.isnan(two_sample_auc(one[:5], other))


def test_the_share_of_singles_is_found_again() -> None:
    rng = np.random.default_rng(0)
    single = rng.random(20_000) < 0.05
    score = rng.normal(np.where(single, 3, 0))
    likelihood = np.exp(3 * score - 4.5)  # of two normal distributions
    probability = likelihood / (1 + likelihood)  # as if half were single
    found = estimate_share_of_singles(probability.astype("f4"), 0.5)
    assert found == pytest.approx(single.mean(), abs=0.005)


def test_what_is_no_measurement_is_no_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    lit_pixels = np.repeat([2, 3, 90, 100, 5000], 10)
    none = np.repeat([0, 0, 0, 0, 3], 10).astype(np.uint8)
    picture = np.zeros((4, 4))
    sums = (2.0 * lit_pixels, lit_pixels, *[picture] * 3)
    measured = Measurements(*sums, no_measurement=none)
    is_hit = np.repeat([False, False, True, True, False], 10)
    np.testing.assert_array_equal(drift.find_hits(measured), is_hit)
    threshold = suggest_hit_threshold(lit_pixels[none == 0])  # as in 01-inspect
    assert drift.find_hit_threshold(measured) == threshold
    sized: list[int] = []

    def measure(_: Any, index: NDArray[np.int64], __: Any) -> NDArray[np.float64]:
        sized.extend(index.tolist())
        return index * 1.0

    monkeypatch.setattr(drift, "measure_diameters", measure)
    drift.measure_size(cast(Any, None), measured, (2.0, 2.0))
    assert sized == np.flatnonzero(is_hit).tolist()


def test_a_drift_says_what_drifted() -> None:
    calm = Drift(0.5, 1.1, 0.9, 1.0, 0.3, 1.0, 0.55, 0)
    assert calm.find_problems() == []
    text = replace(calm, moved_px=5.0, background=3.0).describe()
    assert text == (
        "Drifted: the centre moved by 5.0 pixels and the background is 3 times as high."
    )
    none = replace(calm, share=1e-6, share_factor=3e-6).find_problems()
    assert none == ["the network finds next to no single hits"]
    nothing = replace(calm, brightness=float("nan"), features=float("nan"))
    assert nothing.find_problems() == []


@pytest.mark.parametrize("by", [(0, 0), (2, -1), (-3, 0), (0, 2)])
def test_images_are_moved_by_whole_pixels(by: tuple[int, int]) -> None:
    image = np.arange(1.0, 31.0).reshape(5, 6)
    moved = move(image, *by, np.float64(0))
    for row in range(5):
        for column in range(6):
            there = row - by[0], column - by[1]
            inside = 0 <= there[0] < 5 and 0 <= there[1] < 6
            assert moved[row, column] == (image[there] if inside else 0)


def test_rows_of_other_versions_are_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run1"
    folder.mkdir(parents=True)
    for content in ("", "[]", json.dumps({"unknown": 1})):
        (folder / "run.json").write_text(content)
        assert read_table(tmp_path) == []


@dataclass(frozen=True)
class Wedge(ArticleNetwork):
    """A network of its own that knows centre and bad pixels."""

    centre: tuple[float, float] = (10.0, 10.0)
    bad_pixels: str = ""


def test_every_network_that_knows_the_centre_is_moved_to_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = np.ones((2, 20, 21), "f4")
    patterns = open_patterns(path)
    moved = cast(Any, adapt_network(Wedge(32), patterns, (12.0, 9.5)))
    assert moved.centre == (12.0, 9.5)
    assert decode_pixels(moved.bad_pixels, (20, 21)).tolist() == (
        patterns.bad_pixels.tolist()
    )
    article = ArticleNetwork(32)
    assert adapt_network(article, patterns, (12.0, 9.5)) is article
