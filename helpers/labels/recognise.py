"""Labels from a file or folder of any known form, brought into a store."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError
from helpers.labels.database import LABELS, WORD_DTYPE
from helpers.labels.label_csv import all_problems, find_header
from helpers.labels.label_forms import (
    FORMS,
    PR772,
    RUN_IN_NAME,
    Candidate,
    LabelForm,
    Line,
)
from helpers.labels.store import LabelStore, open_label_store
from helpers.patterns import Patterns

SQLITE = b"SQLite format 3\0"
OWN_FORMS = (
    "CSV with the header pattern,label",
    "a label store, such as labels.sqlite",
)


LINES_SHOWN = 3
_SAY_WORDS = (
    "Say it with label_words=['1 single', '0 other'], each a code and one of "
    f"{', '.join(LABELS)}"
)

Placed = list[tuple[Line, int | None]]
"""Each line with its pattern; None where the stack does not hold it."""


def import_labels(
    store: LabelStore,
    path: str | Path,
    patterns: Patterns,
    *,
    first_index: int = -1,
    label_words: Sequence[str] = (),
) -> int:
    """Recognise the form of a file or folder of labels, and store them.

    Parameters
    ----------
    store
        Of these patterns.
    path
        CSV with the header `pattern,label`; another label store, whose events are
        merged; or a form of another program, see `helpers.labels.label_forms.FORMS`.
    patterns
        The stack.
    first_index
        0 or 1: how the first pattern of a file is counted, where the form does not say
        it. -1: it is found out where only one is possible, and else asked for.
    label_words
        What each code means, where the form does not say it or means something else:
        "0 single", "4 other", "Single hit single".

    Returns
    -------
        How many labels are new in the store.

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
        f"{'; '.join([*OWN_FORMS, *(form.what for form in FORMS)])}. If only the first "
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
        The stack.
    first_index
        0 or 1: how the first pattern of a file is counted. None finds it out where only
        one is possible.
    words
        What each code means, such as {"1": "single"}, where the form does not say it;
        "" leaves its labels out.

    Returns
    -------
        str (n_patterns,); "" = no label. Labels of patterns that the stack does not
        hold are left out, with a warning.

    Raises
    ------
    LabelsError
        The file cannot be read, something has to be said about it, or its labels do not
        fit the patterns.
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
    named = {n for file in patterns.files for n in RUN_IN_NAME.findall(file.stem)}
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
    names = [Path(file).name for file in patterns.files]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        message = (
            f"Several files of the stack are called {', '.join(repeated)}, so that "
            "labels by file name cannot be told apart. Rename the files."
        )
        raise LabelsError(message)
    first = np.searchsorted(patterns.file_index, np.arange(len(names) + 1)).tolist()
    spans = {name: range(*first[i : i + 2]) for i, name in enumerate(names)}
    runs = {run: spans[name] for name in names for run in RUN_IN_NAME.findall(name)}
    meant = [name for name in names if len(names) == 1 or Path(name).stem in path.stem]
    return spans | runs | ({"": spans[meant[0]]} if len(meant) == 1 else {})


Found = Sequence[tuple[Line, range | None]]
"""Each line with the patterns of its file; None where the stack lacks the file."""


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
            f"{path}: nothing says which word is meant by {', '.join(unknown)}. "
            f"{_SAY_WORDS}."
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
