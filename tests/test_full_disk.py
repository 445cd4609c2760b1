"""A disk that becomes full, or may not be written, ends in a clear error.

Every writer of the package writes to a small disk of its own, which only the
administrator can make; nothing half-written may be left there.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from helpers import handoff, labels, report, simulate, templates, training
from helpers.errors import WorkFolderError
from helpers.experiment import measure_patterns, write_experiment
from helpers.labels.queue import write_queue
from helpers.outputs import whole_file, whole_folder, whole_hdf5, write_json
from helpers.patterns import Patterns, open_patterns

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
        split=training.split_labels(words, patterns.groups, seed=1),
        ranking=templates.rank_patterns(patterns, ALL[:4], centre=(31.5, 31.5)),
        selection=handoff.select_patterns(np.ones(N), 0.5, words, np.ones(N)),
    )


def write_long(path: Path) -> None:
    with whole_hdf5(path) as file:
        for number in range(1000):
            file[f"{number}"] = np.random.default_rng(0).random(100)


def write_many(folder: Path) -> None:
    with whole_folder(folder) as temporary:
        for number in range(100):
            (temporary / f"{number}.txt").write_text("x" * 9999)


def write_text(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("x" * 999_999)


WRITERS: dict[str, Callable[[Path, Any], object]] = {
    "text": lambda disk, made: write_text(disk / "a.txt"),
    "folder": lambda disk, made: write_many(disk / "folder"),
    "HDF5": lambda disk, made: write_long(disk / "a.h5"),
    "JSON": lambda disk, made: write_json(disk / "a.json", {"a": "x" * 999_999}),
    "experiment": lambda disk, made: write_experiment(
        disk, made.patterns, made.measured, (1.0, 2.0)
    ),
    "queue": lambda disk, made: write_queue(
        disk, np.arange(20_000), ["uncertain"] * 20_000
    ),
    "clean single hits": lambda disk, made: templates.write_clean_single_hits(
        disk / "clean_single_hits.h5", made.patterns, ALL
    ),
    "ranking": lambda disk, made: templates.write_ranking(
        disk / "ranking.h5", longer(made.ranking)
    ),
    "partition": lambda disk, made: training.write_partition(
        disk / "partition.h5", made.patterns, made.split, made.words
    ),
    "images": lambda disk, made: training.write_images(
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
    "report": lambda disk, made: report.write_report(
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
    with pytest.raises(WorkFolderError, match=r"cannot be written: the disk is full"):
        WRITERS[name](small_disk, made)
    left = [path for path in small_disk.rglob("*") if path.is_file()]
    assert left == []
    for folder in small_disk.iterdir():  # `selection/` and such may have been made
        folder.rmdir()


def test_what_stood_there_before_still_does(small_disk: Path) -> None:
    path = small_disk / "a.h5"
    with whole_hdf5(path) as file:
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
        labels.open_label_store(small_disk / "a.sqlite", "f" * 64, 10**6) as store,
    ):
        store.import_words(np.full(10**6, "single"))
    for path in small_disk.iterdir():
        path.unlink()


@pytest.mark.parametrize("kind", ["mounted read-only", "permission taken"])
def test_folder_that_may_not_be_written(
    kind: str, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "permission taken":
        folder = tmp_path
        folder.chmod(0o555)
        monkeypatch.setattr(os, "open", refuse)
    else:
        folder = small_disk
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    said = "the disk is read-only" if folder == small_disk else "you may not write here"
    try:
        with pytest.raises(WorkFolderError, match=f"cannot be written: {said}"):
            write_json(folder / "a.json", {})
    finally:
        monkeypatch.undo()
        if folder == small_disk:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def refuse(*_: object, **__: object) -> int:
    """Fail as the system does where one may not write."""
    raise PermissionError(13, "Permission denied")


def test_trouble_with_another_file_keeps_its_own_error(tmp_path: Path) -> None:
    elsewhere = PermissionError(13, "Permission denied", "/etc/elsewhere")
    with pytest.raises(PermissionError), whole_file(tmp_path / "a.txt"):
        raise elsewhere


def test_command_line_on_a_full_disk(small_disk: Path, patterns: Patterns) -> None:
    command = ["-m", "helpers", "run", "--patterns", str(patterns.files[0])]
    command += ["--work-dir", str(small_disk / "work"), "--only", "01"]
    ran = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "cannot be written: the disk is full" in ran.stderr
    assert "Traceback" not in ran.stderr
    left = [p for p in small_disk.rglob("*") if p.is_file() and p.name[0] == "."]
    assert left == []
