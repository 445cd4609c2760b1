"""One model applied to the runs of a beamtime, those that are new or changed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers import __version__
from helpers.beamtime.all_runs import write_whole
from helpers.beamtime.drift import (
    MOVED_PX,
    Drift,
    Reference,
    RunRow,
    describe_light,
    estimate_share_of_singles,
    find_hit_threshold,
    find_hits,
    make_features,
    measure_size,
    order_taken,
    read_reference,
    read_row,
    read_table,
    run_dir,
    two_sample_auc,
    write_row,
    write_table,
)
from helpers.classifier import PurityCurve, expect_purity, fit_to_run, predict_patterns
from helpers.errors import (
    ClusterError,
    HelpersError,
    ParameterError,
    PatternsFileError,
    WorkFolderError,
)
from helpers.experiment import (
    Measurements,
    accept_bad_pixels,
    find_bad_pixels,
    measure_patterns,
    write_experiment,
)
from helpers.intervals import sample_for
from helpers.labels import write_queue
from helpers.made_from import name_file
from helpers.outputs import sha256_of
from helpers.patterns import Patterns, match_files, open_patterns
from helpers.physics import find_centre
from helpers.ranking import rank_patterns, write_ranking
from helpers.work_folder import (
    CLEAN_SINGLE_HITS,
    EXPERIMENT,
    MEASUREMENTS,
    MODEL,
    PREDICTIONS,
    QUEUE,
    RANKING,
)

SETTLED_S = 10.0  # a file that was written to since may still grow
POLL_S = 2.0
FEWEST_LABELS = 50  # of which a model can learn
HALF_TURN = 180.0  # degrees, through which the article's templates are turned
HALF_WIDTH = 0.05  # to which labels shall tell the purity of a run that drifted


def find_runs(patterns: Sequence[str | Path]) -> dict[str, Path]:
    """Return the files of the runs by the names of the runs, run2 before run10.

    Parameters
    ----------
    patterns
        Names of files; `*`, `?` and `[…]` stand for what they match, which may be
        nothing yet.

    Raises
    ------
    ParameterError
        If two files would be the same run.
    """
    paths: dict[Path, None] = {}
    for each in patterns:
        paths |= dict.fromkeys(match_files(Path(each).expanduser().absolute()))
    runs: dict[str, Path] = {}
    for path in paths:
        name = path.stem
        if name in runs:
            message = (
                f"{runs[name]} and {path} would both be the run {name}. Give the runs "
                "files of different names."
            )
            raise ParameterError(message)
        runs[name] = path
    return runs


@dataclass(frozen=True)
class Beamtime:
    """Where a model is, what it is applied to, and where results go.

    Attributes
    ----------
    model_dir
        Work folder of the model, up to 06-review.
    patterns
        Names of the runs' files, with `*`.
    out_dir
        Where results go.
    purity
        Expected share of single hits that is asked of what is taken; 0 takes the
        model's own threshold.
    """

    model_dir: Path
    patterns: Sequence[str | Path]
    out_dir: Path
    purity: float = 0.9

    @cached_property
    def reference(self) -> Reference:
        """What the model knows; read when the first run needs it."""
        return read_reference(self.model_dir)

    def name_origin(self, path: Path) -> dict[str, Any]:
        """Return what the results of a run depend on."""
        there = path.stat()
        return {
            "size": there.st_size,
            "written_ns": there.st_mtime_ns,
            "model_sha256": self._model_sha256,
            "templates": self._templates,
            "purity": self.purity,
            "version": __version__,
        }

    @cached_property
    def _model_sha256(self) -> str:
        MODEL.check_exists(self.model_dir / MODEL.name)
        return sha256_of(self.model_dir / MODEL.name)

    @cached_property
    def _templates(self) -> str:
        path = self.model_dir / CLEAN_SINGLE_HITS.name
        return name_file(path if path.exists() else None)


def apply_model(
    beamtime: Beamtime,
    *,
    watch_s: float = 0.0,
    log: Callable[[str], None] = lambda _: None,
) -> list[RunRow]:
    """Apply the model to each run that is new or has changed; return all of them.

    A run that cannot be used is told in its row and stops no other one. After each run
    its row and the table are written.

    Parameters
    ----------
    beamtime
        The model and the runs.
    watch_s
        Go on looking for further runs for so many seconds, or until Ctrl-C. A file
        that is still being written to waits.
    log
        Called with a line of text for each run.

    Raises
    ------
    HelpersError
        If the model cannot be used or results cannot be written.
    ClusterError
        If the cluster is lost; what is finished is kept.
    """
    end = time.monotonic() + watch_s
    rows: list[RunRow] = []
    try:
        while True:
            done, rows = _apply_once(beamtime, watch_s > 0, log)
            if done and rows:
                write_whole(beamtime.out_dir, rows, beamtime.reference, log)
            if time.monotonic() >= end:
                break
            time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
    except KeyboardInterrupt:
        if not watch_s:
            raise
        log("Stopped watching.")
        rows = read_table(beamtime.out_dir, find_runs(beamtime.patterns))
    if not rows and not watch_s:
        listed = ", ".join(map(str, beamtime.patterns))
        message = f"{listed}: no file has a name like this. Check folder and ending."
        raise ParameterError(message)
    return rows


def _apply_once(
    beamtime: Beamtime, is_watching: bool, log: Callable[[str], None]
) -> tuple[bool, list[RunRow]]:
    runs = find_runs(beamtime.patterns)
    to_do = list(_find_undone(beamtime, runs, is_watching))
    for name, path in to_do:
        row = _apply_to_run(beamtime, name, path)
        write_row(beamtime.out_dir, row)
        write_table(beamtime.out_dir, read_table(beamtime.out_dir, runs))
        log(f"{name}: {row.summary}")
    return bool(to_do), read_table(beamtime.out_dir, runs)


def _find_undone(
    beamtime: Beamtime, runs: dict[str, Path], is_watching: bool
) -> Iterator[tuple[str, Path]]:
    for name, path in runs.items():
        row = read_row(beamtime.out_dir, name)
        if not path.exists():
            if row is None or not row.problem:
                yield name, path
            continue
        origin = beamtime.name_origin(path)
        age = time.time() - origin["written_ns"] / 1e9
        if is_watching and 0 <= age < SETTLED_S:
            continue
        # what failed is tried again by each call, but not all the time
        is_new = row is None or row.made_from != origin
        if is_new or (row is not None and row.problem and not is_watching):
            yield name, path


def _apply_to_run(beamtime: Beamtime, name: str, path: Path) -> RunRow:
    reference = beamtime.reference
    try:
        origin = beamtime.name_origin(path) if path.exists() else {}
        return _judge_run(beamtime, reference, name, path, origin)
    except (ClusterError, WorkFolderError):
        raise
    except (HelpersError, MemoryError) as error:
        _remove_results(run_dir(beamtime.out_dir, name))
        problem = " ".join(str(error).split())
        return RunRow(name, str(path), problem=problem, made_from=origin)


def _remove_results(folder: Path) -> None:
    """Leave nothing of an earlier file of that name, but what a person has given."""
    for each in (EXPERIMENT, MEASUREMENTS, PREDICTIONS, RANKING, QUEUE):
        (folder / each.name).unlink(missing_ok=True)


def _judge_run(
    beamtime: Beamtime,
    reference: Reference,
    name: str,
    path: Path,
    origin: dict[str, Any],
) -> RunRow:
    folder = run_dir(beamtime.out_dir, name)
    patterns, measured = _inspect(reference, path)
    powder = find_centre(measured.powder, patterns.bad_pixels)
    moved = tuple(np.subtract(powder, reference.centre).tolist())
    distance = math.hypot(*moved)
    row, column = reference.experiment.centre
    if distance > MOVED_PX:
        row, column = row + moved[0], column + moved[1]
    centre = (row, column)
    model = fit_to_run(reference.model, patterns, centre)
    metadata = reference.experiment.metadata
    write_experiment(
        folder,
        patterns,
        measured,
        centre,
        lit_threshold=metadata.get("lit_threshold", 1.0),
        hit_threshold=find_hit_threshold(measured),
        geometry_file=metadata.get("geometry_file", ""),
    )
    _rank(reference, patterns, centre, folder)
    found = predict_patterns(patterns, folder, beamtime.model_dir, model)
    curve = expect_purity(found.probability, reference.out_of_fold, reference.words)
    at = _choose_place(curve, beamtime.purity, found.threshold)
    taken = found.probability >= curve.threshold[at]
    n_taken = int(taken.sum()) if at >= 0 else 0
    drift = _find_drift(
        reference,
        patterns,
        measured,
        centre=centre,
        distance=distance,
        probability=found.probability,
    )
    advised = _advise_labels(drift, float(curve.purity[at]), n_taken)
    purity = (curve.purity[at], curve.low[at], curve.high[at])
    singles, low, high = (
        math.nan if advised else n_taken * float(share) for share in purity
    )
    row_of_run = RunRow(
        run=name,
        file=str(path),
        drift=drift.describe(),
        patterns=len(patterns),
        hits=int(find_hits(measured).sum()),
        taken=n_taken,
        threshold=float(curve.threshold[at]),
        singles=singles,
        low=low,
        high=high,
        row=centre[0],
        column=centre[1],
        labels_advised=advised,
        made_from=origin,
        **asdict(drift),
    )
    _ask_for_labels(folder, patterns, found.probability, row_of_run)
    return row_of_run


def _ask_for_labels(
    folder: Path, patterns: Patterns, probability: NDArray[np.float32], row: RunRow
) -> None:
    """Ask for labels of patterns that are taken, and of others if these are few."""
    if not row.is_drifted:
        (folder / QUEUE.name).unlink(missing_ok=True)
        return
    taken = order_taken(patterns, probability, row)[: row.labels_advised]
    others = patterns.shuffled()
    others = others[~np.isin(others, taken)][: row.labels_advised - taken.size]
    reasons = ["audit"] * taken.size + ["random"] * others.size
    write_queue(folder, np.concatenate([taken, others]), reasons)


def _rank(
    reference: Reference, patterns: Patterns, centre: tuple[float, float], folder: Path
) -> None:
    """Rank a run by the clean single hits of the model's run, where there are some."""
    path = folder / RANKING.name
    if reference.templates is None:
        path.unlink(missing_ok=True)
        return
    ranking = rank_patterns(
        patterns,
        reference.templates.index,
        reference.templates.metric,
        centre=centre,
        n_rotations=reference.templates.n_rotations,
        step_deg=HALF_TURN / reference.templates.n_rotations,
        source=reference.experiment.patterns,
        source_centre=reference.experiment.centre,
    )
    write_ranking(path, ranking)


def _inspect(reference: Reference, path: Path) -> tuple[Patterns, Measurements]:
    """Open and measure a run, without the model's bad pixels and without its own."""
    metadata = reference.experiment.metadata
    shape = reference.experiment.patterns.shape[1:]
    scale = float(metadata["pedestal"]), float(metadata["adu_per_photon"])
    patterns = open_patterns(
        path,
        dataset=metadata["dataset"],
        geometry=metadata.get("geometry_file") or None,
    ).with_scale(*scale)
    if patterns.shape[1:] != shape:
        problem = (
            f"its patterns have shape {patterns.shape[1:]}; the model was trained on "
            f"{shape}. It is another detector, or another mode of it: train a model "
            "of its own."
        )
        raise PatternsFileError(path, [problem])
    if patterns.unit != reference.experiment.patterns.unit != "unknown":
        problem = (
            f"its patterns are in {patterns.unit}; the model was trained on "
            f"{reference.experiment.patterns.unit}. Convert them, or train a model of "
            "its own."
        )
        raise PatternsFileError(path, [problem])
    bad_pixels = patterns.bad_pixels | reference.experiment.patterns.bad_pixels
    patterns = patterns.with_bad_pixels(bad_pixels)
    lit_threshold = float(metadata.get("lit_threshold", 1.0))
    measured = measure_patterns(patterns, lit_threshold)
    accepted = accept_bad_pixels(find_bad_pixels(measured, bad_pixels))
    if accepted.any():
        patterns = patterns.with_bad_pixels(bad_pixels | accepted)
        measured = measure_patterns(patterns, lit_threshold)
    return patterns.with_measurements(measured.is_measurement), measured


def _choose_place(curve: PurityCurve, purity: float, threshold: float) -> int:
    """Return where the curve is as pure as was asked, or nearest to it."""
    if not purity:
        return curve.find_threshold(threshold)
    try:
        return curve.find_purity(purity)
    except ParameterError:  # no selection is expected to be so pure
        return int(np.argmax(curve.purity))


def _find_drift(
    reference: Reference,
    patterns: Patterns,
    measured: Measurements,
    *,
    centre: tuple[float, float],
    distance: float,
    probability: NDArray[np.float32],
) -> Drift:
    bright, dim = describe_light(patterns, measured, centre)
    features = make_features(patterns, measured, centre)
    before = reference.experiment.patterns.bad_pixels
    share = estimate_share_of_singles(probability, reference.share)
    return Drift(
        moved_px=distance,
        brightness=_divide(bright, reference.brightness),
        background=_divide(dim, reference.background),
        size=_divide(measure_size(patterns, measured, centre), reference.size),
        share=share,
        share_factor=_divide(share, reference.share),
        features=two_sample_auc(reference.features, features),
        new_bad_pixels=int((patterns.bad_pixels & ~before).sum()),
    )


def _divide(one: float, other: float) -> float:
    return one / other if other > 0 else math.nan


def _advise_labels(drift: Drift, purity: float, n_taken: int) -> int:
    """Return how many random labels would tell the purity to ±5 %; 0 without drift."""
    if not drift.find_problems():
        return 0
    share = min(max(purity, 0.5), 0.95)
    needed = sample_for(share, HALF_WIDTH)
    return int(max(min(10 * math.ceil(needed / 10), n_taken), FEWEST_LABELS))
