"""What a key covers: models, adapters, and what may be done with it."""

from __future__ import annotations

from daulat.errors import PermissionDeniedError
from daulat.values.plan import Caller


def must_use(caller: Caller, model: str) -> None:
    """A key must cover what it asks for.

    Raises:
        PermissionDeniedError: it does not.
    """
    if not may_use(caller, model):
        raise PermissionDeniedError(
            f"The key {caller.id} may not use the model {model}. Ask for a key that covers it.",
            param="model",
        )


def may_use(caller: Caller, model: str) -> bool:
    """Whether a key covers a model, or an adapter (`base:adapter`).

    A key for a model covers none of its adapters, and a key for an adapter does not cover the model.
    """
    base, colon, _ = model.partition(":")
    whole = bool(colon) and f"{base}:*" in caller.models
    return not caller.models or model in caller.models or whole


def check_scope(caller: Caller, scope: str) -> None:
    """A key must have been made for this.

    Raises:
        PermissionDeniedError: it was not.
    """
    if scope not in caller.scopes:
        raise PermissionDeniedError(
            f"The key {caller.id} has no scope `{scope}`. `daulat keys create --scope {scope}` makes one "
            "that has."
        )
