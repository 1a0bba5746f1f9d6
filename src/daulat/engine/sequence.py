"""One answer in the making: its tokens, its text, and why it ended.

A sequence knows nothing of other sequences, threads or memory; `scheduler` decides when it gets a step
and `runner` gives it the logits. What it has to say goes to its listener, on the engine's thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.engine import blocks
from daulat.engine.adapter import Adapter
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.guide import Guide
from daulat.engine.logprobs import Top, require_finite, score_rows
from daulat.engine.probe import Probe
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
class PromptPart:
    """Log-probabilities of the prompt's next tokens, in order; all come before the first `TextPart`."""

    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete. Times are `time.monotonic()` seconds.

    Attributes:
        cached_tokens: so many of the prompt had been computed before, for another answer.
        stop: the stop string that ended it; None: none did.
        probe: of its hidden states, where it was asked for and a token was chosen (`engine.probe`).
    """

    reason: FinishReason
    completion_tokens: int
    cached_tokens: int
    submitted: float
    admitted: float
    first_token: float
    last_token: float
    stop: str | None = None
    probe: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer cannot be completed."""

    error: DaulatError


Outcome = PromptPart | TextPart | Ended | Failed
Listener = Callable[[Outcome], None]


class TextStream(Protocol):
    """Tokens to text, whole characters only (`models.detokenize`)."""

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class Vocabulary(Protocol):
    """What a sequence needs of a tokenizer."""

    @property
    def eos_ids(self) -> frozenset[int]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    def token_text(self, token: int) -> str: ...
    def token_bytes(self, token: int) -> bytes: ...


class GenerationSequence:
    """State of one answer.

    Args:
        prompt: at least one token.
        limit: how many tokens the answer may have, 0: the prompt is only read; prompt and limit fit
            the model's context.
        seed, index: the answer's randomness is fixed by both.
        text: new, and this sequence's alone.
        tenant: whose it is: what is computed for one tenant serves no other.
        adapter: changes the model for this answer.
        echo: log-probabilities of the prompt's tokens are asked for too (as many alternatives as of the
            answer's), and of the token that ends the answer; for each token of the prompt, the bytes that
            it adds to the prompt's text.
        guide: new as well: keeps the answer to a structure.
        until: the text behind which stop strings are not looked for.
        begun: so many of the prompt's last tokens are words of the answer, as if it had been written so far.

    Attributes:
        tokens: prompt and answer, as far as it is written.
        asked: how many of them are read; those behind were written.
        root: what the keys of its blocks begin with (`blocks.root`).
        may_share: it may take over what was computed for another. Not where the prompt is scored: for
            that all of it must be computed.
        cached: tokens of the prompt that had been computed for another.
        arrival, noted: the scheduler's: when it came, and how many of its blocks others can find.
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
        tenant: str = "",
        adapter: Adapter | None = None,
        echo: Sequence[bytes] | None = None,
        guide: Guide | None = None,
        until: str | None = None,
        begun: int = 0,
    ) -> None:
        self.prompt = prompt
        self.tokens = list(prompt)
        self.asked = max(len(prompt) - begun, 1)
        self.adapter = adapter
        self.limit = limit
        self.tenant = tenant
        self.root = blocks.root(tenant, adapter.digest if adapter else "")
        self.may_share = echo is None
        self.cache: SequenceCache | None = None
        self.cancelled = False
        self.ended = False
        self.arrival = self.noted = 0
        self._sampling = sampling
        self._sampler = Sampler(sampling, seed, prompt, index)
        self._vocabulary = vocabulary
        self._listener = listener
        self._text = text
        self._stops = StopStrings(sampling.stop, until)
        self._guide = guide
        self._echo = echo
        self._probe = Probe() if sampling.probe else None
        self._computed = self._scored = self.cached = 0
        self._made = self._told = 0
        self._pending: list[tuple[int, TokenLogprob]] = []
        self._submitted = time.monotonic()
        self._admitted = self._first = self._latest = 0.0

    @property
    def _count(self) -> int:
        return len(self.tokens) - len(self.prompt)

    @property
    def tokens_reserved(self) -> int:
        """Cache places that the sequence may come to need; its last token is never fed back."""
        return len(self.prompt) + max(self.limit, 1) - 1

    @property
    def probed(self) -> bool:
        """`accept` is to be given hidden states."""
        return self._probe is not None

    @property
    def was_admitted(self) -> bool:
        """It has had a place before, if it has none now."""
        return self._admitted > 0

    def admit(self, cache: SequenceCache) -> None:
        """Take a place among the running; what is in the cache is computed already."""
        self.cache = cache
        self._computed = cache.length
        self.noted = cache.length // BLOCK_TOKENS
        if not self._admitted:
            self._admitted = time.monotonic()
            self.cached = cache.length

    def push_out(self) -> None:
        """Lose place and memory, for the time being. What was written stays."""
        self.cache = None
        self._computed = 0

    def next_tokens(self, most: int) -> Sequence[int]:
        """What goes into the next step: a stretch of what is not computed, or the token chosen last. What is
        read and what was written do not go together."""
        if self.decoding:
            return self.tokens[-1:]
        end = self.asked if self.reading else len(self.tokens)
        return self.tokens[self._computed : min(self._computed + most, end)]

    @property
    def reading(self) -> bool:
        """What goes into the next step is read; else all of it was written."""
        return self._computed < self.asked

    @property
    def decoding(self) -> bool:
        """All but the token chosen last is computed: one token a step."""
        return len(self.tokens) > len(self.prompt) and self._computed == len(self.tokens) - 1

    def wanted(self, count: int) -> Sequence[int] | None:
        """Which of the step's next `count` tokens the logits are asked for behind (`decoder.Chunk`)."""
        if self._echo is None or self._scored >= min(len(self.prompt), self._computed + count):
            return None
        return range(self._scored - self._computed, count)

    def read(self, logits: NDArray[np.float32]) -> None:
        """The next rows of what `wanted` named, logits [rows, V], before `accept` counts the step."""
        echo, first = self._echo or [], self._scored
        self._scored += len(logits)
        following = np.array(self.prompt[first + 1 : self._scored + 1], dtype=np.intp)
        logits = logits[
            : len(following)
        ]  # behind the prompt's last token stands the answer's first
        require_finite(logits)
        found = score_rows(logits, following[:, None], self._sampling.logprobs or 0)
        parts = [
            self._named(token, float(row[0]), top, shown)
            for token, row, top, shown in zip(
                following.tolist(), found.logprobs, found.tops, echo[first + 1 :], strict=False
            )
        ]
        if first == 0:
            parts.insert(0, self._named(self.prompt[0], math.nan, (), echo[0]))
        self._listener(PromptPart(tuple(parts)))

    def accept(
        self, tokens: int, logits: NDArray[np.float32], state: NDArray[np.float32] | None = None
    ) -> None:
        """The step is done: `tokens` more are in the cache, `logits` [V] stand behind the last.

        Args:
            state: the hidden state [H] that the logits are of, where the sequence is `probed`.
        """
        self._computed += tokens
        if self._computed < len(self.tokens):
            return
        self._latest = time.monotonic()
        self._first = self._first or self._latest
        if self.limit == 0:
            self._flush("length", "")
            return
        choice = self._sampler.choose(logits, self._guide)
        # Here alone: what is computed anew after `push_out` chooses nothing, and does not count twice.
        if self._probe is not None and state is not None:
            self._probe.add(state)
        self.tokens.append(choice.token)
        if choice.token in self._vocabulary.eos_ids and not self._sampling.ignore_eos:
            if self._echo is not None:
                self._pending.append((self._made, self._logprob(choice)))
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
            Ended(
                reason,
                self._count,
                self.cached,
                self._submitted,
                self._admitted,
                self._first,
                self._latest,
                self._stops.matched,
                () if self._probe is None else self._probe.figures(),
            )
        )

    def _tell(self, text: str, before: int | None) -> None:
        """Pass on text with the tokens that begin before character `before` of the answer."""
        told = [one for one in self._pending if before is None or one[0] < before]
        self._pending = self._pending[len(told) :]
        self._told += len(text)
        if text or told:
            self._listener(TextPart(text, tuple(logprob for _, logprob in told)))

    def _logprob(self, choice: Choice) -> TokenLogprob:
        shown = b"" if choice.token in self._vocabulary.special_ids else None
        return self._named(choice.token, choice.logprob, choice.top, shown)

    def _named(self, token: int, logprob: float, top: Top, shown: bytes | None) -> TokenLogprob:
        v = self._vocabulary
        best = tuple(TokenLogprob(v.token_text(t), v.token_bytes(t), p) for t, p in top)
        return TokenLogprob(v.token_text(token), v.token_bytes(token), logprob, best, shown)
