"""The queue of patterns that a person should label next."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import LabelsError, ParameterError
from helpers.labels import read_queue, write_queue

REASONS = ["likely single", "uncertain", "diverse", "audit", 'said "why", and how']


def test_the_file_is_plain(tmp_path):
    path = write_queue(tmp_path, [7, 2], ["uncertain", "likely single"])
    assert path == tmp_path / "to_label.csv"
    assert path.read_text() == "pattern,reason\n7,uncertain\n2,likely single\n"


@given(st.dictionaries(st.integers(0, 99), st.sampled_from(REASONS)), st.randoms())
def test_what_is_written_is_read(tmp_path_factory, reasons, random):
    folder = tmp_path_factory.mktemp("queue")
    patterns = random.sample(sorted(reasons), len(reasons))
    words = [reasons[pattern] for pattern in patterns]
    write_queue(folder, np.array(patterns, dtype=np.int64), words)
    queue = read_queue(folder, n_patterns=100)
    assert queue.pattern.dtype == np.int64
    assert queue.pattern.tolist() == patterns
    assert queue.reason.tolist() == words


def test_without_a_file_nothing_is_asked_for(tmp_path):
    queue = read_queue(tmp_path, n_patterns=10)
    assert len(queue) == 0
    assert (queue.pattern.dtype, queue.reason.dtype.kind) == (np.int64, "U")


def test_a_new_queue_replaces_the_old_one(tmp_path):
    write_queue(tmp_path, [1, 2, 3], ["diverse"] * 3)
    write_queue(tmp_path, [4], ["audit"])
    assert read_queue(tmp_path, 10).pattern.tolist() == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["to_label.csv"]


@pytest.mark.parametrize(
    ("patterns", "reasons", "message"),
    [
        ([1, 1], ["audit"] * 2, "patterns: found a pattern twice"),
        ([0.5], ["audit"], "patterns: found float64 values"),
        ([-1], ["audit"], "patterns: found int64 values from -1"),
        ([1, 2], ["audit"], "reasons: found 1 for 2 patterns"),
        ([1], [" "], "reasons: found an empty one"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(tmp_path, patterns, reasons, message):
    write_queue(tmp_path, [4], ["audit"])
    with pytest.raises(ParameterError, match=message):
        write_queue(tmp_path, patterns, reasons)
    assert read_queue(tmp_path, 10).pattern.tolist() == [4]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["the first line is «»; expected «pattern,reason»"]),
        ("pattern\n3\n", ["the first line is «pattern»"]),
        (
            "pattern,reason\n3,audit\nx,audit\n12,audit\n3,diverse\n4\n",
            [
                "line 3: pattern «x» is no whole number",
                "line 4: pattern 12 is not within 0 … 9",
                "line 5: pattern 3 again, as in line 2",
                "line 6: 1 fields; expected 2",
            ],
        ),
    ],
)
def test_every_bad_line_of_a_file_is_named(tmp_path, text, problems):
    (tmp_path / "to_label.csv").write_text(text)
    with pytest.raises(LabelsError) as caught:
        read_queue(tmp_path, n_patterns=10)
    *lines, advice = str(caught.value).splitlines()
    assert len(lines) == len(problems)
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"{tmp_path / 'to_label.csv'}: {problem}")
    assert advice == "Run the notebook that wrote it again, or remove the file."


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    text = "\ufeffpattern,reason\r\n3,audit\r\n\r\n"
    (tmp_path / "to_label.csv").write_bytes(text.encode())
    assert read_queue(tmp_path, 10).reason.tolist() == ["audit"]


def test_whole_numbers_may_be_written_as_fractions(tmp_path):
    (tmp_path / "to_label.csv").write_text("pattern,reason\n3.0,audit\n4,audit\n")
    assert read_queue(tmp_path, 10).pattern.tolist() == [3, 4]


def test_a_queue_in_words(tmp_path):
    assert "the queue is empty" in read_queue(tmp_path, 10).describe()
    write_queue(tmp_path, [1, 2, 3], ["audit", "uncertain", "audit"])
    text = read_queue(tmp_path, 10).describe()
    assert text == "Patterns asked for: 3 (2 audit, 1 uncertain)."
