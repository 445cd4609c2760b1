"""HDF5 files, read on trial by a second process before this one opens them.

On a damaged file the HDF5 library can go round in a circle for ever, or crash, in C
code that nothing in Python can interrupt. So a process that nobody misses first does
what could come to that: it opens everything in the file and reads what has no fixed
length, texts and lists (`helpers.patterns.hdf5_probe`). Where it uses much CPU
time without getting on, it is ended, and we say so instead of going the same
way. One process serves all files, and ends with this one.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

PACKAGES_DIR = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "helpers.patterns.hdf5_probe"]
CPU_SECONDS = 10.0  # for one step in a file; a healthy one takes milliseconds
LIMIT_ENDS_BY = {-getattr(signal, "SIGPROF", 0), 1}  # its exit status; 1 in Windows


def find_fatal_damage(path: Path) -> str:
    """Say why the HDF5 library must not be let at a file; "" if it may open it.

    A file is tried once, as long as its size and its time stay the same. Where no
    second process can be started, none is tried.

    Parameters
    ----------
    path
        An HDF5 file, which may be damaged in other ways too.
    """
    stat = path.stat()
    version = os.path.realpath(path), stat.st_size, stat.st_mtime_ns
    with _TRIER.lock:
        if version not in _FOUND:
            _FOUND[version] = _TRIER.try_file(version[0])
        return _FOUND[version]


class _Trier:
    """The second process; a new one after it ended."""

    def __init__(self) -> None:
        self.can_start = True
        self.forget()

    def forget(self) -> None:
        """Begin without a process, as a fork must, whatever its other half does."""
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()

    def try_file(self, path: str) -> str:
        """Say what came to no good end; "" if nothing did."""
        try:
            if not (self.is_running() or self.start()):
                return ""
            self.send(path)
            has_ended, place = self.listen()
        except BaseException:  # else the next file would be given this one's answer
            self.stop()
            raise
        return _say_end(self.stop(), place) if has_ended else ""

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


def _say_end(status: int, place: str) -> str:
    """Say how reading ended at a place in a file."""
    if status in LIMIT_ENDS_BY:
        what = (
            f"reading it goes round in a circle at {place}, and was stopped after "
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
_TRIER = _Trier()
atexit.register(_TRIER.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_TRIER.forget)
