"""Patterns on rings and sectors, opposite sectors together."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_REACH = 0.375  # of the shorter side; farther out there is next to nothing to compare
_MOST_RINGS = 24
_N_ANGLES = 96
_LEAST_WEIGHT = 0.3
_AT_ONCE = 16  # a few patterns side by side: one pass of the matrix serves all
_SECTORS = 16
_DIM = 0.1
_STREAK_SIGMAS = 5.0
_STREAK_SHARE = 0.2


class PolarGrid:
    """Rings and sectors about the centre, as a sparse matrix that averages pixels.

    A cell is sampled at points about one pixel apart, by linear interpolation between
    the good ones of the four pixels around each. Taking every pixel for the cell that
    its middle lies in is cheaper, but prints the pixels' own grid into the cells next
    to the centre: whatever is compared then seems not to be rotated.

    There are 96 cells in each of 24 rings (fewer rings, of 2 pixels, for a small
    pattern), out to 3/4 of the largest circle that a pattern of this size can hold.

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
    weight
        Float32, shape (n_rings, n_angles): how much of a cell is good, up to 1; 0 where
        it is less than 0.3, which is left out.
    variance
        Float32, same shape: of a cell's mean, if the variance of each pixel is 1.
    """

    n_angles = _N_ANGLES

    def __init__(
        self,
        shape: tuple[int, ...],
        centre: tuple[float, float],
        bad_pixels: NDArray[np.bool_],
    ) -> None:
        reach = _REACH * min(shape)
        self.n_rings = int(np.clip(reach // 2, 1, _MOST_RINGS))
        rings = [
            _interpolate_ring(ring, reach / self.n_rings, centre, ~bad_pixels)
            for ring in range(self.n_rings)
        ]
        sums = sparse.vstack(rings)
        weight = self._reshape(sums.sum(axis=1)).astype(np.float32)
        self.weight = np.where(weight < _LEAST_WEIGHT, np.float32(0), weight)
        normalise = sparse.diags_array(inverse(self.weight).ravel())
        self._matrix = sparse.csr_array(normalise @ sums, dtype=np.float32)
        self.variance = self._reshape(self._matrix.power(2).sum(axis=1))

    def average(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the good pixels of each cell.

        Parameters
        ----------
        patterns
            Float32, shape (n, rows, columns), finite.

        Returns
        -------
        NDArray[np.float32]
            Shape (n, n_rings, n_angles), mean per pixel in the unit of the patterns; 0
            in cells that are left out.
        """
        flat = patterns.reshape(len(patterns), -1)
        cells = np.empty((len(patterns), self._matrix.shape[0]), dtype=np.float32)
        pixels_first = np.zeros((flat.shape[1], _AT_ONCE), dtype=np.float32)
        for start in range(0, len(patterns), _AT_ONCE):
            some = flat[start : start + _AT_ONCE]
            pixels_first[:, : len(some)] = some.T
            averages = self._matrix @ pixels_first
            cells[start : start + _AT_ONCE] = averages.T[: len(some)]
        return self._reshape(cells)

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

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the maps of successive patterns end to end."""
        means, variances = zip(*parts, strict=True)
        return cls(np.concatenate(means), np.concatenate(variances))


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
        weights = grid.weight[:, :half], grid.weight[:, half:]
        total = weights[0] + weights[1]
        self._share = weights[0] * inverse(total), weights[1] * inverse(total)
        variances = grid.variance[:, :half], grid.variance[:, half:]
        self._variance = (
            variances[0] * self._share[0] ** 2 + variances[1] * self._share[1] ** 2
        )
        self._good = total > 0
        both_good = (weights[0] > 0) & (weights[1] > 0)
        self._both_good = both_good.astype(np.float32)
        self._scatter = (variances[0] + variances[1]) * self._both_good
        self._per_scatter = inverse(self._scatter)
        self._quantum = np.sqrt(variances[0] * variances[1])
        self._per_cell = inverse(self._good.sum(axis=1))

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
        cells = self.grid.average(patterns)
        half = self.grid.n_angles // 2
        one, other = cells[..., :half], cells[..., half:]
        mean = one * self._share[0] + other * self._share[1]
        gain = self._measure_gain(one - other, self._ring_mean(mean))
        self._replace_streaks(mean, one, other, gain)
        variance = np.einsum("nra,ra->nr", np.maximum(mean, 0), self._variance)
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

        All cells count the same, but for those with next to nothing in them. 0 where no
        two opposite cells are good: then nothing is known of the noise.
        """
        brightness = np.maximum(ring_mean, 0)
        weight = inverse(brightness + _DIM * brightness.mean(axis=1, keepdims=True))
        squares = np.square(difference) * self._per_scatter
        measured = _add_up_sectors(np.einsum("nra,nr->na", squares, weight))
        expected = _add_up_sectors((brightness * weight) @ self._both_good)
        ratio = measured * inverse(expected)
        measurable = _add_up_sectors(self._both_good).any(axis=0)
        if not measurable.any():
            return np.zeros(len(ratio), dtype=np.float32)
        gain: NDArray[np.float32] = np.median(ratio[:, measurable], axis=1)
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
        quantum = gain * self._quantum
        sigma = np.sqrt(gain * (np.maximum(smaller, 0) * self._scatter + quantum))
        limit = _STREAK_SIGMAS * sigma + _STREAK_SHARE * smaller
        streak = (np.abs(one - other) > limit) & (self._both_good > 0)
        mean[streak] = smaller[streak]


def _add_up_sectors(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add up (…, n_angles / 2) cells to (…, 16) sectors."""
    sectors = cells.reshape(*cells.shape[:-1], _SECTORS, -1)
    return np.asarray(sectors.sum(axis=-1))


def inverse(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return 1 / values, float32, and 0 where a value is not positive."""
    result = np.zeros(values.shape, dtype=np.float32)
    np.divide(1, values, out=result, where=values > 0)
    return result


def _interpolate_ring(
    ring: int, width: float, centre: tuple[float, float], good: NDArray[np.bool_]
) -> sparse.csr_array:
    """Make the rows of the matrix that give the cells of one ring."""
    radius, angle = _sample_points(ring * width, width)
    row = (centre[0] - radius * np.sin(angle)).reshape(_N_ANGLES, -1)
    column = (centre[1] + radius * np.cos(angle)).reshape(_N_ANGLES, -1)
    weights, cells, pixels = zip(*_linear_weights(row, column, good), strict=True)
    entries = np.concatenate(weights), (np.concatenate(cells), np.concatenate(pixels))
    return sparse.csr_array(entries, shape=(_N_ANGLES, good.size))


def _sample_points(
    inner: float, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spread points over the cells of a ring: radii, angles in radians.

    They broadcast to (n_angles, points along the arc, points along the radius).
    """
    n_radii = int(np.ceil(width))
    radius = inner + (np.arange(n_radii) + 0.5) * width / n_radii
    n_arc = int(np.ceil((inner + width) * 2 * np.pi / _N_ANGLES))
    angle = (np.arange(_N_ANGLES * n_arc) + 0.5) * 2 * np.pi / (_N_ANGLES * n_arc)
    return radius, angle.reshape(_N_ANGLES, n_arc, 1)


def _linear_weights(
    row: NDArray[np.float64], column: NDArray[np.float64], good: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.int32], NDArray[np.int32]]]:
    """Yield weight, cell and pixel for each of the four pixels around the points."""
    cell = np.broadcast_to(np.arange(len(row), dtype=np.int32)[:, None], row.shape)
    for down, right in product((0, 1), repeat=2):
        at_row = np.floor(row).astype(np.int32) + down
        at_column = np.floor(column).astype(np.int32) + right
        weight = (1 - np.abs(row - at_row)) * (1 - np.abs(column - at_column))
        inside = (at_row >= 0) & (at_row < good.shape[0])
        inside &= (at_column >= 0) & (at_column < good.shape[1])
        inside[inside] = good[at_row[inside], at_column[inside]]
        pixel = at_row[inside] * np.int32(good.shape[1]) + at_column[inside]
        yield weight[inside] / row.shape[1], cell[inside], pixel
