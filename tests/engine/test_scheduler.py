"""The scheduler's bookkeeping under arbitrary arrivals, steps, cancellations and want of memory."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daulat.engine.blocks import Blocks, Content, contents, root
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.scheduler import Limits, Scheduler, Work
from daulat.engine.sequence import Ended, GenerationSequence, Outcome
from daulat.errors import BusyError, RequestError
from daulat.values.request import Sampling
from tests.engine.tiny import Bytes, ByteStream, tiny_decoder

LIMITS = Limits(sequences=4, queue=6, cache_tokens=8 * BLOCK_TOKENS, chunk=48, kept_tokens=96)
MEMORY = tiny_decoder().new_memory(LIMITS.cache_tokens // BLOCK_TOKENS)


def scheduler_of(
    limits: Limits = LIMITS, *, reads_as_it_writes: bool = True, reads_at_once: int = 0
) -> Scheduler:
    return Scheduler(
        limits,
        lambda: SequenceCache(MEMORY),
        reads_as_it_writes=reads_as_it_writes,
        reads_at_once=reads_at_once,
    )


def sequence(
    prompt: int | list[int],
    limit: int,
    heard: list[Outcome] | None = None,
    tenant: str = "",
    begun: int = 0,
) -> GenerationSequence:
    listener = (heard if heard is not None else []).append
    tokens = prompt if isinstance(prompt, list) else [1 + i % 255 for i in range(prompt)]
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    return GenerationSequence(
        tokens,
        sampling,
        limit,
        0,
        0,
        Bytes(),
        ByteStream(),
        listener,
        tenant=tenant,
        begun=begun,
    )


def next_logits(tokens: list[int]) -> np.ndarray:
    """A model: the next token hangs on all before it."""
    logits = np.zeros(256, dtype=np.float32)
    logits[hash(tuple(tokens)) % 255 + 1] = 1
    return logits


def assert_sound(blocks: Blocks) -> None:
    """Every block is in exactly one state, and the tables agree."""
    states = [range(blocks._fresh, blocks.count), blocks._returned, blocks._users, blocks._idle]
    assert sorted(n for state in states for n in state) == list(range(blocks.count))
    assert set(blocks._idle) <= set(blocks._contents) <= {*blocks._users, *blocks._idle}
    assert {c.key: n for n, c in blocks._contents.items()} == blocks._by_key
    assert len(blocks._idle) <= blocks._kept


class SchedulerMachine(RuleBasedStateMachine):
    """Every sequence ends once and writes what it would write alone; no block leaks, none is shared across
    tenants, and what a block is read for is what was written into it."""

    reads_as_it_writes = True

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = scheduler_of(reads_as_it_writes=self.reads_as_it_writes)
        self.alive: list[tuple[GenerationSequence, list[Outcome]]] = []
        self.memory: dict[int, dict[int, tuple[str, bool, tuple[int, ...]]]] = {}
        self.pushed_out = self.taken_over = 0

    @rule(
        shared=st.integers(0, 100),
        own=st.integers(1, 60),
        limit=st.integers(1, 90),
        count=st.integers(1, 3),
        tenant=st.sampled_from(["a", "b"]),
    )
    def arrive(self, shared: int, own: int, limit: int, count: int, tenant: str) -> None:
        self.ask([7] * shared + [1 + (own * i) % 250 for i in range(own)], limit, count, tenant)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), limit=st.integers(1, 90))
    def go_on(self, data: st.DataObject, limit: int) -> None:
        """The next turn of a chat: what was asked and answered, and a word more."""
        before, _ = data.draw(st.sampled_from(self.alive))
        if len(before.tokens) + limit < LIMITS.cache_tokens:
            self.ask([*before.tokens, 5], limit, 1, before.tenant)

    def ask(self, prompt: list[int], limit: int, count: int, tenant: str) -> None:
        heard: list[list[Outcome]] = [[] for _ in range(count)]
        new = [sequence(prompt, limit, h, tenant) for h in heard]
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
        before = {s for s, _ in self.alive if s.cache is not None}
        work = self.scheduler.step()
        self.pushed_out += sum(s.cache is None for s in before)
        decoding = sum(part.sequence.decoding for part in work)
        prefill = sum(len(part.tokens) for part in work if not part.sequence.decoding)
        assert prefill <= max(LIMITS.chunk - decoding, 0)
        assert work or self.scheduler.idle
        for part in work:
            self._compute(part)
        self.scheduler.finish()

    def _compute(self, part: Work) -> None:
        """Write what is new into the blocks, and see that what is there is this sequence's own past."""
        cache, tokens = part.cache, part.sequence.tokens
        assert cache.length + len(part.tokens) <= cache.capacity
        assert part.tokens == tokens[cache.length : cache.length + len(part.tokens)]
        place, read = self.memory, len(part.sequence.prompt)
        kinds = {i >= read for i in range(cache.length, cache.length + len(part.tokens))}
        assert kinds == {part.written}
        for i in range(cache.length + len(part.tokens)):
            block = place.setdefault(cache.numbers[i // BLOCK_TOKENS], {})
            written = i >= read and not self.reads_as_it_writes
            past = (part.sequence.tenant, written, tuple(tokens[: i + 1]))
            if i < cache.length:
                assert block[i % BLOCK_TOKENS] == past
            block[i % BLOCK_TOKENS] = past
        cache.advance(len(part.tokens))
        part.sequence.accept(len(part.tokens), next_logits(tokens))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        victim, _ = data.draw(st.sampled_from(self.alive))
        victim.cancelled = True
        self.scheduler.finish()

    @invariant()
    def nothing_is_overdrawn(self) -> None:
        assert_sound(self.scheduler.blocks)
        running = [s for s, _ in self.alive if s.cache is not None]
        assert self.scheduler.running == len(running) <= LIMITS.sequences
        held = [n for s in running if s.cache is not None for n in s.cache.numbers]
        assert {n: held.count(n) for n in held} == self.scheduler.blocks._users

    def teardown(self) -> None:
        for _ in range(5000):
            if self.scheduler.idle:
                break
            self.step()
        assert self.scheduler.idle
        assert not self.scheduler.blocks._users
        assert not self.scheduler._contents
        assert not self.scheduler._coming
        for each, heard in self.alive:
            assert each.cache is None
            ends = [outcome for outcome in heard if isinstance(outcome, Ended)]
            assert len(ends) == (0 if each.cancelled and not each.ended else 1)
            if ends:
                assert ends[0].completion_tokens == each.limit
                alone = list(each.prompt)
                for _ in range(each.limit):
                    alone.append(int(next_logits(alone).argmax()))
                assert each.tokens == alone


SchedulerMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None
)
TestScheduler = SchedulerMachine.TestCase


class ApartMachine(SchedulerMachine):
    """The same where what was written does not stand for the same tokens in a prompt."""

    reads_as_it_writes = False


ApartMachine.TestCase.settings = SchedulerMachine.TestCase.settings
TestSchedulerApart = ApartMachine.TestCase


def run(scheduler: Scheduler) -> list[Work]:
    """One step, computed by the model above."""
    scheduler.admit()
    work = scheduler.step()
    for part in work:
        part.cache.advance(len(part.tokens))
        part.sequence.accept(len(part.tokens), next_logits(part.sequence.tokens))
    scheduler.finish()
    return work


def test_first_come_first_served_even_when_a_later_one_would_fit() -> None:
    scheduler = scheduler_of()
    big, bigger, small = sequence(150, 20), sequence([9] * 150, 20), sequence(2, 2)
    for each in (big, bigger, small):
        scheduler.submit([each])
    scheduler.admit()
    assert big.cache is not None
    assert bigger.cache is None
    assert small.cache is None


def test_a_request_that_can_never_fit_is_refused_with_both_numbers() -> None:
    scheduler = scheduler_of()
    with pytest.raises(RequestError, match=r"257 tokens.*holds 256"):
        scheduler.submit([sequence(200, 58)])


def test_a_long_prompt_shares_the_step_with_answers_in_progress() -> None:
    scheduler = scheduler_of()
    short, long = sequence(3, 20), sequence(100, 5)
    scheduler.submit([short])
    run(scheduler)
    scheduler.submit([long])
    scheduler.admit()
    lengths = {part.sequence: len(part.tokens) for part in scheduler.step()}
    assert lengths == {short: 1, long: LIMITS.chunk - 1}


def test_a_long_prompt_is_read_at_once_while_nobody_waits_for_a_word() -> None:
    scheduler = scheduler_of(reads_at_once=60)
    first, other = sequence(70, 20), sequence([7] * 70, 20)
    scheduler.submit([first])
    scheduler.admit()
    assert [len(part.tokens) for part in scheduler.step()] == [60]
    while not first.decoding:
        run(scheduler)
    scheduler.submit([other])
    scheduler.admit()
    lengths = {part.sequence: len(part.tokens) for part in scheduler.step()}
    assert lengths == {first: 1, other: LIMITS.chunk - 1}


def test_who_has_the_fewest_at_work_comes_next() -> None:
    scheduler = scheduler_of()
    many = [sequence([k] * 5, 50, tenant="many") for k in range(6)]
    few = [sequence([k] * 5, 50, tenant="few") for k in range(2)]
    scheduler.submit(many)
    scheduler.submit(few)
    run(scheduler)
    at_work = [s for s in (*many, *few) if s.cache is not None]
    assert at_work == [*many[:2], *few]


def test_the_same_beginning_is_computed_once_for_all_who_come_together() -> None:
    scheduler = scheduler_of()
    alike = [sequence([3] * 64 + [k], 10) for k in range(3)]
    scheduler.submit(alike)
    computed = sum(len(part.tokens) for _ in range(8) for part in run(scheduler))
    decoded = sum(len(s.tokens) - 65 for s in alike)
    assert computed == 64 + 3 + decoded - 3
    assert [s.cached for s in alike] == [0, 64, 64]


def test_what_an_ended_answer_computed_serves_the_next_of_its_tenant_only() -> None:
    scheduler = scheduler_of()
    first = sequence([3] * 40, 40, tenant="a")
    scheduler.submit([first])
    while not scheduler.idle:
        run(scheduler)
    again = sequence([*first.tokens, 5], 5, tenant="a")
    other = sequence([*first.tokens, 5], 5, tenant="b")
    scheduler.submit([other])
    run(scheduler)
    scheduler.submit([again])
    run(scheduler)
    assert (again.cached, other.cached) == (64, 0)  # what was written serves, too


def test_what_was_written_serves_nobody_where_it_is_not_what_reading_gives() -> None:
    scheduler = scheduler_of(reads_as_it_writes=False)
    first = sequence([3] * 40, 40)
    scheduler.submit([first])
    while not scheduler.idle:
        run(scheduler)
    again = sequence([*first.tokens, 5], 5)
    scheduler.submit([again])
    run(scheduler)
    assert again.cached == 32  # the one block that is all prompt


def test_what_an_answer_was_begun_with_is_written_and_serves_nobody() -> None:
    scheduler = scheduler_of(reads_as_it_writes=False)
    scheduler.submit([sequence([3] * 44, 3, begun=10)])
    parts = [part for _ in range(4) for part in run(scheduler)]
    assert [(len(p.tokens), p.written) for p in parts] == [
        (34, False),
        (10, True),
        (1, True),
        (1, True),
    ]
    again = sequence([3] * 70, 3)
    scheduler.submit([again])
    run(scheduler)
    assert again.cached == 32


@pytest.mark.parametrize("reads_as_it_writes", [True, False])
def test_one_who_is_pushed_out_writes_the_same(reads_as_it_writes: bool) -> None:
    scheduler = scheduler_of(reads_as_it_writes=reads_as_it_writes)
    heard: list[Outcome] = []
    old, young = sequence([1] * 60, 190), sequence([2] * 60, 190, heard)
    scheduler.submit([old, young])
    seen: set[int] = set()
    while not scheduler.idle:
        run(scheduler)
        seen.add(scheduler.running)
    assert seen == {0, 1, 2}
    alone = [2] * 60
    for _ in range(190):
        alone.append(int(next_logits(alone).argmax()))
    assert young.tokens == alone
    assert isinstance(heard[-1], Ended)


def test_a_key_that_is_found_is_not_believed() -> None:
    blocks = Blocks(4, 4)
    (real,) = contents(root("a"), [1] * BLOCK_TOKENS)
    number = blocks.take()
    blocks.keep(number, real)
    assert blocks.find([real]) == [number]
    forged = Content(real.key, real.before, contents(root("a"), [2] * BLOCK_TOKENS)[0].tokens)
    assert blocks.find([forged]) == []


def test_tenants_names_cannot_be_run_together() -> None:
    assert len({root("ab", "c"), root("a", "bc"), root("abc"), root("abc", "")}) == 4
