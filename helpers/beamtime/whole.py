"""All runs of a beamtime as one stack: one selection, one audit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.beamtime.drift import Known
from helpers.beamtime.run_folder import RunRow, read_table, run_dir
from helpers.classifier import (
    Audit,
    audit_selection,
    audited_prefix,
    read_predictions,
    write_predictions,
)
from helpers.errors import HelpersError
from helpers.experiment import (
    Experiment,
    Measurements,
    open_experiment,
    suggest_hit_threshold,
    write_experiment,
)
from helpers.labels import open_label_store
from helpers.made_from import name_values
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import Ranking, read_ranking, write_ranking
from helpers.work_folder import PREDICTIONS, RANKING

LABELS_NAME = "labels.sqlite"


def write_whole(
    out_dir: Path, rows: Sequence[RunRow], known: Known, say: Callable[[str], None]
) -> None:
    """Write the folder of all runs as a work folder of one stack.

    `handoff`, the labeller and the notebooks work on it as on that of one run.

    Parameters
    ----------
    out_dir
        The folder of all runs.
    rows
        Of the runs; those that could not be used are left out.
    known
        What the model knows.
    say
        Called with a line of text if the runs do not form a stack.
    """
    good = [row for row in rows if not row.problem]
    if not good:
        return
    try:
        _write_whole(out_dir, good, known)
    except HelpersError as error:
        say(f"The runs do not form one stack: {error}")


def _write_whole(out_dir: Path, rows: Sequence[RunRow], known: Known) -> None:
    runs = [open_experiment(run_dir(out_dir, row.run)) for row in rows]
    facts = runs[0].facts
    bad_pixels = np.any([run.patterns.bad_pixels for run in runs], axis=0)
    patterns = open_patterns(
        [row.file for row in rows],
        dataset=facts["dataset"],
        bad_pixels=None if facts.get("has_mask_of_each") else bad_pixels,
        geometry=facts.get("geometry_file") or None,
    ).with_bad_pixels(bad_pixels)
    patterns = patterns.with_scale(facts["pedestal"], facts["adu_per_photon"])
    measured = _join_measurements(runs)
    patterns = patterns.with_measurements(measured.is_measurement)
    centre = np.mean([run.centre for run in runs], axis=0)
    write_experiment(
        out_dir,
        patterns,
        measured,
        (float(centre[0]), float(centre[1])),
        lit_threshold=facts["lit_threshold"],
        hit_threshold=suggest_hit_threshold(measured.lit_pixels),
        geometry_file=facts["geometry_file"],
    )
    found = [
        read_predictions(run_dir(out_dir, row.run) / PREDICTIONS.name) for row in rows
    ]
    raw = np.concatenate([each.raw for each in found])
    model_file = Path(found[0].attributes["model_file"])
    write_predictions(
        out_dir / PREDICTIONS.name, raw, known.model, model_file, patterns
    )
    if known.templates is not None:
        folders = [run_dir(out_dir, row.run) for row in rows]
        write_ranking(out_dir / RANKING.name, _join_rankings(folders, patterns))
    else:
        (out_dir / RANKING.name).unlink(missing_ok=True)


def _join_rankings(folders: Sequence[Path], patterns: Patterns) -> Ranking:
    """Put the rankings of the runs together: all are by the same templates."""
    each = [read_ranking(folder / RANKING.name) for folder in folders]
    n_before = np.searchsorted(patterns.file_index, np.arange(len(each)))
    pairs = zip(each, n_before, strict=True)
    index = np.concatenate([one.index + first for one, first in pairs])
    distance = np.concatenate([one.distance for one in each])
    best_first = np.lexsort((index, distance))
    return replace(
        each[0],
        index=index[best_first],
        distance=distance[best_first],
        template=np.concatenate([one.template for one in each])[best_first],
        angle_deg=np.concatenate([one.angle_deg for one in each])[best_first],
        fingerprint=patterns.fingerprint,
        made_from={"patterns": patterns.fingerprint, **name_values(patterns)},
    )


def _join_measurements(runs: Sequence[Experiment]) -> Measurements:
    """Put those of the runs together; each pattern counts the same in the powder."""
    each = [run.measurements for run in runs]
    weights = np.array([run.patterns.is_measurement.sum() for run in runs], float)
    weights /= weights.sum()

    def average(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(np.tensordot(weights, np.stack(arrays), axes=1))

    powder = average([one.powder for one in each])
    squares = average([one.spread**2 + one.powder**2 for one in each])
    return Measurements(
        photons=np.concatenate([one.photons for one in each]),
        lit_pixels=np.concatenate([one.lit_pixels for one in each]),
        powder=powder,
        spread=np.sqrt(np.maximum(squares - powder**2, 0)),
        not_finite=average([one.not_finite for one in each]),
        no_measurement=np.concatenate([one.no_measurement for one in each]),
    )


def find_thresholds(
    folder: str | Path, patterns: Patterns
) -> NDArray[np.float32] | None:
    """Return from which probability on each pattern of a beamtime is taken.

    Parameters
    ----------
    folder
        The folder of all runs, or any other work folder.
    patterns
        Its stack, n patterns.

    Returns
    -------
    ndarray or None
        (n,) float32, the threshold of its run; None where the folder is not of a
        beamtime.
    """
    rows = {row.file: row for row in read_table(folder) if not row.problem}
    files = [str(path) for path in patterns.files]
    if not rows or not set(files) <= rows.keys():
        return None
    of_runs = np.array([rows[file].threshold for file in files], np.float32)
    return of_runs[patterns.file_index]


@dataclass(frozen=True)
class WholeAudit:
    """What labels drawn at random from all runs say of the whole selection."""

    audit: Audit
    by_run: dict[str, int]

    def describe(self) -> str:
        """Say it in two lines."""
        n_runs = sum(n > 0 for n in self.by_run.values())
        return (
            f"{self.audit.n_audited:,} patterns of {n_runs} runs audited: purity "
            f"{self.audit.purity}, completeness {self.audit.completeness}"
        )


def audit_whole(out_dir: str | Path, rows: Sequence[RunRow]) -> WholeAudit | None:
    """Audit the selection of all runs by the labels in their common folder.

    Parameters
    ----------
    out_dir
        The folder of all runs, in which labels were given in random order.
    rows
        Of the runs, from `read_table`; each has its own threshold.

    Returns
    -------
    WholeAudit or None
        None as long as no label was given.
    """
    out_dir, good = Path(out_dir), [row for row in rows if not row.problem]
    if not (out_dir / LABELS_NAME).exists() or not good:
        return None
    patterns = open_experiment(out_dir).patterns
    thresholds = find_thresholds(out_dir, patterns)
    if thresholds is None:
        return None
    found = read_predictions(out_dir / PREDICTIONS.name, patterns)
    with open_label_store(
        out_dir / LABELS_NAME, patterns.fingerprint, len(patterns)
    ) as store:
        words = store.current_labels()
    above = found.probability - thresholds  # from 0 on it is taken
    audited = audited_prefix(patterns, words)
    counts = np.bincount(patterns.file_index[audited], minlength=len(good))
    by_run = {row.run: int(n) for row, n in zip(good, counts, strict=True)}
    return WholeAudit(audit_selection(audited, words, above, 0.0), by_run)
