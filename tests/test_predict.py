"""The whole stack through a model, undisturbed and after kill -9."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.classifier import (
    ArticleNetwork,
    Calibration,
    TrainedModel,
    make_network,
    prediction,
    save_model,
)
from helpers.classifier import network_base as network_room
from helpers.classifier.kernel_head import KernelHead, fit_head
from helpers.classifier.network_base import predict_inputs
from helpers.classifier.networks import make_head
from helpers.classifier.prediction import predict_patterns, read_predictions
from helpers.classifier.trained_model import describe_patterns
from helpers.errors import ModelError, OtherPatternsError, WorkFolderError
from helpers.outputs import sha256_of
from helpers.patterns import Patterns, open_patterns, scan
from helpers.patterns.sources import JoinedSources, keep
from helpers.simulate import write_simulated

PART, BATCH = 5, 7  # patterns that are read, and predicted, together


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    make_parts_small(monkeypatch.setattr)


def make_parts_small(put: Any = setattr) -> None:
    put(scan, "PART_BYTES", PART * 4 * 36 * 34)
    put(network_room, "BATCH_BYTES", BATCH * 4 * 32 * 32)
    put(network_room, "FEWEST_INPUTS", 1)


@pytest.fixture
def patterns(tmp_path: Path) -> Patterns:
    return open_patterns([write_run(tmp_path / f"run{i}.h5", i) for i in range(2)])


@pytest.fixture
def model_dir(patterns: Patterns, tmp_path: Path) -> Path:
    network = ArticleNetwork(32)
    trained = TrainedModel(
        network, network.build(), Calibration(2, 0.1), 0.3, describe_patterns(patterns)
    )
    save_model(trained, tmp_path / "model")
    return tmp_path / "model"


def write_run(path: Path, seed: int) -> Path:
    values = np.random.default_rng(seed).poisson(3.0, (25, 36, 34))
    with h5py.File(path, "w") as file:
        file["patterns"] = values.astype(np.float32)
    return path


def test_predictions_are_those_of_the_model_in_stack_order(
    patterns, model_dir, tmp_path
):
    found = predict_patterns(patterns, tmp_path / "work", model_dir)
    model = prediction.load_model(model_dir)
    for some in (slice(None), slice(3, 11), slice(20, 21)):
        # the same bits, whatever stands beside them
        assert np.array_equal(
            found.raw[some], model.predict_uncalibrated(patterns[some])
        )
    assert np.array_equal(found.probability, model.calibration.apply(found.raw))
    assert found.threshold == 0.3


def test_the_file_is_as_promised(patterns, model_dir, tmp_path):
    predict_patterns(patterns, tmp_path / "work", model_dir)
    with h5py.File(tmp_path / "work" / "predictions.h5") as file:
        assert file["predictions"].shape == file["raw"].shape == (50,)
        assert file["predictions"].dtype == file["raw"].dtype == np.float32
        attributes = dict(file.attrs)
    assert list(attributes["classes"]) == ["not_single", "single"]
    assert attributes["threshold"] == 0.3
    assert attributes["model_sha256"] == sha256_of(model_dir / "model.keras")
    assert attributes["fingerprint"] == patterns.fingerprint
    assert "run0.h5" in attributes["patterns_files"]
    assert {"made_at", "package_versions", "model_file"} <= attributes.keys()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["predictions.h5"]


class Thirds:
    """Stands in for a Keras model: fast, and no TensorFlow in the killed process."""

    def predict_on_batch(self, inputs: Any) -> Any:
        return inputs.mean(axis=(1, 2)) / 255


def load_thirds(_: object) -> TrainedModel:
    network = ArticleNetwork(32)
    metadata = {"model_sha256": "0", "settings": vars(network)}
    return TrainedModel(network, Thirds(), Calibration(), 0.5, metadata)


def predict_and_die(folder: Path) -> None:
    """Predict in a process that kills itself once two batches are written."""
    read_into = JoinedSources.read_into

    def read_or_die(self: JoinedSources, out: Any, rows: Any, tidy: Any) -> None:
        if rows[0] >= 30 and tidy is not keep:
            (part,) = (folder / "work").glob(".predictions-*")
            while not part.stat().st_size >= 2 * BATCH * 4:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)
        read_into(self, out, rows, tidy)

    patterns = open_patterns([folder / "run0.h5", folder / "run1.h5"])
    JoinedSources.read_into = read_or_die
    prediction.load_model = load_thirds
    predict_patterns(patterns, folder / "work")


@pytest.mark.parametrize("torn", [b"", b"\0" * 9])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    patterns, tmp_path, monkeypatch, torn
):
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    undisturbed = predict_patterns(patterns, tmp_path / "calm")
    died = run_here(f"predict_and_die(Path({str(tmp_path)!r}))")
    (part,) = (tmp_path / "work").iterdir()
    with part.open("ab") as file:
        file.write(torn)
    read: list[int] = []
    read_into = remember(JoinedSources.read_into, read)
    monkeypatch.setattr(JoinedSources, "read_into", read_into)
    resumed = predict_patterns(patterns, tmp_path / "work")
    assert died == -signal.SIGKILL
    assert min(read) >= 2 * PART  # two batches of 7 were not predicted again
    assert resumed.probability.tobytes() == undisturbed.probability.tobytes()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["predictions.h5"]


def predict_for(folder: Path, seconds: float) -> None:
    """Predict in a process that ends at once after some seconds, whatever it does."""
    patterns = open_patterns([folder / "run0.h5", folder / "run1.h5"])
    prediction.load_model = load_thirds
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as deadly as kill -9
    signal.setitimer(signal.ITIMER_REAL, seconds)
    predict_patterns(patterns, folder / "work")


@pytest.mark.slow
def test_runs_that_are_killed_at_any_moment_end_with_the_same_bytes(
    patterns, tmp_path, monkeypatch
):
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    undisturbed = predict_patterns(patterns, tmp_path / "calm")
    rng = np.random.default_rng(0)
    ends = [
        run_here(f"predict_for(Path({str(tmp_path)!r}), {limit * rng.random()})")
        for limit in (1e-3, 0.02, 0.04, 0.08, 0.2)
    ]
    ends.append(run_here(f"predict_for(Path({str(tmp_path)!r}), 0)"))  # no limit
    assert ends[0] == -signal.SIGALRM
    assert ends[-1] == 0
    found = read_predictions(tmp_path / "work" / "predictions.h5")
    assert found.probability.tobytes() == undisturbed.probability.tobytes()
    assert found.raw.tobytes() == undisturbed.raw.tobytes()
    assert not list((tmp_path / "work").glob(".predictions-*"))


def remember(read_into: Any, first: list[int]) -> Any:
    def read(self: JoinedSources, out: Any, rows: Any, tidy: Any) -> None:
        if tidy is not keep:  # as recorded is what the fingerprint is made from
            first.append(int(rows[0]))
        read_into(self, out, rows, tidy)

    return read


def run_here(statement: str) -> int:
    code = (
        "import importlib.util, sys\n"
        "from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('here', {__file__!r})\n"
        "here = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(here)\n"
        "here.make_parts_small()\n"
        f"here.{statement}\n"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_another_model_does_not_take_over_a_half_done_run(
    patterns, tmp_path, monkeypatch
):
    model = load_thirds(None)
    masked = patterns.with_bad_pixels(np.eye(36, 34, dtype=bool))
    names = {prediction._work_file(tmp_path, model, p).name for p in (patterns, masked)}
    model.metadata["model_sha256"] = "1"
    names.add(prediction._work_file(tmp_path, model, patterns).name)
    assert len(names) == 3


def test_a_model_of_other_bad_pixels_is_refused(patterns, model_dir, tmp_path):
    masked = patterns.with_bad_pixels(np.eye(36, 34, dtype=bool))
    with pytest.raises(ModelError, match="34 bad pixels"):
        predict_patterns(masked, tmp_path / "work", model_dir)
    assert not (tmp_path / "work").exists()


def test_missing_broken_and_foreign_predictions_are_refused(
    patterns, tmp_path, monkeypatch
):
    path = tmp_path / "predictions.h5"
    with pytest.raises(WorkFolderError, match=r"predictions.h5 is not there"):
        read_predictions(path)
    with h5py.File(path, "w") as file:
        file["predictions"] = np.zeros(50, np.float32)
    with pytest.raises(
        WorkFolderError, match=r"predictions.h5 is not what 06-review writes"
    ):
        read_predictions(path)
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    predict_patterns(patterns, tmp_path)
    assert read_predictions(path, patterns).raw.size == 50
    other = open_patterns(write_run(tmp_path / "other.h5", 9))
    with pytest.raises(OtherPatternsError, match=r"found other patterns in .*other.h5"):
        read_predictions(path, other)


def test_the_head_is_the_keras_model_that_it_stands_for(tmp_path) -> None:
    rng = np.random.default_rng(5)
    inputs = rng.normal(2, 3, (90, 7)).astype(np.float32)
    head = make_head(7)
    fit_head(head, inputs, inputs[:, 0] > inputs[:, 1])
    ours = predict_inputs(head, inputs)
    np.testing.assert_allclose(
        predict_inputs(head.keras_model, inputs), ours, atol=1e-6
    )
    head.save(tmp_path / "model.keras")
    again = KernelHead.read(tmp_path / "model.keras", "invariant", 7)
    assert np.array_equal(predict_inputs(again, inputs), ours)
    np.testing.assert_allclose(again.scale, head.scale, rtol=1e-6)
    assert KernelHead.read(tmp_path / "model.keras", "invariant", 8) is None


PREDICT = """
import sys
from helpers.classifier import cross_validate, predict_patterns
from helpers.patterns import open_patterns
patterns = open_patterns({0!r})
predict_patterns(patterns, {1!r})
assert not {{"keras", "tensorflow"}} & sys.modules.keys()
"""


def test_predicting_with_the_default_network_imports_no_tensorflow(tmp_path) -> None:
    write_simulated(tmp_path / "run.h5", 40, 2, bad_pixels=np.zeros((48, 48), bool))
    patterns = open_patterns(tmp_path / "run.h5")
    network = make_network("invariant", patterns)
    metadata = describe_patterns(patterns) | {"metrics": {}, "history": {}}
    model = TrainedModel(network, network.build(), Calibration(2, 0.1), 0.3, metadata)
    save_model(model, tmp_path)
    code = PREDICT.format(str(tmp_path / "run.h5"), str(tmp_path))
    typed = [sys.executable, "-P", "-c", code]
    ran = subprocess.run(typed, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()


@pytest.mark.parametrize(
    ("words", "surest"), [(["single", "multiple", "multiple", ""], 2), ([""] * 4, 3)]
)
def test_the_multiple_hit_that_is_surest_is_explained(words, surest) -> None:
    probability = np.array([0.9, np.nan, 0.3, 0.1], np.float32)
    assert prediction.pick_surest_multiple(probability, np.array(words)) == surest
