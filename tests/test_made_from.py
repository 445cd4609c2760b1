"""Nothing stale is used: each file of a work folder fits the others, or is refused."""

import json
import re
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers import classifier, labels
from helpers.errors import (
    HelpersError,
    LabelsError,
    ModelError,
    OtherPatternsError,
    WorkFolderError,
)
from helpers.experiment import measure_patterns, open_experiment, write_experiment
from helpers.handoff import select_patterns, write_selection
from helpers.made_from import find_changes, look_alike, read_origin
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import (
    rank_patterns,
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.run import describe_state, summarise
from helpers.simulate import write_simulated

CENTRE = (24.0, 23.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with patterns and a work folder from each stage."""
    folder = tmp_path_factory.mktemp("finished")
    write_simulated(folder / "run.h5", 80, 3, bad_pixels=np.zeros((48, 48), bool))
    write_simulated(folder / "other.h5", 80, 4, bad_pixels=np.zeros((48, 48), bool))
    work_dir = folder / "work"
    patterns = inspect(work_dir, open_patterns(folder / "run.h5"))
    rank(work_dir, patterns)
    train(work_dir, patterns)
    classifier.predict_patterns(patterns, work_dir)
    return folder


@pytest.fixture
def work_dir(finished: Path, tmp_path: Path) -> Path:
    """Give a copy of that work folder."""
    shutil.copytree(finished / "work", tmp_path / "work")
    return tmp_path / "work"


def inspect(work_dir: Path, patterns: Patterns, centre=CENTRE, **metadata) -> Patterns:
    measured = measure_patterns(patterns, 1)
    write_experiment(work_dir, patterns, measured, centre, **metadata)
    return patterns


def rank(work_dir: Path, patterns: Patterns, seed: int = 1) -> None:
    words = patterns.true_labels
    split = classifier.split_labels(words, patterns.file_index, seed=seed)
    classifier.write_partition(work_dir / "partition.h5", patterns, split, words)
    hits = split.training[words[split.training] == "single"]
    write_clean_single_hits(work_dir / "clean_single_hits.h5", patterns, hits)
    write_ranking(work_dir / "ranking.h5", rank_patterns(patterns, hits, centre=CENTRE))


def train(work_dir: Path, patterns: Patterns) -> None:
    split, words = classifier.read_partition(work_dir / "partition.h5")
    network = classifier.make_network("invariant", patterns, centre=CENTRE)
    with pytest.MonkeyPatch.context() as patch:  # nested cross-validation takes long
        patch.setattr("helpers.classifier.training.ENOUGH_TO_TEST", 10)
        classifier.train_model(patterns, split, words, work_dir, network)


READERS = {
    "partition.h5": classifier.read_partition,
    "clean_single_hits.h5": read_clean_single_hits,
    "ranking.h5": read_ranking,
    "model.json": lambda path: classifier.load_model(path.parent),
    "predictions.h5": classifier.read_predictions,
}
WRITERS = {
    "partition.h5": "04-rank",
    "clean_single_hits.h5": "04-rank",
    "ranking.h5": "04-rank",
    "model.json": "05-train",
    "predictions.h5": "06-review",
}


def find_refused(work_dir: Path) -> dict[str, HelpersError]:
    """Return the errors of reading each file, by its name."""
    refused = {}
    for name, read in READERS.items():
        try:
            read(work_dir / name)
        except HelpersError as error:
            refused[name] = error
    return refused


def check_told(refused: dict[str, HelpersError], names: set[str], what: str) -> None:
    assert refused.keys() == names
    for name, error in refused.items():
        assert what in str(error)
        assert f"Run {WRITERS[name]} again." in str(error)


def test_what_a_run_wrote_fits(work_dir: Path) -> None:
    assert find_refused(work_dir) == {}
    for name in (*READERS, "experiment.json", "experiment.h5"):
        assert read_origin(work_dir / name)["patterns"]
        assert find_changes(work_dir / name) == {}


def test_another_centre_makes_ranking_and_network_stale(
    work_dir: Path, finished: Path
) -> None:
    inspect(work_dir, open_patterns(finished / "run.h5"), (20.0, 30.0))
    refused = find_refused(work_dir)
    stale = {"ranking.h5", "model.json", "predictions.h5"}
    check_told(refused, stale, "row 20.000, column 30.000")
    assert "01-inspect settles" in str(refused["model.json"])
    assert "Run 05-train first." in str(refused["predictions.h5"])
    with pytest.raises(ModelError, match="centre"):
        classifier.predict_patterns(open_experiment(work_dir).patterns, work_dir)


def test_a_centre_written_by_hand_is_seen(work_dir: Path) -> None:
    path = work_dir / "experiment.json"
    metadata = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(metadata | {"centre": [20, 30]}))
    stale = {"ranking.h5", "model.json", "predictions.h5"}
    assert find_refused(work_dir).keys() == stale


def test_other_bad_pixels_make_all_that_follows_stale(
    work_dir: Path, finished: Path
) -> None:
    patterns = open_patterns(finished / "run.h5")
    bad = patterns.bad_pixels.copy()
    bad[3, :7] = True
    inspect(work_dir, patterns.with_bad_pixels(bad))
    check_told(find_refused(work_dir), {*READERS}, "bad pixels")


def test_files_of_another_stack_are_refused(
    work_dir: Path, finished: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    patterns = inspect(other, open_patterns(finished / "other.h5"))
    rank(other, patterns)
    foreign = ("partition.h5", "clean_single_hits.h5", "ranking.h5")
    for name in foreign:
        shutil.copy(other / name, work_dir / name)
    refused = find_refused(work_dir)
    check_told(refused, {*foreign, "model.json", "predictions.h5"}, "")
    for name in foreign:
        assert isinstance(refused[name], OtherPatternsError)


def test_network_of_other_labels_is_refused(work_dir: Path, finished: Path) -> None:
    patterns = open_patterns(finished / "run.h5")
    rank(work_dir, patterns, seed=9)
    stale = {"model.json", "predictions.h5"}
    check_told(find_refused(work_dir), stale, "labels or sets")
    rank(work_dir, patterns)
    assert find_refused(work_dir) == {}


def test_predictions_of_another_network_are_refused(
    work_dir: Path, finished: Path
) -> None:
    patterns = open_patterns(finished / "run.h5")
    rank(work_dir, patterns, seed=9)
    train(work_dir, patterns)
    check_told(find_refused(work_dir), {"predictions.h5"}, "The network")
    classifier.predict_patterns(patterns, work_dir)
    assert find_refused(work_dir) == {}


def test_network_of_another_run_may_predict(finished: Path, tmp_path: Path) -> None:
    patterns = inspect(tmp_path / "w", open_patterns(finished / "other.h5"), (20, 24))
    classifier.predict_patterns(patterns, tmp_path / "w", finished / "work")
    assert "Next: hand the selection on." in describe_state(tmp_path / "w")
    found = classifier.read_predictions(tmp_path / "w" / "predictions.h5", patterns)
    assert len(found.probability) == 80
    for name in ("model.json", "model.keras", "model.weights.h5"):
        shutil.copy(finished / "work" / name, tmp_path / "w")
    classifier.predict_patterns(patterns, tmp_path / "w")


def test_array_file_of_another_inspection_is_refused(
    work_dir: Path, finished: Path
) -> None:
    with h5py.File(work_dir / "experiment.h5", "a") as file:
        file["bad_pixels"][5, 5] = True
    with pytest.raises(WorkFolderError, match=r"bad pixels.*Run 01-inspect again"):
        open_experiment(work_dir)


def test_changed_geometry_file_is_reported(finished: Path, tmp_path: Path) -> None:
    geometry = tmp_path / "det.geom"
    geometry.write_text("one")
    patterns = open_patterns(finished / "run.h5")
    work_dir = tmp_path / "w"
    inspect(work_dir, patterns, geometry_file=str(geometry))
    geometry.write_text("two")
    with pytest.raises(WorkFolderError, match=r"geometry.*det\.geom.*Run 01-inspect"):
        open_experiment(work_dir)


def test_folder_of_an_older_version_says_so(work_dir: Path) -> None:
    path = work_dir / "experiment.json"
    metadata = json.loads(path.read_text("utf-8"))
    old = metadata["fingerprint"][:32] + "0" * 32
    assert look_alike(old, metadata["fingerprint"])
    path.write_text(json.dumps(metadata | {"fingerprint": old}))
    with pytest.raises(OtherPatternsError, match="older version"):
        open_experiment(work_dir)


def test_files_without_a_word_of_their_origin_are_read(work_dir: Path) -> None:
    with h5py.File(work_dir / "predictions.h5", "a") as file:
        del file.attrs["made_from"]
    assert read_origin(work_dir / "predictions.h5").keys() == {"patterns", "model"}
    assert find_refused(work_dir) == {}


def test_other_labels_than_the_store_has_are_refused(work_dir: Path) -> None:
    path = work_dir / "partition.h5"
    split, words = classifier.read_partition(path)
    classifier.read_partition(path, words)
    with pytest.raises(LabelsError, match=r"other labels\. Run 04-rank"):
        classifier.read_partition(path, np.roll(words, 1))
    newer = words.copy()
    newer[split.test[0]] = "unsure"
    with pytest.warns(UserWarning, match=r"0 have been given since, and 1 changed"):
        classifier.read_partition(path, newer)
    with pytest.raises(WorkFolderError, match="divides 80 patterns; the stack has 79"):
        classifier.read_partition(path, words[:-1])


def test_copies_that_train_and_judge_are_reported(
    finished: Path, tmp_path: Path
) -> None:
    path = shutil.copy(finished / "run.h5", tmp_path / "run.h5")
    patterns = open_patterns(path)
    words = patterns.true_labels
    split = classifier.split_labels(words, patterns.file_index)
    with warnings.catch_warnings(action="error"):
        classifier.write_partition(tmp_path / "p.h5", patterns, split, words)
    taught, judged = int(split.training[3]), int(split.test[2])
    patterns.close()
    with h5py.File(path, "a") as file:
        file["patterns"][judged] = file["patterns"][taught]
    patterns = open_patterns(path)
    with pytest.warns(UserWarning, match=f"1 patterns .*: {taught} and {judged}"):
        classifier.write_partition(tmp_path / "p.h5", patterns, split, words)


def test_queue_of_another_stack_is_refused(
    work_dir: Path, finished: Path, tmp_path: Path
) -> None:
    path = labels.write_queue(work_dir, [3, 1], ["uncertain", "audit"])
    assert labels.read_queue(work_dir, 80).pattern.tolist() == [3, 1]
    other = tmp_path / "other"
    inspect(other, open_patterns(finished / "other.h5"))
    shutil.copy(path, other)
    with pytest.raises(OtherPatternsError, match="another stack"):
        labels.read_queue(other, 80)
    (other / "to_label.csv").write_text("pattern,reason\n7,mine\n")  # of one's own
    assert labels.read_queue(other, 80).pattern.tolist() == [7]


@pytest.mark.parametrize("fits", [True, False])
def test_scores_near_chance_name_the_usual_causes(fits: bool) -> None:
    rng = np.random.default_rng(1)
    single = rng.random(60) < 0.4
    seen = single if fits else np.roll(single, 1)
    probability = np.clip(0.5 + (seen - 0.5) * rng.random(60), 0, 1).astype(np.float32)
    scores = classifier.evaluate(probability, single, 0.5)
    said = classifier.describe_scores(scores)
    assert ("first_index=1" in said) != fits
    assert ("no better than chance" in said) != fits


def test_state_says_what_is_there_and_what_to_do_next(
    work_dir: Path, finished: Path, tmp_path: Path
) -> None:
    assert "Next: 01-inspect" in describe_state(tmp_path / "nothing")
    said = describe_state(work_dir)
    assert "80 of 48 × 48 pixels" in said
    assert "Everything fits together" in said
    assert re.search(r"predictions\.h5 \d{4}-\d\d-\d\d \d\d:\d\d UTC", said)
    inspect(work_dir, open_patterns(finished / "run.h5"), (20.0, 30.0))
    (work_dir / "partition.h5").unlink()
    label_one(work_dir, open_patterns(finished / "run.h5"))
    assert "Next: 04-rank, which writes partition.h5." in describe_state(work_dir)


def label_one(work_dir: Path, patterns: Patterns) -> None:
    path = work_dir / "labels.sqlite"
    with labels.open_label_store(path, patterns.fingerprint, len(patterns)) as store:
        store.record(3, "single", labeller="me", session="s", seq=1)


def test_state_sends_to_labelling_where_there_is_no_label(
    finished: Path, tmp_path: Path
) -> None:
    patterns = inspect(tmp_path, open_patterns(finished / "run.h5"))
    assert "Next: 03-label, since no pattern" in describe_state(tmp_path)
    label_one(tmp_path, patterns)
    assert "Next: 04-rank" in describe_state(tmp_path)
    (tmp_path / "labels.sqlite").write_bytes(b"no database")
    assert "Next: 04-rank" in describe_state(tmp_path)


@pytest.mark.parametrize("store_url", ["", "postgresql://me@nowhere/labels"])
def test_state_counts_labels_once(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    """A server that does not answer is waited for ten seconds each time."""
    inspect(tmp_path, open_patterns(finished / "run.h5"))
    (tmp_path / "labels.sqlite").touch()
    asked: list[str | Path] = []

    def does_not_answer(place: str | Path, *_: object) -> None:
        asked.append(place)
        message = "no answer"
        raise LabelsError(message)

    monkeypatch.setattr(labels, "open_label_store", does_not_answer)
    said = describe_state(tmp_path, store_url)
    assert asked == [store_url or tmp_path / "labels.sqlite"]
    assert "labels       cannot be read: no answer" in said
    assert said.endswith("Next: 04-rank, which writes partition.h5.")


def test_state_of_a_damaged_experiment_sends_on(finished: Path, tmp_path: Path) -> None:
    inspect(tmp_path, open_patterns(finished / "run.h5"))
    metadata = json.loads((tmp_path / "experiment.json").read_text("utf-8"))
    del metadata["fingerprint"]
    (tmp_path / "experiment.json").write_text(json.dumps(metadata), "utf-8")
    (tmp_path / "labels.sqlite").touch()
    said = describe_state(tmp_path)
    assert "labels  " not in said
    assert said.endswith("Next: 04-rank, which writes partition.h5.")


def read_stale(work_dir: Path) -> str:
    """Return what `describe_state` says of files out of date, in one line."""
    said = describe_state(work_dir)
    assert said.splitlines()[-1].startswith("Next: ")
    found = re.search(r"(?ms)^  out of date +(.*?)^  written", said)
    assert found
    assert found[1].strip() in "\n".join(f"  {each}" for each in summarise(work_dir))
    return " ".join(found[1].split())


def test_one_stale_file_is_told_with_its_reason(work_dir: Path) -> None:
    with h5py.File(work_dir / "ranking.h5", "a") as file:
        origin = json.loads(file.attrs["made_from"])
        file.attrs["made_from"] = json.dumps(origin | {"centre": "row 1, column 2"})
    assert read_stale(work_dir) == (
        "The centre, which 01-inspect settles in experiment.json: row 24.000, column "
        "23.000 now. Made from row 1, column 2: ranking.h5. Run 04-rank again."
    )
    assert describe_state(work_dir).splitlines()[-1] == "Next: 04-rank again."
    assert "(out of date)" not in describe_state(work_dir)  # it has no line there


def test_a_reason_is_told_once_for_all_files(work_dir: Path, finished: Path) -> None:
    patterns = open_patterns(finished / "run.h5")
    inspect(work_dir, patterns, (20.0, 30.0))
    assert read_stale(work_dir) == (
        "The centre, which 01-inspect settles in experiment.json: row 20.000, column "
        "30.000 now. Made from row 24.000, column 23.000: ranking.h5, model.json and "
        "predictions.h5. Run 04-rank, 05-train and 06-review again."
    )
    stale = [e.split()[0] for e in summarise(work_dir) if e.endswith("(out of date)")]
    assert stale == ["model", "scores", "predictions"]


def test_each_of_two_reasons_is_told_once(work_dir: Path, finished: Path) -> None:
    patterns = open_patterns(finished / "run.h5")
    bad = patterns.bad_pixels.copy()
    bad[3, :7] = True
    inspect(work_dir, patterns.with_bad_pixels(bad), (20.0, 30.0))
    told = read_stale(work_dir)
    assert told.count("The centre, which") == told.count("The bad pixels, which") == 1
    assert "column 23.000: ranking.h5, model.json and predictions.h5. Run" in told
    assert "partition.h5, clean_single_hits.h5, ranking.h5, model.json and" in told
    assert told.endswith(" Run 04-rank, 05-train and 06-review again.")


def test_selection_of_another_network_is_told(work_dir: Path, finished: Path) -> None:
    patterns = open_patterns(finished / "run.h5")
    predictions = classifier.read_predictions(work_dir / "predictions.h5", patterns)
    words = np.full(len(patterns), "")
    selection = select_patterns(predictions.probability, 0.5, words)
    sha256 = classifier.load_model(work_dir).metadata["model_sha256"]
    folder = write_selection(work_dir, patterns, selection, model_sha256=sha256)
    assert find_changes(folder / "selection.h5", work_dir) == {}
    rank(work_dir, patterns, seed=9)
    train(work_dir, patterns)
    assert "model" in find_changes(folder / "selection.h5", work_dir)
    (told,) = (line for line in summarise(work_dir) if "selection  " in line)
    assert told.endswith("(out of date)")
    assert "predictions.h5 and selection/selection.h5. Run 06" in read_stale(work_dir)
