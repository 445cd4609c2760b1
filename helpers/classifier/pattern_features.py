"""The inputs of the invariant network: features, and the encoder's numbers."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.encoder import AT_ONCE, N_NUMBERS, Encoder
from helpers.classifier.fringe_features import FringeFeatures
from helpers.physics import PattersonMaps, Whitened

N_SUMMARY = 3  # of `Encoded.summarise`


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


def whiten_in_groups(
    maps: PattersonMaps, patterns: NDArray[np.float32]
) -> Iterator[tuple[slice, Whitened]]:
    """Whiten patterns, always as many at once: one alone is added up in another order.

    Yields
    ------
    here, white
        Which patterns, and what they make; behind the last ones, blanks fill up.
    """
    for start in range(0, len(patterns), AT_ONCE):
        here = slice(start, min(start + AT_ONCE, len(patterns)))
        missing = AT_ONCE - (here.stop - start)
        filling = [(0, missing), (0, 0), (0, 0)]
        some = np.pad(patterns[here], filling) if missing else patterns[here]
        yield here, maps.whiten(some)
