"""Patterns as the bytes that a browser draws: one byte a pixel on a log scale.

A byte is `LEVELS` × log(1 + value / knee) / log(1 + top / knee), rounded, and `BAD`
where the pixel is to be left out. `knee` and `top` travel beside the bytes, so the
browser can turn a byte back into a value and change the contrast without asking again.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

LEVELS = 254
BAD = 255
COLOUR_MAPS = ("viridis", "inferno", "cividis", "gray", "gray_r")
# Colours that none of the maps holds, one for each of them.
BAD_COLOURS = (
    (150, 150, 150),
    (110, 125, 140),
    (160, 150, 160),
    (60, 84, 110),
    (150, 175, 200),
)


@dataclass(frozen=True)
class Pixels:
    """One pattern, or a small version of it, ready to be sent.

    Attributes
    ----------
    codes
        (rows, columns) uint8: 0 to `LEVELS` on the log scale, `BAD` = left out.
    knee
        The value below which the scale is nearly linear, in the unit of the pattern.
    top
        The value of the code `LEVELS`, in the unit of the pattern.
    """

    codes: NDArray[np.uint8]
    knee: float
    top: float


def encode_pattern(
    pattern: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    knee: float | None = None,
) -> Pixels:
    """Put a pattern on its own log scale.

    Parameters
    ----------
    pattern
        (rows, columns) in photons or ADU; negative values are drawn as 0.
    bad_pixels
        (rows, columns), True = leave out.
    knee
        Where the scale turns from linear to logarithmic, in the unit of the pattern:
        1 suits photon counts. None takes the median of the positive values.
    """
    values = np.where(bad_pixels, 0, np.maximum(pattern, 0)).astype(np.float32)
    top = float(values.max(initial=0))
    if knee is None:
        knee = _median_knee(values, top)
    top = top or knee
    scale = LEVELS / np.log1p(top / knee)
    codes = np.rint(np.log1p(values / np.float32(knee)) * np.float32(scale))
    codes = np.minimum(codes, LEVELS).astype(np.uint8)
    codes[bad_pixels] = BAD
    return Pixels(codes, knee, top)


def decode_pixels(pixels: Pixels) -> NDArray[np.float64]:
    """Turn codes back into values, (rows, columns), with NaN for what is left out."""
    fraction = pixels.codes / LEVELS
    values = pixels.knee * np.expm1(fraction * np.log1p(pixels.top / pixels.knee))
    return np.where(pixels.codes == BAD, np.nan, values)


def shrink_pattern(
    pattern: NDArray[np.float32], bad_pixels: NDArray[np.bool_], longest: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average square blocks of pixels until no side is longer than `longest`.

    Parameters
    ----------
    pattern
        (rows, columns).
    bad_pixels
        (rows, columns), True = leave out of the averages.
    longest
        Longest side wanted, in pixels.

    Returns
    -------
    pattern, bad_pixels
        (ceil(rows / k), ceil(columns / k)) for whole k; a block without a single
        good pixel is bad.
    """
    k = -(-max(pattern.shape) // longest)
    if k == 1:
        return pattern, bad_pixels
    good = _block_sums((~bad_pixels).astype(np.float32), k)
    total = _block_sums(np.where(bad_pixels, np.float32(0), pattern), k)
    return np.divide(total, np.maximum(good, 1), dtype=np.float32), good == 0


def colour_tables() -> bytes:
    """Return 256 × (red, green, blue) bytes for each of `COLOUR_MAPS`, one by one."""
    return b"".join(_colour_table(i) for i in range(len(COLOUR_MAPS)))


def preview_png(codes: NDArray[np.uint8]) -> bytes:
    """Draw codes (rows, columns) as a PNG with the first of the colour maps."""
    from PIL import Image

    image = Image.fromarray(codes).convert("P")
    image.putpalette(_colour_table(0))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


@cache
def _colour_table(i: int) -> bytes:
    from matplotlib import colormaps

    colours = colormaps[COLOUR_MAPS[i]](np.linspace(0, 1, LEVELS + 1))[:, :3]
    table: bytes = np.rint(colours * 255).astype(np.uint8).tobytes()
    return table + bytes(BAD_COLOURS[i])


def _median_knee(values: NDArray[np.float32], top: float) -> float:
    positive = values[values > 0]
    if positive.size == 0:
        return 1.0
    return float(np.clip(np.median(positive), top / 1e4, top))


def _block_sums(image: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % k), (0, -columns % k)))
    # Rows first: one sum over both axes at once takes three times as long.
    bands = padded.reshape(-1, k, padded.shape[1]).sum(axis=1)
    sums: NDArray[np.float32] = bands.reshape(len(bands), -1, k).sum(axis=2)
    return sums
