"""The kinds of endpoints that there are, and what makes each. A kind is imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from daulat.endpoints.remote.access import Access
from daulat.endpoints.remote.dialect import Dialect
from daulat.settings import Endpoint


@dataclass(frozen=True, slots=True)
class Made:
    """What a kind adds to an endpoint.

    Attributes:
        url: where its calls go, without a slash at the end.
        own_url: that is the vendor's own address, which nobody had to write down.
        headers: sent with every request.
    """

    dialect: Dialect
    url: str
    access: Access
    own_url: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Make(Protocol):
    """Makes one endpoint's parts from its table."""

    def __call__(self, name: str, table: Endpoint) -> Made:
        """Raises SettingsError: something that the kind needs is missing or wrong."""
        ...


KINDS: Final[Mapping[str, str]] = {
    "openai": "daulat.endpoints.remote.openai_kinds:made",
    "azure": "daulat.endpoints.remote.openai_kinds:made",
    "mistral": "daulat.endpoints.remote.openai_kinds:made",
    "compatible": "daulat.endpoints.remote.openai_kinds:made",
    "anthropic": "daulat.endpoints.remote.vendor_kinds:anthropic",
    "gemini": "daulat.endpoints.remote.vendor_kinds:gemini",
    "vertex": "daulat.endpoints.remote.vendor_kinds:vertex",
    "watsonx": "daulat.endpoints.remote.vendor_kinds:watsonx",
}
"""`module:function` by kind."""


def maker(kind: str) -> Make | None:
    """What makes endpoints of that kind; None: it is not one that this version knows."""
    place = KINDS.get(kind)
    if place is None:
        return None
    module, _colon, function = place.partition(":")
    return cast(Make, getattr(importlib.import_module(module), function))
