"""Small versions of patterns, made once and kept in the work folder.

`thumbnails-<key>.sqlite` holds them as they are sent to the browser. The key stands
for the patterns, their bad pixels and how a thumbnail is made, so that a file made
from anything else is never read. Each transaction of the database is whole or absent:
what a kill interrupts is made again when it is next looked at. The file may be deleted
at any time.
"""

import hashlib
import json
import sqlite3
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.outputs import provenance
from helpers.patterns import Patterns
from helpers.widgets.pixels import LEVELS, Pixels, encode_pattern, shrink_pattern

SIDE = 96
# To be raised when thumbnails of the same patterns come out differently.
VERSION = 1
BATCH = 256
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


def make_pixels(patterns: Patterns, index: Sequence[int], longest: int) -> list[Pixels]:
    """Return patterns as the browser draws them, no side longer than `longest`."""
    knee = 1.0 if patterns.unit == "photons" else None
    shrunk = (
        shrink_pattern(image, patterns.bad_pixels, longest)
        for image in patterns[np.asarray(index, dtype=np.int64)]
    )
    return [encode_pattern(image, bad, knee) for image, bad in shrunk]


class Thumbnails:
    """The thumbnails of one stack.

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
        made = f"{patterns.fingerprint} {patterns.unit} {VERSION} {SIDE} {LEVELS}"
        digest = hashlib.sha256(made.encode())
        digest.update(np.packbits(patterns.bad_pixels).tobytes())
        return self._folder / f"thumbnails-{digest.hexdigest()[:16]}.sqlite"

    def of(self, index: Sequence[int]) -> list[Pixels]:
        """Return the thumbnails of some patterns; what is not kept yet is made."""
        found = {i: self._newest[i] for i in index if i in self._newest}
        found |= self._read([i for i in index if i not in found])
        missing = list(dict.fromkeys(i for i in index if i not in found))
        if missing:
            made = make_pixels(self._patterns, missing, SIDE)
            found |= dict(zip(missing, made, strict=True))
            self._write({i: found[i] for i in missing})
        self._remember(found)
        return [found[i] for i in index]

    def make_all(self) -> None:
        """Make those that are missing of the whole stack, with a progress bar."""
        from tqdm.auto import tqdm

        kept = self._kept()
        missing = [i for i in range(len(self._patterns)) if i not in kept]
        with tqdm(total=len(missing), unit="pattern", desc="Thumbnails") as bar:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                made = make_pixels(self._patterns, batch, SIDE)
                self._write(dict(zip(batch, made, strict=True)))
                bar.update(len(batch))
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
