"""What each stage left in a work folder, and whether it has to run again.

`stages.json` in the work folder keeps, for each notebook, a short text for everything
that it depended on and for everything that it wrote. Values of parameters are kept as
digests: an address of a database may hold a password.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from helpers import __version__
from helpers.errors import HelpersError, LabelsError, WorkFolderError
from helpers.made_from import digest, find_changes
from helpers.outputs import open_to_read, write_json
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
        lit_pixels, none = file["lit_pixels"][()], file["no_measurement"][()]
    n_hits = int(((lit_pixels > line) & (none == 0)).sum())
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


BOOK_NAME = "stages.json"
LABELS_NAME = "labels.sqlite"
LABELS = "the labels"
IMPORTS_LABELS = "labels_file"
CLUSTER = "cluster"
READS_LABELS = (IMPORTS_LABELS, "store_url")  # parameters of notebooks that do

Marks = dict[str, str]


class StageBook:
    """The record of the notebooks that were run in a work folder.

    Parameters
    ----------
    work_dir
        The work folder.
    reports
        Its folder of executed copies.
    every
        All notebooks of the pipeline, in order.
    """

    def __init__(self, work_dir: Path, reports: Path, every: Sequence[Path]) -> None:
        self._work_dir = work_dir
        self._reports = reports
        self._every = [notebook.name for notebook in every]
        self._book = _read_book(work_dir / BOOK_NAME)
        self._before: Marks = {}
        self._depends_on: Marks = {}

    def why_run(self, notebook: Path, values: Mapping[str, Any]) -> str | None:
        """Say why a notebook has to run, "" if it never did; None: it need not.

        Parameters
        ----------
        notebook
            Its path.
        values
            Its parameters.
        """
        stage = self._book.get(notebook.name)
        if stage is None or not (self._reports / notebook.name).exists():
            return ""
        now = self._find_dependencies(notebook, values)
        before = stage["depends_on"]
        changed = [name for name, mark in now.items() if before.get(name) != mark]
        wrote: Marks = stage["wrote"]
        there = _mark_files(self._work_dir)
        changed += [name for name, mark in wrote.items() if there.get(name) != mark]
        return ", ".join(dict.fromkeys(changed)) or None

    def warnings_of(self, notebook: Path) -> list[str]:
        """Return the warnings that a notebook showed when it ran."""
        return list(self._book[notebook.name]["warnings"])

    def begin(self, notebook: Path, values: Mapping[str, Any]) -> None:
        """Forget a notebook that is about to run, and see what it will depend on."""
        self._book.pop(notebook.name, None)
        self._write()
        self._before = _mark_files(self._work_dir)
        self._depends_on = self._find_dependencies(notebook, values)

    def finish(
        self, notebook: Path, values: Mapping[str, Any], warnings: Sequence[str]
    ) -> None:
        """Keep what a notebook depended on and wrote, once it has ended well."""
        now = _mark_files(self._work_dir)
        wrote = {k: mark for k, mark in now.items() if self._before.get(k) != mark}
        for stage in self._book.values():  # a file belongs to who wrote it last
            for name in wrote:
                stage["wrote"].pop(name, None)
        if IMPORTS_LABELS in values:  # it is not to run again for what it brought in
            self._depends_on[LABELS] = _mark_labels(self._work_dir, values)
        self._book[notebook.name] = {
            "depends_on": self._depends_on,
            "wrote": wrote,
            "warnings": list(warnings),
        }
        self._write()

    def _write(self) -> None:
        write_json(self._work_dir / BOOK_NAME, self._book)

    def _find_dependencies(self, notebook: Path, values: Mapping[str, Any]) -> Marks:
        found = {
            "the notebook": _digest_notebook(notebook),
            "the package": _digest_package(),
        }
        for name, value in values.items():
            if name == CLUSTER:  # wherever work is done, results are the same
                continue
            marks = [] if name == "work_dir" else _mark_paths(value)
            found[name] = digest(json.dumps([value, *marks]).encode())
        if any(name in values for name in READS_LABELS):
            found[LABELS] = _mark_labels(self._work_dir, values)
        there = _mark_files(self._work_dir)
        place = self._every.index(notebook.name)
        for earlier in self._every[:place]:
            for name in self._book.get(earlier, {}).get("wrote", {}):
                found[name] = there.get(name, "")
        return found


def _read_book(path: Path) -> dict[str, Any]:
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: stage
            for name, stage in book.items()
            if {"depends_on", "wrote", "warnings"} <= stage.keys()
        }
    except (OSError, ValueError, AttributeError):
        return {}


def _mark_files(work_dir: Path) -> Marks:
    """Return a mark for each file and folder of a work folder that notebooks write."""
    left_out = ("reports", LABELS_NAME, BOOK_NAME)
    return {
        path.name: _mark(path)
        for path in sorted(work_dir.iterdir())
        if not path.name.startswith((".", *left_out))
    }


def _mark(path: Path) -> str:
    """Return a text that changes when a file does, or any in a folder; "" of none."""
    try:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file()]
            marks = [[str(p.relative_to(path)), _mark(p)] for p in inside]
            return digest(json.dumps(marks).encode())
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _mark_paths(value: Any) -> Iterator[str]:
    """Give the marks of the files that a parameter names."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and os.sep in each and "://" not in each:
            named = each.rsplit(":/", 1)[0]  # a dataset in a file
            found = [Path(each), Path(named), *_find_matches(Path(each))]
            yield from (_mark(path) for path in dict.fromkeys(found))


def _find_matches(path: Path) -> list[Path]:
    is_pattern = any(sign in path.name for sign in "*?[")
    return sorted(path.parent.glob(path.name)) if is_pattern else []


def _mark_labels(work_dir: Path, values: Mapping[str, Any]) -> str:
    from helpers.labels import open_label_store

    place = values.get("store_url") or work_dir / LABELS_NAME
    with suppress(HelpersError, OSError, LookupError, ValueError):
        if isinstance(place, Path):
            place.stat()  # a store that is not there would be made
        path = work_dir / "experiment.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        with open_label_store(place, facts["fingerprint"], facts["shape"][0]) as store:
            told = [str(event) for event in store.history()]
        return digest(json.dumps(told).encode())
    return "unknown"


def _digest_notebook(notebook: Path) -> str:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    sources = [
        [cell["cell_type"], "".join(cell["source"])] for cell in content["cells"]
    ]
    return digest(json.dumps(sources).encode())


@cache
def _digest_package() -> str:
    """Return a text that changes with the package, also where that is being written."""
    folder = Path(__file__).parents[1]
    files = sorted(path for path in folder.rglob("*.py"))
    return digest(b"".join([__version__.encode(), *(p.read_bytes() for p in files)]))


@contextmanager
def claim_folder(work_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other runs out of a work folder while the block runs.

    The system lets go of it with the process, however that ends.

    Parameters
    ----------
    work_dir
        The work folder.
    say
        Called with a line of text where the disk has no locks to give.

    Raises
    ------
    WorkFolderError
        If another run works there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(work_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        message = (
            f"{work_dir} is in use by another run. Two runs in one work folder would "
            "overwrite each other's files. Wait until it has ended, or give another "
            "--work-dir."
        )
        raise WorkFolderError(message) from error
    except OSError:
        say(f"  {work_dir} has no locks: start no second run in it.")
    try:
        yield
    finally:
        os.close(folder)
