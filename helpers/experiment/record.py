"""`experiment.json` for the facts that a person reads, `experiment.h5` for arrays."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.errors import OtherPatternsError, ParameterError
from helpers.experiment.measurements import Measurements
from helpers.experiment.no_measurement import NUMBERS
from helpers.made_from import check_fits, look_alike, name_file, name_values
from helpers.outputs import atomic_hdf5, provenance, write_json, write_provenance
from helpers.patterns import Patterns, open_patterns
from helpers.work_folder import EXPERIMENT, MEASUREMENTS

OTHERS = "Give the files that were inspected, or a new work_dir."
LOOK_ALIKE = (
    "They agree in the few patterns that older versions of this package compared, but "
    "not in the rest: an older version wrote here, the file was packed in another way, "
    "or this is another run. If they are the same patterns, run "
    f"{EXPERIMENT.writer} again, and say same_run once where labels are opened; else "
    "give the files that were inspected, or a new work_dir."
)


@dataclass(frozen=True)
class Experiment:
    """The patterns of a work folder with everything that the first notebook found.

    Attributes
    ----------
    patterns
        The stack, with the experiment's bad pixels, and what is no measurement.
    centre
        (row, column) of the beam in pixels, fractions allowed.
    measurements
        Photons, lit pixels and powder.
    facts
        The content of `experiment.json`.
    work_dir
        The work folder.
    """

    patterns: Patterns
    centre: tuple[float, float]
    measurements: Measurements
    facts: dict[str, Any]
    work_dir: Path


def write_experiment(
    work_dir: str | Path,
    patterns: Patterns,
    measurements: Measurements,
    centre: tuple[float, float],
    **facts: Any,
) -> Path:
    """Write `experiment.json` and `experiment.h5`; return the path of the first.

    Parameters
    ----------
    work_dir
        The work folder; made when it does not exist.
    patterns
        The stack, with every bad pixel that later stages shall leave out.
    measurements
        Of that stack.
    centre
        (row, column) in pixels.
    **facts
        More for `experiment.json`: thresholds and what was chosen by hand.
    """
    _check_centre(centre, patterns)
    patterns.check_unchanged()
    work_dir = Path(work_dir).expanduser()
    arrays = vars(measurements) | {"bad_pixels": patterns.bad_pixels}
    with atomic_hdf5(work_dir / MEASUREMENTS.name) as file:
        for name in MEASUREMENTS.datasets:
            file[name] = arrays[name]
        file["no_measurement"].attrs["meaning"] = [
            "0: a measurement",
            *(f"{number}: {kind}" for kind, number in NUMBERS.items()),
        ]
        write_provenance(file, fingerprint=patterns.fingerprint)
    content = {
        "patterns_files": [str(path.resolve()) for path in patterns.files],
        "patterns_sizes": list(patterns.file_sizes),
        "dataset": patterns.layout.patterns,
        "layout": patterns.layout.name,
        "description": patterns.describe(),
        "shape": list(patterns.shape),
        "unit": patterns.recorded_unit,
        "pedestal": patterns.pedestal,
        "adu_per_photon": patterns.adu_per_photon,
        "centre": list(centre),
        "n_bad_pixels": int(patterns.bad_pixels.sum()),
        "no_measurement": {
            kind: int(np.count_nonzero(measurements.no_measurement == number))
            for kind, number in NUMBERS.items()
        },
        "has_mask_of_each": patterns.has_mask_of_each,
        **facts,
    }
    made_from = {
        **name_values(patterns),
        "geometry": name_file(facts.get("geometry_file")),
    }
    origin = provenance(fingerprint=patterns.fingerprint, made_from=made_from)
    write_json(work_dir / EXPERIMENT.name, content | origin)
    return work_dir / EXPERIMENT.name


def _check_centre(centre: tuple[float, float], patterns: Patterns) -> None:
    """Refuse a centre that is no place, and tell of one outside of the detector."""
    if not np.isfinite(centre).all():
        message = f"centre is {centre}; expected row and column in pixels."
        raise ParameterError(message)
    rows, columns = patterns.shape[1:]
    if not (-0.5 <= centre[0] < rows and -0.5 <= centre[1] < columns):
        warnings.warn(
            f"The centre, row {centre[0]:.1f}, column {centre[1]:.1f}, lies outside of "
            f"the detector of {rows} × {columns} pixels. If the beam does not, set "
            f"centre_row and centre_column in {EXPERIMENT.writer}.",
            stacklevel=3,
        )


def open_experiment(
    work_dir: str | Path, patterns_file: str | Path | Sequence[str | Path] = ""
) -> Experiment:
    """Open the patterns of a work folder, with bad pixels, centre and measurements.

    Parameters
    ----------
    work_dir
        Where 01-inspect wrote.
    patterns_file
        The patterns, if they have moved since or to make sure they are the same.

    Raises
    ------
    WorkFolderError
        If 01-inspect has not written here, or its files cannot be read.
    OtherPatternsError
        If the patterns are not those that were inspected.
    """
    work_dir = Path(work_dir).expanduser()
    facts = EXPERIMENT.read_json(work_dir / EXPERIMENT.name)
    check_fits(work_dir / EXPERIMENT.name, EXPERIMENT)
    arrays, _ = MEASUREMENTS.read_hdf5(work_dir / MEASUREMENTS.name)
    check_fits(work_dir / MEASUREMENTS.name, MEASUREMENTS)
    bad_pixels = arrays.pop("bad_pixels")
    patterns = open_patterns(
        patterns_file or facts["patterns_files"],
        dataset=facts["dataset"],
        # the files' own masks are asked again where each pattern has one
        bad_pixels=None if facts.get("has_mask_of_each") else bad_pixels,
        geometry=facts.get("geometry_file"),
    ).with_bad_pixels(bad_pixels)
    patterns = patterns.with_scale(facts["pedestal"], facts["adu_per_photon"])
    if patterns.fingerprint != facts["fingerprint"]:
        alike = look_alike(patterns.fingerprint, facts["fingerprint"])
        message = (
            f"{work_dir} belongs to {', '.join(facts['patterns_files'])}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. "
            f"{LOOK_ALIKE if alike else OTHERS}"
        )
        raise OtherPatternsError(message)
    _warn_of_other_sizes(patterns, facts.get("patterns_sizes", []))
    row, column = facts["centre"]
    sums: dict[str, Any] = dict(arrays)
    measured = Measurements(**sums)
    patterns = patterns.with_measurements(measured.is_measurement)
    return Experiment(patterns, (row, column), measured, facts, work_dir)


def _warn_of_other_sizes(patterns: Patterns, sizes: list[int]) -> None:
    """Say which files are not of the size that 01-inspect saw."""
    for path, size, before in zip(
        patterns.files, patterns.file_sizes, sizes, strict=False
    ):
        if size != before:
            warnings.warn(
                f"{path} has {size:,} bytes; it had {before:,} when 01-inspect read "
                "it. If it was not recompressed, copy it again, and run 01-inspect.",
                stacklevel=3,
            )
