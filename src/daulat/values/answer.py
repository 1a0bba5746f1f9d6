"""What an endpoint gives back: a stream of events, ended by exactly one `Done`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability under the model (before temperature and penalties).

    Attributes:
        data: the token's own bytes, which may be part of a character.
        top: the likeliest alternatives, best first (empty where none were asked for).
    """

    text: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one choice's text; whole characters only."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """One choice is complete."""

    choice: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. A prompt that serves n choices counts once.

    Attributes:
        cached_tokens: so many of the prompt's had been computed before and cost nothing now.
    """

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0

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
class Done:
    """The stream is complete: nothing follows."""

    usage: Usage
    timings: Timings


Event = Piece | Finish | Done


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in order; each of unit length where the model says so."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage
    timings: Timings
