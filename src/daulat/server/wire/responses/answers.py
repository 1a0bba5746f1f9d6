"""The answers of OpenAI's responses: the whole response, and the typed events of a stream."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from daulat.server.wire.chat import ChatTokenLogprob
from daulat.server.wire.common import Origin, Outgoing
from daulat.values.answer import Usage

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    text: str
    annotations: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    logprobs: list[ChatTokenLogprob] = msgspec.field(default_factory=list[ChatTokenLogprob])


class OutputRefusal(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    refusal: str


class OutputThought(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"):
    text: str


class OutputMessage(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    status: ItemStatus
    content: list[OutputText | OutputRefusal]


class OutputCall(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class OutputReasoning(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thought, as it thought it."""

    id: str
    status: ItemStatus
    summary: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    content: list[OutputThought]


OutputItem = OutputMessage | OutputCall | OutputReasoning
OutputPart = OutputText | OutputRefusal | OutputThought


class CachedTokens(Outgoing, frozen=True, kw_only=True):
    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(Outgoing, frozen=True, kw_only=True):
    reasoning_tokens: int


class ResponseUsage(Outgoing, frozen=True, kw_only=True):
    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseFault(Outgoing, frozen=True, kw_only=True):
    code: str
    message: str


class Incomplete(Outgoing, frozen=True, kw_only=True):
    reason: Literal["max_output_tokens", "content_filter"]


class Echo(Outgoing, frozen=True, kw_only=True):
    """What a response repeats of its request; the record keeps it for those who ask again."""

    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, Any]
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    user: str | None
    background: bool = False
    truncation: Literal["disabled"] = "disabled"


class ResponseBody(Echo, frozen=True, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["completed", "incomplete", "failed", "in_progress", "cancelled"]
    error: ResponseFault | None = None
    incomplete_details: Incomplete | None = None
    model: str
    output: list[OutputMessage | OutputCall | OutputReasoning]
    usage: ResponseUsage | None = None
    daulat: Origin | msgspec.UnsetType = msgspec.UNSET


class DeletedResponse(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class _Event(Outgoing, frozen=True, kw_only=True):
    """`sequence_number` counts a stream's events from 0."""

    type: str
    sequence_number: int


class ResponseEvent(_Event, frozen=True, kw_only=True):
    """`response.created`, `.in_progress`, `.completed`, `.incomplete`, `.failed`."""

    response: ResponseBody


class ItemEvent(_Event, frozen=True, kw_only=True):
    """`response.output_item.added`, `.done`."""

    output_index: int
    item: OutputMessage | OutputCall | OutputReasoning


class _ItemPart(_Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class PartEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.content_part.added`, `.done`."""

    content_index: int
    part: OutputText | OutputRefusal | OutputThought


class DeltaEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.output_text.delta`, `.refusal.delta`, `.reasoning_text.delta`."""

    content_index: int
    delta: str
    logprobs: list[ChatTokenLogprob] | msgspec.UnsetType = msgspec.UNSET


class TextDoneEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.output_text.done`, `.reasoning_text.done`."""

    content_index: int
    text: str
    logprobs: list[ChatTokenLogprob] | msgspec.UnsetType = msgspec.UNSET


class RefusalDoneEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.refusal.done`."""

    content_index: int
    refusal: str


class ArgumentsDeltaEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.function_call_arguments.delta`."""

    delta: str


class ArgumentsDoneEvent(_ItemPart, frozen=True, kw_only=True):
    """`response.function_call_arguments.done`."""

    name: str
    arguments: str


class ErrorEvent(_Event, frozen=True, kw_only=True):
    """`error`; `response.failed` follows."""

    code: str
    message: str
    param: str | None


EVENTS: tuple[type[Outgoing], ...] = (
    ResponseEvent,
    ItemEvent,
    PartEvent,
    DeltaEvent,
    TextDoneEvent,
    RefusalDoneEvent,
    ArgumentsDeltaEvent,
    ArgumentsDoneEvent,
    ErrorEvent,
)


def response_usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=CachedTokens(
            cached_tokens=usage.cached_tokens, cache_write_tokens=usage.cache_write_tokens
        ),
        output_tokens=usage.completion_tokens,
        output_tokens_details=ReasoningTokens(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )
