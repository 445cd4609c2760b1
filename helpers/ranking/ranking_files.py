"""The two files of the ranking stage: clean single hits in, ranking out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import WorkFolderError
from helpers.outputs import whole_hdf5, write_provenance
from helpers.ranking.ranking import Ranking

if TYPE_CHECKING:
    from helpers.patterns import Patterns

_ARRAYS = {
    "index": np.int64,
    "distance": np.float32,
    "template": np.int64,
    "angle_deg": np.float32,
}
_FACTS = {"metric": str, "n_rotations": int, "n_templates": int, "fingerprint": str}


def write_clean_single_hits(
    path: str | Path, patterns: "Patterns", hits_index: ArrayLike
) -> None:
    """Copy the clean single hits out of the stack into a file of their own.

    Parameters
    ----------
    path
        The file to write: `/clean_single_hits` float32 (n, rows, columns), bad pixels
        0, and `/index` int64 (n,), where each hit stands in the stack.
    patterns
        The stack.
    hits_index
        Pattern indices of the clean single hits.
    """
    index = np.asarray(hits_index, dtype=np.int64)
    with whole_hdf5(path) as file:
        file["clean_single_hits"] = np.asarray(patterns[index], dtype=np.float32)
        file["index"] = index
        write_provenance(
            file,
            source_files=[str(source) for source in patterns.files],
            fingerprint=patterns.fingerprint,
        )


def read_clean_single_hits(
    path: str | Path,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the clean single hits and their places in the stack.

    Parameters
    ----------
    path
        A file written by `write_clean_single_hits`.

    Returns
    -------
    hits : NDArray[np.float32]
        Shape (n, rows, columns).
    index : NDArray[np.int64]
        Shape (n,): pattern indices.

    Raises
    ------
    WorkFolderError
        If the file is missing or is not one of ours.
    """
    names = {"clean_single_hits": np.float32, "index": np.int64}
    arrays, _ = _read(path, names, {}, "write_clean_single_hits")
    return arrays["clean_single_hits"], arrays["index"]


def write_ranking(path: str | Path, ranking: Ranking) -> None:
    """Write a ranking as HDF5: its arrays as datasets, its facts as attributes."""
    with whole_hdf5(path) as file:
        for name, dtype in _ARRAYS.items():
            file[name] = np.asarray(getattr(ranking, name), dtype=dtype)
        facts = {name: getattr(ranking, name) for name in _FACTS}
        write_provenance(file, **facts)


def read_ranking(path: str | Path) -> Ranking:
    """Read what `write_ranking` wrote.

    Raises
    ------
    WorkFolderError
        If the file is missing or is not a ranking.
    """
    arrays, facts = _read(path, _ARRAYS, _FACTS, "write_ranking")
    everything: dict[str, Any] = {**arrays, **facts}
    return Ranking(**everything)


def _read(
    path: str | Path, names: dict[str, Any], facts: dict[str, Any], writer: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    expected = f"Expected the HDF5 file that {writer} makes. Run the ranking again."
    if not Path(path).exists():
        message = f"{path}: no such file. {expected}"
        raise WorkFolderError(message)
    try:
        with h5py.File(path) as file:
            arrays = {name: file[name][()].astype(names[name]) for name in names}
            known = {name: kind(file.attrs[name]) for name, kind in facts.items()}
    except (OSError, KeyError) as error:
        message = f"{path}: cannot be read ({error}). {expected}"
        raise WorkFolderError(message) from error
    return arrays, known
