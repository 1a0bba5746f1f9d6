"""Attention of tokens that are read, by the processor's matrix units: `attention.attend` in bfloat16.

The same segments and the same softmax in float32. Queries, keys, shares and values are rounded to 8 significant
bits; sums are float32. Keys and values lie in the cache in float32, and become tiles a segment at a time, for
as many queries as there are.

What one query gives does not depend on the others: places that it does not see have a share of zero, which adds
nothing, and values that nobody has written yet are taken as zeros.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native import tiles
from daulat.engine.native.attention import compiled, hide_others, scale
from daulat.engine.native.vector import BLOCK, LANES, floats, integers

TOGETHER = 96
"""Queries that go through the cache at once."""
_GROUPS = TOGETHER // tiles.GROUP
_PAIR = 2 * tiles.GROUP
_SPAN = 16
_SEGMENT = _SPAN * BLOCK_TOKENS
"""Keys whose scores are made before their values are mixed."""
_OF_SHARES = _SPAN * tiles.BYTES
"""Bytes of a group of shares, or of sixteen columns of values, of a whole segment."""
_LINE, _ROW = (_SEGMENT + LANES) * 4, 64
"""Bytes of a query's scores, and of its row of a tile."""


class Work(NamedTuple):
    """Addresses of memory to work in.

    Attributes:
        queries: tiles of all; keys: of a block; shares, values: of a segment.
        spare: a block's values in float32.
        scores: [TOGETHER, a segment and a line], float32.
    """

    queries: Any
    keys: Any
    shares: Any
    values: Any
    spare: Any
    scores: Any


def fits(size: int) -> bool:
    """Whether heads of that size are whole tiles."""
    return size % BLOCK == 0


def room(size: int) -> int:
    """Bytes that a thread needs to work in, for heads of that size."""
    steps, sixteens = size // BLOCK, size // LANES
    as_tiles = (_GROUPS + 2) * steps * tiles.BYTES + (_GROUPS + sixteens) * _OF_SHARES
    return as_tiles + BLOCK_TOKENS * size * 4 + TOGETHER * _LINE


@compiled
def _work_in(room, size):
    """The parts of `room`."""
    steps, sixteens = size // BLOCK, size // LANES
    keys = room + _GROUPS * steps * tiles.BYTES
    shares = keys + 2 * steps * tiles.BYTES
    values = shares + _GROUPS * _OF_SHARES
    spare = values + sixteens * _OF_SHARES
    return Work(room, keys, shares, values, spare, spare + BLOCK_TOKENS * size * 4)


@compiled
def attend(queries, count, blocks, keys, values, firsts, lasts, room, totals, mosts, out):
    """out[m] = softmax(q_m k) v over the cached places firsts[m] to lasts[m] (exclusive), for `count` of them.

    Args:
        queries, out: [TOGETHER, D].
        blocks, keys, values: as for `attention.attend`.
        room: address of so many bytes, at the begin of a cache line; totals, mosts: [TOGETHER].
    """
    size = queries.shape[1]
    work, begin, end = _work_in(room, size), firsts[0], lasts[0]
    for m in range(count):
        begin, end = min(begin, firsts[m]), max(end, lasts[m])
        at = queries.ctypes.data + m * size * 4
        group = work.queries + m // tiles.GROUP * (size // BLOCK) * tiles.BYTES
        tiles.pack(1, at, size // BLOCK, group, m % tiles.GROUP)
    begin = begin // BLOCK_TOKENS * BLOCK_TOKENS
    addresses = carray(integers(blocks), ((end - 1) // BLOCK_TOKENS + 1,))
    out[:] = 0
    totals[:] = 0
    mosts[:] = -np.inf
    tiles.begin()
    for segment in range(begin // _SEGMENT * _SEGMENT, end, _SEGMENT):
        low, high = max(begin, segment), min(end, segment + _SEGMENT)
        span = (high - low + BLOCK_TOKENS - 1) // BLOCK_TOKENS
        for k in range(span):
            block = addresses[low // BLOCK_TOKENS + k]
            _score(work, count, size, block + keys, k)
            there = min(BLOCK_TOKENS, high - low - k * BLOCK_TOKENS)
            _bring(work, size, block + values, k, there)
        for m in range(count):
            first, last = max(firsts[m], low) - low, min(lasts[m], high) - low
            _soften(work, m, first, last, span, mosts, totals, out)
        _mix(work, count, size, span, out.ctypes.data)
    tiles.end()
    for m in range(count):
        scale(out.ctypes.data + m * size * 4, np.float32(1) / totals[m], size)


@compiled
def absent(queries, count, blocks, keys, values, firsts, lasts, room, totals, mosts, out):
    """What stands for `attend` in code for processors that have no such units; it is never called."""


@compiled
def _score(work, count, size, keys, k):
    """The scores of the k-th block of a segment, from its keys [D, BLOCK_TOKENS]."""
    steps = size // BLOCK
    of_keys = of_query = steps * tiles.BYTES
    for half in range(2):
        for step in range(steps):
            at = keys + step * BLOCK * BLOCK_TOKENS * 4 + half * LANES * 4
            tiles.pair(at, BLOCK_TOKENS * 4, work.keys + half * of_keys + step * tiles.BYTES)
    for m in range(0, count, _PAIR):
        q = work.queries + m // tiles.GROUP * of_query
        to = work.scores + m * _LINE + k * BLOCK_TOKENS * 4
        if count - m > tiles.GROUP:
            tiles.products(1, 2, 2, 0, q, of_query, work.keys, of_keys, steps, to, _LINE)
        else:
            tiles.products(1, 1, 2, 0, q, of_query, work.keys, of_keys, steps, to, _LINE)


@compiled
def _bring(work, size, values, k, there):
    """The k-th block's values as tiles; of its [BLOCK_TOKENS, D] only the first ones may be there yet."""
    if there < BLOCK_TOKENS:
        known, all_ = carray(floats(values), (there * size,)), BLOCK_TOKENS * size
        spare = carray(floats(work.spare), (all_,))
        for i in range(there * size):
            spare[i] = known[i]
        for i in range(there * size, all_):
            spare[i] = np.float32(0)
        values = work.spare
    for j in range(size // LANES):
        to = work.values + j * _OF_SHARES + k * tiles.BYTES
        tiles.pair(values + j * LANES * 4, size * 4, to)


@compiled
def _soften(work, m, first, last, span, mosts, totals, out):
    """A query's scores of a segment as shares, 0 outside first to last; what is summed so far made to fit."""
    scores = work.scores + m * _LINE
    to = work.shares + m // tiles.GROUP * _OF_SHARES + m % tiles.GROUP * _ROW
    hide_others(scores, first, last, span * BLOCK_TOKENS)
    least = mosts[m] if first < last else np.float32(np.inf)
    most, more, less = tiles.shares(scores, span, least, to)
    if first >= last:
        return
    if totals[m] > 0:
        scale(out.ctypes.data + m * out.shape[1] * 4, less, out.shape[1])
    mosts[m], totals[m] = most, totals[m] * less + more


@compiled
def _mix(work, count, size, span, out):
    """Add a segment's values, each by its share."""
    row = size * 4
    for m in range(0, count, _PAIR):
        p = work.shares + m // tiles.GROUP * _OF_SHARES
        for j in range(0, size // LANES, 2):
            v, to = work.values + j * _OF_SHARES, out + m * row + j * LANES * 4
            if count - m > tiles.GROUP:
                tiles.products(1, 2, 2, 1, p, _OF_SHARES, v, _OF_SHARES, span, to, row)
            else:
                tiles.products(1, 1, 2, 1, p, _OF_SHARES, v, _OF_SHARES, span, to, row)
