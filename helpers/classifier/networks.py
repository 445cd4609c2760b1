"""The networks by name: the table that notebooks and `model.json` choose from."""

from dataclasses import fields
from typing import Any

from helpers.classifier.article_network import ArticleNetwork
from helpers.classifier.invariant_network import InvariantNetwork
from helpers.classifier.network import Network
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
