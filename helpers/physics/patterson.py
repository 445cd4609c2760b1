"""The Patterson map of a pattern: the map of all distances in what scattered.

A single particle scatters into smooth speckles no finer than its size allows. Two
particles add stripes, the finer the further they are apart. The Fourier transform of a
pattern sorts its structure by that fineness: whatever lies further from the middle than
the particle's diameter comes from a second particle, however weak.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from helpers.errors import ParameterError

LARGEST_WINDOW = 128
SMALLEST_WINDOW = 16
USUAL_SIDE = 256  # of a detector that is not binned, in pixels
FLOOR = 0.01  # of the mean over the window: what a ring holds at least
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
        rows, columns = np.ogrid[:size, :size]
        radius = np.hypot(rows - self.middle[0], columns - self.middle[1])
        self.ring = np.rint(radius).astype(np.intp).ravel()
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
