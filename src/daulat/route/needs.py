"""What a request needs of an endpoint: the capabilities without which a part of it would be dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from daulat.errors import UnsupportedFieldError
from daulat.values.plan import Capability, EndpointCard
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    ModerationRequest,
    Request,
    Sampling,
    Structure,
)

Needs = Mapping[Capability, str]
"""Capability to the field of the request that needs it."""

ANY_OBJECT = {"type": "object"}

_USUAL = Sampling()
_SAMPLING: tuple[tuple[str, Capability], ...] = (
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("presence_penalty", "penalties"),
    ("frequency_penalty", "penalties"),
    ("repetition_penalty", "repetition_penalty"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("logit_bias", "logit_bias"),
    ("logprobs", "logprobs"),
    ("ignore_eos", "ignore_eos"),
    ("n", "n"),
    ("probe", "probe"),
)


def needs(request: Request) -> Needs:
    """Every capability that the request needs, with the first field that needs it."""
    found: dict[Capability, str] = {}
    for capability, param in _all(request):
        found.setdefault(capability, param)
    return found


def able(request: Request, cards: Sequence[EndpointCard]) -> tuple[EndpointCard, ...]:
    """The endpoints that can honour all of the request, in the order given.

    Raises:
        UnsupportedFieldError: none can; it names the field that is in the way.
    """
    needed = needs(request)
    good = tuple(card for card in cards if needed.keys() <= card.capabilities)
    if good or not cards:
        return good
    raise _unable(needed, cards)


def _unable(needed: Needs, cards: Sequence[EndpointCard]) -> UnsupportedFieldError:
    offered = {capability for card in cards for capability in card.capabilities}
    missing = [(c, param) for c, param in needed.items() if c not in offered]
    mine = [(c, param) for c, param in needed.items() if c not in cards[0].capabilities]
    capability, param = (missing or mine)[0]
    names = ", ".join(dict.fromkeys(card.name for card in cards))
    if param == "model":
        return UnsupportedFieldError(
            f"What answers here ({names}) has no {capability}: name a model of an endpoint that has "
            "(`daulat endpoints list`).",
            param=param,
        )
    return UnsupportedFieldError(
        f"`{param}` cannot be honoured by what answers here ({names}). Leave it out, or name a model of "
        "an endpoint that can (docs/connect.md).",
        param=param,
    )


def _all(request: Request) -> Iterator[tuple[Capability, str]]:
    match request:
        case ChatRequest():
            yield "chat", "model"
            yield from _chat(request)
            yield from _generation(request)
        case CompletionRequest():
            yield "completions", "model"
            if request.echo:
                yield "echo", "echo"
            if any(not isinstance(prompt, str) for prompt in request.prompts):
                yield "tokens", "prompt"
            yield from _generation(request)
        case EmbeddingRequest():
            yield "embeddings", "model"
            if any(not isinstance(text, str) for text in request.inputs):
                yield "tokens", "input"
            if request.dimensions is not None:
                yield "dimensions", "dimensions"
        case ModerationRequest():
            yield "moderations", "model"


def _chat(request: ChatRequest) -> Iterator[tuple[Capability, str]]:
    if request.tools is not None or any(m.tool_calls for m in request.messages):
        yield "tools", "tools"
    for i, message in enumerate(request.messages):
        for part in message.parts:
            if isinstance(part, Image):
                yield "images", part.param or f"messages[{i}].content"


def _generation(request: GenerationRequest) -> Iterator[tuple[Capability, str]]:
    for name, capability in _SAMPLING:
        if getattr(request.sampling, name) != getattr(_USUAL, name):
            yield capability, name
    if request.structure is not None:
        yield _structure(request.structure), request.structure.param


def _structure(structure: Structure) -> Capability:
    if structure.kind != "json":
        return "grammar"
    return "json" if structure.source == ANY_OBJECT and not structure.name else "json_schema"
