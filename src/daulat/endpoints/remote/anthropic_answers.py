"""Anthropic's Messages API: what its answers say, streamed and whole.

Sources: https://platform.claude.com/docs/en/build-with-claude/streaming (the order of events, `error` and
`ping`), https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons, and the types of the
`anthropic` package 2.12. Events and deltas of kinds that are not known are passed over, as the vendor asks;
a block of a kind that is not known is content that the client would miss, and an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daulat.endpoints.remote import terms
from daulat.endpoints.remote.dialect import ServerEvent
from daulat.errors import (
    UpstreamAccessError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.answer import (
    CallPiece,
    Done,
    Finish,
    FinishReason,
    Heard,
    Metered,
    Piece,
    Timings,
    Usage,
)
from daulat.values.request import ChatRequest

NAME = "Anthropic"

_FINISHES: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Not here: `pause_turn`, which only the vendor's own tools cause; such an answer is not whole."""

_ERRORS: dict[str, type[UpstreamError]] = {
    "overloaded_error": UpstreamBusyError,
    "rate_limit_error": UpstreamBusyError,
    "authentication_error": UpstreamAccessError,
    "permission_error": UpstreamAccessError,
    "billing_error": UpstreamAccessError,
    "invalid_request_error": UpstreamRequestError,
    "not_found_error": UpstreamRequestError,
}

Count = Annotated[int, Meta(ge=0, le=10**12)]
Index = Annotated[int, Meta(ge=0, le=100_000)]


class _Details(msgspec.Struct, frozen=True):
    thinking_tokens: Count = 0


class _Usage(msgspec.Struct, frozen=True):
    """Counts so far; a field that is missing or null says nothing new."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens_details: _Details | None = None


class _Refusal(msgspec.Struct, frozen=True):
    explanation: str | None = None


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: _Refusal | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class _Message(msgspec.Struct, frozen=True):
    type: str
    content: list[_Block]
    stop_reason: str | None
    usage: Any = None
    stop_details: _Refusal | None = None


class _Started(msgspec.Struct, frozen=True):
    usage: Any = None


class _Failed(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct, frozen=True):
    type: str
    index: Index | UnsetType = UNSET
    message: _Started | UnsetType = UNSET
    content_block: _Block | UnsetType = UNSET
    delta: _Delta | UnsetType = UNSET
    usage: Any = None
    error: _Failed | UnsetType = UNSET


_EVENT = msgspec.json.Decoder(_Event)
_MESSAGE = msgspec.json.Decoder(_Message)


class AnthropicReader:
    """One streamed answer. The vendor says when it is whole: with `message_stop`."""

    def __init__(self, request: ChatRequest) -> None:
        self._lead = _Lead(request.begun)
        self._counts = _Counts()
        self._open: dict[int, str] = {}  # kinds of the blocks that are being written
        self._calls: dict[int, int] = {}  # block -> which call
        self._argued: set[int] = set()  # blocks of calls whose arguments have begun
        self._reason: FinishReason | None = None
        self._done = False

    def feed(self, event: ServerEvent) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        told = terms.read(_EVENT, event.data, NAME)
        if self._done:
            return
        match told.type:
            case "message_start":
                yield from self._meter(_present(told.message).usage)
            case "content_block_start":
                yield from self._start(_present(told.index), _present(told.content_block))
            case "content_block_delta":
                yield from self._delta(_present(told.index), _present(told.delta))
            case "content_block_stop":
                yield from self._stop(_present(told.index))
            case "message_delta":
                yield from self._message(_present(told.delta))
                yield from self._meter(told.usage, final=True)
            case "message_stop":
                yield from self._finish()
            case "error":
                raise _failed(_present(told.error))
            case _:
                pass

    def end(self) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        if not self._done:
            raise terms.bad(NAME, "its answer broke off")
        return ()

    def _meter(self, usage: Any, *, final: bool = False) -> Iterator[Heard]:
        if self._counts.take(usage, final=final):
            yield Metered(self._counts.usage())

    def _start(self, index: int, block: _Block) -> Iterator[Heard]:
        if index in self._open:
            raise terms.bad(NAME, "two blocks of its answer have one number")
        self._open[index] = block.type
        if block.type == "tool_use":
            call = self._calls[index] = len(self._calls)
            yield CallPiece(0, call, _named(block.id), _named(block.name))
            if block.input:
                self._argued.add(index)
                yield CallPiece(0, call, arguments=_json(block.input))
        else:
            yield from _said(block, self._lead)

    def _delta(self, index: int, delta: _Delta) -> Iterator[Heard]:
        kind = self._open.get(index)
        match delta.type, kind:
            case "text_delta", "text":
                yield from _text(self._lead.rest(delta.text))
            case "thinking_delta", "thinking":
                yield from _thought(delta.thinking)
            case "input_json_delta", "tool_use":
                if delta.partial_json:
                    self._argued.add(index)
                    yield CallPiece(0, self._calls[index], arguments=delta.partial_json)
            case (("text_delta" | "thinking_delta" | "input_json_delta"), _):
                raise terms.bad(NAME, "a part of its answer belongs to no block")
            case _:
                pass

    def _stop(self, index: int) -> Iterator[Heard]:
        if self._open.pop(index, None) == "tool_use" and index not in self._argued:
            yield CallPiece(0, self._calls[index], arguments="{}")

    def _message(self, delta: _Delta) -> Iterator[Heard]:
        if delta.stop_details and delta.stop_details.explanation:
            yield Piece(0, delta.stop_details.explanation, kind="refusal")
        if delta.stop_reason is not None:
            self._reason = _reason(delta.stop_reason)

    def _finish(self) -> Iterator[Heard]:
        if self._reason is None:
            raise terms.bad(NAME, "its answer has no reason for its end")
        self._done = True
        yield Finish(0, self._reason)
        yield Done(self._counts.last(), Timings(0, 0, 0))


def whole(request: ChatRequest, body: bytes) -> Iterator[Heard]:
    """The events of an answer in one piece.

    Raises:
        UpstreamAnswerError: not an answer of that protocol.
    """
    message = terms.read(_MESSAGE, body, NAME)
    if message.type != "message" or message.stop_reason is None:
        raise terms.bad(NAME, "its answer is not of its protocol")
    reason, lead, calls = _reason(message.stop_reason), _Lead(request.begun), 0
    for block in message.content:
        if block.type == "tool_use":
            yield CallPiece(0, calls, _named(block.id), _named(block.name), _json(block.input))
            calls += 1
        else:
            yield from _said(block, lead)
    if message.stop_details and message.stop_details.explanation:
        yield Piece(0, message.stop_details.explanation, kind="refusal")
    counts = _Counts()
    counts.take(message.usage, final=True)
    yield Finish(0, reason)
    yield Done(counts.last(), Timings(0, 0, 0))


# --- parts of an answer ---------------------------------------------------------------------------


class _Counts:
    """What the vendor has counted; later counts replace earlier ones.

    The vendor's `input_tokens` leave out what was read from its cache or written to it; ours are all. The
    tokens of the answer that `message_start` tells are not yet those of the answer.
    """

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self._final = False

    def take(self, told: Any, *, final: bool) -> bool:
        """Whether there was something that can be believed."""
        try:
            usage = msgspec.convert(told, _Usage)
        except msgspec.ValidationError:
            return False
        counts: dict[str, Any] = msgspec.structs.asdict(usage)
        details = counts.pop("output_tokens_details")
        self._now |= {name: count for name, count in counts.items() if count is not None}
        if details is not None:
            self._now["thinking"] = details.thinking_tokens
        self._final = self._final or (final and usage.output_tokens is not None)
        return True

    def usage(self) -> Usage:
        """The counts so far."""
        now = self._now
        read = now.get("cache_read_input_tokens", 0)
        written = now.get("cache_creation_input_tokens", 0)
        return Usage(
            prompt_tokens=now.get("input_tokens", 0) + read + written,
            completion_tokens=now.get("output_tokens", 0),
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=min(now.get("thinking", 0), now.get("output_tokens", 0)),
        )

    def last(self) -> Usage:
        """The counts of the whole answer; `counted` where the vendor has not told all of them."""
        told = self._final and "input_tokens" in self._now
        return self.usage() if told else replace(self.usage(), counted=True)


class _Lead:
    """The white space at the end of what an answer has begun with: it was not sent, and is not repeated."""

    def __init__(self, begun: str) -> None:
        self._left = begun[len(begun.rstrip()) :]

    def rest(self, text: str) -> str:
        """The text without what the client has already."""
        same = 0
        while same < min(len(text), len(self._left)) and text[same] == self._left[same]:
            same += 1
        self._left = self._left[same:] if same == len(text) else ""
        return text[same:]


def _said(block: _Block, lead: _Lead) -> Iterator[Piece]:
    match block.type:
        case "text":
            yield from _text(lead.rest(block.text))
        case "thinking":
            yield from _thought(block.thinking)
        case "redacted_thinking":  # encrypted: there is nothing to show
            pass
        case _:
            raise terms.bad(NAME, "its answer has a block of a kind that was not asked for")


def _text(text: str) -> Iterator[Piece]:
    if text:
        yield Piece(0, text)


def _thought(text: str) -> Iterator[Piece]:
    if text:
        yield Piece(0, text, kind="thought")


def _reason(told: str) -> FinishReason:
    if told not in _FINISHES:
        raise terms.bad(NAME, f"its answer is not finished ({terms.shown(told)})")
    return _FINISHES[told]


def _failed(failed: _Failed) -> UpstreamError:
    kind = _ERRORS.get(failed.type, UpstreamUnavailableError)
    said = f": {terms.shown(failed.message)}" if kind is UpstreamRequestError else ""
    label = terms.shown(failed.type) or "error"
    return kind(f"{NAME} failed while it answered ({label}){said}. Try again.", billable=True)


def _present(value: terms.T | UnsetType) -> terms.T:
    if isinstance(value, UnsetType):
        raise terms.bad(NAME, "its answer is not of its protocol")
    return value


def _named(text: str) -> str:
    if not text:
        raise terms.bad(NAME, "a call in its answer has no id or no name")
    return text


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
