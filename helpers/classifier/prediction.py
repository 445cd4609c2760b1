"""The whole stack through a trained model, in blocks, to `predictions.h5`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.classifier.trained_model import (
    CLASSES,
    MODEL_NAME,
    TrainedModel,
    check_model_fits,
    describe_patterns,
    load_model,
)
from helpers.errors import OtherPatternsError, WorkFolderError
from helpers.outputs import saying_why_not, whole_hdf5, write_provenance
from helpers.patterns import Patterns, read_ahead

PREDICTIONS_NAME = "predictions.h5"


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
    patterns: Patterns,
    work_dir: str | Path,
    model_dir: str | Path | None = None,
    max_bytes: int = 64 * 2**20,
) -> Predictions:
    """Predict every pattern and write `predictions.h5`.

    The next block is read while the network works on this one. What is done is kept in
    a work file beside the result: after a crash the same call goes on where it stopped,
    and ends with the same numbers as an undisturbed run.

    Parameters
    ----------
    patterns
        The stack.
    work_dir
        Where `predictions.h5` goes.
    model_dir
        Where the model lies; `work_dir` when not given.
    max_bytes
        Of one block of patterns in memory; at most three are held at a time.

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
    n_rows, n_columns = patterns.shape[1:]
    block_size = max(max_bytes // (4 * n_rows * n_columns), 1)
    part = _work_file(work_dir, model, patterns, block_size)
    _predict_rest(part, model, patterns, block_size)
    raw = np.fromfile(part, np.float32)
    path = work_dir / PREDICTIONS_NAME
    _write_predictions(path, raw, model, model_dir / MODEL_NAME, patterns)
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
    try:
        with h5py.File(path) as file:
            attributes = dict(file.attrs)
            predictions = Predictions(
                file["predictions"][()],
                file["raw"][()],
                float(attributes["threshold"]),
                attributes,
            )
    except (OSError, KeyError) as error:
        message = f"{path} cannot be read ({error}). Run 05-review again."
        raise WorkFolderError(message) from error
    if patterns is not None and attributes["fingerprint"] != patterns.fingerprint:
        message = (
            f"{path} was made from {attributes['patterns_files']}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. Run 05-review again."
        )
        raise OtherPatternsError(message)
    return predictions


def _work_file(
    work_dir: Path, model: TrainedModel, patterns: Patterns, block_size: int
) -> Path:
    """Name the file of finished raw outputs after everything they depend on."""
    depends_on = {
        **describe_patterns(patterns),
        "n_patterns": len(patterns),
        "model_sha256": model.facts["model_sha256"],
        "settings": model.facts["settings"],
        "block_size": block_size,
    }
    text = json.dumps(depends_on, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    work_dir.mkdir(parents=True, exist_ok=True)
    return work_dir / f".predictions-{key}.part"


def _predict_rest(
    part: Path, model: TrainedModel, patterns: Patterns, block_size: int
) -> None:
    """Append the raw outputs that are missing, in whole blocks."""
    total = len(patterns)
    done = _count_done(part, total, block_size)
    starts = range(done, total, block_size)
    blocks = read_ahead(lambda start: patterns[start : start + block_size], starts)
    with (
        saying_why_not(part),
        part.open("ab") as file,
        tqdm(total=total, initial=done, unit="pattern", desc="Predict") as bar,
    ):
        file.truncate(4 * done)
        for block in blocks:
            file.write(model.predict_raw(block).tobytes())
            file.flush()
            bar.update(len(block))


def _count_done(part: Path, total: int, block_size: int) -> int:
    """Return how many patterns the work file holds in whole blocks."""
    n_values = part.stat().st_size // 4 if part.exists() else 0
    return total if n_values >= total else n_values - n_values % block_size


def _write_predictions(
    path: Path,
    raw: NDArray[np.float32],
    model: TrainedModel,
    model_file: Path,
    patterns: Patterns,
) -> None:
    with whole_hdf5(path) as file:
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
