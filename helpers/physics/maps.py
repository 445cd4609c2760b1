"""Polar maps and Patterson maps of patterns, about the centre.

Polar maps are means of the pixels in a cell, folded by Friedel. The Patterson map is
the map of all distances in what scattered: a single particle scatters into smooth
speckles no finer than its size allows, and two particles add stripes, the finer the
further they are apart. The Fourier transform of a pattern sorts its structure by that
fineness: whatever lies further from the middle than the particle's diameter comes from
a second particle, however weak.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from helpers.physics.geometry import Window, angle_about, number_rings, radius_from

N_ANGLES = 96
REACH = 0.375  # of the shorter side; farther out there is next to nothing to compare
_MOST_RINGS = 24
_LEAST_WEIGHT = 0.3
_MANY_PIXELS = 9

Entries = tuple[NDArray[np.floating], NDArray[np.integer], NDArray[np.integer]]


class PolarGrid:
    """Rings and sectors about the centre, as a sparse matrix that averages pixels.

    There are 96 cells in each of 24 rings (fewer rings, of 2 pixels, for a small
    pattern), out to 3/4 of the largest circle that a pattern of this size can hold.

    Parameters
    ----------
    shape, centre
        Rows and columns of a pattern; of its centre, in pixels.
    bad_pixels
        Bool, shape (rows, columns), True = leave out.

    Attributes
    ----------
    n_rings, n_angles
        Shape of a map. Cell (r, a) lies between the angles a and a + 1 times 360 /
        `n_angles` degrees, counter-clockwise as displayed from the right.
    weight
        Float32, shape (n_rings, n_angles): how much of a cell is good, up to 1; 0 where
        it is less than 0.3, which is left out.
    variance
        Float32, same shape: of a cell's mean, if the variance of each pixel is 1.
    """

    n_angles = N_ANGLES

    def __init__(
        self,
        shape: tuple[int, ...],
        centre: tuple[float, float],
        bad_pixels: NDArray[np.bool_],
    ) -> None:
        reach = REACH * min(shape)
        self.n_rings = int(np.clip(reach // 2, 1, _MOST_RINGS))
        rings = _Rings(centre, reach / self.n_rings, ~bad_pixels)
        sums = sparse.vstack([rings.average(ring) for ring in range(self.n_rings)])
        weight = self._reshape(sums.sum(axis=1)).astype(np.float32)
        self.weight = np.where(weight < _LEAST_WEIGHT, np.float32(0), weight)
        normalise = sparse.diags_array(inverse(self.weight).ravel())
        matrix = sparse.csr_array(normalise @ sums, dtype=np.float32)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        self._matrices = _widen(matrix), _widen(sparse.block_diag([matrix, matrix]))
        self.variance = self._reshape(matrix.power(2).sum(axis=1))

    def average(self, patterns: NDArray[Any]) -> NDArray[np.float32]:
        """Average the good pixels of each cell.

        Parameters
        ----------
        patterns
            Shape (n, rows, columns), real numbers. Whatever bad pixels hold does not
            matter. NaN and inf in others count as 0, as everywhere in a clean pattern.

        Returns
        -------
        NDArray[np.float32]
            Shape (n, n_rings, n_angles), mean per pixel in the unit of the patterns; 0
            in cells that are left out.
        """
        cells = np.empty((len(patterns), self._matrices[0].shape[0]), dtype=np.float32)
        for at in range(0, len(patterns), 2):
            cells[at : at + 2] = self._multiply(patterns[at : at + 2])
        for spoilt in np.flatnonzero(~np.isfinite(cells.sum(axis=1))):
            pattern = np.nan_to_num(patterns[[spoilt]], posinf=0, neginf=0)
            cells[spoilt] = self._multiply(pattern)
        return self._reshape(cells)

    def _multiply(self, patterns: NDArray[Any]) -> NDArray[np.float32]:
        """Average one or two patterns, whose pixels stay in the core's own cache.

        A call costs as much as half a product, so that two at once are worth while.
        """
        pixels = np.ascontiguousarray(patterns, dtype=np.float32).ravel()
        cells: NDArray[np.float32] = self._matrices[len(patterns) - 1] @ pixels
        return cells.reshape(len(patterns), -1)

    def _reshape(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        return cells.reshape(*cells.shape[:-1], self.n_rings, self.n_angles)


def _widen(matrix: sparse.sparray) -> sparse.csr_array:
    """Give a matrix 64-bit indices, with which its products are a third faster."""
    rows = sparse.csr_array(matrix)
    wide = rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    return sparse.csr_array((rows.data, *wide), shape=rows.shape)


def inverse(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return 1 / values, float32, and 0 where a value is not positive."""
    result = np.zeros(values.shape, dtype=np.float32)
    np.divide(1, values, out=result, where=values > 0)
    return result


class _Rings:
    """Rows of the matrix, ring by ring: weights that add up to the good part of a cell.

    Where a cell is as large as 9 pixels, it averages those whose middles lie in it.
    Nearer to the centre that would print the pixels' own grid into the cells, and
    whatever is compared then would seem not to be rotated: there a cell is sampled at
    points about one pixel apart, by linear interpolation between the good ones of the
    four pixels around each.

    Parameters
    ----------
    centre
        Row and column in pixels.
    width
        Of a ring in pixels.
    good
        Bool, shape (rows, columns).
    """

    def __init__(
        self, centre: tuple[float, float], width: float, good: NDArray[np.bool_]
    ) -> None:
        self._centre = centre
        self._width = width
        self._good = good
        self._ring = (radius_from(centre, good.shape) // width).astype(np.intp)
        angle = angle_about(centre, good.shape)
        self._sector = (angle * N_ANGLES / 360).astype(np.intp) % N_ANGLES

    def average(self, ring: int) -> sparse.csr_array:
        """Make the rows for one ring, (n_angles, pixels)."""
        area = (2 * ring + 1) * np.pi * self._width**2 / N_ANGLES
        is_large = area >= _MANY_PIXELS
        entries = self._count(ring, area) if is_large else self._sample(ring)
        weights, cells, pixels = entries
        shape = N_ANGLES, self._good.size
        return sparse.csr_array((weights, (cells, pixels)), shape=shape)

    def _count(self, ring: int, area: float) -> Entries:
        """Weigh all pixels of a cell alike."""
        pixels = np.flatnonzero(self._ring == ring)
        cells = self._sector.ravel()[pixels]
        good = self._good.ravel()[pixels]
        weights = 1 / np.maximum(area, np.bincount(cells)[cells])
        return weights[good], cells[good], pixels[good]

    def _sample(self, ring: int) -> Entries:
        """Weigh the four pixels around each sample point by how near they are."""
        radius, angle = _sample_points(ring * self._width, self._width)
        row = (self._centre[0] - radius * np.sin(angle)).reshape(N_ANGLES, -1)
        column = (self._centre[1] + radius * np.cos(angle)).reshape(N_ANGLES, -1)
        corners = zip(*_linear_weights(row, column, self._good), strict=True)
        weights, cells, pixels = map(np.concatenate, corners)
        return weights, cells, pixels


def _sample_points(
    inner: float, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spread points over the cells of a ring: radii, angles in radians.

    They broadcast to (n_angles, points along the arc, points along the radius).
    """
    n_radii = int(np.ceil(width))
    radius = inner + (np.arange(n_radii) + 0.5) * width / n_radii
    n_arc = int(np.ceil((inner + width) * 2 * np.pi / N_ANGLES))
    angle = (np.arange(N_ANGLES * n_arc) + 0.5) * 2 * np.pi / (N_ANGLES * n_arc)
    return radius, angle.reshape(N_ANGLES, n_arc, 1)


def _linear_weights(
    row: NDArray[np.float64], column: NDArray[np.float64], good: NDArray[np.bool_]
) -> Iterator[Entries]:
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


_SECTORS = 16
_DIM = 0.02  # of the mean brightness: dimmer rings count no more than this
_STREAK_SIGMAS = 5.0
_STREAK_SHARE = 0.2


class FriedelMaps(NamedTuple):
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


class FriedelAverage:
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
        self._both_good = (weights[0] > 0) & (weights[1] > 0)
        self._countable = self._both_good.astype(np.float32)
        self._scatter = (variances[0] + variances[1]) * self._countable
        self._per_scatter = inverse(self._scatter)
        self._quantum = np.sqrt(variances[0] * variances[1])
        self._per_cell = inverse(self._good.sum(axis=1))

    def average(self, patterns: NDArray[Any]) -> FriedelMaps:
        """Resample patterns and average what lies opposite.

        Parameters
        ----------
        patterns
            Shape (n, rows, columns), real numbers, clean or not: bad pixels do not
            matter, NaN and inf in others count as 0.

        Returns
        -------
        FriedelMaps
            Means and the noise in them.
        """
        return self.average_cells(self.grid.average(patterns))

    def average_cells(self, cells: NDArray[np.float32]) -> FriedelMaps:
        """Average what lies opposite, in patterns that are resampled already.

        Parameters
        ----------
        cells
            Float32, shape (n, n_rings, n_angles), as `PolarGrid.average` gives them.
        """
        half = self.grid.n_angles // 2
        one, other = cells[..., :half], cells[..., half:]
        mean = one * self._share[0]
        mean += other * self._share[1]
        difference = one - other
        gain = self._measure_gain(difference, self._ring_mean(mean))
        self._replace_streaks(mean, np.minimum(one, other), difference, gain)
        variance = np.einsum("nra,ra->nr", np.maximum(mean, 0), self._variance)
        np.copyto(mean, self._ring_mean(mean)[..., None], where=~self._good)
        return FriedelMaps(mean, variance * gain[:, None])

    def _ring_mean(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        average: NDArray[np.float32] = mean.sum(axis=-1) * self._per_cell
        return average

    def _measure_gain(
        self, difference: NDArray[np.float32], ring_mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Compare opposite cells: variance of a pixel per its mean, shape (n,).

        Opposite cells also differ because the beam moves by parts of a pixel from shot
        to shot. That is no noise, and grows with the square of the brightness; weighted
        by the inverse of this, no bright ring outweighs the others. 0 where no two
        opposite cells are good: then nothing is known of the noise.
        """
        brightness = np.maximum(ring_mean, 0)
        relative = brightness * inverse(brightness.mean(axis=1, keepdims=True))
        weight = inverse((relative + _DIM) ** 2)
        squares = np.square(difference) * self._per_scatter
        measured = _add_up_sectors(np.einsum("nra,nr->na", squares, weight))
        expected = _add_up_sectors((brightness * weight) @ self._countable)
        ratio = measured * inverse(expected)
        measurable = _add_up_sectors(self._countable).any(axis=0)
        if not measurable.any():
            return np.zeros(len(ratio), dtype=np.float32)
        gain: NDArray[np.float32] = np.median(ratio[:, measurable], axis=1)
        return gain

    def _replace_streaks(
        self,
        mean: NDArray[np.float32],
        smaller: NDArray[np.float32],
        difference: NDArray[np.float32],
        gain: NDArray[np.float32],
    ) -> None:
        """Where opposite cells differ by more than noise, put the smaller into `mean`.

        A single photon, and 20 % of the smaller one, are never too much.
        """
        gain = gain[:, None, None]
        limit = np.maximum(smaller, 0)
        limit *= self._scatter
        limit += gain * self._quantum
        limit *= _STREAK_SIGMAS**2 * gain
        np.sqrt(limit, out=limit)
        limit += _STREAK_SHARE * smaller
        streak = np.abs(difference) > limit
        streak &= self._both_good
        np.copyto(mean, smaller, where=streak)


def _add_up_sectors(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add up (…, n_angles / 2) cells to (…, 16) sectors."""
    sectors = cells.reshape(*cells.shape[:-1], _SECTORS, -1)
    return np.asarray(sectors.sum(axis=-1))


FLOOR = 0.01  # of the mean over the window: what a ring holds at least
LOUDEST = 8  # times the mean: what one pixel may differ from its ring


class Whitened(NamedTuple):
    """Patterns without what all pixels of a ring have in common.

    Attributes
    ----------
    rings
        (n, rings) float32, sums over the good pixels of each ring.
    level
        (n, 1) float32, mean over the good pixels of the window, above 0.
    pixels
        (n, size²) float32, differences from the ring's mean in units of its noise.
    values
        (n, points) float32, the map from the nearest separation outward, in units of
        its noise, the mean absolute value in the outer third of the rings.
    noise
        (n, 1) float32, that unit.
    """

    rings: NDArray[np.float32]
    level: NDArray[np.float32]
    pixels: NDArray[np.float32]
    values: NDArray[np.float32]
    noise: NDArray[np.float32]


class PattersonMaps:
    """Makes Patterson maps [1]_ of patterns; `docs/how-it-works.md` has the formulas.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.

    Attributes
    ----------
    window, middle
        What is looked at; (row, column) of the beam in binned pixels of it.
    n_good, ring
        (size²,): good pixels in each binned one, float32, and its ring, 1 wide, intp.
    ring_pixels
        (rings,) float32, good pixels of each ring.
    starts, steps
        (map rings,) intp, where in the points of a map each ring begins; (points, 2)
        float64, the separation of each, in steps of the map.

    References
    ----------
    .. [1] Patterson, Phys. Rev. 46, 372 (1934), doi 10.1103/PhysRev.46.372.
    """

    def __init__(
        self, bad_pixels: NDArray[np.bool_], centre: tuple[float, float]
    ) -> None:
        rows, columns = bad_pixels.shape
        self.window = Window.around(centre, (rows, columns))
        good = (~bad_pixels).astype(np.float32)[np.newaxis]
        self.n_good = self.window.cut(good)[0]
        self.middle = self.window.locate(centre)
        self._prepare_rings()
        self._prepare_points()

    def whiten(self, patterns: NDArray[np.float32]) -> Whitened:
        """Return what lies beyond the rings, and its map.

        Parameters
        ----------
        patterns
            (n, rows, columns) float32, clean (bad pixels 0), any unit.
        """
        rings, level, pixels = self._whiten(patterns)
        values = self._transform(pixels)[:, self._order]
        noise = self._noise_of(values)
        values /= noise
        return Whitened(rings, level, pixels, values, noise)

    def make_maps(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the maps themselves, to be looked at.

        Parameters
        ----------
        patterns
            (n, rows, columns) float32, clean.

        Returns
        -------
        ndarray
            (n, size, size) float32, in units of the map's noise; separation 0 in
            the middle, at [size / 2, size / 2].
        """
        size = self.window.size
        half = self._transform(self._whiten(patterns)[2])
        full = np.empty((len(patterns), size, size), np.float32)
        full[:, :, : size // 2 + 1] = half.reshape(-1, size, size // 2 + 1)
        back = -np.arange(size) % size
        mirrored = full[:, back][:, :, back]
        full[:, :, size // 2 + 1 :] = mirrored[:, :, size // 2 + 1 :]
        full /= self._noise_of(half[:, self._order])[..., np.newaxis]
        maps: NDArray[np.float32] = fft.fftshift(full, axes=(1, 2))
        return maps

    @cached_property
    def pixel_noise(self) -> float:
        """Standard deviation of the pixels of white noise whose map has a noise of 1.

        A point of the map is the sum of all good pixels, each times a cosine.
        """
        n_filled = int(np.count_nonzero(self.n_good))
        return float(np.sqrt(np.pi / 2) * np.sqrt(2 / max(n_filled, 1)))

    def _prepare_rings(self) -> None:
        size = self.window.size
        self.ring = number_rings(self.middle, (size, size)).ravel()
        pixel = np.flatnonzero(self.n_good)
        ones = np.ones(pixel.size, np.float32)
        shape = (int(self.ring.max()) + 1, size**2)
        where = (self.ring[pixel], pixel)
        self._adder = sparse.csr_array((ones, where), shape=shape)
        self.ring_pixels = self._adder @ self.n_good

    def _prepare_points(self) -> None:
        size = self.window.size
        step_down = fft.fftfreq(size)[:, np.newaxis]
        step_right = fft.rfftfreq(size)[np.newaxis]
        separation = np.hypot(step_down, step_right).ravel() * size
        ring = np.digitize(separation, _ring_starts(size)) - 1
        once = (step_right > 0) | (step_down > 0)  # of each point and its mirror image
        known = (step_right < 0.5) & (step_down > -0.5)  # at 0.5 the sign is not
        inside = np.flatnonzero((ring >= 0) & (once & known).ravel())
        self._order = inside[np.argsort(ring[inside], kind="stable")]
        _, self.starts = np.unique(ring[self._order], return_index=True)
        both = np.broadcast_arrays(step_down * size, step_right * size)
        self.steps = np.column_stack([each.ravel()[self._order] for each in both])
        turn = step_down * self.middle[0] + step_right * self.middle[1]
        self._cos = np.cos(2 * np.pi * turn).ravel().astype(np.float32)
        self._sin = np.sin(2 * np.pi * turn).ravel().astype(np.float32)

    def _whiten(
        self, patterns: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return (n, rings) sums, (n, 1) level and (n, size²) whitened pixels."""
        sums = self.window.cut(patterns)
        rings = np.maximum((self._adder @ sums.T).T, 0)
        level = rings.sum(axis=1, keepdims=True) / max(self.ring_pixels.sum(), 1)
        level = np.maximum(level, np.float32(1e-12))
        mean = rings / np.maximum(self.ring_pixels, 1)
        per_noise = 1 / np.sqrt(mean + FLOOR * level)
        white = sums - self.n_good * np.take(mean, self.ring, axis=1)
        white *= np.take(per_noise, self.ring, axis=1)
        if self.window.binning > 1:
            white /= np.sqrt(np.maximum(self.n_good, 1))
        highest = LOUDEST * np.abs(white).mean(axis=1, keepdims=True)
        np.clip(white, -highest, highest, out=white)
        return rings, level, white

    def _transform(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the upper half of the maps, (n, size · (size / 2 + 1))."""
        n, size = len(pixels), self.window.size
        waves = fft.rfft2(pixels.reshape(n, size, size)).reshape(n, -1)
        values: NDArray[np.float32] = waves.real * self._cos - waves.imag * self._sin
        return values

    def _noise_of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean absolute value in the outer third of the rings, (n, 1)."""
        outer = self.starts[2 * self.starts.size // 3]
        noise: NDArray[np.float32] = np.abs(values[:, outer:]).mean(
            axis=1, keepdims=True
        )
        noise += np.float32(1e-6)
        return noise


def _ring_starts(size: int) -> NDArray[np.float64]:
    """Return where rings begin in the map: 1 wide, further out 3, last the corners."""
    near, far = np.arange(1.5, 16.0, 1.0), np.arange(16.5, size / 2 - 2.5, 3.0)
    return np.concatenate([near[near <= size / 2 - 3], far])
