"""What the encoder is given: pattern and Patterson map, by radius and direction."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from helpers.physics import PattersonMaps, Whitened

N_RINGS = 30
N_ANGLES = 48  # over half a turn: both are point-symmetric
N_CHANNELS = 5
FLOOR = 0.01  # of the mean: what a ring holds at least


class AngularMaps:
    """Pattern and Patterson map as pictures whose columns are directions.

    Turning the particle about the beam moves the columns round, and nothing else.

    Parameters
    ----------
    maps
        The Patterson maps of the patterns.

    Notes
    -----
    The channels are:

    0, 1. In a cell of the Patterson map, 30 rings (1 step wide, further out 3) and 48
       directions over half a turn: highest value (arsinh) and mean square (log).
    2. In a cell of the whitened pattern, 30 rings out to the edge of the window: the
       sum of its pixels, and of those opposite, over what noise would give (arsinh).
    3. The mean of the pattern on the ring over that of all (log), in every direction.
    4. How many good pixels the cell has (their square root over 8).

    Beyond the edge of a small window, and where no pixel is good, all are 0.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self._maps = maps
        self._points, self._starts, self._n_points = _sort_into_cells(maps)
        size = maps.window.size
        rows, columns = np.indices((size, size))
        down = (rows - maps.middle[0]).ravel()
        right = (columns - maps.middle[1]).ravel()
        ring = (np.hypot(down, right) / (size / 2) * N_RINGS).astype(np.intp)
        pixel = np.flatnonzero((ring < N_RINGS) & (maps.n_good > 0))
        shape = N_RINGS * N_ANGLES, size**2
        cell = ring[pixel] * N_ANGLES + _find_sector(down[pixel], right[pixel])
        ones = np.ones(pixel.size, np.float32)
        self._cells = sparse.csr_array((ones, (cell, pixel)), shape=shape)
        self._n_pixels = self._cells.sum(axis=1).astype(np.float32)
        n_good = maps.n_good[pixel]
        self._ring_good = np.bincount(ring[pixel], n_good, N_RINGS).astype(np.float32)
        share = np.bincount(maps.ring[pixel] * N_RINGS + ring[pixel], n_good)
        table = np.zeros(maps.ring_pixels.size * N_RINGS, np.float32)
        table[: share.size] = share
        of_ring = np.maximum(maps.ring_pixels, 1)[:, np.newaxis]
        self._regroup = table.reshape(-1, N_RINGS) / of_ring

    def __call__(self, white: Whitened) -> NDArray[np.float32]:
        """Return (n, N_RINGS, N_ANGLES, N_CHANNELS) float32, finite."""
        n = len(white.values)
        found = np.zeros((n, N_RINGS, N_ANGLES, N_CHANNELS), np.float32)
        values = white.values[:, self._points]
        highest = np.maximum.reduceat(values, self._starts, axis=1)
        power = np.add.reduceat(values**2, self._starts, axis=1) / self._n_points
        n_rings = self._starts.size // N_ANGLES
        shape = n, n_rings, N_ANGLES
        found[:, :n_rings, :, 0] = np.arcsinh(highest).reshape(shape)
        found[:, :n_rings, :, 1] = np.log(power + 0.1).reshape(shape)
        sums = (self._cells @ white.pixels.T).T
        noise = white.noise * np.float32(self._maps.pixel_noise)
        sums /= noise * np.sqrt(np.maximum(self._n_pixels, 1))
        found[..., 2] = np.arcsinh(sums).reshape(n, N_RINGS, N_ANGLES)
        mean = white.rings @ self._regroup / np.maximum(self._ring_good, 1)
        profile = np.log(mean / white.level + np.float32(FLOOR))
        profile *= self._ring_good > 0
        found[..., 3] = profile[:, :, np.newaxis]
        filled = np.sqrt(self._n_pixels).reshape(N_RINGS, N_ANGLES) / 8
        found[..., 4] = filled
        return found


def _sort_into_cells(
    maps: PattersonMaps,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the points of each cell, where each cell begins, how many it has.

    A cell that is smaller than a point has the point that is nearest in direction.
    """
    sector = _find_sector(maps.steps[:, 0], maps.steps[:, 1])
    ends = np.append(maps.starts[1:], len(sector))
    members = []
    for first, last in zip(maps.starts[:N_RINGS], ends[:N_RINGS], strict=True):
        here = sector[first:last]
        for one in range(N_ANGLES):
            apart = np.abs((here - one + N_ANGLES // 2) % N_ANGLES - N_ANGLES // 2)
            members.append(first + np.flatnonzero(apart == apart.min()))
    counts = np.array([each.size for each in members])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.concatenate(members), starts, counts.astype(np.float32)


def _find_sector(
    down: NDArray[np.floating], right: NDArray[np.floating]
) -> NDArray[np.intp]:
    turned = np.degrees(np.arctan2(-down, right)) % 180
    sector: NDArray[np.intp] = (turned / 180 * N_ANGLES).astype(np.intp) % N_ANGLES
    return sector
