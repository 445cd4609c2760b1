"""Patterns that are no measurement: never written, constant, at the limit, and so on.

What a pattern shows by itself is seen while it is measured (`PatternCheck`); what
only all patterns together show, afterwards (`find_no_measurements`).
"""

import hashlib
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.patterns import Patterns, spread_evenly
from helpers.physics import find_centre, radius_from

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MEASURED = 0
KINDS = {
    "never written": "the file holds nothing for them",
    "constant": "one value in all pixels, or none in any",
    "at the limit": "more than half of the pixels at their highest value",
    "lost module": "a part of the detector without values or light",
    "duplicate": "the same values as an earlier pattern",
}
NUMBERS = {kind: number for number, kind in enumerate(KINDS, 1)}

SAMPLE_BYTES = 256 * 2**20
SAMPLED = (8, 32)  # fewest and most patterns that show what is usual
ENOUGH = 4096  # pixels of each of them
N_TILES = 8  # along each side
LOOKED_AT = 8  # pixels of a tile that are compared first
SMALLEST_TILE = 12  # good pixels that say something by being alike
AT_LIMIT = 0.5  # share of the pixels
NEARLY_AS_BRIGHT = 0.25  # as a spot at the limit is what surrounds it
MOST_LOST = 0.05  # share of the good pixels that a pattern may lack
OFTEN = 0.5  # share of the patterns in which a part of the detector is not lost, but so
FAINT = 10  # lit pixels: where patterns have so few, one without any is no wonder
TELLING = 16  # lit pixels that agree by chance in no two patterns
LEAST_EXPECTED = 5.0  # lit pixels of a dark tile, by its reflection through the beam
PLAIN = 40.0  # the same of all dark tiles: exp(-40) is the chance of none


def read_evenly(
    patterns: Patterns, n_bytes: int, fewest: int, most: int
) -> NDArray[np.float32]:
    """Read evenly spread patterns, as many as take so many bytes of memory."""
    n, rows, columns = patterns.shape
    n_read = int(np.clip(n_bytes // (4 * rows * columns), fewest, most))
    return patterns[spread_evenly(np.arange(n), n_read)]


class Tiles:
    """A grid of 8 × 8 tiles over the good pixels of a detector.

    Parameters
    ----------
    bad_pixels
        (rows, columns) bool, True = leave out.

    Attributes
    ----------
    n_good
        (tiles,) int64: good pixels in each tile.
    used
        (m,) int64: the tiles that have enough of them.
    looked_at
        (m, 8) int64: some good pixels of each used tile, in the flat pattern.
    """

    def __init__(self, bad_pixels: Bools) -> None:
        self.shape = bad_pixels.shape
        self._edges = [
            np.linspace(0, n, max(1, min(N_TILES, n // 4)) + 1).astype(int).tolist()
            for n in self.shape
        ]
        rows, columns = (np.diff(edges) for edges in self._edges)
        across = np.repeat(np.arange(columns.size), columns)
        down = np.repeat(np.arange(rows.size), rows)
        number = (down[:, np.newaxis] * columns.size + across).ravel()
        good = np.flatnonzero(~bad_pixels.ravel())
        order = np.argsort(number[good], kind="stable")
        self.n_good = np.bincount(number[good], minlength=rows.size * columns.size)
        self._members = np.split(good[order], np.cumsum(self.n_good)[:-1])
        self.used = np.flatnonzero(self.n_good >= min(SMALLEST_TILE, good.size))
        chosen = [
            members[np.linspace(0, members.size - 1, LOOKED_AT).astype(int)]
            for members in (self._members[tile] for tile in self.used)
        ]
        self.looked_at = np.reshape(chosen, (self.used.size, LOOKED_AT)).astype(int)
        self.good = good

    def count(self, lit: Bools) -> NDArray[np.uint32]:
        """Return how many pixels are True in each tile, (m, tiles)."""
        highest = max(map(np.max, map(np.diff, self._edges)))
        narrow = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint32
        ones = lit.view(np.uint8)  # sums of bytes are fastest
        bands = [
            np.add.reduce(ones[:, a:b], axis=1, dtype=narrow)
            for a, b in pairwise(self._edges[0])
        ]
        down = np.stack(bands, axis=1)
        across = [
            down[..., a:b].sum(axis=2, dtype=np.uint32)
            for a, b in pairwise(self._edges[1])
        ]
        counts: NDArray[np.uint32] = np.stack(across, axis=2).reshape(len(lit), -1)
        return counts

    def is_flat(self, pattern: NDArray[np.float32], tile: int) -> bool:
        """Tell whether all good pixels of a tile have the same value."""
        values = pattern.ravel()[self._members[tile]]
        return bool((values == values[0]).all())

    def find_beside(self, at: int) -> NDArray[np.int64]:
        """Return which used tiles are beside or around one of them."""
        rows, columns = np.divmod(self.used, len(self._edges[1]) - 1)
        far = np.maximum(abs(rows - rows[at]), abs(columns - columns[at]))
        return np.flatnonzero((far > 0) & (far <= 2))

    def reflect(self, density: Floats, centre: tuple[float, float]) -> Floats:
        """Return the least density where each tile's reflection lies; NaN outside.

        Parameters
        ----------
        density
            (m, tiles), NaN where a tile has no good pixels.
        centre
            (row, column) through which they are reflected, in pixels.
        """
        grid = density.reshape(len(density), *(len(e) - 1 for e in self._edges))
        reflected = np.full(grid.shape, np.nan)
        spans = [
            _reflect_edges(edges, at)
            for edges, at in zip(self._edges, centre, strict=True)
        ]
        for row, rows in enumerate(spans[0]):
            for column, columns in enumerate(spans[1]):
                if rows is not None and columns is not None:
                    reflected[:, row, column] = grid[:, rows, columns].min((1, 2))
        return reflected.reshape(density.shape)

    def find_radius(self, centre: tuple[float, float]) -> Floats:
        """Return the distance of the middle of each tile from the centre, in tiles."""
        radius = radius_from(centre, (self.shape[0], self.shape[1]))
        middles = [np.add(e[:-1], e[1:]) // 2 for e in map(np.array, self._edges)]
        side = max(np.diff(edges).max() for edges in self._edges)
        return np.asarray(radius[np.ix_(*middles)].ravel() / side)


def _reflect_edges(edges: list[int], at: float) -> list[slice | None]:
    """Return which tiles the reflection of each covers; None if it leaves the grid."""
    spans: list[slice | None] = []
    for start, stop in pairwise(edges):
        low, high = 2 * at - (stop - 1), 2 * at - start
        if low < -0.5 or high > edges[-1] - 0.5:
            spans.append(None)
            continue
        first = int(np.searchsorted(edges, low + 0.25, "right")) - 1
        last = int(np.searchsorted(edges, high - 0.25, "right")) - 1
        spans.append(slice(max(first, 0), last + 1))
    return spans


class Look(NamedTuple):
    """What patterns show by themselves; (m,) but for the tiles.

    Attributes
    ----------
    lit_tiles
        (m, tiles) uint16: lit pixels in each tile, 65,535 at most.
    flat_tiles
        (m, tiles) bool: all of one value that is no usual one.
    lost_pixels
        Good pixels without a value.
    only_value
        The value of all good pixels; NaN where there are several.
    is_at_limit
        More than half of the good pixels have the highest value.
    is_counted
        Whether nothing speaks against them, so that they count in the sums.
    """

    lit_tiles: NDArray[np.uint16]
    flat_tiles: Bools
    lost_pixels: NDArray[np.int64]
    only_value: Floats
    is_at_limit: Bools
    is_counted: Bools


@dataclass(frozen=True)
class PatternCheck:
    """Looks at patterns one by one.

    Attributes
    ----------
    tiles
        Of the detector.
    lit_threshold
        A pixel is lit from this value on.
    usual
        A value that pixels without light share, such as 0 photons; NaN where noise
        makes all of them different.
    watched
        (used tiles,) bool: those that are rarely of one value.
    """

    tiles: Tiles
    lit_threshold: float
    usual: float
    watched: Bools

    @classmethod
    def of(cls, patterns: Patterns, lit_threshold: float) -> "PatternCheck":
        """Learn from a sample what is usual.

        Parameters
        ----------
        patterns
            The stack.
        lit_threshold
            A pixel is lit from this value on, in the unit of the patterns.
        """
        tiles = Tiles(patterns.bad_pixels)
        sample = read_evenly(patterns, SAMPLE_BYTES, *SAMPLED)
        usual = 0.0
        if patterns.unit != "photons" or patterns.is_scaled:
            flat = sample.reshape(len(sample), -1)
            values = flat[:, tiles.good[:: max(1, tiles.good.size // ENOUGH)]]
            middle = np.median(values)
            noise = np.median(np.abs(values - middle))
            usual = np.nan if noise else float(middle)
        everything = np.ones(tiles.used.size, np.bool_)
        check = cls(tiles, lit_threshold, float(usual), everything)
        is_flat = check.find_flat(sample, check.look_at(sample))[:, tiles.used]
        return replace(check, watched=is_flat.mean(axis=0) < OFTEN)

    def look_at(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return some pixels of each used tile, (m, used tiles, 8)."""
        return values.reshape(len(values), -1)[:, self.tiles.looked_at]

    def find_flat(
        self, values: NDArray[np.float32], seen: NDArray[np.float32]
    ) -> Bools:
        """Find tiles of one value that is not the usual one, (m, tiles)."""
        flat = np.zeros((len(values), self.tiles.n_good.size), np.bool_)
        alike = (seen == seen[..., :1]).all(axis=2) & (seen[..., 0] != self.usual)
        for i, at in np.argwhere(alike & self.watched):
            tile = int(self.tiles.used[at])
            if self.tiles.is_flat(values[i], tile):
                flat[i, tile] = not self._is_saturated(seen[i], int(at))
        return flat

    def _is_saturated(self, seen: NDArray[np.float32], at: int) -> bool:
        """Tell a bright spot at the limit from a part without values.

        Around a bright spot it is bright, and nothing is brighter than it.

        Parameters
        ----------
        seen
            (used tiles, 8): what was looked at of a pattern.
        at
            The flat one of these tiles.
        """
        value, middle = float(seen[at, 0]), float(np.median(seen))
        beside = seen[self.tiles.find_beside(at)]
        others = beside[beside != value]
        if value < seen.max() or not others.size:
            return False
        return float(others.max()) - middle >= NEARLY_AS_BRIGHT * (value - middle)

    def __call__(
        self, values: NDArray[np.float32], lost_pixels: NDArray[np.int64], lit: Bools
    ) -> Look:
        """Look at patterns (m, rows, columns), 0 where bad or without a value."""
        flat = values.reshape(len(values), -1)
        seen = self.look_at(values)
        flat_tiles = self.find_flat(values, seen)
        only_value = self._find_only_values(flat, seen)
        only_value[lost_pixels > 0] = np.nan
        at_limit = self._find_at_limit(flat, seen) & np.isnan(only_value)
        lost = lost_pixels > MOST_LOST * self.tiles.good.size
        is_counted = np.isnan(only_value) & ~at_limit & ~lost & ~flat_tiles.any(axis=1)
        lit_tiles = np.minimum(self.tiles.count(lit), 65535).astype(np.uint16)
        return Look(
            lit_tiles, flat_tiles, lost_pixels, only_value, at_limit, is_counted
        )

    def _find_only_values(
        self, flat: NDArray[np.float32], seen: NDArray[np.float32]
    ) -> Floats:
        only = np.full(len(flat), np.nan)
        alike = (seen == seen[:, :1, :1]).all(axis=(1, 2))
        for i in np.flatnonzero(alike):
            good = flat[i, self.tiles.good]
            only[i] = good[0] if (good == good[0]).all() else np.nan
        return only

    def _find_at_limit(
        self, flat: NDArray[np.float32], seen: NDArray[np.float32]
    ) -> Bools:
        """Find patterns of which most pixels have the highest value."""
        top = seen.max(axis=(1, 2), initial=0)
        often = (seen == top[:, None, None]).mean(axis=(1, 2)) > AT_LIMIT / 2
        found = np.zeros(len(flat), np.bool_)
        for i in np.flatnonzero(often & (top >= self.lit_threshold)):
            good = flat[i, self.tiles.good]
            highest = good.max()
            is_above = highest > max(self.lit_threshold, self.usual)
            found[i] = is_above and (good == highest).mean() > AT_LIMIT
        return found


def find_no_measurements(
    patterns: Patterns, check: PatternCheck, look: Look, photons: Floats, powder: Floats
) -> NDArray[np.uint8]:
    """Say of each pattern why it is no measurement.

    Parameters
    ----------
    patterns
        The stack.
    check
        That looked at it.
    look
        What it saw of all patterns.
    photons
        (n,) sum of each pattern.
    powder
        (rows, columns): of what counted in the sums.

    Returns
    -------
    ndarray
        (n,) uint8: 0 for a measurement, else a number of `NUMBERS`. Where nothing else
        would be left, all are taken for measurements.
    """
    tiles = check.tiles
    found = np.zeros(len(patterns), np.uint8)
    duplicates = _find_duplicates(patterns, check, look, photons)
    lost = _find_lost(look, tiles.good.size)
    found[duplicates] = NUMBERS["duplicate"]
    found[lost | _find_dark(look, tiles, powder, patterns.bad_pixels)] = NUMBERS[
        "lost module"
    ]
    found[look.is_at_limit] = NUMBERS["at the limit"]
    nothing = look.lost_pixels == tiles.good.size
    found[_find_constant(look, check.usual) | nothing] = NUMBERS["constant"]
    found[patterns.find_unwritten()] = NUMBERS["never written"]
    return found if (found == MEASURED).any() else np.zeros_like(found)


def _find_constant(look: Look, usual: float) -> Bools:
    """Find patterns of one value; 0 photons may be a measurement among faint ones."""
    constant = ~np.isnan(look.only_value)
    lit = look.lit_tiles.sum(axis=1, dtype=np.int64)
    others = lit[look.is_counted]
    if others.size and others.min() <= FAINT:
        constant &= look.only_value != usual
    return constant


def _find_lost(look: Look, n_good: int) -> Bools:
    """Find patterns that lack more than is usual."""
    share = look.lost_pixels / max(n_good, 1)
    rarely = look.flat_tiles.mean(axis=0) < OFTEN
    lost: Bools = (look.flat_tiles & rarely).any(axis=1)
    lost |= share - np.median(share) > MOST_LOST
    return lost


def _find_dark(look: Look, tiles: Tiles, powder: Floats, bad_pixels: Bools) -> Bools:
    """Find patterns with dark tiles of which the reflection through the beam is lit.

    So a pattern is never judged by the others: whatever scatters, a particle or two or
    a droplet, scatters the same to either side (Friedel's law).
    """
    found = np.zeros(len(look.lit_tiles), np.bool_)
    usable = tiles.n_good >= SMALLEST_TILE
    lit = look.lit_tiles[:, usable]
    enough = (lit == 0).any(axis=1) & (lit.sum(axis=1, dtype=np.int64) >= PLAIN)
    index = np.flatnonzero(enough & look.is_counted)
    if not index.size or not powder.any():
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a wrong centre nothing is found
        centre = find_centre(powder, bad_pixels)
    counts = look.lit_tiles[index].astype(np.float64)
    density = np.where(usable, counts / np.maximum(tiles.n_good, 1), np.nan)
    expected = np.minimum(
        tiles.reflect(density, centre), _brighter_on_ring(density, tiles, centre)
    )
    usual = np.nansum(expected, axis=0)
    ratio = np.minimum(np.nansum(density, axis=0) / np.maximum(usual, 1e-9), 1)
    expected = np.nan_to_num(expected * ratio) * tiles.n_good
    expected[(counts > 0) | (expected < LEAST_EXPECTED)] = 0
    found[index] = expected.sum(axis=1) >= PLAIN
    return found


def _brighter_on_ring(
    density: Floats, tiles: Tiles, centre: tuple[float, float]
) -> Floats:
    """Return the upper quartile of the tiles at the distance of each from the beam."""
    radius = tiles.find_radius(centre)
    ring = np.full(density.shape, np.nan)
    for tile in tiles.used:
        beside = np.abs(radius - radius[tile]) < 0.75
        beside &= tiles.n_good >= SMALLEST_TILE
        at = round(0.75 * (np.count_nonzero(beside) - 1))
        ring[:, tile] = np.partition(density[:, beside], at, axis=1)[:, at]
    return ring


def _find_duplicates(
    patterns: Patterns, check: PatternCheck, look: Look, photons: Floats
) -> NDArray[np.int64]:
    """Return the patterns that equal an earlier one in every pixel, ascending.

    Only those are read again that agree in what was summed up.
    """
    lit = look.lit_tiles.sum(axis=1, dtype=np.int64)
    telling = np.isnan(look.only_value) & (np.isnan(check.usual) | (lit >= TELLING))
    _, group, size = np.unique(photons, return_inverse=True, return_counts=True)
    first: dict[tuple[int, bytes], int] = {}
    candidates: set[int] = set()
    for i in np.flatnonzero(telling & (size[group] > 1)).tolist():
        earlier = first.setdefault((int(group[i]), look.lit_tiles[i].tobytes()), i)
        if earlier != i:
            candidates |= {earlier, i}
    index = np.array(sorted(candidates), np.int64)
    seen: set[bytes] = set()
    again = []
    digests = patterns.map(_digest, index, progress="Compare") if index.size else ()
    for here, some in digests:
        for i, digest in zip(index[here].tolist(), some, strict=True):
            if digest in seen:
                again.append(i)
            seen.add(digest)
    return np.array(again, np.int64)


def _digest(values: NDArray[np.float32]) -> list[bytes]:
    return [hashlib.blake2b(each.tobytes(), digest_size=16).digest() for each in values]
