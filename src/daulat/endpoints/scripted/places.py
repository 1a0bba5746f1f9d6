"""Which path is which vendor's, and what stands there.

Not here: a request's way (`app`), the vendors' words (`wires`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from daulat.endpoints.scripted.ask import Json
from daulat.endpoints.scripted.wires import Target, Wire, vectors
from daulat.endpoints.scripted.wires.anthropic import Messages
from daulat.endpoints.scripted.wires.gemini import Gemini
from daulat.endpoints.scripted.wires.openai import Chat, Text
from daulat.endpoints.scripted.wires.responses import Responses
from daulat.endpoints.scripted.wires.watsonx import Chat as WatsonxChat

# A path's pattern and what it is; groups are Target's fields.
_MODEL: Final = r"(?P<model>[^/:]+)"
_GOOGLE: Final = rf"/v1(?:beta|alpha)?/models/{_MODEL}:"
_VERTEX: Final = rf"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/publishers/google/models/{_MODEL}:"
_AZURE: Final = r"/openai/deployments/(?P<model>[^/]+)/"
PATHS: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"/v1/chat/completions", "chat"),
        (r"/v1/completions", "text"),
        (r"/v1/responses", "responses"),
        (r"/v1/embeddings", "embeddings"),
        (r"/v1/moderations", "moderations"),
        (r"/v1/models", "models"),
        (_AZURE + "chat/completions", "azure chat"),
        (_AZURE + "completions", "azure text"),
        (_AZURE + "embeddings", "azure embeddings"),
        (r"/openai/v1/chat/completions", "azure chat"),
        (r"/openai/v1/completions", "azure text"),
        (r"/openai/v1/responses", "azure responses"),
        (r"/openai/v1/embeddings", "azure embeddings"),
        (r"/openai/v1/models", "azure models"),
        (r"/v1/messages", "messages"),
        (r"/v1/messages/count_tokens", "count"),
        (_GOOGLE + "generateContent", "gemini"),
        (_GOOGLE + "streamGenerateContent", "gemini stream"),
        (_GOOGLE + "embedContent", "gemini embed"),
        (_GOOGLE + "batchEmbedContents", "gemini embeds"),
        (r"/v1beta/models", "gemini models"),
        (_VERTEX + "generateContent", "vertex"),
        (_VERTEX + "streamGenerateContent", "vertex stream"),
        (_VERTEX + "predict", "vertex embeddings"),
        (r"/ml/v1/text/chat", "watsonx"),
        (r"/ml/v1/text/chat_stream", "watsonx stream"),
        (r"/ml/v1/text/embeddings", "watsonx embeddings"),
        (r"/ml/v1/foundation_model_specs", "watsonx models"),
    )
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to: a protocol for keys, a wire for errors and answers, or something smaller."""

    protocol: str
    wire: Wire
    work: str = "answer"
    stream: bool = False
    embed: Callable[[Json, Target], vectors.Wanted] | None = None


def places() -> dict[str, Place]:
    """The places by the names in `PATHS`, with wires of their own."""
    chat, text, responses = Chat(), Text(), Responses()
    messages, watsonx = Messages(), WatsonxChat()
    gemini, vertex = Gemini(vertex=False), Gemini(vertex=True)
    found = {
        "messages": Place("anthropic", messages),
        "count": Place("anthropic", messages, "count"),
        "gemini": Place("gemini", gemini),
        "gemini stream": Place("gemini", gemini, stream=True),
        "gemini embed": Place("gemini", gemini, "embed", embed=vectors.gemini),
        "gemini embeds": Place("gemini", gemini, "embed", embed=vectors.gemini_batch),
        "gemini models": Place("gemini", gemini, "models"),
        "vertex": Place("vertex", vertex),
        "vertex stream": Place("vertex", vertex, stream=True),
        "vertex embeddings": Place("vertex", vertex, "embed", embed=vectors.vertex),
        "watsonx": Place("watsonx", watsonx),
        "watsonx stream": Place("watsonx", watsonx, stream=True),
        "watsonx embeddings": Place("watsonx", watsonx, "embed", embed=vectors.watsonx),
        "watsonx models": Place("watsonx", watsonx, "models"),
    }
    for azure in ("", "azure "):
        protocol = azure.strip() or "openai"
        found |= {
            f"{azure}chat": Place(protocol, chat),
            f"{azure}text": Place(protocol, text),
            f"{azure}responses": Place(protocol, responses),
            f"{azure}embeddings": Place(protocol, chat, "embed", embed=vectors.openai),
            f"{azure}models": Place(protocol, chat, "models"),
        }
    return found | {"moderations": Place("openai", chat, "moderate")}
