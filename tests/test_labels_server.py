"""A label store on a server that freezes, is not ours, or asks for a password."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from helpers.errors import HelpersError, LabelsError, StoreLostError
from helpers.labels import LabelStore, open_label_store, open_work
from helpers.labels.store_places import PASSWORD_VARIABLE, split_password

NUMBER = count()


@pytest.fixture
def address(postgresql: sa.Engine) -> str:
    """Give the address of a schema that is new."""
    name = f"server{next(NUMBER)}"
    with postgresql.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    url = postgresql.url.set(drivername="postgresql")
    url = url.update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


def open_store(address: str) -> LabelStore:
    return open_label_store(address, "abc", 10)


def record(store: LabelStore, seq: int) -> None:
    store.record(seq, "single", labeller="anna", session="s", seq=seq)


def schema_of(address: str) -> str:
    return re.search(r"server\d+", address)[0]


@contextlib.contextmanager
def frozen(postgresql: sa.Engine, *whom: str) -> Iterator[None]:
    """Stop the processes that serve somebody, the one that takes calls, or both."""
    folder = Path(str(postgresql.url.query["host"]))
    main = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    query = (
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND pid <> pg_backend_pid()"
    )
    with postgresql.connect() as connection:
        serving = [*connection.scalars(sa.text(query))]
    pids = [main] * ("main" in whom) + serving * ("serving" in whom)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.labels.store_places.ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr("helpers.labels.store_places.CONNECT_TIMEOUT_S", 2)


@pytest.mark.usefixtures("impatient")
def test_frozen_server_ends_in_an_error_and_no_lock_is_left(
    postgresql: sa.Engine, address: str
) -> None:
    with open_store(address) as store:
        record(store, 1)
        with frozen(postgresql, "main", "serving"):
            with pytest.raises(LabelsError, match="Check that the server runs"):
                record(store, 2)
            freed = threading.Thread(target=store.close)
            freed.start()
            freed.join(timeout=20)
            assert not freed.is_alive()
        record(store, 2)
        assert store.history()[-1].seq == 2


@pytest.mark.usefixtures("impatient")
def test_process_of_the_server_that_hangs_is_left_for_another(
    postgresql: sa.Engine, address: str
) -> None:
    with open_store(address) as store:
        record(store, 1)
        with frozen(postgresql, "serving"):
            record(store, 2)
        assert store.history()[-1].seq == 2


@pytest.mark.usefixtures("impatient")
def test_server_that_freezes_in_the_middle_is_reported(
    postgresql: sa.Engine, address: str
) -> None:
    with open_store(address) as store, contextlib.ExitStack() as ended:
        sa.event.listen(
            store._database._place.engine,
            "before_cursor_execute",
            lambda *_: ended.enter_context(frozen(postgresql, "serving")),
            once=True,
        )
        with pytest.raises(LabelsError, match=r"stored; .* not answer within 0.5 s"):
            record(store, 1)


@pytest.mark.usefixtures("impatient")
def test_server_that_takes_no_call_ends_in_an_error(
    postgresql: sa.Engine, address: str
) -> None:
    with (
        frozen(postgresql, "main"),
        pytest.raises(LabelsError, match="Check that the server runs"),
    ):
        open_store(address)


def test_statement_that_waits_for_another_ends_in_an_error(
    postgresql: sa.Engine, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.labels.store_places.STATEMENT_TIMEOUT_S", 0.3)
    with open_store(address) as store, postgresql.begin() as other:
        other.exec_driver_sql(
            f"SELECT * FROM {schema_of(address)}.labelled_patterns FOR UPDATE"
        )
        with pytest.raises(LabelsError, match=r"statement timeout.*Nothing of this"):
            record(store, 1)
        other.rollback()
        record(store, 1)


def test_schema_that_is_dropped_is_reported(
    postgresql: sa.Engine, address: str
) -> None:
    with open_store(address) as store:
        record(store, 1)
        with postgresql.begin() as other:
            other.exec_driver_sql(f"DROP SCHEMA {schema_of(address)} CASCADE")
        with pytest.raises(StoreLostError, match="it is damaged"):
            record(store, 2)


def test_database_that_is_put_back_to_yesterday_is_reported(
    postgresql: sa.Engine, address: str
) -> None:
    schema = schema_of(address)
    with open_store(address) as store:
        record(store, 1)
        record(store, 2)
        with postgresql.begin() as other:
            for change in (
                "ALTER TABLE {0}.label_events DISABLE TRIGGER append_only",
                "DELETE FROM {0}.label_events WHERE seq = 2",
            ):
                other.exec_driver_sql(change.format(schema))
        with pytest.raises(StoreLostError, match="no longer holds what it held"):
            record(store, 3)


CHANGES = {
    "ALTER TABLE {0}.label_events DROP COLUMN shown": "without shown",
    "ALTER TABLE {0}.label_events ADD COLUMN mood text": "with unknown mood",
    "DROP VIEW {0}.current_labels": "lacks current_labels",
    "DROP TABLE {0}.label_events CASCADE": "lacks label_events and standing_labels",
    "DELETE FROM {0}.labelled_patterns": "does not say for which patterns",
    "ALTER TABLE {0}.labelled_patterns RENAME TO p": "lacks labelled_patterns",
}


@pytest.mark.parametrize(("change", "said"), CHANGES.items())
def test_older_or_foreign_schema_is_reported_on_opening(
    change: str, said: str, postgresql: sa.Engine, address: str
) -> None:
    with open_store(address):
        pass
    with postgresql.begin() as other:
        views = change.startswith("ALTER") and "DROP COLUMN" in change
        if views:
            other.exec_driver_sql(
                f"DROP VIEW {schema_of(address)}.standing_labels CASCADE"
            )
        other.exec_driver_sql(change.format(schema_of(address)))
    with pytest.raises(LabelsError, match="holds no labels of this version") as caught:
        open_store(address)
    assert said in str(caught.value)


ADDRESSES = [
    "postgresql://anna:s3cret@127.0.0.1:1/labels",
    "postgresql://127.0.0.1:1/labels?user=anna&password=s3cret",
    "postgresql://anna@127.0.0.1:1/labels?password=s3cret&sslmode=disable",
    "postgresql://anna:s3cret@nosuchhost.invalid/labels",
    "postgresql://anna:my@s3cret@127.0.0.1:1/labels",
    "postgresql://anna:s3cret#@127.0.0.1:1/labels",
    "postgresql://anna:s3cret/more@127.0.0.1:1/labels",
    "postgresql://127.0.0.1:s3cret/labels",
    "postgresql:/anna:s3cret@127.0.0.1://",
    "postgresql://anna:%s3cret@127.0.0.1:1/labels",
    "postgresql://anna:x@127.0.0.1:1/labels?passwrd=s3cret",
    "nosuch://anna:s3cret@127.0.0.1/labels",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_message_shows_a_password(address: str) -> None:
    with pytest.raises(LabelsError) as caught:
        open_store(address)
    error: BaseException | None = caught.value
    while error:
        assert "s3cret" not in str(error)
        error = error.__cause__
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_password_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from helpers.labels.store_places import read_url

    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret/@")
    assert read_url("postgresql://anna@host/labels").password == "s3cret/@"
    assert read_url("postgresql://anna:own@host/labels").password == "own"
    assert read_url("work/labels.sqlite").password is None


@pytest.mark.parametrize(
    ("address", "bare", "password"),
    [
        ("work/labels.sqlite", "work/labels.sqlite", ""),
        ("postgresql://anna@host/labels", "postgresql://anna@host/labels", ""),
        ("postgresql://anna:a%40b@h:5/l", "postgresql://anna@h:5/l", "a@b"),
        ("postgresql://h/l?password=x&a=b", "postgresql://h/l?a=b", "x"),
    ],
)
def test_password_is_split_from_its_address(
    address: str, bare: str, password: str
) -> None:
    assert split_password(address) == (bare, password)


def test_password_in_a_notebook_is_reported(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="holds a password, which stands in this"),
        pytest.raises(HelpersError),  # nothing was inspected
    ):
        open_work(tmp_path, "", "postgresql://anna:s3cret@127.0.0.1:1/labels")
