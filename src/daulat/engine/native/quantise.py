"""Float matrices in blocks of 32 whole numbers, as files have them: 8-bit (Q8_0) and 4-bit (Q4_1).

A block of Q8_0 is a float16 step d and 32 signed bytes q, standing for d q. A block of Q4_1 is a float16 step
d, a float16 least number m and 32 nibbles q, standing for d q + m.

Eight bits are plenty, so d is the least float16 number whose grid from -127 d to 127 d holds the whole block.
With four bits the choice matters. The first grid is again one that holds the whole block; then others are
tried that are narrower and wider by up to three steps. In each of them the weights go to their nearest
steps, and for these steps the d and m of least squared error are the solution of two linear equations (the
regression of the weights on their steps); d and m become float16, the weights go to the nearest steps of that,
and what has the least error in the end is kept. This is the search of llama.cpp's `make_qkx2_quants`, except
that errors are counted after d and m are rounded, and that all weights count the same.

Each sum is made in one fixed order, so the same matrix gives the same bytes everywhere.
"""

# pyright: basic, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from daulat.engine.native.panels import FORMS, Q4_1, Q8_0
from daulat.engine.native.repack import spread
from daulat.engine.native.vector import BLOCK, LANES, step_error, step_sums
from daulat.errors import ModelFileError
from daulat.models.numbers import Array, Floats

LARGEST = 65504.0
"""The largest float16 number."""
_ROWS_AT_ONCE = 1 << 22
"""Weights that one thread takes at a time."""
TRIES, FIRST, APART = 14, 14.25, 0.25
"""Grids tried: how many, and over how many steps their first and next ones spread a block's range."""

_compiled = njit(boundscheck=False, nogil=True, cache=True, error_model="numpy")


def quantise(numbers: Array, form: int, threads: int = 1) -> Array:
    """The blocks of a matrix.

    Args:
        numbers: [rows, columns] of any float type; columns a multiple of 32.
        form: `panels.Q8_0` or `panels.Q4_1`.

    Returns:
        uint8 [rows, bytes of a row].

    Raises:
        ModelFileError: a weight is not finite, or too large for a float16 scale.
    """
    rows, columns = numbers.shape
    out = np.empty((rows, columns // BLOCK, FORMS[form].size // LANES), dtype=np.uint8)
    step = max(1, _ROWS_AT_ONCE // columns)

    def some(first: int) -> None:
        part = np.ascontiguousarray(numbers[first : first + step], dtype=np.float32)
        _FILL[form](part.reshape(-1, BLOCK), out[first : first + step].reshape(-1, out.shape[2]))

    spread(some, range(0, rows, step), threads)
    return out.reshape(rows, -1)


def restore(blocks: Array, form: int) -> Floats:
    """The float32 numbers [rows, columns] that blocks stand for, uint8 [rows, bytes of a row]."""
    each = blocks.reshape(len(blocks), -1, FORMS[form].size // LANES)
    head = 2 if form == Q8_0 else 4
    scales = np.ascontiguousarray(each[..., :head]).view(np.float16).astype(np.float32)
    steps = each[..., head:]
    if form == Q8_0:
        return (steps.view(np.int8) * scales).reshape(len(blocks), -1)
    nibbles = np.concatenate([steps & 15, steps >> 4], axis=-1)
    return (nibbles * scales[..., :1] + scales[..., 1:]).reshape(len(blocks), -1)


def _fill_q8_0(blocks: np.ndarray, out: np.ndarray) -> None:
    scales = np.empty((len(blocks), 1), dtype=np.float32)
    _eight(blocks, scales, out)
    _put(scales, out)


def _fill_q4_1(blocks: np.ndarray, out: np.ndarray) -> None:
    scales = np.empty((len(blocks), 2), dtype=np.float32)
    _four(blocks, scales, out)
    _put(scales, out)


def _put(scales: np.ndarray, out: np.ndarray) -> None:
    """The scales, which are float16 numbers already, ahead of their steps."""
    if not np.abs(scales).max(initial=0.0) <= LARGEST:  # not <=: neither is NaN
        raise ModelFileError(
            "A weight is infinite, no number, or too large to be kept in 4 or 8 bits. "
            'Pull the model again, or set engine.dtype = "bfloat16".'
        )
    out[:, : 2 * scales.shape[1]] = scales.astype(np.float16).view(np.uint8)


_FILL: dict[int, Callable[[np.ndarray, np.ndarray], None]] = {Q8_0: _fill_q8_0, Q4_1: _fill_q4_1}


@_compiled
def half(x):
    """The nearest float16 number, as float32 (no infinity: larger ones stay as they are).

    Multiplying by 2^13 + 1 and taking the difference off leaves the upper 11 bits (Dekker's splitting).
    """
    split = x * np.float32(8193.0)
    small = np.rint(x * np.float32(2.0**24)) * np.float32(2.0**-24)
    return small if abs(x) < np.float32(2.0**-14) else split - (split - x)


@_compiled
def _up(x):
    """For x >= 0: the nearest float16 number, or the next one where that is less."""
    near = half(x)
    after = half(near * np.float32(1.0 + 2.0**-11 + 2.0**-20))
    above = near + np.float32(2.0**-24) if near < np.float32(2.0**-14) else after
    return above if near < x else near


@_compiled
def _down(x):
    """For x >= 0: the nearest float16 number, or the one before where that is greater."""
    near = half(x)
    before = half(near * np.float32(1.0 - 2.0**-11 - 2.0**-20))
    below = near - np.float32(2.0**-24) if near <= np.float32(2.0**-14) else before
    return below if near > x else near


@_compiled
def step_of(x, turned, low):
    """As `vector.step_sums` has it, for one weight."""
    return np.rint(min(max((x - low) * turned, np.float32(0)), np.float32(15)))


@_compiled
def turned_of(step):
    """One over a step; 0 where there is no step, so that all weights are at the least number."""
    return np.float32(1) / step if step > 0 else np.float32(0)


@_compiled
def _eight(blocks, scales, out):
    """Q8_0's steps into `out`, and their scales, float16 numbers in float32 (NaN: cannot be)."""
    for n in range(blocks.shape[0]):
        largest = second = wrong = np.float32(0)
        for j in range(BLOCK):
            size = abs(blocks[n, j])
            wrong += size * np.float32(0)  # NaN for what is not finite
            if size > largest:
                largest, second = size, largest
            elif size < largest:
                second = max(second, size)
        # Weights of one size (and zeros) are exact: one step is that size.
        same = second == 0 and half(largest) == largest
        step = largest if same else _up(largest / np.float32(127))
        scales[n, 0] = step + wrong
        turned = turned_of(step)
        for j in range(BLOCK):
            out[n, 2 + j] = np.uint8(np.int32(np.rint(blocks[n, j] * turned)) & 255)


@_compiled
def _four(blocks, scales, out):
    """Q4_1's nibbles into `out`, and their steps and least numbers, float16 numbers in float32."""
    for n in range(blocks.shape[0]):
        x = blocks[n]
        low, high, total = x[0], x[0], np.float32(0)
        for j in range(BLOCK):
            low, high = min(low, x[j]), max(high, x[j])
            total += x[j]
        step, least, error = _search(x.ctypes.data, low, high, total)
        # An error that is not finite tells of weights that are not.
        scales[n, 0] = step + error * np.float32(0)
        scales[n, 1] = least
        turned = turned_of(step)
        for j in range(BLOCK // 2):
            one, other = step_of(x[j], turned, least), step_of(x[j + BLOCK // 2], turned, least)
            out[n, 4 + j] = np.uint8(np.int32(one) | (np.int32(other) << 4))


@_compiled
def _search(address, low, high, total):
    """Step and least number of the best grid, and its squared error."""
    count, one = np.float32(BLOCK), np.float32(1)
    # A grid that holds the block: its least number not above, its greatest not below.
    least = -_up(-low) if low < 0 else _down(low)
    step = _up((high - least) / np.float32(15))
    error = step_error(address, least, turned_of(step), step)
    for k in range(TRIES):
        turned = (np.float32(FIRST) + np.float32(APART) * np.float32(k)) * turned_of(high - low)
        q, qq, qx = step_sums(address, low, turned)
        slope = (count * qx - q * total) / max(count * qq - q * q, one)
        d = half(max(slope, np.float32(0)))
        m = half((total - d * q) / count)
        tried = step_error(address, m, turned_of(d), d)
        if tried < error:
            step, least, error = d, m, tried
    return step, least, error
