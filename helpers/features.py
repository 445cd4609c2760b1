"""Features: numbers that tell patterns apart, however a particle lies.

Those of rings and fringes need no training. The encoder was trained once, on simulated
patterns of ever other particles, detectors and masks (`tests/bench/encoder_recipe.py`),
and comes with the package. It knows in which direction a particle is how long, so a
second particle beside a rod shows too. It is worked out in NumPy: importing TensorFlow
would take longer than a thousand patterns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from helpers.outputs import open_to_read, sha256_of
from helpers.patterns import Patterns, spread_evenly
from helpers.physics import SMALLEST_WINDOW, PattersonMaps, Whitened

Array = NDArray[np.float32]
Value = TypeVar("Value", bound=np.floating)
FARTHEST = 3.0  # standard deviations from the mean: what is further counts as this
FEWEST_PIXELS = 4  # of two rings, for their mean to be a feature
N_RINGS = 30
N_ANGLES = 48  # over half a turn: both are point-symmetric
N_CHANNELS = 5
FLOOR = 0.01  # of the mean: what a ring, or two, holds at least
WEIGHTS_FILE = Path(__file__).with_name("encoder.h5")
TOWERS = {"patterson": slice(0, 2), "pattern": slice(2, N_CHANNELS)}  # their channels
WIDTHS = ((16, 1), (24, 2), (40, 2))  # of each tower's layers: channels, step
N_NUMBERS = 64
N_SUMMARY = 3  # of `Encoded.summarise`
N_GUESSED = 3  # no particle, one, several
AT_ONCE = 16  # patterns whose arrays stay in the processor's cache
SCALE_OF_LIGHT = 0.2


class Encoded(NamedTuple):
    """What the encoder makes of patterns.

    Attributes
    ----------
    numbers
        (n, 64) float32, 0 or more: what sets particles apart.
    guess
        (n, 3) float32, logits of no particle, one, and several.
    log_size
        (n,) float32, logarithm of a particle's size in steps of the Patterson map.
    """

    numbers: NDArray[np.float32]
    guess: NDArray[np.float32]
    log_size: NDArray[np.float32]

    def summarise(self) -> NDArray[np.float32]:
        """Return (n, 3): log odds of one against several, of a blank, and the size."""
        none, one, several = self.guess.T
        blank = none - np.logaddexp(one, several)
        return np.column_stack([one - several, blank, self.log_size])


class Encoder:
    """Encodes the patterns of one detector.

    Parameters
    ----------
    maps
        The Patterson maps of its patterns.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self._angular_maps = AngularMaps(maps)
        self._weights = load_weights()

    def __call__(self, white: Whitened) -> Encoded:
        """Encode whitened patterns; always as many at once for the same bits."""
        maps = self._angular_maps(white)
        light = np.log(white.level / white.noise**2)
        numbers, taught = run_encoder(self._weights, maps, light)
        return Encoded(numbers, taught[:, :N_GUESSED], taught[:, N_GUESSED])


def run_encoder(
    weights: dict[str, tuple[Array, Array]], maps: Array, light: Array
) -> tuple[Array, Array]:
    """Work the encoder out.

    Two towers of convolutions, one for the Patterson map and one for the pattern, go
    round the directions; then each direction is summed up, and their mean and maximum
    are taken, so that turning a particle changes next to nothing.

    Parameters
    ----------
    weights
        Kernel and bias of each layer, from `load_weights`.
    maps, light
        (n, 30, 48, 5) from `AngularMaps`, and (n, 1), the logarithm of the mean over
        the square of the noise.

    Returns
    -------
    numbers, taught
        (n, 64) and (n, 18) float32, see `encoder_recipe.build_encoder`.
    """
    towers = []
    for name, channels in TOWERS.items():
        values = maps[..., channels]
        for width, step in WIDTHS:
            values = _convolve(values, *weights[f"{name}_{width}"], step)
        towers.append(values + _convolve(values, *weights[f"{name}_last"], 1))
    both = np.concatenate(towers, axis=3).transpose(0, 2, 1, 3)
    each = both.reshape(*both.shape[:2], -1)
    for name in ("direction", "direction_last"):
        each = _rectify(each, *weights[name])
    # a matrix of one row for each pattern: BLAS adds up the rows of a larger one in
    # different orders on some processors, and the numbers would depend on the place
    pooled = [
        each.mean(axis=1, keepdims=True),
        each.max(axis=1, keepdims=True),
        light[:, np.newaxis] * np.float32(SCALE_OF_LIGHT),
    ]
    hidden = _rectify(np.concatenate(pooled, axis=2), *weights["hidden"])
    numbers = _rectify(hidden, *weights["numbers"])
    kernel, bias = weights["taught"]
    return numbers[:, 0], (numbers @ kernel + bias)[:, 0]


def _convolve(values: Array, kernel: Array, bias: Array, step: int) -> Array:
    """Convolve (n, rings, directions, channels): a circle of directions, 3 by 3."""
    closed = np.pad(values, [(0, 0), (0, 0), (1, 1), (0, 0)], mode="wrap")
    padded = np.pad(closed, [(0, 0), (1, 1), (0, 0), (0, 0)])
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::step, ::step]
    flat = kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
    columns = windows.reshape(*windows.shape[:3], -1)
    return _rectify(columns, flat, bias)


def _rectify(values: Array, kernel: Array, bias: Array) -> Array:
    sums: Array = values @ kernel + bias
    return np.maximum(sums, 0, out=sums)


@cache
def load_weights() -> dict[str, tuple[Array, Array]]:
    """Return kernel and bias of each layer."""
    with open_to_read(WEIGHTS_FILE) as file:
        return {name: _read_layer(layer) for name, layer in file.items()}


def _read_layer(layer: h5py.Group) -> tuple[Array, Array]:
    kernel, bias = (layer[name][()].astype(np.float32) for name in ("kernel", "bias"))
    return kernel, bias


@cache
def name_encoder() -> str:
    """Return by what one encoder is told from another: part of its SHA-256."""
    return sha256_of(WEIGHTS_FILE)[:16]


class AngularMaps:
    """Pattern and Patterson map as pictures whose columns are directions.

    Turning the particle about the beam moves the columns round, and nothing else.

    Parameters
    ----------
    maps
        The Patterson maps of the patterns.

    Notes
    -----
    The channels are:

    0, 1. In a cell of the Patterson map, 30 rings (1 step wide, further out 3) and 48
       directions over half a turn: highest value (arsinh) and mean square (log).
    2. In a cell of the whitened pattern, 30 rings out to the edge of the window: the
       sum of its pixels, and of those opposite, over what noise would give (arsinh).
    3. The mean of the pattern on the ring over that of all (log), in every direction.
    4. How many good pixels the cell has (their square root over 8).

    Beyond the edge of a small window, and where no pixel is good, all are 0.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self._maps = maps
        self._points, self._starts, self._n_points = _sort_into_cells(maps)
        size = maps.window.size
        rows, columns = np.indices((size, size))
        down = (rows - maps.middle[0]).ravel()
        right = (columns - maps.middle[1]).ravel()
        ring = (np.hypot(down, right) / (size / 2) * N_RINGS).astype(np.intp)
        pixel = np.flatnonzero((ring < N_RINGS) & (maps.n_good > 0))
        shape = N_RINGS * N_ANGLES, size**2
        cell = ring[pixel] * N_ANGLES + _find_sector(down[pixel], right[pixel])
        ones = np.ones(pixel.size, np.float32)
        self._cells = sparse.csr_array((ones, (cell, pixel)), shape=shape)
        self._n_pixels = self._cells.sum(axis=1).astype(np.float32)
        n_good = maps.n_good[pixel]
        self._ring_good = np.bincount(ring[pixel], n_good, N_RINGS).astype(np.float32)
        share = np.bincount(maps.ring[pixel] * N_RINGS + ring[pixel], n_good)
        table = np.zeros(maps.ring_pixels.size * N_RINGS, np.float32)
        table[: share.size] = share
        of_ring = np.maximum(maps.ring_pixels, 1)[:, np.newaxis]
        self._regroup = table.reshape(-1, N_RINGS) / of_ring

    def __call__(self, white: Whitened) -> NDArray[np.float32]:
        """Return (n, N_RINGS, N_ANGLES, N_CHANNELS) float32, finite."""
        n = len(white.values)
        found = np.zeros((n, N_RINGS, N_ANGLES, N_CHANNELS), np.float32)
        values = white.values[:, self._points]
        highest = np.maximum.reduceat(values, self._starts, axis=1)
        power = np.add.reduceat(values**2, self._starts, axis=1) / self._n_points
        n_rings = self._starts.size // N_ANGLES
        shape = n, n_rings, N_ANGLES
        found[:, :n_rings, :, 0] = np.arcsinh(highest).reshape(shape)
        found[:, :n_rings, :, 1] = np.log(power + 0.1).reshape(shape)
        sums = (self._cells @ white.pixels.T).T
        noise = white.noise * np.float32(self._maps.pixel_noise)
        sums /= noise * np.sqrt(np.maximum(self._n_pixels, 1))
        found[..., 2] = np.arcsinh(sums).reshape(n, N_RINGS, N_ANGLES)
        of_ring = (white.rings[:, np.newaxis] @ self._regroup)[:, 0]
        mean = of_ring / np.maximum(self._ring_good, 1)
        profile = np.log(mean / white.level + np.float32(FLOOR))
        profile *= self._ring_good > 0
        found[..., 3] = profile[:, :, np.newaxis]
        filled = np.sqrt(self._n_pixels).reshape(N_RINGS, N_ANGLES) / 8
        found[..., 4] = filled
        return found


def _sort_into_cells(
    maps: PattersonMaps,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the points of each cell, where each cell begins, how many it has.

    A cell that is smaller than a point has the point that is nearest in direction.
    """
    sector = _find_sector(maps.steps[:, 0], maps.steps[:, 1])
    ends = np.append(maps.starts[1:], len(sector))
    members = []
    for first, last in zip(maps.starts[:N_RINGS], ends[:N_RINGS], strict=True):
        here = sector[first:last]
        for one in range(N_ANGLES):
            apart = np.abs((here - one + N_ANGLES // 2) % N_ANGLES - N_ANGLES // 2)
            members.append(first + np.flatnonzero(apart == apart.min()))
    counts = np.array([each.size for each in members])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.concatenate(members), starts, counts.astype(np.float32)


def _find_sector(
    down: NDArray[np.floating], right: NDArray[np.floating]
) -> NDArray[np.intp]:
    turned = np.degrees(np.arctan2(-down, right)) % 180
    sector: NDArray[np.intp] = (turned / 180 * N_ANGLES).astype(np.intp) % N_ANGLES
    return sector


N_LOOKED_AT = 1_000
MOST_KEPT = 20_000  # patterns of a stack, of which each has about 1 kB of features


def whiten_in_groups(
    maps: PattersonMaps, patterns: NDArray[np.float32]
) -> Iterator[tuple[slice, Whitened]]:
    """Whiten patterns, always as many at once: one alone is added up in another order.

    Yields
    ------
    here, white
        Which patterns, and what they make; behind the last ones, blanks fill up.
    """
    for start in range(0, len(patterns), AT_ONCE):
        here = slice(start, min(start + AT_ONCE, len(patterns)))
        missing = AT_ONCE - (here.stop - start)
        filling = [(0, missing), (0, 0), (0, 0)]
        some = np.pad(patterns[here], filling) if missing else patterns[here]
        yield here, maps.whiten(some)


@dataclass(frozen=True)
class FirstGuess:
    """How the encoder takes some patterns; never a label.

    Attributes
    ----------
    index
        (m,) int64, pattern indices, spread evenly over the stack.
    blank, single, multiple
        (m,) float32, probabilities, which add up to 1: no particle, one, several. What
        else the sample holds counts by its particles, too.
    """

    index: NDArray[np.int64]
    blank: NDArray[np.float32]
    single: NDArray[np.float32]
    multiple: NDArray[np.float32]

    def order_first_labels(
        self, shuffled: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
        """Return which patterns to label first, and why: at random, in doubt, in turn.

        In doubt are, of those that do not look blank, the quarter that is least surely
        of one or of several. On the kinds that this was chosen with, 50 labels in this
        order gave the network a mean F1 of 0.92 in place of 0.90; where singles are
        rare, 0.85 in place of 0.46.

        Parameters
        ----------
        shuffled
            (n,) int64, all patterns in random order. Half of the labels are then of a
            random sample, which can judge.

        Returns
        -------
        index, reason
            (m,) int64 pattern indices, each once, and (m,) str.
        """
        hit = np.flatnonzero(self.blank < 0.5)
        surest_last = np.argsort(np.abs(self.single[hit] - self.multiple[hit]))
        in_doubt = self.index[hit[surest_last[: len(hit) // 4]]]
        doubtful = np.random.default_rng(0).permutation(in_doubt)
        at_random = shuffled[: len(doubtful)]
        doubtful = doubtful[~np.isin(doubtful, at_random)]
        pairs = np.column_stack([at_random[: len(doubtful)], doubtful])
        return pairs.ravel(), np.tile(["random", "first guess in doubt"], len(pairs))

    def describe(self) -> str:
        """Say in plain words what the run seems to hold."""
        if not len(self.index):
            return "No first guess: the patterns are too small, or none is there."
        shares = [each.mean() for each in (self.single, self.multiple, self.blank)]
        single, multiple, blank = (f"{share:.0%}" for share in shares)
        return (
            f"Of {len(self.index):,} patterns over the run about {single} look like "
            f"one particle, {multiple} like several, {blank} like none: a guess from "
            "simulated particles, of whatever kind, and no label."
        )


def guess_particles(patterns: Patterns, centre: tuple[float, float]) -> FirstGuess:
    """Guess the number of particles in at most 1,000 patterns of a run.

    None are looked at where patterns are too small.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam, in pixels.
    """
    known = np.flatnonzero(patterns.is_measurement)
    if min(patterns.shape[1:]) < SMALLEST_WINDOW:
        known = known[:0]
    index = spread_evenly(known, N_LOOKED_AT)
    probability = np.zeros((len(index), 3), np.float32)
    if not len(index):
        return FirstGuess(index, *probability.T)
    maps = PattersonMaps(patterns.bad_pixels, centre)
    encoder = Encoder(maps)

    def guess(block: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = [
            encoder(white).guess[: here.stop - here.start]
            for here, white in whiten_in_groups(maps, block)
        ]
        found: NDArray[np.float32] = softmax(np.concatenate(logits), axis=1)
        return found

    for here, found in patterns.map(guess, index, progress="First guess"):
        probability[here] = found
    return FirstGuess(index, *probability.T)


class PatternFeatures:
    """The numbers by which the invariant network knows a pattern.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.
    centre
        (row, column) of the beam, in pixels.
    with_encoder
        Whether the encoder's numbers follow the features, and last their summary.
    """

    def __init__(
        self,
        bad_pixels: NDArray[np.bool_],
        centre: tuple[float, float],
        *,
        with_encoder: bool,
    ) -> None:
        self._maps = PattersonMaps(bad_pixels, centre)
        self._fringes = FringeFeatures(self._maps)
        self._encoder = Encoder(self._maps) if with_encoder else None

    def __len__(self) -> int:
        """Return how many numbers a pattern has."""
        n_encoded = N_NUMBERS + N_SUMMARY
        return len(self._fringes) + (n_encoded if self._encoder else 0)

    def __call__(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the numbers of patterns.

        Parameters
        ----------
        patterns
            (n, rows, columns) float32, clean (bad pixels 0), any unit.

        Returns
        -------
        ndarray
            (n, len(self)) float32, finite.
        """
        features = np.empty((len(patterns), len(self)), np.float32)
        for here, white in whiten_in_groups(self._maps, patterns):
            parts = [self._fringes(white)]
            if self._encoder:
                encoded = self._encoder(white)
                parts += [encoded.numbers, encoded.summarise()]
            features[here] = np.concatenate(parts, axis=1)[: here.stop - here.start]
        return features


# Features by stack, for as long as it is used, by what makes them, and by pattern.
_KEPT: WeakKeyDictionary[Patterns, dict[str, dict[int, Array]]] = WeakKeyDictionary()


def keep_features(
    patterns: Patterns,
    index: NDArray[np.int64],
    make: Callable[[Array], Array],
    name: str,
    n_features: int,
    *,
    progress: str = "",
) -> NDArray[np.float32]:
    """Return features of some patterns, which are made once while the stack is used.

    Parameters
    ----------
    patterns
        The stack.
    index
        (m,) which patterns.
    make
        Takes patterns (n, rows, columns), returns (n, n_features) float32.
    name
        Of the features: the same for what makes the same of this stack.
    n_features
        Of a pattern.
    progress
        Of the bar; none without it.

    Returns
    -------
    ndarray
        (m, n_features) float32.
    """
    of_stack = _KEPT.setdefault(patterns, {})
    known = of_stack.get(name, {})
    asked = dict.fromkeys(index.tolist())
    missing = np.array([i for i in asked if i not in known], np.int64)
    parts = (part for _, part in patterns.map(make, missing, progress=progress))
    rows = chain.from_iterable(parts)
    known = known | dict(zip(missing.tolist(), rows, strict=True))
    if len(known) <= MOST_KEPT:
        of_stack[name] = known
    features = np.empty((index.size, n_features), np.float32)
    for row, i in zip(features, index.tolist(), strict=True):
        row[:] = known[i]
    return features


def standardise(
    features: NDArray[Value], mean: NDArray[Value], deviation: NDArray[Value]
) -> NDArray[Value]:
    """Return features (n, …) in standard deviations from the mean, none far away."""
    standard = (features - mean) / deviation
    clipped: NDArray[Value] = np.clip(standard, -FARTHEST, FARTHEST)
    return clipped


class FringeFeatures:
    """Rings and fringes of a pattern in numbers.

    Turning a pattern about the centre, turning it by half a turn (Friedel's law: the
    two halves are averaged), or multiplying it leaves them alone; bad pixels count
    nowhere.

    Parameters
    ----------
    maps
        The Patterson maps that the numbers come from.

    Notes
    -----
    The numbers are, ring by ring of the Patterson map: its mean square (log); the
    highest value from this ring outward, and the lowest value in it (arsinh); and ring
    by ring of the pattern its mean as a share of the mean of all (log). The last number
    is the mean of all over the square of the noise (log): how many photons there are,
    which photon statistics tell whatever the unit.
    """

    def __init__(self, maps: PattersonMaps) -> None:
        self.maps = maps
        n_points = len(self.maps.steps)
        self._map_pixels = np.diff(self.maps.starts, append=n_points)
        # two rings together, out to the edge of the window
        n_pairs = self.maps.window.size // 4
        self._pair_pixels = _sum_pairs(self.maps.ring_pixels[np.newaxis], n_pairs)[0]
        self._profile = np.flatnonzero(self._pair_pixels >= FEWEST_PIXELS)

    def __len__(self) -> int:
        """Return how many numbers a pattern has."""
        return 3 * self.maps.starts.size + self._profile.size + 1

    def __call__(self, white: Whitened) -> NDArray[np.float32]:
        """Return (n, len(self)) float32, finite, of n whitened patterns."""
        values, starts = white.values, self.maps.starts
        power = np.add.reduceat(values**2, starts, axis=1) / self._map_pixels
        highest = np.maximum.reduceat(values, starts, axis=1)
        outward = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
        lowest = np.minimum.reduceat(values, starts, axis=1)
        pairs = _sum_pairs(white.rings, self._pair_pixels.size)[:, self._profile]
        share = pairs / self._pair_pixels[self._profile] / white.level
        numbers = (
            np.log(power + 1e-3),
            np.arcsinh(outward),
            np.arcsinh(lowest),
            np.log(share + np.float32(FLOOR)),
            np.log(white.level / white.noise**2),
        )
        return np.concatenate(numbers, axis=1)


def _sum_pairs(rings: NDArray[np.float32], n_pairs: int) -> NDArray[np.float32]:
    pairs = rings[:, : 2 * n_pairs].reshape(len(rings), n_pairs, 2)
    total: NDArray[np.float32] = pairs.sum(axis=2)
    return total
