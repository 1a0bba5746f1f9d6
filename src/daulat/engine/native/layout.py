"""Which rows a step has, in which order, and what each thread sees of them: from chunks to a `program.Step`.

A step is laid out in one of two ways, which give the same bits:

- all rows together, for threads that share out each matrix's rows among them (`together`);
- apart, each thread with rows of its own (`apart`), of which it computes everything: what one thread has made
  need not go to another, but each has to unpack all weights for itself. A long prompt is cut so that each
  thread has a part of its beginning and one of its end, whose tokens see more.

Tokens that are read come before those that were written, as `program` wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from daulat.engine.adapter import Adapter
from daulat.engine.native import lora, tiles
from daulat.engine.native import program as p
from daulat.engine.native.vector import LANES
from daulat.engine.step import Chunk
from daulat.models.numbers import Floats

Whole = NDArray[np.int64]

LEAST, NARROW = 128, 1024
"""Threads go apart from so many read rows each, in models of up to so many numbers a state: quicker there.
In wider ones there is more to unpack, and less to send, for each product."""

AT_ONCE = 1024
"""Tokens that such a model reads in one step best: weights are unpacked once for twice as many as 512."""


def spaced(width: int) -> int:
    """Room for a row of what a matrix gives.

    An odd number of lines, so that sixteen rows begin in as many sets of the cache; where a row is whole pages,
    they would all be in one.
    """
    lines = -(-width // LANES)
    return (lines if lines % 2 else lines + 1) * LANES


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring tokens of a chunk.

    Attributes:
        place: which of the step's chunks it is.
        first, count: of the chunk's tokens.
    """

    chunk: Chunk
    place: int
    first: int
    count: int


def together(chunks: Sequence[Chunk]) -> list[Piece]:
    """All tokens of a step."""
    return _read_first([Piece(c, k, 0, len(c.tokens)) for k, c in enumerate(chunks)])


def apart(chunks: Sequence[Chunk], threads: int) -> list[list[Piece]]:
    """Each thread's tokens of a step; nothing, where there are too few for that."""
    if threads == 1 or sum(len(c.tokens) for c in chunks if not c.written) < LEAST * threads:
        return []
    shares: list[list[Piece]] = [[] for _ in range(threads)]
    small: list[Piece] = []
    for place, chunk in enumerate(chunks):
        count, parts = len(chunk.tokens), 2 * threads
        if chunk.written or count < parts * tiles.GROUP:
            small.append(Piece(chunk, place, 0, count))
            continue
        borders = [round(k * count / parts / tiles.GROUP) * tiles.GROUP for k in range(parts)]
        for k, (first, end) in enumerate(pairwise([*borders, count])):
            shares[min(k, parts - 1 - k)].append(Piece(chunk, place, first, end - first))
    for piece in sorted(small, key=lambda piece: -piece.count):
        min(shares, key=lambda share: sum(one.count for one in share)).append(piece)
    return [_read_first(share) for share in shares] if all(shares) else []


def _read_first(pieces: Sequence[Piece]) -> list[Piece]:
    return sorted(pieces, key=lambda piece: piece.chunk.written)


@dataclass(frozen=True, slots=True)
class Layout:
    """Attributes:
    step: what the program computes; last: what the last block computes of it.
    whose: which of all wanted tokens each state is, chunk by chunk.
    """

    step: p.Step
    last: p.Step
    whose: Whole

    def in_order(self, rows: Floats) -> Floats:
        """Rows of the wanted tokens, or none, in the order of the chunks."""
        if len(rows) == 0 or (np.diff(self.whose) == 1).all():
            return rows
        return rows[np.argsort(self.whose)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all of a step have in common.

    Attributes:
        firsts: how many tokens are wanted of the chunks before each.
        angles: cos and sin of all positions, [rope tables, positions, dimensions / 2].
        adapters, which: the step's, and which is which.
        hidden: how many numbers a state has.
        units: whether tokens that are read go another way than those that were written.
    """

    firsts: Sequence[int]
    angles: tuple[Floats, Floats]
    adapters: Whole
    which: Mapping[Adapter, int]
    hidden: int
    units: bool

    def lay_out(self, pieces: Sequence[Piece], vocab: int) -> Layout:
        """Args:
        vocab: how many logits a wanted token has; 0: they are not asked for.
        """
        # Lists, since a step of many answers has a token of each: arrays of one number cost more to make.
        tokens: list[int] = []
        positions: list[int] = []
        starts: list[int] = []
        table: list[tuple[int, int, int, int]] = []
        for q in pieces:
            start, length = len(tokens), q.chunk.cache.length + q.first
            starts.append(start)
            table.append((start, q.count, q.chunk.cache.table.ctypes.data, length))
            tokens += q.chunk.tokens[q.first : q.first + q.count]
            positions += range(length, length + q.count)
        adapters = [self.which[q.chunk.adapter] if q.chunk.adapter else -1 for q in pieces]
        wanted, whose = _wanted(pieces, starts, self.firsts)
        where = np.array(positions, dtype=np.int64)
        read = sum(q.count for q in pieces if not q.chunk.written) if self.units else 0
        step = p.Step(
            np.array(table, dtype=np.int64),
            np.array(tokens, dtype=np.int64),
            where,
            wanted,
            *self._angles_at(where),
            np.empty((len(wanted), self.hidden), dtype=np.float32),
            np.empty((len(wanted) if vocab else 0, spaced(vocab)), dtype=np.float32),
            self.adapters,
            lora.stretches(
                [(q.count, adapter) for q, adapter in zip(pieces, adapters, strict=True)]
            ),
            read,
            int((wanted < read).sum()),
        )
        narrow = len(wanted) < len(positions) > p.FEW
        return Layout(step, _narrowed(step) if narrow else step, whose)

    def _angles_at(self, positions: Whole) -> tuple[Floats, Floats]:
        cos, sin = self.angles
        if cos.shape[1] == 0:  # a model without
            return cos, sin
        return np.take(cos, positions, axis=1), np.take(sin, positions, axis=1)


def _wanted(
    pieces: Sequence[Piece], starts: Sequence[int], firsts: Sequence[int]
) -> tuple[Whole, Whole]:
    """The rows of the wanted tokens, and which of all wanted ones they are."""
    rows: list[int] = []
    whose: list[int] = []
    for start, piece in zip(starts, pieces, strict=True):
        for number, token in enumerate(piece.chunk.asked, start=firsts[piece.place]):
            if piece.first <= token < piece.first + piece.count:
                rows.append(start + token - piece.first)
                whose.append(number)
    return np.array(rows, dtype=np.int64), np.array(whose, dtype=np.int64)


def _narrowed(step: p.Step) -> p.Step:
    """The wanted tokens alone, as the last block sees them: neighbours of one sequence are a chunk."""
    ends = np.append(step.chunks[1:, p.START], len(step.tokens))
    wanted: Whole = step.wanted
    whose = np.searchsorted(ends, wanted, side="right")
    breaks = (np.diff(wanted, prepend=-2) != 1) | (np.diff(whose, prepend=-1) != 0)
    firsts = np.flatnonzero(breaks)
    chunks = step.chunks[whose[firsts]]
    chunks[:, p.LENGTH] += wanted[firsts] - chunks[:, p.START]
    chunks[:, p.START] = firsts
    chunks[:, p.COUNT] = np.diff(firsts, append=len(wanted))
    which = np.full(len(step.tokens), -1)
    for start, count, adapter in step.stretches:
        which[start : start + count] = adapter
    return step._replace(
        chunks=chunks,
        tokens=step.tokens[wanted],
        positions=step.positions[wanted],
        wanted=np.arange(len(wanted)),
        stretches=lora.stretches([(1, adapter) for adapter in which[wanted].tolist()]),
        read=step.read_states,
    )
