"""One file, read by its layout: its patterns and what is recorded beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import PatternsFileError
from helpers.patterns.detector_geometry import ModulesSource
from helpers.patterns.dragonfly import (
    DetectorShape,
    EmcSource,
    SparseSource,
    count_pixels,
    find_detector_shape,
    is_emc,
    names_detector_shape,
    read_emc_head,
)
from helpers.patterns.hdf5 import (
    find_first_frame,
    find_frame_paths,
    find_frames,
    follow,
    get_dataset,
    get_whole_dataset,
    is_numeric,
    open_hdf5,
    wrap_hdf5_errors,
)
from helpers.patterns.integrity import (
    find_axis_problems,
    find_files_behind,
    find_link_problems,
    find_scale_attributes,
    warn_of_axis_order,
    warn_of_storage_outside,
)
from helpers.patterns.layout_table import ARRAY, EMC, Layout, find_layout
from helpers.patterns.mask_convention import BadPixels, unite_bad_pixels
from helpers.patterns.masks import (
    find_mask_paths,
    find_unclear_masks,
    is_mask_name,
    judge_masks,
    read_layout_mask,
)
from helpers.patterns.other_sources import (
    RunSource,
    gather_run,
    is_array_file,
    is_run,
    open_array_file,
    read_arrays_beside,
)
from helpers.patterns.sources import Source

NOTES_SHOWN = 8
UNIT_NAMES = ("unit", "units")


@dataclass(frozen=True)
class PatternFile:
    """What one file holds.

    Attributes
    ----------
    layout
        The kind of file.
    source
        Its patterns, (n, rows, columns).
    unit
        "photons" or "ADU" if the file or its layout says so, else "".
    bad_pixels
        From the file's own mask and the gaps between detector modules; None without.
    labels
        (n,) label words, "" = none; None if the file holds no labels.
    true_labels
        (n,) class names; None if the file holds none.
    shots
        What the facility calls each shot, such as "train" and "pulse": (n,) int64 each.
    notes
        What was found or assumed, one sentence each.
    warnings
        The same, where a person should be warned of it.
    behind
        The files in which values of the patterns and of their masks lie.
    """

    layout: Layout
    source: Source
    unit: str
    bad_pixels: BadPixels | None
    labels: NDArray[np.str_] | None = None
    true_labels: NDArray[np.str_] | None = None
    shots: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    behind: frozenset[Path] = frozenset()


def open_pattern_file(
    path: Path,
    dataset: str | None = None,
    *,
    use_mask: bool = True,
    label_words: Mapping[float, str] | None = None,
    geometry: Path | None = None,
    is_first: bool = True,
) -> PatternFile:
    """Recognise a file, check it and read everything but its patterns.

    Parameters
    ----------
    path
        The file, or the folder of a run of the European XFEL.
    dataset, label_words, geometry
        As for `helpers.patterns.open_patterns`.
    use_mask
        False leaves the file's own mask alone.
    is_first
        False for a further file of a stack, of which less has to be looked at.

    Raises
    ------
    PatternsFileError
        With everything that is wrong with the file.
    """
    if is_emc(path):
        return _open_emc(path, dataset, use_mask=use_mask)
    if is_array_file(path):
        return _open_array_file(path, dataset, use_mask=use_mask)
    if is_run(path):
        return _open_run(path, dataset, geometry, use_mask=use_mask)
    warnings: list[str] = []
    with (
        open_hdf5(path, warnings) as file,
        wrap_hdf5_errors(path, "what it holds cannot be made out"),
    ):
        try:
            layout, detector = _recognise(path, file, dataset)
            if label_words:
                layout = replace(layout, label_words=tuple(label_words.items()))
            reader = _Reader(path, file, layout, detector, warnings, geometry, is_first)
            return reader.read(use_mask=use_mask)
        except PatternsFileError as error:
            if warnings and error.path == path:  # the likely cause of all the others
                raise PatternsFileError(path, [*warnings, *error.problems]) from error
            raise


def _open_emc(path: Path, dataset: str | None, *, use_mask: bool) -> PatternFile:
    _, n_pixels = read_emc_head(path)
    detector = find_detector_shape(path, n_pixels, dataset)
    where = _describe_shape(detector)
    source = EmcSource(path, where)
    return PatternFile(
        layout=replace(EMC, patterns=where),
        source=source,
        unit=EMC.unit,
        bad_pixels=detector.bad_pixels if use_mask else None,
        notes=(detector.note, *source.notes),
        warnings=_name_file(path, source.warnings),
    )


def _open_array_file(path: Path, dataset: str | None, *, use_mask: bool) -> PatternFile:
    source = open_array_file(path, dataset)
    cautions = [*source.warnings, *warn_of_axis_order(source, "the array")]
    masks = read_arrays_beside(path, is_mask_name) if use_mask else {}
    named = [(name, mask) for name, mask in masks.items() if mask.ndim > 1]
    found = judge_masks(path, named, source, source.shape, cautions.append)
    return PatternFile(
        layout=replace(ARRAY, patterns=source.where),
        source=source,
        unit="",
        bad_pixels=found,
        notes=source.notes,
        warnings=_name_file(path, tuple(cautions)),
    )


def _open_run(
    path: Path, dataset: str | None, geometry: Path | None, *, use_mask: bool
) -> PatternFile:
    run = gather_run(path, dataset)
    geometry = geometry or run.geometry
    try:
        linked = open_pattern_file(run.file, use_mask=use_mask, geometry=geometry)
    except PatternsFileError as error:
        own = error.path == run.file
        raise PatternsFileError(path if own else error.path, error.problems) from error
    source = RunSource(path, run.detector, linked.source)
    layout = replace(linked.layout, name=f"European XFEL run, {run.kind}")
    return replace(
        linked,
        layout=replace(layout, patterns=run.detector),
        source=source,
        unit="ADU" if run.is_raw else linked.unit,
        bad_pixels=_leave_out_modules(linked.bad_pixels, run.absent, source),
        notes=(*linked.notes, *run.notes),
        warnings=tuple(
            each.replace(str(run.file), str(path))
            for each in (*linked.warnings, *_name_file(path, run.warnings))
        ),
    )


def _leave_out_modules(
    found: BadPixels | None, absent: NDArray[np.bool_], source: Source
) -> BadPixels | None:
    """Leave out modules of which nothing was recorded, beside other bad pixels."""
    if not absent.any():
        return found
    pixels = source.assemble(absent).reshape(source.shape[1:])
    origin = f"{np.count_nonzero(pixels):,} in modules without data"
    return unite_bad_pixels(found, BadPixels(pixels, origin))


def _recognise(
    path: Path, file: h5py.File, dataset: str | None
) -> tuple[Layout, DetectorShape | None]:
    """Return the layout of a file, and the shape of its patterns if they are sparse."""
    is_shape = dataset is not None and names_detector_shape(dataset)
    layout = find_layout(path, file, None if is_shape else dataset)
    if layout.source is not SparseSource:
        if is_shape:
            layout = find_layout(path, file, dataset)  # a dataset may have such a name
        return layout, None
    n_pixels = count_pixels(file)
    if n_pixels is None:
        problem = "there is no /num_pix, one integer; expected the number of pixels."
        raise PatternsFileError(path, [problem])
    detector = find_detector_shape(path, n_pixels, dataset if is_shape else None)
    return replace(layout, patterns=_describe_shape(detector)), detector


def _describe_shape(detector: DetectorShape) -> str:
    rows, columns = detector.shape
    return f"{rows}x{columns}"


@dataclass
class _Reader:
    """Reads one open file, and gathers its problems on the way."""

    path: Path
    file: h5py.File
    layout: Layout
    detector: DetectorShape | None
    warnings: list[str]
    geometry: Path | None = None
    is_first: bool = True
    problems: list[str] = field(default_factory=list)

    def read(self, *, use_mask: bool) -> PatternFile:
        layout, file, where = self.layout, self.file, self.layout.patterns
        others = find_mask_paths(file, layout)
        masks = (*layout.bad_pixels, *layout.unclear_masks, *others)
        shots = [path for _, path in layout.shots]
        beside = [*(masks if use_mask else ()), layout.labels, layout.true_labels]
        shape = layout.source.check(file, where, self.problems)
        for path in (where, *beside, *shots):
            self.problems.extend(find_link_problems(self.path, file, path))
            self.warnings.extend(warn_of_storage_outside(self.path, file, path))
        self.problems.extend(find_axis_problems(file, where))
        self.warnings.extend(find_scale_attributes(file, where))
        bad_pixels = labels = truth = None
        if shape is not None:
            bad_pixels = self._read_mask(shape) if use_mask else None
            labels = self._read_labels(shape[0])
            truth = self._read_truth(shape[0])
        if self.problems or shape is None:
            raise PatternsFileError(self.path, self.problems)
        source = self._open_source()
        chunks = getattr(get_dataset(file, where), "chunks", None) or ()
        self.warnings.extend(
            warn_of_axis_order(source, where, chunks, by_values=self.is_first)
        )
        has_mask = bad_pixels is not None
        bad_pixels = _assemble(bad_pixels, source)
        if use_mask and not has_mask:
            unclear = find_unclear_masks(file, layout, shape[1:])
            warn = self.warnings.append
            found = judge_masks(self.path, unclear, source, shape, warn)
            bad_pixels = unite_bad_pixels(found, bad_pixels)
        source.masks = bad_pixels.of_each if bad_pixels else None
        notes = (layout.note, self.detector.note if self.detector else "")
        here = slice(source.shape[0])
        return PatternFile(
            layout=layout,
            source=source,
            unit=_read_unit(file, where) or layout.unit,
            bad_pixels=bad_pixels,
            labels=None if labels is None else labels[here],
            true_labels=None if truth is None else truth[here],
            shots={name: ids[here] for name, ids in self._read_shots(shape[0])},
            notes=(*filter(None, notes), *source.notes),
            warnings=_name_file(self.path, (*self.warnings, *source.warnings)),
            behind=self._find_files_behind(where, *masks),
        )

    def _open_source(self) -> Source:
        kind, where = self.layout.source, self.layout.patterns
        if issubclass(kind, ModulesSource):
            return kind(self.path, self.file, where, self.geometry)
        return kind(self.path, self.file, where)

    def _find_files_behind(self, *paths: str) -> frozenset[Path]:
        found = (
            find_files_behind(self.path, dataset)
            for where in paths
            for path in find_frame_paths(self.file, where)
            if (dataset := get_dataset(self.file, path))
        )
        return frozenset().union(*found)

    def _read_mask(self, shape: tuple[int, ...]) -> BadPixels | None:
        if self.detector:
            return self.detector.bad_pixels
        warn = self.warnings.append
        try:
            return read_layout_mask(self.path, self.file, self.layout, shape, warn)
        except PatternsFileError as error:
            self.problems.extend(error.problems)
            return None

    def _read_labels(self, n: int) -> NDArray[np.str_] | None:
        values = self._read_label_values(n)
        if values is None:
            return None
        where = self.layout.labels
        known = dict(self.layout.label_words)
        words = np.array([known.get(each, "") for each in values.tolist()], np.str_)
        strange = np.unique(values[(words == "") & np.isfinite(values)])
        if strange.size:
            shown = ", ".join(f"{value:.10g}" for value in strange[:10])
            self.warnings.append(f"{where} holds {shown}; {self._ask_words()}")
        return words if self.layout.label_words else None

    def _ask_words(self) -> str:
        if not self.layout.label_words:
            return (
                "the file does not say which label each of them means, so they are "
                "not used. Say it: label_words={0: 'single', 1: 'multiple', …}."
            )
        known = ", ".join(f"{v!r} ({word})" for v, word in self.layout.label_words)
        return f"expected {known}. Patterns with another value count as unlabelled."

    def _read_label_values(self, n: int) -> NDArray[Any] | None:
        """Return one number for each pattern, NaN = none; None without labels."""
        where = self.layout.labels
        if "*" in where:
            return self._read_frame_labels(n)
        dataset = get_whole_dataset(self.file, where)
        if dataset is None:
            return None
        if not self._fits(dataset, n, is_numeric(dataset), "numbers"):
            return None
        return np.asarray(dataset[()])

    def _read_frame_labels(self, n: int) -> NDArray[Any] | None:
        frames = [path for path, _ in find_frames(self.file, self.layout.patterns)]
        name = PurePosixPath(self.layout.labels).name
        found = [
            get_whole_dataset(self.file, str(PurePosixPath(frame).with_name(name)))
            for frame in frames
        ]
        if len(frames) != n or not any(found):
            return None
        values = np.full(n, np.nan)
        for number, dataset in enumerate(found):
            if dataset is not None and dataset.size == 1 and is_numeric(dataset):
                values[number] = np.asarray(dataset[()]).item()
        return values

    def _read_truth(self, n: int) -> NDArray[np.str_] | None:
        dataset = get_whole_dataset(self.file, self.layout.true_labels)
        if dataset is None:
            return None
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        if not self._fits(dataset, n, is_text, "text"):
            return None
        return np.array(dataset.asstr(errors="replace")[()], dtype=np.str_)

    def _read_shots(self, n: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Give what the facility calls each shot, where there is one for each."""
        for name, where in self.layout.shots:
            if "*" in where:
                numbers = find_frame_paths(self.file, self.layout.patterns)
                frames = find_frames(self.file, self.layout.patterns)
                ids = [int(numbers[path]) for path, _ in frames]
                yield name, np.array(ids, np.int64)
                continue
            found = get_whole_dataset(self.file, where)
            if found is not None and found.shape == (n,) and is_numeric(found):
                yield name, np.asarray(found[()]).astype(np.int64)

    def _fits(self, dataset: h5py.Dataset, n: int, right: bool, expected: str) -> bool:
        """Tell whether a dataset holds one value of the right kind for each pattern."""
        if dataset.shape == (n,) and right:
            return True
        self.problems.append(
            f"{dataset.name} has shape {dataset.shape} and dtype {dataset.dtype}; "
            f"expected {expected}, one for each of the {n} patterns."
        )
        return False


def _name_file(path: Path, warnings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{path}: {each}" for each in warnings)


def _assemble(found: BadPixels | None, source: Source) -> BadPixels | None:
    """Bring bad pixels into the shape of the patterns, and leave out the gaps."""
    if found is not None:
        pixels = source.assemble(found.pixels).reshape(source.shape[1:])
        found = found._replace(pixels=pixels)
    if source.gaps is None:
        return found
    origin = f"{np.count_nonzero(source.gaps):,} in gaps between detector modules"
    return unite_bad_pixels(found, BadPixels(source.gaps, origin))


def _read_unit(file: h5py.File, where: str) -> str:
    """Return "photons" or "ADU" if an attribute of the patterns says so, else ""."""
    found = find_first_frame(file, where) if "*" in where else follow(file, where)
    attributes = getattr(found, "attrs", {})
    said = " ".join(str(attributes[name]) for name in UNIT_NAMES if name in attributes)
    if "photon" in said.lower():
        return "photons"
    return "ADU" if "adu" in said.lower() else ""


def join_labels(
    parts: Sequence[NDArray[np.str_] | None], lengths: Sequence[int]
) -> NDArray[np.str_] | None:
    """Put the labels of all files end to end, "" where a file has none."""
    if all(part is None for part in parts):
        return None
    pairs = zip(parts, lengths, strict=True)
    return np.concatenate([np.full(n, "") if p is None else p for p, n in pairs])


def join_shots(
    parts: Sequence[Mapping[str, NDArray[np.int64]]], lengths: Sequence[int]
) -> dict[str, NDArray[np.int64]]:
    """Put the numbers of all files end to end, -1 where a file has none."""
    names = dict.fromkeys(name for part in parts for name in part)
    pairs = list(zip(parts, lengths, strict=True))
    return {
        name: np.concatenate([part.get(name, np.full(n, -1)) for part, n in pairs])
        for name in names
    }


def gather_notes(pattern_files: Sequence[PatternFile]) -> list[str]:
    """Return what was found and assumed in the files, each once, a few at most."""
    notes = [note for one in pattern_files for note in one.notes]
    warnings = [warning for one in pattern_files for warning in one.warnings]
    found = list(dict.fromkeys(notes + warnings))
    if len(found) > NOTES_SHOWN:
        n_more = len(found) - NOTES_SHOWN
        found[NOTES_SHOWN:] = [f"There are {n_more} more such notes."]
    return found
