"""What the invariant network is given: rings, and the fringes that cross them.

A single particle scatters into smooth speckles no finer than its size allows. Two
particles add stripes, the finer the further they are apart. The Fourier transform of a
pattern sorts its structure by that fineness: whatever lies further from the middle than
the particle's diameter comes from a second particle, however weak.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from helpers.errors import ParameterError

LARGEST_WINDOW = 128
SMALLEST_WINDOW = 16
USUAL_SIDE = 256  # of a detector that is not binned, in pixels
AT_ONCE = 16  # patterns whose arrays stay in the cache
FLOOR = 0.01  # of the mean over the window: what a ring holds at least
FEWEST_PIXELS = 4
LOUDEST = 8  # times the mean: what one pixel may differ from its ring


@dataclass(frozen=True)
class Window:
    """The square around the centre that is looked at, in binned pixels.

    Attributes
    ----------
    size
        Rows and columns, in binned pixels; even.
    binning
        Rows and columns of detector pixels that make one binned pixel.
    row, column
        Its first detector pixel.
    """

    size: int
    binning: int
    row: int
    column: int

    @classmethod
    def around(cls, centre: tuple[float, float], shape: tuple[int, int]) -> "Window":
        """Choose the window for patterns of a shape.

        Detectors of about 256 × 256 pixels are not binned, larger ones are brought to
        that size; the window is the middle 128 × 128, or all there is.

        Raises
        ------
        ParameterError
            If the patterns are too small.
        """
        binning = max(1, round(min(shape) / USUAL_SIDE))
        size = min(LARGEST_WINDOW, min(shape) // binning) // 2 * 2
        if size < SMALLEST_WINDOW:
            message = (
                f"patterns of {shape[0]} × {shape[1]} pixels are too small for the "
                f"invariant network; expected {SMALLEST_WINDOW} × {SMALLEST_WINDOW} or "
                "more. Use model='article'."
            )
            raise ParameterError(message)
        first = [
            int(
                np.clip(round(middle - (size * binning - 1) / 2), 0, n - size * binning)
            )
            for middle, n in zip(centre, shape, strict=True)
        ]
        return cls(size, binning, *first)

    def cut(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums over binned pixels, (n, size²) float32."""
        n, side = len(patterns), self.size * self.binning
        rows = slice(self.row, self.row + side)
        columns = slice(self.column, self.column + side)
        pixels = patterns[:, rows, columns]
        if self.binning > 1:
            shape = (n, self.size, self.binning, self.size, self.binning)
            pixels = pixels.reshape(shape).sum(axis=(2, 4))
        return pixels.reshape(n, -1)

    def locate(self, centre: tuple[float, float]) -> tuple[float, float]:
        """Return the centre (row, column) in binned pixels of the window."""
        row, column = (
            (middle - first + 0.5) / self.binning - 0.5
            for middle, first in zip(centre, (self.row, self.column), strict=True)
        )
        return row, column


class FringeFeatures:
    """The numbers by which the invariant network knows a pattern.

    Turning a pattern about the centre, turning it by half a turn (Friedel's law: the
    two halves are averaged), or multiplying it leaves them alone; bad pixels count
    nowhere.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.

    Notes
    -----
    From each pixel the mean over its ring is subtracted, and the difference is divided
    by the square root of that mean, the Poisson noise: without particles in the beam,
    or with a round one, that leaves white noise. No pixel counts for more than eight
    times the mean of all, which keeps streaks and hot pixels down. The Fourier
    transform about the centre (the real part, which is the transform of the average of
    each pixel and its point-symmetric partner) is a Patterson map without its origin: a
    pair of particles gives a peak at their separation. A map is measured in units of
    its mean absolute value at the largest separations, where there is noise alone.

    The numbers are, ring by ring of the map: its mean square (log); the highest value
    from this ring outward, and the lowest value in it (arsinh); and ring by ring of
    the pattern its mean as a share of the mean of all (log). The last number is the
    mean of all over the square of the noise (log): how many photons there are, which
    photon statistics tell whatever the unit.

    References
    ----------
    Patterson, Phys. Rev. 46, 372 (1934), doi 10.1103/PhysRev.46.372: the transform of
    the intensities is the map of all distances in the object.
    """

    def __init__(
        self, bad_pixels: NDArray[np.bool_], centre: tuple[float, float]
    ) -> None:
        rows, columns = bad_pixels.shape
        self.window = Window.around(centre, (rows, columns))
        good = (~bad_pixels).astype(np.float32)[np.newaxis]
        self._n_good = self.window.cut(good)[0]
        self._middle = self.window.locate(centre)
        self._prepare_rings()
        self._prepare_map()

    def __len__(self) -> int:
        """Return how many numbers a pattern has."""
        return 3 * self._starts.size + self._profile.size + 1

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
        for start in range(0, len(patterns), AT_ONCE):
            here = slice(start, start + AT_ONCE)
            features[here] = self._measure(patterns[here])
        return features

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
        half = self._transform(*self._sum_rings(patterns))
        full = np.empty((len(patterns), size, size), np.float32)
        full[:, :, : size // 2 + 1] = half.reshape(-1, size, size // 2 + 1)
        back = -np.arange(size) % size
        mirrored = full[:, back][:, :, back]
        full[:, :, size // 2 + 1 :] = mirrored[:, :, size // 2 + 1 :]
        full /= self._noise_of(half[:, self._order])[..., np.newaxis]
        maps: NDArray[np.float32] = fft.fftshift(full, axes=(1, 2))
        return maps

    def _prepare_rings(self) -> None:
        size = self.window.size
        rows, columns = np.ogrid[:size, :size]
        radius = np.hypot(rows - self._middle[0], columns - self._middle[1])
        self._ring = np.rint(radius).astype(np.intp).ravel()
        pixel = np.flatnonzero(self._n_good)
        ones = np.ones(pixel.size, np.float32)
        shape = (int(self._ring.max()) + 1, size**2)
        where = (self._ring[pixel], pixel)
        self._adder = sparse.csr_array((ones, where), shape=shape)
        self._ring_pixels = self._adder @ self._n_good
        # two rings together, out to the edge of the window
        n_pairs = size // 4
        self._pair_pixels = _sum_pairs(self._ring_pixels[np.newaxis], n_pairs)[0]
        self._profile = np.flatnonzero(self._pair_pixels >= FEWEST_PIXELS)

    def _prepare_map(self) -> None:
        size = self.window.size
        step_down = fft.fftfreq(size)[:, np.newaxis]
        step_right = fft.rfftfreq(size)[np.newaxis]
        separation = np.hypot(step_down, step_right).ravel() * size
        ring = np.digitize(separation, _ring_starts(size)) - 1
        once = (step_right > 0) | (step_down > 0)  # of each point and its mirror image
        known = (step_right < 0.5) & (step_down > -0.5)  # at 0.5 the sign is not
        inside = np.flatnonzero((ring >= 0) & (once & known).ravel())
        self._order = inside[np.argsort(ring[inside], kind="stable")]
        _, self._starts = np.unique(ring[self._order], return_index=True)
        self._map_pixels = np.diff(self._starts, append=self._order.size)
        turn = step_down * self._middle[0] + step_right * self._middle[1]
        self._cos = np.cos(2 * np.pi * turn).ravel().astype(np.float32)
        self._sin = np.sin(2 * np.pi * turn).ravel().astype(np.float32)

    def _measure(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        sums, rings = self._sum_rings(patterns)
        values = self._transform(sums, rings)[:, self._order]
        noise = self._noise_of(values)
        values /= noise
        power = np.add.reduceat(values**2, self._starts, axis=1) / self._map_pixels
        highest = np.maximum.reduceat(values, self._starts, axis=1)
        outward = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
        lowest = np.minimum.reduceat(values, self._starts, axis=1)
        numbers = (
            np.log(power + 1e-3),
            np.arcsinh(outward),
            np.arcsinh(lowest),
            self._find_profile(rings),
            np.log(self._level(rings) / noise**2),
        )
        return np.concatenate(numbers, axis=1)

    def _sum_rings(
        self, patterns: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (n, size²) sums over binned pixels, and (n, rings) over rings."""
        sums = self.window.cut(patterns)
        return sums, np.maximum((self._adder @ sums.T).T, 0)

    def _transform(
        self, sums: NDArray[np.float32], rings: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the upper half of the maps, (n, size · (size / 2 + 1))."""
        n, size = len(sums), self.window.size
        mean = rings / np.maximum(self._ring_pixels, 1)
        per_noise = 1 / np.sqrt(mean + FLOOR * self._level(rings))
        white = sums - self._n_good * np.take(mean, self._ring, axis=1)
        white *= np.take(per_noise, self._ring, axis=1)
        if self.window.binning > 1:
            white /= np.sqrt(np.maximum(self._n_good, 1))
        highest = LOUDEST * np.abs(white).mean(axis=1, keepdims=True)
        np.clip(white, -highest, highest, out=white)
        waves = fft.rfft2(white.reshape(n, size, size)).reshape(n, -1)
        values: NDArray[np.float32] = waves.real * self._cos - waves.imag * self._sin
        return values

    def _level(self, rings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean over the good pixels of the window, (n, 1), above 0."""
        mean = rings.sum(axis=1, keepdims=True) / max(self._ring_pixels.sum(), 1)
        level: NDArray[np.float32] = np.maximum(mean, np.float32(1e-12))
        return level

    def _noise_of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean absolute value in the outer third of the rings, (n, 1)."""
        outer = self._starts[2 * self._starts.size // 3]
        noise: NDArray[np.float32] = np.abs(values[:, outer:]).mean(
            axis=1, keepdims=True
        )
        noise += np.float32(1e-6)
        return noise

    def _find_profile(self, rings: NDArray[np.float32]) -> NDArray[np.float32]:
        pairs = _sum_pairs(rings, self._pair_pixels.size)[:, self._profile]
        share = pairs / self._pair_pixels[self._profile] / self._level(rings)
        profile: NDArray[np.float32] = np.log(share + np.float32(FLOOR))
        return profile


def _sum_pairs(rings: NDArray[np.float32], n_pairs: int) -> NDArray[np.float32]:
    pairs = rings[:, : 2 * n_pairs].reshape(len(rings), n_pairs, 2)
    total: NDArray[np.float32] = pairs.sum(axis=2)
    return total


def _ring_starts(size: int) -> NDArray[np.float64]:
    """Return where rings begin in the map: 1 wide, further out 3, last the corners."""
    near, far = np.arange(1.5, 16.0, 1.0), np.arange(16.5, size / 2 - 2.5, 3.0)
    return np.concatenate([near[near <= size / 2 - 3], far])
