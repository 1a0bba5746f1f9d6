"""Who is in the next step: admit, step, finish.

Plain bookkeeping without threads, clocks or tensors. Sequences wait in order of arrival, are admitted
while there is a place and memory for the longest answer that they may give (so none is ever pushed out),
and then get a step each round: one token where the prompt is done, else a stretch of the prompt, first
come first served, as long as the step's token budget lasts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daulat.engine.cache import SequenceCache
from daulat.engine.sequence import GenerationSequence
from daulat.errors import BusyError, RequestError


@dataclass(frozen=True, slots=True)
class Limits:
    """Attributes:
    sequences: computed together at most.
    queue: waiting at most, beyond those that a free place waits for.
    cache_tokens: tokens that all running sequences may hold together.
    chunk: tokens in one step at most.
    """

    sequences: int
    queue: int
    cache_tokens: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence's part of a step."""

    sequence: GenerationSequence
    tokens: Sequence[int]
    cache: SequenceCache


class Scheduler:
    """Waiting and running sequences of one model."""

    def __init__(self, limits: Limits, new_cache: Callable[[int], SequenceCache]) -> None:
        self._limits = limits
        self._new_cache = new_cache
        self._waiting: deque[GenerationSequence] = deque()
        self._running: list[GenerationSequence] = []
        self._reserved = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def submit(self, sequences: Sequence[GenerationSequence]) -> None:
        """Queue the answers of one request, all or none.

        Raises:
            BusyError: the queue is full.
            RequestError: one of them could never be admitted.
        """
        for sequence in sequences:
            if sequence.tokens_reserved > self._limits.cache_tokens:
                raise RequestError(
                    f"The prompt and max_tokens together need {sequence.tokens_reserved} tokens of "
                    f"cache; the memory allotted holds {self._limits.cache_tokens}. Ask for fewer "
                    "max_tokens, or raise engine.memory.",
                    param="max_tokens",
                )
        places = self._limits.queue + self._limits.sequences - len(self._running)
        if len(self._waiting) + len(sequences) > places:
            raise BusyError(
                f"{len(self._running)} answers are being written and {len(self._waiting)} are "
                "waiting; the queue is full. Try again in a moment, or raise engine.queue.",
                retry_after=1 + len(self._waiting) // self._limits.sequences,
            )
        self._waiting.extend(sequences)

    def admit(self) -> None:
        """Give free places to those who wait, strictly in order: a long prompt is not overtaken."""
        while self._waiting and len(self._running) < self._limits.sequences:
            need = self._waiting[0].tokens_reserved
            if self._reserved + need > self._limits.cache_tokens:
                return
            sequence = self._waiting.popleft()
            sequence.admit(self._new_cache(need))
            self._reserved += need
            self._running.append(sequence)

    def step(self) -> list[Work]:
        """The parts of the next step, in order of admission."""
        budget = self._limits.chunk - sum(s.decoding for s in self._running)
        work: list[Work] = []
        for sequence in self._running:
            tokens = sequence.next_tokens(max(budget, 0))
            if not sequence.decoding:
                budget -= len(tokens)
            if tokens and sequence.cache is not None:
                work.append(Work(sequence, tokens, sequence.cache))
        return work

    def finish(self) -> None:
        """Let go of the sequences that have ended or were cancelled, and of their memory."""
        for sequence in [s for s in self._running if s.ended or s.cancelled]:
            self._running.remove(sequence)
            self._reserved -= sequence.tokens_reserved
            sequence.cache = None
        if any(s.cancelled for s in self._waiting):
            self._waiting = deque(s for s in self._waiting if not s.cancelled)

    def drain(self) -> list[GenerationSequence]:
        """Give up all sequences (the engine is closing)."""
        left = [*self._running, *self._waiting]
        for sequence in left:
            sequence.cancelled = True
        self.finish()
        return left
