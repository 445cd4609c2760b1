"""A disk that becomes full, or may not be written, ends in a clear error.

Every writer of the package writes to a small disk of its own, which only the
administrator can make; nothing half-written may be left there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from helpers import classifier, handoff, labels, simulate
from helpers.classifier import prediction
from helpers.errors import WorkFolderError
from helpers.experiment import measure_patterns, write_experiment
from helpers.labels.label_csv import write_queue
from helpers.outputs import atomic_folder, atomic_hdf5, atomic_write, write_json
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import rank_patterns, write_clean_single_hits, write_ranking
from helpers.run import execution

N, FRAME = 40, (64, 64)
ROOM = 64 * 1024
ALL = np.arange(N)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a disk of 64 KiB."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid():
        pytest.skip("only the administrator can mount a small disk")
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Patterns:
    path = tmp_path_factory.mktemp("patterns") / "run.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["patterns"] = rng.poisson(3, (N, *FRAME)).astype("u2")
    return open_patterns(path)


@pytest.fixture(scope="module")
def made(patterns: Patterns) -> Any:
    """Return what the writers are given."""
    words = np.array(["single", "other"] * (N // 2))
    return SimpleNamespace(
        patterns=patterns,
        measured=measure_patterns(patterns, 1),
        words=words,
        split=classifier.split_labels(words, patterns.file_index, seed=1),
        ranking=rank_patterns(patterns, ALL[:4], centre=(31.5, 31.5)),
        selection=handoff.select_patterns(np.ones(N), 0.5, words, np.ones(N)),
    )


def write_long(path: Path) -> None:
    with atomic_hdf5(path) as file:
        for number in range(1000):
            file[f"{number}"] = np.random.default_rng(0).random(100)


def write_many(folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        for number in range(100):
            (temporary / f"{number}.txt").write_text("x" * 9999)


def write_text(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("x" * 999_999)


def write_copy(path: Path) -> None:
    source = path.parents[1] / "source.txt"
    source.write_text("x" * 999_999)
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


FACTS = {"experiment": "amo86615", "run": 182}  # what one of the formats asks for

WRITERS: dict[str, Callable[[Path, Any], object]] = {
    "text": lambda disk, made: write_text(disk / "a.txt"),
    "copy": lambda disk, made: write_copy(disk / "a.txt"),
    "folder": lambda disk, made: write_many(disk / "folder"),
    "HDF5": lambda disk, made: write_long(disk / "a.h5"),
    "JSON": lambda disk, made: write_json(disk / "a.json", {"a": "x" * 999_999}),
    "experiment": lambda disk, made: write_experiment(
        disk, made.patterns, made.measured, (1.0, 2.0)
    ),
    "queue": lambda disk, made: write_queue(
        disk, np.arange(20_000), ["uncertain"] * 20_000
    ),
    "clean single hits": lambda disk, made: write_clean_single_hits(
        disk / "clean_single_hits.h5", made.patterns, ALL
    ),
    "ranking": lambda disk, made: write_ranking(
        disk / "ranking.h5", longer(made.ranking)
    ),
    "partition": lambda disk, made: classifier.write_partition(
        disk / "partition.h5", made.patterns, made.split, made.words
    ),
    "images": lambda disk, made: classifier.write_images(
        disk / "images", made.patterns, made.split, made.words
    ),
    "simulated": lambda disk, made: simulate.write_simulated(
        disk / "simulated.h5",
        N,
        1,
        detector=simulate.Detector.of_shape(FRAME),
        bad_pixels=np.zeros(FRAME, bool),
    ),
    **{
        f"handoff {name}": lambda disk, made, name=name: handoff.write_handoff(
            disk, name, made.patterns, made.selection, made.words
        )
        for name in ("emc", "dragonfly-h5", "cxi")
    },
    "report": lambda disk, made: execution.write_report(
        [write_notebook(disk.parent / "big.ipynb")], disk / "report.html"
    ),
}


def longer(ranking: Any) -> Any:
    """Return a ranking as of a long run."""
    n = 20_000
    parts = {
        name: np.resize(value, n)
        for name, value in vars(ranking).items()
        if isinstance(value, np.ndarray)
    }
    return type(ranking)(**{**vars(ranking), **parts})


def write_notebook(path: Path) -> Path:
    import nbformat

    cells = [nbformat.v4.new_markdown_cell("x" * 999_999)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk(name: str, small_disk: Path, made: Any) -> None:
    with pytest.raises(WorkFolderError, match=r"the disk is full \(0\.\d MiB are free"):
        WRITERS[name](small_disk, made)
    left = [path for path in small_disk.rglob("*") if path.is_file()]
    assert left == []
    for folder in small_disk.iterdir():  # `selection/` and such may have been made
        folder.rmdir()


def test_disk_without_any_room(small_disk: Path, made: Any) -> None:
    """The small formats too, of which a few bytes are the whole file."""
    (small_disk / "selection").mkdir()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    left = {}
    full = pytest.raises(WorkFolderError, match="cannot be written: the disk is full")
    for name in handoff.FORMATS:
        with full:
            handoff.write_handoff(
                small_disk, name, made.patterns, made.selection, made.words, **FACTS
            )
        left[name] = {
            str(each.relative_to(small_disk)) for each in small_disk.rglob("*")
        }
    filler.unlink()
    (small_disk / "selection").rmdir()
    assert left == {name: {"filler", "selection"} for name in handoff.FORMATS}


def test_full_disk_while_predicting(
    small_disk: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is kept in whole batches, to go on from there."""
    block = np.zeros(3 * ROOM // 4 // 4, np.float32)
    monkeypatch.setattr(prediction, "batch_length", lambda _: N // 2)
    monkeypatch.setattr(prediction, "KerasOutputs", lambda _: lambda inputs: block)
    network = SimpleNamespace(
        input_shape=(1,), make_inputs=lambda some: np.zeros((len(some), 1), np.float32)
    )
    model = SimpleNamespace(network=network, keras_model=None)
    part = small_disk / ".predictions-x.part"
    with pytest.raises(WorkFolderError, match="cannot be written: the disk is full"):
        prediction._predict_rest(part, model, patterns)
    kept = np.fromfile(part, np.float32)
    part.unlink()
    assert kept.size >= block.size


def test_what_stood_there_before_still_does(small_disk: Path) -> None:
    path = small_disk / "a.h5"
    with atomic_hdf5(path) as file:
        file["x"] = 1
    with pytest.raises(WorkFolderError):
        write_long(path)
    with h5py.File(path) as file:
        assert list(file) == ["x"]
    path.unlink()


def test_full_disk_of_the_label_store(small_disk: Path) -> None:
    from helpers.errors import LabelsError

    with (
        pytest.raises(LabelsError),
        labels.open_label_store(small_disk / "a.sqlite", "f" * 64, 20_000) as store,
    ):
        store.import_words(np.full(20_000, "single"))
    for path in small_disk.iterdir():
        path.unlink()


@pytest.mark.parametrize("kind", ["mounted read-only", "permission taken"])
def test_folder_that_may_not_be_written(
    kind: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "permission taken":
        tmp_path.chmod(0o555)
        monkeypatch.setattr(os, "open", refuse)
        check_refusal(tmp_path, "you may not write here")
    else:
        with read_only(small_disk):
            check_refusal(small_disk, "the disk is read-only")


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Let nothing be written on a disk for a while."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def check_refusal(folder: Path, why: str) -> None:
    with pytest.raises(WorkFolderError, match=f"cannot be written: {why}\\. Nothing"):
        write_json(folder / "a.json", {})


def refuse(*_: object, **__: object) -> int:
    """Fail as the system does where one may not write."""
    raise PermissionError(13, "Permission denied")


def test_trouble_with_another_file_keeps_its_own_error(tmp_path: Path) -> None:
    elsewhere = PermissionError(13, "Permission denied", "/etc/elsewhere")
    with pytest.raises(PermissionError), atomic_write(tmp_path / "a.txt"):
        raise elsewhere


def run_on(disk: Path, patterns: Patterns) -> str:
    """Run the first notebook; return what is said when it cannot write."""
    command = ["-m", "helpers", "run", "--patterns", str(patterns.files[0])]
    command += ["--work-dir", str(disk / "work"), "--only", "01"]
    ran = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    left = [p for p in disk.rglob("*") if p.is_file() and p.name[0] == "."]
    assert left == []
    return ran.stderr


def test_command_line_on_a_full_disk(small_disk: Path, patterns: Patterns) -> None:
    said = run_on(small_disk, patterns)
    assert "cannot be written: the disk is full" in said


def test_command_line_on_a_read_only_disk(small_disk: Path, patterns: Patterns) -> None:
    (small_disk / "work" / "reports").mkdir(parents=True, exist_ok=True)
    with read_only(small_disk):
        said = run_on(small_disk, patterns)
    assert said == (
        f"{small_disk}/work/reports cannot be made or written to (Read-only file "
        "system). Give a --work-dir where you may write.\n"
    )
