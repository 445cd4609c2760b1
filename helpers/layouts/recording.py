"""One file, read by its layout: its patterns and what is recorded beside them."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.layouts.bad_pixels import (
    BadPixels,
    convert_mask,
    find_pixel_problems,
    find_shape_problems,
    say_origin,
)
from helpers.layouts.hdf5 import get_dataset, is_numeric, open_hdf5
from helpers.layouts.sources import Source
from helpers.layouts.table import Layout, find_layout

MASK_NAMES = ("mask", "bad_pixels", "good_pixels")
UNIT_NAMES = ("unit", "units")


@dataclass(frozen=True)
class Recording:
    """What one file holds.

    Attributes
    ----------
    layout
        The kind of file.
    source
        Its patterns, (n, rows, columns).
    unit
        "photons" or "ADU" if the file or its layout says so, else "".
    bad_pixels
        From the file's own mask; None without one.
    labels
        (n,) label words, "" = none; None if the file holds no labels.
    truth
        (n,) class names; None if the file holds none.
    remarks
        What a person should know, one sentence or two each.
    """

    layout: Layout
    source: Source
    unit: str
    bad_pixels: BadPixels | None
    labels: NDArray[np.str_] | None
    truth: NDArray[np.str_] | None
    remarks: tuple[str, ...]


def open_recording(
    path: Path, dataset: str | None = None, *, use_mask: bool = True
) -> Recording:
    """Recognise a file, check it and read everything but its patterns.

    Parameters
    ----------
    path
        An HDF5 file.
    dataset
        Where its patterns are; found by its layout if not given.
    use_mask
        False leaves the file's own mask alone.

    Raises
    ------
    PatternsFileError
        With everything that is wrong with the file.
    """
    with open_hdf5(path) as file:
        layout = find_layout(path, file, dataset)
        return _Reader(path, file, layout).read(use_mask=use_mask)


@dataclass
class _Reader:
    """Reads one open file, and gathers its problems on the way."""

    path: Path
    file: h5py.File
    layout: Layout
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def read(self, *, use_mask: bool) -> Recording:
        layout, file = self.layout, self.file
        where, source = layout.patterns, layout.source
        self.problems.extend(source.find_problems(self.path, file, where))
        shape = source.find_shape(file, where)
        bad_pixels = labels = truth = None
        if shape is not None:
            bad_pixels = self._read_mask(shape[1:]) if use_mask else None
            labels = self._read_labels(shape[0])
            truth = self._read_truth(shape[0])
        if self.problems:
            raise PatternsFileError(self.path, self.problems)
        return Recording(
            layout=layout,
            source=source(self.path, file, where),
            unit=_read_unit(file, where) or layout.unit,
            bad_pixels=bad_pixels,
            labels=labels,
            truth=truth,
            remarks=tuple(self.remarks),
        )

    def _read_mask(self, frame: tuple[int, int]) -> BadPixels | None:
        paths = self.layout.bad_pixels
        where = next((path for path in paths if get_dataset(self.file, path)), "")
        if not where:
            self._remark_unused_mask()
            return None
        mask = self.file[where]
        problems = list(find_shape_problems(where, mask.shape, frame))
        if not is_numeric(mask) and mask.dtype != bool:
            problems.append(f"{where} holds {mask.dtype}; expected numbers.")
        if not problems:
            pixels = convert_mask(mask, self.layout.bad_when)
            problems.extend(find_pixel_problems(where, pixels))
        self.problems.extend(problems)
        if problems:
            return None
        return BadPixels(pixels, say_origin(where, self.layout.bad_when))

    def _remark_unused_mask(self) -> None:
        folder = PurePosixPath(self.layout.patterns).parent
        for path in (str(folder / name) for name in MASK_NAMES):
            if get_dataset(self.file, path):
                name = f"{self.path}:{path}"
                self.remarks.append(
                    f"{name} is not used, because it is not known which of its values "
                    f"mean bad. Say it: bad_pixels='{name} != 0' or '{name} == 0'."
                )

    def _read_labels(self, n: int) -> NDArray[np.str_] | None:
        dataset = get_dataset(self.file, self.layout.labels)
        if dataset is None:
            return None
        if not self._fits(dataset, n, is_numeric(dataset), "numbers"):
            return None
        values = dataset[()]
        words = np.full(n, "", dtype="U8")
        for value, word in self.layout.label_words:
            words[values == value] = word
        strange = np.unique(values[(words == "") & np.isfinite(values)])
        if strange.size:
            known = ", ".join(f"{v:g} ({word})" for v, word in self.layout.label_words)
            self.remarks.append(
                f"{self.path}: {dataset.name} holds {', '.join(map(str, strange))}; "
                f"expected {known}. Patterns with another value count as unlabelled."
            )
        return words

    def _read_truth(self, n: int) -> NDArray[np.str_] | None:
        dataset = get_dataset(self.file, self.layout.truth)
        if dataset is None:
            return None
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        if not self._fits(dataset, n, is_text, "text"):
            return None
        return np.array(dataset.asstr()[()], dtype=np.str_)

    def _fits(self, dataset: h5py.Dataset, n: int, right: bool, expected: str) -> bool:
        """Tell whether a dataset holds one value of the right kind for each pattern."""
        if dataset.shape == (n,) and right:
            return True
        self.problems.append(
            f"{dataset.name} has shape {dataset.shape} and dtype {dataset.dtype}; "
            f"expected {expected}, one for each of the {n} patterns."
        )
        return False


def _read_unit(file: h5py.File, where: str) -> str:
    """Return "photons" or "ADU" if an attribute of the patterns says so, else ""."""
    attributes = getattr(file.get(where), "attrs", {})
    said = " ".join(str(attributes[name]) for name in UNIT_NAMES if name in attributes)
    if "photon" in said.lower():
        return "photons"
    return "ADU" if "adu" in said.lower() else ""
