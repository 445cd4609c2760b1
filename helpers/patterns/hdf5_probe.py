"""A disposable child process opens each HDF5 file first.

On a damaged file the HDF5 library can loop for ever, or crash, in C code that nothing
in Python can interrupt. So a child process first does what could come to that: it opens
everything in the file and reads what has no fixed length, texts and lists. Where it
uses much CPU time without getting on, it is ended, and the file is refused. One child
serves all files, and ends with this process.

On its standard input the child is told, in one line of JSON each, the name of a file
and how much CPU time a step may take. It answers with a line for each place in the file
that it comes to, and with `null` when it has nothing to do.
"""

import atexit
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import h5py

from helpers.errors import PatternsFileError
from helpers.patterns.partial_hdf5 import DAMAGE, open_unprobed

PACKAGES_DIR = Path(__file__).parents[2]
COMMAND = [
    *(sys.executable, "-c"),
    "from helpers.patterns.hdf5_probe import answer_parent; answer_parent()",
]
CPU_SECONDS = 10.0  # for one step in a file; a healthy one takes milliseconds
LIMIT_ENDS_BY = {-getattr(signal, "SIGPROF", 0), 1}  # its exit status; 1 in Windows
AT_ONCE = 1024  # values of variable length that are read by one call
VALUES_TRIED = 1_000_000  # of a longer dataset, the beginning
OBJECTS_TRIED = 5_000  # of a file with more groups and datasets, those at the top
MINUTES_WITHOUT_CPU_LIMIT = 5

Tell = Callable[[str], None]


def find_fatal_damage(path: Path) -> str:
    """Return why the HDF5 library must not open a file; "" if it may.

    A file is probed once, as long as its size and its time stay the same. Where no
    child process can be started, none is probed.

    Parameters
    ----------
    path
        An HDF5 file, which may be damaged in other ways too.
    """
    stat = path.stat()
    version = os.path.realpath(path), stat.st_size, stat.st_mtime_ns
    with _CHILD.lock:
        if version not in _FOUND:
            _FOUND[version] = _CHILD.probe_file(version[0])
        return _FOUND[version]


class _Child:
    """Starts the child process, and another one after it ended."""

    def __init__(self) -> None:
        self.can_start = True
        self.forget()

    def forget(self) -> None:
        """Begin without a process: a fork must not share its parent's."""
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()

    def probe_file(self, path: str) -> str:
        """Return why a file must not be opened; "" if it may be."""
        try:
            if not (self.is_running() or self.start()):
                return ""
            self.send(path)
            has_ended, place = self.listen()
        except BaseException:  # else the next file would be given this one's answer
            self.stop()
            raise
        return _describe_end(self.stop(), place) if has_ended else ""

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> bool:
        """Start the process; return whether it could be."""
        if not self.can_start:
            return False
        self.stop()
        try:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=PACKAGES_DIR,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is meant for us
                encoding="ascii",
            )
            has_ended, _ = self.listen()
        except (OSError, ValueError):  # or it begins by saying something else
            has_ended = True
        if has_ended:
            self.can_start = False
            self.stop()
        return self.can_start

    def send(self, path: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([path, CPU_SECONDS]) + "\n")
        self.process.stdin.flush()

    def listen(self) -> tuple[bool, str]:
        """Wait until it is done; return whether it ended instead, and where."""
        assert self.process is not None
        assert self.process.stdout is not None
        place = "/"
        for line in self.process.stdout:
            said = json.loads(line)
            if said is None:
                return False, place
            place = said
        return True, place

    def stop(self) -> int:
        """End the process if there is one; return its exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill()
        process.communicate()
        return process.returncode


def _describe_end(status: int, place: str) -> str:
    """Describe how reading ended at a place in a file."""
    if status in LIMIT_ENDS_BY:
        what = (
            f"reading it loops endlessly at {place}, and was stopped after "
            f"{CPU_SECONDS:g} s of CPU time without getting on"
        )
    else:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        what = f"reading it crashes the HDF5 library at {place} ({name})"
    return (
        f"{what}. Expected a file that can be read from end to end; this one is "
        "damaged, most often copied in part. Copy it again, and compare checksums. "
        "Without an original, take what is whole into a new file: h5copy does that."
    )


_FOUND: dict[tuple[str, int, int], str] = {}
_CHILD = _Child()
atexit.register(_CHILD.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHILD.forget)


def answer_parent() -> None:
    """Visit each file that is named on stdin: this is what the child runs."""
    answers = _take_stdout()
    _say(answers, None)
    for line in sys.stdin:
        path, seconds = json.loads(line)
        with suppress(Exception):  # only whether it survives is of interest
            visit_everything(Path(path), partial(_begin_step, answers, seconds))
        _say(answers, None)


def _take_stdout() -> TextIO:
    """Keep stdout for the answers; what a compression filter prints goes nowhere."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return answers


def _begin_step(answers: TextIO, seconds: float, place: str) -> None:
    end_unless_called_again(seconds)
    _say(answers, place)


def _say(answers: TextIO, place: str | None) -> None:
    answers.write(json.dumps(place) + "\n")
    answers.flush()


def end_unless_called_again(seconds: float) -> None:
    """End this process once it has used so much CPU time without calling this again.

    Parameters
    ----------
    seconds
        CPU time, so that no disk is too slow. Where the system does not measure it
        (Windows), minutes of any time count instead.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    else:
        faulthandler.dump_traceback_later(60 * MINUTES_WITHOUT_CPU_LIMIT, exit=True)


def visit_everything(path: Path, tell: Tell) -> None:
    """Open everything in a file, and read what has no fixed length.

    Errors are left to those who open the file afterwards and can explain them.

    Parameters
    ----------
    path
        An HDF5 file.
    tell
        Called with each place in the file, before anything is done there.
    """
    with suppress(PatternsFileError, *DAMAGE):
        tell("/")
        with open_unprobed(path) as file:
            for place, item in islice(_visit(file, tell), OBJECTS_TRIED):
                _read_attributes(item)
                with suppress(*DAMAGE):
                    _read_loose_values(item, partial(tell, place))


def _visit(file: h5py.File, tell: Tell) -> Iterator[tuple[str, Any]]:
    """Open every object once, also what lies beside a damaged one."""
    seen = {file}
    waiting = deque([("", file)])
    yield "/", file
    while waiting:
        folder, group = waiting.popleft()
        for name in _list_names(group):
            place = f"{folder}/{name}"
            tell(place)
            with suppress(*DAMAGE):
                item = group.get(name)
                if item is None or item in seen:
                    continue
                seen.add(item)
                if isinstance(item, h5py.Group):
                    waiting.append((place, item))
                yield place, item


def _list_names(names: h5py.Group | h5py.AttributeManager) -> list[str]:
    with suppress(*DAMAGE):
        return list(names)
    return []


def _read_attributes(item: Any) -> None:
    for name in _list_names(item.attrs):
        with suppress(*DAMAGE):
            item.attrs[name]


def _read_loose_values(item: Any, begin_step: Callable[[], None]) -> None:
    """Read texts and lists, which lie elsewhere in the file than the dataset."""
    if not (isinstance(item, h5py.Dataset) and item.dtype.hasobject):
        return
    if not item.shape:
        item[()]
        return
    each = max(1, item.size // max(1, len(item)))
    step = max(1, AT_ONCE // each)
    for start in range(0, min(len(item), VALUES_TRIED // each), step):
        begin_step()
        item[start : start + step]
