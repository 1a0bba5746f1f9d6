"""Attention over a cache, in machine code: queries that share keys go through them together.

What one query gives is the same number for number, alone or in company: each product and each sum is made
in the order of the keys.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import numpy as np
from numba import carray, njit

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native.vector import (
    F32,
    LANES,
    exponentials,
    floats,
    integers,
    mixtures,
    products,
)

TOGETHER = 6
"""Queries at once: what fills the registers."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
compiled = njit(fastmath=FAST, boundscheck=False, nogil=True, error_model="numpy", cache=True)


@compiled
def attend(queries, blocks, keys, values, firsts, lasts, scale, scores, out):
    """out[m] = softmax(scale q_m k) v over the cached places firsts[m] to lasts[m] (exclusive).

    Args:
        queries, out: [up to TOGETHER, D].
        blocks: address of the addresses of the cache's blocks.
        keys, values: where in a block they begin, in bytes: [BLOCK_TOKENS, D].
        scores: [TOGETHER, room for all places and LANES more] to work in.
    """
    inputs, size = queries.shape
    begin, end = firsts[0], lasts[0]
    for m in range(1, inputs):
        begin, end = min(begin, firsts[m]), max(end, lasts[m])
    addresses = carray(integers(blocks), ((end - 1) // BLOCK_TOKENS + 1,))
    low = begin
    while low < end:
        number, skip = low // BLOCK_TOKENS, low % BLOCK_TOKENS * size * 4
        high = min((number + 1) * BLOCK_TOKENS, end)
        _scores(queries, addresses[number] + keys + skip, high - low, scores[:, low - begin :])
        low = high
    for m in range(inputs):
        row = scores[m]
        first, last = firsts[m] - begin, lasts[m] - begin
        total = _soften(row[first:], last - first, scale)
        for j in range(first):
            row[j] = 0
        for j in range(last - first):
            row[first + j] /= total
        for j in range(last, end - begin):
            row[j] = 0
    out[:] = 0
    low = begin
    while low < end:
        number, skip = low // BLOCK_TOKENS, low % BLOCK_TOKENS * size * 4
        high = min((number + 1) * BLOCK_TOKENS, end)
        _mix(scores[:, low - begin :], inputs, addresses[number] + values + skip, high - low, out)
        low = high


@compiled
def _soften(row, count, scale):
    """The first `count` scores become exponentials, the largest 1; their sum."""
    most = np.float32(-np.inf)
    for j in range(count):
        row[j] *= scale
        most = max(most, row[j])
    exponentials(row.ctypes.data, count, most)
    total = np.float32(0)
    for j in range(count):
        total += row[j]
    return total


@compiled
def _scores(queries, keys, count, scores):
    """scores[m, j] = q_m k_j."""
    inputs, size = queries.shape
    if size % 32:
        _scores_one_by_one(queries, keys, count, scores)
        return
    row, x, xb, yb = size * 4, queries.ctypes.data, size * 4, scores.strides[0]
    y, blocks = scores.ctypes.data, size // 32
    j = 0
    while j + 4 <= count:
        at, to = keys + j * row, y + j * 4
        _scores_4(inputs, at, row, blocks, x, xb, to, yb)
        j += 4
    while j < count:
        for m in range(inputs):
            products(F32, 1, 1, keys + j * row, row, blocks, x + m * xb, xb, y + m * yb + j * 4, yb)
        j += 1


@compiled
def _scores_4(inputs, keys, row, blocks, x, xb, y, yb):
    """Four keys with up to six queries; Numba wants each number of queries by itself."""
    if inputs == 1:
        products(F32, 1, 4, keys, row, blocks, x, xb, y, yb)
    elif inputs == 2:
        products(F32, 2, 4, keys, row, blocks, x, xb, y, yb)
    elif inputs == 3:
        products(F32, 3, 4, keys, row, blocks, x, xb, y, yb)
    elif inputs == 4:
        products(F32, 4, 4, keys, row, blocks, x, xb, y, yb)
    elif inputs == 5:
        products(F32, 5, 4, keys, row, blocks, x, xb, y, yb)
    else:
        products(F32, 6, 4, keys, row, blocks, x, xb, y, yb)


@compiled
def _scores_one_by_one(queries, keys, count, scores):
    inputs, size = queries.shape
    rows = carray(floats(keys), (count, size))
    for m in range(inputs):
        for j in range(count):
            total = np.float32(0)
            for d in range(size):
                total += queries[m, d] * rows[j, d]
            scores[m, j] = total


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
