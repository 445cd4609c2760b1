"""Labels in the forms of other programs: one row of a table and one small parser each.

A parser gives one line for each label: where the pattern is counted (a file, a run),
its index there, and a code. `place` finds the patterns of the stack, and the table says
which word is meant by a code. So a new form is a row of `FORMS` and its parser.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from helpers.errors import LabelsError, PatternsFileError
from helpers.labels.label_csv import (
    all_problems,
    explain_csv_errors,
    find_header,
    read_text,
)
from helpers.patterns import Patterns, find_layout, get_whole_dataset, open_hdf5

PR772_FILES = ("train_index.dat", "train_labels.dat")
SPECKLENN_COLUMNS = ("exp", "run", "event_num", "label")

RUN_IN_NAME = re.compile(r"(?:^|[^a-z])r(?:un)?[-_]?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A label as it stands in a file; `place` is the run or file that `index` is in."""

    number: int
    place: str
    index: int
    code: str


@dataclass(frozen=True)
class Candidate:
    """A file or folder of which the form is sought."""

    path: Path

    @cached_property
    def text(self) -> str:
        """Its text; what reads it for good warns of odd characters."""
        with warnings.catch_warnings(action="ignore"):
            return read_text(self.path)

    @cached_property
    def columns(self) -> set[int]:
        """How many fields its lines have."""
        return {len(each.split()) for each in self.text.splitlines() if each.strip()}

    def begins_with(self, magic: bytes) -> bool:
        """Tell whether it is a file of some kind."""
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            return file.read(len(magic)) == magic


@dataclass(frozen=True)
class LabelForm:
    """A form of labels.

    Attributes
    ----------
    what
        In a few words, for messages.
    is_form
        Tells whether a file or folder is of this form; the first of the table counts.
    parse
        Reads the lines of a file for a stack.
    counts
        What the index of a line counts: patterns of "files", of the "stack", or
        "events" of a run.
    find_words
        Says what the codes of a file mean, as far as the form says it.
    refuses
        Which options have no use here, and why.
    first_index
        How the first pattern of a file is counted; None where the form does not say.
    """

    what: str
    is_form: Callable[[Candidate], bool]
    parse: Callable[[Path, Patterns], list[Line]]
    counts: str
    find_words: Callable[[Path], Mapping[str, str]] = lambda _: {}
    refuses: Mapping[str, str] = field(default_factory=dict)
    first_index: int | None = None


def _parse_specklenn(path: Path, _: Patterns) -> list[Line]:
    """CSV `exp,run,event_num,label`, or JSON `{"event_num": "label"}` of one run."""
    text = read_text(path)
    if text.lstrip().startswith("{"):
        return _parse_json(path, text)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    with explain_csv_errors(path, reader):
        if missing := set(SPECKLENN_COLUMNS) - set(reader.fieldnames or ()):
            message = (
                f"{path}: the first line lacks {', '.join(sorted(missing))}; expected "
                f"{','.join(SPECKLENN_COLUMNS)}."
            )
            raise LabelsError(message)
        rows = [
            (
                reader.line_num,
                f"{row['exp']} run {(row['run'] or '').strip().lstrip('0')}",
                row["event_num"] or "",
                row["label"] or "",
            )
            for row in reader
        ]
    return _make_lines(path, rows)


def _parse_json(path: Path, text: str) -> list[Line]:
    try:
        labels = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{path}: line {error.lineno} is not JSON ({error.msg})."
        raise LabelsError(message) from error
    except RecursionError as error:
        message = f"{path}: is nested too deeply to be labels."
        raise LabelsError(message) from error
    rows = [(i, "", event, str(code)) for i, (event, code) in enumerate(labels.items())]
    return _make_lines(path, rows)


def _parse_run_index_class(path: Path, _: Patterns) -> list[Line]:
    """Lines `run index class`."""
    return _make_lines(path, _split_lines(path, None, ("run", "index", "class")))


def _parse_index(path: Path, _: Patterns) -> list[Line]:
    """Take the index of a single hit from each line."""
    rows = _split_lines(path, None, ("index",))
    return _make_lines(path, [(number, "", index, "1") for number, index in rows])


def _parse_pr772(path: Path, _: Patterns) -> list[Line]:
    """Lines `file.h5,309` in one file, and their codes in the same lines of another."""
    folder = path if path.is_dir() else path.parent
    index, labels = (folder / name for name in PR772_FILES)
    missing = [each.name for each in (index, labels) if not each.is_file()]
    if missing:
        message = (
            f"{folder}: a folder of labels holds {' and '.join(PR772_FILES)}; "
            f"{' and '.join(missing)} is not there. Otherwise name a file: "
            f"{'; '.join(form.what for form in FORMS)}."
        )
        raise LabelsError(message)
    places = _split_lines(index, ",", ("file", "index"))
    codes = _split_lines(labels, None, ("label",))
    if len(places) != len(codes):
        message = (
            f"{index}: {len(places)} lines, but {labels} has {len(codes)}. They must "
            "belong together, line by line."
        )
        raise LabelsError(message)
    rows = [(*row, code) for row, (_, code) in zip(places, codes, strict=True)]
    return _make_lines(index, rows)


def _parse_hdf5(path: Path, stack: Patterns) -> list[Line]:
    """`/labels`, a number for each pattern; NaN = none."""
    n, shape = len(stack.file_index), None
    try:
        with open_hdf5(path) as file:
            found = get_whole_dataset(file, "/labels")
            shape = None if found is None else found.shape
            if found is not None and shape == (n,) and found.dtype.kind in "iuf":
                values = np.asarray(found[()], np.float64)
                places = np.flatnonzero(np.isfinite(values)).tolist()
                return [Line(i, "/labels", i, f"{values[i]:g}") for i in places]
    except PatternsFileError as error:
        raise LabelsError(str(error)) from error
    what = "is not there" if shape is None else f"has shape {shape}"
    message = f"{path}: /labels {what}; expected a number for each of {n} patterns."
    raise LabelsError(message)


def _split_lines(
    path: Path, separator: str | None, names: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Give line number and fields of each line that is not empty."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    rows = [(number, *line.split(separator)) for number, line in lines if line.strip()]
    if problems := [
        f"line {row[0]}: has {len(row) - 1} fields, expected {' '.join(names)}"
        for row in rows
        if len(row) != len(names) + 1
    ]:
        raise LabelsError(all_problems(path, problems))
    return rows


def _make_lines(path: Path, rows: Iterable[tuple[int, str, str, str]]) -> list[Line]:
    """Turn line number, place, index and code into lines; report every bad index."""
    lines, problems = [], []
    for number, place, index, code in rows:
        if re.fullmatch(r"\s*[0-9]{1,18}\s*", index):
            lines.append(Line(number, place.strip(), int(index), code.strip()))
        else:
            problems.append(f"line {number}: «{index[:40]}» is no index of a pattern")
    if problems:
        raise LabelsError(all_problems(path, problems))
    return lines


def _find_words_of_layout(path: Path) -> Mapping[str, str]:
    with open_hdf5(path) as file:
        known = find_layout(path, file, "/patterns").label_words
    return {f"{code:g}": word for code, word in known}


PR772 = LabelForm(
    "train_index.dat and train_labels.dat of the PR772 study",
    lambda found: found.path.name in PR772_FILES,
    _parse_pr772,
    "files",
    lambda _: {"0": "other", "1": "single"},
)
FORMS = (
    PR772,
    LabelForm(
        "an HDF5 file with one label for each pattern in /labels",
        lambda found: found.path.is_file() and h5py.is_hdf5(found.path),
        _parse_hdf5,
        "stack",
        _find_words_of_layout,
        {"first_index": "there is one label for each pattern"},
    ),
    # Wang et al., IUCrJ 10, 568 (2023), doi:10.1107/S2052252523006115: not the sample,
    # single, multiple, unknown, needs help, background
    LabelForm(
        "SpeckleNN's CSV exp,run,event_num,label or JSON",
        lambda found: (
            "event_num" in find_header(found.text)
            or find_header(found.text).startswith("exp,run,")
            or found.text.lstrip().startswith("{")
        ),
        _parse_specklenn,
        "events",
        lambda _: {
            "0": "other",
            "1": "single",
            "2": "multiple",
            "3": "unsure",
            "4": "unsure",
            "9": "blank",
        },
        {"first_index": "events carry their own numbers"},
    ),
    LabelForm(
        "text with lines «run index class»",
        lambda found: found.columns == {3} and "," not in find_header(found.text),
        _parse_run_index_class,
        "files",
        first_index=0,
    ),
    LabelForm(
        "text with the index of a single hit on each line",
        lambda found: (
            found.columns == {1} and bool(re.fullmatch(r"[\d\s]+", found.text))
        ),
        _parse_index,
        "files",
        lambda _: {"1": "single"},
        {"label_words": "the list names single hits and nothing else"},
    ),
)
