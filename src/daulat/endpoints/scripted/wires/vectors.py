"""Embeddings, moderations and lists of models, as each vendor words them.

A vector is a deterministic unit vector of its text. Not here: answers (the other wires).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from daulat.endpoints.scripted.ask import Ask, Fields, Json, TroubleError, names
from daulat.endpoints.scripted.wires import Target, encode
from daulat.endpoints.scripted.wires.gemini import fields, hear_content
from daulat.endpoints.scripted.wires.watsonx import checked
from daulat.values.tokens import counted

_MOST: Final = 2048
_OPENAI: Final = names("model input dimensions encoding_format user")
_WATSONX: Final = names("model_id inputs project_id space_id parameters crypto")
_GEMINI: Final = names("content taskType title outputDimensionality model embedContentConfig")
_CATEGORIES: Final = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to turn into vectors; `body` makes the vendor's answer of the tokens that are told."""

    model: str
    tokens: int
    body: Callable[[int | None], bytes]


@functools.lru_cache(maxsize=4096)
def vector(text: str, dimensions: int) -> tuple[float, ...]:
    """A unit vector that depends on the text alone."""
    raw = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    numbers = [byte - 127.5 for byte in raw]
    length = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


def _told(told: int | None, value: Any) -> Json:
    return {} if told is None else {"usage": value}


def openai(body: Json, target: Target) -> Wanted:
    """`POST /v1/embeddings`."""
    top = Fields(body, "", target.allowed(_OPENAI))
    model = target.model or top.text("model")
    dimensions = top.number("dimensions", 1, 4096) or target.dimensions
    style = top.text("encoding_format", "float")
    if style not in ("float", "base64"):
        raise TroubleError("invalid", "Invalid value for 'encoding_format'.", "encoding_format")
    given = body.get("input")
    texts = _texts(top, "input") if not _is_tokens(given) else (encode(given).decode(),)

    def make(tokens: int | None) -> bytes:
        found = [
            {"object": "embedding", "index": index, "embedding": _styled(text, dimensions, style)}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return encode({"object": "list", "data": found, "model": model, **_told(tokens, usage)})

    count = len(given) if _is_tokens(given) and given else sum(map(counted, texts))
    return Wanted(model, count, make)


def _is_tokens(given: object) -> bool:
    return isinstance(given, list) and bool(given) and isinstance(given[0], int)  # pyright: ignore[reportUnknownArgumentType]


def _texts(top: Fields, name: str) -> tuple[str, ...]:
    found = top.texts(name, _MOST)
    if not found or "" in found:
        raise TroubleError("invalid", f"'{name}' must be texts that are not empty.", name)
    return found


def _styled(text: str, dimensions: int, style: str) -> Any:
    numbers = vector(text, dimensions)
    if style == "float":
        return numbers
    return base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode()


def watsonx(body: Json, target: Target) -> Wanted:
    """`POST /ml/v1/text/embeddings`."""
    top = Fields(body, "", target.allowed(_WATSONX))
    checked(top, target)
    model = top.text("model_id")
    texts = _texts(top, "inputs")
    tokens = sum(map(counted, texts))

    def make(told: int | None) -> bytes:
        results = [{"embedding": vector(text, target.dimensions), "input": text} for text in texts]
        head = {"model_id": model, "created_at": "2026-01-01T00:00:00.000Z", "results": results}
        return encode(head if told is None else {**head, "input_token_count": told})

    return Wanted(model, tokens, make)


def gemini(body: Json, target: Target) -> Wanted:
    """`:embedContent`: one vector, and no usage."""
    text, dimensions = _content(body, target, "")
    values = {"embedding": {"values": vector(text, dimensions)}}
    return Wanted(target.model, counted(text), _constant(values))


def gemini_batch(body: Json, target: Target) -> Wanted:
    """`:batchEmbedContents`: the vectors in order, and no usage."""
    top = fields(body, "", target.allowed(frozenset({"requests", "model"})))
    items = top.items("requests", required=True)
    found = [_content(item, target, f"requests[{at}]") for at, item in enumerate(items)]
    values = {"embeddings": [{"values": vector(text, size)} for text, size in found]}
    tokens = sum(counted(text) for text, _size in found)
    return Wanted(target.model, tokens, _constant(values))


def _content(body: object, target: Target, what: str) -> tuple[str, int]:
    top = fields(body, what, target.allowed(_GEMINI))
    ask = Ask(target.model)
    hear_content(ask, fields(top.body.get("content"), f"{what}content"))
    config = fields(top.body.get("embedContentConfig") or {}, "config")
    size = top.number("outputDimensionality", 1, 4096)
    size = size or config.number("outputDimensionality", 1, 4096) or target.dimensions
    return "".join(ask.texts), size


def _constant(values: Json) -> Callable[[int | None], bytes]:
    return lambda _told: encode(values)


def vertex(body: Json, target: Target) -> Wanted:
    """Vertex AI's `:predict` for text embeddings: token counts stand beside each vector."""
    top = Fields(body, "", target.allowed(frozenset({"instances", "parameters"})))
    parameters = fields(body.get("parameters") or {}, "parameters")
    size = parameters.number("outputDimensionality", 1, 4096) or target.dimensions
    items = top.items("instances", required=True)
    texts = [Fields(item, f"instances[{at}]").text("content") for at, item in enumerate(items)]
    tokens = sum(map(counted, texts))

    def make(told: int | None) -> bytes:
        found: list[Json] = []
        for text in texts:
            statistics = {
                "truncated": False,
                "token_count": counted(text) if told == tokens else told,
            }
            one: Json = {"values": vector(text, size)}
            found.append({"embeddings": one if told is None else one | {"statistics": statistics}})
        return encode(
            {"predictions": found, "metadata": {"billableCharacterCount": sum(map(len, texts))}}
        )

    return Wanted(target.model, tokens, make)


def moderation(body: Json, target: Target) -> bytes:
    """`POST /v1/moderations`: whatever holds the word `forbidden` is flagged as hate; it costs nothing."""
    top = Fields(body, "", target.allowed(frozenset({"input", "model"})))
    texts = _moderated(top)
    results = [_verdict("forbidden" in text.lower()) for text in texts]
    model = top.text("model", "omni-moderation-latest")
    return encode({"id": "modr-scripted", "model": model, "results": results})


def _moderated(top: Fields) -> tuple[str, ...]:
    given = top.body.get("input")
    if isinstance(given, str):
        return (given,)
    items = top.items("input", required=True)
    if all(isinstance(item, str) for item in items):
        return tuple(items)
    parts = [Fields(item, f"input[{at}]") for at, item in enumerate(items)]
    return ("".join(part.text("text", "") for part in parts),)


def _verdict(flagged: bool) -> Json:
    hit = {name: flagged and name == "hate" for name in _CATEGORIES}
    return {
        "flagged": flagged,
        "categories": hit,
        "category_scores": {name: 0.99 if wrong else 0.001 for name, wrong in hit.items()},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


_NAME: Final = "scripted"
MODELS: Final[dict[str, Json]] = {
    "openai": {
        "object": "list",
        "data": [{"id": _NAME, "object": "model", "created": 1767225600, "owned_by": _NAME}],
    },
    "anthropic": {
        "data": [
            {
                "type": "model",
                "id": _NAME,
                "display_name": "Scripted",
                "created_at": "2026-01-01T00:00:00Z",
            }
        ],
        "has_more": False,
        "first_id": _NAME,
        "last_id": _NAME,
    },
    "gemini": {
        "models": [
            {
                "name": f"models/{_NAME}",
                "version": "1",
                "displayName": "Scripted",
                "inputTokenLimit": 1_000_000,
                "outputTokenLimit": 1_000_000,
                "supportedGenerationMethods": ["generateContent", "embedContent"],
            }
        ]
    },
    "watsonx": {
        "total_count": 1,
        "limit": 100,
        "first": {"href": "/ml/v1/foundation_model_specs"},
        "resources": [{"model_id": _NAME, "label": _NAME, "provider": "Daulat"}],
    },
}
