"""The inputs of the invariant network: features, and the encoder's numbers."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.features.encoder import N_NUMBERS, Encoder, whiten_in_groups
from helpers.physics import PattersonMaps, Whitened

Value = TypeVar("Value", bound=np.floating)
N_SUMMARY = 3  # of `Encoded.summarise`
FEWEST_PIXELS = 4
FARTHEST = 3.0  # standard deviations from the mean: what is further counts as this
FLOOR = 0.01  # of the mean over the window: what two rings hold at least


class PatternFeatures:
    """The numbers by which the invariant network knows a pattern.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.
    with_encoder
        Whether the encoder's numbers follow the features, and last their summary.
    """

    def __init__(
        self,
        bad_pixels: NDArray[np.bool_],
        centre: tuple[float, float],
        *,
        with_encoder: bool,
    ) -> None:
        self._maps = PattersonMaps(bad_pixels, centre)
        self._fringes = FringeFeatures(self._maps)
        self._encoder = Encoder(self._maps) if with_encoder else None

    def __len__(self) -> int:
        """Return how many numbers a pattern has."""
        n_encoded = N_NUMBERS + N_SUMMARY
        return len(self._fringes) + (n_encoded if self._encoder else 0)

    def __call__(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the numbers of patterns.

        Parameters
        ----------
        patterns
            (n, rows, columns) float32, clean (bad pixels 0), any unit.

        Returns
        -------
        ndarray
            (n, len(self)) float32, finite.
        """
        features = np.empty((len(patterns), len(self)), np.float32)
        for here, white in whiten_in_groups(self._maps, patterns):
            parts = [self._fringes(white)]
            if self._encoder:
                encoded = self._encoder(white)
                parts += [encoded.numbers, encoded.summarise()]
            features[here] = np.concatenate(parts, axis=1)[: here.stop - here.start]
        return features


def standardise(
    features: NDArray[Value], mean: NDArray[Value], deviation: NDArray[Value]
) -> NDArray[Value]:
    """Return features (n, …) in standard deviations from the mean, none far away."""
    standard = (features - mean) / deviation
    clipped: NDArray[Value] = np.clip(standard, -FARTHEST, FARTHEST)
    return clipped


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
