"""Patterns averaged with themselves after half a turn, on rings and sectors."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from helpers.physics.polar_grid import PolarGrid, inverse

_SECTORS = 16
_DIM = 0.1
_STREAK_SIGMAS = 5.0
_STREAK_SHARE = 0.2


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
        self._both_good = (weights[0] > 0) & (weights[1] > 0)
        self._countable = self._both_good.astype(np.float32)
        self._scatter = (variances[0] + variances[1]) * self._countable
        self._per_scatter = inverse(self._scatter)
        self._quantum = np.sqrt(variances[0] * variances[1])
        self._per_cell = inverse(self._good.sum(axis=1))

    def average(self, patterns: NDArray[Any]) -> HalfTurnMaps:
        """Resample patterns and average what lies opposite.

        Parameters
        ----------
        patterns
            Shape (n, rows, columns), real numbers, clean or not: bad pixels do not
            matter, NaN and inf in others count as 0.

        Returns
        -------
        HalfTurnMaps
            Means and the noise in them.
        """
        return self.fold(self.grid.average(patterns))

    def fold(self, cells: NDArray[np.float32]) -> HalfTurnMaps:
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
