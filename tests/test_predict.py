"""The whole stack through a model, undisturbed and after kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.classifier import (
    Calibration,
    TrainedModel,
    make_network,
    prediction,
    save_model,
)
from helpers.classifier.prediction import predict_patterns, read_predictions
from helpers.classifier.trained_model import describe_patterns
from helpers.errors import ModelError, OtherPatternsError, WorkFolderError
from helpers.outputs import sha256_of
from helpers.patterns import Patterns, open_patterns

BLOCK_BYTES = 7 * 4 * 36 * 34  # seven patterns


@pytest.fixture
def patterns(tmp_path: Path) -> Patterns:
    return open_patterns([write_run(tmp_path / f"run{i}.h5", i) for i in range(2)])


@pytest.fixture
def model_dir(patterns: Patterns, tmp_path: Path) -> Path:
    network = make_network("article", image_size=32)
    trained = TrainedModel(
        network,
        network.make_model(),
        Calibration(2, 0.1),
        0.3,
        describe_patterns(patterns),
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
    found = predict_patterns(patterns, tmp_path / "work", model_dir, BLOCK_BYTES)
    model = prediction.load_model(model_dir)
    raw = model.predict_raw(patterns[:])
    # other batch sizes, other order of summation
    assert found.raw == pytest.approx(raw, abs=1e-5)
    assert np.array_equal(found.probability, model.calibration.apply(found.raw))
    assert np.array_equal(found.is_single, found.probability >= 0.3)


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
    network = make_network("article", image_size=32)
    facts = {"model_sha256": "0", "settings": vars(network)}
    return TrainedModel(network, Thirds(), Calibration(), 0.5, facts)


def predict_and_die(folder: Path, n_blocks: int) -> None:
    """Predict in a process that kills itself while it reads block `n_blocks`."""

    class Deadly(Patterns):
        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, slice) and key.start >= 7 * n_blocks:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(key)

    patterns = open_patterns([folder / "run0.h5", folder / "run1.h5"])
    patterns.__class__ = Deadly
    prediction.load_model = load_thirds
    predict_patterns(patterns, folder / "work", max_bytes=BLOCK_BYTES)


@pytest.mark.parametrize("torn", [b"", b"abc", b"\0" * 9])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    patterns, tmp_path, monkeypatch, torn
):
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    undisturbed = predict_patterns(patterns, tmp_path / "calm", max_bytes=BLOCK_BYTES)
    died = run_here(f"predict_and_die(Path({str(tmp_path)!r}), 4)")
    (part,) = (tmp_path / "work").iterdir()
    with part.open("ab") as file:
        file.write(torn)
    read: list[int] = []
    monkeypatch.setattr(Patterns, "__getitem__", remember(Patterns.__getitem__, read))
    resumed = predict_patterns(patterns, tmp_path / "work", max_bytes=BLOCK_BYTES)
    assert died == -signal.SIGKILL
    assert min(read) >= 14  # two blocks at least were not read again
    assert resumed.probability.tobytes() == undisturbed.probability.tobytes()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["predictions.h5"]


def predict_for(folder: Path, seconds: float) -> None:
    """Predict in a process that ends at once after some seconds, whatever it does."""
    patterns = open_patterns([folder / "run0.h5", folder / "run1.h5"])
    prediction.load_model = load_thirds
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as deadly as kill -9
    signal.setitimer(signal.ITIMER_REAL, seconds)
    predict_patterns(patterns, folder / "work", max_bytes=BLOCK_BYTES)


def test_runs_that_are_killed_at_any_moment_end_with_the_same_bytes(
    patterns, tmp_path, monkeypatch
):
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    undisturbed = predict_patterns(patterns, tmp_path / "calm", max_bytes=BLOCK_BYTES)
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


def remember(getitem: Any, starts: list[int]) -> Any:
    def read(self: Patterns, key: slice) -> Any:
        starts.append(key.start)
        return getitem(self, key)

    return read


def run_here(statement: str) -> int:
    code = (
        "import importlib.util, sys\n"
        "from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('here', {__file__!r})\n"
        "here = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(here)\n"
        f"here.{statement}\n"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_another_model_does_not_take_over_a_half_done_run(
    patterns, tmp_path, monkeypatch
):
    model = load_thirds(None)
    key = [
        prediction._work_file(tmp_path, model, patterns, size).name for size in (7, 8)
    ]
    model.facts["model_sha256"] = "1"
    key.append(prediction._work_file(tmp_path, model, patterns, 7).name)
    bad = np.eye(36, 34, dtype=bool)
    masked = patterns.with_bad_pixels(bad)
    key.append(prediction._work_file(tmp_path, model, masked, 7).name)
    assert len(set(key)) == 4


def test_a_model_of_other_bad_pixels_is_refused(patterns, model_dir, tmp_path):
    masked = patterns.with_bad_pixels(np.eye(36, 34, dtype=bool))
    with pytest.raises(ModelError, match="34 bad pixels"):
        predict_patterns(masked, tmp_path / "work", model_dir)
    assert not (tmp_path / "work").exists()


def test_missing_broken_and_foreign_predictions_are_refused(
    patterns, tmp_path, monkeypatch
):
    path = tmp_path / "predictions.h5"
    with pytest.raises(WorkFolderError, match=r"predictions.h5 cannot be read"):
        read_predictions(path)
    with h5py.File(path, "w") as file:
        file["predictions"] = np.zeros(50, np.float32)
    with pytest.raises(WorkFolderError, match=r"predictions.h5 cannot be read"):
        read_predictions(path)
    monkeypatch.setattr(prediction, "load_model", load_thirds)
    predict_patterns(patterns, tmp_path)
    assert read_predictions(path, patterns).raw.size == 50
    other = open_patterns(write_run(tmp_path / "other.h5", 9))
    with pytest.raises(OtherPatternsError, match=r"found other patterns in .*other.h5"):
        read_predictions(path, other)
