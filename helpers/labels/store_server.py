"""A label store on a database server, which may stop answering at any moment."""

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from helpers.errors import LabelsError
from helpers.labels.store_url import PASSWORD_VARIABLE

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

    def say_what_to_do(self) -> str:
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
