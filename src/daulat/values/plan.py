"""Who asks, where an answer may be computed, and the order in which endpoints are tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Owner = Literal["open", "closed"]

THIS_MACHINE = "this-machine"


@dataclass(frozen=True, slots=True)
class Caller:
    """A known key. `id` names it everywhere; the key itself is never kept."""

    id: str
    name: str
    models: tuple[str, ...] = ()
    """Models that the key may use; empty: all. `base:adapter` is an adapter, `base:*` all of a base's."""


@dataclass(frozen=True, slots=True)
class EndpointCard:
    """What is known of an endpoint without asking it. `place` is where the data goes."""

    name: str
    place: str
    owner: Owner
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One endpoint to try, with the model to ask it for and that model's digest.

    Attributes:
        adapter, adapter_digest: what changes the model for this answer; empty: nothing.
    """

    endpoint: str
    place: str
    owner: Owner
    model: str
    model_digest: str
    adapter: str = ""
    adapter_digest: str = ""

    @property
    def model_id(self) -> str:
        """What the answer is of, as a request names it."""
        return f"{self.model}:{self.adapter}" if self.adapter else self.model


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and why: the first that answers is the answer."""

    steps: tuple[Step, ...]
    reason: str
