"""What a writer may ask of a selection: its photons, files, rows and words."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.experiment import Experiment
from helpers.handoff.selection import Selection, describe_selection, find_rows
from helpers.patterns import Patterns
from helpers.physics import Geometry

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Request:
    """A selection on its way out, with all that any format has to know.

    Attributes
    ----------
    patterns
        The stack.
    selection
        What was chosen of it.
    labels
        (n,) words that people gave, "" = none.
    adu_per_photon
        What one photon adds to a pixel; None: the patterns are photon counts.
    geometry
        Where the detector stands; None where that is not known.
    experiment
        Name of the experiment, such as "amo86615".
    run
        Number of the run; None: the names of the files say it.
    """

    patterns: Patterns
    selection: Selection
    labels: NDArray[np.str_]
    adu_per_photon: float | None = None
    geometry: Geometry | None = None
    experiment: str = ""
    run: int | None = None

    @property
    def is_selected(self) -> NDArray[np.bool_]:
        """(n,) bool: True for the patterns of the selection."""
        selected = np.zeros(len(self.patterns), dtype=bool)
        selected[self.selection.index] = True
        return selected

    @property
    def words(self) -> NDArray[np.str_]:
        """(n,) words: "single" = selected, else what people called it, "" = unknown.

        A pattern that people called single and that was cut is "", not single.
        """
        by_people = np.where(self.labels == "single", "", self.labels)
        return np.where(self.is_selected, "single", by_people)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) int64: place of each pattern of the stack in its own file, from 0."""
        return find_rows(self.patterns, np.arange(len(self.patterns)))

    @property
    def files(self) -> NDArray[np.int64]:
        """(n,) int64: number of the file of each pattern of the stack."""
        return np.asarray(self.patterns.groups, dtype=np.int64)

    @property
    def facts(self) -> dict[str, Any]:
        """What the provenance of a file says."""
        optional = {
            "adu_per_photon": self.adu_per_photon,
            "geometry": None if self.geometry is None else vars(self.geometry),
        }
        known = {name: value for name, value in optional.items() if value is not None}
        return describe_selection(self.patterns, self.selection) | known

    def spans(self) -> Iterator[slice]:
        """Cut the selection into pieces whose patterns fit in memory."""
        n_rows, n_columns = self.patterns.shape[1:]
        step = max(1, BLOCK_BYTES // (4 * n_rows * n_columns))
        return cut_into_spans(len(self.selection), step, "Hand on")

    def photon_blocks(self) -> Iterator[NDArray[np.int32]]:
        """Go through the selected patterns as photon counts, int32 (m, pixels).

        Bad pixels are 0. Values are rounded, halves to the even number; what is
        negative then is 0.

        Raises
        ------
        ParameterError
            If the patterns are not photon counts and nobody has said what one photon
            adds to a pixel.
        """
        scale = self._find_scale()
        for span in self.spans():
            block = self.patterns[self.selection.index[span]]
            yield count_photons(block, scale).reshape(len(block), -1)

    def _find_scale(self) -> float:
        scale = self.adu_per_photon
        if scale is None and self.patterns.unit == "photons":
            return 1.0
        if scale is None:
            message = (
                f"{self.patterns.files[0]}: the unit of its patterns is "
                f"{self.patterns.unit}, and this format holds photon counts. Pass "
                "adu_per_photon with what one photon adds to a pixel; 1 if the values "
                "are photon counts."
            )
            raise ParameterError(message)
        if not 0 < scale < np.inf:
            message = f"adu_per_photon is {scale}; expected a number above 0."
            raise ParameterError(message)
        return scale


def find_scale(experiment: Experiment, given: float | None = None) -> float | None:
    """Return ADU per photon: as given, or else as 01-inspect was told.

    Its default of 1 does not count: it says nothing about patterns in ADU.
    """
    told = float(experiment.facts.get("adu_per_photon", 1))
    return given if given is not None or told == 1 else told


def cut_into_spans(total: int, step: int, work: str) -> Iterator[slice]:
    """Give pieces of a range one after the other, with a bar if that takes long.

    Parameters
    ----------
    total
        Length of the range.
    step
        Length of a piece; the last one may be shorter.
    work
        Name of what the caller does with them.
    """
    from tqdm.auto import tqdm  # slow to import, so only when it is needed

    with tqdm(total=total, desc=work, unit="pattern", delay=2) as bar:
        for start in range(0, total, step):
            stop = min(start + step, total)
            yield slice(start, stop)
            bar.update(stop - start)


def count_photons(
    values: NDArray[np.float32], adu_per_photon: float
) -> NDArray[np.int32]:
    """Round to whole photons, halves to the even number; below 0 is 0.

    Parameters
    ----------
    values
        Of any shape, finite.
    adu_per_photon
        What one photon adds to a pixel; 1 for photon counts.
    """
    photons = np.rint(values / np.float32(adu_per_photon))
    return np.asarray(np.maximum(photons, 0), dtype=np.int32)
