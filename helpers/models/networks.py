"""The networks by name."""

from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.models.article import ArticleNetwork


class Network(Protocol):
    """What every network offers; its parameters are its dataclass fields."""

    @property
    def name(self) -> str:
        """The key of `NETWORKS`."""

    def make_inputs(self, patterns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the Keras model's inputs, one per pattern."""

    def make_model(self, seed: int = 0) -> Any:
        """Build and compile the Keras model."""


NETWORKS: dict[str, type[Network]] = {"article": ArticleNetwork}


def make_network(name: str, **settings: Any) -> Network:
    """Return a network of `NETWORKS`.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    **settings
        The parameters of that network.

    Raises
    ------
    ParameterError
        If there is no network of that name, or it has no such parameter.
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
    return NETWORKS[name](**settings)


def make_model(name: str = "article", seed: int = 0, **settings: Any) -> Any:
    """Return the compiled Keras model of a network, not trained yet.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    seed
        Of the weights, the dropout and the random changes of the images.
    **settings
        The parameters of that network, for example `image_size` and `channels`.
    """
    return make_network(name, **settings).make_model(seed)
