"""Labels in the forms of other programs, recognised and brought into a store.

A row of `FORMS` and one small parser for each form. A parser gives one line for each
label: where the pattern is counted (a file, a run), its index there, and a code. Then
the patterns of the stack are found, and the table says which word a code means.
"""

import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError, PatternsFileError
from helpers.labels.database import LABELS, WORD_DTYPE
from helpers.labels.label_csv import (
    OUTSIDE,
    all_problems,
    explain_csv_errors,
    find_header,
    read_text,
)
from helpers.labels.store import LabelStore, open_label_store
from helpers.patterns import (
    Patterns,
    find_layout,
    find_run_numbers,
    get_whole_dataset,
    open_hdf5,
)

PR772_FILES = ("train_index.dat", "train_labels.dat")
SPECKLENN_COLUMNS = ("exp", "run", "event_num", "label")

SQLITE = b"SQLite format 3\0"
OWN_FORMS = "CSV with the header pattern,label; a label store, such as labels.sqlite"
LINES_SHOWN = 3


@dataclass(frozen=True)
class Line:
    """A label as it stands in a file; `place` is the run or file that `index` is in."""

    number: int
    place: str
    index: int
    code: str


Found = Sequence[tuple[Line, range | None]]
"""Each line with the patterns of its file; None where the stack lacks the file."""

Placed = list[tuple[Line, int | None]]
"""Each line with its pattern; None where the stack does not hold it."""


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
FORMS = (  # HDF5 before those whose text is read
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


def import_labels(
    store: LabelStore,
    path: str | Path,
    patterns: Patterns,
    *,
    first_index: int = -1,
    label_words: Sequence[str] = (),
) -> int:
    """Recognise a file or folder of labels, store them, and return how many are new.

    Parameters
    ----------
    store
        Of these patterns.
    path
        CSV with the header `pattern,label`; another label store, whose events are
        merged; or a form of another program, see `FORMS`.
    patterns
        The stack.
    first_index, label_words
        As in `read_foreign_labels`; -1: not known, and each word in one text with its
        code: "0 single", "4 other", "Single hit single".

    Raises
    ------
    LabelsError
        If the form is unknown, something has to be said about it, or the labels do not
        fit the patterns.
    """
    path = Path(path)
    first, words = _read_first_index(first_index), _read_words(label_words)
    if Candidate(path).begins_with(SQLITE):
        with open_label_store(path, *store.made_for) as other:
            return store.merge(other)
    if _find_form(path) is None:
        return store.import_csv(
            path, locate=patterns.locate, first_index=first or 0, words=words
        )
    found = read_foreign_labels(path, patterns, first_index=first, words=words)
    return store.import_words(found, source=path.name)


def _read_first_index(given: int) -> int | None:
    if given not in (-1, 0, 1):
        message = (
            f"first_index is {given}; expected 0 or 1, how the first pattern of a file "
            "is counted, or -1 where it is not known."
        )
        raise LabelsError(message)
    return None if given < 0 else given


def _read_words(given: Sequence[str]) -> dict[str, str]:
    if wrong := [each for each in given if len(each.split()) < 2]:
        message = (
            f"label_words holds «{'», «'.join(wrong)}»; expected a code and a word "
            "each, such as '1 single'."
        )
        raise LabelsError(message)
    return {code.strip(): word for code, word in (e.rsplit(None, 1) for e in given)}


def _find_form(path: Path) -> LabelForm | None:
    """Return the form of a file or folder of labels; None for a CSV of this package."""
    candidate = Candidate(path)
    if path.is_dir():
        return PR772
    for form in FORMS:
        if form.is_form(candidate):
            return form
    header = find_header(candidate.text)
    if "pattern" in header or "label" in header:
        return None
    lines = [line.strip()[:60] for line in candidate.text.splitlines() if line.strip()]
    shown = "; ".join(f"«{line}»" for line in lines[:LINES_SHOWN]) or "nothing"
    message = (
        f"{path}: this form of labels is not known. It begins with {shown}. Known are: "
        f"{'; '.join([OWN_FORMS, *(form.what for form in FORMS)])}. If only the first "
        "line pattern,label is missing, add it; else convert it to that form; pattern "
        "counts from 0 through the stack."
    )
    raise LabelsError(message)


def read_foreign_labels(
    path: str | Path,
    patterns: Patterns,
    *,
    first_index: int | None = None,
    words: Mapping[str, str] | None = None,
) -> NDArray[np.str_]:
    """Read labels in a form of another program, which is recognised.

    Parameters
    ----------
    path
        The file; for the PR772 study the folder, or one of its two files.
    patterns
        The stack; labels of patterns that it does not hold are left out, with a
        warning.
    first_index
        0 or 1: how the first pattern of a file is counted. None: it is found out where
        only one is possible, and else asked for.
    words
        What each code means, such as {"1": "single"}, where the form does not say it
        or means something else; "" leaves its labels out.

    Returns
    -------
        str (n_patterns,); "" = no label.

    Raises
    ------
    LabelsError
        As `import_labels`.
    """
    path = Path(path)
    form = _find_form(path)
    if form is None:
        message = f"{path}: is a table of this package; read it with import_labels."
        raise LabelsError(message)
    given = {"first_index": first_index, "label_words": words}
    for name, why in form.refuses.items():
        if given[name]:
            message = f"{path}: {name} does not apply to this form of labels: {why}."
            raise LabelsError(message)
    lines = form.parse(path, patterns)
    meant = {**form.find_words(path), **(words or {})}
    _check_codes(path, [line.code for line in lines], meant)
    placed = _place(form, path, lines, patterns, first_index)
    _warn_of_missing(path, placed)
    return _as_words(path, placed, meant, len(patterns.file_index))


def _place(
    form: LabelForm,
    path: Path,
    lines: list[Line],
    patterns: Patterns,
    first_index: int | None,
) -> Placed:
    """Find the patterns that are meant."""
    if form.counts == "stack":
        n = len(patterns.file_index)
        if beyond := [line for line in lines if not 0 <= line.index < n]:
            problems = [
                f"line {each.number}: pattern {each.index} {OUTSIDE} 0 … {n - 1}"
                for each in beyond
            ]
            raise LabelsError(all_problems(path, problems))
        return [(line, line.index) for line in lines]
    if form.counts == "events":
        return _place_events(path, _of_one_run(path, lines, patterns), patterns)
    spans = _find_spans(path, patterns)
    if "" not in spans and any(line.place == "" for line in lines):
        message = (
            f"{path}: it is not clear for which of the {len(patterns.files)} files of "
            "the stack it is: none or several have their name in its name. Expected a "
            f"name such as {Path(patterns.files[0]).stem}.txt."
        )
        raise LabelsError(message)
    found = [(line, spans.get(line.place)) for line in lines]
    if first_index is None:
        first_index = form.first_index
    if first_index is None:
        first_index = _guess_first_index(path, found)
    return _in_spans(path, found, first_index)


def _place_events(path: Path, lines: list[Line], patterns: Patterns) -> Placed:
    """Find patterns by their event number, or by their place in the whole run."""
    n_patterns = len(patterns.file_index)
    events = patterns.shots.get("event", np.arange(n_patterns))
    last = max((line.index for line in lines), default=0)
    if "event" not in patterns.shots and last >= n_patterns:
        message = (
            f"{path}: holds a label of event {last}, but the stack has {n_patterns} "
            "patterns, so it does not hold every event of the run. Open a file that "
            "has the event number of each pattern, such as /LCLS/eventNumber of a "
            "psocake file."
        )
        raise LabelsError(message)
    places = {int(event): pattern for pattern, event in enumerate(events)}
    return [(line, places.get(line.index)) for line in lines]


def _of_one_run(path: Path, lines: list[Line], patterns: Patterns) -> list[Line]:
    runs = Counter(line.place for line in lines)
    named = {n for file in patterns.files for n in find_run_numbers(file)}
    run = f" run {named.pop()}" if len(named) == 1 and "" not in runs else ""
    wanted = [name for name in runs if name.endswith(run)]
    if len(wanted) == 1 or not lines:
        return [line for line in lines if line.place in wanted]
    held = ", ".join(f"{name} ({n})" for name, n in runs.items())
    message = (
        f"{path}: holds labels of {held}; expected those of one run. Have the run that "
        "the stack holds in the name of the file of patterns, such as run0090.h5."
    )
    raise LabelsError(message)


def _find_spans(path: Path, patterns: Patterns) -> dict[str, range]:
    """Give the patterns of each file by its name, and by the run in its name.

    By "" those of the one file that there is, or whose name is in that of the labels.
    """
    names = [file.name for file in patterns.files]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        message = (
            f"Several files of the stack are called {', '.join(repeated)}, so that "
            "labels by file name cannot be told apart. Rename the files."
        )
        raise LabelsError(message)
    first = np.searchsorted(patterns.file_index, np.arange(len(names) + 1)).tolist()
    spans = {name: range(*first[i : i + 2]) for i, name in enumerate(names)}
    runs = {
        str(run): spans[file.name]
        for file in patterns.files
        for run in find_run_numbers(file)
    }
    meant = [name for name in names if len(names) == 1 or Path(name).stem in path.stem]
    return spans | runs | ({"": spans[meant[0]]} if len(meant) == 1 else {})


def _guess_first_index(path: Path, found: Found) -> int:
    """Return how the first pattern is counted, where only one answer is possible."""
    here = [(line.index, len(span)) for line, span in found if span is not None]
    from_0 = any(index == 0 for index, _ in here)
    from_1 = any(index == n for index, n in here)
    if from_0 != from_1 or not here:
        return int(from_1)
    message = (
        f"{path}: the indices do not tell whether the first pattern of a file is 0 or "
        "1. Look at a pattern that is labelled single, and at the one before it, and "
        "pass first_index=0 or first_index=1."
    )
    raise LabelsError(message)


def _in_spans(path: Path, found: Found, first_index: int) -> Placed:
    problems = [
        f"line {line.number}: pattern {line.index} of {line.place or 'the file'}, "
        f"which has {len(span)} patterns, counted from {first_index}"
        for line, span in found
        if span is not None and not 0 <= line.index - first_index < len(span)
    ]
    if problems:
        raise LabelsError(all_problems(path, problems))
    return [
        (line, None if span is None else span[line.index - first_index])
        for line, span in found
    ]


def _as_words(
    path: Path, placed: Placed, words: Mapping[str, str], n_patterns: int
) -> NDArray[np.str_]:
    labels = np.zeros(n_patterns, dtype=WORD_DTYPE)
    problems = []
    for line, pattern in placed:
        if pattern is None:
            continue
        word = words[line.code]
        if labels[pattern] not in {"", word}:
            problems.append(
                f"line {line.number}: pattern {pattern} is {word}, but "
                f"{labels[pattern]} in an earlier line"
            )
        labels[pattern] = word
    if problems:
        raise LabelsError(all_problems(path, problems))
    return labels


def _check_codes(path: Path, codes: Iterable[str], words: Mapping[str, str]) -> None:
    counts = Counter(codes)
    if unknown := sorted(
        f"{c} ({n} times)" for c, n in counts.items() if c not in words
    ):
        message = (
            f"{path}: nothing says which word is meant by {', '.join(unknown)}. Say it "
            "with label_words=['1 single', '0 other'], each a code and one of "
            f"{', '.join(LABELS)}."
        )
        raise LabelsError(message)
    if wrong := sorted(set(words.values()) - {*LABELS, ""}):
        message = (
            f"{path}: {', '.join(wrong)} cannot be stored; expected one of "
            f"{', '.join(LABELS)}."
        )
        raise LabelsError(message)


def _warn_of_missing(path: Path, placed: Placed) -> None:
    missing = [line for line, pattern in placed if pattern is None]
    if placed and len(missing) == len(placed):
        message = (
            f"{path}: none of its {len(placed)} labels is for a pattern of this stack; "
            f"the first is for {missing[0].place or 'event'} {missing[0].index}. Open "
            "the files that were labelled."
        )
        raise LabelsError(message)
    if missing:
        message = (
            f"{path}: {len(missing)} of {len(placed)} labels are for patterns that the "
            "stack does not hold, and are left out"
        )
        warnings.warn(message, stacklevel=4)
