import json
import re

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.outputs import (
    atomic_folder,
    atomic_write,
    escape_formula,
    provenance,
    sha256_of,
    unescape_formula,
    write_json,
    write_provenance,
)


class BrokenOff(Exception):
    pass


def break_off(output):
    """Write half a file, or half a folder, and stop."""
    with output as temporary:
        half = temporary / "half" if temporary.is_dir() else temporary
        half.write_text("half")
        raise BrokenOff


def test_a_whole_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    for text in ("old", "new"):
        with atomic_write(path) as temporary:
            temporary.write_text(text)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_off_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(BrokenOff):
        break_off(atomic_write(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_has_the_permissions_of_any_new_file(tmp_path):
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    with atomic_write(ours) as temporary:
        temporary.write_text("")
    plain.touch()
    assert ours.stat().st_mode == plain.stat().st_mode


def test_a_whole_folder_replaces_the_old_one(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_folder(path) as temporary:
            (temporary / name).touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_off_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(BrokenOff):
        break_off(atomic_folder(path))
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_provenance_says_who_when_and_from_what():
    found = provenance(source="run7.h5")
    assert found["made_by"].startswith("single-hits ")
    assert found["made_at"].endswith("+00:00")
    assert found["package_versions"]["h5py"] == h5py.__version__
    assert found["source"] == "run7.h5"


def test_provenance_of_a_thousand_files_fits_into_hdf5(tmp_path):
    files = [f"/a/long/folder/name/for/every/file/run{k:05d}.h5" for k in range(3000)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_provenance(file, patterns_files=files)
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file.attrs["patterns_files"]) == files


def test_json_is_readable_and_keeps_its_characters(tmp_path):
    write_json(tmp_path / "a.json", {"unit": "Å", "shape": [1, 2]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Å" in text
    assert json.loads(text) == {"unit": "Å", "shape": [1, 2]}


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


@given(st.text(alphabet="=+-@＝'\"; ,|\t\na1"))
def test_no_text_begins_a_formula_and_each_comes_back(text):
    escaped = escape_formula(text)
    for cell in re.split(r"[;,|\t\r\n]", escaped):
        assert not cell.strip().startswith(("=", "+", "-", "@", "＝"))
    assert unescape_formula(escaped) == text


@pytest.mark.parametrize("text", ["anna", "O'Hara", "'quoted'", "a-b", "x=1", ""])
def test_plain_text_is_left_as_it_is(text):
    assert escape_formula(text) == unescape_formula(text) == text


def test_links_stay_links(tmp_path):
    (tmp_path / "far" / "folder").mkdir(parents=True)
    file, folder, work = (tmp_path / name for name in ("file", "folder", "work"))
    file.symlink_to(tmp_path / "far" / "file")  # leads nowhere yet
    folder.symlink_to(tmp_path / "far" / "folder")
    work.symlink_to(tmp_path / "far" / "work")
    for text in ("old", "new"):
        for path in (file, work / "a" / "b"):
            with atomic_write(path) as temporary:
                temporary.write_text(text)
        with atomic_folder(folder) as temporary:
            (temporary / text).touch()
    assert all(path.is_symlink() for path in (file, folder, work))
    assert (tmp_path / "far" / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "far" / "folder").iterdir()] == ["new"]
    assert (tmp_path / "far" / "work" / "a" / "b").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {
        "far",
        "file",
        "folder",
        "work",
    }
