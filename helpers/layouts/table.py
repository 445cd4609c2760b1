"""The kinds of file that are known: one `Layout` each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from helpers.errors import PatternsFileError
from helpers.layouts.hdf5 import find_stacks, say_choices
from helpers.layouts.polarity import NOT_ZERO, BadWhen
from helpers.layouts.sources import DatasetSource, Source

Recogniser = Callable[[h5py.File], bool]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One kind of file: how it is recognised and where it keeps what.

    Parameters
    ----------
    name
        What people call it.
    recognise
        True for an open file of this kind. It looks at names, never at shapes: a
        broken file is still recognised, and what is wrong with it is said.
    patterns
        Where the patterns are.
    source
        How they are read.
    unit
        "photons" or "ADU" where the layout says so, else "".
    bad_pixels
        Where a mask may be; the first that is there counts.
    bad_when
        Which values of that mask mean bad.
    labels
        Where people's labels are, one number for each pattern.
    label_words
        The word for each number.
    truth
        Where class names are that are known rather than given by a person.
    """

    name: str
    recognise: Recogniser
    patterns: str
    source: type[Source] = DatasetSource
    unit: str = ""
    bad_pixels: tuple[str, ...] = ()
    bad_when: BadWhen = NOT_ZERO
    labels: str = ""
    label_words: tuple[tuple[float, str], ...] = ()
    truth: str = ""


def has(*paths: str) -> Recogniser:
    """Recognise files in which all these paths lead somewhere."""
    return lambda file: all(file.get(path) is not None for path in paths)


CXI_MASKS = ("/entry_1/data_1/mask", "/entry_1/instrument_1/detector_1/mask")

# The first that fits counts: what has more to recognise it by stands further up.
LAYOUTS = (
    Layout(
        name="simulated by this package",
        recognise=has("/patterns", "/truth"),
        patterns="/patterns",
        unit="photons",
        bad_pixels=("/mask",),
        truth="/truth",
    ),
    Layout(
        name="Liu Lab",
        recognise=has("/patterns", "/labels", "/mask"),
        patterns="/patterns",
        bad_pixels=("/mask",),
        labels="/labels",
        label_words=((1, "single"), (0, "other")),
    ),
    Layout(
        name="CXIDB 58, back detector",
        recognise=has("/photonConverter/pnccdBack/photonCount"),
        patterns="/photonConverter/pnccdBack/photonCount",
        unit="photons",
    ),
    Layout(
        name="CXIDB 58, front detector",
        recognise=has("/photonConverter/pnccdFront/photonCount"),
        patterns="/photonConverter/pnccdFront/photonCount",
        unit="photons",
    ),
    Layout(
        name="CXI",
        recognise=has("/entry_1/data_1/data"),
        patterns="/entry_1/data_1/data",
        bad_pixels=CXI_MASKS,
    ),
    Layout(
        name="CXI, detector 1",
        recognise=has("/entry_1/instrument_1/detector_1/data"),
        patterns="/entry_1/instrument_1/detector_1/data",
        bad_pixels=CXI_MASKS[::-1],
    ),
    Layout(name="plain", recognise=has("/patterns"), patterns="/patterns"),
)


def find_layout(path: Path, file: h5py.File, dataset: str | None = None) -> Layout:
    """Tell which kind of file this is.

    Parameters
    ----------
    path
        The file on disk, for messages.
    file
        The same, open.
    dataset
        Where its patterns are, if the caller knows. Where a known layout keeps them in
        the same place, its mask and labels are used too.

    Raises
    ------
    PatternsFileError
        If no layout fits, and not exactly one dataset has three dimensions.
    """
    known = [layout for layout in LAYOUTS if layout.recognise(file)]
    if dataset:
        where = f"/{dataset.strip('/')}"
        same = [layout for layout in known if _is_same(file, layout.patterns, where)]
        return replace(same[0], patterns=where) if same else _plain(where)
    if known:
        return known[0]
    stacks = find_stacks(file)
    if len(stacks) != 1:
        problem = (
            "its layout is not known; expected one dataset (patterns, rows, columns), "
            f"or one of the known layouts. {say_choices(file)}"
        )
        raise PatternsFileError(path, [problem])
    return _plain(stacks[0])


def find_mask_rule(file: h5py.File, where: str) -> BadWhen | None:
    """Return which values of a mask mean bad, if a known layout keeps it there."""
    for layout in LAYOUTS:
        if layout.recognise(file) and where in layout.bad_pixels:
            return layout.bad_when
    return None


def _plain(where: str) -> Layout:
    return Layout(name="plain", recognise=has(where), patterns=where)


def _is_same(file: h5py.File, one: str, other: str) -> bool:
    """Tell whether two paths lead to the same object: links have two names."""
    return one == other or file.get(one) == file.get(other) is not None
