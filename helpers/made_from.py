"""What each file of a work folder was made from, and what of it fits no longer.

Every file says under `made_from` what it depends on, by the names of `SOURCES`, as a
short text that a person can read and that changes when the thing does. Whoever reads a
file compares that with what the folder holds now, so that nothing is used beside what
it does not belong to.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from helpers.errors import HelpersError, OtherPatternsError
from helpers.outputs import open_to_read
from helpers.work_folder import (
    CANNOT_BE_READ,
    EXPERIMENT,
    MEASUREMENTS,
    MODEL_METADATA,
    PARTITION,
    PARTS,
    WorkFile,
    read_json,
    read_metadata,
)

MADE_FROM = "made_from"
MODEL_ELSEWHERE = "model_elsewhere"  # the folder's own network was not asked
DIGITS = 12  # of a SHA-256, enough to tell two apart

Names = dict[str, str]


HALF = 32  # of a fingerprint: what older versions looked at


def look_alike(one: str, other: str) -> bool:
    """Tell whether two fingerprints differ only in what older versions did not see.

    Then one was written by an older version, the stack was packed in another way, or
    the two are runs whose sampled patterns are alike, such as blank ones.
    """
    is_pair = one != other and len(one) == len(other) == 2 * HALF
    return is_pair and one[:HALF] == other[:HALF]


def digest(content: bytes) -> str:
    """Return a short text that stands for content."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def name_bad_pixels(bad_pixels: NDArray[np.bool_]) -> str:
    """Return a short text for (rows, columns) bool: how many, and a digest."""
    packed = np.packbits(bad_pixels).tobytes()
    return f"{np.count_nonzero(bad_pixels)} pixels ({digest(packed)})"


def name_scale(pedestal: float, adu_per_photon: float) -> str:
    """Return a short text for what the values mean."""
    return f"pedestal {pedestal:.6g}, {adu_per_photon:.6g} per photon"


class HasValues(Protocol):
    """What `helpers.patterns.Patterns` tells of its values."""

    pedestal: float
    adu_per_photon: float

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns), True = leave out."""


def name_values(patterns: HasValues) -> Names:
    """Return what the values of patterns depend on, beside their files."""
    return {
        "bad_pixels": name_bad_pixels(patterns.bad_pixels),
        "scale": name_scale(patterns.pedestal, patterns.adu_per_photon),
    }


def name_centre(centre: tuple[float, float]) -> str:
    """Return a short text for (row, column) in pixels."""
    return f"row {centre[0]:.3f}, column {centre[1]:.3f}"


def name_file(path: str | Path | None) -> str:
    """Return a short text for the content of a file; "none" without one."""
    if not path:
        return "none"
    try:
        return f"{Path(path).name} ({digest(Path(path).read_bytes())})"
    except OSError:
        return f"{Path(path).name} (not there)"


def name_labels(words: NDArray[np.str_], parts: Mapping[str, NDArray[np.int64]]) -> str:
    """Return a short text for labels and the sets that they were divided into.

    Parameters
    ----------
    words
        (n,) label words.
    parts
        Pattern indices by the name of the set.
    """
    return _digest_labels(
        {name: (index, words[index]) for name, index in parts.items()}
    )


def _digest_labels(parts: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> str:
    told = {name: [each.tolist() for each in pair] for name, pair in parts.items()}
    n_labels = sum(index.size for index, _ in parts.values())
    text = json.dumps(told, sort_keys=True)
    return f"{n_labels} labels ({digest(text.encode())})"


@dataclass(frozen=True)
class Source:
    """Something that files are made from.

    Attributes
    ----------
    what
        In words.
    settled_in
        The file that says what it is now.
    name_now
        Reads that file, and returns the short text.
    """

    what: str
    settled_in: WorkFile
    name_now: Callable[[Path], str]


@dataclass(frozen=True)
class Change:
    """A source that is another now than when a file was made.

    Attributes
    ----------
    source
        What it is.
    before, now
        Its short texts.
    of_network
        Whether the network that made the file was made from it, not the file itself.
    """

    source: Source
    before: str
    now: str
    of_network: bool = False

    def __str__(self) -> str:
        """Say it in sentences that follow the name of the file."""
        said = (
            f"{self.describe_source()}: found {shorten(self.now)}; this file was made "
            f"from {shorten(self.before)}. {self.explain()}"
        ).strip()
        if not self.of_network:
            return said
        first = f"Run {MODEL_METADATA.writer} first."
        return f"Its network is out of date. {said} {first}"

    def describe_source(self) -> str:
        """Return the name of the source, and where it is settled."""
        settled = self.source.settled_in
        return (
            f"The {self.source.what}, which {settled.writer} settles in {settled.name}"
        )

    def explain(self) -> str:
        """Return a sentence where the two texts look alike, "" elsewhere."""
        if not look_alike(self.before, self.now):
            return ""
        return "They agree only in the few patterns that older versions compared."


def _name_bad_pixels_in(path: Path) -> str:
    with open_to_read(path) as file:
        return name_bad_pixels(file["bad_pixels"][()])


def _name_scale_in(path: Path) -> str:
    metadata = read_json(path)
    return name_scale(metadata["pedestal"], metadata["adu_per_photon"])


def _name_labels_in(path: Path) -> str:
    names = [f"{part}/{name}" for part in PARTS for name in ("index", "label")]
    arrays, _ = PARTITION.read_hdf5(path, only=names)
    return _digest_labels(
        {part: (arrays[f"{part}/index"], arrays[f"{part}/label"]) for part in PARTS}
    )


SOURCES = {
    "patterns": Source(
        "patterns", EXPERIMENT, lambda path: str(read_json(path)["fingerprint"])
    ),
    "bad_pixels": Source("bad pixels", MEASUREMENTS, _name_bad_pixels_in),
    "scale": Source("pedestal and gain", EXPERIMENT, _name_scale_in),
    "centre": Source(
        "centre", EXPERIMENT, lambda path: name_centre(read_json(path)["centre"])
    ),
    "geometry": Source(
        "geometry",
        EXPERIMENT,
        lambda path: name_file(read_json(path).get("geometry_file")),
    ),
    "labels": Source("labels or sets", PARTITION, _name_labels_in),
    "model": Source(
        "network", MODEL_METADATA, lambda path: str(read_json(path)["model_sha256"])
    ),
}


def read_origin(path: str | Path) -> Names:
    """Return what a file says that it was made from; {} where it says nothing.

    Parameters
    ----------
    path
        An HDF5 or JSON file of the work folder, or none.
    """
    path = Path(path).expanduser()
    metadata = read_metadata(path)
    with suppress(*CANNOT_BE_READ):  # whoever reads the whole file says what is wrong
        found = metadata.get(MADE_FROM, {})
        names = json.loads(found) if isinstance(found, str) else found
        # all that older versions wrote
        told = {"patterns": metadata.get("fingerprint")}
        if path.suffix != ".json" and not metadata.get(MODEL_ELSEWHERE):
            told["model"] = metadata.get("model_sha256")
        return {
            **{name: str(text) for name, text in names.items() if name in SOURCES},
            **{name: text for name, text in told.items() if isinstance(text, str)},
        }
    return {}


def find_changes(
    path: str | Path, folder: str | Path | None = None
) -> dict[str, Change]:
    """Find what a file was made from that is another now in its folder.

    Parameters
    ----------
    path
        A file of a work folder. What neither it nor the folder tells is not compared.
    folder
        The work folder; that of the file when not given.

    Returns
    -------
        What made it out of date, by the name of the source. What a network gave is
        out of date with it.
    """
    path = Path(path).expanduser()
    folder = Path(folder or path.parent).expanduser()
    origin = read_origin(path)
    changes = {}
    for name, before in origin.items():
        source = SOURCES[name]
        with suppress(*CANNOT_BE_READ):
            now = source.name_now(folder / source.settled_in.name)
            if now != before:
                changes[name] = Change(source, before, now)
    if "model" in origin and "model" not in changes:
        changes = _find_changes_of_network(folder) | changes
    return changes


def _find_changes_of_network(folder: Path) -> dict[str, Change]:
    """Find what makes the folder's network out of date; {} for one of other runs."""
    changes = find_changes(folder / MODEL_METADATA.name)
    if "patterns" in changes:
        return {}
    return {name: replace(each, of_network=True) for name, each in changes.items()}


def check_fits(
    path: str | Path, work_file: WorkFile, *, may_be_of_others: bool = False
) -> None:
    """Refuse a file that was made from something else than its folder holds now.

    Parameters
    ----------
    path
        The file.
    work_file
        What it should be.
    may_be_of_others
        True for what may have been made from other patterns, such as a network.

    Raises
    ------
    OtherPatternsError
        If it is of other patterns.
    WorkFolderError
        Or another error of the file: the rest that it was made from has changed.
    """
    changes = find_changes(path)
    if changes and not (may_be_of_others and "patterns" in changes):
        message = (
            f"{path} ({work_file.holds}) does not fit the rest of its folder. "
            f"{' '.join(map(str, changes.values()))} Run {work_file.writer} again."
        )
        is_other = "patterns" in changes
        family: type[HelpersError] = OtherPatternsError if is_other else work_file.error
        raise family(message)


def shorten(text: str) -> str:
    """Cut a whole digest, of which nobody reads more than the beginning."""
    return text if " " in text or len(text) <= DIGITS else f"{text[:DIGITS]}…"
