"""Files of a work folder that somebody has changed: each is told, none is believed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.classifier import (
    ArticleNetwork,
    Calibration,
    Split,
    TrainedModel,
    load_model,
    predict_patterns,
    read_partition,
    read_predictions,
    save_model,
    write_partition,
)
from helpers.classifier.trained_model import describe_patterns
from helpers.errors import HelpersError
from helpers.experiment import measure_patterns, open_experiment, write_experiment
from helpers.labels import read_queue, write_queue
from helpers.outputs import sha256_of
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import (
    Ranking,
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.run import describe_state
from helpers.work_folder import (
    CLEAN_SINGLE_HITS,
    EXPERIMENT,
    MEASUREMENTS,
    MODEL,
    MODEL_FACTS,
    PARTITION,
    PREDICTIONS,
    QUEUE,
    RANKING,
    WorkFile,
)

N = 24
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a work folder in which everything is right."""
    folder = tmp_path_factory.mktemp("whole")
    counts = np.random.default_rng(0).poisson(3.0, (N, 36, 34))
    with h5py.File(folder / "run.h5", "w") as file:
        file["patterns"] = counts.astype(np.float32)
    patterns = open_patterns(folder / "run.h5")
    work = folder / "work"
    write_experiment(work, patterns, measure_patterns(patterns, 1.0), (17.5, 16.5))
    labels = np.array(["single", "blank"] * (N // 2))
    parts = np.split(np.arange(N), [8, 12, 16])
    labels[parts[3]] = ""
    split = Split(*parts, grouped=False, why="for the test", seed=1)
    write_partition(work / PARTITION.name, patterns, split, labels)
    write_clean_single_hits(work / CLEAN_SINGLE_HITS.name, patterns, [0, 2])
    rest = np.delete(np.arange(N), [0, 2])
    zeros = np.zeros(rest.size, np.float32)
    facts = ("rotation", 36, 2, patterns.fingerprint)
    ranking = Ranking(rest, zeros, np.zeros(rest.size, np.int64), zeros, *facts)
    write_ranking(work / RANKING.name, ranking)
    save_trained(work, patterns)
    predict_patterns(patterns, work)
    write_queue(work, [3, 1], ["uncertain", "audit"])
    return work


def save_trained(work: Path, patterns: Patterns) -> None:
    network = ArticleNetwork(32)
    told = describe_patterns(patterns)
    save_model(TrainedModel(network, network.build(), Calibration(), 0.5, told), work)


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "work"))


READERS: dict[str, Callable[[Path], Any]] = {
    EXPERIMENT.name: open_experiment,
    MEASUREMENTS.name: open_experiment,
    PARTITION.name: lambda work: read_partition(work / PARTITION.name),
    CLEAN_SINGLE_HITS.name: lambda work: read_clean_single_hits(
        work / CLEAN_SINGLE_HITS.name
    ),
    RANKING.name: lambda work: read_ranking(work / RANKING.name),
    MODEL.name: load_model,
    MODEL_FACTS.name: load_model,
    PREDICTIONS.name: lambda work: read_predictions(work / PREDICTIONS.name),
    QUEUE.name: lambda work: read_queue(work, N),
}


def facts(**values: Any) -> Damage:
    """Change names and values of a JSON file; None takes a name out."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text("utf-8")) | values
        kept = {name: value for name, value in content.items() if value is not None}
        path.write_text(json.dumps(kept), "utf-8")

    return damage


def text(content: str | bytes) -> Damage:
    raw = content if isinstance(content, bytes) else content.encode()

    def damage(path: Path) -> None:
        path.write_bytes(raw)

    return damage


def hole(path: Path) -> None:
    """Let a file be larger than memory, and take no room."""
    os.truncate(path, 2**40)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def dataset(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = change(file[name][()])
            del file[name]
            file[name] = values

    return damage


def put(value: Any, at: Any = 0) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        if np.asarray(value).dtype.kind == "f" and values.dtype.kind in "iu":
            values = values.astype(float)
        values[at] = value
        return values

    return change


def attribute(name: str, value: Any) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value

    return damage


def claim_size(name: str, *shape: int) -> Damage:
    """Let a dataset say that it is larger than any memory; it holds no values."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            dtype = file[name].dtype
            del file[name]
            chunks = tuple(min(length, 64) for length in shape)
            file.create_dataset(name, shape, dtype, chunks=chunks)

    return damage


def external(name: str) -> Damage:
    """Let the values of a dataset lie in any other file of this machine."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            shape, dtype = file[name].shape, file[name].dtype
            secret = path.with_name("secret.bin")
            secret.write_bytes(bytes(file[name].nbytes))
            del file[name]
            where = [(str(secret), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, shape, dtype, external=where)

    return damage


def link(name: str) -> Damage:
    def damage(path: Path) -> None:
        other = path.with_name("other.h5")
        shutil.copy(path, other)
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(other), name)

    return damage


def nan_weights(path: Path) -> None:
    """Write a network of NaN, and let `model.json` agree with it."""
    import keras

    model = keras.saving.load_model(path)
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    model.save(path)
    facts(model_sha256=sha256_of(path))(path.with_name(MODEL_FACTS.name))


def fewer(path: Path) -> None:
    for name in ("predictions", "raw"):
        dataset(name, lambda values: values[:-1])(path)


DAMAGES: list[tuple[WorkFile, str, Damage]] = [
    (EXPERIMENT, "cut", cut),
    (EXPERIMENT, "list", text("[1, 2]")),
    (EXPERIMENT, "nested", text("[" * 100_000)),
    (EXPERIMENT, "binary", text(b"\xff\x00\xfe")),
    (EXPERIMENT, "huge", hole),
    (EXPERIMENT, "no dataset", facts(dataset=None)),
    (EXPERIMENT, "dataset is a number", facts(dataset=7)),
    (EXPERIMENT, "centre NaN", facts(centre=[float("nan"), 3.0])),
    (EXPERIMENT, "centre far away", facts(centre=[1e300, 3.0])),
    (EXPERIMENT, "centre of three", facts(centre=[1.0, 2.0, 3.0])),
    (EXPERIMENT, "no files", facts(patterns_files=[])),
    (EXPERIMENT, "sizes are words", facts(patterns_sizes=["large"])),
    (EXPERIMENT, "fingerprint is a list", facts(fingerprint=["a"])),
    (EXPERIMENT, "geometry is a number", facts(geometry_file=3)),
    (MEASUREMENTS, "cut", cut),
    (MEASUREMENTS, "text", text("on tape")),
    (MEASUREMENTS, "photons NaN", dataset("photons", put(np.nan))),
    (MEASUREMENTS, "photons infinite", dataset("photons", put(np.inf))),
    (MEASUREMENTS, "photons of fewer", dataset("photons", lambda v: v[:-1])),
    (MEASUREMENTS, "lit pixels negative", dataset("lit_pixels", put(-5))),
    (MEASUREMENTS, "complex powder", dataset("powder", lambda v: v * 1j)),
    (MEASUREMENTS, "bad pixels of others", dataset("bad_pixels", lambda v: v[:9])),
    (MEASUREMENTS, "huge", claim_size("photons", 2**40)),
    (MEASUREMENTS, "values elsewhere", external("powder")),
    (MEASUREMENTS, "link elsewhere", link("bad_pixels")),
    (PARTITION, "index negative", dataset("training/index", put(-5))),
    (PARTITION, "index beyond", dataset("to_predict/index", put(10**9))),
    (PARTITION, "index twice", dataset("training/index", put(1))),
    (PARTITION, "index lost", dataset("test/index", lambda v: v[:-1])),
    (PARTITION, "unknown word", dataset("training/label", put(b"=cmd()"))),
    (PARTITION, "word is a number", dataset("training/label", lambda v: np.zeros(8))),
    (PARTITION, "seed NaN", attribute("seed", np.nan)),
    (CLEAN_SINGLE_HITS, "NaN", dataset("clean_single_hits", put(np.nan))),
    (CLEAN_SINGLE_HITS, "flat", dataset("clean_single_hits", lambda v: v[0])),
    (CLEAN_SINGLE_HITS, "index beyond", dataset("index", put(N))),
    (CLEAN_SINGLE_HITS, "huge", claim_size("clean_single_hits", 2, 2**20, 2**20)),
    (RANKING, "index negative", dataset("index", put(-5))),
    (RANKING, "index beyond", dataset("index", put(10**9))),
    (RANKING, "index twice", dataset("index", put(5, slice(None)))),
    (RANKING, "distance NaN", dataset("distance", put(np.nan))),
    (RANKING, "angle infinite", dataset("angle_deg", put(np.inf))),
    (RANKING, "template below 0", dataset("template", put(-1))),
    (RANKING, "templates fewer than none", attribute("n_templates", -3)),
    (RANKING, "metric is a list", attribute("metric", ["a", "b"])),
    (MODEL, "cut", cut),
    (MODEL, "weights NaN", nan_weights),
    (MODEL_FACTS, "threshold 7", facts(threshold=7)),
    (MODEL_FACTS, "slope NaN", facts(calibration={"slope": float("nan")})),
    (MODEL_FACTS, "slope negative", facts(calibration={"slope": -1, "offset": 0})),
    (MODEL_FACTS, "unknown curve", facts(calibration={"bend": 1})),
    (MODEL_FACTS, "curve of words", facts(calibration={"slope": "steep"})),
    (MODEL_FACTS, "unknown network", facts(model="cleverer")),
    (MODEL_FACTS, "unknown setting", facts(settings={"depth": 9})),
    (MODEL_FACTS, "setting of words", facts(settings={"image_size": "large"})),
    (MODEL_FACTS, "setting negative", facts(settings={"image_size": -3})),
    (MODEL_FACTS, "another file", facts(model_sha256="0" * 64)),
    (PREDICTIONS, "7", dataset("predictions", put(7.0))),
    (PREDICTIONS, "raw infinite", dataset("raw", put(np.inf))),
    (PREDICTIONS, "of fewer", fewer),
    (PREDICTIONS, "threshold NaN", attribute("threshold", np.nan)),
    (PREDICTIONS, "values elsewhere", external("raw")),
    (QUEUE, "negative", text("pattern,reason\n-5,audit\n")),
    (QUEUE, "beyond", text("pattern,reason\n1000000000,audit\n")),
    (QUEUE, "no number", text("pattern,reason\nNaN,audit\n")),
    (QUEUE, "huge number", text(f"pattern,reason\n{'9' * 5000},audit\n")),
    (QUEUE, "binary", text(b"\x00\xff\x00")),
    (QUEUE, "huge", hole),
    (QUEUE, "long field", text(f"pattern,reason\n1,{'a' * 200_000}\n")),
]


@pytest.mark.parametrize(
    ("work_file", "damage"),
    [
        pytest.param(file, damage, id=f"{file.name}: {name}")
        for file, name, damage in DAMAGES
    ],
)
def test_what_was_changed_is_reported(
    work_file: WorkFile, damage: Damage, work: Path
) -> None:
    damage(work / work_file.name)
    with pytest.raises(HelpersError) as caught:
        READERS[work_file.name](work)
    assert f"{work}/" in str(caught.value)
    assert describe_state(work)


@pytest.mark.parametrize("name", READERS)
def test_what_is_right_is_read(name: str, work: Path) -> None:
    READERS[name](work)
