"""Who is in the next step: admit, step, finish.

Plain bookkeeping without threads, clocks or tensors. A sequence is admitted when there is a place, and memory
for what is known of it; what it writes takes memory as it comes. Each round every sequence gets a step: one
token where all before it is computed, else a stretch of what is not, as long as the step's token budget lasts.

- What another sequence of the same tenant has computed is taken over, block by block (`blocks`). Who begins
  like one that is being computed waits for it, rather than compute the same beside it.
- Where memory runs out, the one admitted last is pushed out, and computed anew later: the numbers come out
  the same, so its answer goes on as if nothing had been. The one admitted first is never pushed out, and each
  fits alone, so all come to their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daulat.engine.blocks import Blocks, Content, contents
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache, blocks_for
from daulat.engine.sequence import GenerationSequence
from daulat.engine.waiting import Waiting
from daulat.errors import BusyError, RequestError


@dataclass(frozen=True, slots=True)
class Limits:
    """Attributes:
    sequences: computed together at most.
    queue: waiting at most, beyond those that a free place waits for.
    cache_tokens: tokens whose keys and values may be held, at most.
    kept_tokens: how many of these may be of answers that have ended, for those who begin alike.
    chunk: tokens in one step at most, but for `reads_at_once`.
    """

    sequences: int
    queue: int
    cache_tokens: int
    chunk: int
    kept_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence's part of a step; see `engine.step.Chunk`."""

    sequence: GenerationSequence
    tokens: Sequence[int]
    cache: SequenceCache
    written: bool


class Scheduler:
    """Waiting and running sequences of one model.

    Args:
        new_cache: a cache of no blocks, in the memory that the blocks' numbers mean.
        reads_as_it_writes: what was written may stand for the same tokens in a prompt (`step.Computer`).
        reads_at_once: so many tokens in a step while nobody writes, if they are more than the limit.
    """

    def __init__(
        self,
        limits: Limits,
        new_cache: Callable[[], SequenceCache],
        *,
        reads_as_it_writes: bool = True,
        reads_at_once: int = 0,
    ) -> None:
        self._limits = limits
        self._reads_as_it_writes = reads_as_it_writes
        self._reads_at_once = reads_at_once
        self._new_cache = new_cache
        self.blocks = Blocks(
            limits.cache_tokens // BLOCK_TOKENS, limits.kept_tokens // BLOCK_TOKENS
        )
        self._waiting = Waiting()
        self._running: list[GenerationSequence] = []
        self._contents: dict[GenerationSequence, list[Content]] = {}
        self._coming: dict[bytes, GenerationSequence] = {}  # keys of what is being computed

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
            RequestError: one of them could never be completed.
        """
        for sequence in sequences:
            if blocks_for(sequence.tokens_reserved) > self.blocks.count:
                raise RequestError(
                    f"The prompt and max_tokens together need {sequence.tokens_reserved} tokens of "
                    f"cache; the memory allotted holds {self.blocks.count * BLOCK_TOKENS}. Ask for "
                    "fewer max_tokens, or raise engine.memory.",
                    param="max_tokens",
                )
        places = self._limits.queue + self._limits.sequences - len(self._running)
        if len(self._waiting) + len(sequences) > places:
            raise BusyError(
                f"{len(self._running)} answers are being written and {len(self._waiting)} are "
                "waiting; the queue is full. Try again in a moment, or raise engine.queue.",
                retry_after=1 + len(self._waiting) // self._limits.sequences,
            )
        for sequence in sequences:
            self._waiting.add(sequence)
            self._contents[sequence] = contents(sequence.root, sequence.tokens)

    def admit(self) -> None:
        """Give free places to those who wait; whose turn it is is not overtaken for want of memory."""
        while len(self._running) < self._limits.sequences:
            sequence = self._waiting.turn(self._running, self._need_not_wait)
            if sequence is None:
                return
            found = self.blocks.find(self._shareable(sequence))
            need = blocks_for(len(sequence.tokens)) - len(found)
            held_back = sum(not self.blocks.is_used(number) for number in found)
            # A block more for each who is at work, so that none is pushed out at once.
            if need + held_back + len(self._running) > self.blocks.available:
                return
            self._waiting.remove(sequence)
            self._start(sequence, found, need)

    def _start(self, sequence: GenerationSequence, found: Sequence[int], need: int) -> None:
        cache = self._new_cache()
        for number in found:
            self.blocks.hold(number)
            cache.add(number)
        for _ in range(need):
            cache.add(self.blocks.take())
        cache.advance(len(found) * BLOCK_TOKENS)
        sequence.admit(cache)
        self._running.append(sequence)
        for content in self._contents[sequence][len(found) : self._common(sequence)]:
            self._coming.setdefault(content.key, sequence)

    def _shareable(self, sequence: GenerationSequence) -> list[Content]:
        """What may be taken over: all full blocks before the last token, which must be computed in any case."""
        most = min(self._common(sequence), (len(sequence.tokens) - 1) // BLOCK_TOKENS)
        return self._contents[sequence][:most]

    def _common(self, sequence: GenerationSequence) -> int:
        """How many of a sequence's blocks are the same for all who have their tokens."""
        if not sequence.may_share:
            return 0
        alike = len(sequence.tokens) if self._reads_as_it_writes else sequence.asked
        return alike // BLOCK_TOKENS

    def _need_not_wait(self, sequence: GenerationSequence) -> bool:
        """Whether nobody computes the very block that this one would compute first."""
        wanted = self._shareable(sequence)
        found = len(self.blocks.find(wanted))
        return found == len(wanted) or wanted[found].key not in self._coming

    def step(self) -> list[Work]:
        """The parts of the next step, in order of admission."""
        writing = sum(s.decoding for s in self._running)
        # While nobody waits for a word, what is best for reading is best for all.
        alone = 0 if writing else self._reads_at_once
        budget = max(self._limits.chunk - writing, alone)
        work: list[Work] = []
        for sequence in list(self._running):
            if sequence.cache is None:
                continue  # pushed out by one before it
            tokens, written = sequence.next_tokens(max(budget, 0)), not sequence.reading
            if not tokens or not self._make_room(sequence, len(tokens)):
                continue
            if not sequence.decoding:
                budget -= len(tokens)
            work.append(Work(sequence, tokens, sequence.cache, written))
        return work

    def _make_room(self, sequence: GenerationSequence, tokens: int) -> bool:
        """Blocks for so many more tokens; False: the sequence itself was pushed out."""
        cache = sequence.cache
        assert cache is not None  # noqa: S101 - narrows the type; it is running
        while cache.length + tokens > cache.capacity:
            if self.blocks.available:
                cache.add(self.blocks.take())
                continue
            last = self._running[-1]
            self._leave(last)
            last.push_out()
            self._waiting.put_back(last)
            if last is sequence:
                return False
        return True

    def finish(self) -> None:
        """Note what was computed; let go of the sequences that have ended or were cancelled."""
        for sequence in list(self._running):
            self._note(sequence)
            if sequence.ended or sequence.cancelled:
                self._leave(sequence)
                del self._contents[sequence]
                sequence.cache = None
        for sequence in [s for s in self._waiting if s.cancelled]:
            self._waiting.remove(sequence)
            del self._contents[sequence]

    def _note(self, sequence: GenerationSequence) -> None:
        """Let others find the blocks that are full now."""
        cache = sequence.cache
        assert cache is not None  # noqa: S101 - narrows the type; it is running
        full = cache.length // BLOCK_TOKENS
        while sequence.noted < full:
            known, at = self._contents[sequence], sequence.noted
            if at == len(known):
                before = known[-1].key if known else sequence.root
                first = at * BLOCK_TOKENS
                tokens = sequence.tokens[first : first + BLOCK_TOKENS]
                known.extend(contents(before, tokens))
            if at < self._common(sequence):
                self.blocks.keep(cache.numbers[at], known[at])
            if self._coming.get(known[at].key) is sequence:
                del self._coming[known[at].key]
            sequence.noted += 1

    def _leave(self, sequence: GenerationSequence) -> None:
        assert sequence.cache is not None  # noqa: S101 - narrows the type; it is running
        self._running.remove(sequence)
        self.blocks.release(sequence.cache.numbers)
        for content in self._contents[sequence][sequence.noted :]:
            if self._coming.get(content.key) is sequence:
                del self._coming[content.key]

    def drain(self) -> list[GenerationSequence]:
        """Give up all sequences (the engine is closing)."""
        left = [*self._running, *self._waiting]
        for sequence in left:
            sequence.cancelled = True
        self.finish()
        return left
