"""What a model says, and why.

Of the whole stack; of labels, by networks that do not know them; and what changes when
a part of a pattern is taken away.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import expit

from helpers.classifier.calibration import fit_calibration, logit_of
from helpers.classifier.kernel_head import fit_head
from helpers.classifier.network_base import KerasOutputs, Network, batch_length
from helpers.classifier.networks import InvariantNetwork
from helpers.classifier.split import Split, is_labelled, is_single
from helpers.classifier.trained_model import (
    CLASSES,
    TrainedModel,
    check_model_fits,
    describe_patterns,
    load_model,
)
from helpers.classifier.training import read_inputs
from helpers.errors import OtherPatternsError
from helpers.made_from import MODEL_ELSEWHERE, check_fits, name_values
from helpers.outputs import atomic_hdf5, explain_os_errors, write_provenance
from helpers.patterns import Patterns
from helpers.physics import (
    PattersonMaps,
    angle_about,
    number_rings,
    radial_average,
    radius_from,
)
from helpers.ranking import Ranking
from helpers.work_folder import MODEL, PREDICTIONS


@dataclass(frozen=True)
class Predictions:
    """What a model says of every pattern of a stack.

    Attributes
    ----------
    probability
        (n,) float32, calibrated probability of a single hit, in stack order; NaN where
        the pattern is no measurement.
    raw
        (n,) float32, the network's own output; NaN likewise.
    threshold
        From this probability on a pattern counts as single.
    attributes
        Classes, model file and its SHA-256, source files, versions, time.
    """

    probability: NDArray[np.float32]
    raw: NDArray[np.float32]
    threshold: float
    attributes: dict[str, Any]


def predict_patterns(
    patterns: Patterns,
    work_dir: str | Path,
    model_dir: str | Path | None = None,
    model: TrainedModel | None = None,
) -> Predictions:
    """Predict every pattern and write `predictions.h5`.

    Patterns are read ahead while the network works. What is done is kept in a work file
    beside the result: after a crash the same call goes on where it stopped, and ends
    with the same numbers as an undisturbed run.

    Parameters
    ----------
    patterns
        The stack.
    work_dir
        Where `predictions.h5` goes.
    model_dir
        Where the model lies; `work_dir` when not given.
    model
        That model, from `fit_to_run` where the run is another one.

    Raises
    ------
    ModelError
        If the model cannot be read or does not fit the patterns.
    WorkFolderError
        If the disk is full or read-only; what is done is kept all the same.
    """
    work_dir = Path(work_dir).expanduser()
    model_dir = Path(model_dir or work_dir).expanduser()
    if model is None:
        model = load_model(model_dir)
        check_model_fits(model, patterns)
    part = _work_file(work_dir, model, patterns)
    _predict_rest(part, model, patterns)
    raw = np.fromfile(part, np.float32)
    path = work_dir / PREDICTIONS.name
    write_predictions(path, raw, model, model_dir / MODEL.name, patterns)
    for finished in work_dir.glob(".predictions-*"):  # also of runs that were killed
        finished.unlink()
    return read_predictions(path)


def read_predictions(path: str | Path, patterns: Patterns | None = None) -> Predictions:
    """Read a file that `predict_patterns` wrote.

    Parameters
    ----------
    path
        The file.
    patterns
        The stack that the predictions shall belong to; not checked when not given.

    Raises
    ------
    WorkFolderError
        If the file is missing or broken, or another network or other bad pixels are in
        the folder now.
    OtherPatternsError
        If the predictions are of other patterns.
    """
    arrays, attributes = PREDICTIONS.read_hdf5(path)
    check_fits(path, PREDICTIONS)
    predictions = Predictions(
        arrays["predictions"], arrays["raw"], attributes["threshold"], attributes
    )
    if patterns is not None and attributes["fingerprint"] != patterns.fingerprint:
        message = (
            f"{path} was made from {attributes['patterns_files']}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. Run 06-review again."
        )
        raise OtherPatternsError(message)
    return predictions


def _work_file(work_dir: Path, model: TrainedModel, patterns: Patterns) -> Path:
    """Name the file of finished raw outputs after everything they depend on."""
    depends_on = {
        **describe_patterns(patterns),
        "n_patterns": len(patterns),
        "model_sha256": model.metadata["model_sha256"],
        "settings": model.metadata["settings"],
    }
    text = json.dumps(depends_on, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    work_dir.mkdir(parents=True, exist_ok=True)
    return work_dir / f".predictions-{key}.part"


def _predict_rest(part: Path, model: TrainedModel, patterns: Patterns) -> None:
    """Append the raw outputs that are missing, in whole batches."""
    length = batch_length(model.network.input_shape)
    n_values = part.stat().st_size // 4 if part.exists() else 0
    done = min(n_values - n_values % length, len(patterns))
    with explain_os_errors(part), part.open("ab") as file:
        file.truncate(4 * done)
        found = patterns.map_in_batches(
            model.network.make_inputs,
            KerasOutputs(model.keras_model),
            length,
            start=done,
            progress="Predict",
        )
        for _, outputs in found:
            file.write(outputs.tobytes())
            file.flush()


def write_predictions(
    path: Path,
    raw: NDArray[np.float32],
    model: TrainedModel,
    model_file: Path,
    patterns: Patterns,
) -> None:
    """Write `predictions.h5` from the network's own outputs.

    Parameters
    ----------
    path
        The file.
    raw
        (n,) float32, the outputs for the whole stack.
    model, model_file
        What they are from, and where that lies.
    patterns
        The stack.
    """
    patterns.check_unchanged()
    predictions = model.calibration.apply(raw)
    missing = ~patterns.is_measurement
    for values in (predictions, raw):
        values[missing] = np.nan
    why_nan = "no value is NaN"
    if missing.any():
        why_nan = (
            f"NaN: {missing.sum()} of {len(patterns)} patterns are no measurement; "
            "no_measurement in experiment.h5 says why"
        )
    with atomic_hdf5(path) as file:
        file["predictions"] = predictions
        file["raw"] = raw
        file["predictions"].attrs["nan"] = why_nan
        file.attrs["classes"] = CLASSES
        file.attrs["threshold"] = model.threshold
        write_provenance(
            file,
            model=model.metadata.get("model", model.network.name),
            model_file=str(model_file.resolve()),
            model_sha256=model.metadata["model_sha256"],
            patterns_files=[str(source) for source in patterns.files],
            fingerprint=patterns.fingerprint,
            made_from=name_values(patterns),
            **{MODEL_ELSEWHERE: model_file.parent.resolve() != path.parent.resolve()},
        )


def cross_validate(
    patterns: Patterns, words: NDArray[np.str_], model: TrainedModel
) -> NDArray[np.float32]:
    """Ask of each labelled pattern a network that was taught by the others.

    A network that learns by gradient descent would need many long trainings, so its
    place is taken by the invariant network.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words; "" and "unsure" are left out.
    model
        The trained model; only the kind of its network matters.

    Returns
    -------
    ndarray
        (n,) float32: calibrated probability of a single hit; NaN = no label.
    """
    labelled = np.flatnonzero(is_labelled(words))
    single = is_single(words[labelled])
    network = exact_network(patterns, model)
    inputs = read_inputs(patterns, labelled, network)
    raw = fit_head(network.build(), inputs, single)
    probability = np.full(len(patterns), np.nan, np.float32)
    probability[labelled] = fit_calibration(raw, single).apply(raw)
    return probability


def substitute_out_of_fold(
    patterns: Patterns,
    model: TrainedModel,
    split: Split,
    words: NDArray[np.str_],
    probability: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Replace what a model says of patterns that taught it.

    Where the weights are computed exactly, by what cross-validation says of them, as in
    the training; the patterns of a training by gradient descent are left out, which
    does no harm to an average, since they were drawn at random.

    Parameters
    ----------
    patterns
        The stack.
    model
        The trained model.
    split, words
        What it was trained with, from `read_partition`.
    probability
        (n,) float32: what the model says of every pattern.

    Returns
    -------
    ndarray
        (n,) float32, NaN = left out.
    """
    out_of_fold = probability.copy()
    if not model.network.is_solved:
        out_of_fold[split.training] = np.nan
        return out_of_fold
    learnt = np.concatenate([split.training, split.validation])
    if model.metadata.get("teaches_all"):
        learnt = np.sort(split.labelled)  # as in the training
    inputs = read_inputs(patterns, learnt, model.network)
    raw = fit_head(model.network.build(), inputs, is_single(words[learnt]))
    out_of_fold[learnt] = model.calibration.apply(raw)
    return out_of_fold


def exact_network(patterns: Patterns, model: TrainedModel) -> Network:
    """Return the model's network, or the invariant one in place of a slow one."""
    if model.network.is_solved:
        return model.network
    return InvariantNetwork.for_patterns(patterns)


class Doubts(NamedTuple):
    """Labelled patterns, the most doubtful label first.

    Attributes
    ----------
    pattern
        (m,) int64: pattern indices.
    doubt
        (m,) float64: probability that the label is wrong, as to single or not.
    """

    pattern: NDArray[np.int64]
    doubt: NDArray[np.float64]


def rank_doubtful_labels(
    words: NDArray[np.str_], out_of_fold: NDArray[np.float32]
) -> Doubts:
    """Sort the labels by how far networks that did not know them disagree.

    Only single against the rest is looked at: "multiple" for "other" does not show.

    Parameters
    ----------
    words
        (n,) label words.
    out_of_fold
        (n,) float32: probability of a single hit from `cross_validate`, NaN = none.

    References
    ----------
    Northcutt, Jiang and Chuang, J. Artif. Intell. Res. 70, 1373 (2021),
    doi 10.1613/jair.1.12125, section 3 (ranking by the probability of the given label).
    """
    pattern = np.flatnonzero(np.isfinite(out_of_fold))
    given = out_of_fold[pattern].astype(np.float64)
    doubt = np.where(words[pattern] == "single", 1 - given, given)
    order = np.argsort(-doubt, kind="stable")
    return Doubts(pattern[order], doubt[order])


def compare_with_ranking(
    probability: NDArray[np.float32], ranking: Ranking
) -> NDArray[np.float64]:
    """Say how far the network departs from what the ranking lets expect.

    At each place of the ranking a certain probability is usual: the falling curve that
    fits the network's probabilities best (isotonic regression).

    Parameters
    ----------
    probability
        (n,) float32: of a single hit.
    ranking
        Of the same stack.

    Returns
    -------
    ndarray
        (n,) float64: the probability less the usual one. Near 1 the network alone takes
        the pattern for a single hit, near -1 the ranking alone does. NaN = not ranked,
        being a template.
    """
    from sklearn.isotonic import isotonic_regression

    ranked = probability[ranking.index].astype(np.float64)
    difference = np.full(len(probability), np.nan)
    usual = isotonic_regression(ranked, increasing=False) if len(ranked) else ranked
    difference[ranking.index] = ranked - usual
    return difference


def pick_surest_multiple(
    probability: NDArray[np.float32], words: NDArray[np.str_]
) -> int:
    """Pick the multiple hit that the network is surest of, to explain it.

    Without labels of such, the pattern that is surest to be no single hit.

    Parameters
    ----------
    probability
        (n,), NaN = no measurement.
    words
        (n,) label words.
    """
    multiple = np.flatnonzero((words == "multiple") & np.isfinite(probability))
    candidates = multiple if multiple.size else np.arange(len(probability))
    return int(candidates[np.nanargmin(probability[candidates])])


N_RINGS = 12
N_SECTORS = 12
AT_ONCE = 64
TINY = 1e-37  # the sigmoid of float32 resolves small outputs, not those near 1


@dataclass(frozen=True, eq=False)
class Saliency:
    """What speaks for and against a single hit in one pattern.

    A part's value is how far it moves the log odds of a single hit: above 0 it speaks
    for a single hit, below 0 against one.

    Attributes
    ----------
    by_place
        (rows, columns) float64: of the places on the detector; NaN = bad pixels, and
        what is too far out.
    by_separation
        (size, size) float64: of the fringes that belong to a separation; 0 in the
        middle, at [size / 2, size / 2]; NaN outside the circle.
    patterson
        (size, size) float32: the Patterson map itself, in units of its noise.
    period
        In pixels; fringes of a separation repeat every period / separation pixels.
    by_rings
        Of the mean intensity of all rings, which depends on size and shape of the
        particle.
    log_odds
        Of the whole pattern.
    """

    by_place: NDArray[np.float64]
    by_separation: NDArray[np.float64]
    patterson: NDArray[np.float32]
    period: int
    by_rings: float
    log_odds: float

    @property
    def decisive_separation(self) -> tuple[float, float, float]:
        """Length, direction and effect of the separation that matters most.

        In steps of the map; in degrees, counter-clockwise as displayed, 0 to 180; in
        log odds. That is where effect and height of the Patterson map are large
        together: where the network is sure, no single part moves it much, and noise may
        move it as far.
        """
        middle = len(self.by_separation) // 2
        weight = np.abs(self.by_separation) * np.maximum(self.patterson, 0)
        weight[middle, middle] = 0  # no separation at all
        row, column = np.unravel_index(np.nanargmax(weight), weight.shape)
        down, right = row - middle, column - middle
        angle = np.degrees(np.arctan2(-down, right)) % 180
        effect = self.by_separation[row, column]
        return float(np.hypot(down, right)), float(angle), float(effect)


def explain_pattern(
    pattern: NDArray[np.float32],
    model: TrainedModel,
    bad_pixels: NDArray[np.bool_],
    centre: tuple[float, float],
    typical: NDArray[np.floating],
) -> Saliency:
    """Take parts of a pattern away, one after the other, and ask the network again.

    A place is a piece of a ring together with the opposite piece; it is taken away by
    putting the mean of the ring there. A separation is a small range of directions and
    lengths; it is taken away by subtracting the fringes that two particles so far apart
    would make. Fringes cross the whole pattern, so their separation says more than any
    one place. The rings are taken away by giving them the means that a typical single
    hit has. Works with every network.

    Parameters
    ----------
    pattern
        (rows, columns) float32, clean.
    model
        The trained model.
    bad_pixels
        (rows, columns) bool, True = left out.
    centre
        (row, column) of the beam, in pixels.
    typical
        (rows, columns): mean of many single hits, for its rings.

    References
    ----------
    Zeiler and Fergus, ECCV (2014) 818, section 4.2,
    doi 10.1007/978-3-319-10590-1_53 (occlusion).
    """
    maps = PattersonMaps(bad_pixels, centre)
    rings = _ring_means(pattern, bad_pixels, centre)
    places = np.where(bad_pixels, -1, _cut_places(pattern.shape, centre))
    separations = _cut_separations(pattern.shape, maps.window.side)
    log_odds = _log_odds(model, pattern[np.newaxis])[0]
    of_place, of_separation = (
        log_odds - np.concatenate([_log_odds(model, some) for some in without])
        for without in (
            _without_places(pattern, rings, places),
            _without_separations(pattern, rings, bad_pixels, separations),
        )
    )
    usual = _ring_means(typical, bad_pixels, centre)
    usual *= rings[~bad_pixels].sum() / max(usual[~bad_pixels].sum(), 1e-12)
    with_usual = np.where(bad_pixels, 0, pattern - rings + usual)
    size = maps.window.size
    shown = fft.fftshift(_cut_separations((size, size), size))
    return Saliency(
        by_place=np.append(of_place, np.nan)[places],
        by_separation=np.append(of_separation, np.nan)[shown],
        period=maps.window.side,
        patterson=maps.make_maps(pattern[np.newaxis])[0],
        by_rings=float(log_odds - _log_odds(model, with_usual[np.newaxis])[0]),
        log_odds=float(log_odds),
    )


def describe_saliency(saliency: Saliency) -> str:
    """Say in plain words what matters most in a pattern."""
    length, angle, effect = saliency.decisive_separation
    odds = saliency.log_odds
    return (
        f"Probability of a single hit: {expit(odds):.2g}. "
        f"Without the fringes every {saliency.period / length:.1f} pixels, "
        f"which belong to the separation {length:.0f} at {angle:.0f}°: "
        f"{expit(odds - effect):.2g}. "
        "With the rings of a typical single hit: "
        f"{expit(odds - saliency.by_rings):.2g}."
    )


def _log_odds(
    model: TrainedModel, patterns: NDArray[np.float32]
) -> NDArray[np.float64]:
    raw = model.predict_uncalibrated(patterns)
    return model.calibration.calibrated_logit(logit_of(raw, lowest=TINY))


def _ring_means(
    pattern: NDArray[np.floating],
    bad_pixels: NDArray[np.bool_],
    centre: tuple[float, float],
) -> NDArray[np.float32]:
    """Return (rows, columns): each pixel's mean over its ring, 0 or more."""
    _, mean = radial_average(pattern, centre, bad_pixels)
    known = np.nan_to_num(np.maximum(mean, 0)).astype(np.float32)
    return known[number_rings(centre, pattern.shape)]


def _cut_places(
    shape: tuple[int, ...], centre: tuple[float, float]
) -> NDArray[np.intp]:
    """Return the number of each pixel's place, opposite pixels alike; -1 = none."""
    radius, angle = radius_from(centre, shape), angle_about(centre, shape)
    return _number(radius / (min(shape) / 2), angle)


def _cut_separations(shape: tuple[int, ...], period: float) -> NDArray[np.intp]:
    """Return the number of each wave's separation in a Fourier transform; -1 = none."""
    down = fft.fftfreq(shape[0])[:, np.newaxis] * period
    right = fft.fftfreq(shape[1])[np.newaxis] * period
    angle = np.degrees(np.arctan2(-down, right))
    return _number(np.hypot(down, right) / (period / 2), angle)


def _number(reach: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.intp]:
    ring = (reach * N_RINGS).astype(np.intp)
    sector = ((angle % 180) / 180 * N_SECTORS).astype(np.intp) % N_SECTORS
    return np.where(reach < 1, ring * N_SECTORS + sector, -1)


def _without_places(
    pattern: NDArray[np.float32], rings: NDArray[np.float32], places: NDArray[np.intp]
) -> Iterator[NDArray[np.float32]]:
    for some in _some_numbers(places):
        yield np.where(places == some, rings, pattern)


def _without_separations(
    pattern: NDArray[np.float32],
    rings: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    separations: NDArray[np.intp],
) -> Iterator[NDArray[np.float32]]:
    noise = np.sqrt(rings)
    per_noise = np.divide(1, noise, out=np.zeros_like(noise), where=noise > 0)
    waves = fft.fft2(np.where(bad_pixels, 0, (pattern - rings) * per_noise))
    for some in _some_numbers(separations):
        fringes = fft.ifft2(np.where(separations == some, waves, 0)).real * noise
        yield np.where(bad_pixels, 0, pattern - fringes).astype(np.float32)


def _some_numbers(parts: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Give the numbers from 0 to the highest, a few at a time, (k, 1, 1)."""
    numbers = np.arange(parts.max() + 1)[:, np.newaxis, np.newaxis]
    for start in range(0, len(numbers), AT_ONCE):
        yield numbers[start : start + AT_ONCE]
