"""Patterns on rings and sectors, opposite sectors together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from helpers.polar.radial import angle_about, radius_from

_MOST_RINGS = 32
_MOST_ANGLES = 96
_SECTORS = 16
_STREAK_SIGMAS = 5.0
_STREAK_SHARE = 0.2


class PolarGrid:
    """Rings and sectors about the centre, as a sparse matrix that adds up pixels.

    Every good pixel within the largest circle that fits a pattern of this size belongs
    to one cell. A ring is at least 2 pixels wide: 32 rings of 96 cells for 260 × 257
    pixels, fewer for smaller patterns.

    Parameters
    ----------
    shape
        Rows and columns of a pattern.
    centre
        Row and column of the centre in pixels.
    bad_pixels
        Bool, shape (rows, columns), True = leave out.

    Attributes
    ----------
    n_rings, n_angles
        Shape of a map. Cell (r, a) lies between the angles a and a + 1 times
        360 / `n_angles` degrees, counter-clockwise as displayed from the right.
    ring_pixels
        Width of a ring.
    n_pixels
        Float32, shape (n_rings, n_angles): good pixels in each cell.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        centre: tuple[float, float],
        bad_pixels: NDArray[np.bool_],
    ) -> None:
        reach = min(shape) / 2
        self.n_rings = int(np.clip(reach // 2, 1, _MOST_RINGS))
        whole = 2 * _SECTORS
        self.n_angles = int(np.clip(reach // 40 * whole, whole, _MOST_ANGLES))
        self.ring_pixels = reach / self.n_rings
        radius, angle = radius_from(centre, shape), angle_about(centre, shape)
        cell = np.floor(radius / self.ring_pixels).astype(np.intp) * self.n_angles
        cell += np.floor(angle * self.n_angles / 360).astype(np.intp) % self.n_angles
        pixel = np.flatnonzero(~bad_pixels & (radius < reach))
        size = (self.n_rings * self.n_angles, radius.size)
        ones = np.ones(len(pixel), dtype=np.float32)
        entries = (ones, (cell.ravel()[pixel], pixel.astype(np.int32)))
        self._matrix = sparse.csr_array(entries, shape=size)
        self.n_pixels = self._reshape(self._matrix.sum(axis=1)).astype(np.float32)

    def add_up(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up the pixels of each cell.

        Parameters
        ----------
        patterns
            Float32, shape (n, rows, columns), finite.

        Returns
        -------
        NDArray[np.float32]
            Shape (n, n_rings, n_angles), in the unit of the patterns.
        """
        sums = np.empty((len(patterns), self._matrix.shape[0]), dtype=np.float32)
        # one at a time: a pattern stays in the cache, a transposed block does not
        for pattern, out in zip(patterns, sums, strict=True):
            out[:] = self._matrix @ pattern.ravel()
        return self._reshape(sums)

    def _reshape(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        return cells.reshape(*cells.shape[:-1], self.n_rings, self.n_angles)


class HalfTurnMaps(NamedTuple):
    """Patterns averaged with themselves after half a turn, on rings and sectors.

    Attributes
    ----------
    mean
        Float32, shape (n, n_rings, n_angles / 2): mean per pixel, in the unit of the
        patterns. A cell without a good pixel, here and opposite, has its ring's mean;
        a ring without any is 0.
    variance
        Float32, shape (n, n_rings): counting noise, the sum of the variances of the
        means around each ring.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


class HalfTurn:
    """Average patterns with themselves after half a turn: Friedel's law.

    The halves say the same twice. Where only one is good, it stands for both. What they
    disagree in is noise, and is measured as such. Where one exceeds the other by far
    more than noise (charge that ran over, a hot pixel, a cosmic ray), the smaller one
    stands for both.

    Parameters
    ----------
    grid
        Rings and sectors.

    Notes
    -----
    The variance of a pixel is taken as gain × mean. For photon counts the gain is 1; it
    is measured in each pattern by itself, so that patterns in ADU, or divided by the
    pulse energy, are treated alike. In each of 16 sectors the squared differences of
    opposite cells are added up and divided by what a gain of 1 makes expect; the gain
    is the median of the sectors, so a streak in some of them does not change it.
    """

    def __init__(self, grid: PolarGrid) -> None:
        self.grid = grid
        half = grid.n_angles // 2
        n_one, n_other = grid.n_pixels[:, :half], grid.n_pixels[:, half:]
        self._per_pixel = _inverse(n_one), _inverse(n_other)
        self._per_both = _inverse(n_one + n_other)
        self._good = n_one + n_other > 0
        self._both_good = (n_one > 0) & (n_other > 0)
        self._scatter = np.where(self._both_good, sum(self._per_pixel), 0)
        self._per_cell = _inverse(self._good.sum(axis=1))

    def average(self, patterns: NDArray[np.float32]) -> HalfTurnMaps:
        """Resample patterns and average what lies opposite.

        Parameters
        ----------
        patterns
            Float32, shape (n, rows, columns), clean: finite, bad pixels 0.

        Returns
        -------
        HalfTurnMaps
            Means and the noise in them.
        """
        sums = self.grid.add_up(patterns)
        half = self.grid.n_angles // 2
        mean = (sums[..., :half] + sums[..., half:]) * self._per_both
        one = sums[..., :half] * self._per_pixel[0]
        other = sums[..., half:] * self._per_pixel[1]
        gain = self._measure_gain(one - other, self._ring_mean(mean))
        self._replace_streaks(mean, one, other, gain)
        variance = np.einsum("nra,ra->nr", np.maximum(mean, 0), self._per_both)
        ring_mean = self._ring_mean(mean)
        mean = np.where(self._good, mean, ring_mean[..., None])
        return HalfTurnMaps(mean, variance * gain[:, None])

    def _ring_mean(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        average: NDArray[np.float32] = mean.sum(axis=-1) * self._per_cell
        return average

    def _measure_gain(
        self, difference: NDArray[np.float32], ring_mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Compare opposite cells: variance of a pixel per its mean, shape (n,).

        Bright rings count by their relative, dim ones by their absolute differences.
        """
        n, n_rings, half = difference.shape
        sectors = (n_rings, _SECTORS, half // _SECTORS)
        squares = np.square(difference) * _inverse(self._scatter)
        squares = squares.reshape(n, *sectors).sum(axis=-1)
        n_cells = self._both_good.reshape(sectors).sum(axis=-1, dtype=np.float32)
        brightness = np.maximum(ring_mean, 0)
        weight = _inverse(brightness + brightness.mean(axis=1, keepdims=True))
        measured = np.einsum("nrs,nr->ns", squares, weight)
        expected = (brightness * weight) @ n_cells
        ratio = measured * _inverse(expected)
        gain: NDArray[np.float32] = np.median(ratio[:, n_cells.any(axis=0)], axis=1)
        return gain

    def _replace_streaks(
        self,
        mean: NDArray[np.float32],
        one: NDArray[np.float32],
        other: NDArray[np.float32],
        gain: NDArray[np.float32],
    ) -> None:
        """Where opposite cells differ by more than noise, put the smaller into `mean`.

        A single photon, and 20 % of the smaller one, are never too much.
        """
        smaller = np.minimum(one, other)
        gain = gain[:, None, None]
        quantum = gain * np.sqrt(self._per_pixel[0] * self._per_pixel[1])
        sigma = np.sqrt(gain * (np.maximum(smaller, 0) * self._scatter + quantum))
        limit = _STREAK_SIGMAS * sigma + _STREAK_SHARE * smaller
        streak = self._both_good & (np.abs(one - other) > limit)
        mean[streak] = smaller[streak]


def _inverse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / values, and 0 where that is impossible."""
    inverse = np.zeros(values.shape, dtype=np.float32)
    np.divide(1, values, out=inverse, where=values > 0)
    return inverse
