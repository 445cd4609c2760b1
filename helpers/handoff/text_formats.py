"""Formats that are lines of text. Every index counts from 0."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.handoff.selection import Request
from helpers.outputs import escape_formula

CLASS_CHARACTERS = {
    "single": "s",
    "multiple": "m",
    "other": "o",
    "blank": "b",
    "unsure": "u",
    "": "-",
}
"""One for each word of `Request.words`, for Dragonfly's classifier."""

SPECKLENN_CODES = {"other": 0, "single": 1, "multiple": 2, "blank": 9}
"""For each word that SpeckleNN has a number for."""


def write_indices(folder: Path, request: Request) -> None:
    """Write `indices.txt` through the stack; of several files also one text each."""
    _write_lines(folder / "indices.txt", request.selection.index)
    if len(request.patterns.files) > 1:
        _write_rows_by_file(folder, request)


def write_blacklist(folder: Path, request: Request) -> None:
    """Write `blacklist.dat`: a line for each pattern of the stack, 1 = leave out."""
    _write_lines(folder / "blacklist.dat", (~request.is_selected).astype(int))


def write_classes(folder: Path, request: Request) -> None:
    """Write `classes.dat`: a line for each pattern of the stack, one character in it.

    They are those of `CLASS_CHARACTERS`; s is the selection.
    """
    characters = (CLASS_CHARACTERS[str(word)] for word in request.words)
    _write_lines(folder / "classes.dat", characters)


def write_liu_lab(folder: Path, request: Request) -> None:
    """Write a text of selected rows for each file, and the labels to train with.

    `train_index.dat` and `train_labels.dat` hold, line by line, every pattern that a
    person labelled: its file and row, and 1 for single or 0 for anything else.
    """
    _write_rows_by_file(folder, request)
    trained = (request.labels != "") & (request.labels != "unsure")
    names = [path.name for path in request.patterns.files]
    places = zip(request.files[trained], request.rows[trained], strict=True)
    lines = (f"{names[file]},{row}" for file, row in places)
    _write_lines(folder / "train_index.dat", lines)
    is_single = request.labels[trained] == "single"
    _write_lines(folder / "train_labels.dat", is_single.astype(int))


def write_specklenn(folder: Path, request: Request) -> None:
    """Write `labels.csv`: the selection as 1, and what people called otherwise.

    Patterns that are neither are left out. The row in the file counts as event number.

    Raises
    ------
    ParameterError
        If the experiment has no name, or the number of a run cannot be told.
    """
    if not request.experiment:
        message = "SpeckleNN wants the name of the experiment. Pass experiment=…."
        raise ParameterError(message)
    runs = _find_runs(request)
    words = request.words
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["exp", "run", "event_num", "label"])
        for i in np.flatnonzero(np.isin(words, list(SPECKLENN_CODES))):
            code = SPECKLENN_CODES[str(words[i])]
            run = runs[request.files[i]]
            experiment = escape_formula(request.experiment)
            writer.writerow([experiment, run, request.rows[i], code])


def write_list(folder: Path, request: Request) -> None:
    """Write `selection.lst`: the path of a pattern's file, and its row there."""
    paths = [path.resolve() for path in request.patterns.files]
    index = request.selection.index
    places = zip(request.files[index], request.rows[index], strict=True)
    lines = (f"{paths[file]} //{row}" for file, row in places)
    _write_lines(folder / "selection.lst", lines)


def _write_rows_by_file(folder: Path, request: Request) -> None:
    """Write one text of selected rows for each file, named after it."""
    index = request.selection.index
    for number, name in enumerate(_name_texts(request.patterns.files)):
        own = index[request.files[index] == number]
        _write_lines(folder / name, request.rows[own])


def _name_texts(files: Iterable[Path]) -> list[str]:
    """Name a text after each file; with its number where two have the same name."""
    stems = [path.stem for path in files]
    if max(Counter(stem.lower() for stem in stems).values()) == 1:
        return [f"{stem}.txt" for stem in stems]
    return [f"{number:03}-{stem}.txt" for number, stem in enumerate(stems)]


def _find_runs(request: Request) -> list[int]:
    """Return the run of each file: as given for one, else from the file's name."""
    files = request.patterns.files
    if request.run is not None and len(files) == 1:
        return [request.run]
    found = [re.findall(r"r(?:un)?[-_]?(\d+)", path.stem.lower()) for path in files]
    runs = [int(numbers[0]) for numbers in found if len(numbers) == 1]
    if len(runs) < len(files) or len(set(runs)) < len(files):
        message = (
            f"{', '.join(path.name for path in files)}: expected one run a file and "
            "its number in the name, such as run12.h5 or r0012.cxi. Rename the files, "
            "or hand on one at a time with run=…."
        )
        raise ParameterError(message)
    return runs


def _write_lines(path: Path, values: Iterable[Any] | NDArray[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{value}\n" for value in values)
