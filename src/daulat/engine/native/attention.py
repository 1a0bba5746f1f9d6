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
from numba import njit

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native.vector import (
    LANES,
    columns,
    floats,
    integers,
    mixtures,
    soften,
)

TOGETHER = 24
"""Queries that go through the cache at once, of one head or of several."""
SEGMENT = 256
"""Keys whose scores are made before their values are mixed; a multiple of BLOCK_TOKENS."""
WIDTH = SEGMENT + LANES
"""Room for a query's scores."""
_TILE = 6
"""Queries at once in the innermost loops: what fills the registers."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
compiled = njit(
    fastmath=FAST, boundscheck=False, nogil=True, error_model="numpy", cache=True, _nrt=False
)
"""Without Numba's own memory: it would count who holds an array, by locked instructions in innermost loops, for
which threads wait for each other. All arrays are the caller's.
"""


@compiled
def attend(
    queries, blocks, keys, values, firsts, lasts, scores, totals, mosts, out, heads=1, short=0
):
    """out[m] = softmax(q_m k) v over the cached places firsts[m] to lasts[m] (exclusive).

    Args:
        queries, out: [up to TOGETHER, D].
        blocks: address of the addresses of the cache's blocks.
        keys, values: where in a block they begin, in bytes: [D, BLOCK_TOKENS] and [BLOCK_TOKENS, D], float32.
        scores: [TOGETHER, WIDTH]; totals, mosts: [TOGETHER]; to work in.
        heads: so many heads' keys lie one behind the other, and values; each has as many of the queries.
        short: 1: keys and values are bfloat16, by pairs of dimensions, [D / 2, BLOCK_TOKENS, 2], and of
            tokens, [BLOCK_TOKENS / 2, D, 2]; D is a multiple of 16.
    """
    inputs, size = queries.shape
    each, head_bytes = inputs // heads, BLOCK_TOKENS * size * (2 if short else 4)
    begin, end = firsts[0], lasts[0]
    for m in range(1, inputs):
        begin, end = min(begin, firsts[m]), max(end, lasts[m])
    begin = begin // BLOCK_TOKENS * BLOCK_TOKENS
    addresses = integers(blocks, (end - 1) // BLOCK_TOKENS + 1)
    out[:] = 0
    totals[:] = 0
    mosts[:] = -np.inf
    q, p, o = queries.ctypes.data, scores.ctypes.data, out.ctypes.data
    row, line = size * 4, scores.shape[1] * 4
    for segment in range(begin // SEGMENT * SEGMENT, end, SEGMENT):
        low, high = max(begin, segment), min(end, segment + SEGMENT)
        for place in range(low, high, BLOCK_TOKENS):
            at, share = addresses[place // BLOCK_TOKENS] + keys, p + (place - low) * 4
            after = addresses[low // BLOCK_TOKENS] + values
            if place + BLOCK_TOKENS < high:
                after = addresses[place // BLOCK_TOKENS + 1] + keys
            ahead = after - at
            for m in range(0, inputs, each):
                _scores(short, each, q + m * row, row, at, size, share + m * line, line, ahead)
                at += head_bytes
        for m in range(inputs):
            first, last = max(firsts[m], low) - low, min(lasts[m], high) - low
            mosts[m], totals[m] = _soften(
                p + m * line, first, last, high - low, mosts[m], totals[m], o + m * row, size
            )
        for place in range(low, high, BLOCK_TOKENS):
            at, share = addresses[place // BLOCK_TOKENS] + values, p + (place - low) * 4
            after = at
            if place + BLOCK_TOKENS < end:
                after = addresses[place // BLOCK_TOKENS + 1]
                after += values if place + BLOCK_TOKENS < high else keys
            ahead = after - at
            for m in range(0, inputs, each):
                count = min(BLOCK_TOKENS, high - place)
                _mix(short, each, share + m * line, line, at, size, count, o + m * row, ahead)
                at += head_bytes
    for m in range(inputs):
        scale(o + m * row, np.float32(1) / totals[m], size)


@compiled
def scaled(x, factor, y, size):
    """y = factor * x, so many float32 at two addresses."""
    numbers, to = floats(x, size), floats(y, size)
    for d in range(size):
        to[d] = factor * numbers[d]


@compiled
def scale(x, factor, size):
    """x *= factor. (`scaled` would go number by number here, since what it reads is what it writes.)"""
    numbers = floats(x, size)
    for d in range(size):
        numbers[d] *= factor


@compiled
def _soften(row, first, last, width, most, total, out, size):
    """A query's scores of a segment as shares, 0 outside first to last; what is summed so far made to fit.

    That is done even where the largest score stays: a factor of 1 costs less than a branch guessed wrong.

    Returns:
        the largest score and the sum of the shares so far.
    """
    whole = (width + LANES - 1) // LANES * LANES
    hide_others(row, first, last, whole)
    if first < last:
        most, more, less = soften(row, whole, most)
        total = total * less + more
        scale(out, less, size)
    return most, total


@compiled
def hide_others(row, first, last, width):
    """So many scores at an address, less than any outside first to last: so that their shares are zeros."""
    shares = floats(row, width)
    hidden = np.float32(-1e30 if first < last else 0)
    for j in range(min(first, width)):
        shares[j] = hidden
    for j in range(max(last, 0), width):
        shares[j] = hidden


def _columns_of(short):
    """`columns` for a number of inputs that is known only then: Numba wants each by itself."""

    def some(inputs, x, xb, keys, size, y, yb, ahead):
        if inputs == 1:
            columns(1, short, x, xb, keys, size, y, yb, ahead)
        elif inputs == 2:
            columns(2, short, x, xb, keys, size, y, yb, ahead)
        elif inputs == 3:
            columns(3, short, x, xb, keys, size, y, yb, ahead)
        elif inputs == 4:
            columns(4, short, x, xb, keys, size, y, yb, ahead)
        elif inputs == 5:
            columns(5, short, x, xb, keys, size, y, yb, ahead)
        else:
            columns(6, short, x, xb, keys, size, y, yb, ahead)

    some.__qualname__ = f"_columns_of_{short}"  # a name of its own in the cache of machine code
    return compiled(some)


def _mixtures_of(short):
    """`mixtures` of 64 columns in the same way."""

    def some(inputs, p, pb, v, vb, count, y, yb, ahead):
        if inputs == 1:
            mixtures(1, 4, short, p, pb, v, vb, count, y, yb, ahead)
        elif inputs == 2:
            mixtures(2, 4, short, p, pb, v, vb, count, y, yb, ahead)
        elif inputs == 3:
            mixtures(3, 4, short, p, pb, v, vb, count, y, yb, ahead)
        elif inputs == 4:
            mixtures(4, 4, short, p, pb, v, vb, count, y, yb, ahead)
        elif inputs == 5:
            mixtures(5, 4, short, p, pb, v, vb, count, y, yb, ahead)
        else:
            mixtures(6, 4, short, p, pb, v, vb, count, y, yb, ahead)

    some.__qualname__ = f"_mixtures_of_{short}"  # a name of its own in the cache of machine code
    return compiled(some)


_columns_of_floats, _columns_of_pairs = _columns_of(0), _columns_of(1)
_mixtures_of_floats, _mixtures_of_pairs = _mixtures_of(0), _mixtures_of(1)


@compiled
def _scores(short, inputs, x, xb, keys, size, y, yb, ahead):
    """Queries with the keys of a block, tile by tile."""
    for m in range(0, inputs, _TILE):
        some, at, to = min(_TILE, inputs - m), x + m * xb, y + m * yb
        if short:
            _columns_of_pairs(some, at, xb, keys, size, to, yb, ahead)
        else:
            _columns_of_floats(some, at, xb, keys, size, to, yb, ahead)


@compiled
def _mix(short, inputs, p, pb, values, size, count, y, ahead):
    """y[m] += the sum over j of p[m, j] v_j, tile by tile."""
    for m in range(0, inputs, _TILE):
        some, at, to = min(_TILE, inputs - m), p + m * pb, y + m * size * 4
        _mix_tile(short, some, at, pb, values, size, count, to, ahead)


@compiled
def _mix_tile(short, inputs, p, pb, values, size, count, y, ahead):
    vb = yb = size * 4  # of a value in float32, or of a pair of them
    column = 0
    while column + 64 <= size:
        v, to = values + column * 4, y + column * 4
        if short:
            _mixtures_of_pairs(inputs, p, pb, v, vb, count, to, yb, ahead)
        else:
            _mixtures_of_floats(inputs, p, pb, v, vb, count, to, yb, ahead)
        column += 64
    while column + LANES <= size:
        for m in range(inputs):
            at, v, to = p + m * pb, values + column * 4, y + m * yb + column * 4
            if short:
                mixtures(1, 1, 1, at, pb, v, vb, count, to, yb, ahead)
            else:
                mixtures(1, 1, 0, at, pb, v, vb, count, to, yb, ahead)
        column += LANES
    if column < size:
        rows = floats(values, count * size)
        for m in range(inputs):
            shares, out = floats(p + m * pb, count), floats(y + m * yb, size)
            for j in range(count):
                for d in range(column, size):
                    out[d] += shares[j] * rows[j * size + d]
