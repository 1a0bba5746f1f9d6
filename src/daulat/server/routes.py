"""Every route, as one table.

The application, the OpenAPI description and the test that walks all routes without a key are made
from it; nothing answers that is not here, but for the console's pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from daulat.server import handlers
from daulat.server.calls import Call
from daulat.server.wire.answers import Health, Model, ModelList
from daulat.server.wire.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from daulat.server.wire.common import Incoming, Outgoing
from daulat.server.wire.completions import Completion, CompletionBody
from daulat.server.wire.embeddings import EmbeddingBody, EmbeddingList

Handler = Callable[[Call], Awaitable[Response | None]]

READING = (403, 503)
ASKING = (400, 403, 404, 413, 415, 429, 500, 503)


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        request: the body that it takes; None: none.
        response: the JSON that it gives; None: what `media` says.
        chunk: one event of the stream that it gives where the request asks for one.
        statuses: besides 200 and, where it is guarded, 401.
        guarded: asks for a key. False only for what tells nothing about models, requests or people.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    summary: str
    response: type[Outgoing] | None = None
    request: type[Incoming] | None = None
    chunk: type[Outgoing] | None = None
    statuses: tuple[int, ...] = READING
    media: str = "application/json"
    guarded: bool = True


DESCRIPTION = "/openapi.json"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", handlers.health, "Whether the server is up", Health, guarded=False),
    Route("GET", DESCRIPTION, handlers.description, "This description", guarded=False),
    Route("GET", "/metrics", handlers.metrics, "Prometheus metrics", media="text/plain"),
    Route("GET", "/v1/models", handlers.models, "The models that the key may use", ModelList),
    Route(
        "GET",
        "/v1/models/{model}",
        handlers.model,
        "One model",
        Model,
        statuses=(403, 404, 503),
    ),
    Route(
        "POST",
        "/v1/chat/completions",
        handlers.chat_completions,
        "Continue a conversation",
        ChatCompletion,
        request=ChatCompletionRequest,
        chunk=ChatCompletionChunk,
        statuses=ASKING,
    ),
    Route(
        "POST",
        "/v1/completions",
        handlers.completions,
        "Continue texts as they stand",
        Completion,
        request=CompletionBody,
        chunk=Completion,
        statuses=ASKING,
    ),
    Route(
        "POST",
        "/v1/embeddings",
        handlers.embeddings,
        "Turn texts into vectors",
        EmbeddingList,
        request=EmbeddingBody,
        statuses=ASKING,
    ),
)
