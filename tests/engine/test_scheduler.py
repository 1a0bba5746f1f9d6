"""The scheduler's bookkeeping under arbitrary arrivals, steps and cancellations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daulat.engine.scheduler import Limits, Scheduler
from daulat.engine.sequence import Ended, GenerationSequence, Outcome
from daulat.errors import BusyError, RequestError
from daulat.values.request import Sampling
from tests.engine.tiny import Bytes, ByteStream, tiny_decoder

DECODER = tiny_decoder()
LIMITS = Limits(sequences=3, queue=4, cache_tokens=120, chunk=8)


def sequence(prompt: int, limit: int, heard: list[Outcome] | None = None) -> GenerationSequence:
    listener = (heard if heard is not None else []).append
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    return GenerationSequence(
        [1 + i % 255 for i in range(prompt)], sampling, limit, 0, 0, Bytes(), ByteStream(), listener
    )


class SchedulerMachine(RuleBasedStateMachine):
    """Every sequence ends once, places and memory are never overdrawn and all come back."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(LIMITS, DECODER.new_cache)
        self.alive: list[tuple[GenerationSequence, list[Outcome]]] = []
        self.random = np.random.default_rng(0)

    @rule(prompt=st.integers(1, 60), limit=st.integers(1, 40), count=st.integers(1, 3))
    def arrive(self, prompt: int, limit: int, count: int) -> None:
        heard: list[list[Outcome]] = [[] for _ in range(count)]
        new = [sequence(prompt, limit, h) for h in heard]
        full = self.scheduler.waiting + count > LIMITS.queue + LIMITS.sequences - (
            self.scheduler.running
        )
        if full:
            with pytest.raises(BusyError) as refused:
                self.scheduler.submit(new)
            assert refused.value.retry_after >= 1
        else:
            self.scheduler.submit(new)
            self.alive.extend(zip(new, heard, strict=True))

    @rule()
    def step(self) -> None:
        self.scheduler.admit()
        work = self.scheduler.step()
        decoding = sum(part.sequence.decoding for part in work)
        prefill = sum(len(part.tokens) for part in work if not part.sequence.decoding)
        assert prefill <= max(LIMITS.chunk - decoding, 0)
        for part in work:
            assert part.cache.length + len(part.tokens) <= part.cache.capacity
            part.cache.advance(len(part.tokens))
            logits = self.random.normal(size=256).astype(np.float32)
            part.sequence.accept(len(part.tokens), logits)
        self.scheduler.finish()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        victim, _ = data.draw(st.sampled_from(self.alive))
        victim.cancelled = True
        self.scheduler.finish()

    @invariant()
    def nothing_is_overdrawn(self) -> None:
        running = [s for s, _ in self.alive if s.cache is not None and not s.cancelled]
        assert self.scheduler.running == len(running) <= LIMITS.sequences
        held = sum(s.cache.capacity for s in running if s.cache is not None)
        assert held == sum(s.tokens_reserved for s in running) <= LIMITS.cache_tokens

    def teardown(self) -> None:
        for _ in range(2000):
            if self.scheduler.idle:
                break
            self.step()
        assert self.scheduler.idle
        for each, heard in self.alive:
            assert each.cache is None
            ends = [outcome for outcome in heard if isinstance(outcome, Ended)]
            assert len(ends) == (0 if each.cancelled and not each.ended else 1)
            if ends:
                assert ends[0].completion_tokens == each.limit


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestScheduler = SchedulerMachine.TestCase


def test_first_come_first_served_even_when_a_later_one_would_fit() -> None:
    scheduler = Scheduler(LIMITS, DECODER.new_cache)
    big, bigger, small = sequence(50, 20), sequence(50, 20), sequence(2, 2)
    for each in (big, bigger, small):
        scheduler.submit([each])
    scheduler.admit()
    assert (big.cache, bigger.cache, small.cache) != (None, None, None)
    assert big.cache is not None
    assert bigger.cache is None
    assert small.cache is None


def test_a_request_that_can_never_fit_is_refused_with_both_numbers() -> None:
    scheduler = Scheduler(LIMITS, DECODER.new_cache)
    with pytest.raises(RequestError, match=r"130 tokens.*holds 120"):
        scheduler.submit([sequence(100, 31)])


def test_a_long_prompt_shares_the_step_with_answers_in_progress() -> None:
    scheduler = Scheduler(LIMITS, DECODER.new_cache)
    short, long = sequence(3, 20), sequence(40, 5)
    scheduler.submit([short])
    scheduler.admit()
    (part,) = scheduler.step()
    part.sequence.accept(3, np.zeros(256, np.float32))
    scheduler.submit([long])
    scheduler.admit()
    lengths = {part.sequence: len(part.tokens) for part in scheduler.step()}
    assert lengths == {short: 1, long: LIMITS.chunk - 1}
