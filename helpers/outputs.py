"""Files that are whole or absent, and that say where they came from."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py

from helpers import __version__


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block succeeds.

    A crash, a full disk or Ctrl-C inside the block leaves whatever stood at `path`
    before, and no half-written file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}-", suffix="".join(path.suffixes), dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; put it in place when the block succeeds.

    A folder that stood at `path` before is replaced as a whole.
    """
    path = Path(path)
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


def provenance(**facts: Any) -> dict[str, Any]:
    """Say who made a file, when and from what.

    Parameters
    ----------
    **facts
        What the caller knows: source files, fingerprint, parameters.
    """
    packages = ("h5py", "numpy", "scipy", "keras", "tensorflow", "scikit-learn")
    return {
        "made_by": f"single-hits {__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "package_versions": {
            name: importlib.metadata.version(name) for name in packages
        },
        **facts,
    }


def write_provenance(file: h5py.File, **facts: Any) -> None:
    """Write `provenance` as attributes of an HDF5 file; what is nested, as JSON."""
    for name, value in provenance(**facts).items():
        nested = isinstance(value, dict | list | tuple)
        file.attrs[name] = json.dumps(value) if nested else value


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` as a JSON file, whole or not at all."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
