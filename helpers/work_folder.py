"""The files of a work folder: what each holds, and which notebook writes it.

Readers take their checks and their messages from this table. So a file that is missing,
damaged or not ours is told in the same words everywhere, with the notebook to run.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import HelpersError, ModelError, WorkFolderError
from helpers.outputs import open_to_read


@dataclass(frozen=True)
class Values:
    """What a dataset of a file may hold.

    Attributes
    ----------
    dtype
        As it is given to the reader; `str` for texts.
    shape
        A letter for each dimension: the same letter is the same length in a file; N, R
        and C are the numbers of patterns, rows and columns.
    low, high
        Limits of the values, which they may reach.
    are_patterns
        Whether they are indices of patterns, below the number of patterns.
    are_unique
        Whether each comes once.
    may_lack
        Whether some may be NaN.
    """

    dtype: type
    shape: str
    low: float = -math.inf
    high: float = math.inf
    are_patterns: bool = False
    are_unique: bool = False
    may_lack: bool = False

    def find_problems(
        self, file: h5py.File, name: str, lengths: dict[str, int]
    ) -> Iterator[str]:
        """Say what is wrong with a dataset, before any memory is taken for it."""
        if _is_link(file, name):
            yield f"{name} does not lie in this file"
            return
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            yield f"there is no dataset {name}"
            return
        if found.external or found.is_virtual:
            yield f"{name} does not lie in this file"
            return
        kind = "text" if h5py.check_string_dtype(found.dtype) else found.dtype.kind
        if kind not in _KINDS[self.dtype]:
            yield f"{name} has dtype {found.dtype}; expected {self.dtype.__name__}"
        expected = [
            lengths.setdefault(*pair)
            for pair in zip(self.shape, found.shape, strict=False)
        ]
        if len(found.shape) != len(self.shape) or [*found.shape] != expected:
            right = ", ".join(str(lengths.get(each, each)) for each in self.shape)
            yield f"{name} has shape {found.shape}; expected ({right})"
        stored = found.id.get_storage_size()
        is_packed = found.chunks is not None or found.dtype.kind == "O"
        if stored * (HIGHEST_PACKING if is_packed else 1) < found.nbytes:
            yield f"{name} is not there as a whole"

    def find_value_problems(
        self, name: str, values: NDArray[Any], n_patterns: float
    ) -> Iterator[str]:
        """Say which values cannot be right."""
        if values.dtype.kind not in "iuf" or not values.size:
            return
        is_finite = np.isfinite(values)
        if np.isinf(values).any():
            yield f"{name} holds infinite values"
        if np.isnan(values).any() and not self.may_lack:
            yield f"{name} holds NaN"
        if not is_finite.any():
            return
        if self.are_unique and np.unique(values).size < values.size:
            yield f"{name} holds an index twice"
        high = min(self.high, n_patterns - 1) if self.are_patterns else self.high
        low = 0 if self.are_patterns else self.low
        smallest, largest = values[is_finite].min(), values[is_finite].max()
        if smallest < low or largest > high:
            yield (
                f"{name} holds values from {smallest:g} to {largest:g}; expected "
                f"{low:g} to {high:g}"
            )


def _is_link(file: h5py.File, name: str) -> bool:
    """Tell whether a dataset, or a group that it is in, is one to another place."""
    groups = accumulate(name.split("/"), "{}/{}".format)
    return any(
        isinstance(file.get(each, getlink=True), h5py.ExternalLink | h5py.SoftLink)
        for each in groups
    )


HIGHEST_PACKING = 2000
"""How much smaller than its values a compressed dataset may be."""

LARGEST_JSON = 64 * 2**20
"""Bytes; larger is no file of ours."""

CANNOT_BE_READ = (
    *(OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError),
    *(MemoryError, HelpersError),
)
"""Errors of reading a file that is damaged, or not what its name says."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the names and values of a JSON file, whatever it is of.

    Raises
    ------
    OSError, RecursionError, ValueError
        If it cannot be read, is larger than any file of ours, or holds something else.
    """
    if (size := path.stat().st_size) > LARGEST_JSON:
        message = f"it has {size:,} bytes; expected {LARGEST_JSON:,} at most"
        raise ValueError(message)
    metadata = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(metadata, dict):
        message = f"it holds a {type(metadata).__name__}; expected names and values"
        raise ValueError(message)
    return metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Return a JSON file, or the attributes of an HDF5 file; {} of a damaged one."""
    with suppress(*CANNOT_BE_READ):
        if path.suffix == ".json":
            return read_json(path)
        with open_to_read(path) as file:
            return dict(file.attrs)
    return {}


FARTHEST = 1e6
"""Pixels from the corner of the detector to a centre that can be meant."""

_KINDS: Mapping[type, str | tuple[str, ...]] = {
    str: ("text",),
    np.bool_: "b",
    np.uint8: "u",
    np.int32: "iu",
    np.int64: "iu",
    np.float32: "fiu",
    np.float64: "fiu",
}


@dataclass(frozen=True)
class Entry:
    """What an attribute of an HDF5 file, or a name in a JSON file, may be."""

    what: str
    is_right: Callable[[Any], bool]
    may_lack: bool = False


def _is_number(found: Any) -> bool:
    is_plain = isinstance(found, int | float | np.integer | np.floating)
    return is_plain and not isinstance(found, bool) and math.isfinite(found)


def _is_list(is_right: Callable[[Any], bool], length: int = 0) -> Callable[..., bool]:
    return lambda found: (
        isinstance(found, list | tuple | np.ndarray)
        and len(found) > 0
        and length in (0, len(found))
        and all(map(is_right, found))
    )


PATH = Entry("a path", lambda found: isinstance(found, str))
TEXT = Entry("a text", lambda found: isinstance(found, str))
FILES = Entry("file names", _is_list(TEXT.is_right))
WORDS = Entry("words", _is_list(TEXT.is_right))
SHARE = Entry(
    "a number from 0 to 1", lambda found: _is_number(found) and 0 <= found <= 1
)
COUNT = Entry(
    "a whole number from 0",
    lambda found: _is_number(found) and found == int(found) >= 0,
)
FLAG = Entry("true or false", lambda found: isinstance(found, bool | np.bool_))
SIZES = Entry("sizes of files", _is_list(COUNT.is_right), may_lack=True)
GEOMETRY = Entry("a path", lambda found: isinstance(found, str | None), may_lack=True)
MASK_OF_EACH = replace(FLAG, may_lack=True)
NUMBER = Entry("a number", _is_number)
GAIN = Entry("a number above 0", lambda found: _is_number(found) and found > 0)
POINT = Entry(
    "row and column",
    _is_list(lambda each: _is_number(each) and abs(each) < FARTHEST, length=2),
)
NAMES = Entry("names and values", lambda found: isinstance(found, dict))


def _is_calibration(found: Any) -> bool:
    if not isinstance(found, dict) or not found.keys() <= {"slope", "offset", "below"}:
        return False
    above_0 = (found.get(name, 1.0) for name in ("slope", "below"))
    return all(map(_is_number, found.values())) and all(each > 0 for each in above_0)


CALIBRATION = Entry("slope and below above 0, and an offset", _is_calibration)


@dataclass(frozen=True)
class WorkFile:
    """A file of the work folder.

    Attributes
    ----------
    name
        In the work folder.
    writer
        The notebook that writes it.
    holds
        In a few words.
    datasets
        Of an HDF5 file, by their paths: those that are read back.
    metadata
        Attributes of an HDF5 file, or names in a JSON file: those that are read back.
    error
        Raised when it cannot be read.
    """

    name: str
    writer: str
    holds: str
    datasets: Mapping[str, Values] = field(default_factory=dict)
    metadata: Mapping[str, Entry] = field(default_factory=dict)
    error: type[HelpersError] = WorkFolderError

    def read_hdf5(
        self, path: str | Path, *, only: Sequence[str] = ()
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Read the datasets of the table, and all attributes.

        Parameters
        ----------
        path
            The file, of whatever name. An `experiment.json` beside it says how many
            patterns, rows and columns there are.
        only
            The datasets to be read; all of the table when empty.

        Raises
        ------
        WorkFolderError
            Or `error`: the file is missing, damaged, or holds what cannot be right.
        """
        path = Path(path).expanduser()
        self.check_exists(path)
        wanted = {k: v for k, v in self.datasets.items() if not only or k in only}
        lengths = _find_lengths(path.parent)
        n_patterns = lengths.get("N", math.inf)
        try:
            with open_to_read(path) as file:
                problems = (
                    v.find_problems(file, k, lengths) for k, v in wanted.items()
                )
                self._refuse(path, chain.from_iterable(problems))
                arrays = {
                    name: file[name].asstr()[()].astype(str)
                    if values.dtype is str
                    else file[name][()].astype(values.dtype, copy=False)
                    for name, values in wanted.items()
                }
                metadata = {
                    name: value.item() if isinstance(value, np.generic) else value
                    for name, value in file.attrs.items()
                }
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise self.make_error(path, f"cannot be read ({error})") from error
        self._refuse(path, self._find_entry_problems(metadata))
        problems = (
            wanted[name].find_value_problems(name, array, n_patterns)
            for name, array in arrays.items()
        )
        self._refuse(path, chain.from_iterable(problems))
        return arrays, metadata

    def read_json(self, path: str | Path) -> dict[str, Any]:
        """Read the names and values of a JSON file.

        Raises
        ------
        WorkFolderError
            Or `error`: the file is missing, damaged, or lacks a name of the table.
        """
        path = Path(path).expanduser()
        self.check_exists(path)
        try:
            metadata = read_json(path)
        except (OSError, ValueError, RecursionError) as error:
            raise self.make_error(path, f"cannot be read ({error})") from error
        self._refuse(path, self._find_entry_problems(metadata))
        return metadata

    def check_exists(self, path: str | Path) -> None:
        """Raise the error of a file that is not there."""
        if not Path(path).exists():
            message = (
                f"{path} is not there; expected what {self.writer} writes: "
                f"{self.holds}. Run {self.writer} with this work_dir first."
            )
            raise self.error(message)

    def make_error(self, path: str | Path, problem: str) -> HelpersError:
        """Return the error of a file that is there but wrong."""
        return self.error(f"{path} {problem}. Run {self.writer} again.")

    def _find_entry_problems(self, metadata: Mapping[str, Any]) -> Iterator[str]:
        needed = (name for name, entry in self.metadata.items() if not entry.may_lack)
        missing = [name for name in needed if name not in metadata]
        if missing:
            yield f"it lacks {', '.join(missing)}"
        for name, entry in self.metadata.items():
            if name in metadata and not entry.is_right(metadata[name]):
                yield f"{name} is {metadata[name]!r:.80}; expected {entry.what}"

    def _refuse(self, path: Path, problems: Iterable[str]) -> None:
        found = "; ".join(problems)
        if found:
            message = f"is not what {self.writer} writes ({self.holds}): {found}"
            raise self.make_error(path, message)


def _find_lengths(folder: Path) -> dict[str, int]:
    """Return numbers of patterns, rows and columns; {} where no file tells them."""
    try:
        shape = EXPERIMENT.read_json(folder / EXPERIMENT.name)["shape"]
        return {letter: int(n) for letter, n in zip("NRC", shape, strict=True)}
    except (HelpersError, LookupError, TypeError, ValueError, OverflowError):
        return {}


LABELS_NAME = "labels.sqlite"  # the label store, which `helpers.labels` reads

PARTS = ("training", "validation", "test")
"""Of the labelled patterns: what trains, validates and tests."""

_INDEX_ONCE = Values(np.int64, "n", are_patterns=True, are_unique=True)

EXPERIMENT = WorkFile(
    "experiment.json",
    "01-inspect",
    "what was found in the patterns' files",
    metadata={
        "patterns_files": FILES,
        "dataset": PATH,
        "centre": POINT,
        "fingerprint": TEXT,
        "patterns_sizes": SIZES,
        "geometry_file": GEOMETRY,
        "has_mask_of_each": MASK_OF_EACH,
        "pedestal": NUMBER,
        "adu_per_photon": GAIN,
    },
)
MEASUREMENTS = WorkFile(
    "experiment.h5",
    "01-inspect",
    "bad pixels, photons, lit pixels, powder, and which patterns are no measurement",
    {
        "bad_pixels": Values(np.bool_, "RC"),
        "photons": Values(np.float64, "N"),
        "lit_pixels": Values(np.int64, "N", low=0),
        "powder": Values(np.float64, "RC"),
        "spread": Values(np.float64, "RC", low=0),
        "not_finite": Values(np.float64, "RC", low=0, high=1),
        # 0: a measurement; else a number of `NUMBERS` in experiment/no_measurement.py
        "no_measurement": Values(np.uint8, "N", high=5),
    },
)
MAP = WorkFile(
    "map.h5",
    "02-map",
    "where each pattern lies on the map, and its cluster",
    {
        "position": Values(np.float32, "nm"),
        "cluster": Values(np.int32, "n", low=-1),
        "fitted": Values(np.int64, "f", are_patterns=True),
    },
    {"features": TEXT, "fingerprint": TEXT},
)
PARTITION = WorkFile(
    "partition.h5",
    "04-rank",
    "the training, validation and test sets",
    {
        f"{part}/{name}": values
        for part, letter in zip((*PARTS, "to_predict"), "tvep", strict=True)
        for name, values in (
            ("index", Values(np.int64, letter, are_patterns=True)),
            ("label", Values(str, letter)),
        )
    },
    {"grouped": FLAG, "why": TEXT, "seed": COUNT, "fingerprint": TEXT},
)
CLEAN_SINGLE_HITS = WorkFile(
    "clean_single_hits.h5",
    "04-rank",
    "the clean single hits that are templates",
    {"clean_single_hits": Values(np.float32, "nRC"), "index": _INDEX_ONCE},
)
RANKING = WorkFile(
    "ranking.h5",
    "04-rank",
    "all other patterns, nearest to a clean single hit first",
    {
        "index": _INDEX_ONCE,
        "distance": Values(np.float32, "n"),
        # of another stack, where a further run is ranked by this one's templates
        "template": Values(np.int64, "n", low=0),
        "angle_deg": Values(np.float32, "n", may_lack=True),
    },
    {"metric": TEXT, "n_rotations": COUNT, "n_templates": COUNT, "fingerprint": TEXT},
)
MODEL = WorkFile("model.keras", "05-train", "the network", error=ModelError)
WEIGHTS = WorkFile("model.weights.h5", "05-train", "its weights", error=ModelError)
MODEL_METADATA = WorkFile(
    "model.json",
    "05-train",
    "how the network was made and how good it is",
    metadata={
        "model": TEXT,
        "settings": NAMES,
        "classes": WORDS,
        "calibration": CALIBRATION,
        "threshold": SHARE,
        "judged": replace(NAMES, may_lack=True),
        "teaches_all": replace(FLAG, may_lack=True),
        "model_sha256": TEXT,
    },
    error=ModelError,
)
PREDICTIONS = WorkFile(
    "predictions.h5",
    "06-review",
    "the probability of a single hit for every pattern",
    {
        "predictions": Values(np.float32, "N", low=0, high=1, may_lack=True),
        "raw": Values(np.float32, "N", may_lack=True),
    },
    {"threshold": SHARE, "fingerprint": TEXT, "patterns_files": TEXT},
)
SELECTION = WorkFile(
    "selection/selection.h5",
    "06-review",
    "which patterns are selected, and from which file and row each comes",
    {"index": _INDEX_ONCE},
    {"threshold": NUMBER},
)
QUEUE = WorkFile("to_label.csv", "07-improve", "the most useful patterns to label next")

STAGES = (EXPERIMENT, PARTITION, RANKING, MODEL_METADATA, PREDICTIONS)
"""The files without which the next notebook cannot go on, in the order of a run."""

TRACKED = (
    *(EXPERIMENT, MEASUREMENTS, MAP, PARTITION, CLEAN_SINGLE_HITS, RANKING),
    *(MODEL_METADATA, PREDICTIONS, SELECTION),
)
"""The files that say what they were made from, so that they can be out of date."""
