"""The kinds of file that are known: one `Layout` each."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py

from helpers.errors import PatternsFileError
from helpers.patterns.detector_geometry import ModulesSource
from helpers.patterns.dragonfly import SparseSource
from helpers.patterns.hdf5 import (
    describe_choices,
    find_detector,
    find_detector_masks,
    find_first_frame,
    find_numbered,
    find_pixel_masks,
    find_signal,
    find_stacks,
    follow,
    get_dataset,
)
from helpers.patterns.mask_convention import (
    CXI_BITS,
    EUXFEL_BITS,
    GOOD_PIXELS,
    NEXUS_BITS,
    NOT_ZERO,
    ONE,
    MaskConvention,
)
from helpers.patterns.other_sources import FramesSource
from helpers.patterns.sources import DatasetSource, Hdf5Source

Recogniser = Callable[[h5py.File], bool]

_PLACEHOLDER = re.compile(r"\{[kr]\}")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One kind of file: how it is recognised and where it keeps what.

    In paths, `{k}` stands for the number of an image or a detector, `{r}` for that of a
    run, each the same in all paths of a layout, and `*` for the number of a pattern.
    """

    # What people call it.
    name: str
    # True for an open file of this kind; by default, where the patterns are there. It
    # looks at names, never at shapes: a broken file is recognised too, and what is
    # wrong with it is said.
    recognise: Recogniser | None = None
    patterns: str = ""
    # Fills in what only the file itself says: where its patterns and masks are; None if
    # it does not.
    find: Callable[["Layout", h5py.File], "Layout | None"] | None = None
    # How the patterns are read.
    source: type[Hdf5Source] = DatasetSource
    # "photons" or "ADU" where the layout says so.
    unit: str = ""
    # Where a mask may be, of which the first counts, and which of its values mean bad.
    bad_pixels: tuple[str, ...] = ()
    mask_convention: MaskConvention = NOT_ZERO
    # Where a mask may be of which nobody says which values mean bad.
    unclear_masks: tuple[str, ...] = ()
    # Where people's labels are, one number for each pattern, and the word for each
    # number; without any, a warning asks for them.
    labels: str = ""
    label_words: tuple[tuple[float, str], ...] = ()
    # Where class names are that are known rather than given by a person.
    true_labels: str = ""
    # What tells shots from each other ("train", "pulse", "event"), and where.
    shots: tuple[tuple[str, str], ...] = ()
    # What was chosen in this file, in words, for `Patterns.describe`.
    note: str = ""

    def fits(self, file: h5py.File) -> bool:
        """Tell whether an open file is of this kind."""
        return (self.recognise or has(self.patterns))(file)


def has(*paths: str) -> Recogniser:
    """Recognise files in which all these paths lead somewhere."""
    return lambda file: all(_find_paths(file, path) for path in paths)


def either(*recognisers: Recogniser) -> Recogniser:
    """Recognise files that one of these recognises."""
    return lambda file: any(recognise(file) for recognise in recognisers)


def _find_nexus(layout: Layout, file: h5py.File) -> Layout | None:
    signal = find_signal(file)
    if not signal:
        return None
    masks = find_pixel_masks(file, signal)
    source = FramesSource if "*" in signal else DatasetSource
    return replace(layout, patterns=signal, bad_pixels=masks, source=source)


def _find_small_data(layout: Layout, file: h5py.File) -> Layout | None:
    detector = find_detector(file)
    if not detector:
        return None
    masks = find_detector_masks(file, detector)
    return replace(layout, patterns=detector, bad_pixels=masks)


ENTRY = "/entry_1"
DETECTOR = f"{ENTRY}/instrument_1/detector_1"
DETECTOR_K = f"{ENTRY}/instrument_1/detector_{{k}}"
IMAGE_K = f"{ENTRY}/image_{{k}}"
CXI_MASKS = (f"{ENTRY}/data_1/mask", f"{DETECTOR}/mask")
GOOD_PIXEL_MASKS = (f"{ENTRY}/data_1/good_pixels", f"{DETECTOR}/good_pixels")
CXI_SHOTS = (
    ("train", f"{ENTRY}/trainId"),
    ("pulse", f"{ENTRY}/pulseId"),
    ("cell", f"{ENTRY}/memoryCell"),
    ("event", f"{ENTRY}/eventNumber"),
)
LCLS_EVENTS = (("event", "/LCLS/eventNumber"),)
CHEETAH_PHOTONS = f"{DETECTOR_K}/detector_and_photon_corrected"
CHEETAH_MASKS = (f"{DETECTOR_K}/mask", f"{DETECTOR_K}/mask_shared")

# The first that fits counts: what has more to recognise it by stands further up.
LAYOUTS = (
    Layout(
        name="simulated by this package",
        recognise=has("/patterns", "/truth"),
        patterns="/patterns",
        unit="photons",
        bad_pixels=("/mask",),
        mask_convention=ONE,
        true_labels="/truth",
    ),
    Layout(
        name="Liu Lab",
        recognise=has("/patterns", "/labels", "/mask"),
        patterns="/patterns",
        bad_pixels=("/mask",),
        mask_convention=ONE,
        labels="/labels",
        label_words=((1, "single"), (0, "other")),
    ),
    Layout(
        name="CXIDB 58, back detector",
        patterns="/photonConverter/pnccdBack/photonCount",
        unit="photons",
    ),
    Layout(
        name="CXIDB 58, front detector",
        patterns="/photonConverter/pnccdFront/photonCount",
        unit="photons",
    ),
    Layout(name="older amo86615 export", patterns="/hitClass/adu", unit="ADU"),
    Layout(
        name="Dragonfly, sparse HDF5",
        recognise=has("/place_ones", "/place_multi", "/count_multi"),
        patterns="/place_ones",
        source=SparseSource,
        unit="photons",
    ),
    Layout(
        name="European XFEL hits CXI",
        recognise=either(*map(has, GOOD_PIXEL_MASKS)),
        patterns=f"{ENTRY}/data_1/data",
        source=ModulesSource,
        bad_pixels=GOOD_PIXEL_MASKS,
        mask_convention=GOOD_PIXELS,
    ),
    Layout(
        name="EXtra-data virtual CXI",
        recognise=has(f"{DETECTOR}/module_identifier"),
        patterns=f"{DETECTOR}/data",
        source=ModulesSource,
        bad_pixels=CXI_MASKS[::-1],
        mask_convention=EUXFEL_BITS,
        shots=CXI_SHOTS,
    ),
    Layout(
        name="EM-classification",
        recognise=has(f"{IMAGE_K}/image_center"),
        patterns=f"{IMAGE_K}/data",
        bad_pixels=(f"{IMAGE_K}/mask",),
        mask_convention=CXI_BITS,
    ),
    Layout(
        name="CXIDB 56",
        recognise=has(f"{IMAGE_K}/tags"),
        patterns=f"{IMAGE_K}/data",
        bad_pixels=(f"{IMAGE_K}/mask", f"{IMAGE_K}/mask_shared"),
        mask_convention=CXI_BITS,
    ),
    *(
        Layout(
            name=f"Cheetah CXI, {what}",
            recognise=has("/cheetah", f"{folder}/data"),
            patterns=f"{folder}/data",
            source=ModulesSource,
            bad_pixels=(f"{folder}/mask", f"{folder}/mask_shared", *masks),
            mask_convention=CXI_BITS,
        )
        for what, folder, masks in (
            ("image", IMAGE_K, ()),
            ("detector and photon corrected", CHEETAH_PHOTONS, CHEETAH_MASKS),
            ("detector corrected", f"{DETECTOR_K}/detector_corrected", CHEETAH_MASKS),
            ("detector", DETECTOR_K, ()),
        )
    ),
    *(
        Layout(
            name=name,
            recognise=has("/LCLS", f"{ENTRY}/result_1", patterns),
            patterns=patterns,
            source=ModulesSource,
            unit=unit,
            unclear_masks=(f"{ENTRY}/data_1/mask", f"{DETECTOR_K}/mask"),
            shots=LCLS_EVENTS,
        )
        for name, patterns, unit in (
            ("psocake, photons", f"{DETECTOR_K}/photons", "photons"),
            ("psocake", f"{DETECTOR_K}/data", ""),
        )
    ),
    Layout(
        name="Condor",
        recognise=has("/particles", f"{ENTRY}/data_1/data"),
        patterns=f"{ENTRY}/data_1/data",
        bad_pixels=CXI_MASKS,
        mask_convention=CXI_BITS,
    ),
    Layout(
        name="CXI",
        patterns=f"{ENTRY}/data_1/data",
        source=ModulesSource,
        bad_pixels=CXI_MASKS,
        mask_convention=CXI_BITS,
        shots=CXI_SHOTS,
    ),
    Layout(
        name="CXI, detector",
        patterns=f"{DETECTOR_K}/data",
        source=ModulesSource,
        bad_pixels=(f"{DETECTOR_K}/mask", f"{ENTRY}/data_{{k}}/mask"),
        mask_convention=CXI_BITS,
    ),
    Layout(
        name="CXI, image",
        patterns=f"{IMAGE_K}/data",
        source=ModulesSource,
        bad_pixels=(f"{IMAGE_K}/mask",),
        mask_convention=CXI_BITS,
    ),
    Layout(name="skopi", patterns="/photons", source=ModulesSource, unit="photons"),
    *(
        Layout(
            name=f"singfel / SimEx{what}",
            recognise=has(f"{folder}/data", f"{folder}/diffr"),
            patterns=f"{folder}/data",
            source=FramesSource,
            unit="photons",
            unclear_masks=("/params/geom/mask",),
        )
        for what, folder in (
            ("", "/data/*"),
            (", frames at the root", "/*"),
            (", one frame", "/data"),
        )
    ),
    Layout(
        name="euxfel2013",
        patterns="/hit_*/image",
        source=FramesSource,
        labels="/hit_*/lbl",
    ),
    *(
        Layout(
            name=f"SACLA DataConvert{what}",
            patterns=f"{detector}/tag_*/detector_data",
            source=FramesSource,
            unclear_masks=(f"{detector}/detector_info/pixel_mask",),
            shots=(("tag", f"{detector}/tag_*"),),
        )
        for what, detector in (
            (", assembled", "/run_{r}/detector_2d_assembled_{k}"),
            ("", "/run_{r}/detector_2d_{k}"),
        )
    ),
    Layout(name="plain", patterns="/patterns"),
    Layout(
        name="LCLS small data",
        find=_find_small_data,
        source=ModulesSource,
        mask_convention=GOOD_PIXELS,
        shots=(("event", "/fiducials"),),
    ),
    Layout(name="NeXus", find=_find_nexus, mask_convention=NEXUS_BITS),
)

# These are no HDF5 files, and recognised by their endings.
ARRAY = Layout(name="array")
EMC = Layout(name="Dragonfly .emc", unit="photons")


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
    known = _find_known(file)
    if dataset:
        where = f"/{dataset.strip('/')}"
        same = (layout for layout in known if _is_same(file, layout.patterns, where))
        found = next(same, None)
        return replace(found, patterns=where, note="") if found else _plain(where)
    found = next(known, None)
    if found:
        return found
    stacks = find_stacks(file)
    if len(stacks) != 1:
        problem = (
            "its layout is not known; expected one dataset (patterns, rows, columns), "
            f"or one of the known layouts. {describe_choices(file)}"
        )
        raise PatternsFileError(path, [problem])
    return _plain(stacks[0])


def find_mask_convention(file: h5py.File, where: str) -> MaskConvention | None:
    """Return which values of a mask mean bad, if a known layout keeps it there."""
    for layout in _find_known(file):
        if where in layout.unclear_masks:
            return None  # whatever a layout further down may say
        if where in layout.bad_pixels:
            return layout.mask_convention
    return None


def _find_known(file: h5py.File) -> Iterator[Layout]:
    """Give all layouts that fit, the best first, with numbers in their paths."""
    for layout in LAYOUTS:
        found = layout.find(layout, file) if layout.find else layout
        if found and found.fits(file):
            yield from _fill_in(file, found)


def _fill_in(file: h5py.File, layout: Layout) -> Iterator[Layout]:
    """Give a layout once for each path that its patterns may have in a file."""
    numbers = _find_paths(file, layout.patterns)
    stacks = {p: n for p, n in numbers.items() if _is_stack(file, p)} or numbers
    for path, chosen in stacks.items():
        put_in = partial(_put_in, chosen)
        note = ""
        if len(stacks) > 1:
            other = next(other for other in stacks if other != path)
            note = (
                f"{path} was chosen, the first of {len(stacks)}; for another pass "
                f"dataset='{other}'."
            )
        yield replace(
            layout,
            patterns=path,
            bad_pixels=tuple(map(put_in, layout.bad_pixels)),
            unclear_masks=tuple(map(put_in, layout.unclear_masks)),
            shots=tuple((name, put_in(where)) for name, where in layout.shots),
            note=note,
        )


def _put_in(numbers: Mapping[str, str], path: str) -> str:
    for placeholder, number in numbers.items():
        path = path.replace(placeholder, number)
    return path


def _find_paths(file: h5py.File, path: str) -> dict[str, dict[str, str]]:
    """Return the paths that a path with placeholders stands for, and their numbers."""
    found = _PLACEHOLDER.search(path)
    if not found:
        leads = find_first_frame(file, path) if "*" in path else follow(file, path)
        return {} if leads is None else {path: {}}
    return {
        whole: {found[0]: number, **others}
        for one, number in find_numbered(file, path, found[0]).items()
        for whole, others in _find_paths(file, one).items()
    }


def _is_stack(file: h5py.File, path: str) -> bool:
    dataset = get_dataset(file, path)
    return "*" in path or (dataset is not None and dataset.ndim >= 3)


def _plain(where: str) -> Layout:
    source = FramesSource if "*" in where else DatasetSource
    return Layout(name="plain", patterns=where, source=source)


def _is_same(file: h5py.File, one: str, other: str) -> bool:
    """Tell whether two paths lead to the same object: links have two names."""
    return one == other or follow(file, one) == follow(file, other) is not None
