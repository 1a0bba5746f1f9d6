"""One answer in the making: its tokens, its text, and why it ended.

A sequence knows nothing of other sequences, threads or memory; `scheduler` decides when it gets a step
and `runner` gives it the logits. What it has to say goes to its listener, on the engine's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.engine.cache import SequenceCache
from daulat.engine.guide import Guide
from daulat.engine.sampler import Choice, Sampler
from daulat.engine.stopping import StopStrings
from daulat.errors import DaulatError
from daulat.values.answer import FinishReason, TokenLogprob
from daulat.values.request import Sampling


@dataclass(frozen=True, slots=True)
class TextPart:
    """New text (whole characters, no part of a stop string) with the tokens that made it."""

    text: str
    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete. Times are `time.monotonic()` seconds."""

    reason: FinishReason
    completion_tokens: int
    submitted: float
    admitted: float
    first_token: float
    last_token: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer cannot be completed."""

    error: DaulatError


Outcome = TextPart | Ended | Failed
Listener = Callable[[Outcome], None]


class TextStream(Protocol):
    """Tokens to text, whole characters only (`models.detokenize`)."""

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class Vocabulary(Protocol):
    """What a sequence needs of a tokenizer."""

    @property
    def eos_ids(self) -> frozenset[int]: ...
    def token_text(self, token: int) -> str: ...
    def token_bytes(self, token: int) -> bytes: ...


class GenerationSequence:
    """State of one answer.

    Args:
        prompt: at least one token.
        limit: how many tokens the answer may have; prompt and limit fit the model's context.
        seed, index: the answer's randomness is fixed by both.
        text: new, and this sequence's alone.
        guide: new as well: keeps the answer to a structure.
        until: the text behind which stop strings are not looked for.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        limit: int,
        seed: int,
        index: int,
        vocabulary: Vocabulary,
        text: TextStream,
        listener: Listener,
        guide: Guide | None = None,
        until: str | None = None,
    ) -> None:
        self.prompt = prompt
        self.limit = limit
        self.cache: SequenceCache | None = None
        self.cancelled = False
        self.ended = False
        self._sampling = sampling
        self._sampler = Sampler(sampling, seed, prompt, index)
        self._vocabulary = vocabulary
        self._listener = listener
        self._text = text
        self._stops = StopStrings(sampling.stop, until)
        self._guide = guide
        self._computed = 0
        self._last: int | None = None
        self._count = 0
        self._made = self._told = 0
        self._pending: list[tuple[int, TokenLogprob]] = []
        self._submitted = time.monotonic()
        self._admitted = self._first = self._latest = 0.0

    @property
    def tokens_reserved(self) -> int:
        """Cache places that the sequence may come to need; its last token is never fed back."""
        return len(self.prompt) + self.limit - 1

    def admit(self, cache: SequenceCache) -> None:
        """Take a place among the running."""
        self.cache = cache
        self._admitted = time.monotonic()

    def next_tokens(self, most: int) -> Sequence[int]:
        """What goes into the next step: a stretch of the prompt, or the token chosen last."""
        if self._last is not None:
            return (self._last,)
        return self.prompt[self._computed : self._computed + most]

    @property
    def decoding(self) -> bool:
        """The prompt is done: one token a step."""
        return self._last is not None

    def accept(self, tokens: int, logits: NDArray[np.float32]) -> None:
        """The step is done: `tokens` more are in the cache, `logits` [V] stand behind the last."""
        self._computed += tokens
        if self._computed < len(self.prompt):
            return
        choice = self._sampler.choose(logits, self._guide.allowed() if self._guide else None)
        self._latest = time.monotonic()
        self._first = self._first or self._latest
        self._last = choice.token
        self._count += 1
        if choice.token in self._vocabulary.eos_ids and not self._sampling.ignore_eos:
            self._flush("stop", "")
            return
        if self._guide is not None:
            self._guide.advance(choice.token)
        self._say(choice)

    def fail(self, error: DaulatError) -> None:
        """Give up, telling the listener why."""
        self.ended = True
        self._listener(Failed(error))

    def _say(self, choice: Choice) -> None:
        text = self._text.push(choice.token)
        if self._sampling.logprobs is not None:
            self._pending.append((self._made, self._logprob(choice)))
        self._made += len(text)
        emit, stopped = self._stops.push(text)
        if stopped:
            self._end("stop", emit, cut=True)
        elif self._guide is not None and self._guide.finished:
            self._flush("stop", emit)
        elif self._count >= self.limit:
            self._flush("length", emit)
        elif emit:
            self._tell(emit, len(emit) + self._told)

    def _flush(self, reason: FinishReason, emit: str) -> None:
        """Say what was held back, unless it completes a stop string after all."""
        tail, stopped = self._stops.push(self._text.finish())
        if stopped:
            self._end("stop", emit + tail, cut=True)
        else:
            self._end(reason, emit + tail + self._stops.finish(), cut=False)

    def _end(self, reason: FinishReason, emit: str, *, cut: bool) -> None:
        # Of an answer that was cut, only the tokens that begin before the cut are part of it.
        self._tell(emit, self._told + len(emit) if cut else None)
        self.ended = True
        self._listener(
            Ended(reason, self._count, self._submitted, self._admitted, self._first, self._latest)
        )

    def _tell(self, text: str, before: int | None) -> None:
        """Pass on text with the tokens that begin before character `before` of the answer."""
        told = [one for one in self._pending if before is None or one[0] < before]
        self._pending = self._pending[len(told) :]
        self._told += len(text)
        if text or told:
            self._listener(TextPart(text, tuple(logprob for _, logprob in told)))

    def _logprob(self, choice: Choice) -> TokenLogprob:
        top = tuple(self._named(token, logprob) for token, logprob in choice.top)
        return self._named(choice.token, choice.logprob, top)

    def _named(
        self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()
    ) -> TokenLogprob:
        v = self._vocabulary
        return TokenLogprob(v.token_text(token), v.token_bytes(token), logprob, top)
