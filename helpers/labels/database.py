"""A database that keeps what it acknowledged: transactions, journals, plain errors."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from helpers.errors import LabelsError

BUSY_TIMEOUT_S = 30
"""How long to wait while another process writes to the same SQLite file."""

LOCAL_FILE_SYSTEMS = {
    *("apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs"),
    *("hfsplus", "jfs", "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs"),
    *("tmpfs", "ufs", "vfat", "xfs", "zfs"),
}
"""Where processes share memory through a file, which SQLite's WAL relies on."""


class Database:
    """An open database; one transaction at a time, whichever thread asks.

    JupyterLab calls widget handlers in another thread than the cells', so one lock
    stands round every transaction. Whatever the database refuses becomes a
    `LabelsError`, and then nothing of that transaction is kept.

    Parameters
    ----------
    url_or_path
        A path is an SQLite file, made where it is absent; anything with `://` in it
        is a SQLAlchemy URL.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        url = _url(url_or_path)
        self.name = _name(url)
        self._lock = threading.RLock()
        self._engine = _engine(url, self.name)
        self._writer = self._engine.execution_options(writes=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection inside a transaction that only reads."""
        with self._transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection inside a transaction; on disk once the block has ended."""
        with self._transaction(self._writer) as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        try:
            with self._lock, engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            message = (
                f"{self.name}: the database answered «{_reason(error)}». Nothing of "
                "this step was stored; what was stored before is safe. Check that the "
                "disk is not full, that you may write there, and that no other "
                "program holds the database; then try again."
            )
            raise LabelsError(message) from error


def is_on_local_disk(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Say whether `path` lies on a file system known to be this machine's own.

    Where that cannot be told (no list of mounts, a type not known to be local) the
    answer is no: a slower journal is better than a broken one.
    """
    if not mounts.exists():
        return False
    kinds = _mounted(mounts.read_text(encoding="utf-8", errors="replace"))
    path = path.resolve()
    holder = next((each for each in (path, *path.parents) if each in kinds), None)
    return holder is not None and kinds[holder] in LOCAL_FILE_SYSTEMS


def _mounted(mounts: str) -> dict[Path, str]:
    fields = (line.split() for line in mounts.splitlines())
    return {Path(_unescape(point)): kind for _, point, kind, *_ in fields}


def _unescape(mount_point: str) -> str:
    for code in ("\\040", "\\011", "\\012", "\\134"):
        mount_point = mount_point.replace(code, chr(int(code[1:], 8)))
    return mount_point


def _url(url_or_path: str | Path) -> sa.URL:
    if "://" not in str(url_or_path):
        path = Path(url_or_path).expanduser().absolute()
        return sa.URL.create("sqlite", database=str(path))
    try:
        url = sa.make_url(str(url_or_path))
    except ArgumentError as error:
        message = (
            "The address of the label store is neither a path such as "
            "work/labels.sqlite nor a SQLAlchemy URL such as "
            "postgresql://name@host/database."
        )
        raise LabelsError(message) from error
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def _name(url: sa.URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or "sqlite://"
    return url.render_as_string(hide_password=True)


def _engine(url: sa.URL, name: str) -> sa.Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, name)
        return sa.create_engine(url, pool_pre_ping=True)
    except (ImportError, SQLAlchemyError) as error:
        message = (
            f"{name}: no driver that can be used is installed for this kind of "
            f"database ({error}). For PostgreSQL: pip install 'single-hits[cluster]'."
        )
        raise LabelsError(message) from error


def _sqlite_engine(url: sa.URL, name: str) -> sa.Engine:
    if url.database in {None, "", ":memory:"}:
        message = (
            f"{name}: a store in memory would lose every label when the kernel stops. "
            "Give the path of a file, such as work/labels.sqlite."
        )
        raise LabelsError(message)
    path = Path(str(url.database).removeprefix("file:"))
    _make_folder(path.parent)
    engine = sa.create_engine(
        url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S}
    )
    journal = "WAL" if is_on_local_disk(path) else "DELETE"

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        _set_pragmas(connection, journal)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # The driver would begin at the first write, after the reads it rests on.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"{folder}: the folder for the labels cannot be made ({error.strerror}). "
            "Choose a work folder that you may write to."
        )
        raise LabelsError(message) from error


def _set_pragmas(connection: Any, journal: str) -> None:
    connection.isolation_level = None  # transactions begin in `_begin`, nowhere else
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA fullfsync = ON")  # macOS: FULL alone is not enough
        _set_journal(cursor, journal)


def _set_journal(cursor: Any, journal: str) -> None:
    import sqlite3

    try:
        cursor.execute(f"PRAGMA journal_mode = {journal}")
    except sqlite3.OperationalError:
        # A file that may only be read, or is in use, keeps the journal it has; only
        # WAL on a network file system would be unsafe.
        if journal == "DELETE":
            raise


def _reason(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().splitlines()[0]
