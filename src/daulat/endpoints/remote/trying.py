"""One tiny real call, to see that an endpoint works: how long it took, what it cost, what went wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from daulat.endpoints.remote.upstream import RemoteEndpoint
from daulat.errors import DaulatError, UpstreamAnswerError, UpstreamTimeoutError
from daulat.values.answer import Done, Embeddings, Timings, Usage
from daulat.values.plan import Caller, Offer, Step
from daulat.values.request import ChatRequest, EmbeddingRequest, Message, Sampling

SECONDS: Final = 60.0
MAX_LISTED: Final = 10_000
_CALLER: Final = Caller("terminal", "terminal")
_ANSWER: Final = 16
"""Tokens: enough for a word, and the least that some vendors take."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Attributes:
    cost: an amount; None: nobody said what the model costs, or the endpoint not how much it was.
    error: what went wrong; None: nothing.
    """

    model: str
    timings: Timings | None = None
    usage: Usage | None = None
    cost: int | None = None
    error: DaulatError | None = None


async def tried(endpoint: RemoteEndpoint, model: str) -> Trial:
    """Ask for one word, or for the vector of one, where the model's name says that it makes vectors."""
    offer = endpoint.card.offers[model]
    step = Step(
        endpoint.card.name,
        endpoint.card.place,
        endpoint.card.owner,
        model,
        "",
        upstream=offer.upstream,
    )
    try:
        async with asyncio.timeout(SECONDS):
            done = await _asked(endpoint, step, offer)
    except TimeoutError:
        late = UpstreamTimeoutError(f"{model} did not answer within {SECONDS:g} seconds.")
        return Trial(model, error=late)
    except DaulatError as error:
        return Trial(model, error=error)
    known = offer.price is not None and not done.usage.counted
    cost = offer.price.cost(done.usage) if known and offer.price else None
    return Trial(model, done.timings, done.usage, cost)


async def _asked(endpoint: RemoteEndpoint, step: Step, offer: Offer) -> Done | Embeddings:
    able = endpoint.card.capabilities
    if "chat" not in able or ("embeddings" in able and "embed" in offer.upstream.lower()):
        return await endpoint.embed(EmbeddingRequest(step.model, ("ping",)), step)
    request = ChatRequest(
        step.model, (Message("user", "Say: pong."),), Sampling(max_tokens=_ANSWER), stream=True
    )
    async for heard in endpoint.generate(request, step, _CALLER):
        if isinstance(heard, Done):
            return heard
    raise UpstreamAnswerError("The answer has no end.", billable=True)


async def listed(endpoint: RemoteEndpoint) -> list[str]:
    """The models that an endpoint says it has, by its own names.

    Raises:
        UpstreamError: it did not answer, or has no such list.
    """
    async with asyncio.timeout(SECONDS):
        body = await endpoint.models()
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    known = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    for group, key in (("data", "id"), ("models", "name")):
        entries = known.get(group)
        if isinstance(entries, list):
            rows = cast("list[Any]", entries)[:MAX_LISTED]
            found = [cast("dict[str, Any]", one).get(key) for one in rows if isinstance(one, dict)]
            return sorted(one for one in found if isinstance(one, str))
    raise UpstreamAnswerError(
        f"The endpoint {endpoint.card.name} has no list of models. Its vendor's documentation names them."
    )
