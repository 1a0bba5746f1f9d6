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
    """Models that the key may use; empty: all."""


@dataclass(frozen=True, slots=True)
class EndpointCard:
    """What is known of an endpoint without asking it. `place` is where the data goes."""

    name: str
    place: str
    owner: Owner
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One endpoint to try, with the model to ask it for and that model's digest."""

    endpoint: str
    place: str
    owner: Owner
    model: str
    model_digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and why: the first that answers is the answer."""

    steps: tuple[Step, ...]
    reason: str
