"""A step as tensors: the rows of all its sequences, where their keys and values go, and whose blocks are whose.

Made on the processor, then moved; nothing but tensors and shapes is left for the device to know.
Shapes: T tokens of the step, B sequences of a part, W blocks in its longest table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine.adapter import Adapter
from daulat.engine.cache import BLOCK_TOKENS, blocks_for
from daulat.engine.pages import Pages
from daulat.engine.step import Chunk
from daulat.engine.tensors import tensor
from daulat.values.architecture import Rope

Turns = Mapping[Rope, tuple[Tensor, Tensor]]
"""cos and sin, float32 [T, 1, dims / 2]."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows whose attention is computed together: of one sequence, or one row each of many in one memory.

    Attributes:
        rows: which of the step's.
        tables: [B, W], their blocks' numbers; the spare one's where a sequence has fewer.
        anew: nothing of the sequence is cached, and it brings several tokens.
    """

    pages: Pages
    rows: slice
    tables: Tensor
    anew: bool = False

    def of(self, rows: Tensor) -> Tensor:
        """Its own of the step's rows, [B, n, ...]."""
        return rows[self.rows].view(len(self.tables), -1, *rows.shape[1:])


@dataclass(frozen=True, slots=True)
class Batch:
    """Attributes:
    tokens, positions, slots: [T].
    starts: each chunk's first row.
    changes: rows that an adapter changes.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    turns: Turns
    parts: tuple[Part, ...]
    starts: tuple[int, ...] = ()
    changes: tuple[tuple[slice, Adapter], ...] = ()

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor changed."""
        return replace(
            self,
            tokens=change(self.tokens),
            positions=change(self.positions),
            slots=change(self.slots),
            turns={rope: (change(cos), change(sin)) for rope, (cos, sin) in self.turns.items()},
            parts=tuple(replace(part, tables=change(part.tables)) for part in self.parts),
        )

    def tensors(self) -> list[Tensor]:
        """All of them, in one order."""
        turns = [one for pair in self.turns.values() for one in pair]
        tables = [part.tables for part in self.parts]
        return [self.tokens, self.positions, self.slots, *turns, *tables]

    def padded(self, rows: int, width: int) -> Batch:
        """With more rows, which read and write what is nobody's; one part of one row a sequence."""
        (part,) = self.parts
        more = rows - len(self.tokens)
        wide = width - part.tables.shape[1]
        batch = self.each(lambda one: one if one is part.tables else _longer(one, more))
        tables = F.pad(part.tables, (0, wide, 0, more), value=part.pages.spare)
        batch.slots[rows - more :] = part.pages.waste
        return replace(batch, parts=(replace(part, rows=slice(0, rows), tables=tables),))


def _longer(rows: Tensor, more: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(more, *rows.shape[1:])])


def batch_of(chunks: Sequence[Chunk], vocab: int, turns: Callable[[Tensor], Turns]) -> Batch:
    """The step's tensors, on the processor.

    Args:
        turns: of positions [T].

    Raises:
        IndexError: a token is not in the vocabulary, or a sequence's blocks do not hold its tokens.
    """
    for chunk in chunks:
        if min(chunk.tokens) < 0 or max(chunk.tokens) >= vocab:
            raise IndexError("a token is not in the vocabulary")
        if chunk.cache.length + len(chunk.tokens) > chunk.cache.capacity:
            raise IndexError("a sequence has more tokens than its cache holds")
    groups = _groups(chunks)
    ordered = [chunks[place] for group in groups for place in group]
    counts = [len(chunk.tokens) for chunk in ordered]
    firsts = np.cumsum([0, *counts]).tolist()
    starts = dict(zip((place for group in groups for place in group), firsts, strict=False))
    positions = [np.arange(c.cache.length, c.cache.length + len(c.tokens)) for c in ordered]
    slots = [
        c.cache.table[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS
        for c, at in zip(ordered, positions, strict=True)
    ]
    every = tensor(np.concatenate(positions))
    return Batch(
        torch.tensor([token for chunk in ordered for token in chunk.tokens]),
        every,
        tensor(np.concatenate(slots)),
        turns(every),
        tuple(_part([chunks[place] for place in group], starts[group[0]]) for group in groups),
        tuple(starts[place] for place in range(len(chunks))),
        tuple(
            (slice(start, start + count), chunk.adapter)
            for chunk, start, count in zip(ordered, firsts, counts, strict=False)
            if chunk.adapter is not None
        ),
    )


def _groups(chunks: Sequence[Chunk]) -> list[list[int]]:
    """The chunks' places: single tokens of one memory together, every stretch by itself."""
    singles: dict[int, list[int]] = {}
    stretches: list[list[int]] = []
    for place, chunk in enumerate(chunks):
        if len(chunk.tokens) == 1:
            singles.setdefault(id(chunk.cache.memory), []).append(place)
        else:
            stretches.append([place])
    return [*singles.values(), *stretches]


def _part(chunks: Sequence[Chunk], start: int) -> Part:
    pages = cast("Pages", chunks[0].cache.memory)
    used = [blocks_for(chunk.cache.length + len(chunk.tokens)) for chunk in chunks]
    tables = np.full((len(chunks), max(used)), pages.spare)
    for row, chunk, count in zip(tables, chunks, used, strict=True):
        row[:count] = chunk.cache.table[:count]
    rows = sum(len(chunk.tokens) for chunk in chunks)
    anew = chunks[0].cache.length == 0 and rows > len(chunks)
    return Part(pages, slice(start, start + rows), tensor(tables), anew)
