"""What a name stands for: a route of the user's, a model of an endpoint, a model of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daulat.values.plan import EndpointCard


@dataclass(frozen=True, slots=True)
class Route:
    """A name of the user's for several steps. See `settings.gateway.Route`."""

    to: tuple[str, ...]
    weights: tuple[float, ...] = ()
    hedge: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with the name of the model to ask it for."""

    endpoint: str
    model: str


def targets(
    name: str, routes: Mapping[str, Route], cards: Mapping[str, EndpointCard], local: str
) -> tuple[Target, ...]:
    """The steps that a name stands for, in order; empty: nothing elsewhere has that name.

    A route comes first. `endpoint/model` is that one. A model's name alone is every endpoint that offers it;
    this machine's own models are not looked for here, but where one has the name, it is asked first.

    Args:
        local: the endpoint that has the models of the catalogue.
    """
    route = routes.get(name)
    if route is not None:
        return tuple(_target(step) for step in route.to)
    endpoint, slash, model = name.partition("/")
    if slash and endpoint in cards and (endpoint == local or model in cards[endpoint].offers):
        return (Target(endpoint, model),)
    return tuple(Target(card.name, name) for card in cards.values() if name in card.offers)


def _target(text: str) -> Target:
    endpoint, _, model = text.partition("/")
    return Target(endpoint, model)


def names(routes: Mapping[str, Route], cards: Mapping[str, EndpointCard]) -> tuple[str, ...]:
    """Every name that stands for something elsewhere, in order."""
    offered = (model for card in cards.values() for model in card.offers)
    return tuple(dict.fromkeys([*routes, *offered]))
