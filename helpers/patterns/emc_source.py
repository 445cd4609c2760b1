"""Dragonfly's `.emc`: photons of all patterns as lists, in a file of its own form.

32-bit integers: number of patterns, number of pixels, zeros to byte 1024; how many
pixels have one photon in each pattern, how many have more; then for all patterns the
pixels with one, the pixels with more, and how many these have.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import find_file_problem
from helpers.patterns.shot_sources import COUNTS, fill_image, parse_frame
from helpers.patterns.sources import MOST_PATTERNS, MOST_PIXELS, Source

HEAD = 1024
INTEGER = np.dtype("<i4")


class EmcSource(Source):
    """Patterns of an `.emc` file; of one that is cut short, those that are whole.

    Parameters
    ----------
    path
        The file.
    where
        Rows and columns, as `260x257`: the file knows their product only.

    Raises
    ------
    PatternsFileError
        If the file does not add up.
    """

    dtype = COUNTS

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(path, where)
        n, _ = read_emc_head(path)
        lengths = np.fromfile(path, INTEGER, 2 * n, offset=HEAD).reshape(2, -1)
        _check_lengths(path, lengths, n)
        ones, multi = (np.cumsum([0, *row], dtype=np.int64) for row in lengths)
        first = HEAD // INTEGER.itemsize + 2 * n
        first_count = first + ones[-1] + multi[-1]
        self._starts = first + ones, first + ones[-1] + multi, first_count + multi
        whole = self._count_whole(path.stat().st_size // INTEGER.itemsize, n)
        self.shape = (whole, *parse_frame(where))

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        problem = find_file_problem(self.path)
        if problem:
            raise PatternsFileError(self.path, [problem])
        try:
            lists = [
                self._read_lists(starts, start, len(out)) for starts in self._starts
            ]
        except (OSError, ValueError) as error:
            problem = f"{self._say_unreadable(start, len(out))}. Copy the file again."
            raise PatternsFileError(self.path, [problem]) from error
        for image, *one in zip(out, *lists, strict=True):
            fill_image(self.path, image, *one)

    def _read_lists(
        self, starts: NDArray[np.int64], first: int, n: int
    ) -> list[NDArray[np.int32]]:
        bounds = starts[first : first + n + 1]
        offset, length = bounds[0] * INTEGER.itemsize, bounds[-1] - bounds[0]
        values = np.fromfile(self.path, INTEGER, int(length), offset=int(offset))
        if values.size != length:
            message = f"{values.size} of {length} integers are there"
            raise ValueError(message)
        return [values[start:stop] for start, stop in pairwise(bounds - bounds[0])]

    def _count_whole(self, n_integers: int, n: int) -> int:
        """Return how many patterns are there; say what is amiss with the length."""
        expected = int(self._starts[2][-1])
        whole = np.all([starts[1:] <= n_integers for starts in self._starts], axis=0)
        n_whole = n if whole.all() else int(np.argmin(whole))
        if n_integers == expected:
            return n
        problem = (
            f"has {n_integers} integers of 4 bytes; expected {expected} for {n} "
            "patterns."
        )
        if not n_whole or n_integers > expected:
            problem += " So its patterns cannot be told apart. Copy the file again."
            raise PatternsFileError(self.path, [problem])
        self.remarks = (
            f"{problem} The {n_whole} patterns that are there are read. "
            "Compare its size with the original.",
        )
        return n_whole


def is_emc(path: Path) -> bool:
    """Tell whether a file is an `.emc`: by its ending, as it has no signature."""
    return path.suffix.lower() == ".emc"


def read_emc_head(path: Path) -> tuple[int, int]:
    """Return the number of patterns and of pixels that an `.emc` file has.

    Raises
    ------
    PatternsFileError
        If the file is not there or its head cannot be that of an `.emc`.
    """
    problem = find_file_problem(path, expected="an .emc file")
    if problem:
        raise PatternsFileError(path, [problem])
    head = np.fromfile(path, INTEGER, HEAD // INTEGER.itemsize)
    n, n_pixels, *rest = (
        head.tolist() if head.size == HEAD // INTEGER.itemsize else (0, 0)
    )
    size = path.stat().st_size
    possible = 0 < n <= MOST_PATTERNS and 0 < n_pixels <= MOST_PIXELS
    if not possible or any(rest) or size < HEAD + 2 * n * INTEGER.itemsize:
        problem = (
            f"is not a sparse .emc file: found {size} bytes that begin with {n} "
            f"patterns and {n_pixels} pixels; expected numbers above 0, zeros to byte "
            f"{HEAD} and two integers for each pattern. Dense .emc files are not read."
        )
        raise PatternsFileError(path, [problem])
    return n, n_pixels


def _check_lengths(path: Path, lengths: NDArray[np.int32], n: int) -> None:
    if lengths.shape[1] != n or (lengths < 0).any():
        problem = (
            "has a negative number of pixels with photons in some pattern; expected 0 "
            "or more. The file is damaged, or no .emc file."
        )
        raise PatternsFileError(path, [problem])
