"""Patterns of a run of the European XFEL, read through the virtual file of it."""

import shutil
import weakref
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.source import Source


class RunSource(Source):
    """Patterns of a folder; the virtual file that leads to them goes away with it.

    Parameters
    ----------
    path
        The folder of the run.
    where
        The name of the detector.
    linked
        The patterns of the virtual file, which lies in a folder of its own.
    """

    def __init__(self, path: Path, where: str, linked: Source) -> None:
        super().__init__(path, where)
        self._linked = linked
        self.shape, self.dtype, self.chunk = linked.shape, linked.dtype, linked.chunk
        self.gaps, self.notes = linked.gaps, linked.notes
        weakref.finalize(self, shutil.rmtree, linked.path.parent, ignore_errors=True)

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        try:
            self._linked.read_into(out, start)
        except PatternsFileError as error:
            problem = (
                f"{self._say_unreadable(start, len(out))}. A file of the run is gone "
                f"or damaged. {' '.join(error.problems)}"
            )
            raise PatternsFileError(self.path, [problem]) from error

    def close(self) -> None:  # noqa: D102
        self._linked.close()

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        return self._linked.assemble(values)
