"""What must not lose a label: kill, full disk, lock, read-only file, network disk."""

import multiprocessing
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
import sqlalchemy as sa

from helpers.errors import LabelsError
from helpers.labels import LABELS, open_label_store

N_PATTERNS = 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.sqlite"


def open_store(path):
    return open_label_store(path, "abc", N_PATTERNS)


def given_label(session, seq):
    """Say which label the writer gives, so that the reader can tell it is the one."""
    number = 7919 * seq + 31 * int(session)
    return number % N_PATTERNS, LABELS[number % len(LABELS)]


def write_labels(path, session, n_labels, acknowledge):
    """Record labels in another process; acknowledge each one that is stored."""
    with open_store(path) as store:
        for seq in range(1, n_labels + 1):
            pattern, label = given_label(session, seq)
            store.record(pattern, label, labeller="anna", session=session, seq=seq)
            acknowledge.send(seq)
    acknowledge.close()


@pytest.fixture(scope="module")
def processes():
    """Start processes quickly, from a server that has imported the store already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.labels"])
    return context


def start_writer(processes, path, session, n_labels):
    received, acknowledge = processes.Pipe(duplex=False)
    arguments = (path, session, n_labels, acknowledge)
    writer = processes.Process(target=write_labels, args=arguments)
    writer.start()
    acknowledge.close()
    return writer, received


def acknowledged(received) -> Iterator[int]:
    try:
        while True:
            yield received.recv()
    except (EOFError, OSError):
        received.close()


def stored_seqs(store, session):
    events = [event for event in store.history() if event.session == session]
    for event in events:
        assert (event.pattern, event.label) == given_label(session, event.seq)
    return [event.seq for event in events]


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_writer_has_lost_nothing_that_was_acknowledged(processes, path, kills):
    rng = np.random.default_rng(1)
    for kill in range(kills):
        writer, received = start_writer(processes, path, str(kill), n_labels=10_000)
        seen = acknowledged(received)
        last = [next(seen) for _ in range(rng.integers(1, 40))][-1]
        writer.kill()
        last = max([last, *seen])
        writer.join()
        with open_store(path) as store:
            stored = stored_seqs(store, str(kill))
        assert stored in (list(range(1, last + 1)), list(range(1, last + 2)))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_write_to_one_file(processes, path):
    writers = [start_writer(processes, path, session, 60) for session in ("1", "2")]
    for writer, received in writers:
        assert list(acknowledged(received)) == list(range(1, 61))
        writer.join()
    with open_store(path) as store:
        assert stored_seqs(store, "1") == stored_seqs(store, "2") == list(range(1, 61))


@contextmanager
def file_size_limit(path):
    """Let no file grow: the operating system refuses, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(each.stat().st_size for each in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def page_limit(path):
    """Let the database not grow: SQLite says that the disk is full."""

    def limit(connection, _):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    sa.event.listen(sa.pool.Pool, "connect", limit)
    try:
        yield
    finally:
        sa.event.remove(sa.pool.Pool, "connect", limit)


def write_on(store, acknowledged):
    for seq in range(acknowledged[-1] + 1, 1000):
        store.record(
            0, "single", labeller="anna", session="0", seq=seq, shown="x" * 500
        )
        acknowledged.append(seq)


@pytest.mark.parametrize("full_disk", [file_size_limit, page_limit])
def test_full_disk_loses_nothing_and_work_goes_on_afterwards(path, full_disk):
    acknowledged = [0]
    with open_store(path):
        pass
    with full_disk(path), open_store(path) as store:
        with pytest.raises(LabelsError, match=r"labels.sqlite: .*Nothing of this step"):
            write_on(store, acknowledged)
        assert store.history()[-1].seq == acknowledged[-1]
    last = acknowledged[-1]
    assert last > 1
    with open_store(path) as store:
        store.record(1, "blank", labeller="anna", session="0", seq=last + 1)
        seqs = [event.seq for event in store.history()]
    assert seqs == list(range(1, last + 2))


def test_file_that_may_only_be_read_gives_its_labels_and_takes_none(path):
    with open_store(path) as store:
        store.record(2, "single", labeller="anna", session="s", seq=1)
    with open_store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.current_labels()[2] == "single"
        with pytest.raises(LabelsError, match=r"may write there"):
            store.record(3, "blank", labeller="anna", session="s", seq=2)
        assert store.history()[-1].seq == 1


def test_store_in_a_folder_that_may_not_be_written(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(LabelsError, match=r"labels.sqlite: .*may write there"):
        open_store(folder / "labels.sqlite")
    with pytest.raises(LabelsError, match=r"folder for the labels cannot be made"):
        open_store(folder / "work" / "labels.sqlite")


def test_waiting_for_another_program_ends_with_an_error(path, monkeypatch):
    monkeypatch.setattr("helpers.labels.store_places.BUSY_TIMEOUT_S", 0)
    with open_store(path) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LabelsError, match=r"no other program holds the database"):
            store.record(0, "single", labeller="anna", session="s", seq=1)
        other.rollback()
        store.record(0, "single", labeller="anna", session="s", seq=1)
        assert store.history()[-1].seq == 1


def test_each_commit_is_flushed_to_the_disk(path):
    found = []

    def look(connection):
        found.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    sa.event.listen(sa.Engine, "begin", look)
    try:
        with open_store(path) as store:
            store.record(0, "single", labeller="anna", session="s", seq=1)
    finally:
        sa.event.remove(sa.Engine, "begin", look)
    assert set(found) == {2}  # FULL


def test_folder_of_the_store_is_made(tmp_path):
    with open_store(tmp_path / "a" / "b" / "labels.sqlite"):
        assert (tmp_path / "a" / "b" / "labels.sqlite").exists()


@pytest.mark.parametrize("content", [b"pattern,label\n" * 100, os.urandom(5000)])
def test_file_that_is_no_database_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=r"labels.sqlite: the database answered"):
        open_store(path)
    assert path.read_bytes() == content


def test_folder_instead_of_a_file_is_refused(tmp_path):
    with pytest.raises(LabelsError, match="the database answered"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite://", "in memory would lose every label"),
        ("sqlite:///:memory:", "in memory would lose every label"),
        ("nosuch://host/base", "no driver that can be used"),
        ("oracle+nosuch://host/base", "no driver that can be used"),
        ("http//://x y", "cannot be read. Expected a path such as"),
    ],
)
def test_address_that_cannot_be_used_is_refused(address, message):
    with pytest.raises(LabelsError, match=message):
        open_store(address)


def test_password_is_not_shown():
    with pytest.raises(LabelsError) as caught:
        open_store("postgresql://anna:secret@127.0.0.1:1/labels")
    assert "anna:***@127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
