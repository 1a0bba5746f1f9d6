"""Attention over a cache, in machine code: queries that share keys go through them together.

The keys of a block lie dimension by dimension, so that sixteen scores are made at once without adding up lanes.
Softmax goes by segments, so that scores stay in the nearest cache: what is summed so far is made less by
whatever the largest score has grown (Milakov and Gimelshein, 2018, arXiv:1805.02867).

What one query gives is the same number for number, alone or in company: segments begin at fixed places, and
each product and each sum is made in the order of the keys.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import numpy as np
from numba import carray, njit

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native.vector import (
    LANES,
    columns,
    floats,
    integers,
    mixtures,
    soften,
)

TOGETHER = 12
"""Queries that go through the cache at once."""
SEGMENT = 256
"""Keys whose scores are made before their values are mixed; a multiple of BLOCK_TOKENS."""
WIDTH = SEGMENT + LANES
"""Room for a query's scores."""
_TILE = 6
"""Queries at once in the innermost loops: what fills the registers."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
compiled = njit(fastmath=FAST, boundscheck=False, nogil=True, error_model="numpy", cache=True)


@compiled
def attend(queries, blocks, keys, values, firsts, lasts, scores, totals, mosts, out):
    """out[m] = softmax(q_m k) v over the cached places firsts[m] to lasts[m] (exclusive).

    Args:
        queries, out: [up to TOGETHER, D].
        blocks: address of the addresses of the cache's blocks.
        keys, values: where in a block they begin, in bytes: [D, BLOCK_TOKENS] and [BLOCK_TOKENS, D].
        scores: [TOGETHER, WIDTH]; totals, mosts: [TOGETHER]; to work in.
    """
    inputs, size = queries.shape
    begin, end = firsts[0], lasts[0]
    for m in range(1, inputs):
        begin, end = min(begin, firsts[m]), max(end, lasts[m])
    begin = begin // BLOCK_TOKENS * BLOCK_TOKENS
    addresses = carray(integers(blocks), ((end - 1) // BLOCK_TOKENS + 1,))
    out[:] = 0
    totals[:] = 0
    mosts[:] = -np.inf
    q, p, o = queries.ctypes.data, scores.ctypes.data, out.ctypes.data
    row, line = size * 4, scores.shape[1] * 4
    for segment in range(begin // SEGMENT * SEGMENT, end, SEGMENT):
        low, high = max(begin, segment), min(end, segment + SEGMENT)
        for place in range(low, high, BLOCK_TOKENS):
            at = addresses[place // BLOCK_TOKENS] + keys
            for m in range(0, inputs, _TILE):
                to = p + m * line + (place - low) * 4
                _scores(min(_TILE, inputs - m), q + m * row, row, at, size, to, line)
        for m in range(inputs):
            first, last = max(firsts[m], low) - low, min(lasts[m], high) - low
            _soften(p + m * line, first, last, high - low, m, totals, mosts, out)
        for place in range(low, high, BLOCK_TOKENS):
            at = addresses[place // BLOCK_TOKENS] + values
            count = min(BLOCK_TOKENS, high - place)
            for m in range(0, inputs, _TILE):
                share = p + m * line + (place - low) * 4
                _mix(min(_TILE, inputs - m), share, line, at, size, count, o + m * row)
    for m in range(inputs):
        for d in range(size):
            out[m, d] /= totals[m]


@compiled
def _soften(row, first, last, width, m, totals, mosts, out):
    """Query m's scores of a segment as shares, 0 outside first to last; what is summed so far made to fit."""
    if first < last:
        most, total = soften(row + first * 4, last - first, mosts[m])
        if most > mosts[m]:
            less = np.exp(mosts[m] - most)  # 0 at first
            mosts[m] = most
            totals[m] *= less
            for d in range(out.shape[1]):
                out[m, d] *= less
        totals[m] += total
    if first > 0 or last < width:
        shares = carray(floats(row), (width,))
        for j in range(min(first, width)):
            shares[j] = 0
        for j in range(max(last, 0), width):
            shares[j] = 0


@compiled
def _scores(inputs, x, xb, keys, size, y, yb):
    """Up to six queries with the keys of a block; Numba wants each number of queries by itself."""
    if inputs == 1:
        columns(1, x, xb, keys, size, y, yb)
    elif inputs == 2:
        columns(2, x, xb, keys, size, y, yb)
    elif inputs == 3:
        columns(3, x, xb, keys, size, y, yb)
    elif inputs == 4:
        columns(4, x, xb, keys, size, y, yb)
    elif inputs == 5:
        columns(5, x, xb, keys, size, y, yb)
    else:
        columns(6, x, xb, keys, size, y, yb)


@compiled
def _mix(inputs, p, pb, values, size, count, y):
    """y[m] += the sum over j of p[m, j] v_j, for up to six queries."""
    vb = yb = size * 4
    column = 0
    while column + 64 <= size:
        _mix_64(inputs, p, pb, values + column * 4, vb, count, y + column * 4, yb)
        column += 64
    while column + LANES <= size:
        for m in range(inputs):
            at, to = p + m * pb, y + m * yb + column * 4
            mixtures(1, 1, at, pb, values + column * 4, vb, count, to, yb)
        column += LANES
    if column < size:
        rows = carray(floats(values), (count, size))
        for m in range(inputs):
            shares, out = carray(floats(p + m * pb), (count,)), carray(floats(y + m * yb), (size,))
            for j in range(count):
                for d in range(column, size):
                    out[d] += shares[j] * rows[j, d]


@compiled
def _mix_64(inputs, p, pb, v, vb, count, y, yb):
    if inputs == 1:
        mixtures(1, 4, p, pb, v, vb, count, y, yb)
    elif inputs == 2:
        mixtures(2, 4, p, pb, v, vb, count, y, yb)
    elif inputs == 3:
        mixtures(3, 4, p, pb, v, vb, count, y, yb)
    elif inputs == 4:
        mixtures(4, 4, p, pb, v, vb, count, y, yb)
    elif inputs == 5:
        mixtures(5, 4, p, pb, v, vb, count, y, yb)
    else:
        mixtures(6, 4, p, pb, v, vb, count, y, yb)
