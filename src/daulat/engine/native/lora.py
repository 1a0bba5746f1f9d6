"""Adapters in machine code: y += B (A x) for the rows of a step whose sequence has one.

In two parts, about the model's own product with the same x: `lower` makes A x, a few numbers a row; `change`
adds B times those to the outputs that a thread has computed. The rows of several adapters may be in one
step, beside rows that have none, which nothing here touches.

The order of every sum is that of the inputs, then of the ranks, whoever computes which share of the rows: so
what a sequence gives depends neither on its company nor on the threads.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from daulat.engine.adapter import Adapter, Delta
from daulat.engine.native.attention import compiled as _fast
from daulat.engine.native.vector import LANES, mixtures, products

QKV, OUT, UP, DOWN = range(4)
SLOTS = {"qkv": QKV, "out": OUT, "up": UP, "down": DOWN}
PARTS = 3
"""Of one slot at most: q, k and v."""

A, A_BYTES, RANK, PLACE, B, B_BYTES, FIRST, ROWS = range(8)
PART_SIZE = 8
START, COUNT, WHICH = range(3)

Whole = NDArray[np.int64]
WIDE = 4 * LANES
"""Columns that are computed at once."""


def table(adapter: Adapter) -> tuple[Whole, int]:
    """What the program needs of an adapter: int64 [layers, slots, PARTS, PART_SIZE], and how many numbers
    A x of one row has at most. A part of rank 0 is none. The adapter must outlive it."""
    whole = np.zeros((len(adapter.layers), len(SLOTS), PARTS, PART_SIZE), dtype=np.int64)
    widest = 0
    for layer, deltas in zip(whole, adapter.layers, strict=True):
        for slot, parts in zip(SLOTS, layer, strict=True):
            place = 0
            for row, delta in zip(parts, [d for d in deltas if d.slot == slot], strict=False):
                _enter(row, delta, place)
                place += delta.rank
            widest = max(widest, place)
    return whole, widest


def _enter(row: Whole, delta: Delta, place: int) -> None:
    row[A], row[A_BYTES] = delta.a.ctypes.data, delta.a.shape[1] * 4
    row[B], row[B_BYTES] = delta.b.ctypes.data, delta.b.shape[1] * 4
    row[RANK], row[PLACE], row[FIRST], row[ROWS] = delta.rank, place, delta.first, delta.rows


def stretches(parts: Sequence[tuple[int, int]]) -> Whole:
    """int64 [stretches, (START, COUNT, WHICH)]: neighbouring rows of one adapter, as one.

    Args:
        parts: (how many rows, which adapter; -1: none), in the order of the rows.
    """
    found: list[list[int]] = []
    start = 0
    for count, which in parts:
        if found and found[-1][WHICH] == which and sum(found[-1][:2]) == start:
            found[-1][COUNT] += count
        elif which >= 0:
            found.append([start, count, which])
        start += count
    return np.array(found, dtype=np.int64).reshape(-1, 3)


@_fast
def lower(adapters, stretches, layer, slot, x, low, me, team):
    """low[t, place:] = A x_t, for my share of the rows that have an adapter."""
    for s in range(stretches.shape[0]):
        start, count = stretches[s, START], stretches[s, COUNT]
        first, last = start + count * me // team, start + count * (me + 1) // team
        if first == last:
            continue
        for k in range(PARTS):
            part = adapters[stretches[s, WHICH], layer, slot, k]
            if part[RANK]:
                _multiply(part, x[first:last], low[first:last])


@_fast
def _multiply(part, x, low):
    """low[:, place:] = A x for all rows."""
    last = part[RANK] - part[RANK] % 2
    for rank in range(0, last, 2):
        _some(2, part, rank, x, low)
    if last < part[RANK]:
        _some(1, part, last, x, low)


@njit(inline="always")
def _some(ranks, part, rank, x, low):
    """For one or two ranks: four rows of x at a time, then one, each with the same sums as alone."""
    xb, yb, blocks = x.shape[1] * 4, low.shape[1] * 4, part[A_BYTES] // 128
    a, left = part[A] + rank * part[A_BYTES], x.shape[0]
    at, to = x.ctypes.data, low.ctypes.data + (part[PLACE] + rank) * 4
    while left >= 4:
        products(4, ranks, a, part[A_BYTES], blocks, at, xb, to, yb)
        at, to, left = at + 4 * xb, to + 4 * yb, left - 4
    while left:
        products(1, ranks, a, part[A_BYTES], blocks, at, xb, to, yb)
        at, to, left = at + xb, to + yb, left - 1


@_fast
def change(adapters, stretches, layer, slot, low, y, first, last, out):
    """y[t, first:last] += B low_t, for all rows that have an adapter.

    Args:
        out: [WIDE], to work in.
    """
    for s in range(stretches.shape[0]):
        for k in range(PARTS):
            part = adapters[stretches[s, WHICH], layer, slot, k]
            begin = max(first - part[FIRST], 0)
            end = min(last - part[FIRST], part[ROWS])
            if part[RANK] and begin < end:
                rows = y[stretches[s, START] : stretches[s, START] + stretches[s, COUNT]]
                lows = low[stretches[s, START] : stretches[s, START] + stretches[s, COUNT]]
                _raise(part, lows, rows, begin, end, out)


@_fast
def _raise(part, lows, rows, begin, end, out):
    """By whole vectors of B's columns, counted from its first: a share's borders change no sum."""
    column = begin // LANES * LANES
    while column < end:
        wide = column + WIDE <= part[B_BYTES] // 4
        width = WIDE if wide else LANES
        at = part[B] + column * 4
        low, high = max(begin, column), min(end, column + width)
        for t in range(rows.shape[0]):
            shares = lows[t].ctypes.data + part[PLACE] * 4
            out[:] = 0
            if wide:
                mixtures(1, 4, 0, shares, 0, at, part[B_BYTES], part[RANK], out.ctypes.data, 0, 0)
            else:
                mixtures(1, 1, 0, shares, 0, at, part[B_BYTES], part[RANK], out.ctypes.data, 0, 0)
            for i in range(low, high):
                rows[t, part[FIRST] + i] += out[i - column]
        column += width
