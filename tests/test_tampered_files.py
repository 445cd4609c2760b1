"""Files of a work folder that somebody has changed: each is told, none is believed."""

import base64
import io
import json
import math
import os
import re
import shutil
import tracemalloc
import zipfile
import zlib
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
from helpers.classifier.networks import InvariantNetwork, decode_pixels
from helpers.classifier.trained_model import describe_patterns
from helpers.errors import HelpersError, ModelError
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
    MODEL_METADATA,
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
    metadata = ("rotation", 36, 2, patterns.fingerprint)
    ranking = Ranking(rest, zeros, np.zeros(rest.size, np.int64), zeros, *metadata)
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
    MODEL_METADATA.name: load_model,
    PREDICTIONS.name: lambda work: read_predictions(work / PREDICTIONS.name),
    QUEUE.name: lambda work: read_queue(work, N),
}


def metadata(**values: Any) -> Damage:
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
    metadata(model_sha256=sha256_of(path))(path.with_name(MODEL_METADATA.name))


def fewer(path: Path) -> None:
    for name in ("predictions", "raw"):
        dataset(name, lambda values: values[:-1])(path)


DAMAGES: list[tuple[WorkFile, str, Damage]] = [
    (EXPERIMENT, "cut", cut),
    (EXPERIMENT, "list", text("[1, 2]")),
    (EXPERIMENT, "nested", text("[" * 100_000)),
    (EXPERIMENT, "binary", text(b"\xff\x00\xfe")),
    (EXPERIMENT, "huge", hole),
    (EXPERIMENT, "no dataset", metadata(dataset=None)),
    (EXPERIMENT, "dataset is a number", metadata(dataset=7)),
    (EXPERIMENT, "centre NaN", metadata(centre=[float("nan"), 3.0])),
    (EXPERIMENT, "centre far away", metadata(centre=[1e300, 3.0])),
    (EXPERIMENT, "centre of three", metadata(centre=[1.0, 2.0, 3.0])),
    (EXPERIMENT, "no files", metadata(patterns_files=[])),
    (EXPERIMENT, "sizes are words", metadata(patterns_sizes=["large"])),
    (EXPERIMENT, "fingerprint is a list", metadata(fingerprint=["a"])),
    (EXPERIMENT, "geometry is a number", metadata(geometry_file=3)),
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
    (PARTITION, "group elsewhere", link("training")),
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
    (MODEL_METADATA, "threshold 7", metadata(threshold=7)),
    (MODEL_METADATA, "slope NaN", metadata(calibration={"slope": float("nan")})),
    (
        MODEL_METADATA,
        "slope negative",
        metadata(calibration={"slope": -1, "offset": 0}),
    ),
    (MODEL_METADATA, "unknown curve", metadata(calibration={"bend": 1})),
    (MODEL_METADATA, "curve of words", metadata(calibration={"slope": "steep"})),
    (MODEL_METADATA, "unknown network", metadata(model="cleverer")),
    (MODEL_METADATA, "unknown setting", metadata(settings={"depth": 9})),
    (MODEL_METADATA, "setting of words", metadata(settings={"image_size": "large"})),
    (MODEL_METADATA, "setting negative", metadata(settings={"image_size": -3})),
    (MODEL_METADATA, "another file", metadata(model_sha256="0" * 64)),
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


# --- networks that would run code, or read other files --------------------------------


def save_network(network: Any, folder: Path) -> None:
    model = TrainedModel(network, network.build(), Calibration(), 0.5, {})
    save_model(model, folder)
    load_model(folder)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a network that Keras reads, and one that we read ourselves."""
    folder = tmp_path_factory.mktemp("networks")
    save_network(ArticleNetwork(32), folder / "article")
    save_network(InvariantNetwork((36, 34), (17.5, 16.5)), folder / "invariant")
    return folder


@pytest.fixture(params=["article", "invariant"])
def network_dir(request: pytest.FixtureRequest, networks: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(networks / request.param, tmp_path / "network"))


def change_part(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a part of `model.keras`, and let `model.json` agree with it."""
    path = folder / MODEL.name
    with zipfile.ZipFile(path) as archive:
        parts = {each: archive.read(each) for each in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
    metadata(model_sha256=sha256_of(path))(folder / MODEL_METADATA.name)


def of_module(module: str | None, name: str, **more: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "registered_name": name} | more


def function(module: str, name: str) -> dict[str, Any]:
    return of_module(module, "function", config=name, registered_name=name)


GET_FILE = function("keras.utils", "get_file")
LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}}
FOREIGN = {
    "own class": (of_module("evil", "Evil"), "evil.Evil"),
    "registered class": (of_module(None, "Evil"), "unknown.Evil"),
    "process": (of_module("subprocess", "Popen"), "subprocess.Popen"),
    "function as layer": (function("os", "system"), "os.system"),
    "lambda as layer": (of_module("keras.layers", "Lambda"), "keras.layers.Lambda"),
    "saved model": (of_module("keras.layers", "TFSMLayer"), "keras.layers.TFSMLayer"),
    "pickle": (of_module("keras.layers", "TorchModuleWrapper"), "TorchModuleWrapper"),
    "word list": (of_module("keras.layers", "StringLookup"), "StringLookup"),
    "os.system": ({"config": {"activation": function("os", "system")}}, "os.system"),
    "exec": ({"config": {"activation": function("builtins", "exec")}}, "builtins.exec"),
    "lambda": ({"config": {"activation": LAMBDA}}, "unknown.__lambda__"),
    "download": (
        {"config": {"activation": function("keras.utils", "get_file")}},
        "get_file",
    ),
    "in its loss": (
        {"compile_config": {"loss": function("os", "system")}},
        "os.system",
    ),
}


@pytest.mark.parametrize(("change", "named"), FOREIGN.values(), ids=FOREIGN)
def test_network_that_would_run_code_is_refused(
    change: dict[str, Any],
    named: str,
    network_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (network_dir / "evil.py").write_text("raise SystemExit")

    def damage(content: bytes) -> bytes:
        config = json.loads(content)
        config["config"]["layers"][-1].update(change)
        return json.dumps(config).encode()

    change_part(network_dir, "config.json", damage)
    monkeypatch.syspath_prepend(network_dir)
    with pytest.raises(ModelError, match=re.escape(named) + r"\. No network") as caught:
        load_model(network_dir)
    assert f"{network_dir / MODEL.name} holds what may run code" in str(caught.value)
    assert "Run 05-train again." in str(caught.value)
    assert len(str(caught.value)) < 600


def test_code_of_a_lambda_layer_is_not_run(tmp_path: Path) -> None:
    import keras

    def code(x: Any) -> Any:
        raise SystemExit

    layer = keras.layers.Lambda(lambda x: (code, x)[1])
    model = keras.Sequential([keras.Input((32, 32, 1)), layer])
    network = ArticleNetwork(32)
    save_model(TrainedModel(network, model, Calibration(), 0.5, {}), tmp_path)
    with pytest.raises(ModelError, match=r"keras\.layers\.Lambda, unknown\.__lambda__"):
        load_model(tmp_path)


def first_weights(file: h5py.File) -> h5py.Dataset:
    found: list[h5py.Dataset] = []
    file.visititems(
        lambda _, each: (
            found.append(each) if isinstance(each, h5py.Dataset) and each.ndim else None
        )
    )
    return found[0]


def link_to_other(file: h5py.File, secret: Path) -> None:
    weights = first_weights(file)
    name = weights.name
    with h5py.File(secret, "w") as other:
        other["values"] = weights[()]
    del file[name]
    file[name] = h5py.ExternalLink(str(secret), "values")


def link_group_to_other(file: h5py.File, secret: Path) -> None:
    with h5py.File(secret, "w") as other:
        file.copy("layers", other)
    del file["layers"]
    file["layers"] = h5py.ExternalLink(str(secret), "layers")


def link_inside(file: h5py.File, _: Path) -> None:
    weights = first_weights(file)
    name = weights.name
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def take_from_other(file: h5py.File, secret: Path) -> None:
    weights = first_weights(file)
    name, shape = weights.name, weights.shape
    secret.write_bytes(weights[()].tobytes())
    del file[name]
    where = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, shape, "f4", external=where)


def show_other(file: h5py.File, secret: Path) -> None:
    weights = first_weights(file)
    name, shape = weights.name, weights.shape
    with h5py.File(secret, "w") as other:
        other["values"] = weights[()]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(secret), "values", shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def claim_all_memory(file: h5py.File, _: Path) -> None:
    name = first_weights(file).name
    del file[name]
    file.create_dataset(name, (2**20, 2**18), "f4", chunks=(64, 64))


@pytest.mark.parametrize(
    "change",
    [
        *(link_to_other, link_group_to_other, link_inside),
        *(take_from_other, show_other, claim_all_memory),
    ],
)
def test_weights_that_lie_elsewhere_are_refused(
    change: Callable[[h5py.File, Path], None], network_dir: Path
) -> None:
    def damage(content: bytes) -> bytes:
        memory = io.BytesIO(content)
        with h5py.File(memory, "r+") as file:
            change(file, network_dir / "secret.bin")
        return memory.getvalue()

    change_part(network_dir, "model.weights.h5", damage)
    with pytest.raises(ModelError, match=r"model\.keras cannot be read .*Run 05-train"):
        load_model(network_dir)


def test_network_that_unpacks_to_more_than_the_memory(network_dir: Path) -> None:
    path = network_dir / MODEL.name
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**26))
    metadata(model_sha256=sha256_of(path))(network_dir / MODEL_METADATA.name)
    with pytest.raises(ModelError, match=r"its parts would take \d+ MiB of memory"):
        load_model(network_dir)


def test_folder_in_place_of_a_network(network_dir: Path) -> None:
    (network_dir / MODEL.name).unlink()
    (network_dir / MODEL.name).mkdir()
    with pytest.raises(ModelError, match=r"model\.keras is no file, but model\.json"):
        load_model(network_dir)


ZEROS = base64.b64encode(zlib.compress(bytes(2**26), 9)).decode()


@pytest.mark.parametrize(
    "settings",
    [
        *({"bad_pixels": "!"}, {"bad_pixels": 5}, {"bad_pixels": "QUJD"}),
        *({"shape": [10**9, 10**9]}, {"shape": [-4, 4]}, {"shape": None}),
        {"shape": [35, 34]},
        *({"centre": ["a", "b"]}, {"centre": [math.nan, 3]}, {"centre": [1e300, 3]}),
        {"encoder": "/etc/passwd"},
    ],
    ids=str,
)
def test_impossible_settings_of_a_network(
    settings: dict[str, Any], networks: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(networks / "invariant", tmp_path / "network"))
    told = json.loads((folder / MODEL_METADATA.name).read_text("utf-8"))["settings"]
    agrees = {"pattern_shape": [36, 34]}
    metadata(settings=told | settings, **agrees)(folder / MODEL_METADATA.name)
    with pytest.raises(ModelError, match=r"cannot be used|network is for"):
        load_model(folder)


def test_bad_pixels_that_unpack_to_more_than_the_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not those of 36 × 34 pixels"):
            decode_pixels(ZEROS, (36, 34))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
