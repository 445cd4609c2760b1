"""Where a label store lies: its address, one SQLite file, or a server.

The journal of a file is folded into it with every transaction (SQLite's mode DELETE),
so a copy of the file alone holds whatever was acknowledged. And the file is looked at
before and after each transaction, because SQLite itself does not notice when another
program takes it away, puts another in its place or writes over it. A server may stop
answering at any moment.
"""

import os
import re
import socket
import sqlite3
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from helpers.errors import LabelsError, StoreLostError
from helpers.outputs import new_file_mode

PASSWORD_VARIABLE = "SINGLE_HITS_STORE_PASSWORD"
"""Environment variable with the password of a server, where the URL has none."""

_SHOWN = {"host", "port", "options", "mode", "immutable"}
_HOW = (
    "Expected a path such as work/labels.sqlite or a SQLAlchemy URL such as "
    "postgresql://name@host/database."
)


def read_url(url_or_path: str | Path) -> sa.URL:
    """Return the address of a store; of a server with the password that is known.

    Parameters
    ----------
    url_or_path
        A path is an SQLite file; anything with `://` in it is a SQLAlchemy URL.

    Raises
    ------
    LabelsError
        It is neither; nothing of it is shown, because it may hold a password.
    """
    text = str(url_or_path)
    if "://" not in text:
        path = Path(url_or_path).expanduser().absolute()
        return sa.URL.create("sqlite", database=str(path))
    url = _parse(text)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password and url.get_backend_name() != "sqlite" and not _passwords(url):
        url = url.set(password=password)
    return url


def describe_url(url: sa.URL) -> str:
    """Return what may be shown of an address, in files and on screen."""
    if url.get_backend_name() == "sqlite":
        return (url.database or "sqlite://").removeprefix("file:")
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    return url.set(query=query).render_as_string(hide_password=True)


def hide_passwords(text: str, url: sa.URL) -> str:
    """Return a text, such as that of a driver's error, without the passwords."""
    for password in _passwords(url):
        text = text.replace(password, "***")
    return text


def split_password(url_or_path: str) -> tuple[str, str]:
    """Return an address without its password, and the password, "" where there is none.

    Raises
    ------
    LabelsError
        It cannot be told what the password is.
    """
    if "://" not in url_or_path:
        return url_or_path, ""
    url = _parse(url_or_path)
    passwords = _passwords(url)
    if not passwords:
        return url_or_path, ""
    bare = sa.URL.create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query={name: each for name, each in url.query.items() if name != "password"},
    )
    return bare.render_as_string(hide_password=False), passwords[-1]


def _parse(text: str) -> sa.URL:
    # A password with an @ that is not escaped would be cut there, and its end be
    # taken for the name of the server, which errors show.
    if text.count("@") > 1:
        message = (
            "The address of the label store holds more than one @; it is not shown, "
            "because it may hold a password. In a name or a password write %40 for @; "
            f"or leave the password out: {PASSWORD_VARIABLE} in the environment or a "
            "line in ~/.pgpass can hold it."
        )
        raise LabelsError(message)
    try:
        return sa.make_url(text)
    except (ArgumentError, ValueError):
        scheme = re.match(r"\w+(?=[+:])", text)
        message = (
            "The address of the label store cannot be read"
            f"{f' (it begins with {scheme[0]})' if scheme else ''}. {_HOW}"
        )
        raise LabelsError(message) from None


def _passwords(url: sa.URL) -> list[str]:
    """Return all passwords of an address; the last one is the one that counts."""
    given = [url.password, url.query.get("password")]
    return [str(each) for each in given if each]


BUSY_TIMEOUT_S = 30
"""How long to wait while another process writes to the same SQLite file."""

_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite answers where a table is gone, or the file is none of its own."""

_READ_ONLY = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""What it answers where it may not make a journal."""

_CHECK = "PRAGMA quick_check(1)"
_VERSION = "PRAGMA data_version"
_ANOTHER = "another file stands in its place than the one that was opened"


class StoreFile:
    """The SQLite file of a store.

    Parameters
    ----------
    url
        With the path as its database, and perhaps `mode=ro`.
    name
        For messages.
    """

    def __init__(self, url: sa.URL, name: str) -> None:
        if url.database in {None, "", ":memory:"}:
            message = (
                f"{name}: a store in memory would lose every label when the kernel "
                "stops. Give the path of a file, such as work/labels.sqlite."
            )
            raise LabelsError(message)
        self.name = name
        self._path = Path(str(url.database).removeprefix("file:"))
        self._options = {k: str(v) for k, v in url.query.items() if k != "uri"}
        self._identity: tuple[int, int] | None = None
        self._state: tuple[int, int] | None = None
        self._version = 0
        self.engine = self.reader = _make_engine(self._connect)

    @property
    def is_absent(self) -> bool:
        """Whether there is no file to be opened."""
        return self._identity is None and not self._path.exists()

    def make(self, fill: Callable[[sa.Connection], None]) -> None:
        """Make the file, whole or not at all; leave one that is there by now alone."""
        place = self._path.resolve()  # what is a link stays one
        temporary = self._make_temporary(place)
        engine = _make_engine(lambda: _open(temporary))
        try:
            with engine.execution_options(writes=True).begin() as connection:
                fill(connection)
            engine.dispose()
            temporary.chmod(new_file_mode(private=True))
            _put_in_place(temporary, place)
        finally:
            engine.dispose()
            temporary.unlink(missing_ok=True)

    def _make_temporary(self, place: Path) -> Path:
        _make_folder(place.parent)
        try:
            handle, name = tempfile.mkstemp(
                prefix=f".{place.stem}-", suffix=".sqlite", dir=place.parent
            )
        except OSError as error:
            message = (
                f"{self.name}: cannot be made ({error.strerror}). Check that the disk "
                "is not full, and that you may write there."
            )
            raise LabelsError(message) from error
        os.close(handle)
        return Path(name)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See that a transaction is one of the file that stands at the path.

        Raises
        ------
        StoreLostError
            What was opened is gone, another, or was written over; or it came to that
            during the transaction, which then may lie in no file at all.
        """
        self._check()
        yield
        self._state = self._look()

    def _check(self) -> None:
        if self._identity is None or self._look() == self._state:
            return
        # Another process has stored something; or it wrote over the file, and then
        # what SQLite remembers of its pages is worth nothing.
        version = self._read_version()
        if version == self._version:
            self.engine.dispose()
            with self.engine.connect() as connection:
                check = connection.exec_driver_sql(_CHECK).scalar_one()
            if check != "ok":
                what = f"it was written over ({check.splitlines()[-1]})"
                raise StoreLostError(self.name, what)
        else:
            self._version = version

    def describe_recovery(self) -> str:
        """Say what an error means for labels, and what to do."""
        return (
            "Nothing of this step was stored; what was stored before is safe. Check "
            "that the disk is not full, that you may write there, and that no other "
            "program holds the database; then try again."
        )

    def is_lost(self, error: BaseException | None) -> bool:
        """Tell whether SQLite says that this is no store any more."""
        code = getattr(error, "sqlite_errorcode", 0)
        is_moved = code == sqlite3.SQLITE_READONLY_DBMOVED
        return self._state is not None and (is_moved or code & 0xFF in _BROKEN)

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreLostError(
                self.name, "the file is gone from its place"
            ) from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreLostError(self.name, _ANOTHER)
        if found.st_size == 0:
            raise StoreLostError(self.name, "the file was emptied")
        return found.st_mtime_ns, found.st_size

    def _read_version(self) -> int:
        """Return what SQLite counts up when others have stored something."""
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(_VERSION).scalar_one())

    def _connect(self) -> sqlite3.Connection:
        """Open the file, and remember which one it is."""
        is_first = self._identity is None
        before = self._identify() if is_first else self._identity
        connection = self._open_first() if is_first else _open(self._path)
        self._identity = before
        try:
            self._look()  # it may have been replaced meanwhile
        except StoreLostError:
            connection.close()
            raise
        self._version = int(_read(connection, _VERSION))
        return connection

    def _identify(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            message = f"{self.name}: cannot be opened ({error.strerror})."
            raise LabelsError(message) from error
        if found.st_size == 0 and self._path.is_file():
            message = (
                f"{self.name}: is empty (0 bytes), as after a copy that was broken off "
                "or on a full disk; a store never is. Put a backup in its place; or, "
                "to begin a new store, delete the file."
            )
            raise LabelsError(message)
        return found.st_dev, found.st_ino

    def _open_first(self) -> sqlite3.Connection:
        """Open a file of which nothing is known, and look whether it is whole."""
        connection = self._open_without_journal()
        try:
            check = _read(connection, "PRAGMA integrity_check(1)").splitlines()[-1]
        except BaseException:
            connection.close()
            raise
        if check == "ok":
            return connection
        connection.close()
        message = (
            f"{self.name}: is damaged ({check}), as a copy is that was taken while "
            "somebody labelled, or of which a part is missing. Nothing was changed. "
            "Copy it again while nobody labels, or take a backup."
        )
        raise LabelsError(message)

    def _open_without_journal(self) -> sqlite3.Connection:
        """Open a file; one of an earlier version may have a journal (WAL) beside it.

        The journal is folded in for good. On a disk that is read-only SQLite would
        not open such a file, because it makes others beside it, even to read.
        """
        journal = self._path.with_name(f"{self._path.name}-wal")
        had_journal = journal.exists()
        try:
            connection = _open(self._path, **self._options)
        except sqlite3.OperationalError as error:
            is_shut = error.sqlite_errorcode & 0xFF in _READ_ONLY
            if not is_shut or had_journal or not self._path.is_file():
                raise
            connection = _open(self._path, **{**self._options, "immutable": "1"})
            warnings.warn(self._describe_missing_journal(journal), stacklevel=2)
            return connection
        if _read(connection, "PRAGMA journal_mode") == "wal":
            if not had_journal:
                warnings.warn(self._describe_missing_journal(journal), stacklevel=2)
            if self._may_write():
                _read(connection, "PRAGMA journal_mode = DELETE")
        return connection

    def _may_write(self) -> bool:
        places = self._path, self._path.parent
        is_asked_for = self._options.get("mode") != "ro"
        return is_asked_for and all(os.access(place, os.W_OK) for place in places)

    def _describe_missing_journal(self, journal: Path) -> str:
        return (
            f"{self.name}: was written with a journal beside it, {journal.name}, which "
            "is not there. If the store was closed before it was copied, it is whole. "
            "If it was copied while somebody labelled, or after a crash, the newest "
            "labels are missing: copy it again, together with its journal"
        )


def _make_engine(connect: Callable[[], sqlite3.Connection]) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.StaticPool)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # The driver would begin at the first write, after the reads it rests on.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _open(path: Path, **options: str) -> sqlite3.Connection:
    """Open a file that is there; never make one."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{urlencode({'mode': 'rw', **options})}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
        isolation_level=None,  # transactions begin in `_begin`, nowhere else
    )
    try:
        _read(connection, "PRAGMA synchronous = FULL")
        _read(connection, "PRAGMA fullfsync = ON")  # macOS: FULL alone is not enough
    except BaseException:
        connection.close()
        raise
    return connection


def _read(connection: sqlite3.Connection, statement: str) -> Any:
    with closing(connection.cursor()) as cursor:
        found = cursor.execute(statement).fetchone()
    return found and found[0]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"{folder}: the folder for the labels cannot be made ({error.strerror}). "
            "Choose a work folder that you may write to."
        )
        raise LabelsError(message) from error


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give a file its name, unless there is one of that name already."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:  # no hard links on this file system
        if not path.exists():
            temporary.rename(path)
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


CONNECT_TIMEOUT_S = 10
"""How long to wait for a connection."""

STATEMENT_TIMEOUT_S = 20
"""How long the server may work on a statement, or wait for another's."""

ANSWER_TIMEOUT_S = 25
"""How long to wait for any answer; then the server is taken to be frozen."""

_LOST = {"42P01", "3F000"}
"""What PostgreSQL answers where a table or its schema is gone."""


class StoreServer:
    """A store in PostgreSQL, or what else SQLAlchemy speaks with.

    Parameters
    ----------
    url
        With a password where the server asks for one.
    name
        For messages.
    """

    is_absent = False

    def __init__(self, url: sa.URL, name: str) -> None:
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._watch = _Watch(self._cut)
        self._was_open = False
        self._may_be_stored = False
        self._is_postgresql = url.get_backend_name() == "postgresql"
        self.engine = self._make_engine(url, name)
        # all that one transaction reads is of one moment, tables and rows alike
        one_moment = {"isolation_level": "REPEATABLE READ"}
        self.reader = self.engine.execution_options(
            **one_moment if self._is_postgresql else {}
        )

    def make(self, fill: Callable[[sa.Connection], None]) -> None:
        """Make the tables; `fill` runs in one transaction."""
        with self.watching(), self.engine.begin() as connection:
            fill(connection)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Cut the connection of a server that does not answer in time."""
        self._may_be_stored = False
        self._watch.arm()
        try:
            yield
        finally:
            self._watch.disarm()
        self._was_open = True

    def is_lost(self, error: BaseException | None) -> bool:
        """Tell whether the server says that this is no store any more."""
        return self._was_open and getattr(error, "sqlstate", None) in _LOST

    def describe_recovery(self) -> str:
        """Say what an error means for labels, and what to do."""
        stored = (
            "Whether this step was stored is not known"
            if self._may_be_stored
            else "Nothing of this step was stored"
        )
        silence = (
            f" The server did not answer within {ANSWER_TIMEOUT_S} s."
            if self._watch.is_over
            else ""
        )
        return (
            f"{stored}; what was stored before is safe.{silence} Check that the server "
            "runs, that it can be reached from here and that you may write there (the "
            f"password: ~/.pgpass or the environment variable {PASSWORD_VARIABLE}); "
            "then try again."
        )

    def _make_engine(self, url: sa.URL, name: str) -> sa.Engine:
        limit = {"connect_timeout": CONNECT_TIMEOUT_S}
        is_told = not self._is_postgresql or "connect_timeout" in url.query
        try:
            engine = sa.create_engine(
                url, pool_pre_ping=True, connect_args={} if is_told else limit
            )
        except (ImportError, SQLAlchemyError) as error:
            message = (
                f"{name}: no driver that can be used is installed for this kind of "
                f"database ({error}). For PostgreSQL: pip install "
                "'single-hits[cluster]'."
            )
            raise LabelsError(message) from error
        sa.event.listen(engine, "connect", self._limit)
        sa.event.listen(engine, "engine_connect", self._watch.disarm)
        sa.event.listen(engine, "before_cursor_execute", self._watch.arm)
        sa.event.listen(engine, "after_cursor_execute", self._watch.disarm)
        sa.event.listen(engine, "commit", self._begin_commit)
        return engine

    def _limit(self, connection: Any, _: Any) -> None:
        self._connections.add(connection)
        if not self._is_postgresql:
            return
        limit = f"{STATEMENT_TIMEOUT_S * 1000:.0f}"
        with connection.cursor() as cursor:
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SET {name} = {limit}")
        connection.commit()

    def _begin_commit(self, _: sa.Connection) -> None:
        self._may_be_stored = True
        self._watch.arm()

    def _cut(self) -> None:
        """Let whoever waits for the server see a connection that has ended."""
        for connection in list(self._connections):
            with suppress(Exception):  # one that was closed needs no cut
                handle = socket.socket(fileno=os.dup(connection.fileno()))
                handle.shutdown(socket.SHUT_RDWR)
                handle.close()


class _Watch:
    """Calls a function when something takes longer than `ANSWER_TIMEOUT_S`."""

    def __init__(self, when_over: Callable[[], None]) -> None:
        self.is_over = False
        self._when_over = when_over
        self._timer: threading.Timer | None = None

    def arm(self, *_: Any) -> None:
        self.disarm()
        self.is_over = False
        self._timer = threading.Timer(ANSWER_TIMEOUT_S, self._end)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self, *_: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _end(self) -> None:
        self.is_over = True
        self._when_over()
