"""Which values of a mask mean *bad*, as the patterns decide."""

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.mask_convention import DRAGONFLY, NOT_ZERO, ZERO, MaskConvention
from helpers.patterns.sources import Source
from helpers.physics import PixelSums, find_defects, find_noise_limit

SAMPLE_BYTES = 64 * 2**20
SAMPLED = (32, 200)  # fewest and most patterns
MARKED = 0.2  # least share of plain defects among the pixels that a mask means
LIGHT = 0.2  # least share of the light that the others hold


def sample_sums(source: Source) -> PixelSums | None:
    """Sum up at most 200 patterns spread over a file, fewer if they are large.

    None if they cannot be read; whoever reads them later is told why.
    """
    n, rows, columns = source.shape
    most = int(np.clip(SAMPLE_BYTES // (4 * rows * columns), *SAMPLED))
    chosen = np.unique(np.linspace(0, n - 1, most).astype(int))
    blocks = np.array_split(chosen, -(-chosen.size // 8))
    try:
        with closing(source):
            first = _read_some(source, blocks[0])
            varies = first[:, (first != first[0]).any(axis=0)]
            limit = find_noise_limit(varies[np.isfinite(varies)]) if varies.size else 1
            sums = _sum_up(first, limit)
            for block in blocks[1:]:
                sums.add(_sum_up(_read_some(source, block), limit))
    except PatternsFileError:
        return None
    return sums


def _read_some(source: Source, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.empty((rows.size, *source.shape[1:]), np.float32)
    for i, row in enumerate(rows):
        source.read_into(values[i : i + 1], int(row))
    return values


def _sum_up(values: NDArray[np.float32], limit: float) -> PixelSums:
    finite = np.isfinite(values)
    return PixelSums.of(np.where(finite, values, np.float32(0)), limit, finite)


class Polarity(NamedTuple):
    """Which values of a mask mean bad, and how that is known.

    Attributes
    ----------
    convention
        Which of its values mean bad.
    is_decided
        Whether the patterns decided; otherwise the name of the mask did.
    why
        The numbers, in words.
    """

    convention: MaskConvention
    is_decided: bool
    why: str


def decide_polarity(
    mask: NDArray[Any],
    sums: PixelSums | None,
    name: str = "mask",
    gaps: NDArray[np.bool_] | None = None,
) -> Polarity:
    """Let the patterns decide which values of a mask mean bad.

    They do where a good part of the pixels that would be left out, and a ten times
    larger one than of the others, is plainly no measurement (constant, dead, hot, in a
    shadow: `helpers.physics.find_defects`), and the others hold much of the light.
    Otherwise the name decides, as is usual: of a mask of good pixels 0 means bad, of
    all others everything else.

    Parameters
    ----------
    mask
        (rows, columns), of any type.
    sums
        Over some patterns; None without.
    name
        Of the mask.
    gaps
        (rows, columns) bool: pixels that are none; None without.
    """
    is_of_good = name.lower().startswith("good")
    usual, other = (ZERO, NOT_ZERO) if is_of_good else (NOT_ZERO, ZERO)
    if sums is None:
        return Polarity(usual, False, "the patterns cannot be read")
    gaps = np.zeros(mask.shape, np.bool_) if gaps is None else gaps
    found = find_defects(sums, gaps)
    defects = np.any([each.pixels for kind, each in found.items() if kind != "dim"], 0)
    lit = np.where(defects, 0, sums.n_lit)
    shares = {
        convention: _compare(convention(mask)[~gaps], defects[~gaps], lit[~gaps])
        for convention in (usual, other, DRAGONFLY)
    }
    fitting = [
        (marked - others, convention)
        for convention, (marked, others, light) in shares.items()
        if marked >= max(MARKED, 10 * others) and light >= LIGHT
    ]
    chosen = max(fitting, key=lambda each: each[0])[1] if fitting else usual
    marked, others, _ = shares[chosen]
    why = (
        f"{marked:.1%} of these pixels are plainly no measurement (constant, dead, hot "
        f"or in a shadow in {sums.n_patterns} patterns), and {others:.1%} of the others"
    )
    return Polarity(chosen, bool(fitting), why)


def _compare(
    bad: NDArray[np.bool_], defects: NDArray[np.bool_], lit: NDArray[np.integer[Any]]
) -> tuple[float, float, float]:
    """Return the share of defects among bad and good pixels, and the good ones' light.

    All 0 where no pixel, or each, is bad.
    """
    if bad.all() or not bad.any():
        return 0.0, 0.0, 0.0
    light = lit[~bad].sum() / max(lit.sum(), 1)
    return float(defects[bad].mean()), float(defects[~bad].mean()), float(light)
