"""Two ways to fit a network: epochs of gradient descent, or least squares at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from tqdm.auto import tqdm

from helpers.classifier.calibration import (
    choose_threshold,
    fit_calibration,
    fit_calibration_in_stack,
)
from helpers.classifier.kernel_head import (
    STEEP,
    Kernel,
    KernelFit,
    KernelHead,
    fit_kernel,
)
from helpers.classifier.network import (
    Fitted,
    History,
    Part,
    Schedule,
    import_keras,
    mirror_on_gpus,
    predict_inputs,
)


def fit_gradient(
    keras_model: Any,
    training: Part,
    validation: Part,
    schedule: Schedule,
    batch_sizes: Sequence[int] = (),
) -> History:
    """Fit to the training part, with a progress bar; return Keras' history.

    Parameters
    ----------
    keras_model
        Compiled; changed in place.
    training, validation
        Inputs float32 (n, …) and labels bool (n,). The validation part is only watched.
    schedule
        Epochs and batch size.
    batch_sizes
        Of the two parts, in place of the schedule's.

    Returns
    -------
    dict
        Loss and metrics of either part (`val_…` of the validation part), one value an
        epoch.
    """
    keras = import_keras()
    size, validation_size = batch_sizes or (schedule.batch_size, schedule.batch_size)
    with tqdm(total=schedule.epochs, unit="epoch", desc="Train") as bar:
        history = keras_model.fit(
            *_as_numbers(training),
            validation_data=_as_numbers(validation),
            epochs=schedule.epochs,
            batch_size=size,
            validation_batch_size=validation_size,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=_show_on(bar))],
        )
    return {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }


def find_batch_size(n: int, wished: int, n_devices: int) -> int | None:
    """Return the batch size nearest to `wished` of which every device gets a share.

    Each takes as many patterns as fill its share, so that a last batch that is short
    may leave the last device without any, which Keras' convolutions refuse; and the
    first batch has to be full. None if there is no such size.
    """
    if n_devices == 1:
        return wished
    sizes = range(n_devices, n + 1, n_devices)
    fit = (
        size for size in sizes if not n % size or n % size > size - size // n_devices
    )
    return min(fit, key=lambda size: abs(size - wished), default=None)


def _as_numbers(part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    inputs, single = part
    return inputs, single.astype(np.float32)


def _show_on(bar: Any) -> Callable[[int, dict[str, float]], None]:
    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
        bar.update()

    return show


FOLDS = 10
CLEARLY = 0.5  # standard errors by which more features must lower the error


def fit_head(
    head: KernelHead, inputs: NDArray[np.float32], single: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Set the weights from labelled patterns; return outputs out of fold.

    Parameters
    ----------
    head
        Changed in place.
    inputs
        (n, features) float32.
    single
        (n,) bool, the labels; at least two of each.

    Returns
    -------
    ndarray
        (n,) float32: the output for each pattern of a network that was fitted to all
        others (cross-validation that leaves one out).
    """
    head.standardise(inputs)
    fit = fit_best(head.make_points(inputs), single, head.choices)
    head.set_fit(fit.kernel, fit.landmarks, fit.weights)
    return _as_output(fit.unseen)


def fit_best(
    points: NDArray[np.float64], single: NDArray[np.bool_], choices: Sequence[Kernel]
) -> KernelFit:
    """Fit with the simplest choice of features that no other clearly outdoes.

    What an encoder saw in simulated particles may mislead on measured ones, so the
    labels decide, by the error out of fold.
    """
    best, *more = [fit_kernel(points, single, kernel) for kernel in choices]
    for other in more:
        gain = best.error - other.error
        if gain.mean() > CLEARLY * gain.std() / np.sqrt(gain.size):
            best = other
    return best


def _as_output(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(expit(STEEP * values), np.float32)


def cross_validate_whole_fit(
    head: KernelHead,
    inputs: NDArray[np.float32],
    single: NDArray[np.bool_],
    unlabelled: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Judge every label by a fit, calibration and threshold that do not know it.

    Nested cross-validation: within nine tenths of the labels all is done that is done
    with all of them, and the last tenth is judged by the result.

    Parameters
    ----------
    head
        As for `fit_head`.
    inputs, single
        (n, …) float32, and (n,) bool, the labels; at least three of each.
    unlabelled
        (m, …) float32, inputs of patterns without a label.

    Returns
    -------
    probability
        (n,) float32, calibrated.
    threshold
        (n,) float64, the one with the highest F1 that was chosen for it.

    References
    ----------
    Varma and Simon, BMC Bioinformatics 7, 91 (2006), doi 10.1186/1471-2105-7-91.
    """
    probability = np.empty(len(inputs), np.float32)
    threshold = np.empty(len(inputs))
    for rest, fold in _folds(single):
        out_of_fold = fit_head(head, inputs[rest], single[rest])
        judged, stack = (
            predict_inputs(head, some) for some in (inputs[fold], unlabelled)
        )
        calibration = fit_calibration_in_stack(out_of_fold, single[rest], stack)
        probability[fold] = calibration.apply(judged)
        known = calibration.apply(out_of_fold)
        threshold[fold] = choose_threshold(known, single[rest])
    return probability, threshold


def _folds(single: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], ...]]:
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(FOLDS, int(single.sum()), int((~single).sum()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return list(folds.split(single, single))


def learn_in_epochs(
    keras_model: Any,
    parts: dict[str, Part],
    schedule: Schedule,
    build: Callable[[int], Any],
) -> Fitted:
    """Fit to the training part; what the weights do not know is the validation part.

    Parameters
    ----------
    keras_model
        From `build`.
    parts, schedule
        As for `Network.fit`.
    build
        Makes another one from a seed: its twin is trained where a machine has several
        GPUs.
    """
    inputs, single = parts["validation"]
    sets = parts["training"], parts["validation"]
    strategy = mirror_on_gpus()
    n_devices = strategy.num_replicas_in_sync if strategy else 1
    found = (
        find_batch_size(len(known), schedule.batch_size, n_devices) for _, known in sets
    )
    sizes = [size for size in found if size]
    if strategy is None or len(sizes) < len(sets):
        n_devices = 1
        history = fit_gradient(keras_model, *sets, schedule)
    else:
        with strategy.scope():
            twin = build(schedule.seed)
        history = fit_gradient(twin, *sets, schedule, sizes)
        keras_model.set_weights(twin.get_weights())
    out_of_fold = predict_inputs(keras_model, inputs)
    return Fitted(
        out_of_fold=out_of_fold,
        single=single,
        calibration=fit_calibration(out_of_fold, single),
        n_labels=len(parts["training"][1]),
        history=history,
        way="descent",
        how={"calibrated_by": "the validation part", "devices": n_devices},
    )


def learn_at_once(
    head: KernelHead, parts: dict[str, Part], unlabelled: NDArray[np.float32]
) -> Fitted:
    """Fit to training and validation part, each pattern judged without itself."""
    known = [parts["training"], parts["validation"]]
    inputs, single = (np.concatenate(arrays) for arrays in zip(*known, strict=True))
    out_of_fold = fit_head(head, inputs, single)
    by = (
        "cross-validation within the fitted labels, each left out in turn, and "
        f"{len(unlabelled)} patterns without a label"
    )
    return Fitted(
        out_of_fold=out_of_fold,
        single=single,
        calibration=fit_calibration_in_stack(
            out_of_fold, single, predict_inputs(head, unlabelled)
        ),
        n_labels=len(single),
        history={},
        way="exact",
        how={"calibrated_by": by},
    )
