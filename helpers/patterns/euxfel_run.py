"""Runs of the European XFEL: a folder with files for each module and stretch of trains.

The package extra_data knows which pulse of which train stands where in them. It writes
a virtual file, which copies nothing, and that file is read like any other.
"""

import io
import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import enumerate_some
from helpers.patterns.sources import Source

_OF_A_RUN = re.compile(r"[A-Z]+-R\d{4,}-\w+-S\d{5}\.h5")
MANY = 64  # files, from which on starting processes to open them pays
DATA = "/entry_1/instrument_1/detector_1/data"


@dataclass(frozen=True)
class Run:
    """A run of one detector, gathered in a virtual file.

    Attributes
    ----------
    file
        The virtual file, in a folder of its own that may be removed.
    detector
        Its name in the run: "SPB_DET_AGIPD1M-1".
    kind
        The class of extra_data that reads it: "AGIPD1M".
    is_raw
        True where the values are not corrected.
    absent
        (modules, slow, fast) bool, True in modules without anything in the whole run.
    n_incomplete
        How many patterns, or trains of them, lack a module that others have.
    unreadable
        Names of files that could not be opened.
    geometry
        The only CrystFEL geometry in the run's folder; None without one.
    """

    file: Path
    detector: str
    kind: str
    is_raw: bool
    absent: NDArray[np.bool_]
    n_incomplete: int
    unreadable: tuple[str, ...]
    geometry: Path | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing in it, one sentence each."""
        numbers = ", ".join(map(str, np.flatnonzero(self.absent.any(axis=(1, 2)))))
        n = self.n_incomplete
        said = (
            f"Modules without data in this run: {numbers}." if numbers else "",
            f"{n} patterns lack a module; its pixels are 0 in them." if n else "",
        )
        return tuple(filter(None, said))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should be warned of."""
        names = enumerate_some(self.unreadable)
        said = (
            f"{names} cannot be opened and is left out, with the patterns in it. Copy "
            "it again."
            if names
            else "",
            "the values are raw: offsets and gain are not corrected, so that photons "
            "hardly show. Open the corrected run (proc/) if there is one."
            if self.is_raw
            else "",
        )
        return tuple(filter(None, said))


def is_run(path: Path) -> bool:
    """Tell whether a path is a folder with the files of a run."""
    with suppress(OSError):
        return path.is_dir() and any(map(_is_of_a_run, path.iterdir()))
    return False


def gather_run(path: Path, detector: str | None = None) -> Run:
    """Write a virtual file of all patterns of a run, in the order of trains and pulses.

    Nothing is written in the run's own folder.

    Parameters
    ----------
    path
        The folder.
    detector
        The name of the detector; needed where the run has several.

    Raises
    ------
    PatternsFileError
        If extra_data is not installed, the run has not exactly one such detector, or
        extra_data cannot read it.
    """
    try:
        from extra_data import DataCollection
        from extra_data.components import identify_multimod_detectors
    except ImportError as error:
        problem = (
            "is a run of the European XFEL, which the package extra-data reads; it is "
            "not installed. Install it (pip install 'single-hits[euxfel]'), or pass a "
            "CXI file that was made of the run."
        )
        raise PatternsFileError(path, [problem]) from error
    with _wrap_extra_data_errors(path):
        # RunDirectory would keep its notes in the folder of the run
        files = sorted(map(str, filter(_is_of_a_run, path.iterdir())))
        data = DataCollection.from_paths(
            files, is_single_run=True, parallelize=len(files) >= MANY
        )
        found = dict(identify_multimod_detectors(data))
        name = _choose(path, list(found), detector)
        opened = {each.filename for each in data.files}
        unreadable = [Path(each).name for each in files if each not in opened]
        return _link(path, found[name](data, name), unreadable)


def _choose(path: Path, found: list[str], detector: str | None) -> str:
    wanted = [name for name in sorted(found) if not detector or name == detector]
    if len(wanted) == 1:
        return wanted[0]
    if not found:
        problem = (
            "no detector of several modules is in this run; expected AGIPD, DSSC, LPD "
            "or JUNGFRAU. Pass the folder with the files of the detector."
        )
    else:
        asked = f"there is no detector {detector} in it; " if detector else ""
        problem = (
            f"{asked}found {', '.join(sorted(found))}. Name one of them: "
            f"dataset='{min(found)}'."
        )
    raise PatternsFileError(path, [problem])


def _link(path: Path, parts: Any, unreadable: list[str]) -> Run:
    """Write the virtual file of a detector of extra_data."""
    file = Path(tempfile.mkdtemp(prefix="run-"), "run.cxi")
    parts.write_virtual_cxi(str(file))
    there = parts.data_availability(module_gaps=True)
    absent = ~there.any(axis=1)
    pixels = np.broadcast_to(absent[:, None, None], (len(absent), *parts.module_shape))
    geometries = sorted(path.glob("*.geom"))
    return Run(
        file=file,
        detector=parts.detector_name,
        kind=type(parts).__name__,
        is_raw=_is_raw(file, parts),
        absent=pixels,
        n_incomplete=int(np.count_nonzero(~there[~absent].all(axis=0))),
        unreadable=tuple(unreadable),
        geometry=geometries[0] if len(geometries) == 1 else None,
    )


def _is_raw(file: Path, parts: Any) -> bool:
    """Tell whether whole numbers come from files of which one is raw."""
    with h5py.File(file) as virtual:
        whole = virtual[DATA].dtype.kind in "iu"
    names = [Path(each.filename).name for each in parts.data.files]
    return whole and any(name.startswith("RAW-") for name in names)


def _is_of_a_run(path: Path) -> bool:
    return _OF_A_RUN.fullmatch(path.name) is not None


@contextmanager
def _wrap_extra_data_errors(path: Path) -> Iterator[None]:
    """Turn what extra_data raises or prints into our error."""
    said = io.StringIO()
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(said),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    except PatternsFileError:
        raise
    except Exception as error:  # a reader of a hundred files may raise anything
        heard = " ".join(said.getvalue().split())
        problem = (
            "cannot be read as a run of the European XFEL. Expected the files of one "
            f"run, whole. extra-data says: {error or type(error).__name__} {heard}"
        )
        raise PatternsFileError(path, [problem.strip()]) from error


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
        self.masks = linked.masks
        weakref.finalize(self, shutil.rmtree, linked.path.parent, ignore_errors=True)

    def read_into(self, out: NDArray[Any], start: int) -> None:  # noqa: D102
        try:
            self._linked.read_into(out, start)
        except PatternsFileError as error:
            problem = (
                f"{self._describe_unreadable(start, len(out))}. A file of the run is "
                f"gone or damaged. {' '.join(error.problems)}"
            )
            raise PatternsFileError(self.path, [problem]) from error

    def leave_out(self, out: NDArray[np.float32], start: int) -> None:  # noqa: D102
        self._linked.leave_out(out, start)

    def close(self) -> None:  # noqa: D102
        self._linked.close()

    def assemble(self, values: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        return self._linked.assemble(values)
