"""The parts as files: one HDF5 file, and folders of images for Keras's own readers."""

import hashlib
import os
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.classifier.split import PARTS, Split, is_labelled, is_single
from helpers.classifier.trained_model import CLASSES
from helpers.errors import LabelsError
from helpers.labels import LABELS
from helpers.made_from import check_fits, name_values
from helpers.outputs import atomic_folder, atomic_hdf5, open_to_read, write_provenance
from helpers.patterns import Patterns
from helpers.ranking import scale_to_255
from helpers.work_folder import PARTITION

IMAGES_NAME = "images"
MOST_SHOWN = 5
MOST_CHANGED = 0.1  # of the labels, above which they are those of another store


def write_partition(
    path: str | Path, patterns: Patterns, split: Split, labels: NDArray[np.str_]
) -> Path:
    """Write the parts as an HDF5 file.

    Groups `training`, `validation` and `test` hold `index` (int64, in the stack),
    `label` (words) and `patterns` (float32, clean: bad pixels 0). Group `to_predict`
    holds `index`, `label` ("" or "unsure") and `patterns`, a virtual dataset that reads
    the recorded values from the source files, so that nothing is copied; it is missing
    where the source is not made of three-dimensional HDF5 datasets, and an attribute
    says so.

    Parameters
    ----------
    path
        The file to write.
    patterns
        The stack.
    split
        Of that stack.
    labels
        (n,) label words.
    """
    path = Path(path)
    with atomic_hdf5(path) as file:
        contents = {}
        for name in PARTS:
            index = getattr(split, name)
            group = _write_part(file, name, index, labels)
            contents[name] = _write_patterns(group, patterns, index)
        group = _write_part(file, "to_predict", split.to_predict, labels)
        _link_patterns(group, patterns, split.to_predict, path)
        file.attrs.update(grouped=split.grouped, why=split.why, seed=split.seed)
        write_provenance(
            file,
            fingerprint=patterns.fingerprint,
            made_from=name_values(patterns),
            patterns_files=[str(source) for source in patterns.files],
        )
    _warn_of_copies(contents)
    return path


def read_partition(
    path: str | Path, words: NDArray[np.str_] | None = None
) -> tuple[Split, NDArray[np.str_]]:
    """Read the split and the labels that `write_partition` wrote.

    Parameters
    ----------
    path
        The file.
    words
        (n,) label words as they are now. Labels that are newer than the file are told
        with a warning.

    Returns
    -------
    split
        As it was written.
    labels
        (n,) label words of the whole stack.

    Raises
    ------
    WorkFolderError
        If the file is missing, broken or not a partition, or was made with other bad
        pixels than are left out now.
    OtherPatternsError
        If it divides other patterns.
    LabelsError
        If more than a tenth of its labels are others than `words`.
    """
    arrays, facts = PARTITION.read_hdf5(path)
    check_fits(path, PARTITION)
    parts = (*PARTS, "to_predict")
    indices = {part: arrays[f"{part}/index"] for part in parts}
    labels = np.concatenate([arrays[f"{part}/label"] for part in parts])
    index = np.concatenate([*indices.values()])
    if not np.array_equal(np.sort(index), np.arange(index.size)):
        message = "does not hold each pattern of a stack once"
        raise PARTITION.make_error(path, message)
    if unknown := {*labels.tolist()} - {"", *LABELS}:
        problem = f"holds words that are no labels: {', '.join(sorted(unknown))[:80]}"
        raise PARTITION.make_error(path, problem)
    values: dict[str, Any] = indices | {
        name: facts[name] for name in ("grouped", "why", "seed")
    }
    split, labels = Split(**values), labels[np.argsort(index)]
    if words is not None:
        _check_labels(path, split, labels, words)
    return split, labels


def _check_labels(
    path: str | Path, split: Split, labels: NDArray[np.str_], words: NDArray[np.str_]
) -> None:
    if labels.shape != words.shape:
        message = f"divides {labels.size} patterns; the stack has {words.size}"
        raise PARTITION.make_error(path, message)
    known = np.concatenate([getattr(split, name) for name in PARTS])
    n_changed = np.count_nonzero(labels[known] != words[known])
    n_new = np.count_nonzero(is_labelled(words[split.to_predict]))
    mend = f"Run {PARTITION.writer} again to let them count."
    if n_changed > MOST_CHANGED * known.size:
        message = (
            f"{path}: {n_changed} of its {known.size} labels are others than those in "
            f"the label store now. It was made from other labels. {mend}"
        )
        raise LabelsError(message)
    if n_changed or n_new:
        message = (
            f"{path} is older than the newest labels: {n_new} have been given since, "
            f"and {n_changed} changed. {mend}"
        )
        warnings.warn(message, stacklevel=3)


def write_images(
    folder: str | Path, patterns: Patterns, split: Split, labels: NDArray[np.str_]
) -> Path:
    """Write the labelled patterns as 8-bit PNG images, the article's step 6.

    `training_set/single/000123.png` is pattern 123: negative values 0, then times 255 /
    maximum. `keras.utils.image_dataset_from_directory` reads each of `training_set`,
    `validation_set` and `test_set`.

    Parameters
    ----------
    folder
        The folder to write; what stood there is replaced.
    patterns
        The stack.
    split
        Of that stack.
    labels
        (n,) label words.
    """
    folder = Path(folder)
    with atomic_folder(folder) as temporary:
        for name in PARTS:
            index = getattr(split, name)
            _write_image_set(temporary / f"{name}_set", patterns, index, labels)
    return folder


def _write_part(
    file: h5py.File, name: str, index: NDArray[np.int64], labels: NDArray[np.str_]
) -> h5py.Group:
    group = file.create_group(name)
    group["index"] = index
    words = labels[index].astype(object)
    group.create_dataset("label", data=words, dtype=h5py.string_dtype())
    return group


def _warn_of_copies(contents: dict[str, dict[bytes, int]]) -> None:
    """Say which patterns both teach and judge: they make a network look better."""
    judging = {
        content: i for name in PARTS[1:] for content, i in contents[name].items()
    }
    copies = [
        f"{i} and {judging[content]}"
        for content, i in contents[PARTS[0]].items()
        if content in judging
    ]
    if copies:
        more = f" and {len(copies) - MOST_SHOWN} more" * (len(copies) > MOST_SHOWN)
        warnings.warn(
            f"{len(copies)} patterns that train are copies of patterns that validate "
            f"or test: {', '.join(copies[:MOST_SHOWN])}{more}. The scores will look "
            "better than they are. Is a file in the stack twice?",
            stacklevel=3,
        )


def _write_patterns(
    group: h5py.Group, patterns: Patterns, index: NDArray[np.int64]
) -> dict[bytes, int]:
    """Copy the patterns; return digests of those that are not all of one value."""
    contents: dict[bytes, int] = {}
    shape = patterns.shape[1:]
    dataset = group.create_dataset(
        "patterns",
        (index.size, *shape),
        np.float32,
        chunks=(1, *shape),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    for here, block in patterns.map(np.copy, index, here=True):
        dataset[here] = block
        for i, pattern in zip(index[here].tolist(), block, strict=True):
            if pattern.max() > pattern.min():
                contents[hashlib.sha256(pattern.tobytes()).digest()] = i
    return contents


def _link_patterns(
    group: h5py.Group, patterns: Patterns, index: NDArray[np.int64], path: Path
) -> None:
    starts = np.searchsorted(patterns.file_index, np.arange(len(patterns.files) + 1))
    lengths = np.diff(starts)
    sources = [
        _virtual_source(file, (int(n), *patterns.shape[1:]), patterns, path)
        for file, n in zip(patterns.files, lengths, strict=True)
    ]
    if None in sources or not index.size:
        group.attrs["no_patterns"] = "the source has no three-dimensional HDF5 dataset"
        return
    layout = h5py.VirtualLayout((index.size, *patterns.shape[1:]), patterns.dtype)
    for start, stop in pairwise(_bounds(patterns.file_index[index], index)):
        number = patterns.file_index[index[start]]
        row = index[start] - starts[number]
        layout[start:stop] = sources[number][row : row + stop - start]
    group.create_virtual_dataset("patterns", layout, fillvalue=0)


def _virtual_source(
    file: Path, shape: tuple[int, ...], patterns: Patterns, partition: Path
) -> Any:
    """Name the dataset in `file` as seen from the partition; None if there is none."""
    try:
        with open_to_read(file) as source:
            dataset = source[patterns.layout.patterns]
            if dataset.shape != shape:
                return None
            seen_from = os.path.relpath(file.resolve(), partition.resolve().parent)
            return h5py.VirtualSource(seen_from, dataset.name, shape, dataset.dtype)
    except (OSError, KeyError, AttributeError):
        return None


def _bounds(groups: NDArray[np.int64], index: NDArray[np.int64]) -> list[int]:
    """Return where stretches that are consecutive in one file begin, and the end."""
    apart = (np.diff(index) != 1) | (np.diff(groups) != 0)
    return [0, *(np.flatnonzero(apart) + 1).tolist(), index.size]


def _write_image_set(
    folder: Path, patterns: Patterns, index: NDArray[np.int64], labels: NDArray[np.str_]
) -> None:
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    progress = f"Write images of the {folder.name}"
    for here, images in patterns.map(_to_images, index, here=True, progress=progress):
        chosen = index[here]
        for i, image, single in zip(
            chosen, images, is_single(labels[chosen]), strict=True
        ):
            _write_png(folder / CLASSES[int(single)] / f"{i:06d}.png", image)


def _to_images(block: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(scale_to_255(block)).astype(np.uint8)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)
