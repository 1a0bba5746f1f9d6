"""Attention over a cache, in machine code: queries that share keys go through them together.

The keys of a block lie dimension by dimension, so that sixteen scores are made at once without adding up lanes.
What one query gives is the same number for number, alone or in company: each product and each sum is made
in the order of the keys.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

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

TOGETHER = 6
"""Queries at once: what fills the registers."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
compiled = njit(fastmath=FAST, boundscheck=False, nogil=True, error_model="numpy", cache=True)


@compiled
def attend(queries, blocks, keys, values, firsts, lasts, scores, totals, out):
    """out[m] = softmax(q_m k) v over the cached places firsts[m] to lasts[m] (exclusive).

    Args:
        queries, out: [up to TOGETHER, D].
        blocks: address of the addresses of the cache's blocks.
        keys, values: where in a block they begin, in bytes: [D, BLOCK_TOKENS] and [BLOCK_TOKENS, D].
        scores: [TOGETHER, room for all places and two blocks more], totals: [TOGETHER]; to work in.
    """
    inputs, size = queries.shape
    begin, end = firsts[0], lasts[0]
    for m in range(1, inputs):
        begin, end = min(begin, firsts[m]), max(end, lasts[m])
    begin = begin // BLOCK_TOKENS * BLOCK_TOKENS
    addresses = carray(integers(blocks), ((end - 1) // BLOCK_TOKENS + 1,))
    x, xb, y, yb = queries.ctypes.data, size * 4, scores.ctypes.data, scores.shape[1] * 4
    for low in range(begin, end, BLOCK_TOKENS):
        at = addresses[low // BLOCK_TOKENS] + keys
        _scores(inputs, x, xb, at, size, y + (low - begin) * 4, yb)
    out[:] = 0
    for m in range(inputs):
        row = scores[m]
        first, last = firsts[m] - begin, lasts[m] - begin
        totals[m] = soften(row[first:].ctypes.data, last - first)
        for j in range(first):
            row[j] = 0
        for j in range(last, end - begin):
            row[j] = 0
    for low in range(begin, end, BLOCK_TOKENS):
        at, count = addresses[low // BLOCK_TOKENS] + values, min(BLOCK_TOKENS, end - low)
        _mix(scores[:, low - begin :], inputs, at, count, out)
    for m in range(inputs):
        for d in range(size):
            out[m, d] /= totals[m]


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
def _mix(scores, inputs, values, count, out):
    """out[m] += the sum over j of scores[m, j] v_j."""
    size = out.shape[1]
    p, pb, vb, y, yb = scores.ctypes.data, scores.strides[0], size * 4, out.ctypes.data, size * 4
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
            for j in range(count):
                for d in range(column, size):
                    out[m, d] += scores[m, j] * rows[j, d]


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
