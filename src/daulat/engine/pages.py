"""Keys and values where PyTorch computes: one tensor on the model's device, cut into blocks.

A token's place in it is its slot: its block's number times BLOCK_TOKENS, and its place in the block. One block
more than sequences may have is nobody's: one of its slots stays zero and is read in place of tokens that a
sequence does not have, another is written to in place of tokens that a padded step does not have.

The memory is there whole from the start, since a captured step (`graphs`) knows its address; on the processor
the system gives it page by page.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daulat.engine.cache import BLOCK_TOKENS, SequenceCache, blocks_for
from daulat.values.architecture import Architecture


class Pages:
    """Args:
    blocks: how many sequences may have.

    Attributes:
        spare: the number of the block that is nobody's.
        nothing: the slot that stays zero.
        waste: the slot that may be written to.
    """

    def __init__(
        self, architecture: Architecture, dtype: torch.dtype, device: torch.device, blocks: int
    ) -> None:
        a = architecture
        self.dtype = dtype
        self.spare = blocks
        self.nothing = blocks * BLOCK_TOKENS
        self.waste = self.nothing + 1
        shape = (len(a.layers), 2, (blocks + 1) * BLOCK_TOKENS, a.kv_heads, a.head_dim)
        self._slots = torch.empty(shape, dtype=dtype, device=device)
        self._block(self.spare).zero_()

    def entry(self, number: int) -> int:
        return number

    def copy(self, number: int, source: int) -> None:
        self._block(number).copy_(self._block(source))

    def _block(self, number: int) -> Tensor:
        return self._slots[:, :, number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS]

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put in keys and values [n, K, D] of tokens whose slots [n] are given."""
        self._slots[layer, 0].index_copy_(0, slots, keys)
        self._slots[layer, 1].index_copy_(0, slots, values)

    def read(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, L, K, D] of the slots [B, L]."""
        shape = (*slots.shape, *self._slots.shape[-2:])
        keys, values = (s.index_select(0, slots.flatten()) for s in self._slots[layer])
        return keys.view(shape), values.view(shape)


def standalone(
    architecture: Architecture, capacity: int, dtype: torch.dtype, device: torch.device
) -> SequenceCache:
    """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
    count = blocks_for(capacity)
    return SequenceCache(Pages(architecture, dtype, device, count), range(count))
