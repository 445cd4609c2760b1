import h5py
import numpy as np
import pytest
from helpers.patterns import open_patterns

from helpers.handoff import select_patterns, write_selection


@pytest.fixture
def two_runs(tmp_path):
    for name, n in (("run1.h5", 3), ("run2.h5", 4)):
        with h5py.File(tmp_path / name, "w") as file:
            file["patterns"] = np.full((n, 8, 8), n, np.int32)
    return open_patterns([tmp_path / "run1.h5", tmp_path / "run2.h5"])


def test_labels_count_more_than_the_threshold():
    predictions = np.array([0.9, 0.9, 0.1, 0.1, 0.9], np.float32)
    labels = np.array(["", "multiple", "single", "", "unsure"])
    selection = select_patterns(predictions, 0.5, labels)
    assert selection.index.tolist() == [0, 2, 4]
    assert selection.from_label.tolist() == [False, True, False]


def test_a_pattern_at_the_threshold_is_taken():
    predictions = np.array([0.5, 0.49], np.float32)
    assert select_patterns(predictions, 0.5, np.array(["", ""])).index.tolist() == [0]


def test_the_selection_says_which_file_and_row(two_runs, tmp_path):
    predictions = np.array([0, 0, 1, 0, 1, 1, 0], np.float32)
    selection = select_patterns(predictions, 0.5, np.full(7, ""))
    folder = write_selection(tmp_path / "work", two_runs, selection, model="article")
    assert (folder / "selection.txt").read_text() == "2\n4\n5\n"
    with h5py.File(folder / "selection.h5") as file:
        assert file["index"][()].tolist() == [2, 4, 5]
        assert file["file"][()].tolist() == [0, 1, 1]
        assert file["row"][()].tolist() == [2, 1, 2]
        assert file["prediction"].dtype == np.float32
        assert file.attrs["threshold"] == 0.5
        assert file.attrs["model"] == "article"
        assert file.attrs["fingerprint"] == two_runs.fingerprint


def test_an_empty_selection_is_a_whole_file(two_runs, tmp_path):
    selection = select_patterns(np.zeros(7, np.float32), 0.5, np.full(7, ""))
    folder = write_selection(tmp_path, two_runs, selection)
    assert (folder / "selection.txt").read_text() == ""
    with h5py.File(folder / "selection.h5") as file:
        assert file["index"].shape == (0,)
