"""Blocks of one memory for caches that come and go, and branch off from each other.

For work of a bounded size outside the scheduler (`scoring`), where who holds what is known by construction.
Not here: sequences that wait for memory or are pushed out of it (`scheduler`), blocks found by what is in them
(`blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable

from daulat.engine.cache import BLOCK_TOKENS, SequenceCache, blocks_for
from daulat.engine.step import Computer


class Stock:
    """Args:
    computer: whose keys and values the blocks are for.
    blocks: how many there are.

    Attributes:
        nothing: a cache of no tokens, for those that go on from nowhere.
    """

    def __init__(self, computer: Computer, blocks: int) -> None:
        # Not `new_memory`, which is the engine's own: on a device, steps are captured in the last one.
        self.nothing = SequenceCache(computer.new_cache(blocks * BLOCK_TOKENS).memory)
        self._free = list(range(blocks))
        self._taken: dict[SequenceCache, list[int]] = {}

    def has(self, trunk: SequenceCache, tokens: int) -> bool:
        """Whether there are blocks for such a cache."""
        return blocks_behind(trunk.length, tokens) <= len(self._free)

    def open(self, trunk: SequenceCache, tokens: int) -> SequenceCache:
        """A cache for so many tokens that goes on from what is in `trunk`; `has` says whether it can be had."""
        need = blocks_behind(trunk.length, tokens)
        taken = self._free[len(self._free) - need :]
        cache = trunk.branch(taken)
        del self._free[len(self._free) - need :]
        self._taken[cache] = taken
        return cache

    def open_all(self, trunk: SequenceCache, tokens: Iterable[int]) -> list[SequenceCache]:
        """Caches for the first of these, as many as there are blocks for."""
        found: list[SequenceCache] = []
        for count in tokens:
            if not self.has(trunk, count):
                break
            found.append(self.open(trunk, count))
        return found

    def close(self, caches: Iterable[SequenceCache]) -> None:
        """Take back the blocks of caches from which no other goes on any more."""
        for cache in caches:
            self._free += self._taken.pop(cache)


def blocks_behind(length: int, tokens: int) -> int:
    """Blocks that a cache for so many tokens needs where the full ones of its first `length` are another's."""
    return blocks_for(tokens) - length // BLOCK_TOKENS
