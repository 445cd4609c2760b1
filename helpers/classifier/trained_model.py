"""A trained network with all that is needed to use it, and its three files.

`model.keras` is the network, `model.weights.h5` its weights alone (what the article
saves), `model.json` the rest: what the network is given, calibration, threshold, what
it was trained on and how well it did.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import Calibration
from helpers.classifier.network_base import Network, predict_inputs
from helpers.classifier.networks import adapt_network, restore_network
from helpers.errors import ModelError, ParameterError
from helpers.made_from import check_fits
from helpers.outputs import atomic_write, provenance, sha256_of, write_json
from helpers.patterns import Patterns
from helpers.work_folder import MODEL, MODEL_METADATA, WEIGHTS

CLASSES = ("not_single", "single")
OPERATIONS = "keras.src.ops"  # their module, in the file
FUNCTION = "function"
MAY_BE_CODE = (
    *(FUNCTION, "Lambda", "__lambda__", "__typespec__"),
    *("TFSMLayer", "TorchModuleWrapper"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)
HIGHEST_PACKING = 20  # Keras packs nothing
LONGEST = 200  # letters of what Keras says


@dataclass(frozen=True)
class Judged:
    """Labelled patterns, each judged by weights that did not know it.

    Attributes
    ----------
    by
        "test set" or "nested cross-validation".
    index
        (m,) int64, pattern indices; of image folders, places in the test set.
    single
        (m,) bool, their labels.
    probability
        (m,) float32, of a single hit.
    threshold
        (m,) float64: from this probability on it counted as single.
    """

    by: str
    index: NDArray[np.int64]
    single: NDArray[np.bool_]
    probability: NDArray[np.float32]
    threshold: NDArray[np.float64]


@dataclass(frozen=True)
class TrainedModel:
    """A network that has been trained, calibrated and judged.

    Attributes
    ----------
    network
        Makes the inputs.
    keras_model
        Gives one number from 0 to 1 per input.
    calibration, threshold
        The calibrated probability from which a pattern counts as single.
    metadata
        The content of `model.json`: labels, metrics, history, provenance.
    """

    network: Network
    keras_model: Any
    calibration: Calibration
    threshold: float
    metadata: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """How well it did on the test part: name to value and interval."""
        return dict(self.metadata["metrics"])

    @property
    def judged(self) -> Judged:
        """The patterns behind the metrics."""
        told = self.metadata["judged"]
        return Judged(
            told["by"],
            np.array(told["index"], np.int64),
            np.array(told["single"], bool),
            np.array(told["probability"], np.float32),
            np.array(told["threshold"], np.float64),
        )

    @property
    def history(self) -> dict[str, list[float]]:
        """Loss and accuracy of each epoch, on the training and validation parts."""
        return dict(self.metadata["history"])

    def predict(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated probability of a single hit for clean patterns."""
        return self.calibration.apply(self.predict_uncalibrated(patterns))

    def predict_uncalibrated(
        self, patterns: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the network's own output for (n, rows, columns) clean patterns."""
        return predict_inputs(self.keras_model, self.network.make_inputs(patterns))


def describe_patterns(patterns: Patterns) -> dict[str, Any]:
    """Return what a model must agree with the patterns about."""
    bad_pixels = np.packbits(patterns.bad_pixels).tobytes()
    return {
        "fingerprint": patterns.fingerprint,
        "pattern_shape": list(patterns.shape[1:]),
        "bad_pixels_sha256": hashlib.sha256(bad_pixels).hexdigest(),
        "unit": patterns.unit,
        "scale": [patterns.pedestal, patterns.adu_per_photon],
    }


def save_model(model: TrainedModel, work_dir: str | Path) -> None:
    """Write `model.keras`, `model.weights.h5` and `model.json`, each whole.

    Parameters
    ----------
    model
        The trained model.
    work_dir
        The work folder; made when it does not exist.
    """
    work_dir = Path(work_dir).expanduser()
    with atomic_write(work_dir / MODEL.name) as path:
        model.keras_model.save(path)
        _forget_when_saved(path)
    with (
        atomic_write(work_dir / WEIGHTS.name) as path,
        TemporaryDirectory() as elsewhere,
    ):
        # HDF5, which Keras calls, would crash on a disk that becomes full
        written = Path(elsewhere, WEIGHTS.name)
        model.keras_model.save_weights(written)
        copyfile(written, path)
    metadata = {
        "model": model.network.name,
        "settings": asdict(cast(Any, model.network)),
        "classes": list(CLASSES),
        "calibration": asdict(model.calibration),
        "threshold": model.threshold,
        "model_sha256": sha256_of(work_dir / MODEL.name),
    }
    write_json(work_dir / MODEL_METADATA.name, metadata | model.metadata | provenance())


def _forget_when_saved(path: Path) -> None:
    """Leave out of `model.keras` what differs although the network is the same.

    That is the time, where objects lay in memory, and numbers in names that count all
    layers of the process: by its SHA-256 one shall see whether predictions are of this
    network.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(parts["metadata.json"])
    metadata.pop("date_saved", None)
    parts["metadata.json"] = json.dumps(metadata).encode()
    config = json.loads(parts["config.json"])
    # operations without weights, which Keras numbers itself
    own = [
        layer["name"]
        for layer in config["config"]["layers"]
        if layer["module"].startswith(OPERATIONS)
    ]
    renamed = {name: f"operation_{i}" for i, name in enumerate(own)}
    parts["config.json"] = json.dumps(_simplify(config, renamed)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # as of 1980


def _simplify(item: Any, renamed: dict[str, str]) -> Any:
    """Return JSON with new names and without places in memory."""
    if isinstance(item, dict):
        kept = (key for key in item if key != "shared_object_id")
        return {key: _simplify(item[key], renamed) for key in kept}
    if isinstance(item, list):
        return [_simplify(each, renamed) for each in item]
    return renamed.get(item, item) if isinstance(item, str) else item


def load_model(work_dir: str | Path) -> TrainedModel:
    """Read what `save_model` wrote; code inside the file is never run.

    Parameters
    ----------
    work_dir
        The work folder.

    Raises
    ------
    ModelError
        If a file is missing or broken, the two do not belong together, or the network
        was trained for other classes, or about another centre, with other bad pixels or
        labels than the folder has now.
    """
    work_dir = Path(work_dir).expanduser()
    path = work_dir / MODEL_METADATA.name
    metadata = MODEL_METADATA.read_json(path)
    _check_metadata(work_dir, metadata)
    # a network of another run of the same detector may stand here, too
    check_fits(path, MODEL_METADATA, may_be_of_others=True)
    network = _restore_network(path, metadata)
    return TrainedModel(
        network=network,
        keras_model=_read_keras_model(work_dir / MODEL.name, network),
        calibration=Calibration(**metadata["calibration"]),
        threshold=float(metadata["threshold"]),
        metadata=metadata,
    )


def check_model_fits(model: TrainedModel, patterns: Patterns) -> None:
    """Refuse a model that was trained on patterns of another kind.

    Parameters
    ----------
    model
        A trained model.
    patterns
        The stack that shall be predicted. Another run of the same detector with the
        same bad pixels is fine.

    Raises
    ------
    ModelError
        If the shape of a pattern, the unit or the bad pixels differ.
    """
    found = describe_patterns(patterns)
    taught = found | model.metadata
    here = ", ".join(map(str, patterns.files))
    if taught["pattern_shape"] != found["pattern_shape"]:
        message = (
            f"{here}: patterns have shape {found['pattern_shape']}; the model was "
            f"trained on {taught['pattern_shape']}. Train it on these in 05-train."
        )
        raise ModelError(message)
    if taught["unit"] != found["unit"]:
        message = (
            f"{here}: the unit is {found['unit']}; the model was trained with "
            f"{taught['unit']}. Give adu_per_photon in 01-inspect, or train it on "
            "these in 05-train."
        )
        raise ModelError(message)
    if taught["bad_pixels_sha256"] != found["bad_pixels_sha256"]:
        message = (
            f"{here}: {int(patterns.bad_pixels.sum())} bad pixels, which are not those "
            "that the model was trained with. Open the patterns with the same bad "
            "pixels, or train again in 05-train."
        )
        raise ModelError(message)


def fit_to_run(
    model: TrainedModel, patterns: Patterns, centre: tuple[float, float]
) -> TrainedModel:
    """Return the model as another run of the same detector needs it.

    A network that takes the centre of the beam and the bad pixels into account gets
    those of the run; its weights stay.

    Parameters
    ----------
    model
        A trained model.
    patterns
        The run, with its bad pixels.
    centre
        (row, column) of its beam.

    Raises
    ------
    ModelError
        If the shape of a pattern differs.
    """
    found, expected = list(patterns.shape[1:]), model.metadata.get("pattern_shape")
    if found != expected:
        message = (
            f"{patterns.files[0]}: patterns have shape {found}; the model was trained "
            f"on {expected}. It is another detector, or another mode of it: train a "
            "model of its own."
        )
        raise ModelError(message)
    network = adapt_network(model.network, patterns, centre)
    settings = {"settings": asdict(cast(Any, network))}
    return replace(model, network=network, metadata=model.metadata | settings)


def _find_foreign(path: Path) -> list[str]:
    """Return what a network is made of besides layers of Keras, before Keras reads it.

    In safe mode Keras refuses the same, but advises to switch that off.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(each.file_size for each in archive.infolist())
        if unpacked > HIGHEST_PACKING * path.stat().st_size:
            message = f"its parts would take {unpacked / 2**20:,.0f} MiB of memory"
            raise ValueError(message)
        config = json.loads(archive.read("config.json"))
    return list(dict.fromkeys(_name_foreign(config)))


def _name_foreign(item: Any) -> Iterator[str]:
    if isinstance(item, list):
        for each in item:
            yield from _name_foreign(each)
    elif isinstance(item, dict):
        if "class_name" in item and not _is_of_keras(item):
            name = item["class_name"]
            name = item.get("config") if name == FUNCTION else name
            yield _shorten(f"{item.get('module') or 'unknown'}.{name}")
        for each in item.values():
            yield from _name_foreign(each)


def _is_of_keras(item: dict[str, Any]) -> bool:
    name, module = str(item["class_name"]), str(item.get("module", "keras"))
    return module.split(".", maxsplit=1)[0] == "keras" and name not in MAY_BE_CODE


def _shorten(text: str) -> str:
    """Leave the whole network out, which Keras quotes before it says what is wrong."""
    text = " ".join(text.rpartition("Exception encountered:")[2].split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _check_metadata(work_dir: Path, metadata: dict[str, Any]) -> None:
    if tuple(metadata["classes"]) != CLASSES:
        found = f"has the classes {', '.join(metadata['classes'])}; expected "
        path = work_dir / MODEL_METADATA.name
        raise MODEL_METADATA.make_error(path, found + ", ".join(CLASSES))
    shape = metadata["settings"].get("shape", metadata.get("pattern_shape"))
    if shape != metadata.get("pattern_shape", shape):
        found = (
            f"is of patterns of shape {metadata['pattern_shape']}, but its network is "
            f"for {shape}"
        )
        raise MODEL_METADATA.make_error(work_dir / MODEL_METADATA.name, found)
    path = work_dir / MODEL.name
    if not path.is_file():
        raise MODEL.make_error(path, f"is no file, but {MODEL_METADATA.name} is there")
    if sha256_of(path) != metadata["model_sha256"]:
        found = (
            f"is not the file that {MODEL_METADATA.name} describes (SHA-256 differs): "
            "it is damaged or from another training"
        )
        raise MODEL.make_error(path, found)


def _restore_network(path: Path, metadata: dict[str, Any]) -> Network:
    try:
        network = restore_network(metadata["model"], metadata["settings"])
        _ = network.input_shape  # the settings are used here for the first time
    except ParameterError as error:
        found = f"cannot be used: {error}".rstrip(".")
        raise MODEL_METADATA.make_error(path, found) from error
    except Exception as error:  # whatever impossible settings end in
        found = f"has settings that cannot be used ({_shorten(str(error))})"
        raise MODEL_METADATA.make_error(path, found) from error
    return network


def _read_keras_model(path: Path, network: Network) -> Any:
    try:
        foreign = _find_foreign(path)
        model: Any = None if foreign else network.read(path)
    except Exception as error:  # whatever a broken file makes keras raise
        problem = f"cannot be read ({_shorten(str(error))})"
        raise MODEL.make_error(path, problem) from error
    if foreign:
        problem = (
            f"holds what may run code or read other files: {', '.join(foreign)}. No "
            "network of this package does, so somebody has changed it. Nothing in it "
            "was run. Do not use it in another program either"
        )
        raise MODEL.make_error(path, problem)
    found = model.input_shape[1:]
    if found != network.input_shape:
        problem = (
            f"takes inputs of shape {found}; the network now makes "
            f"{network.input_shape}: it is from another version"
        )
        raise MODEL.make_error(path, problem)
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise MODEL.make_error(path, "holds weights that are no numbers")
    return model
