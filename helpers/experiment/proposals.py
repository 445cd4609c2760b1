"""Pixels that should be left out though no mask says so."""

import numpy as np
from numpy.typing import NDArray

from helpers.experiment.measurements import Measurements

SMALLEST_SHADOW = 9  # pixels


def propose_bad_pixels(
    measurements: Measurements, bad_pixels: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Name pixels that do not behave like their neighbours.

    Each pixel's mean over the patterns is compared with the median of the good pixels
    in the 7 × 7 pixels around it. *Hot* means more than 5 times that median and 10
    robust standard deviations above it; *dead* means no signal at all, ever, where at
    least half of a bright neighbourhood has some; *not finite* means NaN or infinite in
    at least one pattern in a hundred. The bar is high: what is proposed is meant to be
    accepted after a glance at the picture.

    Parameters
    ----------
    measurements
        Of the whole stack.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
    dict
        "hot", "dead", "not finite": (rows, columns) bool each.
    """
    powder = np.where(bad_pixels, np.nan, measurements.powder)
    around = median_around(powder)
    residual = powder - around
    noise = 1.4826 * median_around(np.abs(residual))
    n_patterns = len(measurements.photons)
    dead = _never_lit(measurements)
    with np.errstate(invalid="ignore"):
        hot = (residual > 10 * noise) & (powder > 5 * np.maximum(around, 0))
        dead &= around * n_patterns > 20
        hot &= powder * n_patterns > 20
    return {
        "hot": hot & ~bad_pixels,
        "dead": dead & ~bad_pixels,
        "not finite": (measurements.not_finite >= 0.01) & ~bad_pixels,
    }


def propose_shadows(
    measurements: Measurements, bad_pixels: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find gaps between modules and beam stops that no mask leaves out.

    A shadow is a connected region of at least 9 pixels that never had a signal, where
    at least half of the good pixels within two pixels of it had more than 20 in all.
    The dark corners of a detector are none: what is around them is dark too.

    Parameters
    ----------
    measurements
        Of the whole stack.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
        (rows, columns) bool.
    """
    from scipy import ndimage

    total = measurements.powder * len(measurements.photons)
    silent = _never_lit(measurements) & ~bad_pixels
    regions, _ = ndimage.label(silent)
    shadows = np.zeros(silent.shape, np.bool_)
    for number, where in enumerate(ndimage.find_objects(regions), start=1):
        wider = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in where)
        region = regions[wider] == number
        around = ndimage.binary_dilation(region, np.ones((5, 5))) & ~region
        lit = total[wider][around & ~bad_pixels[wider]] > 20
        is_large = np.count_nonzero(region) >= SMALLEST_SHADOW
        if is_large and 2 * np.count_nonzero(lit) >= lit.size > 0:
            shadows[wider] |= region
    return shadows


def median_around(image: NDArray[np.float64], size: int = 7) -> NDArray[np.float64]:
    """Return the median of the finite pixels in the square around each pixel."""
    padded = np.pad(image, size // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    flat = np.sort(windows.reshape(*image.shape, -1), axis=-1)  # NaN sorts last
    n_finite = np.isfinite(flat).sum(axis=-1)
    low, high = np.maximum(n_finite - 1, 0) // 2, n_finite // 2
    at = np.stack([low, np.minimum(high, flat.shape[-1] - 1)], axis=-1)
    median = np.take_along_axis(flat, at, axis=-1).mean(axis=-1)
    return np.where(n_finite > 0, median, np.nan)


def _never_lit(measurements: Measurements) -> NDArray[np.bool_]:
    """Return the pixels without any signal in the whole stack, (rows, columns)."""
    dark: NDArray[np.bool_] = (measurements.powder == 0) & (measurements.spread == 0)
    return dark
