"""What a metric is: how far each pattern is from its nearest template.

A new metric is a module that makes a `Metric`, and a line in the table `METRICS` of
`helpers.ranking.ranking`. The article's stands here: the smallest plain distance from
36 rotations of each template. It is kept to the letter, as the baseline that everyone
can compare with; only the arithmetic is rearranged, into one matrix product.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from helpers.patterns import Patterns, count_threads, run_in_order

N_NEAREST = 3


def mean_of_nearest(distances: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of the three smallest distances (n, n_templates) of each row."""
    n_nearest = min(N_NEAREST, distances.shape[1])
    smallest = np.partition(distances, n_nearest - 1, axis=1)[:, :n_nearest]
    return np.asarray(smallest.mean(axis=1, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest template of each pattern, in stack order.

    Parameters
    ----------
    distance
        Float64, shape (n_patterns,): distance from the nearest template.
    hit
        Int64, shape (n_patterns,): which template, counted among the hits given.
    angle_deg
        Float32, shape (n_patterns,): degrees, counter-clockwise as displayed, by which
        that template is to be rotated to look like the pattern; NaN where the metric
        does not ask.
    n_rotations
        Orientations in which each template was compared.
    """

    distance: NDArray[np.float64]
    hit: NDArray[np.int64]
    angle_deg: NDArray[np.float32]
    n_rotations: int

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the results for successive patterns end to end."""
        return cls(
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.hit for part in parts]),
            np.concatenate([part.angle_deg for part in parts]),
            parts[0].n_rotations,
        )


@dataclass(frozen=True)
class MetricOptions:
    """What a metric may be told; each takes what it needs.

    Parameters
    ----------
    centre
        (row, column) of the beam in pixels; None = find it from the templates.
    n_rotations
        Orientations of each template, where they are counted.
    step_deg
        Degrees from one of them to the next.
    max_bytes
        Memory to work in.
    source
        The stack that the templates are of; None = the one that is ranked.
    source_centre
        As `centre`, of that stack.
    """

    centre: tuple[float, float] | None
    n_rotations: int
    step_deg: float
    max_bytes: int
    source: Patterns | None = None
    source_centre: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metric:
    """A way to say how alike two patterns are, whatever their orientation.

    Parameters
    ----------
    name
        What `rank_patterns` and the notebooks know it by.
    turns_about_centre
        Whether templates are turned about the centre of the beam; else about the
        middle of the image.
    nearest
        Takes the stack, the (n_hits,) int64 pattern indices of the templates (in
        `source`, where there is one) and the options; returns the nearest template of
        each pattern of the stack.
    compare
        Takes the stack, (m,) int64 pattern indices, those of the templates, and the
        centre; returns the distances (m, n_hits), so that the labels can choose the
        metric. None = it is not to be chosen unless named.
    """

    name: str
    turns_about_centre: bool
    nearest: Callable[[Patterns, NDArray[np.int64], MetricOptions], Nearest]
    compare: Callable[..., NDArray[np.floating]] | None = None


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

    for _ in run_in_order(rotate, range(len(angles_deg))):
        pass


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


# A float32 product over 1e5 pixels of one sign is off by up to 1e-6 of its size.
_PRODUCT_ERROR = 4e-6
# Shares of the memory; a tenth stays free.
_FOR_TEMPLATES = 3 / 4
_FOR_PATTERNS = 1 / 7
_LONGEST_GROUP = 512  # patterns: the product is no faster with more


def nearest_by_article(
    patterns: Patterns, hits: NDArray[np.int64], options: MetricOptions
) -> Nearest:
    """Find the rotated template nearest to each pattern by the Frobenius norm.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits
        Int64, shape (n_hits,): pattern indices of the templates.
    options
        The rotations, counter-clockwise as displayed, and the memory for rotated
        templates and blocks of patterns together. When the templates need more, the
        stack is read once for every set that fits.

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
    n_turns, max_bytes = options.n_rotations, options.max_bytes
    angles_deg = np.arange(n_turns) * options.step_deg
    sets = _sets_that_fit(hits, n_turns, patterns, int(max_bytes * _FOR_TEMPLATES))
    squared = np.full(len(patterns), np.inf)
    number = np.zeros(len(patterns), dtype=np.int64)
    for part, some in enumerate(sets):
        name = f"Ranking, part {part + 1} of {len(sets)}" if sets[1:] else "Ranking"
        read_hits = (options.source or patterns).read_later(some)
        templates = RotatedHits(read_hits, angles_deg)
        most = int(max_bytes * _FOR_PATTERNS)
        length = templates.group_length(most, len(patterns))
        nearest = patterns.map(templates.find_nearest, length=length, progress=name)
        parts = zip(*(each for _, each in nearest), strict=True)
        found, which = map(np.concatenate, parts)
        better = found < squared
        squared[better] = found[better]
        number[better] = which[better] + part * len(sets[0]) * n_turns
    hit, turn = np.divmod(number, n_turns)
    angle_deg = np.asarray(angles_deg, dtype=np.float32)[turn]
    return Nearest(np.sqrt(squared), hit, angle_deg, n_turns)


def scale_to_255(
    images: NDArray[np.floating], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Set negative values to 0 and scale each image to a maximum of 255.

    Parameters
    ----------
    images
        Shape (n, rows, columns). NaN and inf count as 0.
    out
        Where the result goes, if not to new memory; may be `images`.

    Returns
    -------
    NDArray[np.float32]
        Same shape. An image without any positive value becomes 0 everywhere: the
        article would divide by 0.
    """
    scaled = np.empty(images.shape, np.float32) if out is None else out
    for image, result in zip(images, scaled, strict=True):
        np.maximum(image, 0, out=result)
        if not np.isfinite(result.max()):
            np.nan_to_num(result, copy=False, nan=0, posinf=0)
        largest = result.max()
        np.multiply(result, 255 / largest if largest > 0 else 0, out=result)
    return scaled


class RotatedHits:
    """Templates in all rotations, to find the one nearest to an image.

    Whoever is sent them, in another process, reads and rotates the hits again.

    Parameters
    ----------
    read_hits
        Gives the templates, (n_hits, rows, columns).
    angles_deg
        (n_rotations,): degrees, counter-clockwise as displayed.
    """

    def __init__(
        self,
        read_hits: Callable[[], NDArray[np.float32]],
        angles_deg: NDArray[np.floating],
    ) -> None:
        self._made_of = read_hits, angles_deg

    def __reduce__(self) -> tuple[Any, ...]:
        """Send none of the rotated images."""
        return RotatedHits, self._made_of

    @cached_property
    def _rotated(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The rotated images, hit after hit, (n, pixels), and their squared norms."""
        read_hits, angles_deg = self._made_of
        rotated = rotate_templates(scale_to_255(read_hits()), angles_deg)
        flat = rotated.reshape(-1, math.prod(rotated.shape[2:]))
        return flat, _squared_norms(flat)

    def group_length(self, max_bytes: int, n_images: int) -> int:
        """Size groups of images, so that all threads together need no more memory.

        Each thread gets as many groups as the others: none waits for the last one.
        """
        n_templates, n_pixels = map(int, self._rotated[0].shape)
        image_bytes = 4 * (n_pixels + 4 * n_templates)
        n_threads = count_threads()
        longest = max(1, min(max_bytes // n_threads // image_bytes, _LONGEST_GROUP))
        n_rounds = -(-n_images // (longest * n_threads))
        return -(-n_images // (n_rounds * n_threads))

    def find_nearest(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Find the nearest of these templates for each image.

        Only templates that might beat their rivals are compared pixel by pixel; of
        equally near ones the first wins, as in the article.

        Parameters
        ----------
        images
            Float32, shape (n, rows, columns), clean; they are scaled in place.

        Returns
        -------
        squared : NDArray[np.float64]
            Shape (n,): squared distance.
        number : NDArray[np.int64]
            Shape (n,): which template, counting hit after hit and angle after angle.
        """
        flat = scale_to_255(images, out=images).reshape(len(images), -1)
        squares = _squared_norms(flat)
        templates, their_squares = self._rotated
        estimate = flat @ templates.T
        squared = np.full(len(flat), np.inf)
        number = np.zeros(len(flat), dtype=np.int64)
        for image, products in enumerate(estimate):
            sizes = squares[image] + their_squares
            error = _PRODUCT_ERROR * sizes
            lowest = sizes - 2 * products - error
            limit = (lowest + 2 * error).min()
            for rival in np.flatnonzero(lowest <= limit):
                apart = np.subtract(flat[image], templates[rival], dtype=np.float64)
                exact = float(apart @ apart)
                if exact < squared[image]:
                    squared[image], number[image] = exact, rival
        return squared, number


def _squared_norms(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add up the squares of each row: a dot product each, pairwise is not needed."""
    return np.array([row @ row for row in flat], dtype=np.float32)


def _sets_that_fit(
    hits: NDArray[np.int64], n_turns: int, patterns: Patterns, max_bytes: int
) -> list[NDArray[np.int64]]:
    """Split the hits so that each part, rotated, needs at most `max_bytes`."""
    bytes_per_hit = 4 * math.prod(patterns.shape[1:]) * n_turns
    n_sets = -(-len(hits) // max(1, max_bytes // bytes_per_hit))
    size = -(-len(hits) // n_sets)
    return [hits[first : first + size] for first in range(0, len(hits), size)]


ARTICLE = Metric("article", turns_about_centre=False, nearest=nearest_by_article)
