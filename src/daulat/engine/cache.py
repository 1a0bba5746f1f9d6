"""Keys and values that a model keeps, in blocks of so many tokens.

`Arena` is the memory; a `SequenceCache` is one sequence's list of blocks in it, some of which other sequences
may share. Not here: who may have how many blocks (`scheduler`), and which hold what (`blocks`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from daulat.values.architecture import Architecture

BLOCK_TOKENS = 32
"""Tokens in a block: what is shared or given back at once."""

_SLAB_BYTES = 32 << 20


def blocks_for(tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)


class Arena:
    """The blocks' memory. It grows when a block is first used, and stays until the arena goes.

    A block's layout is [layers, 2, K, BLOCK_TOKENS, D]: of one block, one head's keys lie one behind the other.
    """

    def __init__(self, architecture: Architecture, dtype: torch.dtype) -> None:
        a = architecture
        self._shape = (len(a.layers), 2, a.kv_heads, BLOCK_TOKENS, a.head_dim)
        self._dtype = dtype
        size = BLOCK_TOKENS * a.cache_elements * dtype.itemsize
        self._in_slab = max(1, _SLAB_BYTES // size)
        self._slabs: dict[int, Tensor] = {}

    def block(self, number: int) -> Tensor:
        """The memory of a block."""
        slab, place = divmod(number, self._in_slab)
        if slab not in self._slabs:
            self._slabs[slab] = torch.empty((self._in_slab, *self._shape), dtype=self._dtype)
        return self._slabs[slab][place]


class SequenceCache:
    """One sequence's blocks, in the order of its tokens.

    Attributes:
        length: tokens that are in, the same for every layer between two forward passes.
        numbers: the blocks' numbers.
        table: the blocks' addresses, int64, for machine code; at least as long as `numbers`.
    """

    def __init__(self, arena: Arena, numbers: Iterable[int] = (), length: int = 0) -> None:
        self._arena = arena
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
        self.table[place] = self._arena.block(number).data_ptr()
        self.numbers.append(number)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put in the keys and values of new tokens, each [n, K, D]; all so far come back, [K, length + n, D].

        `length` moves only by `advance`, when every layer has been through.
        """
        count = keys.shape[0]
        new = torch.stack([keys, values]).transpose(1, 2)  # [2, K, n, D]
        done = 0
        while done < count:
            number, place = divmod(self.length + done, BLOCK_TOKENS)
            some = min(BLOCK_TOKENS - place, count - done)
            block = self._arena.block(self.numbers[number])[layer]
            block[:, :, place : place + some] = new[:, :, done : done + some]
            done += some
        used = self.numbers[: blocks_for(self.length + count)]
        whole = torch.cat([self._arena.block(number)[layer] for number in used], dim=2)
        keys, values = whole[:, :, : self.length + count]
        return keys, values

    def advance(self, tokens: int) -> None:
        """Count `tokens` new tokens as in."""
        self.length += tokens


def standalone(architecture: Architecture, capacity: int, dtype: torch.dtype) -> SequenceCache:
    """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
    return SequenceCache(Arena(architecture, dtype), range(blocks_for(capacity)))
