"""Which patterns go on, why, and all that a format may want to know of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.experiment import Experiment
from helpers.outputs import atomic_folder, new_hdf5, write_provenance
from helpers.patterns import Patterns
from helpers.physics import Geometry, estimate_diameters
from helpers.work_folder import SELECTION

Range = tuple[float, float]

HOW_TO_GET = {
    "photons": "Pass photons=… to select_patterns.",
    "diameter_nm": "Call add_diameters with the geometry first.",
}


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
    photons
        (m,) float64: photons of each; None where nobody has given them.
    diameter_nm
        (m,) float64: diameter of the sphere that scatters most alike, NaN where the
        pattern does not tell; None where nobody has estimated it.
    cuts
        What `cut_selection` has cut by: lowest and highest value that stayed.
    """

    index: NDArray[np.int64]
    predictions: NDArray[np.float32]
    from_label: NDArray[np.bool_]
    threshold: float
    photons: NDArray[np.float64] | None = None
    diameter_nm: NDArray[np.float64] | None = None
    cuts: dict[str, Range] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many patterns were chosen."""
        return self.index.size


def select_patterns(
    predictions: NDArray[np.float32],
    threshold: float | NDArray[np.float32],
    labels: NDArray[np.str_],
    photons: NDArray[np.float64] | None = None,
) -> Selection:
    """Choose the single hits: by label where a person gave one, else by threshold.

    Parameters
    ----------
    predictions
        (n,) calibrated probability of a single hit; NaN = no measurement, never taken.
    threshold
        Patterns at or above it are taken; (n,) where runs have their own.
    labels
        (n,) words; "" and "unsure" leave the choice to the threshold.
    photons
        (n,) photons per pattern, for `cut_selection`; not needed otherwise.
    """
    decided = (labels != "") & (labels != "unsure")
    chosen = np.where(decided, labels == "single", predictions >= threshold)
    chosen &= ~np.isnan(predictions)
    index = np.flatnonzero(chosen)
    return Selection(
        index,
        predictions[index],
        decided[index],
        float(np.min(threshold)),
        None if photons is None else photons[index],
    )


def add_diameters(
    selection: Selection, patterns: Patterns, geometry: Geometry
) -> Selection:
    """Return the selection with an estimate of each particle's diameter.

    Parameters
    ----------
    selection
        What was chosen.
    patterns
        The stack.
    geometry
        Where the detector stands.

    Returns
    -------
    Selection
        With `diameter_nm`, from `physics.estimate_diameters`.
    """
    found = estimate_diameters(patterns, selection.index, geometry)
    return replace(selection, diameter_nm=found)


def cut_selection(
    selection: Selection,
    *,
    photons: Range | None = None,
    probability: Range | None = None,
    diameter_nm: Range | None = None,
) -> Selection:
    """Keep the part of a selection that lies within limits, both included.

    Parameters
    ----------
    selection
        What was chosen.
    photons
        Lowest and highest number of photons in a pattern; `numpy.inf` for no limit.
    probability
        Of a single hit. What a person called single stays whatever the model says.
    diameter_nm
        Of the sphere that scatters most alike; a pattern without an estimate goes.

    Raises
    ------
    ParameterError
        If the selection does not know what it is to be cut by, or the lower limit is
        above the higher.
    """
    wanted = {
        "photons": photons,
        "probability": probability,
        "diameter_nm": diameter_nm,
    }
    cuts = {name: limits for name, limits in wanted.items() if limits is not None}
    stays = np.ones(len(selection), dtype=bool)
    for name, limits in cuts.items():
        stays &= _is_within(selection, name, limits)
    arrays = ("index", "predictions", "from_label", "photons", "diameter_nm")
    values = {name: getattr(selection, name) for name in arrays}
    kept = {name: v[stays] for name, v in values.items() if v is not None}
    return replace(selection, **kept, cuts=selection.cuts | cuts)


def _is_within(selection: Selection, name: str, limits: Range) -> NDArray[np.bool_]:
    low, high = limits
    if not low <= high:
        message = f"{name} = {limits}: expected (lowest, highest), neither of them NaN."
        raise ParameterError(message)
    if name == "probability":
        values: Any = np.where(selection.from_label, high, selection.predictions)
    else:
        values = getattr(selection, name)
    if values is None:
        message = f"The selection holds no {name} to cut by. {HOW_TO_GET[name]}"
        raise ParameterError(message)
    within: NDArray[np.bool_] = (values >= low) & (values <= high)
    return within


def find_rows(patterns: Patterns, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where in its own file each pattern is, (m,) int64, from 0.

    Parameters
    ----------
    patterns
        The stack.
    index
        (m,) places in the stack.
    """
    first = np.searchsorted(patterns.file_index, patterns.file_index[index])
    return np.asarray(index - first, dtype=np.int64)


def write_selection(
    work_dir: str | Path, patterns: Patterns, selection: Selection, **metadata: Any
) -> Path:
    """Write the folder `selection/` and return its path.

    `selection.txt` has one index a line, counted from 0 through the stack;
    `selection.h5` has `/index`, `/prediction`, `/from_label`, and for each pattern the
    number of its file in the attribute `patterns_files` (`/file`) and its place there
    (`/row`).

    Parameters
    ----------
    work_dir
        The work folder; an earlier selection in it is replaced as a whole, with what
        `write_handoff` made of it.
    patterns
        The stack that the indices count.
    selection
        What was chosen.
    **metadata
        More for the provenance, e.g. the model.
    """
    folder = (Path(work_dir).expanduser() / SELECTION.name).parent
    with atomic_folder(folder) as temporary:
        lines = "".join(f"{index}\n" for index in selection.index)
        (temporary / "selection.txt").write_text(lines, encoding="ascii")
        with new_hdf5(temporary / "selection.h5") as file:
            file["index"] = selection.index
            file["prediction"] = selection.predictions
            file["from_label"] = selection.from_label
            file["file"] = patterns.file_index[selection.index]
            file["row"] = find_rows(patterns, selection.index)
            write_provenance(
                file, **describe_selection(patterns, selection), **metadata
            )
    return folder


def read_threshold(work_dir: str | Path) -> float:
    """Return the probability from which the selection in a work folder takes patterns.

    Raises
    ------
    WorkFolderError
        If there is no selection, or it cannot be read.
    """
    path = Path(work_dir).expanduser() / SELECTION.name
    return float(SELECTION.read_hdf5(path)[1]["threshold"])


def describe_selection(patterns: Patterns, selection: Selection) -> dict[str, Any]:
    """Return what the provenance of a file says of a selection."""
    return {
        "patterns_files": [str(path.resolve()) for path in patterns.files],
        "fingerprint": patterns.fingerprint,
        "n_patterns": len(patterns),
        "n_selected": len(selection),
        "threshold": selection.threshold,
        # As words, since JSON has no infinity.
        "cuts": {name: f"{a:g} to {b:g}" for name, (a, b) in selection.cuts.items()},
    }


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

    def name_places(
        self, index: NDArray[np.int64], names: Sequence[str], between: str
    ) -> Iterator[str]:
        """Give for some patterns the name of their file, `between`, and their row."""
        files = self.patterns.file_index[index]
        for file, row in zip(files, self.rows[index], strict=True):
            yield f"{names[file]}{between}{row}"

    @property
    def metadata(self) -> dict[str, Any]:
        """What the provenance of a file says."""
        optional = {
            "adu_per_photon": self.adu_per_photon,
            "geometry": None if self.geometry is None else vars(self.geometry),
        }
        known = {name: value for name, value in optional.items() if value is not None}
        return describe_selection(self.patterns, self.selection) | known

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
        count = partial(count_photons, adu_per_photon=self._find_scale())
        parts = self.patterns.map(
            count, self.selection.index, here=True, progress="Hand on"
        )
        for _, counts in parts:
            yield counts.reshape(len(counts), -1)

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
    """Return what one photon adds to the values of the patterns; None: nobody knows.

    Where 01-inspect knows the gain, they are photons already, and what is given for the
    values of the files is divided by it.
    """
    if given is None:
        return None
    return given / experiment.patterns.adu_per_photon


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
