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

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native import tiles
from daulat.engine.native.attention import compiled, hide_others, scale
from daulat.engine.native.vector import BLOCK, LANES, floats, integers

TOGETHER, SHARE = 384, 48
"""Queries that go through the cache at once, and those of a thread's least share."""
_GROUPS = TOGETHER // tiles.GROUP
_PAIR = 2 * tiles.GROUP
_SPAN = 16
_SEGMENT = _SPAN * BLOCK_TOKENS
"""Keys that are tiles at a time."""
_OF_SPAN = _SPAN * tiles.BYTES
"""Bytes of a group of shares, or of sixteen columns of values, of a whole segment."""
_LINE, _ROW = (_SEGMENT + LANES) * 4, 64
"""Bytes of a query's scores, and of its row of a tile."""


class Work(NamedTuple):
    """Addresses of memory to work in.

    Attributes:
        queries: tiles of all; keys, values: of a segment; shares: of a segment, for a pair of groups.
        spare: a block's values in float32.
        scores: [a pair of groups, a segment and a line], float32.
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
    queries, of_span = _GROUPS * (size // BLOCK) * tiles.BYTES, size // LANES * _OF_SPAN
    return queries + 2 * of_span + 2 * _OF_SPAN + BLOCK_TOKENS * size * 4 + _PAIR * _LINE


@compiled
def _work_in(room, size):
    """The parts of `room`."""
    of_span = size // LANES * _OF_SPAN
    keys = room + _GROUPS * (size // BLOCK) * tiles.BYTES
    values = keys + of_span
    shares = values + of_span
    spare = shares + 2 * _OF_SPAN
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
    addresses = integers(blocks, (end - 1) // BLOCK_TOKENS + 1)
    results = floats(out.ctypes.data, count * size)
    for i in range(count * size):
        results[i] = np.float32(0)
    for m in range(count):
        totals[m], mosts[m] = np.float32(0), np.float32(-np.inf)
    tiles.begin()
    for segment in range(begin // _SEGMENT * _SEGMENT, end, _SEGMENT):
        low, high = max(begin, segment), min(end, segment + _SEGMENT)
        for k in range(_blocks(low, high)):
            block = addresses[low // BLOCK_TOKENS + k]
            _bring_keys(work, size, block + keys, k)
            there = min(BLOCK_TOKENS, high - low - k * BLOCK_TOKENS)
            _bring_values(work, size, block + values, k, there)
        for m in range(0, count, _PAIR):
            several, last = min(count - m, _PAIR), 0
            for i in range(m, m + several):
                last = max(last, lasts[i])
            span = _blocks(low, min(last, high))
            if span > 0:
                _score(work, m, several, size, span)
                for i in range(several):
                    first, last = max(firsts[m + i], low) - low, min(lasts[m + i], high) - low
                    _soften(work, m + i, i, first, last, span, mosts, totals, out)
                _mix(work, several, size, span, out.ctypes.data + m * size * 4)
    tiles.end()
    for m in range(count):
        scale(out.ctypes.data + m * size * 4, np.float32(1) / totals[m], size)


@compiled
def absent(queries, count, blocks, keys, values, firsts, lasts, room, totals, mosts, out):
    """What stands for `attend` in code for processors that have no such units; it is never called."""


@compiled
def _blocks(low, high):
    """How many have the places from low to high."""
    return (high - low + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@compiled
def _bring_keys(work, size, keys, k):
    """The k-th block's keys [D, BLOCK_TOKENS] as tiles: two sixteens of keys, each with all their columns."""
    steps = size // BLOCK
    for half in range(2):
        to = work.keys + (2 * k + half) * steps * tiles.BYTES
        for step in range(steps):
            at = keys + step * BLOCK * BLOCK_TOKENS * 4 + half * LANES * 4
            tiles.pair(at, BLOCK_TOKENS * 4, to + step * tiles.BYTES)


@compiled
def _bring_values(work, size, values, k, there):
    """The k-th block's values as tiles; of its [BLOCK_TOKENS, D] only the first ones may be there yet."""
    if there < BLOCK_TOKENS:
        known, all_ = floats(values, there * size), BLOCK_TOKENS * size
        spare = floats(work.spare, all_)
        for i in range(there * size):
            spare[i] = known[i]
        for i in range(there * size, all_):
            spare[i] = np.float32(0)
        values = work.spare
    for j in range(size // LANES):
        to = work.values + j * _OF_SPAN + k * tiles.BYTES
        tiles.pair(values + j * LANES * 4, size * 4, to)


@compiled
def _score(work, m, several, size, span):
    """The scores of queries from the m-th on, a pair of groups at most, with a segment's first blocks."""
    steps = size // BLOCK
    of_keys = of_query = steps * tiles.BYTES
    q, keys = work.queries + m // tiles.GROUP * of_query, work.keys
    for k in range(span):
        to = work.scores + k * BLOCK_TOKENS * 4
        if several > tiles.GROUP:
            tiles.products(1, 2, 2, 0, q, of_query, keys, of_keys, steps, to, _LINE)
        else:
            tiles.products(1, 1, 2, 0, q, of_query, keys, of_keys, steps, to, _LINE)
        keys += 2 * of_keys


@compiled
def _soften(work, m, i, first, last, span, mosts, totals, out):
    """The i-th of the pair's scores of a segment as shares, 0 outside first to last; it is the m-th query.

    What is summed so far is made to fit.
    """
    scores = work.scores + i * _LINE
    to = work.shares + i // tiles.GROUP * _OF_SPAN + i % tiles.GROUP * _ROW
    hide_others(scores, first, last, span * BLOCK_TOKENS)
    least = mosts[m] if first < last else np.float32(np.inf)
    most, more, less = tiles.shares(scores, span, least, to)
    if first >= last:
        return
    if totals[m] > 0:
        scale(out.ctypes.data + m * out.shape[1] * 4, less, out.shape[1])
    mosts[m], totals[m] = most, totals[m] * less + more


@compiled
def _mix(work, several, size, span, out):
    """Add a segment's values to the results of a pair of groups, each by its share."""
    for j in range(0, size // LANES, 2):
        v, to = work.values + j * _OF_SPAN, out + j * LANES * 4
        if several > tiles.GROUP:
            tiles.products(1, 2, 2, 1, work.shares, _OF_SPAN, v, _OF_SPAN, span, to, size * 4)
        else:
            tiles.products(1, 1, 2, 1, work.shares, _OF_SPAN, v, _OF_SPAN, span, to, size * 4)
