"""The detector: where the beam meets it, what its pixels mean, and rings on it."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from helpers.errors import ParameterError

LARGEST_WINDOW = 128
SMALLEST_WINDOW = 16
USUAL_SIDE = 256  # of a detector that is not binned, in pixels
POLARISATIONS = ("horizontal", "vertical", "none")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A flat detector, at right angles to the beam.

    Parameters
    ----------
    centre
        (row, column) of the beam in pixels, fractions allowed.
    pixel_size_um
        Edge of a square pixel.
    distance_mm
        From the particle to the detector.
    wavelength_nm
        Of the X-rays.
    polarisation
        Of the X-rays, as the pattern is displayed: "horizontal" is along its rows, from
        column to column; "none" for no correction.

    Raises
    ------
    ParameterError
        If a length is not above 0, or the polarisation is not known; the message holds
        all that is wrong.
    """

    centre: tuple[float, float]
    pixel_size_um: float
    distance_mm: float
    wavelength_nm: float
    polarisation: str = "horizontal"

    def __post_init__(self) -> None:
        """Check what was given."""
        lengths = ("pixel_size_um", "distance_mm", "wavelength_nm")
        problems = [
            f"{name} is {getattr(self, name)}, expected a number above 0"
            for name in lengths
            if not 0 < getattr(self, name) < np.inf
        ]
        if self.polarisation not in POLARISATIONS:
            known = ", ".join(POLARISATIONS)
            problems.append(
                f"polarisation is {self.polarisation!r}, expected one of {known}"
            )
        if problems:
            message = f"Geometry: {'; '.join(problems)}."
            raise ParameterError(message)

    @property
    def distance_pixels(self) -> float:
        """Distance from the particle to the detector, in pixels."""
        return self.distance_mm * 1000 / self.pixel_size_um

    @property
    def voxel_inv_nm(self) -> float:
        """Edge of a voxel as q / 2π, in 1/nm, where a pixel on the axis is one."""
        return 1 / (self.wavelength_nm * self.distance_pixels)

    def directions(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return unit vectors from the particle to each pixel.

        Parameters
        ----------
        shape
            (rows, columns) of a pattern.

        Returns
        -------
        NDArray[np.float64]
            (3, rows, columns): along the columns' numbers (x), along the rows' numbers
            (y), along the beam (z); a right-handed system.
        """
        row, column = self.centre
        y, x = np.indices(shape, dtype=np.float64)
        z = np.full(shape, self.distance_pixels)
        vectors = np.stack([x - column, y - row, z])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=0))

    def correction(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return what share of a pixel's photons arrives, 1 for a pixel on the axis.

        Solid angle times polarisation, (rows, columns). A pixel at the scattering angle
        2θ is seen under cos³(2θ) of the solid angle of one on the axis; of the light
        that is polarised along x, the share 1 - x² is scattered to the direction
        (x, y, z).
        """
        x, y, z = self.directions(shape)
        across = {"horizontal": x, "vertical": y, "none": np.zeros_like(x)}
        return np.asarray(z**3 * (1 - across[self.polarisation] ** 2))

    def q_inv_nm(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return q = 4π sin(θ) / λ in 1/nm at a distance from the centre, in pixels."""
        theta = np.arctan(radius / self.distance_pixels) / 2
        return np.asarray(4 * np.pi / self.wavelength_nm * np.sin(theta))


def make_geometry(
    centre: tuple[float, float],
    pixel_size_um: float | None = None,
    distance_mm: float | None = None,
    wavelength_nm: float | None = None,
    polarisation: str = "horizontal",
) -> Geometry | None:
    """Return a geometry, or None where nothing of it is known.

    Raises
    ------
    ParameterError
        If a part of it is known and another is not, or a value is impossible.
    """
    lengths = {
        "pixel_size_um": pixel_size_um,
        "distance_mm": distance_mm,
        "wavelength_nm": wavelength_nm,
    }
    known = {name: value for name, value in lengths.items() if value is not None}
    if not known:
        return None
    if missing := ", ".join(lengths.keys() - known):
        message = (
            f"The geometry lacks {missing}; found {', '.join(known)}. "
            "Give all of them, or none."
        )
        raise ParameterError(message)
    return Geometry(centre=centre, polarisation=polarisation, **known)


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

    @property
    def side(self) -> int:
        """Rows and columns, in detector pixels."""
        return self.size * self.binning

    def cut(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums over binned pixels, (n, size²) float32."""
        n = len(patterns)
        rows = slice(self.row, self.row + self.side)
        columns = slice(self.column, self.column + self.side)
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


_MINIMAL_OVERLAP = 0.3  # of the largest possible number of pixel pairs
_POOR_SYMMETRY = 0.3


def find_centre(
    powder: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Find the point about which a powder looks the same after half a turn [1]_.

    The square root of the powder is compared with its own reflection through every
    point; a parabola through the best correlation and its neighbours gives the fraction
    of a pixel.

    Parameters
    ----------
    powder
        (rows, columns), sum or mean over many patterns, photons or ADU. NaN and inf are
        left out; negative values count as 0.
    bad_pixels
        (rows, columns) bool, True = leave out.

    Returns
    -------
    row, column
        In pixels; (0, 0) is the middle of the first pixel.

    Warns
    -----
    UserWarning
        If the powder is not symmetric about any point: no coefficient reaches 0.3.

    References
    ----------
    .. [1] D. Padfield, IEEE Trans. Image Process. 21, 2706 (2012), section II,
       doi:10.1109/TIP.2011.2097275.
    """
    good = good_pixels(powder, bad_pixels)
    symmetry = _symmetry(_tame(powder, good), good)
    best = np.unravel_index(np.argmax(symmetry), symmetry.shape)
    if symmetry[best] < _POOR_SYMMETRY:
        message = (
            "The powder is not symmetric about any point: the best correlation with "
            f"its own reflection is {symmetry[best]:.2f}, expected at least "
            f"{_POOR_SYMMETRY}. Look at the powder, mark bad pixels, sum more "
            "patterns, or pass the centre."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    if symmetry[best] <= 0:
        return (powder.shape[0] - 1) / 2, (powder.shape[1] - 1) / 2
    row, column = (int(place) for place in best)
    along_rows = _vertex(symmetry[max(row - 1, 0) : row + 2, column])
    along_columns = _vertex(symmetry[row, max(column - 1, 0) : column + 2])
    return (row + along_rows) / 2, (column + along_columns) / 2


def good_pixels(
    image: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Mark the pixels that are finite and not bad: bool, shape of the image."""
    finite: NDArray[np.bool_] = np.isfinite(image)
    return finite if bad_pixels is None else finite & ~bad_pixels


def _tame(powder: NDArray[np.floating], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return square roots, cut down to twice the fourth brightest of the surroundings.

    A hot pixel that nobody marked would otherwise be the perfect centre.
    """
    from scipy import ndimage  # slow to import

    image = np.sqrt(np.where(good, np.maximum(powder, 0), 0), dtype=np.float64)
    surroundings: NDArray[np.float64] = ndimage.rank_filter(image, rank=-4, size=5)
    return np.minimum(image, 2 * surroundings)


def _symmetry(
    image: NDArray[np.float64], good: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Correlate an image with its reflection through (i / 2, j / 2), for all i, j.

    Each pixel pair occurs in both orders, so the image and its reflection have the same
    mean and variance over the overlap: one each is enough.
    """
    if not good.any():
        return np.full((2 * good.shape[0] - 1, 2 * good.shape[1] - 1), -1.0)
    image = np.where(good, image - image[good].mean(), 0)
    full = [fft.next_fast_len(2 * n - 1, real=True) for n in good.shape]
    mask_f, image_f, square_f = (
        fft.rfft2(values, full) for values in (good.astype(float), image, image**2)
    )

    def correlate(
        one: NDArray[np.complex128], other: NDArray[np.complex128]
    ) -> NDArray[np.float64]:
        image: NDArray[np.float64] = fft.irfft2(one * other, full)
        return image[: 2 * good.shape[0] - 1, : 2 * good.shape[1] - 1]

    n_pairs = np.rint(correlate(mask_f, mask_f))
    total = correlate(image_f, mask_f)
    squares = correlate(square_f, mask_f)
    products = correlate(image_f, image_f)
    mean_square = total**2 / np.maximum(n_pairs, 1)
    variance = squares - mean_square
    trusted = n_pairs >= _MINIMAL_OVERLAP * n_pairs.max()
    trusted &= variance > 1e-9 * max(float(squares.max()), np.finfo(float).tiny)
    coefficient = np.full(variance.shape, -1.0)
    np.divide(products - mean_square, variance, out=coefficient, where=trusted)
    return coefficient


def _vertex(values: NDArray[np.float64]) -> float:
    """Where a parabola through three neighbours peaks, from -0.5 to 0.5."""
    if len(values) < 3 or values.min() <= -1:
        return 0.0
    before, middle, after = values
    curvature = before - 2 * middle + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0


def radial_average(
    image: NDArray[np.floating],
    centre: tuple[float, float],
    bad_pixels: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average an image over rings one pixel wide around the centre.

    Parameters
    ----------
    image
        Shape (rows, columns). NaN and inf are left out, as are bad pixels.
    centre
        Row and column in pixels.
    bad_pixels
        Bool, shape (rows, columns), True = leave out.

    Returns
    -------
    radius : NDArray[np.float64]
        0, 1, 2, … pixels, out to the farthest corner; ring r holds the pixels whose
        distance from the centre rounds to r.
    mean : NDArray[np.float64]
        Mean over each ring, in the unit of the image; NaN where no pixel is good.
    """
    good = good_pixels(image, bad_pixels)
    ring = number_rings(centre, image.shape)
    n_rings = int(ring.max()) + 1
    total = np.bincount(ring[good], image[good], minlength=n_rings)
    n_pixels = np.bincount(ring[good], minlength=n_rings)
    mean = np.full(n_rings, np.nan)
    np.divide(total, n_pixels, out=mean, where=n_pixels > 0)
    return np.arange(n_rings, dtype=np.float64), mean


def radius_from(
    centre: tuple[float, float], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Give each pixel's distance from the centre in pixels, shape (rows, columns)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance: NDArray[np.float64] = np.hypot(rows - centre[0], columns - centre[1])
    return distance


def number_rings(
    centre: tuple[float, float], shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Give each pixel's distance from the centre in whole pixels, (rows, columns)."""
    return np.rint(radius_from(centre, shape)).astype(np.intp)


def angle_about(
    centre: tuple[float, float], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Give each pixel's angle in degrees from 0 up to 360, shape (rows, columns).

    0 points to the right, 90 to the top: counter-clockwise as displayed.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    angle = np.degrees(np.arctan2(centre[0] - rows, columns - centre[1]))
    return np.asarray(angle % 360, dtype=np.float64)


def flatten_patterns(
    patterns: NDArray[np.floating],
    centre: tuple[float, float],
    bad_pixels: NDArray[np.bool_] | None = None,
    least: float = 1.0,
) -> NDArray[np.float64]:
    """Divide patterns by their mean at each radius, so that fringes stand out.

    Parameters
    ----------
    patterns
        (n, rows, columns).
    centre
        Row and column in pixels.
    bad_pixels
        (rows, columns) bool, True = leave out.
    least
        Added to value and mean: what is far below it, as noise far out, stays near 1.

    Returns
    -------
    NDArray[np.float64]
        (n, rows, columns): 1 = as bright as the ring; NaN where no pixel of it is good.
    """
    ring = number_rings(centre, patterns.shape[1:])
    flat = np.empty(patterns.shape)
    for out, pattern in zip(flat, patterns, strict=True):
        _, mean = radial_average(pattern, centre, bad_pixels)
        out[:] = (np.maximum(pattern, 0) + least) / (np.maximum(mean[ring], 0) + least)
    return flat


DIAMETER_STEP = 0.005  # between neighbouring diameters, as a share of the diameter
BACKGROUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FIRST_ZERO = 4.4934  # of sin x - x cos x, where the first dark ring is


class Stack(Protocol):
    """What is needed of `patterns.Patterns`, which imports this subpackage."""

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns), True = leave out."""
        ...

    def map(
        self, function: Any, index: NDArray[np.int64], *, progress: str
    ) -> Iterator[tuple[Any, Any]]:
        """Yield where in the index a part lies, and the function of its patterns."""
        ...


def estimate_diameters(
    patterns: Stack, index: NDArray[np.int64], geometry: Geometry
) -> NDArray[np.float64]:
    """Estimate the diameters of particles from the rings of their patterns.

    The estimate is the diameter of the uniform sphere, on some even background, under
    which the photons of the rings are most likely: of any other particle, the sphere
    that scatters most alike.

    Parameters
    ----------
    patterns
        The stack; in ADU too, since only the shares of the rings count.
    index
        (m,) which of them.
    geometry
        Where the detector stands.

    Returns
    -------
    ndarray
        (m,) float64, in nm; NaN where a pattern has no photons.

    References
    ----------
    The sphere's form factor: Rayleigh, Proc. R. Soc. A 90, 219 (1914),
    doi:10.1098/rspa.1914.0023.
    """
    good = ~patterns.bad_pixels
    rings = number_rings(geometry.centre, good.shape)
    n_pixels = np.bincount(rings[good], minlength=int(rings.max()) + 1)
    q = geometry.q_inv_nm(np.arange(n_pixels.size, dtype=np.float64))
    diameters = _make_candidates(q)
    log_shares = _make_log_shares(q, diameters, n_pixels)
    found = np.full(len(index), np.nan)
    add_up = partial(_sum_rings, rings=rings.ravel(), n_rings=n_pixels.size)
    for here, photons in patterns.map(add_up, index, progress="Estimate sizes"):
        best = (photons @ log_shares.T).argmax(axis=1) % diameters.size
        found[here] = np.where(photons.any(axis=1), diameters[best], np.nan)
    return found


def _make_candidates(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return diameters whose first dark ring is on the detector and rings resolved."""
    smallest = 2 * FIRST_ZERO / q[-1]
    largest = 2 * np.pi / (4 * q[1])  # dark rings four pixels apart
    return np.exp(np.arange(np.log(smallest), np.log(largest), DIAMETER_STEP))


def _make_log_shares(
    q: NDArray[np.float64], diameters: NDArray[np.float64], n_pixels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return ln of each ring's share of the photons, (backgrounds × diameters, rings).

    Rings without a good pixel are 0: they cannot say anything.
    """
    sphere = _sphere(np.outer(diameters / 2, q)) * n_pixels
    sphere /= sphere.sum(axis=1, keepdims=True)
    even = n_pixels / n_pixels.sum()
    shares = np.concatenate([(1 - b) * sphere + b * even for b in BACKGROUNDS])
    logs = np.zeros_like(shares)
    np.log(shares, out=logs, where=n_pixels > 0)
    return logs


def _sphere(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a sphere scatters at x = q × radius; 1 at 0."""
    amplitude = np.ones_like(x)
    far = x > 1e-3
    amplitude[far] = 3 * (np.sin(x[far]) - x[far] * np.cos(x[far])) / x[far] ** 3
    return amplitude**2


def _sum_rings(
    block: NDArray[np.float32], rings: NDArray[np.intp], n_rings: int
) -> NDArray[np.float64]:
    """Sum what is above 0 over the rings, (m, rings)."""
    flat = np.maximum(block, 0).reshape(len(block), -1)
    return np.array([np.bincount(rings, one, minlength=n_rings) for one in flat])
