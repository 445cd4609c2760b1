"""Divide the labelled patterns into training, validation and test; the parts as files.

One HDF5 file, and folders of images for Keras's own readers.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.classifier.trained_model import CLASSES
from helpers.errors import LabelsError, ParameterError
from helpers.labels import LABELS
from helpers.made_from import check_fits, name_values
from helpers.outputs import atomic_folder, atomic_hdf5, open_to_read, write_provenance
from helpers.patterns import Patterns
from helpers.ranking import scale_to_255
from helpers.work_folder import PARTITION, PARTS

TRAINED_WORDS = ("single", "multiple", "other", "blank")
LEFT_OUT_WORDS = ("", "unsure")
FEWEST_PER_CLASS = 5  # three to train on, one to validate, one to test
FEWEST_DRAWN = 1 / 3  # of the labels; with less too few would be left to judge
MOST_SHOWN = 5
MOST_CHANGED = 0.1  # of the labels, above which they are those of another store


@dataclass(frozen=True)
class Split:
    """Which patterns train, choose, judge, and wait to be predicted.

    Nothing is ever chosen on the test part: it gives the numbers that are reported.

    Attributes
    ----------
    training, validation, test
        int64 indices into the stack, ascending, without overlap; patterns with a label
        other than "unsure".
    to_predict
        int64 indices of all other patterns.
    grouped
        True when whole runs (files) stay together, so that no run is in two parts.
    why
        One sentence: how the split was made.
    seed
        The same labels and seed give the same split.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    to_predict: NDArray[np.int64]
    grouped: bool
    why: str
    seed: int

    @property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """What trains, validates and tests, by the names in `PARTS`."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def labelled(self) -> NDArray[np.int64]:
        """All of these, one part after the other."""
        return np.concatenate([*self.parts.values()])


def split_labels(
    labels: NDArray[np.str_],
    groups: NDArray[np.integer],
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    drawn: NDArray[np.int64] | None = None,
) -> Split:
    """Divide the labelled patterns, each word in the same proportions.

    Patterns of one run resemble each other, and a part that shares runs with the
    training part looks better than it is. So whole runs stay together where there are
    enough of them; otherwise the patterns are divided singly. `Split.why` says which.

    Labels that were asked for, because the network was unsure or the ranking sure, are
    no random sample: judged by them, a network looks worse or better than it is. Given
    the patterns that were drawn at random, those alone are divided, and all other
    labels teach. Where fewer than a third of the labels, or fewer than 5 of a class,
    were drawn, all are divided.

    Parameters
    ----------
    labels
        (n,) label words, "" = unlabelled; "" and "unsure" are left out.
    groups
        (n,) the run (file) of each pattern.
    seed
        Of the shuffle.
    fractions
        Of training, validation and test; their sum is 1.
    drawn
        Int64 indices of patterns drawn at random, labelled or not; without it, all.

    Raises
    ------
    LabelsError
        If a word is unknown, or there are fewer than 5 labels "single" or fewer than 5
        of all other words together.
    ParameterError
        If the fractions are not positive or do not add up to 1.
    """
    _check_fractions(fractions)
    labels, groups = np.asarray(labels), np.asarray(groups)
    _check_labels(labels, groups)
    if drawn is None or not _is_enough(labels, drawn):
        return _divide_all(labels, groups, seed, fractions)
    of_drawn = np.full_like(labels, "")
    of_drawn[drawn] = labels[drawn]
    return extend_split(_divide_all(of_drawn, groups, seed, fractions), labels, groups)


def extend_split(
    split: Split, words: NDArray[np.str_], runs: NDArray[np.integer]
) -> Split:
    """Let new labels teach, and leave every other pattern in its set.

    The test set stays the random sample that it was: labels that were asked for because
    the network was unsure would make it harder than the stack. Where whole runs stay
    together, new labels from runs that test or validate teach nothing.

    Parameters
    ----------
    split
        The sets so far.
    words
        (n,) label words as they are now. Patterns without one, or "unsure", leave
        their set.
    runs
        (n,) the run (file) of each pattern.
    """
    labelled = is_labelled(words)
    kept = {name: index[labelled[index]] for name, index in split.parts.items()}
    new = np.setdiff1d(np.flatnonzero(labelled), split.labelled)
    if split.grouped:
        judging = np.unique(runs[np.concatenate([split.validation, split.test])])
        new = new[~np.isin(runs[new], judging)]
    kept["training"] = np.union1d(kept["training"], new)
    taken = np.concatenate([*kept.values()])
    rest = np.setdiff1d(np.arange(len(words)), taken)
    why = split.why.split("; then")[0]
    if len(new):
        why += f"; then {len(new)} more labels to train on"
    return Split(
        **kept, to_predict=rest, grouped=split.grouped, why=why, seed=split.seed
    )


def is_labelled(labels: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which words say what a pattern is: not "" and not "unsure"."""
    return ~np.isin(labels, LEFT_OUT_WORDS)


def is_single(labels: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return what the network learns: True for "single", False for any other word."""
    single: NDArray[np.bool_] = np.asarray(labels) == "single"
    return single


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        message = (
            f"fractions is {fractions}; expected three positive numbers (training, "
            "validation, test) that add up to 1, for example (0.6, 0.2, 0.2)."
        )
        raise ParameterError(message)


def _check_labels(labels: NDArray[np.str_], groups: NDArray[np.integer]) -> None:
    if labels.shape != groups.shape:
        message = (
            f"labels has shape {labels.shape} and groups {groups.shape}; expected one "
            "of each per pattern. Are the labels from another stack?"
        )
        raise LabelsError(message)
    unknown = sorted(set(labels.tolist()) - {*TRAINED_WORDS, *LEFT_OUT_WORDS})
    if unknown:
        message = (
            f"unknown labels {', '.join(unknown)}; expected "
            f"{', '.join((*TRAINED_WORDS, 'unsure'))}. Rename them in the CSV."
        )
        raise LabelsError(message)
    n_single, n_other = _count_classes(labels)
    if min(n_single, n_other) < FEWEST_PER_CLASS:
        message = (
            f"{n_single} labels say single and {n_other} say multiple, other or blank; "
            f"expected at least {FEWEST_PER_CLASS} of each, better 50. "
            "Label more patterns in 03-label."
        )
        raise LabelsError(message)


def _count_classes(labels: NDArray[np.str_]) -> tuple[int, int]:
    """Return how many labels say single, and how many something else."""
    n_single = int(is_single(labels).sum())
    return n_single, int(is_labelled(labels).sum()) - n_single


def _is_enough(labels: NDArray[np.str_], drawn: NDArray[np.int64]) -> bool:
    of_drawn = labels[drawn]
    share = is_labelled(of_drawn).sum() / is_labelled(labels).sum()
    return share >= FEWEST_DRAWN and min(_count_classes(of_drawn)) >= FEWEST_PER_CLASS


def _divide_all(
    labels: NDArray[np.str_],
    groups: NDArray[np.integer],
    seed: int,
    fractions: tuple[float, float, float],
) -> Split:
    labelled = np.flatnonzero(is_labelled(labels))
    words, runs = labels[labelled], groups[labelled]
    n_runs, needed = np.unique(runs).size, round(1 / min(fractions))
    grouped = False
    if n_runs < needed:
        of = "1 run" if n_runs == 1 else f"{n_runs} runs"
        why = f"divided by pattern: {of}, {needed} needed to keep runs whole"
    else:
        part = _divide_runs(words, runs, seed, fractions)
        grouped = _is_balanced(part, is_single(words), fractions)
        why = f"divided by pattern: whole runs ({n_runs}) would leave a part too small"
    if grouped:
        why = f"divided by run: {n_runs} runs, each in one part only"
    else:
        part = _divide_patterns(words, seed, fractions)
    training, validation, test = (labelled[part == i] for i in range(3))
    to_predict = np.flatnonzero(~is_labelled(labels))
    return Split(training, validation, test, to_predict, grouped, why, seed)


def _divide_patterns(
    words: NDArray[np.str_], seed: int, fractions: tuple[float, float, float]
) -> NDArray[np.int64]:
    """Deal the patterns like cards, sorted by word, to the part that lacks most."""
    shuffled = np.random.default_rng(seed).permutation(words.size)
    part = np.empty(words.size, np.int64)
    for in_class in (is_single(words), ~is_single(words)):
        members = shuffled[in_class[shuffled]]
        members = members[np.argsort(words[members], kind="stable")]
        part[members] = _deal(members.size, fractions)
    return part


def _deal(n: int, fractions: tuple[float, float, float]) -> NDArray[np.int64]:
    """Return n part numbers, each beginning in proportion to the fractions."""
    part = np.empty(n, np.int64)
    lacking = np.zeros(len(fractions))
    for i in range(n):
        lacking += fractions
        part[i] = np.argmax(lacking)
        lacking[part[i]] -= 1
    return part


def _divide_runs(
    words: NDArray[np.str_],
    runs: NDArray[np.integer],
    seed: int,
    fractions: tuple[float, float, float],
) -> NDArray[np.int64]:
    """Take whole runs for the test, then from what is left for the validation."""
    _, validation, test = fractions
    part = np.zeros(words.size, np.int64)
    part[_one_fold(words, runs, test, seed)] = 2
    rest = np.flatnonzero(part == 0)
    chosen = _one_fold(words[rest], runs[rest], validation / (1 - test), seed)
    part[rest[chosen]] = 1
    return part


def _one_fold(
    words: NDArray[np.str_], runs: NDArray[np.integer], fraction: float, seed: int
) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold

    n_folds = min(round(1 / fraction), np.unique(runs).size)
    values, counts = np.unique(words, return_counts=True)
    rare = values[(counts < n_folds) & (values != "single")]  # not one for each fold
    common = np.where(np.isin(words, rare), "other", words)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of rare words: _is_balanced looks afterwards
        warnings.simplefilter("ignore", UserWarning)
        _, chosen = next(folds.split(common, common, runs))
    return np.asarray(chosen, np.int64)


def _is_balanced(
    part: NDArray[np.int64],
    single: NDArray[np.bool_],
    fractions: tuple[float, float, float],
) -> bool:
    """Say whether each part has half its share of each class at least."""
    for in_class in (single, ~single):
        found = np.bincount(part[in_class], minlength=3)
        if (found < np.maximum(np.multiply(fractions, in_class.sum()) / 2, 1)).any():
            return False
    return True


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
        for name, index in split.parts.items():
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
    arrays, metadata = PARTITION.read_hdf5(path)
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
        name: metadata[name] for name in ("grouped", "why", "seed")
    }
    split, labels = Split(**values), labels[np.argsort(index)]
    if words is not None:
        _check_given_labels(path, split, labels, words)
    return split, labels


def _check_given_labels(
    path: str | Path, split: Split, labels: NDArray[np.str_], words: NDArray[np.str_]
) -> None:
    if labels.shape != words.shape:
        message = f"divides {labels.size} patterns; the stack has {words.size}"
        raise PARTITION.make_error(path, message)
    known = split.labelled
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
    from PIL import Image

    folder = Path(folder)
    with atomic_folder(folder) as temporary:
        for name, index in split.parts.items():
            part = temporary / f"{name}_set"
            for kind in CLASSES:
                (part / kind).mkdir(parents=True)
            progress = f"Write images of the {part.name}"
            found = patterns.map(_to_images, index, here=True, progress=progress)
            for here, images in found:
                for i, image in zip(index[here], images, strict=True):
                    kind = CLASSES[int(labels[i] == "single")]
                    Image.fromarray(image).save(part / kind / f"{i:06d}.png")
    return folder


def _to_images(block: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(scale_to_255(block)).astype(np.uint8)


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
