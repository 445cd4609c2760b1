"""Labels in the forms of other programs, as one word for each pattern of a stack.

What these functions return goes into a store by `LabelStore.import_words`. None of
these forms counts patterns through a stack, so each function says how it finds them;
labels of patterns that the stack does not hold are left out, with a warning.
"""

import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError
from helpers.labels.label_csv import all_problems, read_text
from helpers.labels.schema import LABELS, WORD_DTYPE

SPECKLENN_WORDS: Mapping[str, str] = {
    "0": "other",
    "1": "single",
    "2": "multiple",
    "3": "unsure",
    "4": "unsure",
    "9": "blank",
}
"""SpeckleNN: not the sample, single, multiple, unknown, needs help, background."""

PR772_WORDS: Mapping[str, str] = {"0": "other", "1": "single"}
"""PR772 study: not a single hit, single hit."""


class Stack(Protocol):
    """What has to be known of a stack; `helpers.patterns.Patterns` knows it.

    `files` are its files, `file_index` int (n,) for each pattern the index of its file.
    """

    @property
    def files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def file_index(self) -> NDArray[np.integer]: ...  # noqa: D102


@dataclass(frozen=True)
class _Line:
    """A label as it stands in a file; `place` is the run or file that `index` is in."""

    number: int
    place: str
    index: int
    code: str


def read_specklenn(
    path: str | Path,
    n_patterns: int,
    *,
    run: int | None = None,
    event_numbers: NDArray[np.integer] | None = None,
    words: Mapping[str, str] = SPECKLENN_WORDS,
) -> NDArray[np.str_]:
    """Read the labels of one run from SpeckleNN's CSV or JSON.

    Parameters
    ----------
    path
        CSV `exp,run,event_num,label`, or JSON `{"event_num": "label"}` of one run.
    n_patterns
        How many patterns the stack has.
    run
        Which run of the CSV; needed where it holds several.
    event_numbers
        int (n_patterns,): the event number of each pattern, such as
        `/LCLS/eventNumber` of a psocake file, which keeps hits only. None: the stack
        holds every event of the run, so that the event number counts the patterns.
    words
        What each code means; "" leaves its labels out.

    Returns
    -------
        str (n_patterns,); "" = no label.

    Raises
    ------
    LabelsError
        The file cannot be read, holds several runs or unknown codes, or has events
        that are not in the stack.

    References
    ----------
    Wang et al., IUCrJ 10, 568 (2023), doi:10.1107/S2052252523006115.
    """
    path = Path(path)
    text = read_text(path)
    if text.lstrip().startswith("{"):
        lines = _from_json(path, text)
    else:
        lines = _of_one_run(path, _from_csv(path, text), run)
    if event_numbers is None:
        _check_whole_run(path, lines, n_patterns)
        event_numbers = np.arange(n_patterns)
    patterns = {int(event): pattern for pattern, event in enumerate(event_numbers)}
    found = [(line, patterns.get(line.index)) for line in lines]
    return _as_words(path, found, words, n_patterns)


def read_euxfel2013(
    path: str | Path, patterns: Stack, words: Mapping[str, str], *, first_index: int = 0
) -> NDArray[np.str_]:
    """Read the labels of a text file with lines `run index class`.

    Parameters
    ----------
    path
        The file of a run is the one with `r` or `run` and the number of the run in its
        name, such as `hits_r0227.h5`; `index` counts its patterns.
    patterns
        The stack.
    words
        What each class means, such as `{"1": "single"}`: the file does not say it.
        "" leaves its labels out.
    first_index
        0 or 1: how the first pattern of a file is counted.

    Returns
    -------
        str (n_patterns,); "" = no label.

    Raises
    ------
    LabelsError
        The file cannot be read, a class has no word, or a pattern is not in its file.
    """
    path = Path(path)
    lines = _parse(path, _fields(path, None, ("run", "index", "class")))
    spans = {
        number.lstrip("0"): span
        for name, span in _spans(patterns).items()
        for number in re.findall(r"r(?:un)?[-_]?(\d+)", name)
    }
    found = [(line, spans.get(line.place.lstrip("0"))) for line in lines]
    return _as_words(
        path, _in_spans(path, found, first_index), words, len(patterns.file_index)
    )


def read_pr772(
    index_path: str | Path,
    labels_path: str | Path,
    patterns: Stack,
    *,
    first_index: int | None = None,
    words: Mapping[str, str] = PR772_WORDS,
) -> NDArray[np.str_]:
    """Read the labels of the PR772 study, in two files of one line a pattern.

    Parameters
    ----------
    index_path
        `train_index.dat`, with lines `file.h5,309`.
    labels_path
        `train_labels.dat`, with a 1 (single) or a 0 (not) in the same lines.
    patterns
        The stack, with files of these names.
    first_index
        0 or 1: how the first pattern of a file is counted. The study does not say;
        None finds out where the indices themselves leave only one answer.
    words
        What each code means; "" leaves its labels out.

    Returns
    -------
        str (n_patterns,); "" = no label.

    Raises
    ------
    LabelsError
        A file cannot be read, the two differ in length, a pattern is not in its file,
        or `first_index` has to be given.
    """
    path = Path(index_path)
    places = _fields(path, ",", ("file", "index"))
    codes = _fields(Path(labels_path), None, ("label",))
    if len(places) != len(codes):
        message = (
            f"{path}: {len(places)} lines, but {labels_path} has {len(codes)}. They "
            "must belong together, line by line."
        )
        raise LabelsError(message)
    rows = [(*row, code) for row, (_, code) in zip(places, codes, strict=True)]
    lines = _parse(path, rows)
    spans = _spans(patterns)
    found = [(line, spans.get(Path(line.place).name)) for line in lines]
    if first_index is None:
        first_index = _guess_first_index(path, found)
    found_patterns = _in_spans(path, found, first_index)
    return _as_words(path, found_patterns, words, len(patterns.file_index))


def read_single_list(
    path: str | Path, patterns: Stack, *, first_index: int | None = None
) -> NDArray[np.str_]:
    """Read a list of single hits, the index of one on each line.

    Parameters
    ----------
    path
        The text. Of a stack of several files, it is for the one whose name without its
        ending is part of the name of the text.
    patterns
        The stack.
    first_index
        0 or 1: how the first pattern of a file is counted. None finds out where the
        indices themselves leave only one answer.

    Returns
    -------
        str (n_patterns,); "single", or "" for patterns that are not in the list.

    Raises
    ------
    LabelsError
        The file cannot be read, it is not clear for which file it is, a pattern is not
        in that file, or `first_index` has to be given.
    """
    path = Path(path)
    spans = _spans(patterns)
    meant = [name for name in spans if len(spans) == 1 or Path(name).stem in path.stem]
    if len(meant) != 1:
        message = (
            f"{path}: it is not clear for which of the {len(spans)} files of the stack "
            f"it is; {len(meant)} have their name in its name. Expected a name such as "
            f"{Path(next(iter(spans))).stem}.txt."
        )
        raise LabelsError(message)
    rows = [(n, meant[0], index, "1") for n, index in _fields(path, None, ("index",))]
    found = [(line, spans.get(line.place)) for line in _parse(path, rows)]
    if first_index is None:
        first_index = _guess_first_index(path, found)
    return _as_words(
        path,
        _in_spans(path, found, first_index),
        {"1": "single"},
        len(patterns.file_index),
    )


def _from_json(path: Path, text: str) -> list[_Line]:
    try:
        labels = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{path}: line {error.lineno} is not JSON ({error.msg})."
        raise LabelsError(message) from error
    rows = [(i, "", event, str(code)) for i, (event, code) in enumerate(labels.items())]
    return _parse(path, rows)


def _from_csv(path: Path, text: str) -> list[_Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    expected = ("exp", "run", "event_num", "label")
    if missing := set(expected) - set(reader.fieldnames or ()):
        message = (
            f"{path}: the first line lacks {', '.join(sorted(missing))}; expected "
            f"{','.join(expected)}."
        )
        raise LabelsError(message)
    rows = [
        (reader.line_num, _run_name(row), row["event_num"] or "", row["label"] or "")
        for row in reader
    ]
    return _parse(path, rows)


def _run_name(row: Mapping[str, str | None]) -> str:
    return f"{row['exp']} run {(row['run'] or '').strip().lstrip('0')}"


def _of_one_run(path: Path, lines: list[_Line], run: int | None) -> list[_Line]:
    runs = Counter(line.place for line in lines)
    wanted = [name for name in runs if run is None or name.endswith(f" run {run}")]
    if len(wanted) == 1:
        return [line for line in lines if line.place == wanted[0]]
    held = ", ".join(f"{name} ({n})" for name, n in runs.items())
    message = (
        f"{path}: holds labels of {held}; expected those of one run. Pass run=… with "
        "the run that the stack holds, or have it in the name of the file of patterns, "
        "such as run0090.h5."
    )
    raise LabelsError(message)


def _check_whole_run(path: Path, lines: Sequence[_Line], n_patterns: int) -> None:
    last = max((line.index for line in lines), default=0)
    if last >= n_patterns:
        message = (
            f"{path}: holds a label of event {last}, but the stack has {n_patterns} "
            "patterns, so it does not hold every event of the run. Pass "
            "event_numbers=… with the event number of each pattern."
        )
        raise LabelsError(message)


def _fields(
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


def _parse(path: Path, rows: Iterable[tuple[int, str, str, str]]) -> list[_Line]:
    """Turn line number, place, index and code into lines; report every bad index."""
    lines, problems = [], []
    for number, place, index, code in rows:
        if index.strip().isdecimal():
            lines.append(_Line(number, place.strip(), int(index), code.strip()))
        else:
            problems.append(f"line {number}: «{index}» is no index of a pattern")
    if problems:
        raise LabelsError(all_problems(path, problems))
    return lines


def _spans(patterns: Stack) -> dict[str, range]:
    """Give for each file name the indices of its patterns in the stack."""
    names = [Path(file).name for file in patterns.files]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        message = (
            f"Several files of the stack are called {', '.join(repeated)}, so that "
            "labels by file name cannot be told apart. Rename the files."
        )
        raise LabelsError(message)
    first = np.searchsorted(patterns.file_index, np.arange(len(names) + 1)).tolist()
    return {name: range(*first[i : i + 2]) for i, name in enumerate(names)}


def _guess_first_index(path: Path, found: Iterable[tuple[_Line, range | None]]) -> int:
    here = [(line.index, len(span)) for line, span in found if span is not None]
    from_0 = any(index == 0 for index, _ in here)
    from_1 = any(index == n for index, n in here)
    if from_0 != from_1:
        return int(from_1)
    message = (
        f"{path}: the indices do not tell whether the first pattern of a file is 0 or "
        "1. Look at a pattern that is labelled single, and at the one before it, and "
        "pass first_index=0 or first_index=1."
    )
    raise LabelsError(message)


def _in_spans(
    path: Path, found: Iterable[tuple[_Line, range | None]], first_index: int
) -> list[tuple[_Line, int | None]]:
    """Give the pattern of each line, None where the stack lacks the file."""
    patterns: list[tuple[_Line, int | None]] = []
    problems = []
    for line, span in found:
        position = line.index - first_index
        if span is None:
            patterns.append((line, None))
        elif 0 <= position < len(span):
            patterns.append((line, span[position]))
        else:
            problems.append(
                f"line {line.number}: pattern {line.index} of {line.place}, which has "
                f"{len(span)} patterns, counted from {first_index}"
            )
    if problems:
        raise LabelsError(all_problems(path, problems))
    return patterns


def _as_words(
    path: Path,
    found: Sequence[tuple[_Line, int | None]],
    words: Mapping[str, str],
    n_patterns: int,
) -> NDArray[np.str_]:
    _check_codes(path, [line.code for line, _ in found], words)
    _warn_of_missing(path, found)
    labels = np.zeros(n_patterns, dtype=WORD_DTYPE)
    problems = []
    for line, pattern in found:
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
    allowed = f'one of {", ".join(LABELS)}, or "" to leave labels out'
    unknown = [f"{code} ({n} lines)" for code, n in counts.items() if code not in words]
    if unknown:
        message = (
            f"{path}: nothing says which word is meant by {', '.join(sorted(unknown))}."
            f" Pass words={{…}} with, for each code, {allowed}; in 03-label, "
            "label_words=['1 single', '0 other']."
        )
        raise LabelsError(message)
    if wrong := sorted(set(words.values()) - {*LABELS, ""}):
        message = f"words: {', '.join(wrong)} cannot be stored; expected {allowed}."
        raise LabelsError(message)


def _warn_of_missing(path: Path, found: Sequence[tuple[_Line, int | None]]) -> None:
    missing = [line for line, pattern in found if pattern is None]
    if found and len(missing) == len(found):
        message = (
            f"{path}: none of its {len(found)} labels is for a pattern of this stack; "
            f"the first is for {missing[0].place or 'event'} {missing[0].index}. Open "
            "the files that were labelled."
        )
        raise LabelsError(message)
    if missing:
        message = (
            f"{path}: {len(missing)} of {len(found)} labels are for patterns that the "
            "stack does not hold, and are left out"
        )
        warnings.warn(message, stacklevel=4)
