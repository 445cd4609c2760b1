"""How pure a selection is: expected, audited at random, and by physics alone."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from threadpoolctl import threadpool_limits

from helpers.classifier.calibration import logit_of
from helpers.classifier.split import is_labelled, is_single
from helpers.errors import LabelsError, ParameterError
from helpers.experiment import Experiment
from helpers.intervals import Proportion, percentile_interval
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import Geometry, PattersonMaps, Window, estimate_diameters


@dataclass(frozen=True)
class Audit:
    """What a random sample says of patterns that are selected by threshold.

    Attributes
    ----------
    n_audited
        How many patterns have been audited.
    purity
        Single hits among those that the threshold takes.
    completeness
        Those taken among the single hits.
    singles
        Single hits among all patterns of the stack.
    """

    n_audited: int
    purity: Proportion
    completeness: Proportion
    singles: Proportion


def audited_prefix(patterns: Patterns, words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return what has been audited: the beginning of the order, as far as labelled.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words.
    """
    order = patterns.shuffled()
    missing = np.flatnonzero(words[order] == "")
    return order[: missing[0]] if missing.size else order


def audit_selection(
    audited: NDArray[np.int64],
    words: NDArray[np.str_],
    out_of_fold: NDArray[np.float32],
    threshold: float,
) -> Audit:
    """Estimate purity and completeness of what a threshold takes, without bias.

    Parameters
    ----------
    audited
        Patterns drawn at random, from `audited_prefix`.
    words
        (n,) label words; "unsure" counts as not single, which flatters nothing.
    out_of_fold
        (n,) float32: probability from `substitute_out_of_fold`, so that no pattern is
        judged by what it taught; NaN = left out.
    threshold
        Patterns at or above it are taken.
    """
    judged = audited[np.isfinite(out_of_fold[audited])]
    single, taken = words[judged] == "single", out_of_fold[judged] >= threshold
    right = int((single & taken).sum())
    return Audit(
        n_audited=len(audited),
        purity=Proportion(right, int(taken.sum())),
        completeness=Proportion(right, int(single.sum())),
        singles=Proportion(int((words[audited] == "single").sum()), len(audited)),
    )


N_DRAWS = 200
N_THRESHOLDS = 400
WIDER = 1.3
WEAK_PENALTY = 100.0
LOWEST = 0.01  # nobody takes what is less probable


@dataclass(frozen=True, eq=False)
class PurityCurve:
    """Purity against number: what each threshold takes, the most selective first.

    Attributes
    ----------
    threshold
        (k,) float64: probability from which patterns are taken.
    number
        (k,) int64: patterns taken.
    purity
        (k,) float64: expected share of single hits among them.
    low, high
        (k,) float64: its 95 % interval.
    """

    threshold: NDArray[np.float64]
    number: NDArray[np.int64]
    purity: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def find_purity(self, purity: float) -> int:
        """Return where most patterns are taken with at least this expected purity.

        Raises
        ------
        ParameterError
            If no selection is expected to be so pure.
        """
        good = np.flatnonzero(self.purity >= purity)
        if good.size == 0:
            message = (
                f"purity is {purity:g}; the purest selection is expected to have "
                f"{self.purity.max():.3f}. Ask for less, or label more patterns."
            )
            raise ParameterError(message)
        return int(good[-1])

    def find_threshold(self, threshold: float) -> int:
        """Return where the curve takes what a threshold takes, no pattern more."""
        return max(0, int(np.count_nonzero(self.threshold >= threshold)) - 1)

    def describe(self, at: int) -> str:
        """Say what is taken at one place of the curve.

        Parameters
        ----------
        at
            From `find_purity` or `find_threshold`.
        """
        return (
            f"{self.number[at]:,} patterns from probability {self.threshold[at]:.3f} "
            f"on, {self.purity[at]:.1%} of them single hits "
            f"({self.low[at]:.1%} to {self.high[at]:.1%})"
        )


def expect_purity(
    probability: NDArray[np.float32],
    out_of_fold: NDArray[np.float32],
    words: NDArray[np.str_],
    seed: int = 0,
) -> PurityCurve:
    """Expect purity and number for every threshold.

    The expected number of single hits is the sum of the probabilities; the labels say
    how far these can be trusted: logistic regression of label on log odds, with random
    weights on the labels (Bayesian bootstrap), gives a set of possible corrections. Of
    either class half a label is taken to be wrong, spread over all: Jeffreys' prior, so
    that a few labels that are all judged right are not taken for certainty.

    Parameters
    ----------
    probability
        (n,) float32: calibrated, of every pattern.
    out_of_fold
        (n,) float32: the same for patterns as if they had taught nothing, from
        `substitute_out_of_fold`; NaN = left out.
    words
        (n,) label words.
    seed
        Of the weights.

    Raises
    ------
    LabelsError
        If the labels are all single, or none is.

    References
    ----------
    Rubin, Ann. Statist. 9, 130 (1981), doi 10.1214/aos/1176345338 (the bootstrap).
    """
    known = is_labelled(words) & np.isfinite(out_of_fold)
    if np.unique(is_single(words[known])).size < 2:
        message = (
            f"{known.sum()} labels tell how far the probabilities can be trusted; "
            "expected some single and some other ones. Label more in 03-label."
        )
        raise LabelsError(message)
    corrections = _draw_corrections(out_of_fold[known], is_single(words[known]), seed)
    order = np.argsort(-probability, kind="stable")
    odds = logit_of(probability[order])
    n_possible = max(int((probability > LOWEST).sum()), 1)
    number = np.unique(np.linspace(1, n_possible, N_THRESHOLDS).astype(np.int64))
    expected = (np.cumsum(expit(slope * odds + by)) for slope, by in corrections)
    purities = np.stack([singles[number - 1] / number for singles in expected])
    purity = purities.mean(axis=0)
    low, high = percentile_interval(_add_chance(purities, purity, number, seed))
    return PurityCurve(
        threshold=probability[order][number - 1].astype(np.float64),
        number=number,
        purity=purity,
        low=np.minimum(low, purity),  # of one pattern 0 or 1 is found, never a share
        high=np.maximum(high, purity),
    )


def _add_chance(
    purities: NDArray[np.float64],
    purity: NDArray[np.float64],
    number: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """Return shares of single hits that may be found, (draws, k).

    Labels judge networks that were fitted to fewer labels, and never quite know where
    the curve bends, so that they spread less than the truth does. And of a few patterns
    more or fewer are single by chance alone.
    """
    expected = logit_of(purity.astype(np.float32))
    spread = logit_of(purities.astype(np.float32)) - expected
    possible = expit(expected + WIDER * spread)
    return np.random.default_rng(seed).binomial(number, possible) / number


def _draw_corrections(
    out_of_fold: NDArray[np.float32], single: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """Return possible slopes and offsets of the log odds, (draws, 2)."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    wrong = 0.5 / np.where(single, single.sum(), (~single).sum())
    shape = np.concatenate([np.ones(single.size), wrong])
    weights = rng.gamma(shape, size=(N_DRAWS, shape.size))
    odds = np.tile(logit_of(out_of_fold), 2)[:, np.newaxis]
    answers = np.concatenate([single, ~single])
    solver = LogisticRegression(C=WEAK_PENALTY, solver="newton-cholesky")
    with threadpool_limits(1, user_api="blas"):  # too small to be shared out
        fits = (solver.fit(odds, answers, weight) for weight in weights)
        return np.array([(fit.coef_[0, 0], fit.intercept_[0]) for fit in fits])


def describe_selection_by_truth(
    single: NDArray[np.bool_], taken: NDArray[np.bool_]
) -> str:
    """Say how pure and complete a selection is where the truth is known.

    Parameters
    ----------
    single, taken
        (n,) bool: which patterns are single hits, and which were taken.
    """
    n_right = int((single & taken).sum())
    purity = n_right / max(1, int(taken.sum()))
    completeness = n_right / max(1, int(single.sum()))
    return f"truth: purity {purity:.1%}, completeness {completeness:.1%}"


FEWEST_CELLS = 100
MAD_TO_SIGMA = 1.4826


class PattersonScore:
    """How far a peak beyond the particle's own size stands out of the noise.

    The Fourier transform of a pattern is a map of the distances in what scattered: one
    particle fills it out to its diameter and no further, a second one adds a peak at
    the distance between the two, the higher the brighter it is.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.
    diameter
        Of one particle, in steps of the map, as `measure_diameters` gives it.

    Attributes
    ----------
    beyond
        (size, size) bool: the part of the map that one particle leaves empty.

    Raises
    ------
    ParameterError
        If the particle fills the map, so that a second one would not show.

    References
    ----------
    Patterson, Phys. Rev. 46, 372 (1934), doi 10.1103/PhysRev.46.372.
    """

    margin = 1.2  # an icosahedron reaches a little beyond the sphere that is alike

    def __init__(
        self,
        bad_pixels: NDArray[np.bool_],
        centre: tuple[float, float],
        diameter: float,
    ) -> None:
        self._maps = PattersonMaps(bad_pixels, centre)
        size = self._maps.window.size
        separation = np.hypot(*np.indices((size, size)) - size // 2)
        self.beyond = (separation > self.margin * diameter) & (separation < size // 2)
        if np.count_nonzero(self.beyond) < FEWEST_CELLS:
            message = (
                f"a particle of {diameter:.3g} steps fills the map of {size} × {size}; "
                "a second one cannot be told from it. Use patterns that are binned "
                "less, or leave this score out."
            )
            raise ParameterError(message)

    @property
    def chance_level(self) -> float:
        """What noise alone exceeds in one pattern of a hundred."""
        n_independent = np.count_nonzero(self.beyond) / 2  # the map is point-symmetric
        return float(-ndtri(0.01 / n_independent))

    def __call__(self, patterns: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of patterns (m, rows, columns), clean.

        Returns
        -------
        ndarray
            (m,) float64: the highest value beyond the particle's size, in standard
            deviations of the map there; 0 for a pattern without photons.
        """
        maps = self._maps.make_maps(patterns)
        values = maps[:, self.beyond].astype(np.float64)
        noise = MAD_TO_SIGMA * np.median(np.abs(values), axis=1)
        score = np.zeros(len(patterns))
        np.divide(values.max(axis=1), noise, out=score, where=noise > 0)
        return score


FAR = 1e6  # pixels to the detector, so that angles are small


def measure_diameters(
    patterns: Patterns, index: NDArray[np.int64], centre: tuple[float, float]
) -> NDArray[np.float64]:
    """Estimate diameters in steps of the Patterson map; see `estimate_diameters`.

    Parameters
    ----------
    patterns
        The stack.
    index
        (m,) which of them.
    centre
        (row, column) of the beam, in pixels.

    Returns
    -------
    ndarray
        (m,) float64: rings of a particle of diameter d repeat every size / d pixels of
        the window of `size` pixels that the map is made from. NaN without photons.
    """
    window = Window.around(centre, patterns.shape[1:])
    geometry = Geometry(  # in which one nanometre is one step of the map
        centre=centre,
        pixel_size_um=1.0,
        distance_mm=FAR / 1000,
        wavelength_nm=window.side / FAR,
    )
    return estimate_diameters(patterns, index, geometry)


@dataclass(frozen=True)
class Physics:
    """Numbers that no network has made, of some patterns.

    Attributes
    ----------
    taken
        (m,) bool: whether the pattern is in the selection.
    photons
        (m,) float64.
    diameter
        (m,) float64: of the sphere that scatters most alike, over the median of those
        taken; NaN without photons.
    peak
        (m,) float64: `PattersonScore`; NaN where the particle fills the map.
    chance_level
        A peak that noise alone exceeds in one pattern of a hundred; NaN likewise.
    """

    taken: NDArray[np.bool_]
    photons: NDArray[np.float64]
    diameter: NDArray[np.float64]
    peak: NDArray[np.float64]
    chance_level: float


def measure_physics(
    experiment: Experiment, taken: NDArray[np.bool_], n_most: int = 1000
) -> Physics:
    """Measure photons, size and second particles of taken and left patterns.

    Parameters
    ----------
    experiment
        The patterns.
    taken
        (n,) bool: the selection.
    n_most
        At most so many of either are measured, evenly spread over the stack.
    """
    patterns = experiment.patterns
    left = ~taken & patterns.is_measurement
    parts = (spread_evenly(np.flatnonzero(some), n_most) for some in (taken, left))
    index = np.concatenate(list(parts))
    diameter = measure_diameters(patterns, index, experiment.centre)
    of_taken = diameter[taken[index] & np.isfinite(diameter)]
    usual = float(np.median(of_taken)) if of_taken.size else float("inf")
    peak = np.full(len(index), np.nan)
    try:
        score = PattersonScore(patterns.bad_pixels, experiment.centre, usual)
    except ParameterError as error:
        warnings.warn(f"No search for second particles: {error}", stacklevel=2)
        level = float("nan")
    else:
        level = score.chance_level
        for here, scores in patterns.map(score, index):
            peak[here] = scores
    photons = experiment.measurements.photons[index]
    return Physics(taken[index], photons, diameter / usual, peak, level)
