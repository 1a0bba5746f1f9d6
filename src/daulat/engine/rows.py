"""A step's wanted rows of logits, in blocks: the logits of a long prompt are never all in memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daulat.engine.step import Chunk, Computer, written_rows

MOST = 1 << 22
"""Logits in one block: 16 MiB, which the C library keeps for the next one."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Attributes:
    chunk: whose they are, by its place in the step.
    logits: the next of its wanted rows, [rows, V].
    last: no more of this chunk's follow.
    """

    chunk: int
    logits: NDArray[np.float32]
    last: bool


def rows_of(computer: Computer, chunks: Sequence[Chunk], most: int = MOST) -> Iterator[Rows]:
    """Run one step; its wanted rows, chunk by chunk, no more than `most` logits at once."""
    counts = [len(chunk.asked) for chunk in chunks]
    rows = max(1, most // computer.architecture.vocab)
    if sum(counts) <= rows:  # the usual step: one pass through the model
        yield from _cut(computer.forward(chunks), 0, counts)
        return
    states, written = computer.states(chunks), written_rows(chunks)
    for first in range(0, len(states), rows):
        some = slice(first, first + rows)
        yield from _cut(computer.logits(states[some], written[some]), first, counts)


def _cut(logits: NDArray[np.float32], first: int, counts: Sequence[int]) -> Iterator[Rows]:
    """Logits of the step's rows from number `first` on, as parts of their chunks."""
    end = 0
    for chunk, count in enumerate(counts):
        start, end = end, end + count
        part = logits[max(start - first, 0) : max(end - first, 0)]
        if len(part):
            yield Rows(chunk, part, end <= first + len(logits))
