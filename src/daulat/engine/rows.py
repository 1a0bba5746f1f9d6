"""A step's wanted rows of logits, in blocks: the logits of a long prompt are never all in memory at once.

Who asks for the hidden states behind them has the same bits of logits. Shapes: H hidden, V vocabulary.
"""

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
    states: the hidden states behind these, [rows, H], where they were asked for.
    last: no more of this chunk's follow.
    """

    chunk: int
    logits: NDArray[np.float32]
    states: NDArray[np.float32] | None
    last: bool


def rows_of(
    computer: Computer, chunks: Sequence[Chunk], most: int = MOST, *, states: bool = False
) -> Iterator[Rows]:
    """Run one step; its wanted rows, chunk by chunk, no more than `most` logits at once.

    Args:
        states: the hidden states as well.
    """
    counts = [len(chunk.asked) for chunk in chunks]
    rows = max(1, most // computer.architecture.vocab)
    if sum(counts) <= rows and not states:  # the usual step: one pass through the model
        yield from _cut(computer.forward(chunks), None, 0, counts)
        return
    found, written = computer.states(chunks), written_rows(chunks)
    for first in range(0, len(found), rows):
        some = slice(first, first + rows)
        logits = computer.logits(found[some], written[some])
        yield from _cut(logits, found[some] if states else None, first, counts)


def _cut(
    logits: NDArray[np.float32],
    states: NDArray[np.float32] | None,
    first: int,
    counts: Sequence[int],
) -> Iterator[Rows]:
    """Logits of the step's rows from number `first` on, as parts of their chunks."""
    end = 0
    for chunk, count in enumerate(counts):
        start, end = end, end + count
        rows = slice(max(start - first, 0), max(end - first, 0))
        part = logits[rows]
        if len(part):
            behind = None if states is None else states[rows]
            yield Rows(chunk, part, behind, end <= first + len(logits))
