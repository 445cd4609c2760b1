"""Selections out to the next program."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.outputs import whole_folder, write_provenance
from helpers.patterns import Patterns


@dataclass(frozen=True)
class Selection:
    """Patterns chosen for what comes next, and why.

    Attributes
    ----------
    index
        (m,) int64, ascending: their places in the stack, from 0.
    predictions
        (m,) float32: calibrated probability of a single hit.
    from_label
        (m,) bool: True where a person's label decided, not the threshold.
    threshold
        Probability from which a pattern without a label was taken.
    """

    index: NDArray[np.int64]
    predictions: NDArray[np.float32]
    from_label: NDArray[np.bool_]
    threshold: float


def select_patterns(
    predictions: NDArray[np.float32], threshold: float, labels: NDArray[np.str_]
) -> Selection:
    """Choose the single hits: by label where a person gave one, else by threshold.

    Parameters
    ----------
    predictions
        (n,) calibrated probability of a single hit.
    threshold
        Patterns at or above it are taken.
    labels
        (n,) words; "" and "unsure" leave the choice to the threshold.
    """
    decided = (labels != "") & (labels != "unsure")
    chosen = np.where(decided, labels == "single", predictions >= threshold)
    index = np.flatnonzero(chosen)
    return Selection(index, predictions[index], decided[index], threshold)


def write_selection(
    work_dir: str | Path, patterns: Patterns, selection: Selection, **facts: Any
) -> Path:
    """Write the folder `selection/` and return its path.

    `selection.txt` has one index a line, counted from 0 through the stack;
    `selection.h5` has `/index`, `/prediction`, `/from_label`, and for each pattern the
    number of its file in the attribute `patterns_files` (`/file`) and its place there
    (`/row`).

    Parameters
    ----------
    work_dir
        The work folder; an earlier selection in it is replaced as a whole.
    patterns
        The stack that the indices count.
    selection
        What was chosen.
    **facts
        More for the provenance, e.g. the model.
    """
    folder = Path(work_dir) / "selection"
    files = [str(path.resolve()) for path in patterns.files]
    rows = [patterns.locate(int(i))[1] for i in selection.index]
    with whole_folder(folder) as temporary:
        lines = "".join(f"{index}\n" for index in selection.index)
        (temporary / "selection.txt").write_text(lines, encoding="ascii")
        with h5py.File(temporary / "selection.h5", "w") as file:
            file["index"] = selection.index
            file["prediction"] = selection.predictions
            file["from_label"] = selection.from_label
            file["file"] = patterns.groups[selection.index].astype(np.int64)
            file["row"] = np.array(rows, np.int64)
            file.attrs["threshold"] = selection.threshold
            write_provenance(
                file, patterns_files=files, fingerprint=patterns.fingerprint, **facts
            )
    return folder
