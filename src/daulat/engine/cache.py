"""Keys and values of one sequence, for every block.

The memory for the whole capacity is asked for at once and touched only as tokens come, so an answer that
ends early costs what it used. Not here: who may have how much (that is `scheduler`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from daulat.values.architecture import Architecture


class SequenceCache:
    """Layout [layers, 2, K, capacity, D]: one head's keys lie one behind the other.

    Attributes:
        length: tokens that are in, the same for every block between two forward passes.
        capacity: tokens that fit.
    """

    def __init__(self, architecture: Architecture, capacity: int, dtype: torch.dtype) -> None:
        a = architecture
        self._data = torch.empty((len(a.layers), 2, a.kv_heads, capacity, a.head_dim), dtype=dtype)
        self.capacity = capacity
        self.length = 0

    @property
    def address(self) -> int:
        """Where the numbers lie, for machine code."""
        return self._data.data_ptr()

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put in the keys and values of new tokens, each [n, K, D]; all so far come back, [K, length + n, D].

        `length` moves only by `advance`, when every block has been through.
        """
        end = self.length + keys.shape[0]
        block = self._data[layer]
        block[0, :, self.length : end] = keys.transpose(0, 1)
        block[1, :, self.length : end] = values.transpose(0, 1)
        return block[0, :, :end], block[1, :, :end]

    def advance(self, tokens: int) -> None:
        """Count `tokens` new tokens as in."""
        self.length += tokens

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError("a cache cannot be rewound to what it does not hold")
        self.length = length

    def branch(self, capacity: int) -> SequenceCache:
        """A cache for `capacity` tokens that goes on from what is in this one, which stays as it is."""
        if capacity < self.length:
            raise ValueError("a branch has no room for what it begins with")
        twin = SequenceCache.__new__(SequenceCache)
        layers, two, heads, _, size = self._data.shape
        twin._data = self._data.new_empty((layers, two, heads, capacity, size))
        twin._data[:, :, :, : self.length] = self._data[:, :, :, : self.length]
        twin.capacity, twin.length = capacity, self.length
        return twin
