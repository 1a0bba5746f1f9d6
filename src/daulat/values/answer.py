"""What an endpoint gives back: a stream of events, ended by exactly one `Done`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from daulat.values.request import ToolCall

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Kind = Literal["text", "thought", "refusal"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability under the model (before temperature and penalties).

    Attributes:
        data: the token's own bytes, which may be part of a character.
        logprob: NaN for the first token of a prompt, which stands behind nothing.
        top: the likeliest alternatives, best first (empty where none were asked for).
        shown: the bytes that it adds to the text where those are not `data` (a special token adds none).
    """

    text: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()
    shown: bytes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one choice's text; whole characters only.

    Attributes:
        kind: the answer itself, what the model thought before it, or its words for not answering.
    """

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A stretch of one tool call. The first of a call has its id and name; then come its arguments.

    Attributes:
        call: which of the choice's calls, from 0.
        arguments: the next characters of a JSON object.
    """

    choice: int
    call: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class CallPieces:
    """Gathers the calls of one choice."""

    def __init__(self) -> None:
        self._heads: list[tuple[str, str]] = []
        self._arguments: list[list[str]] = []

    def add(self, piece: CallPiece) -> None:
        """Take the next piece; pieces of a call come in order, the first one with id and name."""
        if piece.call == len(self._heads):
            self._heads.append((piece.id or "", piece.name or ""))
            self._arguments.append([])
        self._arguments[piece.call].append(piece.arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls as far as they came."""
        return tuple(
            ToolCall(*head, "".join(parts))
            for head, parts in zip(self._heads, self._arguments, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """One choice is complete.

    Attributes:
        stop: which text of the request's `stop` ended it, where the endpoint says so.
        probe: figures of the hidden states that it was written from, where they were asked for. For routers
            alone: no client sees them.
    """

    choice: int
    reason: FinishReason
    stop: str | None = None
    probe: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. A prompt that serves n choices counts once.

    Attributes:
        cached_tokens: so many of the prompt's had been computed before and cost less or nothing now.
        cache_write_tokens: so many of the prompt's were kept for later requests, for a price of their own.
        reasoning_tokens: so many of the answer's were thoughts.
        counted: nobody told (or nothing believable): these are the house's own estimate.
    """

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    counted: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds by the monotonic clock: waiting for a place, until the first token, from first to last token."""

    queued: float
    first_token: float
    decode: float

    def tokens_per_second(self, completion_tokens: int) -> float | None:
        """Decode speed over the tokens after the first; None where there is no second token."""
        if completion_tokens < 2 or self.decode <= 0:
            return None
        return (completion_tokens - 1) / self.decode


@dataclass(frozen=True, slots=True)
class Asked:
    """The request is about to leave for an upstream: from here on it may be billed. For the books alone."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What an upstream says it has counted so far. For the books alone: no client sees it."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Done:
    """The stream is complete: nothing follows."""

    usage: Usage
    timings: Timings


Event = Piece | CallPiece | Finish | Done
Heard = Event | Asked | Metered
"""What an endpoint says: what a client gets of it are the events."""


@dataclass(frozen=True, slots=True)
class Moderations:
    """One judgement per text, as the endpoint's own service words it (OpenAI's form)."""

    results: tuple[Mapping[str, Any], ...]
    model: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in order; each of unit length where the model says so."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage
    timings: Timings
