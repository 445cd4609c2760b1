"""Radii and angles about the centre, and means over rings."""

import numpy as np
from numpy.typing import NDArray

from helpers.physics.centre import good_pixels


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
