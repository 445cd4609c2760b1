"""Train a network on the labelled patterns and judge it."""

import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.calibration import (
    check_recall,
    choose_threshold,
    choose_threshold_for_recall,
    evaluate,
    explain_chance,
)
from helpers.classifier.kernel_head import cross_validate_whole_fit
from helpers.classifier.network_base import (
    Network,
    Part,
    Schedule,
    import_keras,
    predict_inputs,
)
from helpers.classifier.networks import DEFAULT, ArticleNetwork, make_network
from helpers.classifier.split import (
    Split,
    extend_split,
    is_single,
    read_partition,
    write_partition,
)
from helpers.classifier.trained_model import (
    Judged,
    TrainedModel,
    describe_patterns,
    load_model,
    save_model,
)
from helpers.errors import LabelsError
from helpers.features import keep_features
from helpers.made_from import name_centre, name_labels, name_values
from helpers.patterns import Patterns
from helpers.work_folder import PARTITION, PARTS

ENOUGH_TO_TEST = 500  # labels, of which a fifth may stay aside
N_UNLABELLED = 1000  # patterns without a label that help to calibrate


def train_model(
    patterns: Patterns,
    split: Split,
    labels: NDArray[np.str_],
    work_dir: str | Path,
    network: Network | None = None,
    *,
    schedule: Schedule | None = None,
    recall: float = 0.9,
) -> TrainedModel:
    """Train a network on the stack; calibrate, choose the thresholds, judge, save.

    The training part sets the weights, the validation part calibration and thresholds;
    the test part is looked at once, at the end. Where the best weights are solved for,
    calibration and thresholds come from leaving each label out, and 1,000 random
    patterns without a label help to calibrate. Then training and validation part set
    the weights; with fewer than 500 labels all of them do, since a fifth of so few
    would be missed, and the scores come from nested cross-validation.

    Parameters
    ----------
    patterns
        The stack.
    split
        Of that stack, from `split_labels`.
    labels
        (n,) label words; "single" against the rest.
    work_dir
        Where `model.keras`, `model.weights.h5` and `model.json` go.
    network
        From `make_network`; without it, the default one.
    schedule
        Epochs, patterns per step and seed; the same labels and seed give the same
        model on the same machine.
    recall
        Share of the singles that the second threshold shall find; the first one gives
        the highest F1. Both are in `model.json`.

    Raises
    ------
    LabelsError
        If labels, split and patterns are not of one stack.
    ParameterError
        If `recall` is not a share.
    """
    network = network or make_network(DEFAULT, patterns)
    schedule = schedule or Schedule()
    check_recall(recall)
    _check_stack(patterns, split, labels)
    parts = {
        name: (read_inputs(patterns, index, network), is_single(labels[index]))
        for name, index in split.parts.items()
    }
    made_from = name_values(patterns) | {"labels": name_labels(labels, split.parts)}
    if centre := getattr(network, "centre", None):
        made_from["centre"] = name_centre(centre)
    metadata = describe_patterns(patterns) | {
        "patterns_files": [str(path) for path in patterns.files],
        "split": {"grouped": split.grouped, "why": split.why, "seed": split.seed},
        "made_from": made_from,
    }
    n_unlabelled = N_UNLABELLED if network.is_solved else 0
    rest = split.to_predict[patterns.is_measurement[split.to_predict]]
    drawn = np.random.default_rng(schedule.seed).permutation(rest)[:n_unlabelled]
    return _train_parts(
        network,
        parts,
        split.parts,
        read_inputs(patterns, np.sort(drawn), network),
        metadata=metadata,
        work_dir=work_dir,
        schedule=schedule,
        recall=recall,
    )


def train_from_images(
    folder: str | Path,
    work_dir: str | Path,
    *,
    schedule: Schedule | None = None,
    recall: float = 0.9,
    image_size: int = 256,
    channels: int = 1,
) -> TrainedModel:
    """Train the article's network on image folders, as `write_images` makes them.

    Parameters
    ----------
    folder
        Holds `training_set`, `validation_set` and `test_set`, each with a folder
        `single` and one or more for the rest, whatever their names.
    work_dir, schedule, recall
        As in `train_model`.
    image_size, channels
        Of the network's input.

    Raises
    ------
    LabelsError
        If a set or the class "single" is missing.
    """
    check_recall(recall)
    network = ArticleNetwork(image_size, channels)
    parts = {
        name: read_images(Path(folder) / f"{name}_set", image_size, channels)
        for name in PARTS
    }
    unlabelled = np.zeros((0, *network.input_shape), np.float32)
    return _train_parts(
        network,
        parts,
        {name: np.arange(len(single)) for name, (_, single) in parts.items()},
        unlabelled,
        metadata={"image_folder": str(folder)},
        work_dir=work_dir,
        schedule=schedule or Schedule(),
        recall=recall,
    )


def read_images(folder: Path, image_size: int = 256, channels: int = 1) -> Part:
    """Read one set of images with `keras.utils.image_dataset_from_directory`.

    Parameters
    ----------
    folder
        Holds a folder `single` and one or more for the rest.
    image_size
        Rows and columns that the images are brought to.
    channels
        1 or 3.

    Returns
    -------
    images
        (n, image_size, image_size, channels) float32, 0 to 255.
    single
        (n,) bool.
    """
    names = sorted(entry.name for entry in folder.glob("*") if entry.is_dir())
    if "single" not in names or len(names) < 2:
        message = (
            f"{folder} holds {', '.join(names) or 'no folders'}; expected a folder "
            "single and one or more for the other patterns, such as not_single."
        )
        raise LabelsError(message)
    dataset = import_keras().utils.image_dataset_from_directory(
        str(folder),
        class_names=names,
        color_mode="rgb" if channels == 3 else "grayscale",
        image_size=(image_size, image_size),
        interpolation="area",
        shuffle=False,
        verbose=False,
    )
    batches = [(images.numpy(), classes.numpy()) for images, classes in dataset]
    images, classes = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return images, classes == names.index("single")


def _check_stack(patterns: Patterns, split: Split, labels: NDArray[np.str_]) -> None:
    n_split = len(split.labelled) + len(split.to_predict)
    if not len(patterns) == len(labels) == n_split:
        message = (
            f"{len(patterns)} patterns, {len(labels)} labels and a split of {n_split}; "
            "expected the same number. Are the labels or the split from another stack?"
        )
        raise LabelsError(message)


def read_inputs(
    patterns: Patterns, index: NDArray[np.int64], network: Network
) -> NDArray[np.float32]:
    """Make a network's inputs of some patterns; features are made once, and kept."""
    make, shape = network.make_inputs, network.input_shape
    if len(shape) == 1:
        return keep_features(
            patterns, index, make, repr(network), *shape, progress="Read"
        )
    images = np.empty((index.size, *shape), np.float32)  # too much to be kept
    for here, some in patterns.map(make, index, here=True, progress="Read"):
        images[here] = some
    return images


def _train_parts(
    network: Network,
    parts: dict[str, Part],
    index: dict[str, NDArray[np.int64]],
    unlabelled: NDArray[np.float32],
    *,
    metadata: dict[str, Any],
    work_dir: str | Path,
    schedule: Schedule,
    recall: float,
) -> TrainedModel:
    keras_model = network.build(schedule.seed)
    n_labels = sum(len(single) for _, single in parts.values())
    teaches_all = network.is_solved and n_labels < ENOUGH_TO_TEST
    labelled = np.concatenate([*index.values()])
    order = np.argsort(labelled, kind="stable")  # whatever part each one is in
    taught = _teach_all(parts, order) if teaches_all else parts
    fitted = network.fit(keras_model, taught, unlabelled, schedule)
    calibration = fitted.calibration
    known = calibration.apply(fitted.out_of_fold)
    threshold = choose_threshold(known, fitted.single)
    thresholds = {
        "highest_f1": threshold,
        "recall": choose_threshold_for_recall(known, fitted.single, recall),
    }
    if teaches_all:
        inputs, single = taught["training"]
        found = cross_validate_whole_fit(network.build(), inputs, single, unlabelled)
        judged = Judged("nested cross-validation", labelled[order], single, *found)
    else:
        inputs, single = parts["test"]
        probability = calibration.apply(predict_inputs(keras_model, inputs))
        same = np.full(len(single), threshold)
        judged = Judged("test set", index["test"], single, probability, same)
    metadata |= {
        "thresholds": thresholds,
        "recall": recall,
        "training": {"fit": fitted.way, **asdict(schedule), **fitted.how},
        "n_labels": {
            name: {"not_single": int((~single).sum()), "single": int(single.sum())}
            for name, (_, single) in parts.items()
        },
        "n_fitted": fitted.n_labels,
        "teaches_all": teaches_all,
        "history": fitted.history,
        "metrics": evaluate(judged.probability, judged.single, judged.threshold),
        "judged": {
            name: value if name == "by" else value.tolist()
            for name, value in asdict(judged).items()
        },
    }
    trained = TrainedModel(network, keras_model, calibration, threshold, metadata)
    if network.is_solved and (why := explain_chance(metadata["metrics"])):
        warnings.warn(why, stacklevel=3)
    save_model(trained, work_dir)
    return trained


def _teach_all(parts: dict[str, Part], order: NDArray[np.int64]) -> dict[str, Part]:
    """Make one training part of all, in an order, and leave the others empty."""
    inputs, single = (
        np.concatenate(each)[order] for each in zip(*parts.values(), strict=True)
    )
    nothing = inputs[:0], single[:0]
    return {"training": (inputs, single), "validation": nothing, "test": nothing}


def retrain(
    patterns: Patterns, words: NDArray[np.str_], work_dir: str | Path
) -> TrainedModel:
    """Train the work folder's model again, from the labels as they are now.

    Network, settings and schedule are those of `model.json`; the sets are extended by
    `extend_split`. Replaces `partition.h5` and the model's files.

    Parameters
    ----------
    patterns
        The stack.
    words
        (n,) label words as they are now.
    work_dir
        The work folder, with the files of an earlier training.
    """
    path = Path(work_dir) / PARTITION.name
    before = load_model(work_dir)
    split = extend_split(read_partition(path)[0], words, patterns.file_index)
    write_partition(path, patterns, split, words)
    network = before.network
    parameters = {name: getattr(network, name) for name in network.parameters}
    training = before.metadata["training"]
    schedule = Schedule(**{each.name: training[each.name] for each in fields(Schedule)})
    return train_model(
        patterns,
        split,
        words,
        work_dir,
        make_network(network.name, patterns, **parameters),
        schedule=schedule,
        recall=before.metadata["recall"],
    )
