"""Sums of one pass over the stack, and the thresholds and bad pixels they suggest."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError, PatternsFileError
from helpers.experiment.no_measurement import (
    KINDS,
    MEASURED,
    NUMBERS,
    Look,
    PatternCheck,
    find_no_measurements,
)
from helpers.experiment.photon_scale import find_left_noise
from helpers.patterns import Patterns, reused_array
from helpers.physics import (
    MEANING,
    SINGLE_PIXELS,
    PixelSums,
    Proposal,
    find_defects,
    find_noise_limit,
)

LARGEST = float(np.finfo(np.float32).max)  # patterns are float32 once they are clean
ROUNDING = 1e-6  # of a standard deviation that is 0, as a share of the mean
HALF_A_PHOTON = 0.5
N_SIGMA = 4.5  # of the noise, beside photons: few pixels in a million are lit by it
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
        in the patterns' unit.
    spread
        (rows, columns) float64: standard deviation over them, likewise.
    not_finite
        (rows, columns) float64: share of the measurements in which the pixel is NaN,
        infinite or too large for float32.
    no_measurement
        (n,) uint8: 0 where a pattern is a measurement; else why it is none, by the
        numbers of `NO_MEASUREMENT`. Such a pattern counts in no powder.
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
    no_measurement: NDArray[np.uint8]
    lost_pixels: NDArray[np.int64] | None = None
    pixels: PixelSums | None = None

    @property
    def is_measurement(self) -> NDArray[np.bool_]:
        """(n,) bool."""
        return np.asarray(self.no_measurement == MEASURED)


def suggest_lit_threshold(patterns: Patterns, n_sampled: int = 64) -> float:
    """Choose the value from which a pixel counts as lit, in the patterns' unit.

    Photon counts: 1. Otherwise what read noise does not reach in a sample; see
    `helpers.physics.find_noise_limit`. Where the gain is known, the noise is that of
    the values below 0, and half a photon the least.

    Parameters
    ----------
    patterns
        The stack.
    n_sampled
        How many patterns, evenly spread, are looked at.
    """
    if patterns.unit == "photons" and not patterns.is_scaled:
        return 1.0
    sample = patterns[_spread_evenly(len(patterns), n_sampled)]
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


def measure_patterns(patterns: Patterns, lit_threshold: float) -> Measurements:
    """Pass once over the stack and sum what the first look needs.

    Parameters
    ----------
    patterns
        The stack.
    lit_threshold
        A pixel is lit from this value on, in the patterns' unit.

    Raises
    ------
    PatternsFileError
        If nothing but NaN and infinite values is in the patterns.

    Warns
    -----
    UserWarning
        If all patterns are alike, or values are too large for float32 and count as 0.
    """
    check = PatternCheck.of(patterns, lit_threshold)
    measure = _Measure(patterns.bad_pixels, check)
    pixels = PixelSums.of(np.zeros((0, *patterns.shape[1:]), np.float32), lit_threshold)
    parts = []
    blocks = patterns.map(measure, keep_nan=True, join=_Part.join, progress="Measure")
    for _, block in blocks:
        parts += block.of_patterns
        pixels.add(block.pixels)
    photons, is_infinite, *looks = map(np.concatenate, zip(*parts, strict=True))
    look = Look(*looks)
    _check_not_too_large(patterns, np.flatnonzero(is_infinite))
    _check_finite(patterns, look.lost_pixels)
    none = find_no_measurements(patterns, check, look, photons, pixels.total)
    _correct(pixels, patterns, measure, look, none == MEASURED)
    only_value = look.only_value[none == MEASURED]
    powder, spread = _make_powder(pixels, only_value, patterns.bad_pixels)
    _check_alike(patterns, powder, spread)
    not_finite = 1 - pixels.n_finite / max(pixels.n_patterns, 1)
    return Measurements(
        photons,
        look.lit_tiles.sum(axis=1, dtype=np.int64),
        powder,
        spread,
        not_finite,
        none,
        look.lost_pixels,
        pixels,
    )


def _correct(
    pixels: PixelSums,
    patterns: Patterns,
    measure: "_Measure",
    look: Look,
    is_measurement: NDArray[np.bool_],
) -> None:
    """Add to the sums what was held back, and take out what is no measurement."""
    is_constant = ~np.isnan(look.only_value)
    held_back = np.flatnonzero(is_measurement & ~look.is_counted & ~is_constant)
    wrong = np.flatnonzero(~is_measurement & look.is_counted)
    if held_back.size:
        for _, part in patterns.map(
            measure.add_up, held_back, keep_nan=True, join=_add_sums
        ):
            pixels.add(part)
    if wrong.size:
        for _, part in patterns.map(
            measure.add_up, wrong, keep_nan=True, join=_add_sums
        ):
            pixels.subtract(part)


def _add_sums(one: PixelSums, other: PixelSums) -> PixelSums:
    one.add(other)
    return one


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


def describe_no_measurements(measurements: Measurements) -> str:
    """Name and count the patterns that are no measurement; "" without any.

    Parameters
    ----------
    measurements
        From `measure_patterns`.

    Warns
    -----
    UserWarning
        If there are any, since nothing behind uses them.
    """
    none = measurements.no_measurement
    if measurements.is_measurement.all():
        return ""
    lines = [
        f"{found.size:,} {kind} ({KINDS[kind]}): {_name_some(found)}"
        for kind, number in NUMBERS.items()
        if (found := np.flatnonzero(none == number)).size
    ]
    n_out = np.count_nonzero(none != MEASURED)
    message = (
        f"{n_out:,} of {none.size:,} patterns are no measurement and are left out "
        f"everywhere: {'; '.join(lines)}."
    )
    warnings.warn(message, stacklevel=2)
    return message


def name_no_measurements(measurements: Measurements) -> NDArray[np.str_]:
    """Return the kind of each pattern that is no measurement, "" of all others, (n,).

    Parameters
    ----------
    measurements
        From `measure_patterns`, or of a work folder.
    """
    return np.array(["", *KINDS])[measurements.no_measurement]


class _Part(NamedTuple):
    # photons, which are infinite, `Look`
    of_patterns: list[tuple[NDArray[Any], ...]]
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
    check: PatternCheck

    def __call__(self, values: NDArray[np.float32]) -> _Part:
        is_infinite = np.zeros(len(values), np.bool_)
        finite = self._clean(values, is_infinite)
        lost = np.zeros(len(values), np.int64)
        if finite is not None:
            lost = np.count_nonzero(~finite & ~self.bad_pixels, axis=(1, 2))
        lit = values >= self.check.lit_threshold
        look = self.check(values, lost, lit)
        doubled = reused_array("doubled", values.shape, np.float64)
        doubled[...] = values
        photons = _sum_positive(values, doubled)
        pixels = self._add_up(values, doubled, finite, look.is_counted)
        return _Part([(photons, is_infinite, *look)], pixels)

    def add_up(self, values: NDArray[np.float32]) -> PixelSums:
        """Sum up for each pixel alone, whatever the patterns show."""
        finite = self._clean(values, np.zeros(len(values), np.bool_))
        return PixelSums.of(values, self.check.lit_threshold, finite)

    def _clean(
        self, values: NDArray[np.float32], is_infinite: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """Set to 0 what is bad or has no value; return what has, None if all have."""
        finite = np.isfinite(values)
        all_finite = finite.all()
        if not all_finite:
            is_infinite |= np.isinf(values).any(axis=(1, 2))
            values[~finite] = 0
        values[:, self.bad_pixels] = 0
        return None if all_finite else finite

    def _add_up(
        self,
        values: NDArray[np.float32],
        doubled: NDArray[np.float64],
        finite: NDArray[np.bool_] | None,
        count: NDArray[np.bool_],
    ) -> PixelSums:
        if not count.all():
            values, doubled = values[count], doubled[count]
            finite = None if finite is None else finite[count]
        return PixelSums.of(values, self.check.lit_threshold, finite, doubled)


def _sum_positive(
    values: NDArray[np.float32], doubled: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of the values above 0 of each pattern, (m,)."""
    flat = doubled.reshape(len(doubled), -1)
    if values.min(initial=0) < 0:
        flat = np.maximum(flat, 0)
    return np.asarray(flat.sum(axis=1))


def _make_powder(
    pixels: PixelSums, only_value: NDArray[np.float64], bad_pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation; patterns without a photon count."""
    if not pixels.n_patterns:
        mean = np.where(bad_pixels, 0, np.mean(only_value))
        return mean, np.zeros_like(mean)
    n = np.maximum(pixels.n_finite + np.count_nonzero(only_value == 0), 1)
    mean = pixels.total / n
    return mean, np.sqrt(np.maximum(pixels.squares / n - mean**2, 0))


def _sum(block: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(block.sum(axis=0, dtype=np.float64))


def make_powder(patterns: Patterns, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over some patterns, (rows, columns), in the patterns' unit.

    Parameters
    ----------
    patterns
        The stack.
    chosen
        (n,) bool: which patterns count, if they are measurements. Without any the
        powder is 0 everywhere.
    """
    index = np.flatnonzero(chosen & patterns.is_measurement)
    total = np.zeros(patterns.shape[1:])
    for _, block in patterns.map(_sum, index, join=np.add):
        total += block
    total /= max(1, index.size)
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


Bools = NDArray[np.bool_]


def find_bad_pixels(
    measurements: Measurements,
    bad_pixels: Bools,
    centre: tuple[float, float] | None = None,
) -> dict[str, Proposal]:
    """Find pixels that are no measurement; see `helpers.physics.find_defects`.

    Parameters
    ----------
    measurements
        Of the whole stack, from `measure_patterns`.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.
    centre
        (row, column) of the beam; found from the powder without it.

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
    return find_defects(measurements.pixels, bad_pixels, centre)


def propose_bad_pixels(
    measurements: Measurements, bad_pixels: Bools
) -> dict[str, Bools]:
    """Return the single pixels that `find_bad_pixels` finds, (rows, columns) by kind.

    "constant", "not finite", "dead", "hot" and "flickering"; parameters and errors are
    those of `find_bad_pixels`.
    """
    found = find_bad_pixels(measurements, bad_pixels)
    return {kind: found[kind].pixels for kind in SINGLE_PIXELS}


def propose_shadows(measurements: Measurements, bad_pixels: Bools) -> Bools:
    """Return the gaps and beam stops that `find_bad_pixels` finds, (rows, columns)."""
    return find_bad_pixels(measurements, bad_pixels)["shadow"].pixels


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
