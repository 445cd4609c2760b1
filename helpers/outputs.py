"""Files that are whole or absent, and that say where they came from."""

import errno
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py

from helpers import __version__
from helpers.errors import WorkFolderError

LARGEST_KEPT = 16 * 1024  # bytes; what HDF5 writes about a file comes in small pieces

_BEFORE_FORMULA = re.compile(r"((?:^|[;,|\t\r\n])\s*)(?='*[=+\-@＝＋－＠])")
_ESCAPED_FORMULA = re.compile(r"((?:^|[;,|\t\r\n])\s*)'(?='*[=+\-@＝＋－＠])")

_WHY_NOT = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota on this disk is used up",
    errno.EFBIG: "files may not be that large here",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "you may not write here",
    errno.EPERM: "you may not write here",
    errno.EIO: "the disk does not work",
    errno.ESTALE: "the disk of another computer is gone",
}


@contextmanager
def explain_os_errors(path: str | Path) -> Iterator[None]:
    """Turn the trouble of writing a file or folder into an error that says what to do.

    Parameters
    ----------
    path
        What is written.

    Raises
    ------
    WorkFolderError
        If the disk is full or read-only, or the folder may not be written.
    """
    path = Path(path)
    try:
        yield
    except OSError as error:
        why = _WHY_NOT.get(error.errno or 0)
        if why is None or not _is_of(error, path):
            raise
        message = (
            f"{path} cannot be written: {why}{_describe_free_space(path, error)}. "
            "Nothing half-written is left, and what stood there before still does. "
            "Make room, ask for the permission or choose another place; then run this "
            "step again."
        )
        raise WorkFolderError(message) from error


def _is_of(error: OSError, path: Path) -> bool:
    """Tell whether an error is about what is written: inside its folder, or unnamed.

    A failed copy names two files, first the one that was read.
    """
    given = (error.filename, error.filename2)
    names = [name for name in given if isinstance(name, str | bytes | os.PathLike)]
    named = [Path(os.fsdecode(name)).absolute() for name in names]
    folder = path.absolute().parent
    return not named or any(
        each.is_relative_to(folder) or folder.is_relative_to(each) for each in named
    )


def _describe_free_space(path: Path, error: OSError) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f" ({free / 2**20:,.1f} MiB are free in {path.parent})"


@contextmanager
def atomic_write(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block succeeds.

    A crash, a full disk or Ctrl-C inside the block leaves whatever stood at `path`
    before, and no half-written file.

    Parameters
    ----------
    path
        Where the file will stand.
    private
        True keeps the file from being read by all, as names of people should be.

    Raises
    ------
    WorkFolderError
        If the disk is full or read-only, or the folder may not be written.
    """
    path = _follow(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix="".join(path.suffixes), dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(new_file_mode(private=private))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Give an open HDF5 file that stands at `path` when the block succeeds.

    As `atomic_write`.

    Raises
    ------
    WorkFolderError
        If the disk is full or read-only, or the folder may not be written.
    """
    with atomic_write(path) as temporary, new_hdf5(temporary) as file:
        yield file


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Give an open HDF5 file to fill, for the inside of a `atomic_folder`.

    A full disk ends in an error when the block has ended, where HDF5 itself may crash
    while it closes a file that it cannot finish.
    """
    with Path(path).open("w+b", buffering=0) as disk:
        patient = _PatientFile(disk)
        with h5py.File(patient, "w") as file:
            yield file
        if patient.trouble:
            raise patient.trouble


class _PatientFile(io.RawIOBase):
    """A file on which writing always seems to succeed, also when the disk is full.

    From the first write that fails on, `trouble` says why; what HDF5 needs to find its
    way until it closes the file is kept in memory, and values are not kept at all.

    Parameters
    ----------
    disk
        The real file, not buffered.
    """

    def __init__(self, disk: io.FileIO) -> None:
        self._disk = disk
        self._at = 0
        self._kept: dict[int, bytes] = {}
        self.trouble: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        ends = [at + len(data) for at, data in self._kept.items()]
        end = max([self._disk.seek(0, io.SEEK_END), *ends])
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: end}
        self._at = start[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def write(self, data: Any) -> int:
        """Write, to the disk or else to memory."""
        view = memoryview(data).cast("B")
        if self.trouble is None:
            try:
                self._write_to_disk(view)
            except OSError as error:
                self.trouble = error
        if self.trouble is not None and len(view) <= LARGEST_KEPT:
            self._kept[self._at] = bytes(view)
        self._at += len(view)
        return len(view)

    def _write_to_disk(self, view: memoryview) -> None:
        self._disk.seek(self._at)
        while len(view):
            view = view[self._disk.write(view) :]

    def readinto(self, buffer: Any) -> int:
        """Read back what was written, wherever it is."""
        view = memoryview(buffer).cast("B")
        self._disk.seek(self._at)
        n_read = self._disk.readinto(view) or 0
        view[n_read:] = bytes(len(view) - n_read)
        for at, data in self._kept.items():
            first, last = max(at, self._at), min(at + len(data), self._at + len(view))
            if first < last:
                view[first - self._at : last - self._at] = data[first - at : last - at]
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        return self._disk.truncate(self._at if size is None else size)


def _follow(path: str | Path) -> Path:
    """Return where a link leads, so that it stays one when that is replaced."""
    return Path(os.path.realpath(Path(path).expanduser()))


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; put it in place when the block succeeds.

    A folder that stood at `path` before is replaced as a whole.

    Raises
    ------
    WorkFolderError
        If the disk is full or read-only, or the folder may not be written.
    """
    path = _follow(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        old = temporary.with_name(f"{temporary.name}-old")
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def provenance(**metadata: Any) -> dict[str, Any]:
    """Say who made a file, when and from what.

    Parameters
    ----------
    **metadata
        What the caller knows: source files, fingerprint, parameters.
    """
    packages = ("h5py", "numpy", "scipy", "keras", "tensorflow", "scikit-learn")
    return {
        "made_by": f"single-hits {__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "package_versions": {
            name: importlib.metadata.version(name) for name in packages
        },
        **metadata,
    }


def write_provenance(file: h5py.File, **metadata: Any) -> None:
    """Write `provenance` as attributes of an HDF5 file; what is nested, as JSON."""
    for name, value in provenance(**metadata).items():
        nested = isinstance(value, dict | list | tuple)
        file.attrs[name] = json.dumps(value) if nested else value


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` as a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


def escape_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, whatever it splits at.

    An apostrophe goes before what would begin one; `unescape_formula` takes it out.
    """
    return _BEFORE_FORMULA.sub(r"\1'", text)


def unescape_formula(text: str) -> str:
    """Return what `escape_formula` was given."""
    return _ESCAPED_FORMULA.sub(r"\1", text)


def open_to_read(path: str | Path, **options: Any) -> h5py.File:
    """Open an HDF5 file to read, also on a disk that has no locks to give.

    Reading needs none. But HDF5 refuses to open a file twice in one process with
    different settings, so the usual one is tried first.

    Raises
    ------
    OSError
        As `h5py.File` does.
    """
    path = Path(path).expanduser()
    try:
        return h5py.File(path, "r", **options)
    except FileNotFoundError:
        raise
    except OSError as error:
        try:
            return h5py.File(path, "r", locking=False, **options)
        except OSError:
            raise error from None


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_file_mode(*, private: bool = False) -> int:
    """Return the permissions of a new file, as the user's umask has them.

    Parameters
    ----------
    private
        True leaves out those who are neither the owner nor of the group.
    """
    return (0o660 if private else 0o666) & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
