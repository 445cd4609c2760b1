"""Labels in the forms of other programs are recognised and brought into a store."""

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers.errors import LabelsError, OtherPatternsError
from helpers.labels import LabelStore, import_labels, label_forms, open_label_store
from helpers.patterns import Patterns, open_patterns

N = 6
COUNTS = np.random.default_rng(0).poisson(1, (N, 5, 4)).astype("i4")


def write_stack(path: Path, **more: Any) -> Patterns:
    with h5py.File(path, "w") as file:
        file["patterns"] = COUNTS
        for name, values in more.items():
            file[name] = values
    return open_patterns(path)


@pytest.fixture
def patterns(tmp_path: Path) -> Patterns:
    return write_stack(tmp_path / "run0090.h5")


@pytest.fixture
def store(tmp_path: Path, patterns: Patterns) -> LabelStore:
    return open_label_store(tmp_path / "labels.sqlite", patterns.fingerprint, N)


def words_of(store: LabelStore) -> list[str]:
    words: list[str] = store.current_labels().tolist()
    return words


def test_csv_of_this_package(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("pattern,label\n1,single\n4,blank\n")
    assert import_labels(store, path, patterns) == 2
    assert import_labels(store, path, patterns) == 0
    assert words_of(store) == ["", "single", "", "", "blank", ""]


def test_specklenn_takes_the_run_of_the_file(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "amo.label.csv"
    rows = [("amo", 90, 0, 9), ("amo", 90, 3, 1), ("amo", 91, 4, 1)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("exp", "run", "event_num", "label"), *rows])
    assert import_labels(store, path, patterns) == 2
    assert words_of(store) == ["blank", "", "", "single", "", ""]


def test_specklenn_by_the_event_numbers_of_the_file(tmp_path: Path) -> None:
    detector = "entry_1/instrument_1/detector_1"
    with h5py.File(tmp_path / "hits.cxi", "w") as file:
        file[f"{detector}/photons"] = COUNTS
        file["entry_1/result_1/nHits"] = np.ones(N)
        file["LCLS/eventNumber"] = [12, 40, 41, 207, 300, 301]
    patterns = open_patterns(tmp_path / "hits.cxi")
    assert patterns.shots["event"].tolist() == [12, 40, 41, 207, 300, 301]
    assert "Shots: event 12 to 301." in patterns.describe()
    store = open_label_store(tmp_path / "a.sqlite", patterns.fingerprint, N)
    path = tmp_path / "amo.json"
    path.write_text(json.dumps({"40": "1", "300": "2"}))
    assert import_labels(store, path, patterns) == 2
    assert words_of(store) == ["", "single", "", "", "multiple", ""]


def test_another_store_is_merged(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    with open_label_store(tmp_path / "b.sqlite", *store.made_for) as other:
        other.record(3, "blank", labeller="ben", session="t", seq=1)
        rescued = other.rescue(tmp_path / "rescued.sqlite")
    assert import_labels(store, rescued, patterns) == 1
    assert import_labels(store, tmp_path / "b.sqlite", patterns) == 0
    assert store.history()[0].labeller == "ben"
    with open_label_store(tmp_path / "c.sqlite", "of others", N):
        pass
    with pytest.raises(OtherPatternsError):
        import_labels(store, tmp_path / "c.sqlite", patterns)


@pytest.mark.parametrize("given", ["", "train_index.dat", "train_labels.dat"])
def test_pr772_study(
    given: str, store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    (tmp_path / "train_index.dat").write_text("run0090.h5,0\nrun0090.h5,5\n")
    (tmp_path / "train_labels.dat").write_text("1\n0\n")
    assert import_labels(store, tmp_path / given, patterns) == 2
    assert words_of(store) == ["single", "", "", "", "", "other"]


@pytest.mark.parametrize(("first_index", "single"), [(0, [2, 4]), (1, [1, 3])])
def test_list_of_single_hits(
    first_index: int,
    single: list[int],
    store: LabelStore,
    patterns: Patterns,
    tmp_path: Path,
) -> None:
    path = tmp_path / "hits.txt"
    path.write_text("2\n4\n")
    with pytest.raises(LabelsError, match="pass first_index=0 or first_index=1"):
        import_labels(store, path, patterns)
    assert import_labels(store, path, patterns, first_index=first_index) == 2
    assert np.flatnonzero(store.current_labels() == "single").tolist() == single


def test_list_for_one_file_of_several(tmp_path: Path) -> None:
    for name in ("a7.h5", "b8.h5"):
        write_stack(tmp_path / name)
    patterns = open_patterns([tmp_path / "a7.h5", tmp_path / "b8.h5"])
    store = open_label_store(tmp_path / "a.sqlite", patterns.fingerprint, 2 * N)
    (tmp_path / "b8_single.txt").write_text("0\n2\n")
    assert import_labels(store, tmp_path / "b8_single.txt", patterns) == 2
    assert np.flatnonzero(store.current_labels() == "single").tolist() == [N, N + 2]
    (tmp_path / "hits.txt").write_text("0\n")
    with pytest.raises(LabelsError, match="not clear for which of the 2 files"):
        import_labels(store, tmp_path / "hits.txt", patterns)


def test_euxfel2013_asks_for_its_words(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("90 0 3\n90 1 1\n")
    with pytest.raises(LabelsError, match=r"label_words=\['1 single'"):
        import_labels(store, path, patterns)
    words = ["3 single", "1 multiple"]
    assert import_labels(store, path, patterns, label_words=words) == 2
    assert words_of(store)[:2] == ["single", "multiple"]


def test_hdf5_of_the_liu_lab(tmp_path: Path) -> None:
    labels = np.array([1.0, 0, 0, 1, np.nan, 0])
    patterns = write_stack(tmp_path / "a.h5", labels=labels, mask=np.zeros((5, 4)))
    store = open_label_store(tmp_path / "a.sqlite", patterns.fingerprint, N)
    assert import_labels(store, tmp_path / "a.h5", patterns) == 5
    assert words_of(store) == ["single", "other", "other", "single", "", "other"]


def test_hdf5_that_says_nothing_of_its_codes(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.arange(N) % 2
    with pytest.raises(
        LabelsError, match=r"meant by 0 \(3 times\), 1 \(3 times\). Say it with label_"
    ):
        import_labels(store, path, patterns)
    words = ["0 blank", "1 single"]
    assert import_labels(store, path, patterns, label_words=words) == N


def test_what_does_not_apply_to_a_form_is_said(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    lists = tmp_path / "single.txt"
    lists.write_text("0\n3\n")
    with pytest.raises(
        LabelsError, match=r"label_words does not apply.*single hits and"
    ):
        import_labels(store, lists, patterns, label_words=["1 single"])
    events = tmp_path / "amo.json"
    events.write_text(json.dumps({"1": "1"}))
    with pytest.raises(LabelsError, match=r"first_index does not apply.*own numbers"):
        import_labels(store, events, patterns, first_index=1)
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["labels"] = np.ones(N)
    with pytest.raises(LabelsError, match=r"first_index does not apply.*each pattern"):
        import_labels(store, tmp_path / "l.h5", patterns, first_index=1)


def test_first_index_and_words_of_a_csv_and_of_euxfel2013(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("Pattern;Label\n1;good one\n")
    said = {"first_index": 1, "label_words": ["good one single"]}
    assert import_labels(store, path, patterns, **said) == 1
    text = tmp_path / "classes.txt"
    text.write_text("90 6 0\n")
    assert import_labels(store, text, patterns, first_index=1, label_words=["0 blank"])
    assert words_of(store) == ["single", "", "", "", "", "blank"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a b c d\ne f g h\n", r"not known. It begins with «a b c d»; «e f g h»"),
        (b"", "It begins with nothing. Known are: CSV with the header pattern,label;"),
        (b"a\xff\x00", "is not UTF-8 text. Save the file as UTF-8"),
        (b"\x89HDF\r\n\x1a\nbroken", "is not UTF-8|cannot be opened"),
        (b'{"1": ', "line 1 is not JSON"),
        (b"[1, 2]", "not known"),
    ],
)
def test_unknown_forms_are_refused(
    content: bytes, said: str, store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=said) as caught:
        import_labels(store, path, patterns)
    assert str(path) in str(caught.value)


def test_folder_without_labels(
    store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    with pytest.raises(LabelsError, match=r"train_index.dat and .* is not there"):
        import_labels(store, tmp_path, patterns)


@pytest.mark.parametrize("shape", [(N + 1,), (N, 2)])
def test_hdf5_of_other_patterns(
    shape: tuple[int, ...], store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.zeros(shape)
    with pytest.raises(LabelsError, match="expected a number for each of 6 patterns"):
        import_labels(store, path, patterns)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first_index": 2}, "first_index is 2; expected 0 or 1"),
        ({"label_words": ["single"]}, "label_words holds «single»; expected a code"),
        ({"label_words": ["1 nice"]}, "nice cannot be stored; expected one of single"),
    ],
)
def test_impossible_settings(
    options: Any, said: str, store: LabelStore, patterns: Patterns, tmp_path: Path
) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("90 0 1\n")
    with pytest.raises(LabelsError, match=said):
        import_labels(store, path, patterns, **options)


def test_a_form_that_counts_the_stack_may_not_count_beyond_it(
    store: LabelStore, patterns: Patterns, tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "labels.toy"
    path.write_text("toy\n0 single\n6 single\n-1 blank\n")

    def parse(path: Path, _: Patterns) -> list[label_forms.Line]:
        rows = [line.split() for line in path.read_text().splitlines()[1:]]
        return [label_forms.Line(i, "", int(n), w) for i, (n, w) in enumerate(rows, 2)]

    form = label_forms.LabelForm(
        "a toy",
        lambda found: found.begins_with(b"toy"),
        parse,
        "stack",
        lambda _: {"single": "single", "blank": "blank"},
    )
    monkeypatch.setattr(label_forms, "FORMS", (*label_forms.FORMS, form))
    with pytest.raises(LabelsError, match=r"line 3: pattern 6 is not within 0 … 5"):
        import_labels(store, path, patterns)
    path.write_text("toy\n0 single\n5 blank\n")
    assert import_labels(store, path, patterns) == 2
    assert words_of(store) == ["single", "", "", "", "", "blank"]
