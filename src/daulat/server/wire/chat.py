"""`POST /v1/chat/completions`: its request, its answer, its chunks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import (
    Count,
    Generation,
    Incoming,
    Label,
    Nothing,
    Origin,
    Outgoing,
    UsageBody,
)
from daulat.values.answer import TokenLogprob
from daulat.values.request import ChatRequest, Message


class TextPart(Incoming, frozen=True, kw_only=True):
    type: Literal["text"]
    text: str


class ChatMessage(Incoming, frozen=True, kw_only=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Meta(max_length=1024)]
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    tool_calls: Nothing | None = None
    tool_call_id: None = None
    function_call: None = None
    audio: None = None
    refusal: None = None
    annotations: Nothing | None = None

    def to_message(self) -> Message:
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        return Message(role=self.role, content=content, name=self.name)


class TextFormat(Incoming, frozen=True, kw_only=True):
    type: Literal["text"]


class ChatCompletionRequest(Generation, frozen=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    # harmless, see `fields.HARMLESS`
    store: bool | None = None
    metadata: Annotated[dict[str, Label], Meta(max_length=16)] | None = None
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prediction: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Label | None = None
    verbosity: Label | None = None
    # refused but for these values, see `fields.REFUSED`
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    response_format: TextFormat | None = None
    modalities: Annotated[list[Literal["text"]], Meta(max_length=1)] | None = None
    audio: None = None
    web_search_options: None = None

    def to_request(self) -> ChatRequest:
        """Raises RequestError: two fields contradict each other."""
        return ChatRequest(
            model=self.model,
            messages=tuple(message.to_message() for message in self.messages),
            sampling=self.sampling(max_tokens=self._max_tokens(), logprobs=self._logprobs()),
            user=self.user,
        )

    def _max_tokens(self) -> int | None:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            message = (
                f"`max_tokens` is {old} and `max_completion_tokens` is {new}: send one of them."
            )
            raise RequestError(message, param="max_tokens")
        return old if new is None else new

    def _logprobs(self) -> int | None:
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs is not None:
            message = "`top_logprobs` needs `logprobs`: set that to true."
            raise RequestError(message, param="top_logprobs")
        return None


class TopLogprob(Outgoing, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob, frozen=True, kw_only=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Outgoing, frozen=True, kw_only=True):
    content: list[ChatTokenLogprob]
    refusal: None = None


class AssistantMessage(Outgoing, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Outgoing, frozen=True, kw_only=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    system_fingerprint: str
    daulat: Origin


class Delta(Outgoing, omit_defaults=True, frozen=True, kw_only=True):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(Outgoing, frozen=True, kw_only=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatCompletionChunk(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    daulat: Origin | msgspec.UnsetType = msgspec.UNSET


def chat_logprobs(tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                token=token.text,
                logprob=token.logprob,
                bytes=list(token.data),
                top_logprobs=[
                    TopLogprob(token=top.text, logprob=top.logprob, bytes=list(top.data))
                    for top in token.top
                ],
            )
            for token in tokens
        ]
    )
