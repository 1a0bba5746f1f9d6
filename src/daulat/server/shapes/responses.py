"""An answer as OpenAI's responses show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from daulat.errors import DaulatError, InternalError
from daulat.flow import Exchange
from daulat.server.shapes.base import Block, Choice, Said, frame, frames, origin_of
from daulat.server.wire.chat import ChatTokenLogprob, chat_logprobs
from daulat.server.wire.common import Origin, Outgoing
from daulat.server.wire.responses.answers import (
    ArgumentsDeltaEvent,
    ArgumentsDoneEvent,
    DeltaEvent,
    Echo,
    ErrorEvent,
    Incomplete,
    ItemEvent,
    ItemStatus,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputPart,
    OutputReasoning,
    OutputRefusal,
    OutputText,
    OutputThought,
    PartEvent,
    RefusalDoneEvent,
    ResponseBody,
    ResponseEvent,
    ResponseFault,
    TextDoneEvent,
    response_usage,
)
from daulat.values.answer import Done, Finish, FinishReason, Piece, Usage

_INCOMPLETE: dict[FinishReason, Incomplete] = {
    "length": Incomplete(reason="max_output_tokens"),
    "content_filter": Incomplete(reason="content_filter"),
}
_WORDS = {"text": "output_text", "refusal": "refusal", "thought": "reasoning_text"}


class ResponsesShape:
    """A response, or its events: items one after the other, each added, filled and done.

    Args:
        with_logprobs: they were asked for.
    """

    choices = 1

    def __init__(self, exchange: Exchange, echo: Echo, *, with_logprobs: bool) -> None:
        self._exchange = exchange
        self._echo = echo
        self._with_logprobs = with_logprobs
        self._choice = Choice()
        self._sequence = 0
        self._open: Block | None = None
        self._item: list[Block] = []
        self._items: list[OutputItem] = []

    def opening(self) -> bytes:
        body = self._body("in_progress", [])
        return frames(
            self._frame(ResponseEvent, f"response.{step}", response=body)
            for step in ("created", "in_progress")
        )

    def event(self, event: Said) -> bytes:
        block = self._choice.add(event)
        if block is None or isinstance(event, Finish):
            return b""
        begun = b"" if block is self._open else self._begin(block)
        if isinstance(event, Piece):
            logprobs = self._logprobs(event) if event.kind == "text" else msgspec.UNSET
            return begun + self._frame(
                DeltaEvent,
                f"response.{_WORDS[event.kind]}.delta",
                **self._place(),
                content_index=len(self._item) - 1,
                delta=event.text,
                logprobs=logprobs,
            )
        if not event.arguments:
            return begun
        name = "response.function_call_arguments.delta"
        return begun + self._frame(
            ArgumentsDeltaEvent, name, **self._place(), delta=event.arguments
        )

    def closing(self, done: Done) -> bytes:
        why = _INCOMPLETE.get(self._choice.finish)
        status = "incomplete" if why else "completed"
        last = self._end_item(status)
        body = self._body(
            status,
            self._items,
            why=why,
            usage=done.usage,
            origin=origin_of(self._exchange, done),
        )
        return last + self._frame(ResponseEvent, f"response.{status}", response=body)

    def failed(self, error: DaulatError) -> bytes:
        told = self._frame(
            ErrorEvent, "error", code=error.code, message=error.message, param=error.param
        )
        body = self._body("failed", self._items, error=error)
        return told + self._frame(ResponseEvent, "response.failed", response=body)

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        (choice,) = choices
        why = _INCOMPLETE.get(choice.finish)
        status = "incomplete" if why else "completed"
        logprobs = chat_logprobs(tuple(choice.logprobs)).content if self._with_logprobs else []
        return self._body(
            status,
            items(self._exchange.id, choice.blocks, status, logprobs),
            why=why,
            usage=done.usage,
            origin=origin_of(self._exchange, done),
        )

    # --- a stream's parts ---------------------------------------------------------------------------

    def _begin(self, block: Block) -> bytes:
        if len(block.parts) > 1:
            raise InternalError("The answer went on with a part that was over.")
        parts: list[bytes] = []
        if self._item and not _one_item(self._item[-1], block):
            parts.append(self._end_item("completed"))
        elif self._item:
            parts.append(self._end_part())
        if not self._item:
            empty = _item(self._exchange.id, len(self._items), [], block, "in_progress", [])
            name = "response.output_item.added"
            parts.append(self._frame(ItemEvent, name, output_index=len(self._items), item=empty))
        self._item.append(block)
        self._open = block
        if block.kind != "call":
            parts.append(self._part("added", _part(block.kind, "", [])))
        return frames(parts)

    def _end_part(self) -> bytes:
        """The last block of the item is over."""
        block = self._item[-1]
        place = self._place()
        if block.kind == "call":
            return self._frame(
                ArgumentsDoneEvent,
                "response.function_call_arguments.done",
                **place,
                name=block.name,
                arguments=block.text,
            )
        at: dict[str, Any] = {**place, "content_index": len(self._item) - 1}
        logprobs = self._told_logprobs(block)
        done = f"response.{_WORDS[block.kind]}.done"
        if block.kind == "refusal":
            told = self._frame(RefusalDoneEvent, done, **at, refusal=block.text)
        else:
            given = logprobs if block.kind == "text" else msgspec.UNSET
            told = self._frame(TextDoneEvent, done, **at, text=block.text, logprobs=given)
        return told + self._part("done", _part(block.kind, block.text, logprobs))

    def _end_item(self, status: ItemStatus) -> bytes:
        if not self._item:
            return b""
        over = self._end_part()
        index = len(self._items)
        logprobs = self._told_logprobs(self._item[0])
        item = _item(self._exchange.id, index, self._item, self._item[0], status, logprobs)
        self._items.append(item)
        self._item = []
        return over + self._frame(
            ItemEvent, "response.output_item.done", output_index=index, item=item
        )

    def _part(self, what: str, part: OutputPart) -> bytes:
        return self._frame(
            PartEvent,
            f"response.content_part.{what}",
            **self._place(),
            content_index=len(self._item) - 1,
            part=part,
        )

    def _place(self) -> dict[str, Any]:
        index = len(self._items)
        return {"item_id": _id(self._exchange.id, index, self._item[0]), "output_index": index}

    def _logprobs(self, piece: Piece) -> list[ChatTokenLogprob]:
        return chat_logprobs(piece.logprobs).content if self._with_logprobs else []

    def _told_logprobs(self, block: Block) -> list[ChatTokenLogprob]:
        """All of the answer, where its text is one block, as it is of the endpoints that give them."""
        if not self._with_logprobs or block.kind != "text":
            return []
        return chat_logprobs(tuple(self._choice.logprobs)).content

    def _frame(self, kind: Callable[..., Outgoing], event: str, **fields: Any) -> bytes:
        number = self._sequence
        self._sequence += 1
        return frame(kind(type=event, sequence_number=number, **fields), event)

    def _body(
        self,
        status: Any,
        output: Sequence[OutputItem],
        *,
        why: Incomplete | None = None,
        usage: Usage | None = None,
        origin: Origin | None = None,
        error: DaulatError | None = None,
    ) -> ResponseBody:
        code = "rate_limit_exceeded" if error and error.status == 429 else "server_error"
        return ResponseBody(
            **msgspec.structs.asdict(self._echo),
            id=self._exchange.id,
            created_at=self._exchange.created,
            status=status,
            error=ResponseFault(code=code, message=error.message) if error else None,
            incomplete_details=why,
            model=self._exchange.step.model_id,
            output=list(output),
            usage=response_usage(usage) if usage else None,
            daulat=origin or msgspec.UNSET,
        )


# --- items ----------------------------------------------------------------------------------------


def items(
    exchange_id: str,
    blocks: Sequence[Block],
    status: ItemStatus,
    logprobs: Sequence[ChatTokenLogprob] = (),
) -> list[OutputItem]:
    """A whole answer's items; `status` is the last one's."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and _one_item(groups[-1][-1], block):
            groups[-1].append(block)
        else:
            groups.append([block])
    last = len(groups) - 1
    return [
        _item(exchange_id, i, group, group[0], status if i == last else "completed", logprobs)
        for i, group in enumerate(groups)
    ]


def _one_item(before: Block, block: Block) -> bool:
    """Text and refusal are parts of one message."""
    return {before.kind, block.kind} <= {"text", "refusal"}


def _id(exchange_id: str, index: int, block: Block) -> str:
    prefix = {"call": "fc", "thought": "rs"}.get(block.kind, "msg")
    return f"{prefix}_{exchange_id.removeprefix('rec-')}_{index}"


def _item(
    exchange_id: str,
    index: int,
    blocks: Sequence[Block],
    kind: Block,
    status: ItemStatus,
    logprobs: Sequence[ChatTokenLogprob],
) -> OutputItem:
    """`kind`: the block that says what it is; `blocks`: what it has so far."""
    name = _id(exchange_id, index, kind)
    if kind.kind == "call":
        text = "".join(block.text for block in blocks)
        return OutputCall(id=name, status=status, call_id=kind.id, name=kind.name, arguments=text)
    if kind.kind == "thought":
        thoughts = [OutputThought(text=block.text) for block in blocks]
        return OutputReasoning(id=name, status=status, content=thoughts)
    parts = [_part(block.kind, block.text, logprobs) for block in blocks]
    said = [part for part in parts if not isinstance(part, OutputThought)]
    return OutputMessage(id=name, status=status, content=said)


def _part(kind: str, text: str, logprobs: Sequence[ChatTokenLogprob]) -> OutputPart:
    match kind:
        case "refusal":
            return OutputRefusal(refusal=text)
        case "thought":
            return OutputThought(text=text)
        case _:
            return OutputText(text=text, logprobs=list(logprobs))
