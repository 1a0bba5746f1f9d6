"""What the dialects' shapes have in common: the protocol, and a choice gathered from its events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from daulat.errors import DaulatError, InternalError
from daulat.flow import Exchange
from daulat.server.wire.common import Origin, Outgoing, origin
from daulat.values.answer import CallPiece, Done, Finish, FinishReason, Kind, Piece, TokenLogprob
from daulat.values.request import ToolCall

encode = msgspec.json.Encoder().encode

Said = Piece | CallPiece | Finish


@dataclass(slots=True)
class Block:
    """A stretch of one kind in an answer: text, thoughts, a refusal, or one call's arguments.

    Attributes:
        call: which of the choice's calls; -1: none.
    """

    kind: Kind | Literal["call"]
    call: int = -1
    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass(slots=True)
class Choice:
    """One choice as far as it came, block by block in the order of its events."""

    blocks: list[Block] = field(default_factory=list[Block])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    reason: FinishReason | None = None
    stop: str | None = None

    def add(self, event: Said) -> Block | None:
        """Take the next event; the block that it belongs to, where it says something."""
        if isinstance(event, Finish):
            self.reason, self.stop = event.reason, event.stop
            return None
        if not isinstance(event, Piece) or event.kind == "text":
            self.logprobs.extend(event.logprobs)
        block = self._block(event)
        if block is not None:
            block.parts.append(event.text if isinstance(event, Piece) else event.arguments)
        return block

    def _block(self, event: Piece | CallPiece) -> Block | None:
        last = self.blocks[-1] if self.blocks else None
        if isinstance(event, CallPiece):
            for block in reversed(self.blocks):
                if block.call == event.call:
                    return block
            block = Block("call", event.call, event.id or "", event.name or "")
        elif not event.text or (last and last.kind == event.kind):
            return last if event.text else None
        else:
            block = Block(event.kind)
        self.blocks.append(block)
        return block

    def said(self, kind: Kind) -> str:
        """All of one kind."""
        return "".join(block.text for block in self.blocks if block.kind == kind)

    @property
    def calls(self) -> list[ToolCall]:
        return [ToolCall(b.id, b.name, b.text) for b in self.blocks if b.kind == "call"]

    @property
    def finish(self) -> FinishReason:
        """Raises InternalError: the endpoint never said why it ended."""
        if self.reason is None:
            raise InternalError("The answer ended without its reason.")
        return self.reason


class Shape(Protocol):
    """How one exchange's answer looks: whole, or as the bytes of server-sent events.

    Of a stream, `opening` comes first, then each event in its order, then either `closing` or `failed`:
    no dialect's `failed` may be taken for a clean end.

    Attributes:
        choices: how many the answer has.
    """

    choices: int

    def opening(self) -> bytes: ...
    def event(self, event: Said) -> bytes: ...
    def closing(self, done: Done) -> bytes: ...
    def failed(self, error: DaulatError) -> bytes: ...
    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing: ...


def frame(data: Outgoing, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return b"".join((head, b"data: ", encode(data), b"\n\n"))


def frames(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


def origin_of(exchange: Exchange, done: Done) -> Origin:
    """The extension object `daulat` of a complete answer."""
    return origin(exchange.id, exchange.step, done.usage, done.timings, exchange.cost)
