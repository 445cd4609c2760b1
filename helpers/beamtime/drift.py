"""What is known of a run: how far it is from the model's, and its row in the table."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier import (
    InvariantNetwork,
    TrainedModel,
    load_model,
    measure_diameters,
    read_partition,
    read_predictions,
    substitute_out_of_fold,
)
from helpers.errors import ParameterError
from helpers.experiment import (
    Experiment,
    Measurements,
    open_experiment,
    suggest_hit_threshold,
)
from helpers.features import guess_particles
from helpers.intervals import Proportion
from helpers.outputs import atomic_write, write_json
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import find_centre
from helpers.ranking import read_clean_single_hits, read_ranking
from helpers.work_folder import (
    CLEAN_SINGLE_HITS,
    PARTITION,
    PREDICTIONS,
    RANKING,
    read_json,
)

N_COMPARED = 400  # hits of either run
N_SIZED = 300  # hits
N_STEPS = 200
FEWEST = 20  # below which nothing is compared
MOVED_PX = 1.0  # what is less may be chance, and changes no feature
FAR_PX = 3.0
FACTOR = 1.5  # in brightness or background, beyond which a run has drifted
FEATURES_DIFFER = 0.75  # as often a hit can be told to be of this run; 0.5 is chance
SIZE_DIFFERS = 0.1
SHARE_DIFFERS = 2.0  # a factor
LEAST_SAID = 0.01  # a factor below is not worth a number


@dataclass(frozen=True, eq=False)
class Templates:
    """The clean single hits of the model's run, and how patterns are ranked by them."""

    index: NDArray[np.int64]
    metric: str
    n_rotations: int


@dataclass(frozen=True, eq=False)
class Reference:
    """What a model has seen.

    Attributes
    ----------
    model
        The model.
    experiment
        The patterns that taught it.
    features
        (m, k) float32, of some of their hits.
    brightness, background
        Median photons of their hits, and of their blank patterns.
    size
        Median diameter of their hits, in steps of the Patterson map.
    share
        Of single hits among all patterns.
    centre
        (row, column), as the powder alone says it, to compare with other powders.
    out_of_fold, words
        (n,) what `expect_purity` needs.
    templates
        None where 04-rank has chosen none.
    """

    model: TrainedModel
    experiment: Experiment
    features: NDArray[np.float32]
    brightness: float
    background: float
    size: float
    share: float
    centre: tuple[float, float]
    out_of_fold: NDArray[np.float32]
    words: NDArray[np.str_]
    templates: Templates | None


def read_reference(model_dir: str | Path) -> Reference:
    """Read a work folder for what its model knows.

    Parameters
    ----------
    model_dir
        The work folder, up to 06-review.

    Raises
    ------
    HelpersError
        If a notebook has not written what is needed, or the patterns are gone.
    """
    model_dir = Path(model_dir)
    experiment, model = open_experiment(model_dir), load_model(model_dir)
    patterns = experiment.patterns
    predictions = read_predictions(model_dir / PREDICTIONS.name, patterns)
    split, words = read_partition(model_dir / PARTITION.name)
    measured = experiment.measurements
    bright, dim = describe_light(patterns, measured, experiment.centre)
    return Reference(
        model=model,
        experiment=experiment,
        features=make_features(patterns, measured, experiment.centre),
        brightness=bright,
        background=dim,
        size=measure_size(patterns, measured, experiment.centre),
        share=float(np.nanmean(predictions.probability)),
        centre=find_centre(measured.powder, patterns.bad_pixels),
        out_of_fold=substitute_out_of_fold(
            patterns, model, split, words, predictions.probability
        ),
        words=words,
        templates=read_templates(model_dir),
    )


def read_templates(model_dir: Path) -> Templates | None:
    """Return the templates of a work folder, as 04-rank ranked by them; None = none."""
    if not (model_dir / CLEAN_SINGLE_HITS.name).exists():
        return None
    _, index = read_clean_single_hits(model_dir / CLEAN_SINGLE_HITS.name)
    if not index.size or not (model_dir / RANKING.name).exists():
        return None
    ranking = read_ranking(model_dir / RANKING.name)
    return Templates(index, ranking.metric, ranking.n_rotations)


def find_hit_threshold(measured: Measurements) -> float:
    """Return how many lit pixels split the measurements of a run best."""
    return suggest_hit_threshold(measured.lit_pixels[measured.is_measurement])


def find_hits(measured: Measurements) -> NDArray[np.bool_]:
    """Return which patterns are measurements above that threshold, (n,)."""
    is_lit = measured.lit_pixels > find_hit_threshold(measured)
    return is_lit & measured.is_measurement


def describe_light(
    patterns: Patterns, measured: Measurements, centre: tuple[float, float]
) -> tuple[float, float]:
    """Return the median photons of the hits and of the blank patterns; NaN = too few.

    The encoder says which are blank: what is merely dim may be a weak hit, and how many
    of the darkest are blank depends on how often the beam hits a particle.
    """
    guess = guess_particles(patterns, centre)
    blank = measured.photons[guess.index[guess.blank > 1 / 2]]
    return _median(measured.photons[find_hits(measured)]), _median(blank)


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size >= FEWEST else math.nan


def make_features(
    patterns: Patterns, measured: Measurements, centre: tuple[float, float]
) -> NDArray[np.float32]:
    """Make the features of some hits that do not change with brightness and rotation.

    Parameters
    ----------
    patterns, measured
        A run.
    centre
        (row, column) of its beam.
    """
    network = InvariantNetwork.for_patterns(patterns, centre=centre, encoder=False)
    index = spread_evenly(np.flatnonzero(find_hits(measured)), N_COMPARED)
    features = np.empty((index.size, *network.input_shape), np.float32)
    for here, some in patterns.map(network.make_inputs, index):
        features[here] = some
    return features


def measure_size(
    patterns: Patterns, measured: Measurements, centre: tuple[float, float]
) -> float:
    """Return the median diameter of hits, in steps of the Patterson map."""
    index = spread_evenly(np.flatnonzero(find_hits(measured)), N_SIZED)
    return (
        _median(measure_diameters(patterns, index, centre)) if index.size else math.nan
    )


def two_sample_auc(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Say how well two samples can be told apart: 0.5 not at all, 1 always.

    The area under the curve of a logistic regression that has to say which sample a
    pattern is from, by five-fold cross-validation; NaN of too few.

    References
    ----------
    Lopez-Paz and Oquab, ICLR (2017), https://arxiv.org/abs/1610.06545 (classifier
    two-sample tests).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(one), len(other)) < FEWEST or one.shape[1:] != other.shape[1:]:
        return math.nan
    both = np.nan_to_num(np.concatenate([one, other]))
    which = np.repeat([0, 1], [len(one), len(other)])
    teller = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    said = cross_val_predict(teller, both, which, cv=5, method="predict_proba")
    return float(roc_auc_score(which, said[:, 1]))


def estimate_share_of_singles(
    probability: NDArray[np.float32], share_before: float
) -> float:
    """Estimate the share of single hits, where it may be another one than before.

    Probabilities are those for the share that taught them. With each guess of the share
    they change, and with them their mean, the next guess.

    Parameters
    ----------
    probability
        (n,) float32, of a single hit.
    share_before
        In the patterns that calibrated it.

    References
    ----------
    Saerens, Latinne and Decaestecker, Neural Comput. 14, 21 (2002),
    doi 10.1162/089976602753284446, eq. 2.9.
    """
    finite = probability[np.isfinite(probability)].astype(np.float64)
    known = np.clip(finite, 1e-6, 1 - 1e-6)
    odds = known / (1 - known)
    before = min(max(share_before, 1e-6), 1 - 1e-6)
    share = before
    for _ in range(N_STEPS):
        now = odds * (share / (1 - share)) / (before / (1 - before))
        share = float(np.clip(np.mean(now / (1 + now)), 1e-6, 1 - 1e-6))
    return share


@dataclass(frozen=True)
class Drift:
    """How far a run is from what the model knows.

    Attributes
    ----------
    moved_px
        How far the centre of the powder moved.
    brightness, background, size
        Of the run, divided by the model's; NaN where there is too little to tell.
    share
        Single hits among all patterns, estimated from what the network says.
    share_factor
        The same, divided by the model's.
    features
        How well hits of the two can be told apart: 0.5 not at all, 1 always.
    new_bad_pixels
        Pixels left out that the model's run had.
    """

    moved_px: float
    brightness: float
    background: float
    size: float
    share: float
    share_factor: float
    features: float
    new_bad_pixels: int

    def find_problems(self) -> list[str]:
        """Say in what the run drifted, each in a few words."""
        found = []
        if self.moved_px > FAR_PX:
            found.append(f"the centre moved by {self.moved_px:.1f} pixels")
        singles = "single hits are {} times as frequent"
        if self.share_factor < LEAST_SAID:
            singles = "the network finds next to no single hits"
        factors = (
            ("hits are {} times as bright", self.brightness, FACTOR),
            ("the background is {} times as high", self.background, FACTOR),
            ("hits are of particles {} times as large", self.size, 1 + SIZE_DIFFERS),
            (singles, self.share_factor, SHARE_DIFFERS),
        )
        for what, value, most in factors:
            if value > most or value < 1 / most:
                found.append(what.format(f"{value:.2g}"))
        if self.features > FEATURES_DIFFER:
            found.append(
                "its hits look different from the model's (told apart in "
                f"{self.features:.0%} of pairs; 50% is chance)"
            )
        return found

    def describe(self) -> str:
        """Say in a plain sentence how far the run drifted."""
        found = self.find_problems()
        if not found:
            return "Like what the model was trained on."
        listed = ", ".join(found[:-1]) + (" and " if found[1:] else "") + found[-1]
        return f"Drifted: {listed}."


RUNS_NAME = "runs"  # the folder of their folders
ROW_NAME = "run.json"
TABLE_NAME = "beamtime.csv"
FEWEST_AUDITED = 20  # labelled patterns of a selection that say how pure it is


@dataclass(frozen=True)
class RunRow:
    """One run in the table of a beamtime.

    Attributes
    ----------
    run, file
        Its name and its file.
    problem
        Why it could not be used; "" of a run that was.
    drift
        A sentence on how far it is from what the model knows.
    patterns, hits
        How many there are.
    taken, threshold
        How many the chosen purity takes, and from which probability on.
    singles, low, high
        How many single hits are expected among those taken, and the 95 % interval; NaN
        of a run that drifted: both hold for runs like the model's alone.
    row, column
        Of the beam, in pixels.
    moved_px, brightness, background, size, share, share_factor, features
        As in `Drift`.
    new_bad_pixels
        Likewise.
    labels_advised
        How many labels of this run would be worth giving.
    made_from
        What the results depend on; if it is the same, so are they.
    """

    run: str
    file: str
    problem: str = ""
    drift: str = ""
    patterns: int = 0
    hits: int = 0
    taken: int = 0
    threshold: float = math.nan
    singles: float = math.nan
    low: float = math.nan
    high: float = math.nan
    row: float = math.nan
    column: float = math.nan
    moved_px: float = math.nan
    brightness: float = math.nan
    background: float = math.nan
    size: float = math.nan
    share: float = math.nan
    share_factor: float = math.nan
    features: float = math.nan
    new_bad_pixels: int = 0
    labels_advised: int = 0
    made_from: dict[str, Any] = field(default_factory=dict)

    @property
    def is_drifted(self) -> bool:
        """Whether only its own labels can say how many single hits it has."""
        return self.labels_advised > 0

    @property
    def summary(self) -> str:
        """What is wrong with it, or how far it drifted."""
        return self.problem or self.drift


def run_dir(out_dir: Path, name: str) -> Path:
    """Return the folder of a run."""
    return out_dir / RUNS_NAME / name


def write_row(out_dir: Path, row: RunRow) -> None:
    """Keep what is known of a run."""
    values = {k: None if _is_nan(v) else v for k, v in asdict(row).items()}
    write_json(run_dir(out_dir, row.run) / ROW_NAME, values)


def read_row(out_dir: Path, name: str) -> RunRow | None:
    """Read it again; None if it is missing, or of another version."""
    path = run_dir(out_dir, name) / ROW_NAME
    try:
        found = read_json(path)
        known = {each.name for each in fields(RunRow)}
        given: dict[str, Any] = {
            k: math.nan if v is None else v for k, v in found.items() if k in known
        }
        return RunRow(**given)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def read_table(out_dir: str | Path, names: Iterable[str] | None = None) -> list[RunRow]:
    """Read what is known of the runs of a beamtime.

    Parameters
    ----------
    out_dir
        The folder that `apply_model` filled.
    names
        Which runs, in this order; all of them without it.
    """
    out_dir = Path(out_dir)
    if names is None:
        found = (out_dir / RUNS_NAME).glob(f"*/{ROW_NAME}")
        names = sorted(path.parent.name for path in found)
    rows = (read_row(out_dir, name) for name in names)
    return [row for row in rows if row is not None]


def write_table(out_dir: Path, rows: Sequence[RunRow]) -> None:
    """Write the table as CSV, whole."""
    names = [each.name for each in fields(RunRow) if each.name != "made_from"]
    with (
        atomic_write(out_dir / TABLE_NAME) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow(["" if _is_nan(value) else value for value in values])


def choose_run(rows: Sequence[RunRow], name: str = "") -> RunRow:
    """Return a run to look at.

    Parameters
    ----------
    rows
        From `read_table`.
    name
        Which one; "" is the one of which most labels are advised.

    Raises
    ------
    ParameterError
        If there is no such run, or it could not be used.
    """
    good = [row for row in rows if not row.problem]
    named = [row for row in good if row.run == name] if name else good
    if not named:
        known = ", ".join(row.run for row in good) or "none"
        message = f"there is no run {name!r} that could be used; there are: {known}."
        raise ParameterError(message)
    return max(named, key=lambda row: row.labels_advised)


def order_taken(
    patterns: Patterns, probability: NDArray[np.float32], row: RunRow
) -> NDArray[np.int64]:
    """Return the patterns that a run's threshold takes, in random order."""
    order = patterns.shuffled()
    taken = order[probability[order] >= np.float32(row.threshold)]
    return taken[: row.taken]


def count_singles(
    row: RunRow, audited: Proportion | None = None
) -> tuple[float, float, float] | None:
    """Return how many single hits are among those taken, and the 95 % interval.

    Parameters
    ----------
    row
        Of a run.
    audited
        Single hits among patterns drawn at random from those taken.

    Returns
    -------
    tuple or None
        None of a run that drifted, as long as its labels do not say it.
    """
    if row.taken == 0:
        return 0.0, 0.0, 0.0
    if not row.is_drifted:
        return row.singles, row.low, row.high
    if audited is None or audited.n_sample < min(FEWEST_AUDITED, row.taken):
        return None
    low, high = row.taken * audited.low, row.taken * audited.high
    return row.taken * audited.value, low, high


def describe_singles(row: RunRow, audited: Proportion | None = None) -> str:
    """Say how many single hits are among those taken, or what it takes to know it."""
    counted = count_singles(row, audited)
    if counted is None:
        return f"not known: label {row.labels_advised}"
    if row.taken == 0:
        return "none taken"
    said = "{:,.0f} ({:,.0f} to {:,.0f})".format(*counted)
    if not row.is_drifted or audited is None:
        return said
    return f"{said} by {audited.n_sample} label{'s' * (audited.n_sample > 1)}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
