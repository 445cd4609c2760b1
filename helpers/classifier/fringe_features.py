"""What the invariant network is given: rings, and the fringes that cross them."""

import numpy as np
from numpy.typing import NDArray

from helpers.physics import PattersonMaps, Whitened

FEWEST_PIXELS = 4
FLOOR = 0.01  # of the mean over the window: what two rings hold at least


class FringeFeatures:
    """The numbers by which the invariant network knows a pattern.

    Turning a pattern about the centre, turning it by half a turn (Friedel's law: the
    two halves are averaged), or multiplying it leaves them alone; bad pixels count
    nowhere.

    Parameters
    ----------
    maps
        The Patterson maps that the numbers come from.

    Notes
    -----
    The numbers are, ring by ring of the Patterson map: its mean square (log); the
    highest value from this ring outward, and the lowest value in it (arsinh); and ring
    by ring of the pattern its mean as a share of the mean of all (log). The last number
    is the mean of all over the square of the noise (log): how many photons there are,
    which photon statistics tell whatever the unit.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self.maps = maps
        n_points = len(self.maps.steps)
        self._map_pixels = np.diff(self.maps.starts, append=n_points)
        # two rings together, out to the edge of the window
        n_pairs = self.maps.window.size // 4
        self._pair_pixels = _sum_pairs(self.maps.ring_pixels[np.newaxis], n_pairs)[0]
        self._profile = np.flatnonzero(self._pair_pixels >= FEWEST_PIXELS)

    def __len__(self) -> int:
        """Return how many numbers a pattern has."""
        return 3 * self.maps.starts.size + self._profile.size + 1

    def __call__(self, white: Whitened) -> NDArray[np.float32]:
        """Return (n, len(self)) float32, finite, of n whitened patterns."""
        values, starts = white.values, self.maps.starts
        power = np.add.reduceat(values**2, starts, axis=1) / self._map_pixels
        highest = np.maximum.reduceat(values, starts, axis=1)
        outward = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
        lowest = np.minimum.reduceat(values, starts, axis=1)
        numbers = (
            np.log(power + 1e-3),
            np.arcsinh(outward),
            np.arcsinh(lowest),
            self._find_profile(white),
            np.log(white.level / white.noise**2),
        )
        return np.concatenate(numbers, axis=1)

    def _find_profile(self, white: Whitened) -> NDArray[np.float32]:
        pairs = _sum_pairs(white.rings, self._pair_pixels.size)[:, self._profile]
        share = pairs / self._pair_pixels[self._profile] / white.level
        profile: NDArray[np.float32] = np.log(share + np.float32(FLOOR))
        return profile


def _sum_pairs(rings: NDArray[np.float32], n_pairs: int) -> NDArray[np.float32]:
    pairs = rings[:, : 2 * n_pairs].reshape(len(rings), n_pairs, 2)
    total: NDArray[np.float32] = pairs.sum(axis=2)
    return total
