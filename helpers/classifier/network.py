"""The networks by name."""

from dataclasses import MISSING, fields
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from helpers.classifier.article_network import ArticleNetwork
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.errors import ParameterError
from helpers.patterns import Patterns


class Network(Protocol):
    """What every network offers; its settings are its dataclass fields.

    Attributes
    ----------
    name
        The key of `NETWORKS`.
    fit
        How it learns: by gradient "descent", epoch by epoch, or, where one layer on
        fixed inputs makes the best weights computable, "exact".
    """

    name: ClassVar[str]
    fit: ClassVar[Literal["descent", "exact"]]

    @classmethod
    def for_patterns(cls, patterns: Patterns, **settings: Any) -> Self:
        """Make the network for a stack."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input that one pattern makes."""

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the Keras model's inputs, one per pattern."""

    def make_model(self, seed: int = 0) -> Any:
        """Build and compile the Keras model."""


NETWORKS: dict[str, type[Network]] = {
    "article": ArticleNetwork,
    "invariant": InvariantNetwork,
}


def find_network(name: str, settings: dict[str, Any]) -> type[Network]:
    """Return the class of a network, once name and settings are known to be right.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    settings
        For that network.

    Raises
    ------
    ParameterError
        If there is no network of that name, or it has no such setting.
    """
    if name not in NETWORKS:
        message = f"model is {name!r}; expected one of {', '.join(NETWORKS)}."
        raise ParameterError(message)
    known = [field.name for field in fields(NETWORKS[name])]  # type: ignore[arg-type]
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        message = (
            f"the network {name!r} has no parameter {', '.join(unknown)}; "
            f"it has {', '.join(known)}."
        )
        raise ParameterError(message)
    return NETWORKS[name]


def make_network(name: str, **settings: Any) -> Network:
    """Return a network of `NETWORKS` with all its settings given.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    **settings
        The fields of that network; lists, as JSON gives them, count as tuples.

    Raises
    ------
    ParameterError
        If there is no network of that name, it has no such setting, or needs more.
    """
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
    }
    network = find_network(name, settings)
    missing = [
        field.name
        for field in fields(network)  # type: ignore[arg-type]
        if field.default is MISSING and field.name not in given
    ]
    if missing:
        message = (
            f"the network {name!r} lacks {', '.join(missing)}; give them, or use "
            "find_network(name, {}).for_patterns(patterns)."
        )
        raise ParameterError(message)
    return network(**given)


def make_model(name: str, seed: int = 0, **settings: Any) -> Any:
    """Return the compiled Keras model of a network, not trained yet.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    seed
        Of the weights, the dropout and the random changes of the images.
    **settings
        The fields of that network, for example `image_size` and `channels`.
    """
    return make_network(name, **settings).make_model(seed)
