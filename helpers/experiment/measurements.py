"""Sums of one pass over the stack, and the thresholds and bad pixels they suggest."""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns import Patterns

LARGEST = float(np.finfo(np.float32).max)  # patterns are float32 once they are clean
ROUNDING = 1e-6  # of a standard deviation that is 0, as a share of the mean
SHOWN = 10  # indices in a message


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
        (rows, columns) float64: mean over the patterns, in the file's unit.
    spread
        (rows, columns) float64: standard deviation over the patterns, likewise.
    not_finite
        (rows, columns) float64: share of at most 256 patterns, evenly spread, in which
        the pixel is NaN, infinite or too large for float32.
    """

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    powder: NDArray[np.float64]
    spread: NDArray[np.float64]
    not_finite: NDArray[np.float64]


def suggest_lit_threshold(patterns: Patterns, n_sampled: int = 64) -> float:
    """Choose the value from which a pixel counts as lit, in the file's unit.

    Photon counts: 1. Otherwise six robust standard deviations (median absolute
    deviation × 1.4826) above the median of a sample, which read noise does not reach.

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
    values = sample[:, ~patterns.bad_pixels]
    middle = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle + 6 * noise if noise > 0 else float(np.nextafter(middle, np.inf))


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
    photons = np.zeros(len(patterns))
    lit_pixels = np.zeros(len(patterns), np.int64)
    first, second = np.zeros((2, *patterns.shape[1:]))
    measure = partial(_measure, lit_threshold=lit_threshold)
    for here, sums in patterns.map(measure, progress="Measure"):
        photons[here], lit_pixels[here] = sums.photons, sums.lit_pixels
        first += sums.first
        second += sums.second
    mean = first / len(patterns)
    spread = np.sqrt(np.maximum(second / len(patterns) - mean**2, 0))
    not_finite = _share_not_finite(patterns)
    _check_finite(patterns, not_finite)
    _check_alike(patterns, mean, spread)
    return Measurements(photons / adu_per_photon, lit_pixels, mean, spread, not_finite)


class _Sums(NamedTuple):
    """Over the pixels of each pattern, and over the patterns for each pixel."""

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def _measure(block: NDArray[np.float32], lit_threshold: float) -> _Sums:
    return _Sums(
        photons=np.maximum(block, 0).sum(axis=(1, 2), dtype=np.float64),
        lit_pixels=np.count_nonzero(block >= lit_threshold, axis=(1, 2)),
        first=_sum(block),
        second=np.einsum("nij,nij->ij", block, block, dtype=np.float64),
    )


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
    for _, part in patterns.map(_sum, np.flatnonzero(chosen)):
        total += part
    total /= max(1, np.count_nonzero(chosen))
    return total


def _share_not_finite(patterns: Patterns) -> NDArray[np.float64]:
    if not np.issubdtype(patterns.dtype, np.floating):
        return np.zeros(patterns.shape[1:])
    looked_at = _spread_evenly(len(patterns), 256).tolist()
    counts = np.zeros(patterns.shape[1:])
    too_large = []
    for index in looked_at:
        size = np.abs(patterns.read_raw(index))
        counts += ~(size <= LARGEST)  # NaN is not
        if ((size > LARGEST) & (size < np.inf)).any():
            too_large.append(index)
    if too_large:
        _warn_too_large(patterns, too_large, len(looked_at))
    return counts / len(looked_at)


def _warn_too_large(patterns: Patterns, found: list[int], n_looked_at: int) -> None:
    shown = ", ".join(map(str, found[:SHOWN])) + (", …" if len(found) > SHOWN else "")
    message = (
        f"{patterns.files[0]}: {len(found)} of the {n_looked_at} patterns looked at "
        f"hold values beyond ±{LARGEST:.1e}, which count as 0: {shown}. No detector "
        "records such values; look at how the file was written."
    )
    warnings.warn(message, stacklevel=4)


def _check_finite(patterns: Patterns, not_finite: NDArray[np.float64]) -> None:
    if (not_finite[~patterns.bad_pixels] < 1).any():
        return
    problem = (
        "every value is NaN or infinite, in all patterns that were looked at. Expected "
        "photon counts or ADU. Write the file again, or name other patterns: dataset=."
    )
    raise PatternsFileError(patterns.files[0], [problem])


def _check_alike(
    patterns: Patterns, mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> None:
    """Warn of patterns among which there is nothing to find."""
    highest = np.abs(mean).max()
    alike = len(patterns) > 1 and spread.max() <= ROUNDING * highest
    if highest > 0 and not alike:
        return
    what = "all patterns are alike, pixel by pixel" if highest else "every value is 0"
    message = (
        f"{patterns.files[0]}: {what}, in {len(patterns):,} patterns of "
        f"{patterns.layout.patterns}: there is nothing to tell them apart by. Look at "
        "how the file was written, or name other patterns: dataset=."
    )
    warnings.warn(message, stacklevel=3)


def _spread_evenly(n_patterns: int, n_sampled: int) -> NDArray[np.int64]:
    chosen = np.linspace(0, n_patterns - 1, min(n_sampled, n_patterns))
    return chosen.astype(np.int64)


SMALLEST_SHADOW = 9  # pixels


def propose_bad_pixels(
    measurements: Measurements, bad_pixels: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Name pixels that do not behave like their neighbours.

    Each pixel's mean over the patterns is compared with the median of the good pixels
    in the 7 × 7 pixels around it. *Hot* means more than 5 times that median and 10
    robust standard deviations above it; *dead* means no signal at all, ever, where at
    least half of a bright neighbourhood has some; *not finite* means NaN or infinite in
    at least one pattern in a hundred. The bar is high: what is proposed is meant to be
    accepted after a glance at the picture.

    Parameters
    ----------
    measurements
        Of the whole stack.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
    dict
        "hot", "dead", "not finite": (rows, columns) bool each.
    """
    powder = np.where(bad_pixels, np.nan, measurements.powder)
    around = median_around(powder)
    residual = powder - around
    noise = 1.4826 * median_around(np.abs(residual))
    n_patterns = len(measurements.photons)
    dead = _never_lit(measurements)
    with np.errstate(invalid="ignore"):
        hot = (residual > 10 * noise) & (powder > 5 * np.maximum(around, 0))
        dead &= around * n_patterns > 20
        hot &= powder * n_patterns > 20
    return {
        "hot": hot & ~bad_pixels,
        "dead": dead & ~bad_pixels,
        "not finite": (measurements.not_finite >= 0.01) & ~bad_pixels,
    }


def propose_shadows(
    measurements: Measurements, bad_pixels: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find gaps between modules and beam stops that no mask leaves out.

    A shadow is a connected region of at least 9 pixels that never had a signal, where
    at least half of the good pixels within two pixels of it had more than 20 in all.
    The dark corners of a detector are none: what is around them is dark too.

    Parameters
    ----------
    measurements
        Of the whole stack.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
        (rows, columns) bool.
    """
    from scipy import ndimage

    total = measurements.powder * len(measurements.photons)
    silent = _never_lit(measurements) & ~bad_pixels
    regions, _ = ndimage.label(silent)
    shadows = np.zeros(silent.shape, np.bool_)
    for number, where in enumerate(ndimage.find_objects(regions), start=1):
        wider = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in where)
        region = regions[wider] == number
        around = ndimage.binary_dilation(region, np.ones((5, 5))) & ~region
        lit = total[wider][around & ~bad_pixels[wider]] > 20
        is_large = np.count_nonzero(region) >= SMALLEST_SHADOW
        if is_large and 2 * np.count_nonzero(lit) >= lit.size > 0:
            shadows[wider] |= region
    return shadows


def median_around(image: NDArray[np.float64], size: int = 7) -> NDArray[np.float64]:
    """Return the median of the finite pixels in the square around each pixel."""
    padded = np.pad(image, size // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    flat = np.sort(windows.reshape(*image.shape, -1), axis=-1)  # NaN sorts last
    n_finite = np.isfinite(flat).sum(axis=-1)
    low, high = np.maximum(n_finite - 1, 0) // 2, n_finite // 2
    at = np.stack([low, np.minimum(high, flat.shape[-1] - 1)], axis=-1)
    median = np.take_along_axis(flat, at, axis=-1).mean(axis=-1)
    return np.where(n_finite > 0, median, np.nan)


def _never_lit(measurements: Measurements) -> NDArray[np.bool_]:
    """Return the pixels without any signal in the whole stack, (rows, columns)."""
    dark: NDArray[np.bool_] = (measurements.powder == 0) & (measurements.spread == 0)
    return dark
