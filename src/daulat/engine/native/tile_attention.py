"""Attention of tokens that are read, by the processor's matrix units: `attention.attend` in bfloat16.

The same softmax in float32. Queries and shares are rounded to 8 significant bits, as keys and values are in the
cache, where they lie as tiles already: nothing is copied. Sums are float32.

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
"""Keys whose scores are made before their values are mixed."""
_OF_SPAN = _SPAN * tiles.BYTES
"""Bytes of a group of shares of a whole segment."""
_LINE, _ROW = (_SEGMENT + LANES) * 4, 64
"""Bytes of a query's scores, and of its row of a tile."""


class Work(NamedTuple):
    """Addresses of memory to work in.

    Attributes:
        queries: tiles of all; shares: of a segment, for a pair of groups.
        values: addresses of the values of a segment's blocks.
        spare: a block's values.
        scores: [a pair of groups, a segment and a line], float32.
    """

    queries: Any
    shares: Any
    values: Any
    spare: Any
    scores: Any


def fits(size: int) -> bool:
    """Whether heads of that size are whole tiles."""
    return size % BLOCK == 0


def room(size: int) -> int:
    """Bytes that a thread needs to work in, for heads of that size."""
    queries = _GROUPS * (size // BLOCK) * tiles.BYTES
    return queries + 2 * _OF_SPAN + 8 * _SPAN + BLOCK_TOKENS * size * 2 + _PAIR * _LINE


@compiled
def _work_in(room, size):
    """The parts of `room`."""
    shares = room + _GROUPS * (size // BLOCK) * tiles.BYTES
    values = shares + 2 * _OF_SPAN
    spare = values + 8 * _SPAN
    return Work(room, shares, values, spare, spare + BLOCK_TOKENS * size * 2)


@compiled
def attend(queries, count, blocks, keys, values, firsts, lasts, room, totals, mosts, out):
    """out[m] = softmax(q_m k) v over the cached places firsts[m] to lasts[m] (exclusive), for `count` of them.

    Args:
        queries, out: [TOGETHER, D].
        blocks, keys, values: as for `attention.attend`, in bfloat16.
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
        of_values = integers(work.values, _SPAN)
        for k in range(_blocks(low, high)):
            there = min(BLOCK_TOKENS, high - low - k * BLOCK_TOKENS)
            at = addresses[low // BLOCK_TOKENS + k] + values
            of_values[k] = _known(work, size, at, there)
        of_keys = blocks + low // BLOCK_TOKENS * 8
        for m in range(0, count, _PAIR):
            several, last = min(count - m, _PAIR), 0
            for i in range(m, m + several):
                last = max(last, lasts[i])
            span = _blocks(low, min(last, high))
            if span > 0:
                _score(work, m, several, size, span, of_keys, keys)
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
def _known(work, size, values, there):
    """A block's values; where only the first ones may be there yet, a copy with zeros for the others."""
    if there == BLOCK_TOKENS:
        return values
    all_, row = (
        BLOCK_TOKENS * size // 4,
        size // 2,
    )  # in eight bytes, which are numbers of two dimensions
    known, spare = integers(values, all_), integers(work.spare, all_)
    pairs, end = there // 2 * row, (there + 1) // 2 * row
    for i in range(pairs):
        spare[i] = known[i]
    for i in range(pairs, end):
        spare[i] = known[i] & 0x0000FFFF0000FFFF
    for i in range(end, all_):
        spare[i] = 0
    return work.spare


@compiled
def _score(work, m, several, size, span, blocks, keys):
    """The scores of queries from the m-th on, a pair of groups at most, with a segment's first blocks."""
    steps = size // BLOCK
    of_query = steps * tiles.BYTES
    q, addresses = work.queries + m // tiles.GROUP * of_query, integers(blocks, span)
    for k in range(span):
        to = work.scores + k * BLOCK_TOKENS * 4
        if several > tiles.GROUP:
            tiles.products_with_keys(2, q, of_query, addresses[k] + keys, steps, to, _LINE)
        else:
            tiles.products_with_keys(1, q, of_query, addresses[k] + keys, steps, to, _LINE)


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
    x, v, row = work.shares, work.values, size * 4
    for column in range(0, size, 2 * LANES):
        to = out + column * 4
        if several > tiles.GROUP:
            tiles.products_with_values(2, x, _OF_SPAN, v, column, size, span, to, row)
        else:
            tiles.products_with_values(1, x, _OF_SPAN, v, column, size, span, to, row)
