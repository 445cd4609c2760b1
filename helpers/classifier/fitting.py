"""Two ways to fit a network: epochs of gradient descent, or a logistic layer solved."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from helpers.classifier.calibration import fit_calibration, fit_calibration_in_stack
from helpers.classifier.network import (
    Fitted,
    History,
    Part,
    Schedule,
    import_keras,
    predict_inputs,
)
from helpers.classifier.solved_layer import SolvedLayer


def fit_gradient(
    keras_model: Any, training: Part, validation: Part, schedule: Schedule
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

    Returns
    -------
    dict
        Loss and metrics of either part (`val_…` of the validation part), one value an
        epoch.
    """
    keras = import_keras()
    with tqdm(total=schedule.epochs, unit="epoch", desc="Train") as bar:
        history = keras_model.fit(
            *_as_numbers(training),
            validation_data=_as_numbers(validation),
            epochs=schedule.epochs,
            batch_size=schedule.batch_size,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=_show_on(bar))],
        )
    return {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }


def _as_numbers(part: Part) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    inputs, single = part
    return inputs, single.astype(np.float32)


def _show_on(bar: Any) -> Callable[[int, dict[str, float]], None]:
    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
        bar.update()

    return show


PENALTY = 0.05  # times the sum of squared weights, per pattern
FOLDS = 10


def fit_logistic_head(
    layer: SolvedLayer, inputs: NDArray[np.float32], single: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Set the weights from labelled patterns; return outputs out of fold.

    Parameters
    ----------
    layer
        Changed in place.
    inputs
        (n, …) float32.
    single
        (n,) bool, the labels; at least two of each.

    Returns
    -------
    ndarray
        (n,) float32: the output for each pattern of a network that was fitted to nine
        tenths of the patterns, this one not among them (ten-fold cross-validation).
    """
    columns = prepare_columns(layer, inputs)
    out_of_fold = np.empty(len(inputs), np.float32)
    for rest, fold in _folds(single):
        weights, bias = solve(columns[rest], single[rest])
        out_of_fold[fold] = expit(columns[fold] @ weights + bias)
    weights, bias = solve(columns, single)
    layer.set_last(weights, bias)
    return out_of_fold


def solve(
    columns: NDArray[np.float64], single: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Return the best weights (columns,) and bias of a sigmoid on columns (n, columns).

    Parameters
    ----------
    columns
        (n, columns) float64, from `prepare_columns`.
    single
        (n,) bool; both values occur.
    """
    from sklearn.linear_model import LogisticRegression

    strength = 1 / (2 * PENALTY * single.size)
    solver = LogisticRegression(C=strength, solver="newton-cholesky")
    with threadpool_limits(1, user_api="blas"):  # too small to be shared out
        solver.fit(columns, single)
    return solver.coef_[0], float(solver.intercept_[0])


def prepare_columns(
    layer: SolvedLayer, inputs: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Set the normalisation from inputs (n, …); return what the sigmoid is given."""
    layer.standardise(inputs)
    return layer.make_columns(inputs).astype(np.float64)


def _folds(single: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], ...]]:
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(FOLDS, int(single.sum()), int((~single).sum()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return list(folds.split(single, single))


def learn_in_epochs(
    keras_model: Any, parts: dict[str, Part], schedule: Schedule
) -> Fitted:
    """Fit to the training part; what the weights do not know is the validation part."""
    inputs, single = parts["validation"]
    history = fit_gradient(
        keras_model, parts["training"], parts["validation"], schedule
    )
    out_of_fold = predict_inputs(keras_model, inputs)
    return Fitted(
        out_of_fold=out_of_fold,
        single=single,
        calibration=fit_calibration(out_of_fold, single),
        n_labels=len(parts["training"][1]),
        history=history,
        way="descent",
        how={"calibrated_by": "the validation part"},
    )


def learn_at_once(
    layer: SolvedLayer, parts: dict[str, Part], unlabelled: NDArray[np.float32]
) -> Fitted:
    """Fit to training and validation part, each pattern judged without itself."""
    known = [parts["training"], parts["validation"]]
    inputs, single = (np.concatenate(arrays) for arrays in zip(*known, strict=True))
    out_of_fold = fit_logistic_head(layer, inputs, single)
    by = (
        f"cross-validation within the fitted labels, {FOLDS} folds at most, "
        f"and {len(unlabelled)} patterns without a label"
    )
    return Fitted(
        out_of_fold=out_of_fold,
        single=single,
        calibration=fit_calibration_in_stack(
            out_of_fold, single, predict_inputs(layer, unlabelled)
        ),
        n_labels=len(single),
        history={},
        way="exact",
        how={"penalty": PENALTY, "calibrated_by": by},
    )
