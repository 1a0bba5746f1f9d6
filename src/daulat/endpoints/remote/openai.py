"""OpenAI's protocol: chat, completions, vectors, judgements, at OpenAI and at all who speak it.

https://platform.openai.com/docs/api-reference. What servers do differently is in `profiles`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from daulat.endpoints.remote.dialect import Call, Reader
from daulat.endpoints.remote.openai_answers import OpenAiReader, usage_of
from daulat.endpoints.remote.openai_bodies import chat_body, text_body, vectors_body
from daulat.endpoints.remote.profiles import Profile
from daulat.endpoints.remote.terms import bad, body, by_status, read, waiting
from daulat.errors import UpstreamAccessError, UpstreamError
from daulat.values.answer import Embeddings, Heard, Moderations, Timings, Usage
from daulat.values.plan import Capability, Offer
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    ModerationRequest,
)

MAX_DIMENSIONS: Final = 1 << 17
_JSON: Final = {"content-type": "application/json"}


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: Any = None


class _Judged(msgspec.Struct):
    results: list[dict[str, Any]]
    model: str = ""


class _Error(msgspec.Struct):
    """OpenAI's `error`, Mistral's and vLLM's `message`, FastAPI's `detail`."""

    error: Any = None
    message: Any = None
    detail: Any = None
    code: Any = None


_VECTORS: Final = msgspec.json.Decoder(_Vectors)
_JUDGED: Final = msgspec.json.Decoder(_Judged)
_ERROR: Final = msgspec.json.Decoder(_Error)


class OpenAiDialect:
    """One profile's way.

    Args:
        version: `api-version`, where models are asked for in the path (Azure).
    """

    def __init__(self, profile: Profile, version: str = "") -> None:
        self._profile = profile
        self._version = version if profile.deployments else ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The profile's."""
        return self._profile.capabilities

    def generate(self, request: GenerationRequest, offer: Offer) -> Call:
        """A chat or a completion."""
        if isinstance(request, ChatRequest):
            return self._call("/chat/completions", offer, chat_body(request, offer, self._profile))
        return self._call("/completions", offer, text_body(request, offer, self._profile))

    def reader(self, request: GenerationRequest) -> Reader:
        """For the streamed answer to that request."""
        return OpenAiReader(request, self._profile)

    def whole(self, request: GenerationRequest, body: bytes) -> Iterable[Heard]:
        """An answer in one piece."""
        return OpenAiReader(request, self._profile).whole(body)

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        """Vectors."""
        return self._call("/embeddings", offer, vectors_body(request, offer, self._profile))

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        """One for each input, in the inputs' order.

        Raises:
            UpstreamAnswerError: others than were asked for, or of numbers that are none.
        """
        answer = read(_VECTORS, body, self._profile.label)
        count = len(request.inputs)
        places = [at if one.index is None else one.index for at, one in enumerate(answer.data)]
        if sorted(places) != list(range(count)):
            raise bad(self._profile.label, f"it did not answer with {count} vectors")
        placed = {at: one.embedding for at, one in zip(places, answer.data, strict=True)}
        vectors = tuple(tuple(placed[at]) for at in range(count))
        if not _sound(vectors, request.dimensions):
            raise bad(self._profile.label, "its vectors are not of one length, or not of numbers")
        usage = usage_of(answer.usage) or Usage(0, 0, counted=True)
        return Embeddings(vectors, usage, Timings(0, 0, 0))

    def moderate(self, request: ModerationRequest, offer: Offer) -> Call:
        """Judgements."""
        asked = {"model": offer.upstream, "input": list(request.inputs)}
        return self._call("/moderations", offer, asked)

    def moderations(self, request: ModerationRequest, body: bytes) -> Moderations:
        """One for each text.

        Raises:
            UpstreamAnswerError: others than were asked for.
        """
        answer = read(_JUDGED, body, self._profile.label)
        if len(answer.results) != len(request.inputs):
            raise bad(self._profile.label, f"it did not judge {len(request.inputs)} texts")
        return Moderations(tuple(answer.results), answer.model[:256])

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What a status other than 2xx means."""
        code, words = _told(body)
        if status == 429 and code == "insufficient_quota":
            return UpstreamAccessError(
                f"{self._profile.label} says that the account of its key has no credit left. "
                "Add credit there, or ask another model."
            )
        return by_status(status, self._profile.label, words, waiting(headers))

    def _call(self, path: str, offer: Offer, asked: Mapping[str, Any]) -> Call:
        if self._version:
            version = quote(self._version, safe="")
            path = f"/deployments/{quote(offer.upstream, safe='')}{path}?api-version={version}"
        return Call(path, body(asked), _JSON)


def _sound(vectors: tuple[tuple[float, ...], ...], dimensions: int | None) -> bool:
    length = dimensions or (len(vectors[0]) if vectors else 0)
    return 0 < length <= MAX_DIMENSIONS and all(
        len(vector) == length and all(map(math.isfinite, vector)) for vector in vectors
    )


def _told(body: bytes) -> tuple[str, str]:
    """The code and the words of an error, where it has the form of one."""
    try:
        answer = _ERROR.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    match answer.error:
        case {"message": str(words), **rest}:
            return str(rest.get("code") or ""), words
        case str(words):
            return "", words
        case _:
            words = answer.message or answer.detail or ""
            return str(answer.code or ""), words if isinstance(words, str) else str(words)
