"""A database that keeps what it acknowledged, and knows which patterns it is for."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from helpers import __version__
from helpers.errors import LabelsError, OtherPatternsError
from helpers.labels.events import now
from helpers.labels.schema import labelled_patterns, metadata, same_runs

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


Identity = tuple[str, int]
"""Fingerprint and number of the patterns."""


def claim_store(database: Database, ours: Identity, same_run: bool = False) -> None:
    """Make a new store for these patterns, or check that an old one is for them.

    Parameters
    ----------
    database
        Where the store is, or is to be.
    ours
        Fingerprint and number of the patterns.
    same_run
        True adds them to those that the store is for.

    Raises
    ------
    OtherPatternsError
        The store is for other patterns; or, with `same_run`, for more than these.
    LabelsError
        The database cannot be read, or not be written where the store is new.
    """
    known = _find(database) or _make(database, ours)
    if same_run and ours not in known:
        _check_not_fewer(database.name, known, ours)
        _remember(database, ours)
    elif ours not in known:
        check_same_patterns(database.name, known[-1], ours)


def check_same_patterns(name: str, found: Identity, expected: Identity) -> None:
    """Raise `OtherPatternsError` unless fingerprint and number of patterns agree."""
    if found == expected:
        return
    message = (
        f"{_say_other(name, found, expected)} Open the files that were labelled, in "
        "the same order, or choose another work folder. If you are sure that these "
        "are the same patterns in the same order (the file was recompressed, its "
        "dtype changed, or patterns were appended at the end), say so once with "
        "same_run=True, which is a parameter of 03-label too: the labels stay as "
        "they are."
    )
    raise OtherPatternsError(message)


def _check_not_fewer(name: str, known: list[Identity], ours: Identity) -> None:
    most = max(known, key=lambda identity: identity[1])
    if ours[1] < most[1]:
        message = (
            f"{_say_other(name, most, ours)} They cannot be the same run with patterns "
            "appended, because they are fewer. Open all files that were labelled, in "
            "the same order, or choose another work folder."
        )
        raise OtherPatternsError(message)


def _say_other(name: str, found: Identity, expected: Identity) -> str:
    return (
        f"{name}: these are labels of {found[1]} patterns with fingerprint {found[0]}; "
        f"expected labels of {expected[1]} patterns with fingerprint {expected[0]}."
    )


def _find(database: Database) -> list[Identity]:
    """Return all that the store is for, what it was made for first; [] = no store."""
    with database.reading() as connection:
        tables = sa.inspect(connection).get_table_names()
        # Stores made before a run could change its fingerprint lack the second.
        there = [each for each in (labelled_patterns, same_runs) if each.name in tables]
        queries = [
            sa.select(each.c.fingerprint, each.c.n_patterns).order_by(each.c.id)
            for each in there
        ]
        rows = [row for query in queries for row in connection.execute(query)]
        return [(row.fingerprint, row.n_patterns) for row in rows]


def _make(database: Database, ours: Identity) -> list[Identity]:
    try:
        with database.writing() as connection:
            metadata.create_all(connection)
            connection.execute(sa.insert(labelled_patterns), {"id": 1, **_facts(ours)})
    except LabelsError:
        # Another process may have made the store at this very moment.
        if found := _find(database):
            return found
        raise
    return [ours]


def _remember(database: Database, ours: Identity) -> None:
    try:
        with database.writing() as connection:
            same_runs.create(connection, checkfirst=True)
            connection.execute(sa.insert(same_runs), _facts(ours))
    except LabelsError:
        # Another process may have said so at this very moment.
        if ours not in _find(database):
            raise


def _facts(ours: Identity) -> dict[str, Any]:
    return {
        "fingerprint": ours[0],
        "n_patterns": ours[1],
        "made_by": f"single-hits {__version__}",
        "made_at": now(),
    }
