"""Metrics that know a particle however it lies: by rotation, and by the encoder.

`rotation` is over all rotations in the plane, with noise accounted for. But two
patterns may be of the same particle and yet look alike in no rotation, because a
particle that is not round shows another face. The numbers of `helpers.features`, which
`encoder` compares, say how many particles there are, how large, of what shape, not
which face.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from helpers.errors import ParameterError
from helpers.features import (
    N_NUMBERS,
    N_SUMMARY,
    PatternFeatures,
    keep_features,
    standardise,
)
from helpers.patterns import Patterns, reused_array, spread_evenly
from helpers.physics import FriedelAverage, FriedelMaps, PolarGrid, find_centre, inverse
from helpers.ranking.metric import Metric, MetricOptions, Nearest, mean_of_nearest

_NOISE_SHARE = 0.9
_MOST_HARMONICS = 21
_LEAST_SIGNAL = 0.3
_AT_ONCE = 384  # patterns: with fewer the threads wait for each other more often
_MOST_IN_POWDER = 256
_MOST_PAIRS = 2**18  # of patterns and templates, which take 350 bytes each


def nearest_by_rotation(
    patterns: Patterns, hits: NDArray[np.int64], options: MetricOptions
) -> Nearest:
    """Find the template nearest to each pattern over all rotations in the plane.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits
        Int64, shape (n_hits,): pattern indices of the templates.
    options
        The centre to rotate about; without it, the centre of symmetry of the templates.

    Returns
    -------
    Nearest
        For each pattern its distance from the templates, and the nearest of them.
    """
    source, source_centre, centre = find_source(patterns, hits, options)
    friedel = theirs = _friedel_about(patterns, centre)
    if options.source:
        theirs = _friedel_about(source, source_centre)
    templates = _make_templates(source, hits, theirs)
    at_once = max(1, min(_AT_ONCE, _MOST_PAIRS // len(hits)))

    def compare(cells: list[NDArray[np.float32]]) -> Nearest:
        maps = map(friedel.average_cells, _cut(np.concatenate(cells), at_once))
        return Nearest.join(list(map(templates.compare, maps)))

    found = patterns.map_in_groups(
        friedel.grid.average,
        compare,
        _AT_ONCE,
        raw=not patterns.has_mask_of_each,
        progress="Ranking",
    )
    return Nearest.join([nearest for _, nearest in found])


def _friedel_about(patterns: Patterns, centre: tuple[float, float]) -> FriedelAverage:
    grid = PolarGrid(patterns.shape[1:], centre, patterns.bad_pixels)
    return FriedelAverage(grid)


def _make_templates(
    patterns: Patterns, hits: NDArray[np.int64], friedel: FriedelAverage
) -> "RotatedTemplates":
    raw = (patterns.read_raw(part) for part in _cut(hits, _AT_ONCE))
    return RotatedTemplates(FriedelMaps.join(list(map(friedel.average, raw))))


def find_source(
    patterns: Patterns, hits: NDArray[np.int64], options: MetricOptions
) -> tuple[Patterns, tuple[float, float], tuple[float, float]]:
    """Return the stack that the templates are of, its centre, and that of `patterns`.

    A centre that is not given is found in the templates.
    """
    source = options.source or patterns
    given = options.source_centre if options.source else options.centre
    source_centre = given or find_templates_centre(source, hits)
    return source, source_centre, options.centre or source_centre


def find_templates_centre(
    patterns: Patterns, hits: NDArray[np.int64]
) -> tuple[float, float]:
    """Find the centre of symmetry of the templates: (row, column), in pixels."""
    images = patterns[hits[:_MOST_IN_POWDER]]
    brightness = np.maximum(images, 0).mean(axis=(1, 2))
    lit = brightness > 0
    if not lit.any():
        message = "No template has photons. Choose others, or check the bad pixels."
        raise ParameterError(message)
    # each counts the same, so that a bright one does not outshine the others
    powder = np.einsum("nrc,n->rc", images[lit], 1 / brightness[lit])
    return find_centre(powder, patterns.bad_pixels)


def _cut(values: NDArray[Any], length: int) -> Iterator[NDArray[Any]]:
    return (values[at : at + length] for at in range(0, len(values), length))


class RotatedTemplates:
    """Templates to compare patterns with, in all rotations at once.

    Parameters
    ----------
    maps
        The templates, averaged with themselves after half a turn.

    Notes
    -----
    With a pattern x and a template t on rings r and angles a,

        D = 1 - max over rotations of <x, t>² / (S(x) S(t)),
        <x, t> = Σ w(r) x(r, a) t(r, a),
        S(x) = <x, x> - 0.9 Σ w(r) var x(r, a).

    This is the share of the pattern's power that the template, rotated and scaled,
    leaves unexplained, less what counting noise adds to it. Without that correction
    every dim single hit lies farther off than a bright double one. Not all of the noise
    is taken off, because a dim pattern can be less sure of its likeness than a bright
    one, and never more than 0.7 of the power, so that patterns of nothing but noise
    stay far from every template. The distance is the mean of the three smallest D:
    about 0 if the pattern differs from the templates by no more than noise (a little
    less is possible), 1 if they have nothing in common.

    The correlation over all rotations is the product of the Fourier transforms over the
    angle [1]_, so it costs one small matrix product per harmonic and one for the way
    back; a parabola refines the angle between the steps. Of the 25 harmonics of half a
    turn the first 21 count: there is little but noise in the others.

    w(r) is the area of a cell: intensities count as they are. A root or a logarithm, or
    a larger weight for dim rings, gives noise and streaks too much say.

    References
    ----------
    .. [1] B. S. Reddy and B. N. Chatterji, "An FFT-Based Technique for Translation,
       Rotation, and Scale-Invariant Image Registration", IEEE Trans. Image Process. 5,
       1266 (1996). doi:10.1109/83.506761
    """

    def __init__(self, maps: FriedelMaps) -> None:
        n_rings, self._n_steps = maps.mean.shape[1:]
        self._area = ((np.arange(n_rings) + 0.5) / n_rings**2).astype(np.float32)
        harmonic = np.arange(min(_MOST_HARMONICS, self._n_steps // 2))
        # all but the mean stand for two, themselves and their complex conjugates
        share = np.where(harmonic == 0, 1, 2) / self._n_steps
        self._root_share = np.sqrt(share).astype(np.float32)
        self._in_band = np.float32(share.sum())
        step = np.arange(self._n_steps // 2 + 1)
        phase = 2 * np.pi * np.outer(step, harmonic) / self._n_steps
        self._cosines, self._sines = _single(np.cos(phase)), _single(np.sin(phase))
        spectra = self._transform(maps.mean)
        spectra *= np.sqrt(inverse(self._signal(spectra, maps)))[:, None]
        # (2, harmonics, 2 rings, templates): the real and the imaginary part of x t*
        self._products = _single(
            [_as_pairs(part).transpose(0, 2, 1) for part in (spectra, 1j * spectra)]
        )

    def compare(self, maps: FriedelMaps) -> Nearest:
        """Compare patterns with all templates in all rotations.

        Parameters
        ----------
        maps
            n patterns on the same grid.

        Returns
        -------
        Nearest
            Distances, shape (n,), the nearest template and its rotation.
        """
        spectra = self._transform(maps.mean)
        products = self._multiply(spectra)
        best = self._largest(products)
        hit = best.argmax(axis=1)
        share = np.square(best) * inverse(self._signal(spectra, maps))[:, None]
        distance = 1 + mean_of_nearest(-share)
        steps = _refined_peak(self._curves(products[..., np.arange(len(hit)), hit]))
        angle_deg = (steps * 180 / self._n_steps).astype(np.float32)
        return Nearest(distance, hit, angle_deg, self._n_steps)

    def compare_each(self, maps: FriedelMaps) -> NDArray[np.float32]:
        """Return D of patterns from each template, (n, n_templates)."""
        spectra = self._transform(maps.mean)
        best = self._largest(self._multiply(spectra))
        share = np.square(best) * inverse(self._signal(spectra, maps))[:, None]
        return 1 - share

    def _transform(self, mean: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Transform over the angle: (harmonics, n, rings), weighted.

        Added up, their squares are the power <x, x>.
        """
        weighted = mean * np.sqrt(self._area)[:, None]
        spectra = fft.rfft(weighted, axis=-1)[..., : len(self._root_share)]
        spectra *= self._root_share
        return np.ascontiguousarray(spectra.transpose(2, 0, 1))

    def _signal(
        self, spectra: NDArray[np.complex64], maps: FriedelMaps
    ) -> NDArray[np.float32]:
        """Return the power without most of the noise, shape (n,)."""
        pairs = _as_pairs(spectra)
        power = np.einsum("hnr,hnr->n", pairs, pairs)
        noise = maps.variance @ self._area * self._in_band
        signal: NDArray[np.float32] = np.maximum(
            power - _NOISE_SHARE * noise, _LEAST_SIGNAL * power
        )
        return signal

    def _multiply(self, spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Multiply by the templates: real and imaginary, (2, harmonics, n, templates).

        A real product of pairs is the complex product of what they stand for.
        """
        n_harmonics, n, _ = spectra.shape
        shape = 2, n_harmonics, n, self._products.shape[-1]
        out = reused_array("products", shape)
        np.matmul(_as_pairs(spectra), self._products, out=out)
        return out

    def _largest(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """Find the largest correlation over all rotations, (n, templates), at least 0.

        Rotations to the left and as far to the right share what is even of the curve,
        and differ in the sign of what is odd: the larger value is even + |odd|.
        """
        real, imaginary = products.reshape(2, len(self._root_share), -1)
        shape = len(self._cosines), real.shape[1]
        even, odd = (reused_array(name, shape) for name in ("even", "odd"))
        np.matmul(self._cosines, real, out=even)
        np.matmul(self._sines, imaginary, out=odd)
        np.abs(odd, out=odd)
        odd += even
        largest: NDArray[np.float32] = np.maximum(odd.max(axis=0), 0)
        return largest.reshape(products.shape[2:])

    def _curves(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correlate in all rotations: (2, harmonics, n) to (rotations, n)."""
        even, odd = self._cosines @ products[0], self._sines @ products[1]
        n_left = self._n_steps - len(even)
        return np.concatenate([even - odd, (even + odd)[n_left:0:-1]])


def _single(values: ArrayLike) -> NDArray[np.float32]:
    """Return single precision, rows one after the other: fastest to multiply."""
    return np.ascontiguousarray(values, dtype=np.float32)


def _as_pairs(spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
    """See real and imaginary parts side by side: (…, m) complex as (…, 2 m)."""
    return spectra.view(np.float32)


def _refined_peak(curves: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find where each periodic curve, a column, is highest: steps, with fractions."""
    peak, n_steps = curves.argmax(axis=0), len(curves)
    before, middle, after = (
        curves[(peak + step) % n_steps, np.arange(len(peak))] for step in (-1, 0, 1)
    )
    curvature = 2 * middle - before - after
    fraction = 0.5 * (after - before) * inverse(curvature)
    return np.asarray((peak + fraction) % n_steps)


def compare_by_rotation(
    patterns: Patterns,
    index: NDArray[np.int64],
    hits: NDArray[np.int64],
    centre: tuple[float, float],
) -> NDArray[np.float32]:
    """Return the distances of some patterns from each template, (m, n_hits)."""
    friedel = _friedel_about(patterns, centre)
    templates = _make_templates(patterns, hits, friedel)

    def compare(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return templates.compare_each(friedel.average(images))

    raw = not patterns.has_mask_of_each
    return np.concatenate([part for _, part in patterns.map(compare, index, raw=raw)])


def find_angle(
    patterns: Patterns, index: int, template: int, centre: tuple[float, float]
) -> float:
    """Find by how many degrees to turn a template so that it looks like a pattern."""
    average = _friedel_about(patterns, centre).average
    one, other = (average(patterns.read_raw([place])) for place in (index, template))
    return float(RotatedTemplates(other).compare(one).angle_deg[0])


ROTATION = Metric("rotation", True, nearest_by_rotation, compare_by_rotation)


Array = NDArray[np.float32]
N_TO_SCALE = 1_000  # patterns whose spread is the unit of each number
SMALLEST = 1e-6
N_ENCODED = N_NUMBERS + N_SUMMARY


def nearest_by_encoder(
    patterns: Patterns, hits: NDArray[np.int64], options: MetricOptions
) -> Nearest:
    """Find the template whose features are nearest to those of each pattern.

    Parameters
    ----------
    patterns
        The stack, n patterns.
    hits
        Int64, shape (n_hits,): pattern indices of the templates.
    options
        The centre; without it, the centre of symmetry of the templates.

    Returns
    -------
    Nearest
        The distance is the mean of the three smallest distances from templates: root
        mean square differences of rings and fringes, of the encoder's numbers, and of
        its summary, each in standard deviations over the stack, added in squares.
        There are no angles.
    """
    source, source_centre, centre = find_source(patterns, hits, options)
    compare = EncodedTemplates(patterns, centre, source, source_centre, hits)

    def find_nearest(images: Array) -> Nearest:
        distances = compare(images)
        unknown = np.full(len(distances), np.nan, np.float32)
        hit = distances.argmin(axis=1)
        return Nearest(mean_of_nearest(distances), hit, unknown, n_rotations=1)

    found = patterns.map(find_nearest, progress="Ranking")
    return Nearest.join([nearest for _, nearest in found])


def compare_by_encoder(
    patterns: Patterns,
    index: NDArray[np.int64],
    hits: NDArray[np.int64],
    centre: tuple[float, float],
) -> NDArray[np.floating]:
    """Return the distances of some patterns from each template, (m, n_hits)."""
    compare = EncodedTemplates(patterns, centre, patterns, centre, hits)
    return np.concatenate([part for _, part in patterns.map(compare, index)])


class EncodedTemplates:
    """Templates to compare patterns with, by features and encoder.

    Every number is in standard deviations over the stack that the templates are of;
    rings and fringes, the encoder's numbers and its summary count the same. Of rings
    none count where another mask makes others of them.

    Parameters
    ----------
    patterns, centre
        The stack that is compared, and its centre.
    source, source_centre, hits
        The stack that the templates are of, its centre, and which they are.
    """

    def __init__(
        self,
        patterns: Patterns,
        centre: tuple[float, float],
        source: Patterns,
        source_centre: tuple[float, float],
        hits: NDArray[np.int64],
    ) -> None:
        theirs = PatternFeatures(source.bad_pixels, source_centre, with_encoder=True)
        ours = theirs
        if source is not patterns:
            ours = PatternFeatures(patterns.bad_pixels, centre, with_encoder=True)
        n_rings = len(theirs) - N_ENCODED if len(ours) == len(theirs) else 0
        sizes = n_rings, N_NUMBERS, N_SUMMARY
        each = [1 / np.sqrt(max(size, 1)) for size in sizes]
        self._features = ours
        self._weights = np.repeat(each, sizes).astype(np.float32)
        some = spread_evenly(np.flatnonzero(source.is_measurement), N_TO_SCALE)
        name = f"about {source_centre}"
        used = keep_features(source, some, theirs, name, len(theirs))[:, -sum(sizes) :]
        self._mean = used.mean(axis=0)
        self._deviation = np.maximum(used.std(axis=0), SMALLEST)
        of_hits = [part for _, part in source.map(theirs, hits)]
        self._templates = self._scale(np.concatenate(of_hits))

    def __call__(self, patterns: Array) -> NDArray[np.float64]:
        """Return the distances of patterns (m, rows, columns) from each template."""
        from scipy.spatial.distance import cdist  # slow to import

        features = self._scale(self._features(patterns))
        return np.asarray(cdist(features, self._templates))

    def _scale(self, features: Array) -> Array:
        used = features[:, -self._weights.size :]
        scaled: Array = standardise(used, self._mean, self._deviation) * self._weights
        return scaled


ENCODER = Metric("encoder", True, nearest_by_encoder, compare_by_encoder)
