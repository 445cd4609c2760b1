"""The networks by name, as notebooks and `model.json` choose; moved to further runs."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.article_network import ArticleNetwork
from helpers.classifier.invariant_network import InvariantNetwork, encode_pixels
from helpers.classifier.network import Fitted, Network, Part, Schedule
from helpers.errors import ParameterError
from helpers.patterns import Patterns

NETWORKS: dict[str, type[Network]] = {
    network.name: network for network in (ArticleNetwork, InvariantNetwork)
}


DEFAULT = InvariantNetwork.name


def find_network(name: str) -> type[Network]:
    """Return the class of a network.

    Raises
    ------
    ParameterError
        If there is no network of that name.
    """
    if name not in NETWORKS:
        message = f"model is {name!r}; expected one of {', '.join(NETWORKS)}."
        raise ParameterError(message)
    return NETWORKS[name]


def make_network(name: str, patterns: Patterns, **parameters: Any) -> Network:
    """Make a network for a stack.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    patterns
        The stack.
    **parameters
        Of the experiment and the notebook, for all networks; each takes its own.

    Raises
    ------
    ParameterError
        If there is no network of that name, no network at all takes a parameter, or
        this one cannot have such a value.
    """
    network = find_network(name)
    known = {each for one in NETWORKS.values() for each in one.parameters}
    unknown = sorted(parameters.keys() - known)
    if unknown:
        message = (
            f"no network has a parameter {', '.join(unknown)}; expected "
            f"{', '.join(sorted(known))}."
        )
        raise ParameterError(message)
    own = {key: value for key, value in parameters.items() if key in network.parameters}
    return network.for_patterns(patterns, **own)


def restore_network(name: str, settings: dict[str, Any]) -> Network:
    """Return a network with the settings that `model.json` holds.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    settings
        All fields of that network; lists, as JSON gives them, count as tuples.

    Raises
    ------
    ParameterError
        If there is no network of that name, or its fields are others.
    """
    network: Any = find_network(name)
    names = {field.name for field in fields(network)}
    if names != settings.keys():
        message = (
            f"the settings of the network {name!r} are {', '.join(sorted(settings))}; "
            f"expected {', '.join(sorted(names))}."
        )
        raise ParameterError(message)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    restored: Network = network(**values)
    return restored


Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class MovedNetwork(Network):
    """Moves patterns by whole pixels, to where the network expects the beam.

    How many inputs a network makes depends on where the centre is; weights can be kept
    only if it stays.

    Parameters
    ----------
    network
        What makes inputs of the moved patterns.
    rows, columns
        By how many pixels they are moved, down and to the right.
    """

    name: ClassVar[str] = "moved"
    network: Network
    rows: int
    columns: int

    @classmethod
    def for_patterns(cls, patterns: Patterns, **parameters: Any) -> Self:
        """Refuse: it is made for a run by `adapt_network`."""
        raise NotImplementedError

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the network."""
        return self.network.input_shape

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move patterns and make the network's inputs of them."""
        moved = move(patterns, self.rows, self.columns, np.float32(0))
        return self.network.make_inputs(moved)

    def build(self, seed: int = 0) -> Any:
        """Build the network's Keras model."""
        return self.network.build(seed)

    def fit(
        self,
        keras_model: Any,
        parts: dict[str, Part],
        unlabelled: NDArray[np.float32],
        schedule: Schedule,
    ) -> Fitted:
        """Fit as the network does."""
        return self.network.fit(keras_model, parts, unlabelled, schedule)


def move(
    images: NDArray[Value], rows: int, columns: int, outside: Value
) -> NDArray[Value]:
    """Move images (…, rows, columns) down and to the right, whole pixels.

    Parameters
    ----------
    images
        What is moved.
    rows, columns
        By how many pixels; negative ones go up and to the left.
    outside
        What comes in from outside.
    """
    moved = np.full_like(images, outside)
    there, here = zip(*(_cut(by) for by in (rows, columns)), strict=True)
    moved[..., *there] = images[..., *here]
    return moved


def _cut(by: int) -> tuple[slice, slice]:
    """Return where the image goes on an axis, and what of it."""
    later, earlier = (
        slice(max(by, 0), min(by, 0) or None),
        slice(max(-by, 0), min(-by, 0) or None),
    )
    return later, earlier


def adapt_network(
    network: Network, patterns: Patterns, centre: tuple[float, float]
) -> Network:
    """Return the network for a run with another centre and other bad pixels.

    Its weights are of use only if it makes as many inputs. Where it would not, however
    the run is laid under it, it stays as it is.

    Parameters
    ----------
    network
        Of a trained model; one that takes neither into account stays as it is.
    patterns
        The run, with its bad pixels.
    centre
        (row, column) of its beam.
    """
    if not isinstance(network, InvariantNetwork):
        return network
    here = encode_pixels(patterns.bad_pixels)
    rows, columns = (
        round(known - found)
        for known, found in zip(network.centre, centre, strict=True)
    )
    moved = encode_pixels(move(patterns.bad_pixels, rows, columns, np.bool_(True)))
    there = (centre[0] + rows, centre[1] + columns)
    options: list[Callable[[], Network]] = [
        lambda: replace(network, centre=centre, bad_pixels=here),
        lambda: MovedNetwork(
            replace(network, centre=there, bad_pixels=moved), rows, columns
        ),
    ]
    made = (option() for option in options)
    fitting = (each for each in made if each.input_shape == network.input_shape)
    return next(fitting, network)
