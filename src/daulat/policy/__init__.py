"""Who may ask what, and where it may go: pure judgement over rules as data.

A verdict is made before any endpoint hears of the request. What is not allowed is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from daulat.errors import PermissionDeniedError
from daulat.values.plan import THIS_MACHINE, Caller, EndpointCard


@dataclass(frozen=True, slots=True)
class Rules:
    """Attributes:
    places: where a request's data may go. Nowhere but here, unless a user says so.
    """

    places: tuple[str, ...] = (THIS_MACHINE,)


def permitted(
    rules: Rules, caller: Caller, model: str, cards: tuple[EndpointCard, ...]
) -> tuple[EndpointCard, ...]:
    """The endpoints that may see this caller's request, in the order given.

    Raises:
        PermissionDeniedError: the key does not cover the model, or no endpoint is in a permitted place.
    """
    if not may_use(caller, model):
        raise PermissionDeniedError(
            f"The key {caller.id} may not use the model {model}. Ask for a key that covers it.",
            param="model",
        )
    allowed = tuple(card for card in cards if card.place in rules.places)
    if not allowed:
        raise PermissionDeniedError(
            "No endpoint for this model is in a place that the rules permit "
            f"({', '.join(rules.places)}).",
            param="model",
        )
    return allowed


def may_use(caller: Caller, model: str) -> bool:
    """Whether a key covers a model, or an adapter (`base:adapter`).

    A key for a model covers none of its adapters, and a key for an adapter does not cover the model.
    """
    base, colon, _ = model.partition(":")
    whole = bool(colon) and f"{base}:*" in caller.models
    return not caller.models or model in caller.models or whole
