"""HDF5 files of which only a part is there: cut short, or still being written."""

import atexit
import io
import math
import struct
from pathlib import Path
from typing import Any
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
        # a writer's lock counts; that a disk has none to give does not
        return h5py.File(path, "r") if has_writer(path) else open_to_read(path)
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
    """Return of which entries no chunk has been written: they read as fill value."""
    found = dataset.id
    if dataset.is_virtual or not dataset.chunks or not dataset.size:
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
