"""Labels as CSV and in the forms of other programs; agreement of labellers."""

import codecs
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.errors import LabelsError
from helpers.labels import (
    LABELS,
    cohen_kappa,
    disagreements,
    fleiss_kappa,
    open_label_store,
    read_foreign_labels,
)

N_PATTERNS = 8


@pytest.fixture
def store(tmp_path):
    with open_label_store(tmp_path / "labels.sqlite", "abc", N_PATTERNS) as store:
        yield store


@pytest.fixture
def write(tmp_path):
    def write(content, name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def locate(pattern):
    """Say that the stack is two files of four patterns."""
    return Path(f"/data/run{pattern // 4}.h5"), pattern % 4


def words_of(store, labeller=None):
    return store.current_labels(labeller).tolist()


# ---- CSV ---------------------------------------------------------------------


PLAIN = "pattern,label\n0,single\n3,blank\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("single", " Single ").replace("pattern", " pattern"),
        "label,pattern\nsingle,0\nblank,3\n",
        'pattern,label\n"0","single"\n3,blank\n3,blank\n',
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", "\t"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        "# labelled at night\n#\n" + PLAIN,
        "# columns: pattern,label\n" + PLAIN,
        PLAIN.upper(),
        PLAIN.replace(",", ";") + ";\n;\n",
        PLAIN + ",\n ,\n",
        "Pattern,Label\n0.0,SINGLE\n3.00,blank\n",
        ",pattern,label\n0,0,single\n1,3,blank\n",
        'pattern,label\n0, "single" \n3,"blank "\n',
    ],
)
def test_csv_is_read_as_people_write_it(store, write, content):
    assert store.import_csv(write(content)) == 2
    assert words_of(store) == ["single", "", "", "blank", "", "", "", ""]
    assert store.labellers() == ("imported",)
    assert {event.shown for event in store.history()} == {"labels.csv"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252"])
def test_csv_in_other_encodings_of_spreadsheets(store, write, encoding):
    text = "pattern,label,labeller\n0,single,Jörg\n"
    bom = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    path = write("")
    path.write_bytes(bom + text.encode(encoding))
    if encoding == "cp1252":
        with pytest.warns(UserWarning, match="was read as Windows-1252"):
            assert store.import_csv(path) == 1
    else:
        assert store.import_csv(path) == 1
    assert store.labellers() == ("Jörg",)


def test_what_is_said_of_a_csv_is_used(store, write):
    path = write("pattern,label\n1,Hit\n4,empty shot\n8,2.0\n")
    words = {"hit": "single", "Empty shot": "blank", "2": "multiple"}
    assert store.import_csv(path, first_index=1, words=words) == 3
    assert words_of(store) == ["single", "", "", "blank", "", "", "", "multiple"]
    with pytest.raises(LabelsError, match=r"pattern 9 is not within 1 … 8"):
        store.import_csv(write("pattern,label\n9,single\n"), first_index=1)
    with pytest.raises(LabelsError, match=r"label_words=\['Hit single'\]"):
        store.import_csv(write("pattern,label\n1,Hit\n"))


@pytest.mark.parametrize("moment", ["", "2025-01-01T10:00:00+00:00"])
def test_the_last_import_counts_also_when_a_word_is_changed_back(store, write, moment):
    text = f"pattern,label,labelled_at\n0,{{}},{moment}\n1,other,{moment}\n"
    for word, n_new in (("single", 2), ("multiple", 1), ("single", 1), ("single", 0)):
        assert store.import_csv(write(text.format(word))) == n_new
        assert words_of(store)[:2] == [word, "other"]


def test_an_old_export_does_not_undo_what_was_pressed_later(store, tmp_path):
    store.record(0, "blank", labeller="anna", session="s", seq=1)
    store.export_csv(tmp_path / "labels.csv")
    store.record(0, "single", labeller="anna", session="s", seq=2)
    assert store.import_csv(tmp_path / "labels.csv") == 0
    assert words_of(store)[0] == "single"


def test_what_a_csv_no_longer_holds_is_named(store, write):
    store.import_csv(write(PLAIN + "5,other\n6,other\n"))
    store.record(6, "blank", labeller="imported", session="s", seq=1)
    with pytest.warns(UserWarning, match=r"no longer holds 1 labels .*\(patterns 5\)"):
        assert store.import_csv(write(PLAIN)) == 0
    assert words_of(store)[5] == "other"
    store.import_csv(write("pattern,label\n7,single\n", "other.csv"))


def test_csv_names_the_labellers_and_the_moment(store, write):
    path = write(
        "pattern,label,file,labeller,labelled_at\n"
        "0,single,run0.h5,anna,2024-05-01T10:00:00+02:00\n"
        "4,other,run1.h5,,2024-05-01T10:00:00\n"
        "5,blank,,,\n"
    )
    assert store.import_csv(path, labeller="ben", locate=locate) == 3
    first, second, third = store.history()
    assert (first.labeller, first.pattern) == ("anna", 0)
    assert first.labelled_at == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert (second.labeller, second.labelled_at.hour) == ("ben", 10)
    assert (third.labeller, third.labelled_at > second.labelled_at) == ("ben", True)


def test_same_csv_again_adds_nothing(store, write):
    content = "pattern,label,labelled_at\n0,single,\n1,blank,2024-05-01T10:00:00\n"
    assert store.import_csv(write(content)) == 2
    assert store.import_csv(write(content)) == 0
    assert store.import_csv(write(content + "2,other,\n")) == 1


def test_labels_of_the_past_do_not_replace_newer_ones(store, write):
    store.record(0, "blank", labeller="anna", session="s", seq=1)
    path = write("pattern,label,labeller,labelled_at\n0,single,anna,2024-05-01\n")
    assert store.import_csv(path) == 1
    assert words_of(store)[0] == "blank"


def test_dated_labels_of_a_labeller_may_differ_and_the_newest_counts(store, write):
    path = write("pattern,label,labelled_at\n0,blank,2024-05-02\n0,single,2024-05-01\n")
    assert store.import_csv(path) == 2
    assert words_of(store)[0] == "blank"


def test_export_is_whole_and_comes_back(store, tmp_path):
    store.record(6, "single", labeller="anna", session="s", seq=1)
    store.record(6, "blank", labeller="ben", session="s", seq=2)
    store.record(1, "other", labeller="anna", session="s", seq=3)
    path = tmp_path / "out" / "labels.csv"
    assert store.export_csv(path, locate=locate) == 3
    lines = path.read_text().splitlines()
    assert lines[0] == "pattern,label,file,labeller,labelled_at"
    assert lines[1].startswith("1,other,run0.h5,anna,20")
    assert lines[2].startswith("6,single,run1.h5,anna,20")
    assert store.import_csv(path, locate=locate) == 0
    with open_label_store(tmp_path / "other.sqlite", "abc", N_PATTERNS) as other:
        assert other.import_csv(path, locate=locate) == 3
        assert words_of(other) == words_of(store)
        assert other.export_csv(tmp_path / "again.csv", locate=locate) == 3
    assert (tmp_path / "again.csv").read_text() == path.read_text()


@given(
    names=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["C"]),
            min_size=1,
            max_size=200,  # longer ones are refused
        )
        .map(str.strip)
        .filter(bool),
        min_size=1,
        max_size=5,
    ),
    word=st.sampled_from(LABELS),
)
@settings(max_examples=15)
def test_any_name_survives_export_and_import(tmp_path_factory, names, word):
    folder = tmp_path_factory.mktemp("names")
    with (
        open_label_store(folder / "a.sqlite", "abc", N_PATTERNS) as store,
        open_label_store(folder / "b.sqlite", "abc", N_PATTERNS) as other,
    ):
        for seq, name in enumerate(names):
            store.record(0, word, labeller=name, session="s", seq=seq)
        store.export_csv(folder / "labels.csv")
        other.import_csv(folder / "labels.csv")
        assert other.labellers() == store.labellers() == tuple(sorted(set(names)))


@pytest.mark.parametrize("name", ['"', '"Q"', "'", "#1", "sep=", "a,b", "a;b", "=1+1"])
def test_names_of_odd_characters_survive_export_and_import(store, tmp_path, name):
    store.record(0, "single", labeller=name, session="s", seq=0)
    store.export_csv(tmp_path / "labels.csv")
    with open_label_store(tmp_path / "b.sqlite", "abc", N_PATTERNS) as other:
        other.import_csv(tmp_path / "labels.csv")
        assert other.labellers() == (name,)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-a", "@SUM(A1)", "'=1", "a;=1+1"])
def test_no_name_of_a_labeller_or_a_file_is_a_formula(store, tmp_path, name):
    store.record(0, "single", labeller=name, session="s", seq=0)
    path = tmp_path / "labels.csv"

    def locate(pattern):
        return Path(f"{name}.h5"), pattern

    store.export_csv(path, locate=locate)
    cells = re.split("[,;]", path.read_text("utf-8").replace('"', ""))
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert store.import_csv(path, locate=locate) == 0  # all is known: nothing changed
    assert not path.stat().st_mode & 0o007


def test_a_labeller_in_the_first_column_may_begin_like_a_comment(store, write):
    store.import_csv(write("labeller,pattern,label\n#1,0,single\nsep=,1,blank\n"))
    assert store.labellers() == ("#1", "sep=")


def test_export_of_nothing_is_a_header(store, tmp_path):
    assert store.export_csv(tmp_path / "labels.csv") == 0
    header = "pattern,label,labeller,labelled_at\n"
    assert (tmp_path / "labels.csv").read_text() == header
    assert store.import_csv(tmp_path / "labels.csv") == 0


def test_all_bad_lines_are_listed_and_none_is_stored(store, write):
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    path = write(
        "pattern,label,file,labeller,labelled_at\n"
        "0,single,run0.h5,anna,2024-05-01\n"
        "8,single,,,\n"
        "-1,single,,,\n"
        "one,single,,,\n"
        "1,good,,,\n"
        "2,,,,\n"
        "3,single,run1.h5,,\n"
        f"4,single,,{'x' * 201},\n"
        "5,single,,,yesterday\n"
        f"5,single,,,{tomorrow}\n"
        "6,single,,ben,\n"
        "6,blank,,ben,\n"
        "7\n"
    )
    with pytest.raises(LabelsError) as caught:
        store.import_csv(path, locate=locate)
    lines = str(caught.value).splitlines()
    expected = [
        "line 3: pattern 8 is not within 0 … 7",
        "line 4: pattern -1 is not within 0 … 7",
        "line 5: pattern «one» is no whole number",
        "line 6: label «good» is none of single, multiple, other, blank, unsure",
        "line 7: label «» is none of",
        "line 8: pattern 3 is in run0.h5, the line says run1.h5",
        "line 9: labeller has 201 characters, 200 at most",
        "line 10: labelled_at «yesterday» is no time",
        "line 11: labelled_at «20",
        "line 13: pattern 6 is blank, but single in line 12, both by ben",
        "line 14: label «» is none of",
    ]
    for line, start in zip(lines, expected, strict=False):
        assert line.startswith(f"{path}: {start}")
    assert lines[-1].startswith("Nothing was imported")
    assert len(lines) == len(expected) + 1
    assert store.history() == []


def test_very_many_bad_lines_are_counted(store, write):
    path = write("pattern,label\n" + "0,odd\n" * 1000)
    with pytest.raises(LabelsError, match="and 950 more") as caught:
        store.import_csv(path)
    assert str(caught.value).count("is none of") == 50


def test_labels_of_a_longer_run_are_told_in_few_lines(store, write):
    path = write("pattern,label\n" + "9,single\n" * 1000)
    with pytest.raises(LabelsError, match="and 997 more") as caught:
        store.import_csv(path)
    assert str(caught.value).endswith("labels are of another run, give no labels file.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"first line is «», without label and pattern"),
        (b"0,single\n", r"first line is «0,single», without label and pattern"),
        (b"pattern,word\n0,single\n", r"without label\. Expected pattern,label"),
        (b"exp,run,event_num,label\namo,1,2,1\n", r"SpeckleNN.*import_labels"),
        (b"pattern,label\n0,\xff\0\n", r"byte 16 is not UTF-8 text.*CSV UTF-8"),
        (b"\xff\xfep\0a", r"is not UTF-8 text|first line is"),
    ],
)
def test_file_in_another_form_is_refused(store, write, content, message):
    with pytest.raises(LabelsError, match=rf"labels.csv: .*{message}"):
        store.import_csv(write(content))


def test_absent_file_is_refused(store, tmp_path):
    with pytest.raises(LabelsError, match=r"absent.csv: cannot be read \(No such file"):
        store.import_csv(tmp_path / "absent.csv")


def test_unknown_column_is_named_in_a_warning(store, write):
    path = write("pattern,label,labeler\n0,single,anna\n")
    with pytest.warns(UserWarning, match="labels.csv: columns labeler are not read"):
        assert store.import_csv(path) == 1


# ---- other programs ------------------------------------------------------------


SPECKLENN = "exp,run,event_num,label\namo1,90,0,1\namo1,90,3,9\namo1,102,5,2\n"


def test_specklenn_csv_counts_the_events_of_one_run(write):
    path = write(SPECKLENN)
    words = read_foreign_labels(path, stack(run0090=4))
    assert words.tolist() == ["single", "", "", "blank"]
    assert read_foreign_labels(path, stack(amo_r102=6))[5] == "multiple"


def test_specklenn_json_is_one_run(write, store):
    path = write(json.dumps({"7": "0", "2": "4", "1": "3"}))
    words = read_foreign_labels(path, stack(a=N_PATTERNS))
    assert words.tolist() == ["", "unsure", "unsure", "", "", "", "", "other"]
    assert store.import_words(words, "SpeckleNN") == 3


def test_specklenn_events_are_found_by_their_number(write):
    path = write(json.dumps({"207": "0", "12": "1", "99": "2"}))
    with pytest.warns(
        UserWarning, match="1 of 3 labels are for patterns that the stac"
    ):
        words = read_foreign_labels(path, stack(events=[12, 13, 207], a=3))
    assert words.tolist() == ["single", "", "other"]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (SPECKLENN, {}, r"amo1 run 90 \(2\), amo1 run 102 \(1\); expected .* one run"),
        (SPECKLENN, {"name": "r7"}, r"amo1 run 90 \(2\).*Have the run that"),
        (SPECKLENN, {"name": "r102"}, r"event 5, but the stack has 4 .*event number"),
        (SPECKLENN.replace("1,90,3", "1,90,x"), {}, "line 3: «x» is no index"),
        ("exp,run,label\na,1,1\n", {}, "first line lacks event_num"),
        ('{"1": "1",', {}, "line 1 is not JSON"),
        (
            '{"1": "5", "2": "5", "3": "6"}',
            {},
            r"meant by 5 \(2 times\), 6 \(1 times\)",
        ),
        ('{"1": "1"}', {"words": {"1": "hit"}}, "hit cannot be stored"),
        (
            '{"1": "1", "01": "2"}',
            {},
            "pattern 1 is multiple, but single in an earlier",
        ),
        (
            '{"1": "1"}',
            {"events": [7, 8, 9, 10]},
            "none of its 1 labels is for a pattern of this stack; the first is",
        ),
    ],
)
def test_specklenn_labels_that_cannot_be_placed(write, content, arguments, message):
    with pytest.raises(LabelsError, match=rf"{message}"):
        read_foreign_labels(
            write(content),
            stack(arguments.get("events"), **{arguments.get("name", "a"): 4}),
            words=arguments.get("words"),
        )


def stack(events=None, **n_patterns):
    """Stand in for a stack of these files."""
    groups = np.repeat(np.arange(len(n_patterns)), list(n_patterns.values()))
    files = tuple(Path("/data") / f"{name}.h5" for name in n_patterns)
    shots = {} if events is None else {"event": np.array(events)}
    return SimpleNamespace(files=files, file_index=groups, shots=shots)


def test_euxfel2013_runs_are_found_by_the_file_name(write):
    path = write("227 0 1\n340 2 0\n340 1 2\n")
    patterns = stack(hits_r0227=2, hits_r0340=3)
    words = read_foreign_labels(
        path, patterns, words={"0": "", "1": "single", "2": "multiple"}
    )
    assert words.tolist() == ["single", "", "", "multiple", ""]


def test_euxfel2013_runs_that_are_not_in_the_stack_are_left_out(write):
    path = write("227 0 1\n340 2 1\n")
    with pytest.warns(UserWarning, match="1 of 2 labels"):
        words = read_foreign_labels(path, stack(hits_r0340=3), words={"1": "single"})
    assert words.tolist() == ["", "", "single"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("227 0\n227 1 1 1\n", "this form of labels is not known"),
        ("227 2 1\n", "line 1: pattern 2 of 227, which has 2 patterns, counted from 0"),
        ("227 0 3\n", r"meant by 3 \(1 times\)\. Say it with label_words="),
        ("22 0 1\n", "none of its 1 labels is for a pattern of this stack"),
    ],
)
def test_euxfel2013_labels_that_cannot_be_placed(write, content, message):
    with pytest.raises(LabelsError, match=message):
        read_foreign_labels(write(content), stack(hits_r0227=2), words={"1": "single"})


def test_pr772_indices_of_a_file(write):
    index = write("b.h5,0\na.h5,2\nb.h5,3\n", "train_index.dat")
    write("1\n0\n1\n", "train_labels.dat")
    words = read_foreign_labels(index, stack(a=3, b=4))
    assert words.tolist() == ["", "", "other", "single", "", "", "single"]


def test_pr772_indices_that_count_from_one(write):
    index = write("a.h5,3\nb.h5,1\n", "train_index.dat")
    write("1\n0\n", "train_labels.dat")
    words = read_foreign_labels(index, stack(a=3, b=4))
    assert words.tolist() == ["", "", "single", "other", "", "", ""]
    words = read_foreign_labels(index, stack(a=9, b=4), first_index=1)
    assert words.tolist() == ["", "", "single", *[""] * 6, "other", "", "", ""]


@pytest.mark.parametrize(
    ("index", "labels", "message"),
    [
        (
            "a.h5,1\n",
            "1\n",
            "do not tell whether the first pattern of a file is 0 or 1",
        ),
        ("a.h5,0\na.h5,3\n", "1\n1\n", "do not tell whether"),
        (
            "a.h5,0\na.h5,7\n",
            "1\n1\n",
            "line 2: pattern 7 of a.h5, which has 3 patterns",
        ),
        ("a.h5,0\n", "1\n1\n", "1 lines, but .*train_labels.dat has 2"),
        ("a.h5 0\n", "1\n", "line 1: has 1 fields, expected file index"),
    ],
)
def test_pr772_labels_that_cannot_be_placed(write, index, labels, message):
    paths = write(index, "train_index.dat"), write(labels, "train_labels.dat")
    with pytest.raises(LabelsError, match=message):
        read_foreign_labels(paths[0].parent, stack(a=3))


def test_files_of_the_same_name_cannot_be_told_apart(write):
    patterns = SimpleNamespace(
        files=(Path("/1/r0001.h5"), Path("/2/r0001.h5")),
        file_index=np.array([0, 1]),
        shots={},
    )
    with pytest.raises(LabelsError, match=r"called r0001\.h5"):
        read_foreign_labels(write("1 0 1\n"), patterns, words={"1": "single"})


def test_measured_labels_are_read(real_file):
    n_patterns = 300_000  # more than the highest event number
    for run, singles in {90: 82, 91: 45, 94: 54, 96: 144, 102: 6}.items():
        path = real_file("labels/amo06516.label.csv")
        words = read_foreign_labels(path, stack(**{f"r{run}": n_patterns}))
        assert (words == "single").sum() == singles
    words = read_foreign_labels(
        real_file("labels/amo06516_0102.label.json"), stack(a=n_patterns)
    )
    assert (words != "").sum() == 80
    runs = {f"hits_r{run:04d}": 3000 for run in range(200, 450)}
    path = real_file("labels/random_frames_classes.txt")
    classes = {"0": "", "1": "single", "2": "", "3": "", "4": ""}
    words = read_foreign_labels(path, stack(**runs), words=classes)
    assert (words == "single").sum() == 152


# ---- agreement ------------------------------------------------------------------


def test_fleiss_kappa_of_a_worked_example():
    """Ten patterns, fourteen labellers: 0.378 observed, 0.213 by chance."""
    votes = """
        0 0 0 0 14 | 0 2 6 4 2 | 0 0 3 5 6 | 0 3 9 2 0 | 2 2 8 1 1
        | 7 7 0 0 0 | 3 2 6 3 0 | 2 5 3 2 2 | 6 5 2 1 0 | 0 2 2 3 7"""
    words = np.array(
        [np.repeat(LABELS, list(map(int, row.split()))) for row in votes.split("|")]
    )
    assert fleiss_kappa(words) == pytest.approx(0.2099, abs=5e-5)


@given(
    words=st.lists(
        st.tuples(*[st.sampled_from(["", "single", "blank", "other"])] * 3),
        min_size=1,
        max_size=20,
    )
)
def test_fleiss_kappa_compares_pairs(words):
    whole = [row for row in words if all(row)]
    found = fleiss_kappa(np.array(words))
    if len({word for row in whole for word in row}) < 2:
        assert np.isnan(found)
    else:  # rounding of a few sums only
        assert found == pytest.approx(reference.fleiss_by_pairs(words), abs=1e-12)


def test_cohen_kappa_of_a_worked_example():
    """Agree on 20 singles and 15 blanks of 50, with 30 and 25 singles in all."""
    first = np.repeat(
        ["single", "single", "blank", "blank", "", "single"], [20, 5, 10, 15, 9, 9]
    )
    second = np.repeat(
        ["single", "blank", "single", "blank", "single", ""], [20, 5, 10, 15, 9, 9]
    )
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(second, first) == pytest.approx(0.4)


def test_kappa_says_nothing_where_there_is_nothing_to_compare():
    single, none = np.array(["single", "single"]), np.array(["", ""])
    assert np.isnan(cohen_kappa(single, none))
    assert np.isnan(cohen_kappa(single, single))
    assert np.isnan(fleiss_kappa(np.stack([single, none], axis=1)))
    assert np.isnan(fleiss_kappa(np.array([["single"], ["blank"]])))
    assert np.isnan(fleiss_kappa(np.zeros((3, 0), dtype="<U8")))


def test_disagreements_are_where_words_differ():
    words = np.array(
        [["single", "single"], ["single", "blank"], ["single", ""], ["", ""]]
    )
    assert disagreements(words).tolist() == [1]
