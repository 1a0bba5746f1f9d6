"""An answer as Anthropic's messages show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from daulat.errors import DaulatError, InternalError
from daulat.flow import Exchange
from daulat.server.errors import ANTHROPIC
from daulat.server.shapes.base import Block, Choice, Said, frame, frames, origin_of
from daulat.server.wire.common import Outgoing
from daulat.server.wire.messages.answers import (
    STOP_REASONS,
    AnsweredMessage,
    BlockDelta,
    BlockStart,
    BlockStop,
    Content,
    Ending,
    InputDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    StopReason,
    TextContent,
    TextDelta,
    ThinkingContent,
    ThinkingDelta,
    ToolUseContent,
    message_usage,
)
from daulat.values.answer import Done, Finish, Piece, Usage


class MessagesShape:
    """A message, or its events: blocks one after the other, each begun, filled and stopped."""

    choices = 1

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._choice = Choice()
        self._open: Block | None = None
        self._index = -1

    def opening(self) -> bytes:
        message = AnsweredMessage(
            id=self._exchange.id,
            model=self._exchange.step.model_id,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=message_usage(Usage(0)),
        )
        return frame(MessageStart(message=message), "message_start") + frame(Ping(), "ping")

    def event(self, event: Said) -> bytes:
        block = self._choice.add(event)
        if block is None or isinstance(event, Finish):
            return b""
        begun = b"" if block is self._open else self._begin(block)
        text = event.text if isinstance(event, Piece) else event.arguments
        return begun + self._delta(block, text) if text else begun

    def closing(self, done: Done) -> bytes:
        ending = Ending(stop_reason=_reason(self._choice), stop_sequence=self._choice.stop)
        last = MessageDelta(
            delta=ending,
            usage=message_usage(done.usage),
            daulat=origin_of(self._exchange, done),
        )
        return frames(
            (
                self._stop(),
                frame(last, "message_delta"),
                frame(MessageStop(), "message_stop"),
            )
        )

    def failed(self, error: DaulatError) -> bytes:
        return b"event: error\ndata: " + ANTHROPIC.body(error) + b"\n\n"

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        (choice,) = choices
        return AnsweredMessage(
            id=self._exchange.id,
            model=self._exchange.step.model_id,
            content=[made for block in choice.blocks if (made := _content(block, choice))],
            stop_reason=_reason(choice),
            stop_sequence=choice.stop,
            usage=message_usage(done.usage),
            daulat=origin_of(self._exchange, done),
        )

    def _begin(self, block: Block) -> bytes:
        if len(block.parts) > 1:
            raise InternalError("The answer went on with a block that was over.")
        stopped = self._stop()
        self._open, self._index = block, self._index + 1
        start = BlockStart(index=self._index, content_block=_empty(block))
        return stopped + frame(start, "content_block_start")

    def _delta(self, block: Block, text: str) -> bytes:
        match block.kind:
            case "call":
                delta = InputDelta(partial_json=text)
            case "thought":
                delta = ThinkingDelta(thinking=text)
            case _:
                delta = TextDelta(text=text)
        return frame(BlockDelta(index=self._index, delta=delta), "content_block_delta")

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        return frame(BlockStop(index=self._index), "content_block_stop")


def _reason(choice: Choice) -> StopReason:
    if choice.stop is not None:
        return "stop_sequence"
    if choice.said("refusal"):
        return "refusal"
    if choice.finish == "stop" and choice.calls:
        return "tool_use"
    return STOP_REASONS[choice.finish]


def _empty(block: Block) -> Content:
    match block.kind:
        case "call":
            return ToolUseContent(id=block.id, name=block.name, input={})
        case "thought":
            return ThinkingContent(thinking="")
        case _:
            return TextContent(text="")


def _content(block: Block, choice: Choice) -> Content | None:
    """A block of a whole message; None: a call that the limit of tokens has cut."""
    match block.kind:
        case "call":
            pass
        case "thought":
            return ThinkingContent(thinking=block.text)
        case _:
            return TextContent(text=block.text)
    try:
        given = msgspec.json.decode(block.text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        if choice.finish == "length":
            return None
        raise InternalError("The model's call has no sound arguments.") from error
    return ToolUseContent(id=block.id, name=block.name, input=given)
