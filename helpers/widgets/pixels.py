"""Patterns as the bytes that a browser draws: one byte a pixel on a log scale.

A byte is `LEVELS` × log(1 + value / knee) / log(1 + top / knee), rounded, and `BAD`
where the pixel is to be left out. `knee` and `top` travel beside the bytes, so the
browser can turn a byte back into a value and change the contrast without asking again.
"""

import hashlib
import io
import json
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.outputs import provenance
from helpers.patterns import Patterns
from helpers.plots import Crop, find_crop

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


def shrink_pattern(
    pattern: NDArray[np.float32], bad_pixels: NDArray[np.bool_], longest: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Average square blocks of pixels until no side is longer than `longest`.

    Parameters
    ----------
    pattern
        (…, rows, columns): one, or many at once.
    bad_pixels
        (rows, columns), True = leave out of the averages.
    longest
        Longest side wanted, in pixels.

    Returns
    -------
    pattern, bad_pixels
        (…, ceil(rows / k), ceil(columns / k)) for whole k; a block without a single
        good pixel is bad.
    """
    k = -(-max(pattern.shape[-2:]) // longest)
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
    *others, rows, columns = image.shape
    missing = [(0, 0)] * len(others) + [(0, -rows % k), (0, -columns % k)]
    padded = np.pad(image, missing)
    # Rows first: one sum over both axes at once takes three times as long.
    bands = padded.reshape(*others, -1, k, padded.shape[-1]).sum(axis=-2)
    sums: NDArray[np.float32] = bands.reshape(*bands.shape[:-1], -1, k).sum(axis=-1)
    return sums


SIDE = 96
WHOLE: Crop = (slice(None), slice(None))
# To be raised when thumbnails of the same patterns come out differently.
VERSION = 2
WRITTEN_AT_ONCE = 256  # patterns, in one transaction
NEWEST_KEPT = 4096  # in memory, 9 kB each

_TABLES = (
    "CREATE TABLE IF NOT EXISTS provenance (facts TEXT NOT NULL)",
    """
CREATE TABLE IF NOT EXISTS thumbnails (
    pattern INTEGER PRIMARY KEY, n_rows INTEGER NOT NULL, n_columns INTEGER NOT NULL,
    knee REAL NOT NULL, top REAL NOT NULL, codes BLOB NOT NULL)""",
)
_SELECT = "SELECT n_rows, n_columns, knee, top, codes FROM thumbnails WHERE pattern = ?"
_INSERT = "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?, ?, ?)"


def make_pixels(
    patterns: Patterns, index: Sequence[int], longest: int, crop: Crop = WHOLE
) -> list[Pixels]:
    """Return patterns as the browser draws them, no side longer than `longest`."""
    encode = _encoder(patterns, longest, crop)
    return encode(patterns[np.asarray(index, dtype=np.int64)])


def _encoder(
    patterns: Patterns, longest: int, crop: Crop
) -> Callable[[NDArray[np.float32]], list[Pixels]]:
    knee = 1.0 if patterns.unit == "photons" else None
    return partial(
        _encode, bad_pixels=patterns.bad_pixels, longest=longest, crop=crop, knee=knee
    )


def _encode(
    block: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    longest: int,
    crop: Crop,
    knee: float | None,
) -> list[Pixels]:
    cut = block[(slice(None), *crop)]
    images, bad = shrink_pattern(cut, bad_pixels[crop], longest)
    return [encode_pattern(image, bad, knee) for image in images]


class Thumbnails:
    """The thumbnails of one stack: of each pattern the part where the signal is.

    Parameters
    ----------
    patterns
        The stack.
    work_dir
        Where they are kept; None keeps the newest in memory alone.
    """

    def __init__(self, patterns: Patterns, work_dir: str | Path | None = None) -> None:
        self._patterns = patterns
        self._is_kept = work_dir is not None
        self._folder = Path(work_dir or "")
        self._newest: dict[int, Pixels] = {}

    @cached_property
    def path(self) -> Path:
        """Where they are kept, if they are."""
        patterns = self._patterns
        made = f"{patterns.fingerprint} {patterns.unit} {VERSION} {SIDE} {LEVELS} "
        made += f"{find_crop(patterns)}"
        digest = hashlib.sha256(made.encode())
        digest.update(np.packbits(patterns.bad_pixels).tobytes())
        return self._folder / f"thumbnails-{digest.hexdigest()[:16]}.sqlite"

    def of(self, index: Sequence[int]) -> list[Pixels]:
        """Return the thumbnails of some patterns; what is not kept yet is made."""
        found = {i: self._newest[i] for i in index if i in self._newest}
        found |= self._read([i for i in index if i not in found])
        missing = list(dict.fromkeys(i for i in index if i not in found))
        if missing:
            crop = find_crop(self._patterns)
            made = make_pixels(self._patterns, missing, SIDE, crop)
            found |= dict(zip(missing, made, strict=True))
            self._write({i: found[i] for i in missing})
        self._remember(found)
        return [found[i] for i in index]

    def make_all(self) -> None:
        """Make those that are missing of the whole stack, with a progress bar."""
        kept, patterns = self._kept(), self._patterns
        missing = [i for i in range(len(patterns)) if i not in kept]
        encode = _encoder(patterns, SIDE, find_crop(patterns))
        waiting: dict[int, Pixels] = {}
        for here, made in patterns.map(encode, missing, progress="Thumbnails"):
            waiting |= zip(missing[here], made, strict=True)
            if len(waiting) >= WRITTEN_AT_ONCE or here.stop == len(missing):
                self._write(waiting)
                waiting = {}
            if not self._is_kept:
                return

    def _remember(self, found: dict[int, Pixels]) -> None:
        for pattern, pixels in found.items():
            self._newest.pop(pattern, None)
            self._newest[pattern] = pixels
        for pattern in list(self._newest)[: max(0, len(self._newest) - NEWEST_KEPT)]:
            del self._newest[pattern]

    # --- the file -----------------------------------------------------------------

    @cached_property
    def _database(self) -> sqlite3.Connection:
        """Open the file on the first use."""
        self._folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
        with database:
            for statement in _TABLES:
                database.execute(statement)
            if not database.execute("SELECT 1 FROM provenance").fetchone():
                facts = json.dumps(provenance(fingerprint=self._patterns.fingerprint))
                database.execute("INSERT INTO provenance VALUES (?)", (facts,))
        _remove_others(self.path)
        return database

    @contextmanager
    def _using_file(self) -> Iterator[None]:
        """Go on without the file if anything is wrong with it: it only saves time."""
        try:
            yield
        except (OSError, sqlite3.Error, zlib.error, ValueError) as error:
            self._is_kept = False
            warnings.warn(
                f"{self.path}: thumbnails cannot be kept there ({error}), so they are "
                "made anew each time. Delete the file if it is damaged.",
                stacklevel=2,
            )

    def _kept(self) -> set[int]:
        kept: set[int] = set()
        with self._using_file():
            rows = self._database.execute("SELECT pattern FROM thumbnails")
            kept.update(row[0] for row in rows)
        return kept

    def _read(self, index: Iterable[int]) -> dict[int, Pixels]:
        found: dict[int, Pixels] = {}
        if not self._is_kept:
            return found
        with self._using_file():
            for pattern in index:
                row = self._database.execute(_SELECT, (pattern,)).fetchone()
                if row is not None:
                    found[pattern] = _unpack(*row)
        return found

    def _write(self, made: dict[int, Pixels]) -> None:
        if not self._is_kept:
            return
        rows = [(i, *_pack(pixels)) for i, pixels in made.items()]
        with self._using_file(), self._database:
            self._database.executemany(_INSERT, rows)


def make_thumbnails(patterns: Patterns, work_dir: str | Path) -> Path:
    """Make the thumbnails of a whole stack, so that every gallery opens at once.

    Without it they are made page by page, when they are first looked at. What is there
    already is not made again, so it may be interrupted.

    Parameters
    ----------
    patterns
        The stack.
    work_dir
        The work folder.

    Returns
    -------
        The file, about 3 kB a pattern.
    """
    thumbnails = Thumbnails(patterns, work_dir)
    thumbnails.make_all()
    return thumbnails.path


def _pack(pixels: Pixels) -> tuple[int, int, float, float, bytes]:
    rows, columns = pixels.codes.shape
    codes = zlib.compress(pixels.codes.tobytes(), level=1)
    return rows, columns, pixels.knee, pixels.top, codes


def _unpack(rows: int, columns: int, knee: float, top: float, codes: bytes) -> Pixels:
    array: NDArray[np.uint8] = np.frombuffer(zlib.decompress(codes), dtype=np.uint8)
    return Pixels(array.reshape(rows, columns), knee, top)


def _remove_others(path: Path) -> None:
    """Delete the thumbnails of other patterns or bad pixels: nobody asks for them."""
    for other in path.parent.glob("thumbnails-*.sqlite"):
        if other != path:
            other.unlink(missing_ok=True)
