"""Where loops over patterns run: in threads of this process, or on a Dask cluster.

Workers open the files themselves and send back what was made of the patterns, never the
patterns. Work is sent in blocks that depend on the stack alone; whoever does them, in
whatever order, their results are put together in the order of the stack.
"""

import atexit
import hashlib
import logging
import os
import pickle
import re
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice, takewhile
from typing import Any, TypeVar

from helpers.errors import ClusterError, ParameterError, PatternsFileError

Task = TypeVar("Task")
Result = TypeVar("Result")

EXPECTED = '"", "local", "local:4", "tcp://HOST:PORT", "slurm" or "slurm:20"'
INSTALL = 'pip install "single-hits[cluster]"'
AHEAD = 3  # blocks for each thread of a worker: one under way, others wait for it
TOGETHER = 16  # results that are fetched at once: a trip costs more than they do
TICK_S = 2.0  # how often is asked whether everyone is still there
PATIENCE_S = 120.0  # that no worker may be there and none is expected, or one be mute
CONNECT_S = 20
REMEMBERED = {"distributed": {"admin": {"low-level-log-length": 20}}}  # messages
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
USUAL_JOBS = 4
FRESH_JOBS = 5  # for each job, in place of those that ended
GONE = "What was finished is kept: run the same step again, and it goes on from there."


def use_cluster(cluster: str = "") -> str:
    """Choose where loops over patterns run from now on, in all of this process.

    Parameters
    ----------
    cluster
        "": threads of this process. "local" or "local:4": so many processes on this
        machine. "tcp://HOST:PORT": the workers of a Dask scheduler that runs already.
        "slurm" or "slurm:20": so many SLURM jobs, as Dask's own configuration
        describes them; see `docs/cluster.md`.

    Returns
    -------
    str
        Where that is, in a sentence.

    Raises
    ------
    ParameterError
        If it is none of these, or SLURM jobs are not configured.
    ClusterError
        If Dask is not installed, or nothing answers.
    """
    global _used  # noqa: PLW0603  (one for the process, as its threads are)
    if not re.fullmatch(r"|tcp://.+|(local|slurm)(:[1-9]\d*)?", cluster):
        message = f"cluster is {cluster!r}; expected {EXPECTED}."
        raise ParameterError(message)
    with _choosing:
        if _used is not None and _used.name == cluster and _used.is_there():
            return _used.describe()
        if _used is not None:
            _used.close()
            _used = None
        if not cluster:
            return "Patterns are worked on in this process."
        _used = Cluster(cluster)
        return _used.describe()


def used_cluster() -> "Cluster | None":
    """Return the cluster in use; None for this process."""
    return _used


class Cluster:
    """A connection to the scheduler and its workers.

    Parameters
    ----------
    name
        As `use_cluster` takes it, not "".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._owned: Any = None
        self._n_jobs, self._fresh_jobs = 0, 0
        self._last_tick = 0.0
        self._n_threads, self._counted_at = 0, -TICK_S
        client = _import_client()
        kind, _, number = name.partition(":")
        if kind in _STARTERS:
            self._owned, self._n_jobs = _STARTERS[kind](int(number or 0))
            self._fresh_jobs = FRESH_JOBS * self._n_jobs
        where = self._owned or name
        try:
            self._client = client(where, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            message = (
                f"no Dask scheduler answers at {name} ({error}). Start one there with "
                "`dask scheduler`, and workers with `dask worker`, or check the "
                "address."
            )
            raise ClusterError(message) from error

    def is_there(self) -> bool:
        """Tell whether the scheduler still answers."""
        return bool(self._client.status == "running")

    def describe(self) -> str:
        """Say where patterns are worked on, in a sentence."""
        n_threads = self._count_threads()
        what = (
            f"{self._n_jobs} SLURM jobs" if self._n_jobs else f"the cluster {self.name}"
        )
        now = f"{n_threads} worker threads so far" if n_threads else "no worker so far"
        return f"Patterns are worked on by {what}, {now}."

    def close(self) -> None:
        """End the connection, and the workers too if they were started here."""
        with suppress(Exception):  # what is gone need not be ended
            self._client.close()
        if self._owned is not None:
            with suppress(Exception):
                self._owned.close()

    def run_in_order(
        self, work: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """Yield `work(task)` for each task, in the order of the tasks.

        Parameters
        ----------
        work
            Is sent to each worker once.
        tasks
            Taken one by one, a few ahead.

        Raises
        ------
        ClusterError
            If the scheduler or all workers are lost, or a task ends its workers.
        """
        packed = _pack(work)
        digest = hashlib.sha256(packed).hexdigest()
        coming: deque[Any] = deque()
        # the scheduler keeps it, so that it outlives the worker that has it
        shared = self._submit(bytes, packed, key=f"work-{digest[:16]}-{time.time_ns()}")
        try:
            for task in tasks:
                coming.append(self._submit(run_packed, digest, shared, _pack(task)))
                if len(coming) >= AHEAD * max(self._count_threads(), 2):
                    yield from self._take_first(coming)
            while coming:
                yield from self._take_first(coming)
        finally:
            if coming and self.is_there():
                with suppress(Exception):
                    self._client.cancel(list(coming))

    def _submit(self, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        if not self.is_there():
            raise ClusterError(self._describe_loss())
        return self._client.submit(function, *given, pure=False, **options)

    def _take_first(self, coming: deque[Any]) -> list[Any]:
        """Return the first result, and those behind it that are there already."""
        from distributed import CancelledError, KilledWorker

        try:
            while True:
                self._wait_for(coming[0])
                few = islice(coming, TOGETHER)
                done = list(takewhile(lambda each: each.status == "finished", few))
                if not done:
                    coming[0].result()  # raises what the work raised
                results = self._fetch(done)
                if done and len(results) == len(done):
                    break
        except CancelledError as error:
            raise ClusterError(self._describe_loss()) from error
        except KilledWorker as error:
            message = (
                "several workers ended while they worked on the same block of "
                "patterns, most often for lack of memory: the last was "
                f"{error.last_worker.address}. Give each worker more. {GONE}"
            )
            raise ClusterError(message) from error
        except (ImportError, AttributeError) as error:
            message = (
                f"a worker of {self.name} cannot do the work ({error}). Workers "
                "need the same environment as this process, with this package."
            )
            raise ClusterError(message) from error
        for future in done:
            coming.popleft()
            future.release()
        return [pickle.loads(each) for each in results]

    def _wait_for(self, future: Any) -> None:
        """Wait until a block is done, or failed, as long as someone may do it."""
        alone_since = time.monotonic()
        self._replace_jobs()
        while not future.done():
            try:
                future.exception(timeout=TICK_S)
            except TimeoutError:
                if self._is_someone_there():
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > PATIENCE_S:
                    raise ClusterError(self._describe_no_worker()) from None
            self._replace_jobs()

    def _fetch(self, done: list[Any]) -> list[bytes]:
        """Return the results of blocks that are done, but for what is lost meanwhile.

        A worker may be mute for many seconds, while it imports or compiles. To fetch
        anew after a short time would never end where each time is too short.
        """
        gather = partial(self._client.gather, done, errors="skip", asynchronous=True)
        results: list[bytes] = []
        try:
            results = self._client.sync(gather, callback_timeout=PATIENCE_S)
        except TimeoutError:
            pass  # whoever waits for them looks who is still there
        except OSError as error:
            raise ClusterError(self._describe_loss()) from error
        return results

    def _is_someone_there(self) -> bool:
        """Tell whether there are workers, or jobs that shall become some."""
        if not self.is_there():
            raise ClusterError(self._describe_loss())
        return self._count_threads() > 0 or self._is_queued()

    def _count_threads(self) -> int:
        """Ask the scheduler; what it said is believed for a while."""
        from distributed.client import Client

        if time.monotonic() - self._counted_at < TICK_S:
            return self._n_threads
        try:
            self._n_threads = sum(Client.nthreads(self._client).values())
        except Exception:  # whatever a connection that breaks may raise
            self._n_threads = 0
        self._counted_at = time.monotonic()
        return self._n_threads

    def _is_queued(self) -> bool:
        return bool(self._n_jobs) and any(
            each.status.name in ("created", "init") or _is_in_queue(each.job_id)
            for each in list(self._owned.workers.values())
        )

    def _replace_jobs(self) -> None:
        """Submit jobs anew in place of those that were cancelled or ran out of time."""
        if not self._n_jobs or time.monotonic() - self._last_tick < 5 * TICK_S:
            return
        self._last_tick = time.monotonic()
        lost = [
            name
            for name, each in list(self._owned.workers.items())
            if each.status.name == "running" and not _is_in_queue(each.job_id)
        ]
        if lost and len(lost) <= self._fresh_jobs:
            self._fresh_jobs -= len(lost)
            for name in lost:
                self._owned.workers.pop(name, None)
            self._owned.scale(jobs=self._n_jobs)

    def _describe_loss(self) -> str:
        return (
            f"the Dask scheduler of {self.name} does not answer any more. Start it "
            f"again if it is not your own. {GONE}"
        )

    def _describe_no_worker(self) -> str:
        whose = (
            "The jobs were cancelled, ran out of time or failed: look into their "
            "output, and at walltime and memory in Dask's configuration."
            if self._n_jobs
            else "Start some with `dask worker`, or choose another cluster."
        )
        return (
            f"{self.name} has had no worker for {PATIENCE_S:.0f} seconds, and none is "
            f"queued. {whose} {GONE}"
        )


_choosing = threading.RLock()
_used: Cluster | None = None
atexit.register(use_cluster)


def number_of_worker() -> int:
    """Return a number that tells the worker whose task this is from others; else 0."""
    distributed = sys.modules.get("distributed")
    try:
        name = str(distributed.get_worker().name) if distributed else ""
    except ValueError:  # this is no worker
        return 0
    number = re.search(r"\d+$", name)
    return int(number[0]) if number else 0


def _import_client() -> Any:
    try:
        from dask import config
        from distributed import Client
    except ImportError as error:
        message = (
            f"Dask is not installed, which work on a cluster needs: {INSTALL}. "
            'Or pass cluster="" to work in this process.'
        )
        raise ClusterError(message) from error
    config.update_defaults(REMEMBERED)
    return Client


def _start_local(n_workers: int) -> tuple[Any, int]:
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=n_workers or CPU_COUNT,
        threads_per_worker=1,
        memory_limit=0,  # a pass needs little; what else runs here is not known
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )
    return cluster, 0


def _start_slurm(n_jobs: int) -> tuple[Any, int]:
    from dask import config
    from dask_jobqueue import SLURMCluster

    n_jobs = n_jobs or config.get("single-hits.jobs", USUAL_JOBS)
    try:
        cluster = SLURMCluster(scheduler_options={"dashboard_address": None})
        cluster.scale(jobs=n_jobs)
    except (ValueError, TypeError) as error:
        message = (
            f"SLURM jobs are not configured ({error}). Write cores, memory, walltime "
            f"and what else your facility asks for under jobqueue: slurm: in "
            f"{config.PATH}/jobqueue.yaml; docs/cluster.md has an example."
        )
        raise ParameterError(message) from error
    except (OSError, RuntimeError) as error:
        message = (
            f"SLURM took no job: {error}. Work where `sbatch` works, and check queue "
            "and account in Dask's configuration."
        )
        raise ClusterError(message) from error
    return cluster, n_jobs


_STARTERS: dict[str, Callable[[int], tuple[Any, int]]] = {
    "local": _start_local,
    "slurm": _start_slurm,
}


def _is_in_queue(job_id: str | None) -> bool:
    """Ask SLURM whether a job waits or runs."""
    import subprocess

    if not job_id:
        return False
    asked = ["squeue", "--noheader", "--jobs", str(job_id), "--format", "%T"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    ended = ("CANCELLED", "COMPLET", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
    state = found.stdout.strip()
    return bool(state) and not state.startswith(ended)


def _pack(work: Any) -> bytes:
    from distributed.protocol.pickle import dumps

    packed: bytes = dumps(work)
    return packed


def _keep_freed_memory() -> None:
    """Let memory that is freed be used again, as in a process that Dask did not start.

    Dask sets MALLOC_TRIM_THRESHOLD_ for its workers, and glibc then leaves off adapting
    to large arrays: each comes from the system, page by page, and goes back to it,
    which cost more than the work. These are the limits to which it adapts by itself.
    """
    import ctypes

    with suppress(AttributeError, OSError, TypeError):  # another C library
        change = ctypes.CDLL(None).mallopt
        change(M_MMAP_THRESHOLD, 32 * 2**20)
        change(M_TRIM_THRESHOLD, 64 * 2**20)


_unpacked: dict[str, Callable[[Any], Any]] = {}
_unpacking = threading.Lock()


def run_packed(digest: str, packed: bytes, task: bytes) -> bytes:
    """Do one task, on a worker, and return what is made of it in one piece.

    Dask would send each of many small arrays for itself, at over twice the cost.

    Parameters
    ----------
    digest
        SHA-256 of `packed`: the same work is unpacked once, with what it has open.
    packed
        The work.
    task
        What it is called with, packed too.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # workers share it
    with _unpacking:
        if digest not in _unpacked:
            _keep_freed_memory()
            _unpacked.clear()  # of a pass that has ended
            _unpacked[digest] = pickle.loads(packed)
        work = _unpacked[digest]
    try:
        return _pack(work(pickle.loads(task)))
    except PatternsFileError as error:
        seen = (
            f"so says the worker on {socket.gethostname()}. Workers open the files "
            "themselves: they must be on a disk that all machines share, under the "
            "same name."
        )
        raise PatternsFileError(error.path, [*error.problems, seen]) from None
