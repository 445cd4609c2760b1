"""Labels from a file or folder of any known form, brought into a store."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import LabelsError, PatternsFileError
from helpers.labels.foreign import (
    PR772_WORDS,
    SPECKLENN_WORDS,
    read_euxfel2013,
    read_pr772,
    read_single_list,
    read_specklenn,
)
from helpers.labels.label_csv import find_header, read_text
from helpers.labels.store import LabelStore
from helpers.patterns import Patterns, find_layout, get_whole_dataset, open_hdf5

PR772_FILES = ("train_index.dat", "train_labels.dat")
KNOWN_FORMS = (
    "CSV with the header pattern,label",
    "SpeckleNN's CSV exp,run,event_num,label or JSON",
    "train_index.dat and train_labels.dat of the PR772 study",
    "text with lines «run index class»",
    "text with the index of a single hit on each line",
    "an HDF5 file with one label for each pattern in /labels",
)
LINES_SHOWN = 3

_RUN_IN_NAME = re.compile(r"(?:^|[^a-z])(?:r|run)[-_]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ImportOptions:
    """What a person says of labels whose file does not say it.

    Parameters
    ----------
    first_index
        0 or 1: how the first pattern of a file is counted; None where nobody said.
    words
        What each code means, such as {"1": "single"}.
    """

    first_index: int | None
    words: Mapping[str, str]


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
        In one of `KNOWN_FORMS`.
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
    said = ImportOptions(_read_first_index(first_index), _read_words(label_words))
    read = _recognise(path)
    if read is None:
        return store.import_csv(
            path,
            locate=patterns.locate,
            first_index=said.first_index or 0,
            words=said.words,
        )
    words = read(path, patterns, said)
    return store.import_words(words, source=path.name)


Reader = Callable[[Path, Patterns, ImportOptions], NDArray[np.str_]]


def _recognise(path: Path) -> Reader | None:
    """Return what reads the labels; None for the CSV of this package."""
    if path.is_dir():
        return _read_folder
    if path.name in PR772_FILES:
        return lambda path, patterns, said: _read_folder(path.parent, patterns, said)
    if path.is_file() and h5py.is_hdf5(path):
        return _read_hdf5
    with warnings.catch_warnings(action="ignore"):  # what reads it warns
        text = read_text(path)
    return _recognise_text(path, text)


def _recognise_text(path: Path, text: str) -> Reader | None:
    header = find_header(text)
    if "event_num" in header or text.lstrip().startswith("{"):
        return _read_specklenn
    if "pattern" in header or "label" in header:
        return None
    columns = {len(line.split()) for line in text.splitlines() if line.strip()}
    if columns == {3}:
        return _read_euxfel2013
    if columns == {1} and re.fullmatch(r"[\d\s]+", text):
        return _read_single_list
    raise LabelsError(_say_unknown(path, text))


def _say_unknown(path: Path, text: str) -> str:
    lines = [line.strip()[:60] for line in text.splitlines() if line.strip()]
    shown = "; ".join(f"«{line}»" for line in lines[:LINES_SHOWN]) or "nothing"
    return (
        f"{path}: this form of labels is not known. It begins with {shown}. Known are: "
        f"{'; '.join(KNOWN_FORMS)}. If only the first line "
        "pattern,label is missing, add it; else convert it to that form; pattern "
        "counts from 0 through the stack."
    )


def _read_folder(
    path: Path, patterns: Patterns, said: ImportOptions
) -> NDArray[np.str_]:
    index, labels = (path / name for name in PR772_FILES)
    missing = [each.name for each in (index, labels) if not each.is_file()]
    if missing:
        message = (
            f"{path}: a folder of labels holds {' and '.join(PR772_FILES)}; "
            f"{' and '.join(missing)} is not there. Otherwise name a file: "
            f"{'; '.join(KNOWN_FORMS)}."
        )
        raise LabelsError(message)
    return read_pr772(
        index,
        labels,
        patterns,
        first_index=said.first_index,
        words={**PR772_WORDS, **said.words},
    )


def _read_specklenn(
    path: Path, patterns: Patterns, said: ImportOptions
) -> NDArray[np.str_]:
    _refuse(path, said, "first_index", "events carry their own numbers")
    runs = {int(n) for f in patterns.files for n in _RUN_IN_NAME.findall(f.stem)}
    return read_specklenn(
        path,
        len(patterns),
        run=runs.pop() if len(runs) == 1 else None,
        event_numbers=patterns.shots.get("event"),
        words={**SPECKLENN_WORDS, **said.words},
    )


def _read_euxfel2013(
    path: Path, patterns: Patterns, said: ImportOptions
) -> NDArray[np.str_]:
    return read_euxfel2013(
        path, patterns, said.words, first_index=said.first_index or 0
    )


def _read_single_list(
    path: Path, patterns: Patterns, said: ImportOptions
) -> NDArray[np.str_]:
    _refuse(path, said, "label_words", "the list names single hits and nothing else")
    return read_single_list(path, patterns, first_index=said.first_index)


def _read_hdf5(path: Path, patterns: Patterns, said: ImportOptions) -> NDArray[np.str_]:
    """Read `/labels` of a file, by its layout or by what a person says."""
    _refuse(path, said, "first_index", "there is one label for each pattern")
    values = _read_codes(path, len(patterns))
    known = _find_words(path)
    words = {**{f"{code:g}": word for code, word in known}, **said.words}
    codes = [f"{value:g}" if np.isfinite(value) else "" for value in values]
    unknown = sorted({code for code in codes if code and code not in words})
    if unknown:
        message = (
            f"{path}: nothing says which word is meant by {', '.join(unknown)} in "
            "/labels. Say it: label_words=['1 single', '0 other']."
        )
        raise LabelsError(message)
    return np.array([words.get(code, "") for code in codes], dtype="U8")


def _refuse(path: Path, said: ImportOptions, name: str, why: str) -> None:
    """Refuse what was said of a form of labels that has no use for it."""
    given = said.words if name == "label_words" else said.first_index
    if given:
        message = f"{path}: {name} does not apply to this form of labels: {why}."
        raise LabelsError(message)


def _read_codes(path: Path, n: int) -> NDArray[np.float64]:
    try:
        with open_hdf5(path) as file:
            found = get_whole_dataset(file, "/labels")
            shape = None if found is None else found.shape
            if found is not None and shape == (n,) and found.dtype.kind in "iuf":
                return np.asarray(found[()], np.float64)
    except PatternsFileError as error:
        raise LabelsError(str(error)) from error
    what = "is not there" if shape is None else f"has shape {shape}"
    message = f"{path}: /labels {what}; expected a number for each of {n} patterns."
    raise LabelsError(message)


def _find_words(path: Path) -> tuple[tuple[float, str], ...]:
    with open_hdf5(path) as file:
        return find_layout(path, file, "/patterns").label_words


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
