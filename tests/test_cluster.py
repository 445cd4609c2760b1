"""On a cluster every number is the same, whoever does the work and whoever is lost."""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import slurm
import tifffile
from dask import config as dask_config

from helpers import classifier
from helpers.errors import ClusterError, ParameterError, PatternsFileError
from helpers.experiment import make_powder, measure_patterns
from helpers.patterns import Patterns, cluster, open_patterns, scan, use_cluster
from helpers.ranking import METRICS, rank_patterns
from helpers.simulate import write_simulated

ROOT = Path(__file__).parents[1]
SHAPE = (48, 46)
N = 360
PATTERN_BYTES = 4 * SHAPE[0] * SHAPE[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a stack, labels and a trained model."""
    folder = tmp_path_factory.mktemp("run")
    bad_pixels = np.zeros(SHAPE, bool)
    bad_pixels[20:23] = True
    write_simulated(folder / "run.h5", N, seed=3, bad_pixels=bad_pixels)
    patterns = open_patterns(folder / "run.h5")
    words = np.where(np.arange(N) < 150, patterns.true_labels, "")
    split = classifier.split_labels(words, patterns.file_index)
    with pytest.MonkeyPatch.context() as patch:  # nested cross-validation takes long
        patch.setattr("helpers.classifier.training.ENOUGH_TO_TEST", 10)
        classifier.train_model(patterns, split, words, folder)
    return folder


@pytest.fixture
def patterns(folder: Path) -> Iterator[Patterns]:
    with open_patterns(folder / "run.h5") as patterns:
        yield patterns


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PART_BYTES", 10 * PATTERN_BYTES)
    monkeypatch.setattr(scan, "BLOCK_BYTES", 70 * PATTERN_BYTES)
    monkeypatch.setattr(classifier.prediction, "batch_length", lambda _: 64)


@pytest.fixture(scope="module")
def started() -> Iterator[cluster.Cluster]:
    two = cluster.Cluster("local:2")
    yield two
    two.close()


@pytest.fixture
def two_workers(
    started: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> cluster.Cluster:
    """Use two workers, which live on after the test."""
    assert started.is_there()
    monkeypatch.setattr(cluster, "_used", started)
    return started


@contextmanager
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_used", None)
        yield


def measure(patterns: Patterns) -> list[bytes]:
    found = measure_patterns(patterns, 1.0)
    arrays = (found.photons, found.lit_pixels, found.powder, found.spread)
    taken = np.arange(len(patterns)) % 3 > 0
    return [each.tobytes() for each in (*arrays, make_powder(patterns, taken))]


def rank(metric: str) -> Callable[[Patterns], list[bytes]]:
    def rank_by(patterns: Patterns) -> list[bytes]:
        hits = np.flatnonzero(patterns.true_labels == "single")[:12]
        found = rank_patterns(patterns, hits, metric)
        arrays = (found.index, found.distance, found.template, found.angle_deg)
        return [each.tobytes() for each in arrays]

    return rank_by


def predict(folder: Path, out: Path) -> Callable[[Patterns], list[bytes]]:
    def predict_into(patterns: Patterns) -> list[bytes]:
        found = classifier.predict_patterns(patterns, out, folder)
        (out / "predictions.h5").unlink()
        return [found.probability.tobytes(), found.raw.tobytes()]

    return predict_into


@dataclass(frozen=True)
class Die:
    """Ends the process that it is in, `times` times, then returns the sums."""

    folder: Path
    times: int

    def __call__(self, block: np.ndarray) -> np.ndarray:
        for number in range(self.times):
            try:
                (self.folder / f"died-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return np.sqrt(np.abs(block)).sum(axis=(1, 2))


def sums(patterns: Patterns, function: Callable[..., Any]) -> bytes:
    return b"".join(some.tobytes() for _, some in patterns.map(function))


class TestSameBits:
    def test_whether_threads_or_workers(
        self,
        folder: Path,
        tmp_path: Path,
        patterns: Patterns,
        two_workers: cluster.Cluster,
    ) -> None:
        ranks = [rank(metric) for metric in METRICS]
        passes = [measure, *ranks, predict(folder, tmp_path)]
        there = [each(patterns) for each in passes]
        with in_this_process():
            here = [each(patterns) for each in passes]
        assert there == here

    def test_whoever_is_lost_on_the_way(
        self, tmp_path: Path, patterns: Patterns, two_workers: cluster.Cluster
    ) -> None:
        found = sums(patterns, Die(tmp_path, times=2))
        assert (tmp_path / "died-1").exists()
        with in_this_process():
            assert found == sums(patterns, Die(tmp_path, times=0))

    def test_wherever_batches_go_on(
        self, patterns: Patterns, two_workers: cluster.Cluster
    ) -> None:
        def batches(start: int) -> list[tuple[slice, bytes]]:
            found = patterns.map_in_batches(np.copy, np.sum, 64, start=start)
            return [(here, total.tobytes()) for here, total in found]

        for start in (0, 64, 320):
            with in_this_process():
                here = batches(start)
            assert batches(start) == here
            assert [part.start for part, _ in here] == [*range(start, N, 64)]

    def test_a_pass_is_done_by_workers_but_for_what_returns_patterns(
        self, patterns: Patterns, two_workers: cluster.Cluster
    ) -> None:
        by = {pid for _, pid in patterns.map(lambda block: os.getpid())}
        assert os.getpid() not in by
        here = {pid for _, pid in patterns.map(lambda block: os.getpid(), here=True)}
        assert here == {os.getpid()}


@pytest.fixture
def none_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_used", None)


@dataclass(frozen=True)
class SlowToSend:
    """Takes long to be sent, and ends the loop if it is asked for again and again."""

    folder: Path
    here: int

    def __reduce__(self) -> tuple[type, tuple[int]]:
        time.sleep(0.3)
        asked = len(list(self.folder.glob(f"asked-{self.here}-*")))
        if asked == 5:
            message = "asked for too often"
            raise RuntimeError(message)
        (self.folder / f"asked-{self.here}-{asked}").touch()
        return int, (self.here,)


class TestTrouble:
    def test_a_result_that_takes_longer_than_a_tick_arrives(
        self,
        tmp_path: Path,
        two_workers: cluster.Cluster,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(cluster, "TICK_S", 0.05)
        found = two_workers.run_in_order(partial(SlowToSend, tmp_path), range(4))
        assert list(found) == [0, 1, 2, 3]

    def test_what_a_worker_cannot_read(
        self, folder: Path, tmp_path: Path, two_workers: cluster.Cluster
    ) -> None:
        path = tmp_path / "gone.h5"
        path.write_bytes((folder / "run.h5").read_bytes())
        patterns = open_patterns(path)
        patterns.close()
        path.unlink()
        with pytest.raises(PatternsFileError, match=r"gone\.h5: so says the worker on"):
            list(patterns.map(len))

    def test_a_block_that_ends_every_worker(
        self, tmp_path: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = cluster.Cluster("local:1")  # which later tests do without
        monkeypatch.setattr(cluster, "_used", own)
        monkeypatch.setattr(own._owned.scheduler, "allowed_failures", 0)
        with closing(own), pytest.raises(ClusterError, match="lack of memory"):
            list(patterns.map(Die(tmp_path, times=100)))

    def test_other_errors_come_back_as_they_are(
        self, patterns: Patterns, two_workers: cluster.Cluster
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            list(patterns.map(lambda block: 1 // (len(block) - len(block))))

    @pytest.mark.parametrize("name", ["local:0", "locale", "tcp", "slurm:x"])
    def test_no_such_cluster(self, name: str) -> None:
        with pytest.raises(ParameterError, match="expected"):
            use_cluster(name)

    def test_dask_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(ClusterError, match=r"pip install .*\[cluster\]"):
            use_cluster("local")

    def test_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster, "CONNECT_S", 1)
        with pytest.raises(ClusterError, match="no Dask scheduler answers at tcp"):
            use_cluster("tcp://127.0.0.1:9")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a scheduler that can be ended."""
    file = tmp_path / "scheduler.json"
    command = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1")
    options = ("--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    with (tmp_path / "scheduler.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, *options], stdout=log, stderr=log
        )
    while not (file.exists() and file.stat().st_size):
        assert process.poll() is None, (tmp_path / "scheduler.log").read_text()
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"], process
    use_cluster("")
    process.kill()
    process.wait()


@pytest.fixture
def worker(
    scheduler: tuple[str, Any], tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = ("-m", "distributed.cli.dask_worker", scheduler[0], "--no-dashboard")
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--nthreads", "1", "--no-nanny"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    yield process
    process.kill()
    process.wait()


def end_all_jobs() -> None:
    """Cancel the jobs, and wait until they have ended: till then they go on working."""
    subprocess.run(["scancel", "--user", "root"], check=True)
    ask = ["squeue", "--noheader", "--user", "root"]
    while subprocess.run(ask, check=True, capture_output=True).stdout:
        time.sleep(0.1)


def after_two_blocks(patch: pytest.MonkeyPatch, lose: Callable[[], object]) -> None:
    """Fetch results one by one, and lose something after the second."""
    take_first, done = cluster.Cluster._take_first, []

    def take(self: cluster.Cluster, coming: Any) -> list[Any]:
        done.extend(results := take_first(self, coming))
        if len(done) == 2:
            lose()
        return results

    patch.setattr(cluster, "TOGETHER", 1)
    patch.setattr(cluster, "AHEAD", 1)  # most blocks are not sent yet
    patch.setattr(cluster.Cluster, "_take_first", take)


class TestScheduler:
    def test_no_worker_ever_comes(
        self,
        patterns: Patterns,
        scheduler: tuple[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(cluster, "PATIENCE_S", 0.1)
        monkeypatch.setattr(cluster, "TICK_S", 0.1)
        assert "no worker so far" in use_cluster(scheduler[0])
        with pytest.raises(ClusterError, match="has had no worker"):
            list(patterns.map(len))

    def test_a_scheduler_that_goes_away_leaves_what_is_done(  # noqa: PLR0917
        self,
        folder: Path,
        tmp_path: Path,
        patterns: Patterns,
        scheduler: tuple[str, subprocess.Popen[bytes]],
        worker: subprocess.Popen[bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        address, process = scheduler
        expected = predict(folder, tmp_path / "here")(patterns)

        use_cluster(address)

        def lose() -> None:
            process.kill()
            worker.kill()
            process.wait()

        after_two_blocks(monkeypatch, lose)
        with pytest.raises(ClusterError, match="does not answer any more"):
            predict(folder, tmp_path / "there")(patterns)
        left = list((tmp_path / "there").iterdir())
        assert [each.suffix for each in left] == [".part"]
        assert left[0].stat().st_size >= 4 * 64

        use_cluster("")
        assert predict(folder, tmp_path / "there")(patterns) == expected


@pytest.fixture(scope="module")
def slurm_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """Start a SLURM of two nodes, or skip the test where that cannot be."""
    if reason := slurm.why_not():
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with slurm.start(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.mark.slow
class TestSlurm:
    @pytest.fixture(autouse=True)
    def _on_slurm(
        self,
        slurm_environment: dict[str, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[None]:
        settings = {"cores": 1, "memory": "2GB", "walltime": "00:20:00"}
        settings |= {"interface": "lo", "log_directory": str(tmp_path)}
        paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        for name, value in (slurm_environment | paths).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(cluster, "_used", None)
        importlib.import_module("dask_jobqueue")  # brings its defaults
        keys = {f"jobqueue.slurm.{name}": value for name, value in settings.items()}
        with dask_config.set(keys):
            yield
            use_cluster("")

    def test_two_nodes_give_the_same_bits_also_when_a_job_is_cancelled(
        self, folder: Path, tmp_path: Path, patterns: Patterns
    ) -> None:
        passes = [measure, rank("rotation"), rank("article"), predict(folder, tmp_path)]
        here = [each(patterns) for each in passes]
        assert "2 SLURM jobs" in use_cluster("slurm:2")
        assert [each(patterns) for each in passes] == here
        jobs = [each.job_id for each in cluster._used._owned.workers.values()]
        assert len(set(jobs)) == 2
        results, seen = patterns.map(Slow()), []
        for _, some in results:
            seen.append(some.tobytes())
            if len(seen) == 1:
                subprocess.run(["scancel", str(jobs[0])], check=True)
        with in_this_process():
            assert b"".join(seen) == sums(patterns, Slow())

    def test_workers_that_are_killed_are_replaced(
        self, tmp_path: Path, patterns: Patterns
    ) -> None:
        use_cluster("slurm:2")
        found = sums(patterns, Die(tmp_path, times=2))
        assert (tmp_path / "died-1").exists()
        with in_this_process():
            assert found == sums(patterns, Die(tmp_path, times=0))

    def test_a_worker_without_the_file(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "gone.h5"
        path.write_bytes((folder / "run.h5").read_bytes())
        patterns = open_patterns(path)
        patterns.close()
        path.unlink()
        use_cluster("slurm:1")
        with pytest.raises(PatternsFileError, match=r"gone\.h5: so says the worker on"):
            list(patterns.map(len))

    @pytest.mark.parametrize("lost", ["scheduler", "jobs"])
    def test_what_was_predicted_is_kept_when_all_is_lost(
        self,
        folder: Path,
        tmp_path: Path,
        patterns: Patterns,
        monkeypatch: pytest.MonkeyPatch,
        lost: str,
    ) -> None:
        expected = predict(folder, tmp_path / "here")(patterns)
        monkeypatch.setattr(cluster, "PATIENCE_S", 3)
        monkeypatch.setattr(cluster, "FRESH_JOBS", 0)
        use_cluster("slurm:2")
        owned = cluster._used._owned

        def lose() -> None:
            if lost == "scheduler":
                owned.sync(owned.scheduler.close)
            else:
                end_all_jobs()

        there = tmp_path / "there"
        with monkeypatch.context() as losing:
            after_two_blocks(losing, lose)
            with pytest.raises(ClusterError, match=r"run the same step again"):
                predict(folder, there)(patterns)
        (left,) = there.iterdir()
        assert left.suffix == ".part"
        assert left.stat().st_size >= 4 * 64
        use_cluster("")
        use_cluster("slurm:1")
        assert predict(folder, there)(patterns) == expected

    def test_no_configuration(self) -> None:
        unset = {"jobqueue.slurm.cores": None}
        with (
            dask_config.set(unset),
            pytest.raises(ParameterError, match="SLURM jobs are not configured"),
        ):
            use_cluster("slurm:1")


class Slow:
    """Takes a moment for the sums."""

    def __call__(self, block: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return np.sqrt(np.abs(block)).sum(axis=(1, 2))


def write_npy(path: Path, values: np.ndarray) -> None:
    np.save(path, values)


def write_npz(path: Path, values: np.ndarray) -> None:
    np.savez(path, patterns=values)


def write_tiff(path: Path, values: np.ndarray) -> None:
    tifffile.imwrite(path, values, photometric="minisblack")


def write_hdf5(path: Path, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["patterns"] = values


def write_chunked(path: Path, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("patterns", data=values, chunks=(2, 5, 4))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npy", write_npy),
        ("a.npz", write_npz),
        ("a.tif", write_tiff),
        ("a.h5", write_hdf5),
        ("b.h5", write_chunked),
    ],
)
def test_whoever_is_sent_how_to_read_opens_the_file_anew(
    name: str,
    write: Callable[[Path, np.ndarray], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).poisson(3, (9, 5, 4)).astype("f4")
    write(tmp_path / name, values)
    monkeypatch.chdir(tmp_path)
    patterns = open_patterns(name)
    patterns[3]  # something is open
    packed = pickle.dumps(patterns.read_later([3, 1, 8]))
    assert values.tobytes() not in packed
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pickle.loads(packed)(), values[[3, 1, 8]])
