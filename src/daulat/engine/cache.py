"""Keys and values that a model keeps, in blocks of so many tokens.

`Arena` is the memory for machine code, `pages.Pages` that for PyTorch; a `SequenceCache` is one sequence's
list of blocks in either, some of which other sequences may share. Not here: who may have how many blocks
(`scheduler`), and which hold what (`blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daulat.values.architecture import Architecture

BLOCK_TOKENS = 32
"""Tokens in a block: what is shared or given back at once."""

_SLAB_BYTES = 16 << 20
"""Asked of the system together. Beyond 32 MiB the C library would give them back to it at once, and clearing
their pages anew took a fifth of scoring."""
_LINE = 64


def blocks_for(tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)


class Memory(Protocol):
    """Where blocks lie."""

    def entry(self, number: int) -> int:
        """What stands for a block in a sequence's table."""
        ...

    def copy(self, number: int, source: int) -> None:
        """Put into a block what is in another."""
        ...


class Arena:
    """The blocks' memory. It grows when a block is first used, and stays until the arena goes.

    A block's layout is [layers, 2, K, D, BLOCK_TOKENS] for keys and [.., BLOCK_TOKENS, D] for values in
    float32, and by pairs in bfloat16 (`native.attention`); what stands for it in a table is its address.

    Args:
        most: so many blocks will be asked for at most.
    """

    def __init__(
        self, architecture: Architecture, dtype: np.dtype[Any], most: int | None = None
    ) -> None:
        a = architecture
        self._dtype = dtype
        self._shape = (len(a.layers), 2, a.kv_heads, BLOCK_TOKENS, a.head_dim)
        size = BLOCK_TOKENS * a.cache_elements * dtype.itemsize
        fitting = max(1, _SLAB_BYTES // size)
        self._in_slab = min(most or fitting, fitting)
        self._slabs: dict[int, NDArray[Any]] = {}

    def entry(self, number: int) -> int:
        return self.block(number).ctypes.data

    def copy(self, number: int, source: int) -> None:
        self.block(number)[:] = self.block(source)

    def block(self, number: int) -> NDArray[Any]:
        """The memory of a block."""
        slab, place = divmod(number, self._in_slab)
        if slab not in self._slabs:
            self._slabs[slab] = aligned((self._in_slab, *self._shape), self._dtype)
        return self._slabs[slab][place]


class SequenceCache:
    """One sequence's blocks, in the order of its tokens.

    Attributes:
        memory: where they lie.
        length: tokens that are in, the same for every layer between two forward passes.
        numbers: the blocks' numbers.
        table: the memory's entries for them, int64; at least as long as `numbers`.
    """

    def __init__(self, memory: Memory, numbers: Iterable[int] = (), length: int = 0) -> None:
        self.memory = memory
        self.length = length
        self.numbers: list[int] = []
        self.table = np.zeros(8, dtype=np.int64)
        for number in numbers:
            self.add(number)

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return len(self.numbers) * BLOCK_TOKENS

    def add(self, number: int) -> None:
        """One more block, behind the others."""
        place = len(self.numbers)
        if place == len(self.table):
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
        self.table[place] = self.memory.entry(number)
        self.numbers.append(number)

    def advance(self, tokens: int) -> None:
        """Count `tokens` new tokens as in."""
        self.length += tokens

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError("a cache cannot be rewound to what it does not hold")
        self.length = length

    def branch(self, numbers: Sequence[int]) -> SequenceCache:
        """A cache that goes on from what is in this one.

        Full blocks become common to both, so neither may be rewound into them; what is in the last one, if
        that is not full, is copied.

        Args:
            numbers: blocks of the same memory that are nobody's, for what comes.
        """
        full, rest = divmod(self.length, BLOCK_TOKENS)
        if rest:
            if not numbers:
                raise ValueError("a branch has no room for what it begins with")
            self.memory.copy(numbers[0], self.numbers[full])
        return SequenceCache(self.memory, [*self.numbers[:full], *numbers], self.length)


def standalone(architecture: Architecture, capacity: int, dtype: np.dtype[Any]) -> SequenceCache:
    """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
    count = blocks_for(capacity)
    return SequenceCache(Arena(architecture, dtype, count), range(count))


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory that begins with a cache line."""
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, dtype=np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)
