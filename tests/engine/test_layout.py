"""Which thread computes which rows of a step."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from daulat.engine.native import layout
from daulat.engine.step import Chunk

CHUNKS = st.lists(st.tuples(st.integers(1, 1100), st.booleans()), min_size=1, max_size=20)


def chunks_of(kinds: list[tuple[int, bool]]) -> list[Chunk]:
    nowhere = cast("Any", None)
    return [Chunk(range(count), nowhere, written=written) for count, written in kinds]


@given(CHUNKS, st.integers(2, 8))
def test_every_token_is_one_thread_s(kinds: list[tuple[int, bool]], threads: int) -> None:
    shares = layout.apart(chunks_of(kinds), threads)
    read = sum(count for count, written in kinds if not written)
    if not shares:
        # Too few, or none for somebody, as only whole tiles of a prompt are shared.
        assert read < layout.LEAST * threads or max(count for count, _ in kinds) < 32 * threads
        return
    assert len(shares) == threads
    assert all(shares)
    seen = [
        (p.place, t) for share in shares for p in share for t in range(p.first, p.first + p.count)
    ]
    assert sorted(seen) == [(k, t) for k, (count, _) in enumerate(kinds) for t in range(count)]
    for share in shares:
        assert [p.chunk.written for p in share] == sorted(p.chunk.written for p in share)


def cost(share: list[layout.Piece], context: int) -> int:
    """Pairs of a query and a key."""
    return sum(context + t + 1 for p in share for t in range(p.first, p.first + p.count))


@given(st.integers(512, 2048), st.integers(2, 4), st.integers(0, 2000))
def test_a_long_prompt_s_parts_see_as_much(count: int, threads: int, context: int) -> None:
    shares = layout.apart(chunks_of([(count, False)]), threads)
    costs = [cost(share, context) for share in shares]
    # Borders lie between whole tiles, so each of two parts may be off by one at each end.
    assert max(costs) - min(costs) <= 4 * 16 * (context + count)


def test_the_least_busy_thread_has_what_is_not_cut() -> None:
    prompts, answers = [(300, False)] * 2, [(1, True)] * 9
    shares = layout.apart(chunks_of(prompts + answers), 2)
    counts = [sum(p.count for p in share) for share in shares]
    assert abs(counts[0] - counts[1]) <= 32
