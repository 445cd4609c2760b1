"""`experiment.json` for the facts that a person reads, `experiment.h5` for arrays."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from helpers.errors import OtherPatternsError, WorkFolderError
from helpers.experiment.measurements import Measurements
from helpers.outputs import provenance, whole_hdf5, write_json, write_provenance
from helpers.patterns import Patterns, open_patterns

JSON_NAME = "experiment.json"
ARRAYS_NAME = "experiment.h5"


@dataclass(frozen=True)
class Experiment:
    """The patterns of a work folder with everything that the first notebook found.

    Attributes
    ----------
    patterns
        The stack, with the experiment's bad pixels.
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
    work_dir = Path(work_dir)
    arrays = vars(measurements) | {"bad_pixels": patterns.bad_pixels}
    with whole_hdf5(work_dir / ARRAYS_NAME) as file:
        for name, values in arrays.items():
            file[name] = values
        write_provenance(file, fingerprint=patterns.fingerprint)
    content = {
        "patterns_files": [str(path.resolve()) for path in patterns.files],
        "dataset": patterns.layout.patterns,
        "layout": patterns.layout.name,
        "description": patterns.describe(),
        "shape": list(patterns.shape),
        "unit": patterns.unit,
        "centre": list(centre),
        "n_bad_pixels": int(patterns.bad_pixels.sum()),
        **facts,
    }
    origin = provenance(fingerprint=patterns.fingerprint)
    write_json(work_dir / JSON_NAME, content | origin)
    return work_dir / JSON_NAME


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
    work_dir = Path(work_dir)
    facts = _read_facts(work_dir / JSON_NAME)
    arrays = _read_arrays(work_dir / ARRAYS_NAME)
    patterns = open_patterns(
        patterns_file or facts["patterns_files"],
        dataset=facts["dataset"],
        bad_pixels=arrays.pop("bad_pixels"),
        geometry=facts.get("geometry_file"),
    )
    if patterns.fingerprint != facts["fingerprint"]:
        message = (
            f"{work_dir} belongs to {', '.join(facts['patterns_files'])}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. "
            "Give the files that were inspected, or a new work_dir."
        )
        raise OtherPatternsError(message)
    row, column = facts["centre"]
    measured = Measurements(**arrays)
    return Experiment(patterns, (row, column), measured, facts, work_dir)


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = (
            f"{path} is not there; expected what 01-inspect writes. "
            "Run 01-inspect with this work_dir first."
        )
        raise WorkFolderError(message) from None
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read ({error}). Run 01-inspect again."
        raise WorkFolderError(message) from error
    problems = _find_fact_problems(facts)
    if problems:
        message = f"{path}: {'; '.join(problems)}. Run 01-inspect again."
        raise WorkFolderError(message)
    return facts


def _find_fact_problems(facts: Any) -> list[str]:
    """Say what is not as `write_experiment` writes it, in what is read back here."""
    if not isinstance(facts, dict):
        return [f"found a {type(facts).__name__}; expected names and values"]
    expected = {
        "patterns_files": ("file names", _is_list_of(str)),
        "dataset": ("a path", lambda found: isinstance(found, str)),
        "centre": ("row and column", _is_list_of(int, float, length=2)),
        "fingerprint": ("a text", lambda found: isinstance(found, str)),
    }
    return [
        f"{name} is {facts[name]!r:.80}; expected {what}"
        if name in facts
        else f"it lacks {name}"
        for name, (what, is_right) in expected.items()
        if name not in facts or not is_right(facts[name])
    ]


def _is_list_of(*kinds: type, length: int | None = None) -> Callable[[Any], bool]:
    """Return a test for lists of such values: at least one, or so many."""
    return lambda found: (
        isinstance(found, list)
        and all(type(each) in kinds for each in found)
        and (len(found) == length if length else bool(found))
    )


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path) as file:
            return {name: dataset[()] for name, dataset in file.items()}
    except OSError as error:
        message = f"{path} cannot be read ({error}). Run 01-inspect again."
        raise WorkFolderError(message) from error
