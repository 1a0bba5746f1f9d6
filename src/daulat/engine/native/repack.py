"""From rows as files store them to panels.

llama.cpp's K-quants, whose 256 weights share packed scales, become blocks of 32 that stand by themselves first.
Nothing is rounded: a block's scale is a float16 times a whole number of 6 or 8 bits, which float32 holds.
The layouts are those of ggml (`ggml-common.h`: block_q4_K, block_q5_K, block_q6_K).
"""

# pyright: basic, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numba import njit

from daulat.engine.cache import aligned
from daulat.engine.native.panels import (
    BYTES,
    COLUMNS,
    FORMS,
    NIBBLES,
    TWO_SCALES,
    Floats,
)
from daulat.engine.native.vector import BLOCK, LANES
from daulat.models.numbers import Array

SUPER = 256
"""Weights in a block of a K-quant."""


_AT_ONCE = 64
"""Panels that one thread takes at a time."""


def lay(rows: Array, form: int, threads: int = 1) -> Array:
    """Rows of blocks, uint8 [rows, bytes of a row], as panels, uint8 [panels, bytes of a panel]. Rows that
    are missing to the last panel are zeros."""
    kind = FORMS[form]
    source = np.ascontiguousarray(rows)
    blocks = source.shape[1] * LANES // kind.size
    panels = -(-len(source) // LANES)
    out = aligned((panels, blocks, kind.size), np.dtype(np.uint8))
    if len(source) % LANES:
        out[-1] = 0

    def some(first: int) -> None:
        part, to = source[first * LANES : (first + _AT_ONCE) * LANES], out[first : first + _AT_ONCE]
        if isinstance(kind, Floats):
            _lay_floats(part.reshape(len(part), -1, kind.each), to)
        else:
            scales = kind.head // LANES // kind.scales
            turned = kind.offset if kind.bits == 8 else 0
            held = part.reshape(len(part), blocks, -1)
            _lay_steps(held, to, kind.scales, scales, kind.bits, turned)

    spread(some, range(0, panels, _AT_ONCE), threads)
    return out.reshape(panels, -1)


def spread(work: Callable[[int], None], parts: Iterable[int], threads: int) -> None:
    """Do the parts of some work, by so many threads; they wait for the next work, since starting threads
    takes longer than laying a small matrix."""
    if threads == 1:
        for part in parts:
            work(part)
    else:
        list(_pool(threads).map(work, parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="weights")


def repack(stored: str, data: Array) -> Array:
    """Bytes [rows, bytes of a row] in one of `KINDS`, in that kind's own blocks."""
    size, form, place, fill = KINDS[stored]
    blocks = np.ascontiguousarray(data).reshape(-1, size)
    halves = np.ascontiguousarray(blocks[:, place]).view(np.float16).astype(np.float32)
    out = np.empty((len(blocks), 8, FORMS[form].size // LANES), dtype=np.uint8)
    scales = np.empty((len(blocks), 8, 2), dtype=np.float32)
    fill(blocks, halves, scales, out)
    out[:, :, :8] = scales.view(np.uint8)
    return out.reshape(data.shape[0], -1)


_compiled = njit(boundscheck=False, nogil=True, cache=True)


_COLUMNS = np.array(COLUMNS, dtype=np.int64)


@_compiled
def _lay_floats(rows, out):
    each = rows.shape[2]
    for row in range(rows.shape[0]):
        panel, lane = row // LANES, row % LANES
        for column in range(rows.shape[1]):
            block, place = column // BLOCK, (column % BLOCK * LANES + lane) * each
            for k in range(each):
                out[panel, block, place + k] = rows[row, column, k]


@_compiled
def _lay_steps(rows, out, scales, each, bits, turned):
    for row in range(rows.shape[0]):
        panel, lane = row // LANES, row % LANES
        for block in range(rows.shape[1]):
            source, to = rows[row, block], out[panel, block]
            for scale in range(scales):
                for k in range(each):
                    to[(scale * LANES + lane) * each + k] = source[scale * each + k]
            first, head = scales * each, scales * each * LANES + 4 * lane
            if bits == 4:
                for k in range(16):
                    to[head + k // 4 * 64 + k % 4] = source[first + k]
            else:
                for k in range(32):
                    # Signed bytes become unsigned: an offset of 128 turns their highest bit.
                    to[head + k // 4 * 64 + k % 4] = source[first + _COLUMNS[k]] ^ turned


@_compiled
def _scale_and_least(packed, k):
    """The two 6-bit numbers of part k, out of twelve bytes."""
    if k < 4:
        return packed[k] & 63, packed[k + 4] & 63
    high, low = packed[k - 4] >> 6, packed[k] >> 6
    return (packed[k + 4] & 15) | (high << 4), (packed[k + 4] >> 4) | (low << 4)


@_compiled
def _q4_k(blocks, halves, scales, out):
    for n in range(blocks.shape[0]):
        for k in range(8):
            scale, least = _scale_and_least(blocks[n, 4:16], k)
            scales[n, k, 0] = halves[n, 0] * np.float32(scale)
            scales[n, k, 1] = -(halves[n, 1] * np.float32(least))
            steps = blocks[n, 16 + k // 2 * 32 : 48 + k // 2 * 32]
            shift = 4 * (k % 2)
            for j in range(16):
                low, high = (steps[j] >> shift) & 15, (steps[j + 16] >> shift) & 15
                out[n, k, 8 + j] = low | (high << 4)


@_compiled
def _q5_k(blocks, halves, scales, out):
    for n in range(blocks.shape[0]):
        for k in range(8):
            scale, least = _scale_and_least(blocks[n, 4:16], k)
            scales[n, k, 0] = halves[n, 0] * np.float32(scale)
            scales[n, k, 1] = -(halves[n, 1] * np.float32(least))
            steps = blocks[n, 48 + k // 2 * 32 : 80 + k // 2 * 32]
            for j in range(32):
                fifth = (blocks[n, 16 + j] >> k) & 1
                out[n, k, 8 + j] = ((steps[j] >> (4 * (k % 2))) & 15) | (fifth << 4)


@_compiled
def _q6_k(blocks, halves, scales, out):
    for n in range(blocks.shape[0]):
        for k in range(8):
            half, quarter = k // 4, k % 4
            for part in range(2):
                number = np.int32(blocks[n, 192 + 2 * k + part])
                number = number - 256 if number > 127 else number
                scales[n, k, part] = halves[n, 0] * np.float32(number)
            for j in range(32):
                four = blocks[n, 64 * half + 32 * (quarter % 2) + j] >> (4 * (quarter // 2))
                two = blocks[n, 128 + 32 * half + j] >> (2 * quarter)
                step = np.int32((four & 15) | ((two & 3) << 4)) - 32
                out[n, k, 8 + j] = np.uint8(step & 255)


Fill = Callable[..., None]
KINDS: dict[str, tuple[int, int, slice, Fill]] = {
    "Q4_K": (144, NIBBLES, slice(0, 4), _q4_k),
    "Q5_K": (176, BYTES, slice(0, 4), _q5_k),
    "Q6_K": (210, TWO_SCALES, slice(208, 210), _q6_k),
}
"""Format to its bytes, what it becomes, where its float16 numbers are, and what fills the new blocks."""
