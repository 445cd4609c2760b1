"""Images rotated by cubic splines, many at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

_AT_ONCE = 64  # images: more gain nothing, and take memory
_N_TAPS = 16  # pixels around a point that its cubic spline is made of


def rotate_templates(
    images: NDArray[np.floating], angles_deg: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Rotate each image by each angle about the middle of the image.

    Parameters
    ----------
    images
        Shape (n, rows, columns).
    angles_deg
        Shape (n_rotations,): degrees, counter-clockwise as displayed.

    Returns
    -------
    NDArray[np.float32]
        Shape (n, n_rotations, rows, columns): cubic splines as in
        `scipy.ndimage.rotate(image, angle, reshape=False)`, 0 outside the image.

    Notes
    -----
    SciPy finds the place and the 16 weights of every pixel anew for each image. They
    are the same for all images, so here they make one sparse matrix for each angle, by
    which the spline coefficients of many images are multiplied at once [1]_.

    References
    ----------
    .. [1] M. Unser, "Splines: A Perfect Fit for Signal and Image Processing", IEEE
       Signal Process. Mag. 16 (6), 22 (1999). doi:10.1109/79.799930
    """
    n, *shape = images.shape
    rotated = np.empty((n, len(angles_deg), *shape), np.float32)
    for start in range(0, n, _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        _rotate_some(images[here], angles_deg, rotated[here])
    return rotated


def _rotate_some(
    images: NDArray[np.floating],
    angles_deg: NDArray[np.floating],
    out: NDArray[np.float32],
) -> None:
    from scipy import ndimage  # slow to import

    wide = images.astype(np.float64)
    filtered = np.stack([ndimage.spline_filter(image, order=3) for image in wide])
    coefficients = np.ascontiguousarray(filtered.reshape(len(images), -1).T)

    def rotate(number: int) -> None:
        matrix = _make_matrix(images.shape[1:], angles_deg[number])
        out[:, number] = (matrix @ coefficients).T.reshape(images.shape)

    with ThreadPoolExecutor() as threads:
        list(threads.map(rotate, range(len(angles_deg))))


def _make_matrix(shape: tuple[int, ...], angle_deg: float) -> sparse.csr_array:
    """Make the matrix from spline coefficients to a rotated image, (pixels, pixels)."""
    cosine, sine = special.cosdg(angle_deg), special.sindg(angle_deg)
    back = np.array([[cosine, sine], [-sine, cosine]])
    middle = (np.array(shape) - 1) / 2
    start = middle - back @ middle
    pixels = np.indices(shape).reshape(2, -1)
    row, column = (
        offset + step[0] * pixels[0] + step[1] * pixels[1]
        for offset, step in zip(start, back, strict=True)
    )
    inside = (row >= 0) & (row <= shape[0] - 1)
    inside &= (column >= 0) & (column <= shape[1] - 1)
    rows, row_weights = _find_taps(row[inside], shape[0])
    columns, column_weights = _find_taps(column[inside], shape[1])
    taps = rows[:, :, None] * shape[1] + columns[:, None, :]
    weights = row_weights[:, :, None] * column_weights[:, None, :]
    ends = np.concatenate([[0], np.cumsum(inside) * _N_TAPS])
    entries = weights.ravel(), taps.ravel(), ends
    return sparse.csr_array(entries, shape=(inside.size, inside.size))


def _find_taps(
    place: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the four pixels around each place on an axis, and their weights, (n, 4).

    Beyond the ends the coefficients are mirrored, as the filter takes them to be.
    """
    first = np.floor(place)
    t = place - first
    weights = [
        (1 - t) ** 3,
        3 * t**3 - 6 * t**2 + 4,
        -3 * t**3 + 3 * t**2 + 3 * t + 1,
        t**3,
    ]
    period = max(1, 2 * (length - 1))
    pixels = (first.astype(np.int64)[:, None] + np.arange(-1, 3)) % period
    mirrored = np.minimum(pixels, period - pixels)
    return mirrored, np.stack(weights, axis=-1) / 6
