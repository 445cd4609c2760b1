"""What is proposed to the experimenter: photon scale, thresholds, bad pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.experiment.measurements import Measurements
from helpers.experiment.no_measurement import read_evenly
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import (
    MEANING,
    SINGLE_PIXELS,
    Proposal,
    find_defects,
    find_noise_limit,
)

HALF_A_PHOTON = 0.5
N_SIGMA = 4.5  # of the noise, beside photons: few pixels in a million are lit by it
SAMPLE_BYTES = 64 * 2**20
SAMPLED = (8, 64)  # fewest and most patterns
LIT_SAMPLE = 64  # patterns that show which pixels are lit
ENOUGH = 100_000  # values that tell whether all are whole numbers
BINS_PER_NOISE = 4
BINS_PER_PHOTON = 24
MOST_BINS = 200_000
FROM_NOISE = 2.5  # standard deviations above the pedestal where a photon may be
OFF_ZERO = 0.25  # standard deviations that a pedestal which was taken off may be from 0
SURE = 5.0  # standard deviations of a count
HIGHER = 1.15  # a peak, than the valley before it
SECOND = 0.2  # how far two photons may be from twice one, as a share of one
FEWEST_ABOVE = 200  # values beyond the noise that show where a photon is
OFTEN = 0.2  # share of values at the lowest, which chance alone leaves rarely there
LEAST_OF_COUNTS = 4.0  # whole numbers nearer to each other may be photons


class Histogram(NamedTuple):
    """How often each value occurs; counts (m,), edges (m + 1,)."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


@dataclass(frozen=True)
class PhotonScale:
    """What the values of patterns mean.

    Attributes
    ----------
    pedestal
        The value without light, in the unit of the file.
    adu_per_photon
        What one photon adds; 1 where the values are photons, or nobody knows.
    noise
        Standard deviation without light; 0 for counts.
    histogram
        Of the values that were looked at.
    why
        What decided, in words.
    """

    pedestal: float
    adu_per_photon: float
    noise: float
    histogram: Histogram
    why: str

    @property
    def is_known(self) -> bool:
        """Whether the gain is known, and is not that of photon counts."""
        return self.adu_per_photon != 1

    def override(self, pedestal: float, adu_per_photon: float) -> "PhotonScale":
        """Return what a person says in place of what was found.

        Parameters
        ----------
        pedestal
            -1 leaves it as it was found.
        adu_per_photon
            0 leaves it as it was found.

        Raises
        ------
        ParameterError
            If `adu_per_photon` is below 0, or one of them is not finite.
        """
        if not (np.isfinite(pedestal) and 0 <= adu_per_photon < np.inf):
            message = (
                f"pedestal is {pedestal} and adu_per_photon {adu_per_photon}; expected "
                "a number, and one above 0. Pass -1 and 0 to take what the values show."
            )
            raise ParameterError(message)
        given = self
        if pedestal != -1:
            why = f"{given.why}; pedestal given"
            given = replace(given, pedestal=pedestal, why=why)
        if adu_per_photon:
            why = f"{given.why}; ADU per photon given"
            given = replace(given, adu_per_photon=adu_per_photon, why=why)
        return given

    def describe(self) -> str:
        """Say what is taken as pedestal and gain."""
        if not (self.pedestal or self.is_known):
            return f"The values stay as they are ({self.why})."
        zero = f"{self.pedestal:.4g} is" if self.pedestal else "nothing is"
        what = f"{zero} taken off as the pedestal; "
        what += (
            f"{self.adu_per_photon:.4g} count as one photon; noise {self.noise:.3g}"
            if self.is_known
            else "nothing is divided by a gain"
        )
        return f"{what} ({self.why})."


def find_photon_scale(patterns: Patterns) -> PhotonScale:
    """Find pedestal and gain in the histogram of values.

    The highest peak of the histogram is the pedestal: most pixels of most patterns see
    no photon. The first peak above its noise is one photon. For values that may be
    photon counts, another one at twice the distance is asked for.

    Parameters
    ----------
    patterns
        The stack, without pedestal and gain.
    """
    values = _sample(patterns)
    may_be_counts = patterns.unit == "photons"
    if may_be_counts and patterns.declares_photons:
        return PhotonScale(0, 1, 0, _count_whole(values), "the file says photons")
    if values.size == 0:
        return PhotonScale(0, 1, 0, _count_whole(values), "nothing varies")
    pedestal, noise = _find_zero_peak(values)
    if abs(pedestal) < OFF_ZERO * noise:
        pedestal = 0.0  # taken off already
    step = _find_step(values)
    width = max(noise / BINS_PER_NOISE, step)
    histogram = _make_histogram(values, pedestal, width)
    gain = _find_gain(histogram, pedestal, noise, need_second=may_be_counts)
    if gain is not None and not noise and not step:  # bins were a guess
        histogram = _make_histogram(values, pedestal, gain / BINS_PER_PHOTON)
        gain = _find_gain(histogram, pedestal, noise, need_second=may_be_counts)
    if may_be_counts and (gain is None or gain < LEAST_OF_COUNTS):
        lowest = float(values.min())
        if lowest > 0 and (values == lowest).mean() > OFTEN:
            why = f"no value is below {lowest:g}, and many are {lowest:g}"
            return PhotonScale(lowest, 1, 0, _count_whole(values), why)
        why = "whole numbers without a pedestal"
        return PhotonScale(0, 1, 0, _count_whole(values), why)
    if gain is None:
        why = "no peak of single photons stands out"
        return PhotonScale(pedestal, 1, noise, histogram, why)
    why = f"single photons stand out at {pedestal + gain:.4g}"
    return PhotonScale(pedestal, gain, noise, histogram, why)


def _sample(patterns: Patterns) -> NDArray[np.float64]:
    """Return values of pixels that are good and vary, in patterns that do."""
    sample = read_evenly(patterns, SAMPLE_BYTES, *SAMPLED)
    values = sample[:, ~patterns.bad_pixels]
    varies = (values != values[:1]).any(axis=0)
    if varies.any() and len(values) > 1:
        values = values[:, varies]
    values = values[(values != values[:, :1]).any(axis=1)]
    return np.asarray(values[np.isfinite(values)], np.float64)


def _find_step(values: NDArray[Any]) -> float:
    """Return the distance of neighbouring values: 1 of whole numbers, else 0."""
    some = values[:: max(1, values.size // ENOUGH)]
    return 1.0 if (some % 1 == 0).all() else 0.0


def _find_zero_peak(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the place of the highest peak, and the standard deviation of its left."""
    low, high = np.quantile(values, [0.001, 0.9])
    if low == high:
        return float(low), 0.0
    step = _find_step(values)
    width = max(_spread(values, low, high) / 2, step, 1e-9)
    counts, edges = np.histogram(values, np.arange(low - width, high + width, width))
    middle = float(edges[np.argmax(counts)] + width / 2)
    for _ in range(20):  # to the mean of what lies around it
        noise = find_left_noise(values, middle)
        if noise == 0:
            break
        near = values[np.abs(values - middle) < 1.5 * noise]
        before, middle = middle, float(near.mean())
        if abs(before - middle) < 0.01 * noise:
            break
    return middle, find_left_noise(values, middle)


def _spread(values: NDArray[np.float64], low: float, high: float) -> float:
    middle = np.median(values)
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return spread or (high - low) / 100


def find_left_noise(values: NDArray[Any], middle: float) -> float:
    """Return the noise from the values below a peak, where there are no photons.

    0 where nearly none are below it.
    """
    below = middle - values[values < middle]
    if below.size < 0.02 * values.size:
        return 0.0
    return 1.4826 * float(np.median(below))


def _make_histogram(
    values: NDArray[np.float64], pedestal: float, width: float
) -> Histogram:
    above = values[values > pedestal]
    top = float(np.quantile(above, 0.995)) if above.size else pedestal + 1
    low = float(np.quantile(values, 0.0005))
    width = max(width, (top - low) / MOST_BINS, 1e-12)
    if width == 1:  # whole numbers are the middles
        low, top = np.floor(low) - 0.5, np.ceil(top) + 0.5
    if not above.size or width <= 1e-12:
        width = max((top - low) / 200, 1e-12)
    edges = np.arange(low, top + 1.5 * width, width)
    counts, edges = np.histogram(values, edges)
    return Histogram(counts.astype(np.int64), edges)


def _count_whole(values: NDArray[np.float64]) -> Histogram:
    top = np.quantile(values, 0.999) if values.size else 1
    edges = np.arange(-0.5, min(top, 1000) + 2)
    return Histogram(np.histogram(values, edges)[0].astype(np.int64), edges)


def _find_gain(
    histogram: Histogram, pedestal: float, noise: float, *, need_second: bool
) -> float | None:
    """Return how far the first peak above the noise is from the pedestal."""
    from scipy import ndimage

    counts, edges = histogram
    width = edges[1] - edges[0]
    middles = (edges[:-1] + edges[1:]) / 2
    smoothing = max(noise / 2 / width, 0.7)
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), smoothing)
    start = int(np.searchsorted(middles, pedestal + max(noise, width)))
    if counts[start:].sum() < FEWEST_ABOVE:
        return None
    # as many bins were averaged
    n_bins = 2 * np.sqrt(np.pi) * smoothing
    peaks = [
        peak
        for peak in _find_peaks(smooth, start, n_bins)
        if middles[peak] > pedestal + FROM_NOISE * noise
    ]
    if not peaks:
        return None
    first = _place_of(smooth, peaks[0], middles) - pedestal
    # where one photon cannot be, less must be than where it is
    low, high = pedestal + max(FROM_NOISE * noise, 0.3 * first), pedestal + 0.7 * first
    between = smooth[(middles > low) & (middles < high)]
    if between.size and between.mean() > smooth[peaks[0]]:
        return None
    places = [_place_of(smooth, peak, middles) - pedestal for peak in peaks]
    series = _follow(places)
    if need_second and len(series) < 2:
        return None
    photons = np.arange(1, len(series) + 1)
    return float(photons @ series / (photons @ photons))


def _follow(places: list[float]) -> list[float]:
    """Return where one photon is, two, three and so on, as far as there are peaks."""
    series = places[:1]
    while True:
        expected = (len(series) + 1) * series[-1] / len(series)
        nearest = min(places, key=lambda place: abs(place - expected))
        if abs(nearest - expected) > SECOND * series[0]:
            return series
        series.append(nearest)


def _find_peaks(smooth: NDArray[np.float64], start: int, n_bins: float) -> list[int]:
    """Return the bins of the peaks that stand out of the valley before each."""
    peaks: list[int] = []
    valley = highest = smooth[start]
    at = start
    for i in range(start, smooth.size):
        value = smooth[i]
        if value > highest:
            highest, at = value, i
        rises = highest - valley
        stands_out = rises > SURE * np.sqrt((highest + valley) / n_bins)
        if at > start and stands_out and highest > HIGHER * valley:
            falls = highest - value
            if falls > rises / 2 or falls > SURE * np.sqrt((highest + value) / n_bins):
                peaks.append(at)
                valley = highest = value
                at = i
                continue
        if value < valley:
            valley = highest = value
            at = i
    return peaks


def _place_of(
    smooth: NDArray[np.float64], peak: int, middles: NDArray[np.float64]
) -> float:
    """Return the place of a peak within its bin, by a parabola."""
    if not 0 < peak < smooth.size - 1:
        return float(middles[peak])
    left, top, right = np.log(np.maximum(smooth[peak - 1 : peak + 2], 1e-9))
    bend = left - 2 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(middles[peak] + np.clip(shift, -0.5, 0.5) * (middles[1] - middles[0]))


def suggest_lit_threshold(patterns: Patterns) -> float:
    """Choose the value from which a pixel counts as lit, in the patterns' unit.

    Photon counts: 1. Otherwise what read noise does not reach in a sample; see
    `helpers.physics.find_noise_limit`. Where the gain is known, the noise is that of
    the values below 0, and half a photon the least.

    Parameters
    ----------
    patterns
        The stack.
    """
    if patterns.unit == "photons" and not patterns.is_scaled:
        return 1.0
    sample = patterns[spread_evenly(np.arange(len(patterns)), LIT_SAMPLE)]
    values = sample[:, ~patterns.bad_pixels]
    if patterns.unit != "photons":
        return find_noise_limit(values)
    return max(N_SIGMA * find_left_noise(values, 0), HALF_A_PHOTON)


def suggest_hit_threshold(lit_pixels: NDArray[np.int64]) -> float:
    """Split the hit scores into blanks and hits where the two groups differ most.

    Otsu's criterion on log(1 + lit pixels): the split with the largest variance
    between the groups. It is a suggestion to look at: a run without blanks is split
    all the same.

    Parameters
    ----------
    lit_pixels
        (n,) pixels lit in each pattern.

    References
    ----------
    Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979), doi 10.1109/TSMC.1979.4310076,
    eq. 18.
    """
    scores = np.sort(np.log1p(lit_pixels.astype(np.float64)))
    below = np.arange(1, scores.size)
    if scores.size < 2 or scores[0] == scores[-1]:
        return 0.0
    total = np.cumsum(scores)
    gap = total[:-1] / below - (total[-1] - total[:-1]) / (scores.size - below)
    between = np.where(np.diff(scores) > 0, below * (scores.size - below) * gap**2, -1)
    split = int(np.argmax(between))
    return float(np.expm1(scores[split : split + 2].mean()))


Bools = NDArray[np.bool_]


def find_bad_pixels(
    measurements: Measurements, bad_pixels: Bools
) -> dict[str, Proposal]:
    """Find pixels that are no measurement; see `helpers.physics.find_defects`.

    Parameters
    ----------
    measurements
        Of the whole stack, from `measure_patterns`.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
    dict
        By kind, in the order of `MEANING`.

    Raises
    ------
    ParameterError
        If the measurements were read from a work folder, which keeps no sums.
    """
    if measurements.pixels is None:
        message = (
            "these measurements hold no sums over the patterns for each pixel. "
            "Make them with measure_patterns: a work folder does not keep them."
        )
        raise ParameterError(message)
    return find_defects(measurements.pixels, bad_pixels)


def describe_bad_pixels(found: Mapping[str, Proposal]) -> str:
    """Say for each kind how many pixels there are, and the numbers that decided.

    Parameters
    ----------
    found
        From `find_bad_pixels`.
    """
    lines = [
        f"{kind}: {np.count_nonzero(pixels):,} pixels ({MEANING[kind]}: "
        f"{_name_range(evidence)})."
        for kind, (pixels, evidence) in found.items()
        if pixels.any()
    ]
    return "\n".join(lines or ["No pixel looks like a bad one."])


def _name_range(evidence: NDArray[np.float64]) -> str:
    lowest, highest = (f"{f(evidence):.3g}" for f in (np.nanmin, np.nanmax))
    return lowest if lowest == highest else f"{lowest} to {highest}"


def accept_bad_pixels(
    found: Mapping[str, Proposal],
    *,
    accept_proposed: bool = True,
    accept_shadows: bool = True,
    accept_dim: bool = False,
) -> Bools:
    """Return the pixels to leave out, (rows, columns) bool.

    Parameters
    ----------
    found
        From `find_bad_pixels`.
    accept_proposed
        Leave out single pixels: constant, not finite, dead, hot, flickering.
    accept_shadows
        Leave out shadows: gaps between modules, beam stops, dead modules.
    accept_dim
        Leave out what is dim.
    """
    accepted = dict.fromkeys(SINGLE_PIXELS, accept_proposed)
    accepted |= {"shadow": accept_shadows, "dim": accept_dim}
    taken: Bools = np.any(
        [found[kind].pixels & yes for kind, yes in accepted.items()], axis=0
    )
    return taken
