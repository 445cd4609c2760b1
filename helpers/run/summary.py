"""What a work folder holds, in a few lines."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from helpers.errors import HelpersError

METRICS = {"precision": "precision", "recall": "recall", "f1": "F1"}


def summarise(work_dir: str | Path) -> list[str]:
    """Say what the notebooks found, one line for each stage that has left a file.

    Parameters
    ----------
    work_dir
        The work folder. What is absent, or cannot be read, is passed over.
    """
    lines = []
    for describe in (_patterns, _labels, _model, _scores, _predictions, _selection):
        with suppress(OSError, LookupError, TypeError, ValueError, HelpersError):
            lines.append(describe(Path(work_dir)))
    return lines


def _patterns(work_dir: Path) -> str:
    facts = _read_json(work_dir / "experiment.json")
    n_patterns, n_rows, n_columns = facts["shape"]
    return (
        f"patterns     {n_patterns} of {n_rows} × {n_columns} pixels, {facts['unit']}, "
        f"{facts['n_bad_pixels']} bad pixels"
    )


def _labels(work_dir: Path) -> str:
    from helpers.labels import open_label_store

    facts = _read_json(work_dir / "experiment.json")
    path = work_dir / "labels.sqlite"
    path.stat()  # a store that is not there would be made
    with open_label_store(path, facts["fingerprint"], facts["shape"][0]) as store:
        counts = store.counts()
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"labels       {sum(counts.values())}: {words or 'none yet'}"


def _model(work_dir: Path) -> str:
    facts = _read_json(work_dir / "model.json")
    n_tested = sum(facts["n_labels"]["test"].values())
    return (
        f"model        {facts['model']}, trained on {facts['n_fitted']} labels, "
        f"tested on {n_tested} others"
    )


def _scores(work_dir: Path) -> str:
    metrics = _read_json(work_dir / "model.json")["metrics"]
    scores = [
        f"{name} {metrics[key]['value']:.2f} "
        f"({metrics[key]['low']:.2f}–{metrics[key]['high']:.2f})"
        for key, name in METRICS.items()
    ]
    return f"test scores  {', '.join(scores)}"


def _predictions(work_dir: Path) -> str:
    with h5py.File(work_dir / "predictions.h5") as file:
        predictions = file["predictions"][()]
        threshold = float(file.attrs["threshold"])
    n_single = int((predictions >= threshold).sum())
    return (
        f"predictions  {n_single} of {predictions.size} patterns are single with "
        f"probability {threshold:.2f} or more"
    )


def _selection(work_dir: Path) -> str:
    path = work_dir / "selection" / "selection.txt"
    n_selected = len(path.read_text(encoding="ascii").split())
    return f"selection    {n_selected} patterns, listed in {path}"


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
