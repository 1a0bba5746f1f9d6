"""Products of many inputs with a matrix: how prompts are read.

`vector.products` goes along a row, which is right for one input: each weight is read once. With hundreds of
inputs the sums of lanes, and taking weights out of their blocks for every few inputs, would cost more than the
products. So here rows are unpacked once, sixteen rows become the sixteen lanes of a vector (a panel), and an
input's number goes to all lanes: nothing is summed across.

Each result is summed in the order of the columns, one by one, whatever is computed beside it. That is not the
order of `vector.products`; which of the two a token goes through must hang on nothing but the token
(`engine.decoder.Chunk.written`).

Two kinds: float32 throughout; and bfloat16 numbers with float32 sums, in pairs, for processors that have an
instruction for it (AVX512-BF16, twice as fast). Rounding is to nearest, ties to even.
"""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from daulat.engine.native import vector
from daulat.engine.native.vector import (
    _F32,
    _I32,
    _VF32,
    _VI16,
    _VI32,
    LANES,
    Builder,
    Value,
    _all,
    _fma,
    _i64,
    _load,
    _splat,
    _store,
    _variable,
)

FLOAT32, BFLOAT16 = range(2)


def _processor_has(feature: str) -> bool:
    """Whether code is compiled for a processor that has it: this one, or the one that Numba is told of."""
    if config.CPU_NAME:
        return f"+{feature}" in (config.CPU_FEATURES or "").split(",")
    return bool(binding.get_host_cpu_features().get(feature))


_WIDE = 4 if _processor_has("avx512f") else 1
"""Vectors of rows in a panel: with the inputs below, what fills the registers."""
_TILE = 6
_CACHE = 512 << 10
"""Bytes of inputs that stay in the second-level cache while all panels pass by."""


def has_bfloat16() -> bool:
    """Whether the processor multiplies pairs of bfloat16."""
    return _processor_has("avx512bf16")


def quickest() -> int:
    """The kind that this processor is quickest with."""
    return BFLOAT16 if has_bfloat16() else FLOAT32


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_VBF = ir.VectorType(_BFloat(), 2 * LANES)


def _rounded(b: Builder, x: Value) -> Value:
    """Sixteen float32 as their bits, of which the upper half is the nearest bfloat16."""
    bits = b.bitcast(x, _VI32)
    odd = b.and_(b.lshr(bits, _all(_VI32, 16)), _all(_VI32, 1))
    return b.add(bits, b.add(odd, _all(_VI32, 0x7FFF)))


def _pairs(b: Builder, low: Value, high: Value) -> Value:
    """32 float32 as sixteen pairs of bfloat16, neighbours together."""
    masks = [
        ir.Constant(ir.VectorType(_I32, LANES), list(range(k, 2 * LANES, 2))) for k in range(2)
    ]
    even, odd = (_rounded(b, b.shuffle_vector(low, high, mask)) for mask in masks)
    return b.or_(b.lshr(even, _all(_VI32, 16)), b.and_(odd, _all(_VI32, 0xFFFF0000)))


def _transposed(b: Builder, rows: list[Value]) -> list[Value]:
    """Sixteen vectors of sixteen, columns for rows: halves are exchanged, then quarters, and so on."""
    for step in (8, 4, 2, 1):
        for i in range(LANES):
            if i & step:
                continue
            first, second = rows[i], rows[i + step]
            keep = [k + LANES - step if k & step else k for k in range(LANES)]
            swap = [k + LANES if k & step else k + step for k in range(LANES)]
            masks = [ir.Constant(ir.VectorType(_I32, LANES), mask) for mask in (keep, swap)]
            rows[i], rows[i + step] = (b.shuffle_vector(first, second, mask) for mask in masks)
    return rows


@intrinsic
def _pack(typing, kind, rows, row_bytes, steps, panel, panel_bytes):
    """Sixteen rows of float32 as one of a panel's vectors.

    Args:
        kind: literal, FLOAT32 or BFLOAT16.
        rows, row_bytes: address of the first row, and from one to the next.
        steps: 16 columns (float32) or 32 (bfloat16) each.
        panel, panel_bytes: address of the vector, and from a column (pair of columns) to the next.
    """
    if not isinstance(kind, types.IntegerLiteral):
        return None
    pairs = kind.literal_value == BFLOAT16

    def generate(context, b, signature, arguments):
        r0, r_step, count, p0, p_step = arguments[1:]
        with cgutils.for_range(b, count) as loop:
            at = b.add(r0, b.mul(loop.index, _i64(128 if pairs else 64)))
            found = []
            for r in range(LANES):
                row = b.add(at, b.mul(r_step, _i64(r)))
                low = _load(b, row, 0, _VF32)
                both = pairs and _pairs(b, low, _load(b, row, 64, _VF32))
                found.append(both or b.bitcast(low, _VI32))
            place = b.add(p0, b.mul(b.mul(loop.index, _i64(LANES)), p_step))
            for k, column in enumerate(_transposed(b, found)):
                _store(b, column, b.add(place, b.mul(p_step, _i64(k))))
        return context.get_dummy_value()

    return types.void(kind, *(types.int64,) * 5), generate


@intrinsic
def _round(typing, x, count, y):
    """float32 to bfloat16; `count` is a multiple of sixteen."""

    def generate(context, b, signature, arguments):
        x0, count, y0 = arguments
        with cgutils.for_range(b, b.udiv(count, _i64(LANES))) as loop:
            number = _load(b, b.add(x0, b.mul(loop.index, _i64(64))), 0, _VF32)
            half = b.trunc(b.lshr(_rounded(b, number), _all(_VI32, 16)), _VI16)
            _store(b, half, b.add(y0, b.mul(loop.index, _i64(32))))
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 3), generate


@intrinsic
def _products(typing, kind, inputs, wide, panel, x, x_bytes, steps, y, y_bytes):
    """y[m, r] = the product of row r of a panel with input m.

    Args:
        kind, inputs, wide: literals; wide: the panel's vectors.
        steps: columns (float32), or pairs of columns (bfloat16).
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (kind, inputs, wide)):
        return None
    pairs = kind.literal_value == BFLOAT16
    several, vectors = range(inputs.literal_value), range(wide.literal_value)

    def add(b, total, number, weights):
        if not pairs:
            return _fma(b, _splat(b, number), weights, total)
        form = ir.FunctionType(_VF32, [_VF32, _VBF, _VBF])
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        number = b.bitcast(_splat(b, number), _VBF)
        return b.call(
            cgutils.get_or_insert_function(b.module, form, name),
            [total, number, b.bitcast(weights, _VBF)],
        )

    def generate(context, b, signature, arguments):
        p0, x0, x_step, count, y0, y_step = arguments[3:]
        sums = [[_variable(b) for _ in vectors] for _ in several]
        with cgutils.for_range(b, count) as loop:
            row = b.add(p0, b.mul(loop.index, _i64(64 * len(vectors))))
            weights = [_load(b, row, 64 * k, _VF32) for k in vectors]
            at = b.add(x0, b.mul(loop.index, _i64(4)))
            for m in several:
                number = _load(b, b.add(at, b.mul(x_step, _i64(m))), 0, _F32)
                for k in vectors:
                    b.store(add(b, b.load(sums[m][k]), number, weights[k]), sums[m][k])
        for m in several:
            for k in vectors:
                place = b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(64 * k)))
                _store(b, b.load(sums[m][k]), place)
        return context.get_dummy_value()

    return types.void(kind, inputs, wide, *(types.int64,) * 6), generate


@njit(inline="always")
def _panel(kind, wide, panel, x, x_bytes, steps, y, y_bytes, inputs):
    """All inputs with one panel."""
    while inputs >= 6:
        _products(kind, 6, wide, panel, x, x_bytes, steps, y, y_bytes)
        x, y, inputs = x + 6 * x_bytes, y + 6 * y_bytes, inputs - 6
    while inputs >= 2:
        _products(kind, 2, wide, panel, x, x_bytes, steps, y, y_bytes)
        x, y, inputs = x + 2 * x_bytes, y + 2 * y_bytes, inputs - 2
    if inputs:
        _products(kind, 1, wide, panel, x, x_bytes, steps, y, y_bytes)


@njit(cache=True)
def _wide_float32(panel, x, x_bytes, steps, y, y_bytes, inputs):
    _panel(FLOAT32, _WIDE, panel, x, x_bytes, steps, y, y_bytes, inputs)


@njit(cache=True)
def _narrow_float32(panel, x, x_bytes, steps, y, y_bytes, inputs):
    _panel(FLOAT32, 1, panel, x, x_bytes, steps, y, y_bytes, inputs)


@njit(cache=True)
def _wide_bfloat16(panel, x, x_bytes, steps, y, y_bytes, inputs):
    _panel(BFLOAT16, _WIDE, panel, x, x_bytes, steps, y, y_bytes, inputs)


@njit(cache=True)
def _narrow_bfloat16(panel, x, x_bytes, steps, y, y_bytes, inputs):
    _panel(BFLOAT16, 1, panel, x, x_bytes, steps, y, y_bytes, inputs)


@njit(inline="always")
def _any_panel(kind, wide, panel, x, x_bytes, steps, y, y_bytes, inputs):
    if kind == BFLOAT16 and wide > 1:
        _wide_bfloat16(panel, x, x_bytes, steps, y, y_bytes, inputs)
    elif kind == BFLOAT16:
        _narrow_bfloat16(panel, x, x_bytes, steps, y, y_bytes, inputs)
    elif wide > 1:
        _wide_float32(panel, x, x_bytes, steps, y, y_bytes, inputs)
    else:
        _narrow_float32(panel, x, x_bytes, steps, y, y_bytes, inputs)


@njit(inline="always")
def read(form, kind, weights, row_bytes, blocks, x, x_bytes, y, y_bytes, inputs, rows):
    """y[m, r] for all m and r, for literal `form` and `kind`; arguments as of `matrices`' functions."""
    columns = blocks * 32
    size = 2 if kind == BFLOAT16 else 4
    step = min(max(_CACHE // (columns * size) // _TILE, 1) * _TILE, inputs)
    # bfloat16 inputs are copied, float32 ones are read where they are.
    copied = np.empty(step * columns if kind == BFLOAT16 else 1, dtype=np.uint16)
    unpacked = np.empty(LANES * columns, dtype=np.float32)
    panel = np.empty(_WIDE * LANES * columns, dtype=np.float32)
    last = np.empty((step, LANES), dtype=np.float32)
    steps = columns // 2 if kind == BFLOAT16 else columns
    for first in range(0, inputs, step):
        count = min(step, inputs - first)
        at, at_bytes = x + first * x_bytes, x_bytes
        if kind == BFLOAT16:
            at, at_bytes = copied.ctypes.data, columns * 2
            for m in range(count):
                _round(x + (first + m) * x_bytes, columns, at + m * at_bytes)
        row = 0
        while row < rows:
            wide = _WIDE if rows - row >= _WIDE * LANES else 1
            high = min(rows - row, wide * LANES)
            to, to_bytes = y + first * y_bytes + row * 4, y_bytes
            if high < LANES:
                unpacked[:] = 0
                to, to_bytes = last.ctypes.data, LANES * 4
            for v in range(wide):
                for r in range(min(high - v * LANES, LANES)):
                    place = unpacked.ctypes.data + r * columns * 4
                    vector.unpack(form, weights + (row + v * LANES + r) * row_bytes, blocks, place)
                _pack(
                    kind,
                    unpacked.ctypes.data,
                    columns * 4,
                    steps // LANES,
                    panel.ctypes.data + v * 64,
                    wide * 64,
                )
            where = panel.ctypes.data
            _any_panel(kind, wide, where, at, at_bytes, steps, to, to_bytes, count)
            if high < LANES:
                _copy_columns(last, y + first * y_bytes + row * 4, y_bytes, count, high)
            row += high


@njit(cache=True)
def _copy_columns(source, y, y_bytes, count, high):
    for m in range(count):
        for r in range(high):
            vector.put(y + m * y_bytes + r * 4, source[m, r])
