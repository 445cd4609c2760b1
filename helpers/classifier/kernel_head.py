"""Least squares with a Gaussian kernel: the exact fit of the invariant network.

Importing TensorFlow takes longer than all that there is to compute. So the head works
in NumPy, and builds the Keras model that it stands for when someone wants that: to save
it, or to look at its layers.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.special import expit
from threadpoolctl import threadpool_limits

from helpers.classifier.calibration import choose_threshold, fit_calibration_in_stack
from helpers.classifier.network_base import Fitted, Part, import_keras, predict_inputs
from helpers.features import FARTHEST, standardise
from helpers.patterns import spread_evenly
from helpers.work_folder import Values

SMALLEST = 1e-7  # standard deviation, as in Keras
NARROW = 0.5  # the Gaussian is exp(-NARROW x mean squared distance)
GENERAL = 0.5  # weight of the products
STEEP = 4.5  # from a value of 1 or -1 to the logit that it usually stands for
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of which the labels choose
FOLDS = 10
CLEARLY = 0.5  # standard errors by which more features must lower the error
MOST_LANDMARKS = 2000  # labelled patterns with a weight; more would only take longer
JITTER = 1e-6  # keeps a matrix of equal patterns positive definite
LAYERS = (
    *("InputLayer", "Normalization", "Clip", "Square", "Concatenate"),
    *("Dense", "Concatenate", "Dense"),
)
LIMITS = -FARTHEST, FARTHEST
ACTIVATIONS = "exponential", "sigmoid"
ARRAYS = {
    f"layers/{place}/vars/{number}": shape
    for place, shapes in (
        ("normalization", "n n"),
        ("dense", "sm m"),
        ("dense_1", "ko o"),
    )
    for number, shape in enumerate(shapes.split())
}
"""Shapes of the weights: n features, s of these and squares, m landmarks, k = s + m."""


class Kernel(NamedTuple):
    """How alike two patterns are, from their standardised features.

    A Gaussian of their distance, which knows what is near; 1, for the mean; and with
    little weight the product of the plain features and of their squares, which goes on
    where nothing is near.

    Attributes
    ----------
    scale
        (features,) float64, factors of the features in the distance; 0 = left out.
    n_plain
        How many features, the first, are plain ones.
    """

    scale: NDArray[np.float64]
    n_plain: int

    def __call__(
        self, points: NDArray[np.float64], landmarks: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how alike points (n, features) and landmarks are, (n, m) float64."""
        here, there = points * self.scale, landmarks * self.scale
        squares = (here**2).sum(axis=1)[:, np.newaxis] + (there**2).sum(axis=1)
        near = np.exp(np.minimum(2 * here @ there.T - squares, 0))
        general = self.expand(points) @ self.expand(landmarks).T
        return np.asarray(near + 1 + general)

    def expand(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted plain features and their squares, (n, 2 n_plain)."""
        plain = points[:, : self.n_plain] * np.sqrt(GENERAL / self.n_plain)
        return np.concatenate(
            [plain, plain * points[:, : self.n_plain] * np.sqrt(0.5)], axis=1
        )


class KernelFit(NamedTuple):
    """What least squares find.

    Attributes
    ----------
    kernel
        With it, a pattern's value is the sum of all weights, each times how alike it
        and the landmark are.
    landmarks, weights
        (m, features) float64 and (m,) float64.
    unseen
        (n,) float64: of each labelled pattern, the value by a fit without it.
    error
        (n,) float64: squared error of that, either class weighing the same.
    """

    kernel: Kernel
    landmarks: NDArray[np.float64]
    weights: NDArray[np.float64]
    unseen: NDArray[np.float64]
    error: NDArray[np.float64]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of points (k, features): near 1 single, near -1 not."""
        return self.kernel(points, self.landmarks) @ self.weights


def fit_kernel(
    points: NDArray[np.float64], single: NDArray[np.bool_], kernel: Kernel
) -> KernelFit:
    """Fit 1 to single hits and -1 to the rest by penalised least squares.

    Parameters
    ----------
    points
        (n, features) float64, standardised.
    single
        (n,) bool, the labels; at least two of each.
    kernel
        How alike two of them are.

    Notes
    -----
    Either class weighs the same. What a fit without a pattern says of it follows from
    the fit with it, so that leaving each out costs nothing; of the `RIDGES` the one is
    taken with the least error then.

    References
    ----------
    Suykens and Vandewalle, Neural Process. Lett. 9 (1999) 293,
    doi 10.1023/A:1018628609742 (least-squares support vector machines); Cawley and
    Talbot, Neural Netw. 17 (2004) 1467, doi 10.1016/j.neunet.2004.07.002 (leave-one-out
    in closed form).
    """
    some = spread_evenly(np.arange(len(points)), MOST_LANDMARKS)
    landmarks = points[some]
    target = np.where(single, 1.0, -1.0)
    weight = np.where(single, 0.5 / single.mean(), 0.5 / (~single).mean())
    with threadpool_limits(1, user_api="blas"):  # sums in the same order everywhere
        alike = kernel(points, landmarks)
        root = cholesky(alike[some] + JITTER * np.eye(some.size), lower=True)
        columns = solve_triangular(root, alike.T, lower=True).T
        weighted = columns.T * weight
        inner = weighted @ columns
        fits = [
            _solve(columns, weighted, inner + ridge * np.eye(some.size), target)
            for ridge in RIDGES
        ]
        errors = [weight * (unseen - target) ** 2 for _, unseen in fits]
        best = int(np.argmin([error.mean() for error in errors]))
        turned, unseen = fits[best]
        weights = solve_triangular(root, turned, lower=True, trans="T")
    return KernelFit(kernel, landmarks, weights, unseen, errors[best])


def _solve(
    columns: NDArray[np.float64],
    weighted: NDArray[np.float64],
    inner: NDArray[np.float64],
    target: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights of the columns, and the values by fits without each pattern."""
    factor = cho_factor(inner, lower=True)
    solution = cho_solve(factor, weighted @ target)
    leverage = np.einsum("nm,mn->n", columns, cho_solve(factor, weighted))
    fitted = columns @ solution
    return solution, (fitted - leverage * target) / (1 - leverage)


class KernelHead:
    """Features in, standardised and clipped; a sigmoid of what `fit_kernel` finds out.

    Everything that a Keras model has can be asked of it. There, the Gaussian of an
    input's distance from a landmark is a unit with an exponential activation: the
    squared distance is linear in the input and its squares.

    Parameters
    ----------
    name
        Of the Keras model.
    groups
        Of how many features each group is, and how much it weighs in the distance of
        two patterns. The groups behind the first one may be left out where they do not
        help.

    Attributes
    ----------
    choices
        Kernels that the labels may choose, the simplest first.
    """

    def __init__(self, name: str, groups: Sequence[tuple[int, float]]) -> None:
        self.name = name
        self.n_features = sum(n for n, _ in groups)
        scales = [np.full(n, weight * np.sqrt(NARROW / n)) for n, weight in groups]
        every, n_plain = np.concatenate(scales), groups[0][0]
        without = np.where(np.arange(every.size) < n_plain, every, 0)
        factors = (without, every) if len(groups) > 1 else (every,)
        self.choices = tuple(Kernel(scale, n_plain) for scale in factors)
        self._mean, self._variance = np.zeros((2, self.n_features), np.float32)
        self._variance += 1
        self.set_fit(self.choices[-1], np.zeros((1, every.size)), np.zeros(1))

    def standardise(self, inputs: NDArray[np.float32]) -> None:
        """Set mean and variance from inputs (n, n_features)."""
        self._mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._variance = inputs.var(axis=0, dtype=np.float64).astype(np.float32)
        self._forget_keras()

    def make_points(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return inputs standardised and clipped, (n, n_features), not yet scaled."""
        return self._clip(inputs).astype(np.float64)

    def place(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return inputs as points whose distances the chosen kernel looks at."""
        return self.make_points(inputs) * self.scale

    @property
    def scale(self) -> NDArray[np.float64]:
        """The factors of the features in the kernel that was chosen, (n_features,)."""
        scale: NDArray[np.float32] = np.sqrt(-self._hidden[self.n_features :, 0])
        return scale.astype(np.float64)

    def set_fit(
        self,
        kernel: Kernel,
        landmarks: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        """Set what a fit found."""
        there = landmarks * kernel.scale
        towards = 2 * (kernel.scale * there).T
        away = np.broadcast_to(-(kernel.scale**2)[:, np.newaxis], towards.shape)
        self._hidden = np.concatenate([towards, away]).astype(np.float32)
        self._hidden_bias = -(there**2).sum(axis=1).astype(np.float32)
        general = np.zeros((2, self.n_features))
        unit = kernel.expand(np.ones((1, self.n_features)))
        sums = weights @ kernel.expand(landmarks) * unit[0]
        general[:, : kernel.n_plain] = sums.reshape(2, kernel.n_plain)
        last = np.concatenate([weights, general.ravel()])[:, np.newaxis]
        self._kernel = (STEEP * last).astype(np.float32)
        self._bias = np.array([STEEP * weights.sum()], np.float32)
        self._forget_keras()

    def predict_on_batch(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output, (n, 1) float32."""
        clipped = self._clip(inputs)
        columns = np.concatenate([clipped, clipped**2], axis=1)
        near = np.exp(columns @ self._hidden + self._hidden_bias)
        both = np.concatenate([near, columns], axis=1)
        return np.asarray(expit(both @ self._kernel + self._bias), np.float32)

    def _clip(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        deviation = np.maximum(np.sqrt(self._variance), np.float32(SMALLEST))
        return standardise(inputs, self._mean, deviation)

    @property
    def input_shape(self) -> tuple[int | None, int]:
        """As Keras gives it."""
        return None, self.n_features

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Return all weights, as Keras does."""
        hidden = self._hidden, self._hidden_bias
        return [self._mean, self._variance, *hidden, self._kernel, self._bias]

    @cached_property
    def keras_model(self) -> Any:
        """The Keras model, with these weights."""
        keras = import_keras()
        inputs = keras.Input((self.n_features,), name="features")
        standard = keras.layers.Normalization(name="standardise")
        clipped = keras.ops.clip(standard(inputs), *LIMITS)
        both = keras.layers.Concatenate(name="and_squares")(
            [clipped, keras.ops.square(clipped)]
        )
        n_landmarks = self._hidden_bias.size
        near = keras.layers.Dense(n_landmarks, ACTIVATIONS[0], name="landmarks")
        single = keras.layers.Dense(1, ACTIVATIONS[1], name="single")
        found = keras.layers.Concatenate(name="and_all")([near(both), both])
        model = keras.Model(inputs, single(found), name=self.name)
        standard.set_weights([self._mean, self._variance, np.array(0)])
        standard.finalize_state()
        near.set_weights([self._hidden, self._hidden_bias])
        single.set_weights([self._kernel, self._bias])
        return model

    def _forget_keras(self) -> None:
        self.__dict__.pop("keras_model", None)

    def __getattr__(self, name: str) -> Any:
        """Return what only the Keras model has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.keras_model, name)

    @classmethod
    def read(cls, path: Path, name: str, n_features: int) -> Self | None:
        """Read the weights out of `model.keras`; None if it is not such a head.

        Parameters
        ----------
        path
            A file that `save` wrote.
        name, n_features
            As they should be.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                layers = json.loads(archive.read("config.json"))["config"]["layers"]
                weights = archive.read("model.weights.h5")
            kinds = tuple(layer["class_name"] for layer in layers)
            clip, near, single = (layers[i]["config"] for i in (2, -3, -1))
            limits = clip["x_min"], clip["x_max"]
            activations = near["activation"], single["activation"]
            if (kinds, limits, activations) != (LAYERS, LIMITS, ACTIVATIONS):
                return None
            head = cls(name, [(n_features, 1.0)])
            head.load_weights(io.BytesIO(weights))
        except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile):
            return None  # Keras says what is wrong with it
        return head

    def load_weights(self, weights: Path | io.BytesIO) -> None:
        """Read what `save_weights` wrote; any number of landmarks will do.

        Raises
        ------
        OSError, LookupError, ValueError
            If it is no such file, or of another number of features.
        """
        n = self.n_features
        lengths = {"n": n, "s": 2 * n, "o": 1}
        with h5py.File(weights, "r") as file:
            problems = [
                problem
                for name, shape in ARRAYS.items()
                for problem in Values(np.float32, shape).find_problems(
                    file, name, lengths
                )
            ]
            if problems or lengths["k"] != lengths["m"] + 2 * n:
                message = f"the weights are not those of {n} features"
                raise ValueError(message, *problems)
            found = [file[name][()].astype(np.float32) for name in ARRAYS]
        self._mean, self._variance, self._hidden, self._hidden_bias = found[:4]
        self._kernel, self._bias = found[4:]
        self._forget_keras()


def fit_in_closed_form(
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
    return np.asarray(expit(STEEP * fit.unseen), np.float32)


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
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(FOLDS, int(single.sum()), int((~single).sum()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    probability = np.empty(len(inputs), np.float32)
    threshold = np.empty(len(inputs))
    for rest, fold in folds.split(single, single):
        out_of_fold = fit_head(head, inputs[rest], single[rest])
        judged, stack = (
            predict_inputs(head, some) for some in (inputs[fold], unlabelled)
        )
        calibration = fit_calibration_in_stack(out_of_fold, single[rest], stack)
        probability[fold] = calibration.apply(judged)
        known = calibration.apply(out_of_fold)
        threshold[fold] = choose_threshold(known, single[rest])
    return probability, threshold
