"""The centre of a diffraction pattern, by its point symmetry."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import fft

_MINIMAL_OVERLAP = 0.3
_POOR_SYMMETRY = 0.3


def find_centre(
    powder: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Find the point about which a powder looks the same after half a turn.

    Diffraction of a real object at small angles is centrosymmetric (Friedel's law).
    The square root of the powder is compared with its own reflection through every
    point, by the correlation coefficient over the pixels that are good in both; a
    parabola through the best value and its neighbours gives the fraction of a pixel.

    Parameters
    ----------
    powder
        Sum or mean over many patterns, shape (rows, columns), photons or ADU. NaN and
        inf are left out, as are bad pixels; negative values count as 0.
    bad_pixels
        Bool, shape (rows, columns), True = leave out.

    Returns
    -------
    tuple[float, float]
        Row and column in pixels; (0, 0) is the middle of the first pixel.

    Warns
    -----
    UserWarning
        If the powder is not symmetric about any point: no coefficient reaches 0.3.

    Notes
    -----
    The masked correlation with the own reflection needs three Fourier transforms
    forward and three back, because both images and both masks are the same [1]_.
    Reflections that leave fewer than 0.3 of the largest possible number of pixel pairs
    are not considered. A pixel more than twice as bright as the fourth brightest in
    its 5 × 5 surroundings is cut down to that: a hot pixel that nobody marked would
    otherwise be the perfect centre.

    References
    ----------
    .. [1] D. Padfield, "Masked Object Registration in the Fourier Domain", IEEE Trans.
       Image Process. 21, 2706 (2012), section II. doi:10.1109/TIP.2011.2097275

    Examples
    --------
    >>> rows, columns = np.mgrid[:40, :41]
    >>> powder = 100 * np.exp(-np.hypot(rows - 18.5, columns - 21) / 5)
    >>> row, column = find_centre(powder)
    >>> round(row, 1), round(column, 1)
    (18.5, 21.0)
    """
    good = good_pixels(powder, bad_pixels)
    symmetry = _symmetry(_tame(powder, good), good)
    best = np.unravel_index(np.argmax(symmetry), symmetry.shape)
    if symmetry[best] < _POOR_SYMMETRY:
        _warn_of_poor_symmetry(float(symmetry[best]))
    if symmetry[best] <= 0:
        return (powder.shape[0] - 1) / 2, (powder.shape[1] - 1) / 2
    row, column = _refine_maximum(symmetry, (int(best[0]), int(best[1])))
    return row / 2, column / 2


def good_pixels(
    image: NDArray[np.floating], bad_pixels: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Mark the pixels that are finite and not bad: bool, shape of the image."""
    finite: NDArray[np.bool_] = np.isfinite(image)
    return finite if bad_pixels is None else finite & ~bad_pixels


def _tame(powder: NDArray[np.floating], good: NDArray[np.bool_]) -> NDArray[np.float64]:
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
    mask_f, image_f, square_f = (_forward(a) for a in (good, image, image**2))
    n_pairs = np.rint(_back(mask_f * mask_f, good.shape))
    total = _back(image_f * mask_f, good.shape)
    squares = _back(square_f * mask_f, good.shape)
    products = _back(image_f * image_f, good.shape)
    mean_square = total**2 / np.maximum(n_pairs, 1)
    variance = squares - mean_square
    trusted = n_pairs >= _MINIMAL_OVERLAP * n_pairs.max()
    trusted &= variance > 1e-9 * max(float(squares.max()), np.finfo(float).tiny)
    coefficient = np.full(variance.shape, -1.0)
    np.divide(products - mean_square, variance, out=coefficient, where=trusted)
    return coefficient


def _forward(image: NDArray[np.generic]) -> NDArray[np.complex128]:
    shape = [fft.next_fast_len(2 * n - 1, real=True) for n in image.shape]
    transformed: NDArray[np.complex128] = fft.rfft2(image.astype(np.float64), shape)
    return transformed


def _back(
    transformed: NDArray[np.complex128], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    full = [fft.next_fast_len(2 * n - 1, real=True) for n in shape]
    image: NDArray[np.float64] = fft.irfft2(transformed, full)
    return image[: 2 * shape[0] - 1, : 2 * shape[1] - 1]


def _refine_maximum(
    values: NDArray[np.float64], best: tuple[int, int]
) -> tuple[float, float]:
    row, column = best
    along_rows = _vertex(values[max(row - 1, 0) : row + 2, column])
    along_columns = _vertex(values[row, max(column - 1, 0) : column + 2])
    return row + along_rows, column + along_columns


def _vertex(values: NDArray[np.float64]) -> float:
    """Where a parabola through three neighbours peaks, from -0.5 to 0.5."""
    if len(values) < 3 or values.min() <= -1:
        return 0.0
    before, middle, after = values
    curvature = before - 2 * middle + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0


def _warn_of_poor_symmetry(coefficient: float) -> None:
    message = (
        f"The powder is not symmetric about any point: the best correlation with its"
        f" own reflection is {coefficient:.2f}, expected at least {_POOR_SYMMETRY}."
        " Look at the powder, mark bad pixels, sum more patterns, or pass the centre."
    )
    warnings.warn(message, UserWarning, stacklevel=3)


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
    ring = np.rint(radius_from(centre, image.shape)).astype(np.intp)
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
    ring = np.rint(radius_from(centre, patterns.shape[1:])).astype(np.intp)
    flat = np.empty(patterns.shape)
    for out, pattern in zip(flat, patterns, strict=True):
        _, mean = radial_average(pattern, centre, bad_pixels)
        out[:] = (np.maximum(pattern, 0) + least) / (np.maximum(mean[ring], 0) + least)
    return flat
