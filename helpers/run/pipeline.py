"""Run the notebooks one after the other, and say what they found and left."""

import os
import re
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import (
    LabelsError,
    NotebookError,
    ParameterError,
    PatternsFileError,
    WorkFolderError,
)
from helpers.made_from import MODEL_ELSEWHERE, Change, find_changes, shorten
from helpers.outputs import open_to_read
from helpers.patterns import describe_missing_file, match_files
from helpers.run.kernel_host import KernelHost, can_fork, find_imports
from helpers.run.stages import (
    StageBook,
    assign_parameters,
    is_called,
    lock_folder,
    open_labels,
)
from helpers.work_folder import (
    CANNOT_BE_READ,
    EXPERIMENT,
    LABELS_NAME,
    MEASUREMENTS,
    MODEL_METADATA,
    PARTITION,
    PREDICTIONS,
    QUEUE,
    SELECTION,
    STAGES,
    TRACKED,
    read_json,
    read_metadata,
)

if TYPE_CHECKING:
    from helpers.run.execution import Kernels

NOTEBOOKS_DIR = Path(__file__).parents[2] / "notebooks"
REPORTS_NAME = "reports"
REPORT_NAME = "report.html"
HALF_WRITTEN = re.compile(r"\..+-[a-z0-9_]{8}\.(ipynb|html)")  # by atomic_write
SKIPPED = "skipped, since nothing that it depends on has changed (--force runs it)"
SHOWN_METRICS = {"precision": "precision", "recall": "recall", "f1": "F1"}
WRITERS = {each.name: each.writer for each in TRACKED}
LONGEST_LINE = 80  # of what is said about changes

Stale = dict[str, dict[str, Change]]  # what has changed, by the names of files
Counts = Mapping[str, int] | Exception  # of labels by word, or why they are not known


@dataclass(frozen=True)
class PipelineRun:
    """What a run of the notebooks left behind.

    Attributes
    ----------
    notebooks
        The executed copies in `reports/`, in order.
    report
        The HTML report of all of them.
    """

    notebooks: tuple[Path, ...]
    report: Path


def run_notebooks(
    patterns_files: str | Path | Sequence[str | Path],
    work_dir: str | Path,
    labels_file: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    notebooks_dir: str | Path | None = None,
    force: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> PipelineRun:
    """Run the notebooks in order; keep executed copies and one HTML report.

    A notebook is skipped where all that it depends on (patterns, parameters, labels,
    files of earlier notebooks, itself and this package) and all that it wrote are as
    they were.

    Parameters
    ----------
    patterns_files, work_dir, labels_file
        One or several files of patterns, `*` and `?` allowed; the work folder; a CSV
        file.
    parameters
        Further values by parameter name. Each notebook gets those that it knows, or one
        alone if its name stands before, as in "rank.n_shown"; a string is read as the
        type that the notebook gives the parameter.
    only, notebooks_dir
        Names or numbers of the notebooks to run, such as ("rank", "05"); where they
        lie.
    force
        True runs also what need not run again.
    log
        Called with a line of text whenever a notebook has ended.

    Raises
    ------
    ParameterError, PatternsFileError, LabelsError, WorkFolderError
        If something cannot be used; nothing has run then.
    NotebookError
        If a notebook stops; its executed copy and the report are written nevertheless.
    """
    every = find_notebooks(notebooks_dir or NOTEBOOKS_DIR)
    chosen = _choose(every, only)
    files = _runner_parameters(patterns_files, work_dir, labels_file)
    assigned = assign_parameters(chosen, files, parameters or {})
    if "KERAS_BACKEND" in os.environ:  # to say so before an hour of work
        from helpers.classifier import check_backend

        check_backend()
    reports = _make_reports_folder(work_dir)
    with (
        lock_folder(reports.parent, log),
        _passing_password(assigned),
        ExitStack() as stack,
    ):
        _sweep(reports)
        book = StageBook(reports.parent, reports, every)
        kernels: Kernels | None = None
        try:
            for notebook, values in zip(chosen, assigned, strict=True):
                why = "" if force else book.why_run(notebook, values)
                if why is None:
                    _log_end(log, notebook, SKIPPED, book.warnings_of(notebook))
                    continue
                if why:
                    log(f"{notebook.stem}: runs again, since this has changed: {why}")
                kernels = kernels or stack.enter_context(_start(chosen, notebook))
                (reports / notebook.name).unlink(missing_ok=True)
                _remove_later(notebook, every, chosen, reports)
                started = time.monotonic()
                book.begin(notebook, values)
                warned = kernels.execute(notebook, reports / notebook.name, values)
                book.finish(notebook, values, warned)
                done = f"done in {_duration(time.monotonic() - started)}"
                _log_end(log, notebook, done, warned)
        except NotebookError:
            _remove_later(notebook, every, (), reports)
            with suppress(WorkFolderError):  # a full disk is said already
                _write_report(every, reports)
            raise
        return _write_report(every, reports, anew=kernels is not None)


def _start(chosen: Sequence[Path], first: Path) -> "Kernels":
    """Start what runs notebooks; importing that, and what they need, is slow."""
    host = KernelHost(find_imports(first)) if can_fork() else None
    from helpers.run.execution import Kernels

    return Kernels(chosen, host)


@contextmanager
def _passing_password(assigned: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Give kernels the password of a store by the environment, not by a parameter.

    Parameters stand in executed notebooks, for everybody to read.
    """
    from helpers.labels import PASSWORD_VARIABLE, split_password

    before = os.environ.get(PASSWORD_VARIABLE)
    for values in assigned:
        if url := values.get("store_url"):
            values["store_url"], password = split_password(url)
            if password:
                os.environ[PASSWORD_VARIABLE] = password
    try:
        yield
    finally:
        os.environ.pop(PASSWORD_VARIABLE, None)
        if before is not None:
            os.environ[PASSWORD_VARIABLE] = before


def _sweep(reports: Path) -> None:
    """Remove what a run left that was killed while it wrote."""
    for path in reports.glob(".*"):
        if HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _log_end(
    log: Callable[[str], None], notebook: Path, how: str, warned: Sequence[str]
) -> None:
    log(f"{notebook.stem}: {how}")
    for warning in warned:
        log(f"  Warning: {warning}")


def find_notebooks(notebooks_dir: str | Path) -> list[Path]:
    """Return the notebooks that form the pipeline, in the order of their numbers.

    Parameters
    ----------
    notebooks_dir
        Where they lie; two digits and a dash begin their names.

    Raises
    ------
    ParameterError
        If there are none, or a name has letters that this system cannot read.
    """
    folder = Path(notebooks_dir).expanduser().absolute()
    found = sorted(folder.glob("[0-9][0-9]-*.ipynb"))
    if not found:
        message = (
            f"{folder} holds no notebooks; expected names like 01-inspect.ipynb. "
            "Run from a clone of the repository, installed with pip install --editable."
        )
        raise ParameterError(message)
    for each in found:
        _check_letters(each)
    return found


def _choose(notebooks: Sequence[Path], only: Sequence[str]) -> list[Path]:
    names = ", ".join(each.stem for each in notebooks)
    for name in only:
        if not any(is_called(each, name) for each in notebooks):
            message = f"No notebook is called {name}. There are {names}."
            raise ParameterError(message)
    return [e for e in notebooks if not only or any(is_called(e, n) for n in only)]


def _runner_parameters(
    patterns_files: str | Path | Sequence[str | Path],
    work_dir: str | Path,
    labels_file: str | Path | None,
) -> dict[str, Any]:
    """Return the parameters that the runner itself gives; all paths absolute."""
    if isinstance(patterns_files, str | Path):
        patterns_files = [patterns_files]
    for each in (*patterns_files, work_dir, labels_file or ""):
        _check_letters(each)
    patterns = [_patterns_path(each) for each in patterns_files]
    return {
        "patterns_file": patterns[0] if len(patterns) == 1 else patterns,
        "work_dir": str(Path(work_dir).expanduser().absolute()),
        # "" too must be given: the notebook's own value is the example's labels
        "labels_file": _labels_path(labels_file) if labels_file else "",
    }


def _check_letters(path: str | Path) -> None:
    """Refuse a name that cannot be written into a notebook, which is UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        message = (
            f"{str(path)!a}: some of its letters are not known in the encoding "
            "of this terminal, which is not that of the name. Give the file or folder "
            "another name, or set LC_ALL=C.UTF-8."
        )
        raise ParameterError(message) from error


def _patterns_path(path: str | Path) -> str:
    path = Path(path).expanduser().absolute()
    if not any(each.exists() for each in match_files(path)):
        raise PatternsFileError(path, [describe_missing_file(path)])
    return str(path)


def _labels_path(path: str | Path) -> str:
    path = Path(path).expanduser().absolute()
    if not path.exists():
        message = f"{path}: {describe_missing_file(path)}"
        raise LabelsError(message)
    return str(path)


def _make_reports_folder(work_dir: str | Path) -> Path:
    """Make the work folder and `reports/` in it, before hours go into filling them."""
    reports = Path(work_dir).expanduser().absolute() / REPORTS_NAME
    try:
        # a link that leads nowhere yet gets its folder where it leads
        Path(os.path.realpath(reports)).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=reports):
            return reports
    except OSError as error:
        message = (
            f"{reports} cannot be made or written to ({error.strerror}). "
            "Give a --work-dir where you may write."
        )
        raise WorkFolderError(message) from error


def _remove_later(
    notebook: Path, every: Sequence[Path], kept: Sequence[Path], reports: Path
) -> None:
    """Remove executed copies of later notebooks, out of date once `notebook` runs.

    Those that are `kept` will be looked at in turn.
    """
    for each in every[every.index(notebook) + 1 :]:
        if each not in kept:
            (reports / each.name).unlink(missing_ok=True)


def _write_report(
    every: Sequence[Path], reports: Path, *, anew: bool = True
) -> PipelineRun:
    """Put all executed copies that there are into the report."""
    from helpers.run.execution import write_report  # slow to import

    copies = [reports / notebook.name for notebook in every]
    executed = tuple(copy for copy in copies if copy.exists())
    report = reports / REPORT_NAME
    if anew or not report.exists():
        write_report(executed, report)
    return PipelineRun(executed, report)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def summarise(work_dir: str | Path, store_url: str = "") -> list[str]:
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
    return _summarise(folder, _count_labels(folder, store_url), _find_stale(folder))


def _summarise(folder: Path, counts: Counts, stale: Stale) -> list[str]:
    describers: dict[str, tuple[str, Callable[[Path], str]]] = {
        "patterns": (EXPERIMENT.name, _describe_patterns),
        "labels": (LABELS_NAME, lambda _: _describe_labels(counts)),
        "hits": (MEASUREMENTS.name, _describe_hits),
        "model": (MODEL_METADATA.name, _describe_model),
        "scores": (MODEL_METADATA.name, _describe_scores),
        "predictions": (PREDICTIONS.name, _describe_predictions),
        "selection": (SELECTION.name, _describe_selection),
    }
    lines = []
    for head, (name, describe) in describers.items():
        with suppress(*CANNOT_BE_READ):
            said = describe(folder) + " (out of date)" * (name in stale)
            lines += _list_under(head, [said])
    return [*lines, *_describe_stale(stale)]


def _list_under(head: str, lines: Sequence[str]) -> list[str]:
    """Put a word before the first of some lines, and room before the others."""
    return [f"{'' if i else head:13}{line}" for i, line in enumerate(lines)]


def _find_stale(folder: Path) -> Stale:
    """Return what makes each file out of date, by its name, in the order of a run."""
    found = {name: find_changes(folder / name, folder) for name in WRITERS}
    return {name: changes for name, changes in found.items() if changes}


def _describe_stale(stale: Stale) -> list[str]:
    """Say once what has changed, for all files that it makes out of date."""
    reasons: dict[str, list[str]] = {}
    for name, changes in stale.items():
        for each in changes.values():
            now = f"{each.describe_source()}: {shorten(each.now)} now."
            before = f"Made from {shorten(each.before)}:"
            said = " ".join(filter(None, (now, each.explain(), before)))
            reasons.setdefault(said, []).append(name)
    told = [f"{said} {_enumerate(names)}." for said, names in reasons.items()]
    if stale:
        told.append(f"Run {_enumerate([WRITERS[name] for name in stale])} again.")
    lines = [line for text in told for line in textwrap.wrap(text, LONGEST_LINE)]
    return _list_under("out of date", lines)


def _enumerate(names: Sequence[str]) -> str:
    """Return each name once, as in "a, b and c"."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last


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
    counts = _count_labels(folder, store_url)
    stale = _find_stale(folder)
    lines = _summarise(folder, counts, stale)
    if not lines:
        return f"Nothing is in {folder} yet. Next: {EXPERIMENT.writer}."
    written = [
        f"{each.name} {made_at[:16].replace('T', ' ')} UTC"
        for each in STAGES
        if (made_at := str(read_metadata(folder / each.name).get("made_at", "")))
    ]
    shown = (f"  {line}" for line in (*lines, *_list_under("written", written)))
    return "\n".join([f"In {folder}:", *shown, _next(folder, stale, counts)])


def _next(folder: Path, stale: Stale, counts: Counts) -> str:
    needed = {stage.name for stage in STAGES}
    if read_metadata(folder / PREDICTIONS.name).get(MODEL_ELSEWHERE):  # of a beamtime
        needed = {EXPERIMENT.name, PREDICTIONS.name}
    for name, writer in WRITERS.items():
        if name in needed and not (folder / name).exists():
            if name == PARTITION.name and not _may_have_labels(counts):
                return "Next: 03-label, since no pattern has a label yet."
            return f"Next: {writer}, which writes {name}."
        if name in stale:
            return f"Next: {writer} again."
    more = f", or label what {QUEUE.name} asks for" * (folder / QUEUE.name).exists()
    return f"Everything fits together. Next: hand the selection on{more}."


def _describe_patterns(work_dir: Path) -> str:
    metadata = read_json(work_dir / EXPERIMENT.name)
    n_patterns, n_rows, n_columns = metadata["shape"]
    return (
        f"{n_patterns} of {n_rows} × {n_columns} pixels, {metadata['unit']}, "
        f"{metadata['n_bad_pixels']} bad pixels"
    )


def _describe_hits(work_dir: Path) -> str:
    line = read_json(work_dir / EXPERIMENT.name)["hit_threshold"]
    with open_to_read(work_dir / MEASUREMENTS.name) as file:
        lit_pixels, none = file["lit_pixels"][()], file["no_measurement"][()]
    n_hits = int(((lit_pixels > line) & (none == 0)).sum())
    return f"{n_hits} of {lit_pixels.size} have over {line:.0f} lit pixels"


def _describe_labels(counts: Counts) -> str:
    if isinstance(counts, LabelsError):
        return f"cannot be read: {counts}"
    if isinstance(counts, Exception):
        raise counts
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{sum(counts.values())}: {words or 'none yet'}"


def _count_labels(work_dir: Path, store_url: str) -> Counts:
    """Ask the label store once: a server that does not answer is waited for."""
    try:
        with open_labels(work_dir, store_url) as store:
            return store.counts()
    except CANNOT_BE_READ as error:
        return error


def _may_have_labels(counts: Counts) -> bool:
    """Tell whether there is a label; yes where a store cannot be read."""
    if isinstance(counts, Exception):
        return not isinstance(counts, FileNotFoundError)
    return any(counts.values())


def _describe_model(work_dir: Path) -> str:
    metadata = read_json(work_dir / MODEL_METADATA.name)
    judged = metadata["judged"]
    return (
        f"{metadata['model']}, trained on {metadata['n_fitted']} labels, "
        f"judged on {len(judged['index'])} by {judged['by']}"
    )


def _describe_scores(work_dir: Path) -> str:
    metrics = read_json(work_dir / MODEL_METADATA.name)["metrics"]
    scores = [
        f"{name} {metrics[key]['value']:.2f} "
        f"({metrics[key]['low']:.2f}–{metrics[key]['high']:.2f})"
        for key, name in SHOWN_METRICS.items()
    ]
    return ", ".join(scores)


def _describe_predictions(work_dir: Path) -> str:
    with open_to_read(work_dir / PREDICTIONS.name) as file:
        predictions = file["predictions"][()]
        threshold = float(file.attrs["threshold"])
    n_single = int((predictions >= threshold).sum())
    return (
        f"{n_single} of {predictions.size} patterns are single with "
        f"probability {threshold:.2f} or more"
    )


def _describe_selection(work_dir: Path) -> str:
    path = work_dir / "selection" / "selection.txt"
    n_selected = len(path.read_text(encoding="ascii").split())
    return f"{n_selected} patterns, listed in {path}"
