"""Pixels that are no measurement, found from what all patterns together show.

Every pixel is compared with the others at its distance from the beam and with those
around it. What is found is plain: it cannot be chance.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.physics.geometry import find_centre, number_rings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Edge = Literal["symmetric", "constant"]  # how a picture goes on beyond its edge

CERTAIN = 7.0  # -ln of the chance that anything in the whole picture is taken wrongly
MOSTLY = 0.5  # a pixel without a value in a larger share of the patterns is left out
DARK = 0.05  # share of the light of its surroundings that a shadow has at most
DIM = 0.5  # the same of a pixel that is worth a look
SMALLEST_SHADOW = 9  # pixels; fewer are dead pixels
# A region of m pixels can have about 4.06 ** m shapes: so many chances to be dark.
SHAPES_PER_PIXEL = float(np.log(4.06))
LEAST_EXPECTED = 2.0  # patterns in which a pixel of a shadow should have been lit
SURE = 5.0  # standard deviations
ROUGH = 1024  # pixels along a side show well enough where the centre is
AT_ONCE = 2**15  # pixels whose surroundings are in memory
MEANING = {
    "constant": "one value in all patterns; patterns looked at",
    "not finite": "NaN or infinite; share of the patterns",
    "dead": "never lit; lit so often by its surroundings, in patterns",
    "hot": "lit too often or too bright; times its surroundings",
    "flickering": "varies too much; variance, times its surroundings",
    "shadow": "dark among lit pixels; minus the logarithm of the chance of that",
    "dim": "less than half the light of its surroundings; share of it",
}
SINGLE_PIXELS = ("constant", "not finite", "dead", "hot", "flickering")


@dataclass
class PixelSums:
    """What each pixel did in all patterns; patterns of one value count nowhere.

    Attributes
    ----------
    n_patterns
        Patterns that are not one value all over.
    lit_threshold
        A pixel is lit from this value on, in the file's unit.
    n_finite
        (rows, columns) int64: patterns in which the pixel has a value: not NaN, not
        infinite, not too large for float32. The others count nowhere.
    n_lit
        (rows, columns) uint32: patterns in which it is lit.
    total, squares
        (rows, columns) float64: sum of its values and of their squares.
    lowest, highest
        (rows, columns) float32: extremes of its values; inf and -inf without any.
    """

    n_patterns: int
    lit_threshold: float
    n_finite: NDArray[np.int64]
    n_lit: NDArray[np.uint32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        values: NDArray[np.float32],
        lit_threshold: float,
        finite: NDArray[np.bool_] | None = None,
        doubled: Floats | None = None,
    ) -> "PixelSums":
        """Sum up some patterns.

        Parameters
        ----------
        values
            (m, rows, columns), 0 where they are not finite.
        lit_threshold
            In the unit of the values.
        finite
            (m, rows, columns); None if all are.
        doubled
            The values as float64, where the caller has them.
        """
        lit = (values >= lit_threshold).view(np.uint8)  # sums of bytes are fastest
        narrow = np.uint8 if len(values) <= np.iinfo(np.uint8).max else np.uint32
        doubled = values.astype(np.float64) if doubled is None else doubled
        low = high = values
        n_finite = np.full(values.shape[1:], len(values))
        if finite is not None:
            n_finite = np.count_nonzero(finite, axis=0)
            low = np.where(finite, values, np.float32(np.inf))
            high = np.where(finite, values, np.float32(-np.inf))
        return cls(
            n_patterns=len(values),
            lit_threshold=lit_threshold,
            n_finite=n_finite,
            n_lit=np.add.reduce(lit, axis=0, dtype=narrow).astype(np.uint32),
            total=doubled.sum(axis=0),
            squares=np.einsum("nij,nij->ij", doubled, doubled),
            lowest=low.min(axis=0, initial=np.inf),
            highest=high.max(axis=0, initial=-np.inf),
        )

    def add(self, other: "PixelSums") -> None:
        """Add the sums of other patterns."""
        self.n_patterns += other.n_patterns
        self.n_finite += other.n_finite
        self.n_lit += other.n_lit
        self.total += other.total
        self.squares += other.squares
        np.minimum(self.lowest, other.lowest, out=self.lowest)
        np.maximum(self.highest, other.highest, out=self.highest)

    def subtract(self, other: "PixelSums") -> None:
        """Take the sums of some patterns out again; the extremes stay."""
        self.n_patterns -= other.n_patterns
        self.n_finite -= other.n_finite
        self.n_lit -= other.n_lit
        self.total -= other.total
        self.squares -= other.squares


class Proposal(NamedTuple):
    """Pixels of one kind that should be left out, or looked at.

    Attributes
    ----------
    pixels
        (rows, columns) bool.
    evidence
        (rows, columns) float64: the number that decided, `MEANING` says which; NaN
        where nothing is proposed. All pixels of a shadow share one.
    """

    pixels: Bools
    evidence: Floats


def find_defects(sums: PixelSums, bad_pixels: Bools) -> dict[str, Proposal]:
    """Find pixels that are no measurement, by what all patterns together show.

    *Constant*: one value in all patterns, other than the one that the good pixels start
    from. *Not finite*: NaN or infinite in more than half of the patterns. *Hot*: lit
    three times as often, or five times as bright, as the brighter ones of its
    surroundings. *Flickering*: ten times the variance, and not by a single event.
    *Dead* and *shadow* (9 pixels and more): never lit, or less than a twentieth of the
    light, where chance makes such a region with a probability below e⁻⁷. *Dim*: less
    than half the light in 9 pixels or more. Surroundings are the pixels around and the
    ring at the same distance from the centre; the one that makes a pixel less
    conspicuous counts.

    Parameters
    ----------
    sums
        Over the patterns.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
    dict
        By kind, in the order of `MEANING`.
    """
    search = _Search(sums, bad_pixels)
    found = search.find() if search.varies.any() else {}
    nothing = Proposal(np.zeros_like(bad_pixels), np.full(bad_pixels.shape, np.nan))
    return {kind: found.get(kind, nothing) for kind in MEANING}


def find_noise_limit(values: NDArray[Any]) -> float:
    """Return the value that noise does not reach, in the unit of the values.

    Six robust standard deviations (median absolute deviation × 1.4826) above the
    median; the next value above the median if more than half of them are alike.
    """
    middle = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - middle)))
    if noise > 0:
        return middle + 6 * noise
    return float(np.nextafter(np.float32(middle), np.float32(np.inf)))


class _Search:
    """One look at all pixels; what one kind finds is left out when the next is sought.

    Attributes
    ----------
    varies
        (rows, columns) bool: pixels that have values, and not always the same.
    """

    def __init__(self, sums: PixelSums, bad_pixels: Bools) -> None:
        self._sums = sums
        self._n = np.maximum(sums.n_finite, 1)
        has_values = (sums.n_finite >= (1 - MOSTLY) * sums.n_patterns) & ~bad_pixels
        self._not_finite = ~has_values & ~bad_pixels
        self._constant = has_values & (sums.lowest == sums.highest)
        self.varies = has_values & ~self._constant
        self._good = has_values

    def find(self) -> dict[str, Proposal]:
        """Return what is proposed, by kind."""
        sums = self._sums
        missing = 1 - sums.n_finite / max(sums.n_patterns, 1)
        found = {"not finite": _propose(self._not_finite, missing)}
        for kind, find in (
            ("constant", self._find_constant),
            ("hot", self._find_hot),
            ("flickering", self._find_flickering),
        ):
            found[kind] = find()
            self._good = self._good & ~found[kind].pixels
        return found | self._find_dark()

    def _find_constant(self) -> Proposal:
        """Find constant pixels at a value other than that of a good one without light.

        A value that good pixels have too may come twice in a row by chance, say in half
        of the cases; one below or above all of theirs may not.
        """
        lowest, value = self._sums.lowest[self.varies], self._sums.lowest
        highest = self._sums.highest[self.varies].max()
        often = (self._n - 1) * np.log(2) > np.log(value.size) + CERTAIN
        plain = often | (value < lowest.min()) | (value > highest)
        found = self._constant & plain & (value != np.median(lowest))
        return _propose(found, self._sums.n_finite)

    @cached_property
    def _floor(self) -> float:
        """Value of a good pixel without light: 0 for counts; else of the darkest."""
        lowest = self._sums.lowest[self.varies]
        usual = np.median(lowest)
        if np.mean(lowest == usual) > MOSTLY:
            return float(usual)
        return float(np.quantile((self._sums.total / self._n)[self.varies], 0.01))

    @cached_property
    def _unit(self) -> float:
        """What makes a pixel lit: a photon, or what stands out of the noise."""
        return max(self._sums.lit_threshold - self._floor, 0.0)

    @cached_property
    def _lit(self) -> Floats:
        """Share of the patterns in which a pixel is lit."""
        return np.asarray(self._sums.n_lit / self._n)

    @cached_property
    def _highest(self) -> Floats:
        """Highest value, 0 without any."""
        return np.where(self._sums.n_finite > 0, self._sums.highest, 0.0)

    @cached_property
    def _light(self) -> Floats:
        """Mean above the floor without the highest value: no single event counts."""
        mean = (self._sums.total - self._highest) / np.maximum(self._n - 1, 1)
        return np.asarray(np.maximum(mean - self._floor, 0))

    @cached_property
    def _variance(self) -> Floats:
        """Variance without the highest value."""
        n = np.maximum(self._n - 1, 1)
        mean = (self._sums.total - self._highest) / n
        square = (self._sums.squares - self._highest**2) / n
        return np.asarray(np.maximum(square - mean**2, 0))

    @cached_property
    def _rings(self) -> "_Rings":
        lit = self._good & (self._sums.n_lit > 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rings about a wrong one find nothing
            centre = _find_centre_roughly(np.where(lit, self._light, 0), lit)
        return _Rings(centre, lit.shape)

    def _find_hot(self) -> Proposal:
        usual, light = map(self._brighter_ring, (self._lit, self._light))
        at = self._good & self._is_hot(usual, light)
        if at.any():  # what is around raises both, so that nothing else can be hot
            places = _nearest(self._good)
            for found, values in ((usual, self._lit), (light, self._light)):
                found[at] = np.maximum(found[at], _brighter_around(values[places], at))
            at &= self._is_hot(usual, light)
        times = np.maximum(
            self._sums.n_lit / np.maximum(usual * self._n, 1),
            self._light / np.maximum(light, (self._unit or 1) / self._n),
        )
        return _propose(at, times)

    def _is_hot(self, usual: Floats, light: Floats) -> Bools:
        """Tell where a pixel is lit more often than usual, or has far more light."""
        n, n_lit, unit = self._n, self._sums.n_lit, self._unit
        expected = usual * n
        often = n_lit > 3 * expected + 5 * np.sqrt(expected) + 20
        noise = np.sqrt(np.maximum(self._variance, unit * light) * n)
        bright = self._light * n > 5 * (light * n + noise) + 20 * unit
        bright &= n_lit > np.maximum(0.05 * n, SURE)
        return np.asarray(often | bright)

    def _find_flickering(self) -> Proposal:
        variance = np.where(self._good, self._variance, 0)
        usual = self._brighter_ring(variance)
        least = 50 * self._unit**2 / self._n
        at = self._good & (variance > 10 * usual) & (variance > least)
        if at.any():
            beside = _rank_around(variance, at, 3, -2, mode="constant")
            near = _brighter_around(variance[_nearest(self._good)], at)
            usual[at] = np.maximum.reduce([usual[at], beside, near])
            at &= variance > 10 * usual
        return _propose(at, variance / np.maximum(usual, np.maximum(least, 1e-30)))

    def _find_dark(self) -> dict[str, Proposal]:
        """Find dead pixels, shadows and what is dim."""
        from scipy import ndimage

        never = self._good & (self._sums.n_lit == 0)
        lit = self._good & ~never
        ring_light = self._darker_ring(self._light, lit, _lift_centre)
        lit &= ~self._is_dim(ring_light)
        if not lit.any():
            return {}
        light, share = ring_light.copy(), self._darker_ring(self._lit, lit)
        at = self._good & self._is_dim(light)
        at |= never & (share * self._n >= LEAST_EXPECTED)
        around = tuple(index[at] for index in _nearest_firm(lit))
        places = _nearest(lit)
        for found, values in ((light, self._light), (share, self._lit)):
            median = _median_at(values[places], around)
            found[at] = np.minimum(found[at], median)
        expected = share * self._n  # patterns
        dim = self._good & self._is_dim(light)
        # Counts show that a pixel is never lit; its noise, that it has hardly light.
        dark = dim & (self._light < DARK * light) & (self._variance > 0)
        gain = np.maximum(expected - SHAPES_PER_PIXEL, np.where(dark, SURE**2 / 2, 0))
        regions, _ = ndimage.label(dark | (never & (expected >= LEAST_EXPECTED)))
        evidence, size = _sum_regions(gain, regions)
        certain = evidence > np.log(evidence.size) + CERTAIN
        large = size >= SMALLEST_SHADOW
        shadow = _extend(np.where(certain & large, evidence, 0), never)
        dead = certain & ~large & ~(shadow > 0)
        dim &= ~certain & ~(shadow > 0)
        dim &= _sum_regions(gain, ndimage.label(dim)[0])[1] >= SMALLEST_SHADOW
        return {
            "dead": _propose(dead, expected),
            "shadow": _propose(shadow > 0, shadow),
            "dim": _propose(dim, self._light / np.where(light > 0, light, 1)),
        }

    def _is_dim(self, light: Floats) -> Bools:
        """Tell where a pixel has plainly less than half of this light."""
        lacking = (light - self._light) * self._n
        plain = lacking > SURE * np.sqrt(self._variance * self._n) + 20 * self._unit
        return np.asarray(plain & (self._light < DIM * light))

    def _brighter_ring(self, values: Floats) -> Floats:
        """Return what the brighter ones on the ring of each pixel have."""
        from scipy import ndimage

        on_ring = np.nan_to_num(self._rings.quantiles(values, self._good, 0.75))
        widened = ndimage.maximum_filter1d(on_ring, 5, mode="nearest")
        return np.asarray(widened[self._rings.number])

    def _darker_ring(
        self,
        values: Floats,
        among: Bools,
        adjust: Callable[[Floats], Floats] = np.asarray,
    ) -> Floats:
        """Return what the darker ones of some pixels have on each pixel's ring."""
        from scipy import ndimage

        on_ring = _fill_gaps(self._rings.quantiles(values, among, 0.25))
        narrowed = ndimage.minimum_filter1d(adjust(on_ring), 5, mode="nearest")
        return np.asarray(narrowed[self._rings.number])


def _find_centre_roughly(light: Floats, lit: Bools) -> tuple[float, float]:
    """Find the centre, of a large picture from the means of squares of pixels."""
    side = -(-max(lit.shape) // ROUGH)
    if side == 1:
        return find_centre(light, ~lit)
    rows, columns = (n // side for n in lit.shape)
    total, count = (
        values[: rows * side, : columns * side]
        .reshape(rows, side, columns, side)
        .sum(axis=(1, 3), dtype=np.float64)
        for values in (light, lit)
    )
    row, column = find_centre(total / np.maximum(count, 1), count == 0)
    return row * side + (side - 1) / 2, column * side + (side - 1) / 2


def _propose(pixels: Bools, evidence: NDArray[Any]) -> Proposal:
    return Proposal(pixels, np.where(pixels, evidence, np.nan))


class _Rings:
    """The rings about the centre, one for each whole pixel of distance.

    Attributes
    ----------
    number
        (rows, columns) int: the ring of each pixel.
    """

    def __init__(self, centre: tuple[float, float], shape: tuple[int, int]) -> None:
        self.number = number_rings(centre, shape)
        self._order = np.argsort(self.number.ravel(), kind="stable")

    def quantiles(self, values: Floats, among: Bools, quantile: float) -> Floats:
        """Return a quantile of some pixels on each ring; NaN with fewer than 4."""
        taken = self._order[among.ravel()[self._order]]
        ordered = values.ravel()[taken]
        stops = np.cumsum(np.bincount(self.number.ravel()[taken]))
        found = np.full(int(self.number.max()) + 1, np.nan)
        for ring, part in enumerate(np.split(ordered, stops[:-1])):
            if part.size >= 4:
                at = int(quantile * (part.size - 1))
                found[ring] = np.partition(part, at)[at]
        return found


def _fill_gaps(profile: Floats) -> Floats:
    """Give rings without a value the lower one of the nearest rings that have one."""
    known = np.flatnonzero(np.isfinite(profile))
    if not known.size:
        return np.zeros_like(profile)
    after = np.searchsorted(known, np.arange(profile.size))
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, known.size - 1)
    lower = np.minimum(profile[known[before]], profile[known[after]])
    return np.where(np.isfinite(profile), profile, lower)


def _lift_centre(profile: Floats) -> Floats:
    """Give rings in a beam stop with stray light what the first ring outside has.

    No particle scatters less forward than around; no edge is that sharp but a shadow's.
    """
    for inside in range(1, profile.size // 8):
        outside = inside + 3
        if profile[:inside].max() < DARK * profile[outside]:
            return np.append(np.full(outside, profile[outside]), profile[outside:])
    return profile


def _nearest(wanted: Bools) -> tuple[NDArray[np.intp], ...]:
    """Return the place of the nearest wanted pixel, for each pixel."""
    from scipy import ndimage

    places = ndimage.distance_transform_edt(
        ~wanted, return_distances=False, return_indices=True
    )
    return tuple(places)


def _nearest_firm(lit: Bools) -> tuple[NDArray[np.intp], ...]:
    """Return the place of the nearest pixel that lies among lit ones."""
    from scipy import ndimage

    share, inside = (
        ndimage.uniform_filter(mask.astype(np.float32), 5, mode="constant")
        for mask in (lit, np.ones_like(lit))
    )
    firm = lit & (share >= 0.5 * inside)
    return _nearest(firm if firm.any() else lit)


def _brighter_around(values: Floats, at: Bools) -> Floats:
    """Return the 34th of the 48 pixels around some pixels, by their values, (m,)."""
    return _rank_around(values, at, 7, 33)


def _rank_around(
    values: Floats, at: Bools, size: int, rank: int, mode: Edge = "symmetric"
) -> Floats:
    """Return the value of one rank around some pixels, themselves left out, (m,)."""
    middle = size * size // 2
    parts = [
        np.partition(np.delete(around, middle, axis=1), rank, axis=1)[:, rank]
        for around in _squares(values, np.nonzero(at), size, mode)
    ]
    return np.concatenate(parts)


def _median_at(values: Floats, places: tuple[NDArray[np.intp], ...]) -> Floats:
    """Return the median of 5 × 5 pixels about some places, which may repeat, (m,)."""
    at = np.zeros(values.shape, np.bool_)
    at[places] = True
    median = np.zeros(values.shape)
    parts = [np.median(each, axis=1) for each in _squares(values, np.nonzero(at), 5)]
    median[at] = np.concatenate(parts) if parts else 0
    return np.asarray(median[places])


def _squares(
    values: Floats,
    places: tuple[NDArray[np.intp], ...],
    size: int,
    mode: Edge = "symmetric",
) -> Iterator[Floats]:
    """Give the values in the squares about some places, (some of them, size²)."""
    padded = np.pad(values, size // 2, mode=mode)
    squares = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    for start in range(0, places[0].size, AT_ONCE):
        here = tuple(index[start : start + AT_ONCE] for index in places)
        yield squares[here].reshape(-1, size * size)


def _sum_regions(
    values: Floats, regions: NDArray[np.int32]
) -> tuple[Floats, NDArray[np.signedinteger[Any]]]:
    """Return the sum over each pixel's region and its size; 0 beside them."""
    total = np.bincount(regions.ravel(), values.ravel()).astype(np.float64)
    size = np.bincount(regions.ravel())
    total[0] = size[0] = 0
    return total[regions], size[regions]


def _extend(evidence: Floats, never: Bools) -> Floats:
    """Prolong long straight shadows over pixels never lit, to where light is rare.

    The dim end of a gap proves nothing by itself; it goes on as a line does.
    """
    found = evidence > 0
    runs = [_label_runs(found, axis) for axis in (0, 1)]
    lengths = [np.where(found, np.bincount(run.ravel())[run], 0) for run in runs]
    extended = evidence
    for axis, (along, across) in enumerate((lengths, lengths[::-1])):
        straight = found & (along >= SMALLEST_SHADOW) & (along >= 3 * across)
        run = _label_runs(found | never, axis)
        best = np.zeros(int(run.max()) + 1)
        np.maximum.at(best, run[straight], evidence[straight])
        extended = np.maximum(extended, best[run])
    return extended


def _label_runs(mask: Bools, axis: int) -> NDArray[np.int32]:
    """Return the number of each pixel's run of True along an axis; 0 is False."""
    from scipy import ndimage

    line = np.zeros((3, 3), np.bool_)
    line[:, 1] = True
    labels: NDArray[np.int32]
    labels, _ = ndimage.label(mask, line if axis == 0 else line.T)
    return labels
