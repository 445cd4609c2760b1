"""Sums of one pass over the stack, and the thresholds that they suggest."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns import Patterns
from helpers.physics import PixelSums, find_noise_limit

LARGEST = float(np.finfo(np.float32).max)  # patterns are float32 once they are clean
ROUNDING = 1e-6  # of a standard deviation that is 0, as a share of the mean
SHOWN = 10  # indices in a message
LOOKED_AT = 256  # patterns that may hold too large values


@dataclass(frozen=True)
class Measurements:
    """Sums of one pass over the stack; bad pixels count nowhere.

    Attributes
    ----------
    photons
        (n,) float64: photons per pattern, negative values not counted.
    lit_pixels
        (n,) int64: pixels at or above the lit threshold; the hit score.
    powder
        (rows, columns) float64: mean over the patterns in which the pixel has a value,
        in the file's unit.
    spread
        (rows, columns) float64: standard deviation over them, likewise.
    not_finite
        (rows, columns) float64: share of the patterns in which the pixel is NaN,
        infinite or too large for float32.
    lost_pixels
        (n,) int64: good pixels that have no value in that pattern; None of measurements
        read from a work folder.
    pixels
        For `find_bad_pixels`; None likewise.
    """

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    powder: NDArray[np.float64]
    spread: NDArray[np.float64]
    not_finite: NDArray[np.float64]
    lost_pixels: NDArray[np.int64] | None = None
    pixels: PixelSums | None = None


def suggest_lit_threshold(patterns: Patterns, n_sampled: int = 64) -> float:
    """Choose the value from which a pixel counts as lit, in the file's unit.

    Photon counts: 1. Otherwise what read noise does not reach in a sample; see
    `helpers.physics.find_noise_limit`.

    Parameters
    ----------
    patterns
        The stack.
    n_sampled
        How many patterns, evenly spread, are looked at.
    """
    if patterns.unit == "photons":
        return 1.0
    sample = patterns[_spread_evenly(len(patterns), n_sampled)]
    return find_noise_limit(sample[:, ~patterns.bad_pixels])


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


def measure_patterns(
    patterns: Patterns, lit_threshold: float, adu_per_photon: float = 1.0
) -> Measurements:
    """Pass once over the stack and sum what the first look needs.

    Parameters
    ----------
    patterns
        The stack.
    lit_threshold
        A pixel is lit from this value on, in the file's unit.
    adu_per_photon
        What one photon adds to a pixel, in the file's unit; 1 for photon counts.

    Raises
    ------
    ParameterError
        If `adu_per_photon` is not above 0.
    PatternsFileError
        If nothing but NaN and infinite values is in the patterns.

    Warns
    -----
    UserWarning
        If all patterns are alike, or values are too large for float32 and count as 0.
    """
    if not adu_per_photon > 0:
        message = (
            f"adu_per_photon is {adu_per_photon}; expected a number above 0. "
            "Pass 1 for photon counts, else the detector's ADU per photon."
        )
        raise ParameterError(message)
    measure = _Measure(patterns.bad_pixels, lit_threshold)
    pixels = PixelSums.of(np.zeros((0, *patterns.shape[1:]), np.float32), lit_threshold)
    parts = []
    blocks = patterns.map(measure, keep_nan=True, join=_Part.join, progress="Measure")
    for _, block in blocks:
        parts += block.of_patterns
        pixels.add(block.pixels)
    each = _OfPatterns(*map(np.concatenate, zip(*parts, strict=True)))
    _check_not_too_large(patterns, np.flatnonzero(each.is_infinite))
    _check_finite(patterns, each.lost_pixels)
    powder, spread = _make_powder(pixels, each.only_value, patterns.bad_pixels)
    _check_alike(patterns, powder, spread)
    not_finite = 1 - pixels.n_finite / max(pixels.n_patterns, 1)
    return Measurements(
        each.photons / adu_per_photon,
        each.lit_pixels,
        powder,
        spread,
        not_finite,
        each.lost_pixels,
        pixels,
    )


def describe_lost_pixels(measurements: Measurements) -> str:
    """Name the patterns in which good pixels have no value; "" without any.

    Parameters
    ----------
    measurements
        From `measure_patterns`.
    """
    lost = measurements.lost_pixels
    if lost is None or not lost.any():
        return ""
    found = np.flatnonzero(lost)
    return (
        f"{found.size:,} of {lost.size:,} patterns lack values (NaN or infinite), "
        f"up to {lost.max():,} of the good pixels, which count as 0 in them alone: "
        f"{_name_some(found)}."
    )


class _OfPatterns(NamedTuple):
    """Of each pattern: (m,)."""

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    lost_pixels: NDArray[np.int64]
    is_infinite: NDArray[np.bool_]  # somewhere
    only_value: NDArray[np.float64]  # NaN where there are several


class _Part(NamedTuple):
    of_patterns: list[_OfPatterns]
    pixels: PixelSums

    def join(self, other: "_Part") -> "_Part":
        """Add what comes next."""
        self.of_patterns.extend(other.of_patterns)
        self.pixels.add(other.pixels)
        return self


@dataclass(frozen=True)
class _Measure:
    """Sums over the pixels of each pattern, and over the patterns for each pixel."""

    bad_pixels: NDArray[np.bool_]
    lit_threshold: float

    def __call__(self, values: NDArray[np.float32]) -> _Part:
        only_value = _find_only_values(values)
        finite: NDArray[np.bool_] | None = np.isfinite(values)
        lost = np.zeros(len(values), np.int64)
        is_infinite = np.zeros(len(values), np.bool_)
        if finite is None or finite.all():
            finite = None
        else:
            is_infinite |= np.isinf(values).any(axis=(1, 2))
            lost = np.count_nonzero(~finite & ~self.bad_pixels, axis=(1, 2))
            values[~finite] = 0
        values[:, self.bad_pixels] = 0
        count = np.isnan(only_value)
        if not count.all():
            finite = None if finite is None else finite[count]
        pixels = PixelSums.of(
            values if count.all() else values[count], self.lit_threshold, finite
        )
        of_patterns = _OfPatterns(
            photons=np.array([_sum_positive(each) for each in values]),
            lit_pixels=np.array(
                [np.count_nonzero(each >= self.lit_threshold) for each in values]
            ),
            lost_pixels=lost,
            is_infinite=is_infinite,
            only_value=only_value,
        )
        return _Part([of_patterns], pixels)


def _sum_positive(values: NDArray[np.float32]) -> float:
    positive = values if values.min() >= 0 else np.maximum(values, 0)
    return float(positive.sum(dtype=np.float64))


def _find_only_values(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the value of patterns that have no other; NaN for all others."""
    flat = values.reshape(len(values), -1)
    same = flat[:, 0] == flat[:, -1]  # most patterns need no second look
    same[same] = (flat[same] == flat[same, :1]).all(axis=1)
    return np.where(same, flat[:, 0], np.nan)


def _make_powder(
    pixels: PixelSums, only_value: NDArray[np.float64], bad_pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation; of patterns of one value, zeros count."""
    if not pixels.n_patterns:
        mean = np.where(bad_pixels, 0, np.mean(only_value))
        return mean, np.zeros_like(mean)
    n = np.maximum(pixels.n_finite + np.count_nonzero(only_value == 0), 1)
    mean = pixels.total / n
    return mean, np.sqrt(np.maximum(pixels.squares / n - mean**2, 0))


def _sum(block: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(block.sum(axis=0, dtype=np.float64))


def make_powder(patterns: Patterns, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over some patterns, (rows, columns), in the file's unit.

    Parameters
    ----------
    patterns
        The stack.
    chosen
        (n,) bool: which patterns count. Without any the powder is 0 everywhere.
    """
    total = np.zeros(patterns.shape[1:])
    for _, block in patterns.map(_sum, np.flatnonzero(chosen), join=np.add):
        total += block
    total /= max(1, np.count_nonzero(chosen))
    return total


def _check_not_too_large(patterns: Patterns, infinite: NDArray[np.int64]) -> None:
    """Warn of values that are infinite in float32 alone."""
    if patterns.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return
    sizes = ((i, np.abs(patterns.read_raw(i))) for i in infinite[:LOOKED_AT].tolist())
    too_large = [i for i, x in sizes if ((x > LARGEST) & (x < np.inf)).any()]
    if not too_large:
        return
    found = np.array(too_large)
    message = (
        f"{patterns.files[0]}: {found.size:,} of the {len(patterns):,} patterns hold "
        f"values beyond ±{LARGEST:.1e}, which count as 0: {_name_some(found)}. No "
        "detector records such values; look at how the file was written."
    )
    warnings.warn(message, stacklevel=3)


def _name_some(found: NDArray[np.int64]) -> str:
    return ", ".join(map(str, found[:SHOWN])) + (", …" if found.size > SHOWN else "")


def _check_finite(patterns: Patterns, lost_pixels: NDArray[np.int64]) -> None:
    n_good = np.count_nonzero(~patterns.bad_pixels)
    if (lost_pixels < n_good).any():
        return
    problem = (
        "every value is NaN or infinite, in all patterns. Expected photon counts or "
        "ADU. Write the file again, or name other patterns: dataset=."
    )
    raise PatternsFileError(patterns.files[0], [problem])


def _check_alike(
    patterns: Patterns, mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> None:
    """Warn of patterns among which there is nothing to find."""
    alike = len(patterns) > 1 and (spread <= ROUNDING * np.abs(mean)).all()
    if mean.any() and not alike:
        return
    what = (
        "all patterns are alike, pixel by pixel" if mean.any() else "every value is 0"
    )
    message = (
        f"{patterns.files[0]}: {what}, in {len(patterns):,} patterns of "
        f"{patterns.layout.patterns}: there is nothing to tell them apart by. Look at "
        "how the file was written, or name other patterns: dataset=."
    )
    warnings.warn(message, stacklevel=3)


def _spread_evenly(n_patterns: int, n_sampled: int) -> NDArray[np.int64]:
    chosen = np.linspace(0, n_patterns - 1, min(n_sampled, n_patterns))
    return chosen.astype(np.int64)
