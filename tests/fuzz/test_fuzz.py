"""Damaged files end in a clear error, or open: a bounded run of `make fuzz`."""

from pathlib import Path

import pytest
from fuzz import run
from fuzz.run import SEEDS, Counts, Worker, fuzz


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        *(("hdf5", 150), ("emc", 250), ("npy", 150), ("tif", 60)),
        *(("csv", 500), ("json", 120)),
    ],
)
def test_damaged_files_are_reported_clearly(kind: str, n: int) -> None:
    counts = fuzz(kind, seed=1, n=n)
    assert counts.outcomes.total() == n
    assert counts.outcomes["opened"] > 0
    assert counts.outcomes["clear error"] > 0
    assert [(outcome, said) for outcome, _, said in counts.bad] == []


def test_every_kind_is_in_the_bounded_run() -> None:
    assert set(SEEDS) == {"hdf5", "emc", "npy", "tif", "csv", "json"}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import os; os.abort()", "crash"),
        ("input(); input()", "hang"),
        ('input(); print(\'["opened", ""]\', flush=True)', "opened"),
    ],
)
def test_worker_that_crashes_or_hangs_is_survived(
    code: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(code)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "PATIENCE", 5.0 if outcome != "hang" else 0.5)
    worker = Worker("hdf5")
    assert worker.open(tmp_path / "a.h5")[0] == outcome
    worker.stop()


def test_what_came_to_no_good_is_kept(tmp_path: Path) -> None:
    counts = Counts("emc", bad=[("unclear error", b"\1\2", "KeyError: 'a'")])
    run.keep(counts, tmp_path / "bad")
    assert (tmp_path / "bad" / "emc-unclear-error-0.bin").read_bytes() == b"\1\2"
    assert "KeyError" in (tmp_path / "bad" / "emc-unclear-error-0.txt").read_text()
