"""The answers of Anthropic's messages: the whole message, and the events of a stream."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from daulat.server.wire.common import Origin, Outgoing
from daulat.values.answer import FinishReason, Usage

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]

STOP_REASONS: dict[FinishReason, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class TextContent(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class ThinkingContent(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought. Nobody signs it here: `signature` is empty."""

    thinking: str
    signature: str = ""


class ToolUseContent(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Content = TextContent | ThinkingContent | ToolUseContent


class ThoughtTokens(Outgoing, frozen=True, kw_only=True):
    thinking_tokens: int


class MessageUsage(Outgoing, frozen=True, kw_only=True):
    """`input_tokens` are those that were neither read from a cache nor written to one."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens_details: ThoughtTokens


class AnsweredMessage(Outgoing, frozen=True, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[TextContent | ThinkingContent | ToolUseContent]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    daulat: Origin | msgspec.UnsetType = msgspec.UNSET


class TokenCount(Outgoing, frozen=True, kw_only=True):
    """The header `daulat-counted` says `estimate` where it is one."""

    input_tokens: int


class MessageStart(Outgoing, frozen=True, kw_only=True):
    """The counts are not known yet: they come with `message_delta`."""

    type: Literal["message_start"] = "message_start"
    message: AnsweredMessage


class Ping(Outgoing, frozen=True, kw_only=True):
    type: Literal["ping"] = "ping"


class BlockStart(Outgoing, frozen=True, kw_only=True):
    type: Literal["content_block_start"] = "content_block_start"
    index: int
    content_block: TextContent | ThinkingContent | ToolUseContent


class TextDelta(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class InputDelta(Outgoing, frozen=True, kw_only=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(Outgoing, frozen=True, kw_only=True):
    type: Literal["content_block_delta"] = "content_block_delta"
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(Outgoing, frozen=True, kw_only=True):
    type: Literal["content_block_stop"] = "content_block_stop"
    index: int


class Ending(Outgoing, frozen=True, kw_only=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Outgoing, frozen=True, kw_only=True):
    type: Literal["message_delta"] = "message_delta"
    delta: Ending
    usage: MessageUsage
    daulat: Origin


class MessageStop(Outgoing, frozen=True, kw_only=True):
    type: Literal["message_stop"] = "message_stop"


class ErrorCause(Outgoing, frozen=True, kw_only=True):
    """What Anthropic's SDK goes by where it can do without a field that is refused."""

    error_code: str
    unsupported: list[str]


class AnthropicErrorDetail(Outgoing, frozen=True, kw_only=True):
    type: str
    message: str
    details: ErrorCause | msgspec.UnsetType = msgspec.UNSET


class AnthropicError(Outgoing, frozen=True, kw_only=True):
    """Every error, and the last event of a stream that is cut."""

    type: Literal["error"] = "error"
    error: AnthropicErrorDetail


EVENTS: tuple[type[Outgoing], ...] = (
    MessageStart,
    Ping,
    BlockStart,
    BlockDelta,
    BlockStop,
    MessageDelta,
    MessageStop,
    AnthropicError,
)


def message_usage(usage: Usage) -> MessageUsage:
    fresh = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    return MessageUsage(
        input_tokens=max(fresh, 0),
        output_tokens=usage.completion_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens_details=ThoughtTokens(thinking_tokens=usage.reasoning_tokens),
    )
