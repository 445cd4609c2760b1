"""A pattern beside its nearest template, turned to match it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.patterns import Patterns
from helpers.physics import REACH
from helpers.ranking.invariant_metrics import find_angle, find_templates_centre
from helpers.ranking.ranking import Ranking, find_metric

_LEAST_TURN_DEG = 30.0
_BEST_SHARE = 0.1
_LEAST_WEIGHT = 0.5
_SMOOTHING = 3  # pixels: photons are few, and the eye adds up no better


@dataclass(frozen=True, eq=False)
class Match:
    """A ranked pattern and its nearest template, as far out as the metric looks.

    Both are averaged over 3 × 3 pixels, without which most of what one sees is counting
    noise.

    Parameters
    ----------
    index, template
        Pattern indices of the two.
    distance, angle_deg
        From the ranking: by how many degrees, counter-clockwise as displayed, the
        template was turned.
    pattern
        Float32, shape (m, m), m three quarters of the pattern's shorter side: the
        middle of the pattern. NaN in bad pixels.
    turned
        Float32, same shape: the template, turned and as bright as the pattern. NaN
        where neither it nor the point opposite was measured.
    difference
        Float32, same shape: √pattern − √turned. Counting noise is then as large
        everywhere. NaN where one of them is.
    """

    index: int
    template: int
    distance: float
    angle_deg: float
    pattern: NDArray[np.float32]
    turned: NDArray[np.float32]
    difference: NDArray[np.float32]


def pick_turned(ranking: Ranking, photons: NDArray[np.floating]) -> int:
    """Pick a telling match: the brightest of the best whose template was turned far.

    Parameters
    ----------
    ranking
        Of at least one pattern. The best tenth is chosen from.
    photons
        Shape (n_patterns,): brightness of each pattern of the stack.

    Returns
    -------
    int
        Pattern index. Its template was turned by 30° to 150°, if any is known to be.

    Raises
    ------
    ParameterError
        If nothing was ranked.
    """
    if len(ranking) == 0:
        message = "The ranking is empty: every pattern is a template. Pass fewer hits."
        raise ParameterError(message)
    n_best = max(1, round(_BEST_SHARE * len(ranking)))
    best, angle_deg = ranking.index[:n_best], ranking.angle_deg[:n_best]
    is_turned = np.abs((angle_deg + 90) % 180 - 90) >= _LEAST_TURN_DEG
    candidates = best[is_turned] if is_turned.any() else best
    return int(candidates[np.argmax(photons[candidates])])


def match_template(
    patterns: Patterns,
    ranking: Ranking,
    index: int,
    centre: tuple[float, float] | None = None,
) -> Match:
    """Turn the nearest template of a pattern so that it looks like the pattern.

    Parameters
    ----------
    patterns
        The stack.
    ranking
        Its ranking.
    index
        Pattern index.
    centre
        (row, column) of the beam, for metrics that turn templates about it; others, and
        all without it, turn about the middle of the image.

    Raises
    ------
    ParameterError
        If the pattern was not ranked, or its template is of another stack.
    """
    place = np.flatnonzero(ranking.index == index)
    if place.size == 0:
        message = (
            f"pattern {index} is not in the ranking; expected one of the"
            f" {len(ranking)} patterns that are no template, such as"
            f" {ranking.index[:3].tolist()}."
        )
        raise ParameterError(message)
    at = int(place[0])
    template, angle_deg = int(ranking.template[at]), float(ranking.angle_deg[at])
    if template >= len(patterns):
        message = (
            f"template {template} is of another stack than the {len(patterns)} patterns"
            " that it ranks; expected one to show beside pattern"
            f" {index}. Show matches in the work folder of the templates."
        )
        raise ParameterError(message)
    if np.isnan(angle_deg):
        about = centre or find_templates_centre(patterns, np.unique(ranking.template))
        angle_deg = find_angle(patterns, index, template, about)
    if centre is None or not find_metric(ranking.metric).turns_about_centre:
        centre = (patterns.shape[1] - 1) / 2, (patterns.shape[2] - 1) / 2
    pattern, image = np.where(patterns.bad_pixels, np.nan, patterns[[index, template]])
    middle = _find_middle(centre, pattern.shape)
    pattern = _smooth(pattern)[middle]
    turned = _smooth(turn(image, angle_deg, centre))[middle]
    turned *= _brightness(pattern, turned)
    roots = (np.sqrt(np.maximum(values, 0)) for values in (pattern, turned))
    difference = np.subtract(*roots)
    distance = float(ranking.distance[at])
    return Match(index, template, distance, angle_deg, pattern, turned, difference)


def turn(
    image: NDArray[np.float32], angle_deg: float, centre: tuple[float, float]
) -> NDArray[np.float32]:
    """Rotate an image about the centre, with what is missing from the opposite side.

    Parameters
    ----------
    image
        Shape (rows, columns); NaN where nothing was measured.
    angle_deg
        Degrees, counter-clockwise as displayed.
    centre
        Row and column in pixels.

    Returns
    -------
    NDArray[np.float32]
        Same shape, by linear interpolation between measured pixels; NaN where there are
        none.
    """
    known = np.isfinite(image).astype(np.float32)
    values = np.where(known > 0, image, 0)
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    for friedel in (0, 180):
        missing = weight < _LEAST_WEIGHT
        angle = angle_deg + friedel
        total[missing] = _rotate(values, angle, centre)[missing]
        weight[missing] = _rotate(known, angle, centre)[missing]
    turned = np.full(image.shape, np.nan, dtype=np.float32)
    np.divide(total, weight, out=turned, where=weight >= _LEAST_WEIGHT)
    return turned


def _find_middle(
    centre: tuple[float, float], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Find the rows and columns that the rotation metric looks at."""
    reach = int(REACH * min(shape))
    first_row, first_column = (max(0, round(middle) - reach) for middle in centre)
    return (
        slice(first_row, first_row + 2 * reach + 1),
        slice(first_column, first_column + 2 * reach + 1),
    )


def _smooth(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the known pixels among the nearest; NaN stays NaN."""
    from scipy import ndimage  # slow to import

    known = np.isfinite(image)
    total, weight = (
        ndimage.uniform_filter(values.astype(np.float32), _SMOOTHING)
        for values in (np.where(known, image, 0), known)
    )
    smooth = np.full(image.shape, np.nan, dtype=np.float32)
    np.divide(total, weight, out=smooth, where=known)
    return smooth


def _rotate(
    values: NDArray[np.float32], angle_deg: float, centre: tuple[float, float]
) -> NDArray[np.float32]:
    from scipy import ndimage  # slow to import

    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    back = np.array([[cosine, sine], [-sine, cosine]])
    offset = np.asarray(centre) - back @ centre
    rotated: NDArray[np.float32] = ndimage.affine_transform(
        values, back, offset, order=1, mode="grid-constant"
    )
    return rotated


def _brightness(pattern: NDArray[np.float32], turned: NDArray[np.float32]) -> float:
    """Find by which factor to multiply: least squares over what both have measured."""
    both = np.isfinite(pattern) & np.isfinite(turned)
    power = float(np.square(turned[both]).sum())
    return float((pattern[both] * turned[both]).sum()) / power if power > 0 else 0.0
