"""The whole stack through a trained model, in blocks, to `predictions.h5`."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.network import Network, batch_length, predict_inputs
from helpers.classifier.trained_model import (
    CLASSES,
    TrainedModel,
    check_model_fits,
    describe_patterns,
    load_model,
)
from helpers.errors import OtherPatternsError
from helpers.outputs import atomic_hdf5, explain_os_errors, write_provenance
from helpers.patterns import Patterns, batches
from helpers.work_folder import MODEL, PREDICTIONS


@dataclass(frozen=True)
class Predictions:
    """What a model says of every pattern of a stack.

    Attributes
    ----------
    probability
        (n,) float32, calibrated probability of a single hit, in stack order.
    raw
        (n,) float32, the network's own output.
    threshold
        From this probability on a pattern counts as single.
    attributes
        Classes, model file and its SHA-256, source files, versions, time.
    """

    probability: NDArray[np.float32]
    raw: NDArray[np.float32]
    threshold: float
    attributes: dict[str, Any]

    @property
    def is_single(self) -> NDArray[np.bool_]:
        """(n,) bool: probability at or above the threshold."""
        single: NDArray[np.bool_] = self.probability >= self.threshold
        return single


def predict_patterns(
    patterns: Patterns, work_dir: str | Path, model_dir: str | Path | None = None
) -> Predictions:
    """Predict every pattern and write `predictions.h5`.

    Patterns are read ahead while the network works. What is done is kept in a work file
    beside the result: after a crash the same call goes on where it stopped, and ends
    with the same numbers as an undisturbed run.

    Parameters
    ----------
    patterns
        The stack.
    work_dir
        Where `predictions.h5` goes.
    model_dir
        Where the model lies; `work_dir` when not given.

    Raises
    ------
    ModelError
        If the model cannot be read or does not fit the patterns.
    WorkFolderError
        If the disk is full or read-only; what is done is kept all the same.
    """
    work_dir, model_dir = Path(work_dir), Path(model_dir or work_dir)
    model = load_model(model_dir)
    check_model_fits(model, patterns)
    part = _work_file(work_dir, model, patterns)
    _predict_rest(part, model, patterns)
    raw = np.fromfile(part, np.float32)
    path = work_dir / PREDICTIONS.name
    _write_predictions(path, raw, model, model_dir / MODEL.name, patterns)
    for finished in work_dir.glob(".predictions-*"):  # also of runs that were killed
        finished.unlink()
    return read_predictions(path)


def read_predictions(path: str | Path, patterns: Patterns | None = None) -> Predictions:
    """Read a file that `predict_patterns` wrote.

    Parameters
    ----------
    path
        The file.
    patterns
        The stack that the predictions shall belong to; not checked when not given.

    Raises
    ------
    WorkFolderError
        If the file is missing or broken.
    OtherPatternsError
        If the predictions are of other patterns.
    """
    arrays, attributes = PREDICTIONS.read_hdf5(path)
    predictions = Predictions(
        arrays["predictions"], arrays["raw"], attributes["threshold"], attributes
    )
    if patterns is not None and attributes["fingerprint"] != patterns.fingerprint:
        message = (
            f"{path} was made from {attributes['patterns_files']}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. Run 05-review again."
        )
        raise OtherPatternsError(message)
    return predictions


def _work_file(work_dir: Path, model: TrainedModel, patterns: Patterns) -> Path:
    """Name the file of finished raw outputs after everything they depend on."""
    depends_on = {
        **describe_patterns(patterns),
        "n_patterns": len(patterns),
        "model_sha256": model.facts["model_sha256"],
        "settings": model.facts["settings"],
    }
    text = json.dumps(depends_on, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    work_dir.mkdir(parents=True, exist_ok=True)
    return work_dir / f".predictions-{key}.part"


def _predict_rest(part: Path, model: TrainedModel, patterns: Patterns) -> None:
    """Append the raw outputs that are missing, in whole batches."""
    length = batch_length(model.network.input_shape)
    n_values = part.stat().st_size // 4 if part.exists() else 0
    done = min(n_values - n_values % length, len(patterns))
    with explain_os_errors(part), part.open("ab") as file:
        file.truncate(4 * done)
        for inputs in batches(_make_inputs(model.network, patterns, done), length):
            file.write(predict_inputs(model.keras_model, inputs).tobytes())
            file.flush()


def _make_inputs(
    network: Network, patterns: Patterns, start: int
) -> Iterator[NDArray[np.float32]]:
    """Yield a network's inputs of the patterns from `start` on."""
    parts = patterns.map(network.make_inputs, start=start, progress="Predict")
    for here, inputs in parts:
        yield inputs[max(start - here.start, 0) :]


def _write_predictions(
    path: Path,
    raw: NDArray[np.float32],
    model: TrainedModel,
    model_file: Path,
    patterns: Patterns,
) -> None:
    with atomic_hdf5(path) as file:
        file["predictions"] = model.calibration.apply(raw)
        file["raw"] = raw
        file.attrs["classes"] = CLASSES
        file.attrs["threshold"] = model.threshold
        write_provenance(
            file,
            model=model.network.name,
            model_file=str(model_file.resolve()),
            model_sha256=model.facts["model_sha256"],
            patterns_files=[str(source) for source in patterns.files],
            fingerprint=patterns.fingerprint,
        )
