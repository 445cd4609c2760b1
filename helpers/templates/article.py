"""The article's method: smallest plain distance from 36 rotations of each template.

Kept to the letter, as the baseline that everyone can compare with; only the arithmetic
is rearranged, into one matrix product.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.templates.nearest import Nearest

if TYPE_CHECKING:
    from helpers.patterns import Patterns

# A float32 product over 1e5 pixels of one sign is off by up to 1e-6 of its size.
_PRODUCT_ERROR = 4e-6
_PAIRS_AT_ONCE = 64


def nearest_by_article(
    patterns: "Patterns",
    hits: NDArray[np.int64],
    angles_deg: NDArray[np.floating],
    max_bytes: int,
) -> Nearest:
    """Find the rotated template nearest to each pattern by the Frobenius norm.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits
        Int64, shape (n_hits,): pattern indices of the templates.
    angles_deg
        Shape (n_rotations,): degrees, counter-clockwise as displayed.
    max_bytes
        Memory for rotated templates and blocks of patterns together. When the
        templates need more, the stack is read once for every set that fits.

    Returns
    -------
    Nearest
        For each pattern the smallest distance over all templates and rotations.

    Notes
    -----
    The distances come from ‖x − t‖² = ‖x‖² + ‖t‖² − 2 x·t with all products as one
    float32 matrix product. Where x and t are alike this difference of large numbers
    loses its digits, so every template that could be nearest within the error of the
    product is compared again, pixel by pixel.
    """
    from tqdm.auto import tqdm  # slow to import

    n_turns = len(angles_deg)
    squared = np.full(len(patterns), np.inf)
    number = np.zeros(len(patterns), dtype=np.int64)
    compared = 0
    with tqdm(total=len(patterns), desc="Ranking", unit="pattern") as bar:
        for first, some in _sets_that_fit(hits, n_turns, patterns, max_bytes // 2):
            scaled = scale_to_255(patterns[some])
            templates = _flat(rotate_templates(scaled, angles_deg))
            block_bytes = _block_bytes(templates, max_bytes // 8)
            for start, block in patterns.blocks(block_bytes):
                part = slice(start, start + len(block))
                images = _flat(scale_to_255(block))
                found, which = nearest_in_set(images, templates, squared[part])
                better = found < squared[part]
                squared[part][better] = found[better]
                number[part][better] = which[better] + first * n_turns
                compared += len(block) * len(some)
                bar.update(compared // len(hits) - bar.n)
    hit, turn = np.divmod(number, n_turns)
    angle_deg = np.asarray(angles_deg, dtype=np.float32)[turn]
    return Nearest(np.sqrt(squared), hit, angle_deg, n_turns)


def scale_to_255(images: NDArray[np.floating]) -> NDArray[np.float32]:
    """Set negative values to 0 and scale each image to a maximum of 255.

    Parameters
    ----------
    images
        Shape (n, rows, columns). NaN and inf count as 0.

    Returns
    -------
    NDArray[np.float32]
        Same shape. An image without any positive value becomes 0 everywhere: the
        article would divide by 0.
    """
    positive: NDArray[np.float32] = np.maximum(images, 0, dtype=np.float32)
    np.nan_to_num(positive, copy=False, nan=0, posinf=0)
    largest = positive.max(axis=(1, 2), keepdims=True)
    factor = np.divide(255, largest, out=np.zeros_like(largest), where=largest > 0)
    positive *= factor
    return positive


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
        `scipy.ndimage.rotate(image, angle, reshape=False)`, 0 outside the image. The
        spline coefficients of an image serve all its rotations.
    """
    from scipy import ndimage  # slow to import

    rotated = np.empty((len(images), len(angles_deg), *images.shape[1:]), np.float32)

    def rotate(number: int) -> None:
        coefficients = ndimage.spline_filter(images[number].astype(np.float64), order=3)
        for turn, angle in enumerate(angles_deg):
            ndimage.rotate(
                coefficients,
                angle,
                reshape=False,
                prefilter=False,
                output=rotated[number, turn],
            )

    with ThreadPoolExecutor() as threads:
        list(threads.map(rotate, range(len(images))))
    return rotated


def nearest_in_set(
    images: NDArray[np.float32],
    templates: NDArray[np.float32],
    best_so_far: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the nearest of these templates for each image.

    Only templates that might beat both their rivals here and the best so far are
    compared pixel by pixel; of equally near ones the first wins, as in the article.

    Parameters
    ----------
    images, templates
        Float32, shapes (n, pixels) and (n_templates, pixels).
    best_so_far
        Float64, shape (n,): squared distance of each image from earlier templates.

    Returns
    -------
    squared : NDArray[np.float64]
        Shape (n,): squared distance; inf where no template comes as close as before.
    number : NDArray[np.int64]
        Shape (n,): which template.
    """
    estimate, error = _estimate_squared(images, templates)
    limit = np.minimum((estimate + error).min(axis=1), best_so_far)
    image, template = np.nonzero(estimate - error <= limit[:, None])
    exact = _exact_squared(images, templates, image, template)
    squared = np.full(len(images), np.inf)
    number = np.zeros(len(images), dtype=np.int64)
    order = np.lexsort((template, exact, image))
    found, first = np.unique(image[order], return_index=True)
    squared[found] = exact[order][first]
    number[found] = template[order][first]
    return squared, number


def _estimate_squared(
    images: NDArray[np.float32], templates: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the squares of all distances, (n_images, n_templates), and the error."""
    sizes = _squared_norms(images)[:, None] + _squared_norms(templates)
    return sizes - 2 * (images @ templates.T), _PRODUCT_ERROR * sizes


def _squared_norms(images: NDArray[np.float32]) -> NDArray[np.float32]:
    norms: NDArray[np.float64] = np.einsum("ij,ij->i", images, images, dtype=np.float64)
    return norms.astype(np.float32)


def _exact_squared(
    images: NDArray[np.float32],
    templates: NDArray[np.float32],
    image: NDArray[np.intp],
    template: NDArray[np.intp],
) -> NDArray[np.float64]:
    squared = np.empty(len(image))
    for start in range(0, len(image), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        difference = images[image[pairs]] - templates[template[pairs]]
        squared[pairs] = np.square(difference).sum(axis=1, dtype=np.float64)
    return squared


def _sets_that_fit(
    hits: NDArray[np.int64], n_turns: int, patterns: "Patterns", max_bytes: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Split the hits so that each part, rotated, needs at most `max_bytes`."""
    bytes_per_hit = 4 * math.prod(patterns.shape[1:]) * n_turns
    n_sets = -(-len(hits) // max(1, max_bytes // bytes_per_hit))
    size = -(-len(hits) // n_sets)
    for first in range(0, len(hits), size):
        yield first, hits[first : first + size]


def _block_bytes(templates: NDArray[np.float32], max_bytes: int) -> int:
    """Size blocks so that neither the patterns nor the estimates need more."""
    n_templates, n_pixels = templates.shape
    n_patterns = max_bytes // (4 * max(n_pixels, 4 * n_templates))
    return int(4 * n_pixels * max(1, n_patterns))


def _flat(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(-1, images.shape[-2] * images.shape[-1])
