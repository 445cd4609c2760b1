"""What a work folder holds, whether it fits together, and what to do next."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers.errors import HelpersError, LabelsError
from helpers.made_from import find_changes
from helpers.outputs import open_to_read
from helpers.work_folder import (
    EXPERIMENT,
    LARGEST_JSON,
    MEASUREMENTS,
    MODEL_FACTS,
    PARTITION,
    PREDICTIONS,
    QUEUE,
    RANKING,
    WorkFile,
)

METRICS = {"precision": "precision", "recall": "recall", "f1": "F1"}
CANNOT_BE_READ = (
    *(OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError),
    *(MemoryError, HelpersError),
)
SELECTION = "selection/selection.h5"
STAGES = (EXPERIMENT, PARTITION, RANKING, MODEL_FACTS, PREDICTIONS)

Lines = list[str]


def summarise(work_dir: str | Path, store_url: str = "") -> Lines:
    """Say what the notebooks found, one line for each stage that has left a file.

    What no longer fits the rest of the folder says so.

    Parameters
    ----------
    work_dir
        The work folder. What is absent, or cannot be read, is passed over.
    store_url
        SQLAlchemy URL of the labels; "" takes `labels.sqlite` in the work folder.
    """
    folder = Path(work_dir).expanduser()
    describers: list[tuple[Callable[[Path], str], str, WorkFile]] = [
        (_patterns, EXPERIMENT.name, EXPERIMENT),
        (lambda path: _labels(path, store_url), "labels.sqlite", EXPERIMENT),
        (_hits, MEASUREMENTS.name, MEASUREMENTS),
        (_model, MODEL_FACTS.name, MODEL_FACTS),
        (_scores, MODEL_FACTS.name, MODEL_FACTS),
        (_predictions, PREDICTIONS.name, PREDICTIONS),
        (_selection, SELECTION, PREDICTIONS),
    ]
    lines = []
    for describe, name, work_file in describers:
        with suppress(*CANNOT_BE_READ):
            lines.append(describe(folder))
            if changes := find_changes(folder / name, folder):
                lines.append(_say_stale(changes, work_file))
    return lines


def _say_stale(changes: dict[str, str], work_file: WorkFile) -> str:
    said = " ".join(changes.values())
    return f"             out of date: {said} Run {work_file.writer} again."


def describe_state(work_dir: str | Path, store_url: str = "") -> str:
    """Say what stands in a work folder, of when, and what to do next.

    Parameters
    ----------
    work_dir
        The work folder, which need not exist.
    store_url
        As in `summarise`.
    """
    folder = Path(work_dir).expanduser()
    lines = summarise(folder, store_url)
    if not lines:
        return f"Nothing is in {folder} yet. Next: {EXPERIMENT.writer}."
    dates = [text for each in STAGES if (text := _say_date(folder / each.name))]
    when = [f"written      {', '.join(dates)}"] if dates else []
    shown = (f"  {line}" for line in (*lines, *when))
    return "\n".join([f"In {folder}:", *shown, _next(folder)])


def _say_date(path: Path) -> str:
    made = str(read_facts(path).get("made_at", ""))
    return f"{path.name} {made[:16].replace('T', ' ')} UTC" if made else ""


def read_facts(path: Path) -> dict[str, Any]:
    """Return the names and values of a JSON file, or the attributes of an HDF5 file."""
    with suppress(*CANNOT_BE_READ):
        if path.suffix == ".json":
            return _read_json(path)
        with open_to_read(path) as file:
            return dict(file.attrs)
    return {}


def _next(folder: Path) -> str:
    for stage in STAGES:
        path = folder / stage.name
        if not path.exists():
            return f"Next: {stage.writer}, which writes {stage.name}."
        if find_changes(path):
            return f"Next: {stage.writer} again."
    more = f", or label what {QUEUE.name} asks for" * (folder / QUEUE.name).exists()
    return f"Everything fits together. Next: hand the selection on{more}."


def _patterns(work_dir: Path) -> str:
    facts = _read_json(work_dir / "experiment.json")
    n_patterns, n_rows, n_columns = facts["shape"]
    return (
        f"patterns     {n_patterns} of {n_rows} × {n_columns} pixels, {facts['unit']}, "
        f"{facts['n_bad_pixels']} bad pixels"
    )


def _hits(work_dir: Path) -> str:
    line = _read_json(work_dir / EXPERIMENT.name)["hit_threshold"]
    with open_to_read(work_dir / MEASUREMENTS.name) as file:
        lit_pixels = file["lit_pixels"][()]
    n_hits = int((lit_pixels > line).sum())
    return f"hits         {n_hits} of {lit_pixels.size} have over {line:.0f} lit pixels"


def _labels(work_dir: Path, store_url: str) -> str:
    from helpers.labels import open_label_store

    facts = _read_json(work_dir / "experiment.json")
    path = work_dir / "labels.sqlite"
    if not store_url:
        path.stat()  # a store that is not there would be made
    stack = facts["fingerprint"], facts["shape"][0]
    try:
        with open_label_store(store_url or path, *stack) as store:
            counts = store.counts()
    except LabelsError as error:
        return f"labels       cannot be read: {error}"
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"labels       {sum(counts.values())}: {words or 'none yet'}"


def _model(work_dir: Path) -> str:
    facts = _read_json(work_dir / "model.json")
    judged = facts["judged"]
    return (
        f"model        {facts['model']}, trained on {facts['n_fitted']} labels, "
        f"judged on {len(judged['index'])} by {judged['by']}"
    )


def _scores(work_dir: Path) -> str:
    metrics = _read_json(work_dir / "model.json")["metrics"]
    scores = [
        f"{name} {metrics[key]['value']:.2f} "
        f"({metrics[key]['low']:.2f}–{metrics[key]['high']:.2f})"
        for key, name in METRICS.items()
    ]
    return f"scores       {', '.join(scores)}"


def _predictions(work_dir: Path) -> str:
    with open_to_read(work_dir / "predictions.h5") as file:
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
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(path)
    return content
