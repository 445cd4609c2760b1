"""Train a network on the labelled patterns and judge it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.article_network import ArticleNetwork
from helpers.classifier.backend import import_keras
from helpers.classifier.calibration import (
    check_recall,
    choose_threshold,
    choose_threshold_for_recall,
    fit_calibration,
    fit_calibration_in_stack,
)
from helpers.classifier.fitting import (
    FOLDS,
    PENALTY,
    History,
    Part,
    Schedule,
    fit_by_descent,
    fit_exactly,
)
from helpers.classifier.network import Network, find_network
from helpers.classifier.partition import read_partition, write_partition
from helpers.classifier.scores import evaluate
from helpers.classifier.split import PARTS, Split, extend_split, is_single
from helpers.classifier.trained_model import (
    CLASSES,
    Calibration,
    TrainedModel,
    describe_patterns,
    load_model,
    predict_inputs,
    save_model,
)
from helpers.errors import LabelsError
from helpers.patterns import Patterns
from helpers.work_folder import PARTITION

N_OTHERS = 1000  # patterns without a label that help to calibrate


@dataclass(frozen=True)
class Plan:
    """How to train, and what the second threshold is for."""

    schedule: Schedule
    recall: float

    def __post_init__(self) -> None:
        """Refuse what `choose_threshold_for_recall` would refuse after the training."""
        check_recall(self.recall)


@dataclass(frozen=True)
class Fitted:
    """What is known once the weights are set.

    Attributes
    ----------
    unseen, single
        (n,) float32 outputs for patterns that the weights did not know, and (n,) bool
        their labels: what calibration and thresholds come from.
    calibration
        From such outputs to probabilities.
    n_labels
        How many labels set the weights.
    history
        Of each epoch; empty where there are none.
    how
        For `model.json`.
    """

    unseen: NDArray[np.float32]
    single: NDArray[np.bool_]
    calibration: Calibration
    n_labels: int
    history: History
    how: dict[str, Any]


def train_model(
    patterns: Patterns,
    split: Split,
    labels: NDArray[np.str_],
    work_dir: str | Path,
    *,
    model: str = "invariant",
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    recall: float = 0.9,
    **settings: Any,
) -> TrainedModel:
    """Train a network on the stack; calibrate, choose the thresholds, judge, save.

    The training part sets the weights, the validation part calibration and thresholds.
    Where the best weights can be computed exactly both parts set them, and calibration
    and thresholds come from ten-fold cross-validation, each pattern judged by weights
    that do not know it; 1,000 random patterns without a label help to calibrate. The
    test part is looked at once, at the end.

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
    model
        A key of `helpers.classifier.NETWORKS`.
    epochs, batch_size
        Passes over the training part, and patterns per step; of networks that learn by
        gradient descent.
    seed
        The same labels and seed give the same model on the same machine.
    recall
        Share of the singles that the second threshold shall find; the first one gives
        the highest F1. Both are in `model.json`.
    **settings
        The parameters of the network, for example `image_size`.

    Raises
    ------
    LabelsError
        If labels, split and patterns are not of one stack.
    ParameterError
        If the network has no such parameter or cannot have such a value.
    """
    _check_stack(patterns, split, labels)
    plan = Plan(Schedule(epochs, batch_size, seed), recall)
    network = find_network(model, settings).for_patterns(patterns, **settings)
    parts = {
        name: (
            read_inputs(patterns, getattr(split, name), network),
            is_single(labels[getattr(split, name)]),
        )
        for name in PARTS
    }
    facts = describe_patterns(patterns) | {
        "patterns_files": [str(path) for path in patterns.files],
        "split": {"grouped": split.grouped, "why": split.why, "seed": split.seed},
    }
    others = np.zeros(0, np.int64)
    if network.fit == "exact":
        others = _draw(split.to_predict, N_OTHERS, seed)
    inputs = read_inputs(patterns, others, network)
    return _train_parts(network, parts, facts, work_dir, plan, others=inputs)


def train_from_images(
    folder: str | Path,
    work_dir: str | Path,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
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
    work_dir, epochs, batch_size, seed, recall
        As in `train_model`.
    image_size, channels
        Of the network's input.

    Raises
    ------
    LabelsError
        If a set or the class "single" is missing.
    """
    plan = Plan(Schedule(epochs, batch_size, seed), recall)
    network = ArticleNetwork(image_size, channels)
    parts = {
        name: read_images(Path(folder) / f"{name}_set", image_size, channels)
        for name in PARTS
    }
    others = np.zeros((0, *network.input_shape), np.float32)
    facts = {"image_folder": str(folder)}
    return _train_parts(network, parts, facts, work_dir, plan, others=others)


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
    n_split = sum(len(getattr(split, name)) for name in (*PARTS, "to_predict"))
    if not len(patterns) == len(labels) == n_split:
        message = (
            f"{len(patterns)} patterns, {len(labels)} labels and a split of {n_split}; "
            "expected the same number. Are the labels or the split from another stack?"
        )
        raise LabelsError(message)


def read_inputs(
    patterns: Patterns, index: NDArray[np.int64], network: Network
) -> NDArray[np.float32]:
    """Make a network's inputs of some patterns, a few at a time."""
    inputs = np.empty((index.size, *network.input_shape), np.float32)
    for here, some in patterns.map(network.make_inputs, index, progress="Read"):
        inputs[here] = some
    return inputs


def _draw(index: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Return n random values of an index, or all of them if there are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(index)[:n])


def _train_parts(
    network: Network,
    parts: dict[str, Part],
    facts: dict[str, Any],
    work_dir: str | Path,
    plan: Plan,
    *,
    others: NDArray[np.float32],
) -> TrainedModel:
    keras_model = network.make_model(plan.schedule.seed)
    if network.fit == "descent":
        fitted = _fit_by_descent(keras_model, parts, plan.schedule)
    else:
        fitted = _fit_exactly(keras_model, parts, others)
    probability = fitted.calibration.apply(fitted.unseen)
    thresholds = {
        "highest_f1": choose_threshold(probability, fitted.single),
        "recall": choose_threshold_for_recall(probability, fitted.single, plan.recall),
    }
    trained = TrainedModel(
        network, keras_model, fitted.calibration, thresholds["highest_f1"], {}
    )
    facts |= {
        "thresholds": thresholds,
        "recall": plan.recall,
        "training": {"fit": network.fit, **asdict(plan.schedule), **fitted.how},
        "n_labels": {name: _count(single) for name, (_, single) in parts.items()},
        "n_fitted": fitted.n_labels,
        "history": fitted.history,
        "metrics": _judge(trained, parts["test"]),
    }
    trained = replace(trained, facts=facts)
    save_model(trained, work_dir)
    return trained


def _fit_by_descent(
    keras_model: Any, parts: dict[str, Part], schedule: Schedule
) -> Fitted:
    """Fit to the training part; what the weights do not know is the validation part."""
    inputs, single = parts["validation"]
    history = fit_by_descent(
        keras_model, parts["training"], parts["validation"], schedule
    )
    unseen = predict_inputs(keras_model, inputs)
    return Fitted(
        unseen=unseen,
        single=single,
        calibration=fit_calibration(unseen, single),
        n_labels=len(parts["training"][1]),
        history=history,
        how={"calibrated_by": "the validation part"},
    )


def _fit_exactly(
    keras_model: Any, parts: dict[str, Part], others: NDArray[np.float32]
) -> Fitted:
    """Fit to training and validation part, each pattern judged without itself."""
    known = [parts["training"], parts["validation"]]
    inputs, single = (np.concatenate(arrays) for arrays in zip(*known, strict=True))
    unseen = fit_exactly(keras_model, inputs, single)
    unlabelled = predict_inputs(keras_model, others)
    by = (
        f"cross-validation within the fitted labels, {FOLDS} folds at most, "
        f"and {len(others)} patterns without a label"
    )
    return Fitted(
        unseen=unseen,
        single=single,
        calibration=fit_calibration_in_stack(unseen, single, unlabelled),
        n_labels=len(single),
        history={},
        how={"penalty": PENALTY, "calibrated_by": by},
    )


def _judge(trained: TrainedModel, test: Part) -> dict[str, Any]:
    inputs, single = test
    raw = predict_inputs(trained.keras_model, inputs)
    return evaluate(trained.calibration.apply(raw), single, trained.threshold)


def _count(single: NDArray[np.bool_]) -> dict[str, int]:
    return dict(zip(CLASSES, np.bincount(single, minlength=2).tolist(), strict=True))


FROM_PATTERNS = ("shape", "bad_pixels")
SCHEDULE = ("epochs", "batch_size", "seed")


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
    split = extend_split(read_partition(path)[0], words, patterns.groups)
    write_partition(path, patterns, split, words)
    settings = asdict(cast(Any, before.network))
    options = {k: v for k, v in settings.items() if k not in FROM_PATTERNS}
    schedule = {name: before.facts["training"][name] for name in SCHEDULE}
    schedule["recall"] = before.facts["recall"]
    return train_model(
        patterns,
        split,
        words,
        work_dir,
        model=before.network.name,
        **options,
        **schedule,
    )
