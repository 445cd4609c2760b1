"""A store that is pulled away, put back, cut or copied while it is open."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from helpers.errors import LabelsError, StoreLostError
from helpers.labels import LabelStore, open_label_store

N_PATTERNS = 500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.sqlite"


def open_store(path: str | Path) -> LabelStore:
    return open_label_store(path, "abc", N_PATTERNS)


def record(store: LabelStore, seq: int) -> None:
    store.record(seq, "single", labeller="anna", session="s", seq=seq)


def labelled(path: Path) -> list[int]:
    with open_store(path) as store:
        return np.flatnonzero(store.current_labels() == "single").tolist()


def journals(path: Path) -> list[str]:
    return [each.name for each in path.parent.iterdir() if each != path]


def write_over(path: Path, content: bytes) -> None:
    """Change what is in the file, which stays the same file."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def delete(path: Path, _: Path) -> None:
    path.unlink()


def move_away(path: Path, _: Path) -> None:
    path.rename(path.with_name("moved.sqlite"))


def put_backup(path: Path, backup: Path) -> None:
    shutil.copy(backup, path.with_name("new"))
    path.with_name("new").replace(path)


def put_copy_of_itself(path: Path, _: Path) -> None:
    put_backup(path, path)


def copy_backup_over(path: Path, backup: Path) -> None:
    write_over(path, backup.read_bytes())


def empty(path: Path, _: Path) -> None:
    write_over(path, b"")


def cut(path: Path, _: Path) -> None:
    write_over(path, path.read_bytes()[:8192])


def write_text_over(path: Path, _: Path) -> None:
    write_over(path, b"no database\n" * 2000)


def damage_pages(path: Path, _: Path) -> None:
    content = path.read_bytes()
    write_over(path, content[:4096] + b"\xff" * (len(content) - 4096))


def put_store_of_others(path: Path, backup: Path) -> None:
    other = backup.with_name("other.sqlite")
    with open_label_store(other, "xyz", N_PATTERNS):
        pass
    copy_backup_over(path, other)


def remove_folder(path: Path, _: Path) -> None:
    shutil.rmtree(path.parent)


TROUBLES = [
    delete,
    move_away,
    put_backup,
    put_copy_of_itself,
    copy_backup_over,
    empty,
    cut,
    write_text_over,
    damage_pages,
    put_store_of_others,
    remove_folder,
]


@pytest.fixture
def pulled_away(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[LabelStore, Path]:
    """Give an open store with ten labels, of which something has happened."""
    path = tmp_path / "work" / "labels.sqlite"
    backup = tmp_path / "backup.sqlite"
    store = open_store(path)
    for seq in range(1, 11):
        record(store, seq)
        if seq == 5:
            shutil.copy(path, backup)
    request.param(path, backup)
    return store, path


@pytest.mark.parametrize("pulled_away", TROUBLES, indirect=True)
def test_nothing_is_acknowledged_that_does_not_stand_at_the_path(
    pulled_away: tuple[LabelStore, Path], tmp_path: Path
) -> None:
    store, path = pulled_away
    before = path.read_bytes() if path.exists() else b""
    for _ in range(2):
        with pytest.raises(StoreLostError, match=r"labels.sqlite: .*store.rescue\(\)"):
            record(store, 11)
        with pytest.raises(StoreLostError):
            store.undo(labeller="anna", session="s", seq=11)
    assert (path.read_bytes() if path.exists() else b"") == before
    left = {each.name for each in path.parent.glob("*")}
    assert left <= {"labels.sqlite", "moved.sqlite"}  # and no journal of another
    rescued = store.rescue(tmp_path / "rescued.sqlite")
    assert labelled(rescued) == [*range(1, 11)]


@pytest.mark.parametrize("pulled_away", [delete, put_backup, cut], indirect=True)
def test_labels_of_a_lost_store_are_not_read_as_if_it_were_there(
    pulled_away: tuple[LabelStore, Path],
) -> None:
    with pytest.raises(StoreLostError):
        pulled_away[0].current_labels()


def test_backup_that_was_moved_over_an_open_store_is_whole(
    path: Path, tmp_path: Path
) -> None:
    with open_store(path) as store:
        record(store, 1)
        shutil.copy(path, tmp_path / "backup")
        record(store, 2)
        (tmp_path / "backup").replace(path)
        with pytest.raises(StoreLostError):
            record(store, 3)
        assert labelled(path) == [1]
    with open_store(path) as store:
        record(store, 4)
    assert labelled(path) == [1, 4]


def test_store_that_is_put_back_goes_on(path: Path) -> None:
    with open_store(path) as store:
        record(store, 1)
        path.rename(path.with_name("away"))
        with pytest.raises(StoreLostError):
            record(store, 2)
        path.with_name("away").rename(path)
        record(store, 2)
    assert labelled(path) == [1, 2]


def test_others_may_store_and_touch_without_harm(path: Path) -> None:
    with open_store(path) as ours, open_store(path) as theirs:
        for seq in range(1, 8):
            record(ours if seq % 2 else theirs, seq)
        path.touch()
        record(ours, 8)
    assert labelled(path) == [*range(1, 9)]


def test_rescue_is_refused_where_it_would_harm(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        with pytest.raises(LabelsError, match="nothing was given in this session"):
            store.rescue()
        record(store, 1)
        with pytest.raises(LabelsError, match="is there already"):
            store.rescue(path)
        assert store.rescue().parent == path.parent
        assert labelled(path) == [1]


def test_rescue_knows_what_was_undone_and_who_did_it(path: Path) -> None:
    with open_store(path) as store:
        record(store, 1)
        record(store, 1)  # sent twice
        record(store, 2)
        store.undo(labeller="anna", session="s", seq=3)
        path.unlink()
        rescued = store.rescue()
    assert labelled(rescued) == [1]
    with open_store(rescued) as store:
        assert [event.seq for event in store.history(labeller="anna")] == [1, 2, 3]


def test_copy_of_the_file_alone_holds_whatever_was_acknowledged(
    path: Path, tmp_path: Path
) -> None:
    with open_store(path) as store:
        for seq in range(1, 30):
            record(store, seq)
            copy = shutil.copy(path, tmp_path / f"copy{seq}.sqlite")
            assert labelled(Path(copy)) == [*range(1, seq + 1)]


WRITER = """
import os, sys
from helpers.labels import open_label_store
store = open_label_store(sys.argv[1], "abc", 500)
for seq in range(1, 40):
    store.record(seq, "single", labeller="anna", session="s", seq=seq)
os.kill(os.getpid(), 9)
"""


def test_copy_after_a_kill_holds_whatever_was_acknowledged(
    path: Path, tmp_path: Path
) -> None:
    writer = subprocess.run([sys.executable, "-c", WRITER, path], check=False)
    assert writer.returncode == -9
    copy = Path(shutil.copy(path, tmp_path / "copy.sqlite"))
    assert labelled(copy) == [*range(1, 40)]


def make_store_with_wal(path: Path) -> None:
    """Leave a store as earlier versions did, with a journal that is kept beside it."""
    with open_store(path) as store:
        record(store, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")


def test_store_without_its_journal_is_reported(path: Path, tmp_path: Path) -> None:
    make_store_with_wal(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "INSERT INTO label_events SELECT 9, session, 9, kind, "
            "labeller, labelled_at, 0, shown, 9, label, NULL, NULL FROM label_events"
        )
        database.execute("COMMIT")
        copy = Path(shutil.copy(path, tmp_path / "copy.sqlite"))
        both = Path(shutil.copy(path, tmp_path / "both.sqlite"))
        shutil.copy(f"{path}-wal", f"{both}-wal")
    with pytest.warns(UserWarning, match=r"copy.sqlite-wal, which is not there"):
        assert labelled(copy) == [1]
    assert labelled(copy) == [1]  # told once
    assert labelled(both) == [1, 9]


def test_empty_file_is_never_taken_as_a_new_store(path: Path) -> None:
    path.touch()
    with pytest.raises(LabelsError, match=r"is empty \(0 bytes\)"):
        open_store(path)
    assert path.stat().st_size == 0


def test_link_to_a_store_stays_one_and_is_watched(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "store.sqlite"
    path.symlink_to(elsewhere)  # nothing is there yet
    with open_store(path) as store:
        record(store, 1)
        assert path.is_symlink()
        assert labelled(elsewhere) == [1]
        path.unlink()
        path.symlink_to(tmp_path / "another.sqlite")
        with pytest.raises(StoreLostError):
            record(store, 2)
    assert labelled(elsewhere) == [1]


def test_half_of_a_copy_is_reported(path: Path) -> None:
    with open_store(path) as store:
        for seq in range(1, 200):
            record(store, seq)
    content = path.read_bytes()
    for size in (100, 4096, len(content) // 2, len(content) - 4096):
        path.write_bytes(content[:size])
        with pytest.raises(LabelsError, match=r"labels.sqlite: "):
            open_store(path)
        assert path.stat().st_size == size
    path.write_bytes(content[: -len(content) // 3] + bytes(len(content) // 3))
    with pytest.raises(LabelsError, match=r"is damaged|database answered"):
        open_store(path)


def test_database_of_another_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE bookmarks (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(LabelsError, match="holds no labels of this version"):
        open_store(path)
    assert path.read_bytes() == before


def test_store_is_not_readable_by_all(path: Path) -> None:
    with open_store(path) as store:
        record(store, 1)
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007
        assert not stat.S_IMODE(store.rescue().stat().st_mode) & 0o007


READER = """
import os, sys
import numpy as np
from helpers.labels import open_label_store
os.setgid(65534)
os.setuid(65534)
with open_label_store(sys.argv[1], "abc", 500) as store:
    print(np.flatnonzero(store.current_labels() == "single").tolist())
"""


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """Give a folder that others may read; they may not look into pytest's."""
    with tempfile.TemporaryDirectory(prefix="labels-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("of_earlier_version", [False, True])
def test_closed_store_opens_where_nothing_may_be_written(
    of_earlier_version: bool, seen_by_all: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not write")
    path = seen_by_all / "labels.sqlite"
    with open_store(path) as store:
        record(store, 1)
    if of_earlier_version:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o644)
    command = [sys.executable, "-c", READER, path]
    reader = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reader.stdout == "[1]\n", reader.stderr
    assert ("which is not there" in reader.stderr) == of_earlier_version
    assert journals(path) == []
