"""Every route, as one table.

The application, the OpenAPI description and the test that walks all routes without a key are made
from it; nothing answers that is not here, but for the console's pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from daulat.server import asking, handlers, labelling, spending, stored
from daulat.server.calls import Call
from daulat.server.errors import OVERLOADED
from daulat.server.wire.answers import Health, Model, ModelList
from daulat.server.wire.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionRequest
from daulat.server.wire.common import Incoming, Outgoing
from daulat.server.wire.completions import Completion, CompletionBody
from daulat.server.wire.embeddings import EmbeddingBody, EmbeddingList
from daulat.server.wire.labels import LabelBody, LabelState, LabelTasks
from daulat.server.wire.messages import answers as messages
from daulat.server.wire.messages.requests import CountBody, MessagesBody
from daulat.server.wire.moderations import Judgement, ModerationBody
from daulat.server.wire.responses import answers as responses
from daulat.server.wire.responses.requests import ResponsesBody
from daulat.server.wire.spend import SpendReport

Handler = Callable[[Call], Awaitable[Response | None]]

READING = (403, 503)
ASKING = (400, 403, 404, 413, 415, 429, 500, 502, 503, 504)
ASKING_ANTHROPIC = (400, 403, 404, 413, 415, 429, 500, 502, 503, 504, OVERLOADED)


Scope = Literal["", "ask", "metrics", "admin"]


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter behind the `?`; all are optional."""

    name: str
    description: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        request: the body that it takes; None: none.
        response: the JSON that it gives; None: what `media` says.
        chunks: the events of the stream that it gives where the request asks for one.
        statuses: besides 200 and, where it is guarded, 401.
        guarded: asks for a key. False only for what tells nothing about models, requests or people.
        scope: what its key must have been made for; empty: any key will do.
        query: what may stand behind the `?`.
        anthropic: speaks Anthropic's dialect: its errors, its headers.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    response: type[Outgoing] | None = None
    request: type[Incoming] | None = None
    chunks: tuple[type[Outgoing], ...] = ()
    statuses: tuple[int, ...] = READING
    media: str = "application/json"
    guarded: bool = True
    scope: Scope = ""
    query: tuple[Query, ...] = ()
    anthropic: bool = False


DESCRIPTION = "/openapi.json"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", handlers.health, "Whether the server is up", Health, guarded=False),
    Route("GET", DESCRIPTION, handlers.description, "This description", guarded=False),
    Route(
        "GET",
        "/metrics",
        handlers.metrics,
        "Prometheus metrics",
        media="text/plain",
        scope="metrics",
    ),
    Route(
        "GET",
        "/admin/spend",
        spending.spend,
        "What was used and what it cost",
        SpendReport,
        statuses=(400, 403, 503),
        scope="admin",
        query=(
            Query("since", "First day (UTC); without it: the month's first.", spending.DAY),
            Query("until", "Last day (UTC); without it: today.", spending.DAY),
            Query("by", "What is told apart, with commas between.", spending.BY),
        ),
    ),
    Route(
        "GET",
        "/admin/labels",
        labelling.tasks,
        "The tasks whose answers can be labelled",
        LabelTasks,
        scope="admin",
    ),
    Route(
        "POST",
        "/admin/labels/{task}",
        labelling.label,
        "Label an answer, and see the next",
        LabelState,
        request=LabelBody,
        statuses=(400, 403, 404, 413, 415, 503),
        scope="admin",
    ),
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
        asking.chat_completions,
        "Continue a conversation",
        ChatCompletion,
        request=ChatCompletionRequest,
        chunks=(ChatCompletionChunk,),
        statuses=ASKING,
        scope="ask",
    ),
    Route(
        "POST",
        "/v1/completions",
        asking.completions,
        "Continue texts as they stand",
        Completion,
        request=CompletionBody,
        chunks=(Completion,),
        statuses=ASKING,
        scope="ask",
    ),
    Route(
        "POST",
        "/v1/embeddings",
        asking.embeddings,
        "Turn texts into vectors",
        EmbeddingList,
        request=EmbeddingBody,
        statuses=ASKING,
        scope="ask",
    ),
    Route(
        "POST",
        "/v1/moderations",
        asking.moderations,
        "Judge texts, where an endpoint has that",
        Judgement,
        request=ModerationBody,
        statuses=ASKING,
        scope="ask",
    ),
    Route(
        "POST",
        "/v1/responses",
        asking.responses,
        "Continue a conversation that is kept here",
        responses.ResponseBody,
        request=ResponsesBody,
        chunks=responses.EVENTS,
        statuses=ASKING,
        scope="ask",
    ),
    Route(
        "GET",
        "/v1/responses/{response_id}",
        stored.retrieve,
        "A response that was given before",
        responses.ResponseBody,
        statuses=(400, 403, 404, 503),
        scope="ask",
    ),
    Route(
        "DELETE",
        "/v1/responses/{response_id}",
        stored.delete,
        "Remove a response's contents",
        responses.DeletedResponse,
        statuses=(400, 403, 404, 503),
        scope="ask",
    ),
    Route(
        "POST",
        "/v1/messages",
        asking.messages,
        "Continue a conversation, in Anthropic's dialect",
        messages.AnsweredMessage,
        request=MessagesBody,
        chunks=messages.EVENTS,
        statuses=ASKING_ANTHROPIC,
        scope="ask",
        anthropic=True,
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        asking.count_tokens,
        "How many tokens a conversation has",
        messages.TokenCount,
        request=CountBody,
        statuses=ASKING_ANTHROPIC,
        scope="ask",
        anthropic=True,
    ),
)
