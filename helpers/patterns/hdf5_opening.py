"""Open HDF5 files of which only a part is there, or that the library would not survive.

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
import io
import json
import math
import os
import signal
import struct
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
from weakref import WeakSet

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.outputs import open_to_read

DAMAGE = (
    *(OSError, RuntimeError, LookupError, TypeError, ValueError),
    *(ArithmeticError, MemoryError, SystemError),
)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # where each superblock version says its end
_WRITTEN_BY_SWMR = 1 | 4  # the consistency flags of such a file
_FAR = 2**62  # HDF5 asks whether a file is as long as it says; this one always is


def open_unprobed(path: Path, warnings: list[str] | None = None) -> h5py.File:
    """Open an HDF5 file as `open_hdf5` does, though the library may not survive it.

    Reading needs no lock, and some network disks have none to give. So a writer is not
    met by failing to get one, but looked up.
    """
    try:
        return _open_whole(path)
    except OSError as error:
        file = _open_partial(path)
        if file is None:
            problem = (
                "begins like an HDF5 file but cannot be opened. It may be cut short "
                "(copied in part) or still being written. Compare its size with the "
                f"original, or wait until it is whole. HDF5 says: {error}"
            )
            raise PatternsFileError(path, [problem]) from error
    if warnings is not None:
        warnings.append(_describe_partial(file))
    return file


def _open_whole(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError:
        if has_writer(path):  # its lock counts; that a disk has none to give does not
            raise
        return open_to_read(path)


def _open_partial(path: Path) -> h5py.File | None:
    """Open a file that HDF5 refuses because a writer has it or its end is missing."""
    try:
        # On any other file HDF5 would look again and again for what is not there.
        if is_swmr(path):
            return open_to_read(path, swmr=True)
        return PartialFile(path)
    except DAMAGE:
        return None


def _describe_partial(file: h5py.File) -> str:
    if isinstance(file, PartialFile) and file.is_cut_short:
        return (
            f"is cut short: it has {file.size} bytes, and says that there are more. "
            "What is there is read. Compare its size with the original."
        )
    return (
        "is being written by another program. What is there now is read; open it "
        "again when it is whole."
    )


class PartialFile(h5py.File):
    """An HDF5 file that is opened although its end is missing or not yet fixed.

    HDF5 itself refuses such a file. Beyond its last byte this one reads as 0, so what
    is read from it must be checked with `is_whole` or `count_whole` first.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    size
        How many bytes are there and in use.
    is_cut_short
        True if the file says that it is longer than it is.

    Raises
    ------
    OSError
        If not even its beginning can be read.
    """

    def __init__(self, path: Path) -> None:
        stored_end = _read_end(path)
        found = path.stat().st_size
        super().__init__(_Padded(path), "r")
        self.size = min(found, stored_end)
        self.is_cut_short = stored_end > found
        _OPEN.add(self)


_OPEN: "WeakSet[PartialFile]" = WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what is open: HDF5 would call into Python after its end, and crash."""
    for file in list(_OPEN):
        file.close()


def has_writer(path: Path) -> bool:
    """Tell whether a program on this machine has locked a file to write it (Linux)."""
    try:
        inode = str(path.stat().st_ino)
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return False
    return any(
        "WRITE" in fields and any(each.endswith(f":{inode}") for each in fields)
        for fields in map(str.split, locks.splitlines())
    )


def is_swmr(path: Path) -> bool:
    """Tell whether a file is being written so that others may read it (SWMR)."""
    head = _read_head(path)
    return _version(head) == 3 and head[11] == _WRITTEN_BY_SWMR


def is_whole(file: h5py.File, dataset: h5py.Dataset) -> bool:
    """Tell whether all values of a dataset are there."""
    if not isinstance(file, PartialFile):
        return True
    if h5py.check_vlen_dtype(dataset.dtype) or h5py.check_string_dtype(dataset.dtype):
        return False  # its values lie elsewhere in the file
    return not dataset.shape or count_whole(file, dataset) == len(dataset)


def count_whole(file: h5py.File, dataset: h5py.Dataset) -> int:
    """Return how many entries are there of a dataset, from its first to a gap."""
    n = len(dataset)
    if not isinstance(file, PartialFile) or dataset.is_virtual:
        return n
    if dataset.chunks:
        return min([n, *_find_missing_chunks(file, dataset)])
    offset = dataset.id.get_offset()
    each = max(1, dataset.size // max(1, n) * dataset.dtype.itemsize)
    return n if offset is None else max(0, min(n, (file.size - offset) // each))


def find_unwritten(dataset: h5py.Dataset) -> NDArray[np.bool_]:
    """Return of which entries nothing was written: they read as fill value.

    So it is where no chunk is, and where a virtual dataset has no source.
    """
    found = dataset.id
    if dataset.is_virtual:
        return _find_without_source(dataset)
    if not dataset.chunks or not dataset.size:
        return np.zeros(len(dataset), np.bool_)
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    if found.get_num_chunks() == math.prod(-(-size // chunk) for size, chunk in pairs):
        return np.zeros(len(dataset), np.bool_)
    starts: set[int] = set()
    found.chunk_iter(lambda chunk: starts.add(chunk.chunk_offset[0]))
    unwritten = np.ones(len(dataset), np.bool_)
    for start in starts:
        unwritten[start : start + dataset.chunks[0]] = False
    return unwritten


def _find_without_source(dataset: h5py.Dataset) -> NDArray[np.bool_]:
    without = np.ones(len(dataset), np.bool_)
    try:
        for source in dataset.virtual_sources():
            first, last = source.vspace.get_select_bounds()
            step = 1
            if source.vspace.is_regular_hyperslab():
                _, (stride, *_), _, (block, *_) = source.vspace.get_regular_hyperslab()
                step = stride if block == 1 else 1
            without[first[0] : last[0] + 1 : step] = False
    except (ValueError, RuntimeError):  # sources may be as many as there are
        return np.zeros(len(dataset), np.bool_)
    return without


def _find_missing_chunks(file: PartialFile, dataset: h5py.Dataset) -> list[int]:
    """Return the first entry of each chunk that is not there as a whole."""
    found = dataset.id
    chunks = [found.get_chunk_info(i) for i in range(found.get_num_chunks())]
    return [
        chunk.chunk_offset[0]
        for chunk in chunks
        if chunk.byte_offset + chunk.size > file.size
    ]


def _read_end(path: Path) -> int:
    """Return how many bytes an HDF5 file says that it has."""
    head = _read_head(path)
    place = _END_AT.get(_version(head))
    if place is None:
        message = "no superblock of HDF5 was found at the beginning"
        raise OSError(message)
    (end,) = struct.unpack_from("<Q", head, place)
    return int(end)


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _version(head: bytes) -> int:
    """Return the version of the superblock; -1 without one."""
    return head[8] if head[:8] == _SIGNATURE and len(head) == 64 else -1


class _Padded(io.RawIOBase):
    """A file to read that goes on with zeros behind its end.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; the end is very far."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: _FAR}
        self._at = start[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the file, and with zeros behind its end."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._at)
        n_read = self._file.readinto(view)
        if not n_read and len(view):
            message = f"byte {self._at} is behind the end"
            raise OSError(message)
        view[n_read:] = bytes(len(view) - n_read)
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


PACKAGES_DIR = Path(__file__).parents[2]
COMMAND = [
    *(sys.executable, "-c"),
    "from helpers.patterns.hdf5_opening import answer_parent; answer_parent()",
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
    _answer(answers, None)
    for line in sys.stdin:
        path, seconds = json.loads(line)
        with suppress(Exception):  # only whether it survives is of interest
            visit_everything(Path(path), partial(_begin_step, answers, seconds))
        _answer(answers, None)


def _take_stdout() -> TextIO:
    """Keep stdout for the answers; what a compression filter prints goes nowhere."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return answers


def _begin_step(answers: TextIO, seconds: float, place: str) -> None:
    end_unless_called_again(seconds)
    _answer(answers, place)


def _answer(answers: TextIO, place: str | None) -> None:
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
