"""Products with a matrix in panels by the processor's matrix units, in bfloat16: for tokens that are read.

A tile is a register of sixteen rows of 64 bytes. One instruction multiplies a tile of inputs (sixteen inputs,
32 columns of each) with a tile of weights (the same columns of a panel's sixteen rows) and adds the products to
a tile of float32: sixteen inputs by sixteen rows. So weights become bfloat16 first, some panels at a time,
which is soon paid for by many inputs; for a single one it costs more than `panels` does.

What is lost: each weight is rounded to 8 significant bits, and each input to 8, or to 16 in two parts. Sums are
float32, in the order of the columns, even and odd ones apart within each 32, as the instruction makes them
(Intel's manual, TDPBF16PS). A result does not depend on what else is multiplied at the same time. It is not the
one of `panels`, bit for bit; `program` says who goes which way.

Inputs lie in groups of sixteen, block by block beside each other (`pack`), as tiles.

Addresses are whole numbers and are not checked: `matrices` and `decoder` answer for them.
"""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from daulat.engine.native import vector
from daulat.engine.native.panels import BF16, FORMS, Floats, Steps, unpacked
from daulat.engine.native.vector import (
    _I8,
    _I16,
    _I32,
    _I64,
    _VF32,
    _VI16,
    _VI32,
    BLOCK,
    LANES,
    Builder,
    Value,
    _all,
    _exp,
    _fetch,
    _fma,
    _i64,
    _larger,
    _largest,
    _load,
    _splat,
    _store,
    _sum,
    _variable,
)

GROUP = 16
"""Inputs that lie together: the rows of a tile."""
BYTES = 1024
"""Of a tile."""
_ROW = 64
_WIDE = 2
"""Panels at once, and groups of inputs: four tiles of sums, two of inputs, two of weights are all there are."""
_PANELS, _DEEP = 8, 18
"""Panels, and blocks of each, that are tiles at the same time."""
SCRATCH = _PANELS * _DEEP * BYTES
"""Bytes that `multiply` needs for them."""
_SIZES = tuple(form.size for form in FORMS)
_INPUTS, _WEIGHTS = (4, 5), (6, 7)
"""The tiles' numbers; sums have 0 to 3."""

_HALVES = ir.VectorType(_I16, 2 * LANES)


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite has no word for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_VBF16 = ir.VectorType(_BFloat(), 2 * LANES)


def forms() -> tuple[int, ...]:
    """Which forms can be multiplied here: weights of few bits, and bfloat16 itself."""
    return tuple(k for k, form in enumerate(FORMS) if k == BF16 or isinstance(form, Steps))


def group_bytes(parts: int) -> int:
    """Bytes of a block of a group of inputs in so many parts."""
    return parts * BYTES


# --- the instructions --------------------------------------------------------------------------------


def _call(b: Builder, name: str, *operands: Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [one.type for one in operands])
    b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.{name}"), operands)


def _tile(number: int) -> Value:
    return ir.Constant(_I8, number)


def _at(b: Builder, address: Value) -> Value:
    return b.inttoptr(address, _I8.as_pointer())


def _load_tile(b: Builder, tile: int, address: Value, row_bytes: Value) -> None:
    _call(b, "tileloadd64", _tile(tile), _at(b, address), row_bytes)


def _store_tile(b: Builder, tile: int, address: Value, row_bytes: Value) -> None:
    _call(b, "tilestored64", _tile(tile), _at(b, address), row_bytes)


def _add_products(b: Builder, sums: int, inputs: int, weights: int) -> None:
    _call(b, "tdpbf16ps", _tile(sums), _tile(inputs), _tile(weights))


def _rounded(b: Builder, first: Value, second: Value) -> Value:
    """Two vectors of float32 as bfloat16, the one behind the other; to the nearest, to even between two."""
    kind = ir.FunctionType(_VBF16, [_VF32, _VF32])
    function = cgutils.get_or_insert_function(
        b.module, kind, "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    )
    return b.bitcast(b.call(function, [second, first]), _HALVES)


@intrinsic
def begin(typing):
    """Ready this thread's tiles: all of sixteen rows of 64 bytes."""

    def generate(context, b, signature, arguments):
        # Palette 1; the bytes of a row from byte 16 on, in 16 bits each; rows from byte 48 on.
        words = [1, 0, 0x0040004000400040, 0x0040004000400040, 0, 0, 0x1010101010101010, 0]
        place = cgutils.alloca_once(b, ir.ArrayType(_I64, 8))
        for k, word in enumerate(words):
            b.store(_i64(word), b.gep(place, [_i64(0), _i64(k)]))
        _call(b, "ldtilecfg", b.bitcast(place, _I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def end(typing):
    """Let go of this thread's tiles: nobody has to keep what is in them."""

    def generate(context, b, signature, arguments):
        _call(b, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


# --- inputs and weights --------------------------------------------------------------------------------


@intrinsic
def pack(typing, parts, x, blocks, group, member):
    """One input of float32 into its place in a group; what its first part leaves is the second.

    Args:
        parts: literal, 1 or 2.
    """
    if not isinstance(parts, types.IntegerLiteral):
        return None
    several = parts.literal_value

    def generate(context, b, signature, arguments):
        x0, count, y0, place = arguments[1:]
        with cgutils.for_range(b, count) as loop:
            at = b.add(x0, b.mul(loop.index, _i64(4 * BLOCK)))
            to = b.add(y0, b.mul(loop.index, _i64(several * BYTES)))
            to = b.add(to, b.mul(place, _i64(_ROW)))
            halves = [_load(b, at, 64 * k, _VF32) for k in (0, 1)]
            for part in range(several):
                rounded = _rounded(b, *halves)
                _store(b, rounded, b.add(to, _i64(part * BYTES)))
                if part + 1 < several:
                    halves = [
                        b.fsub(one, _widened(b, rounded, LANES * k)) for k, one in enumerate(halves)
                    ]
        return context.get_dummy_value()

    return types.void(parts, *(types.int64,) * 4), generate


def _widened(b: Builder, halves: Value, first: int) -> Value:
    """Sixteen bfloat16 as float32."""
    order = ir.Constant(_VI32, list(range(first, first + LANES)))
    some = b.shuffle_vector(halves, ir.Constant(_HALVES, ir.Undefined), order)
    return b.bitcast(b.shl(b.zext(some, _VI32), _all(_VI32, 16)), _VF32)


@intrinsic
def _spread(typing, form, panel, blocks, y):
    """A panel as tiles: pairs of columns are a row, with each of the panel's rows beside each other."""
    if not isinstance(form, types.IntegerLiteral):
        return None
    held = FORMS[form.literal_value]

    def generate(context, b, signature, arguments):
        p0, count, y0 = arguments[1:]
        with cgutils.for_range(b, count) as loop:
            at = b.add(p0, b.mul(loop.index, _i64(held.size)))
            to = b.add(y0, b.mul(loop.index, _i64(BYTES)))
            pairs = _float_pairs(b, at) if isinstance(held, Floats) else _step_pairs(b, held, at)
            for column, pair in pairs:
                _store(b, pair, b.add(to, _i64(column // 2 * _ROW)))
        return context.get_dummy_value()

    return types.void(form, *(types.int64,) * 3), generate


def _float_pairs(b: Builder, at: Value):
    """Every other column of a block of bfloat16, and it and the next, lane by lane."""
    for column in range(0, BLOCK, 2):
        even, odd = (_load(b, at, 2 * LANES * (column + k), _VI16) for k in (0, 1))
        yield column, b.shuffle_vector(even, odd, _IN_TURN)


def _step_pairs(b: Builder, form: Steps, at: Value):
    """The same of a block of steps, whose columns come by neighbours."""
    numbers = unpacked(b, form, at)
    for (column, even), (_, odd) in zip(numbers, numbers, strict=True):
        yield column, _paired(b, even, odd)


def _paired(b: Builder, even: Value, odd: Value) -> Value:
    """Two vectors of float32 as bfloat16, lane by lane beside each other."""
    rounded = _rounded(b, even, odd)
    return b.shuffle_vector(rounded, ir.Constant(_HALVES, ir.Undefined), _IN_TURN)


_IN_TURN = ir.Constant(
    ir.VectorType(_I32, 2 * LANES), [k // 2 + k % 2 * LANES for k in range(2 * LANES)]
)


@intrinsic
def shares(typing, x, blocks, least, y):
    """exp(x - m) for blocks of 32 float32, into one's row of a group; m the largest of them and `least`.

    As `vector.soften`, but for what 8 significant bits do not show.

    Returns:
        m, the sum of what was not yet rounded, and exp(least - m).
    """

    def generate(context, b, signature, arguments):
        base, count, least, to = arguments
        # Two each, in turn, so that one need not wait for the one before.
        mosts, totals = ([_variable(b) for _ in (0, 1)] for _ in (0, 1))
        for most in mosts:
            b.store(_splat(b, least), most)
        with cgutils.for_range(b, count) as loop:
            at = b.add(base, b.mul(loop.index, _i64(4 * BLOCK)))
            for k, most in enumerate(mosts):
                b.store(_larger(b, _load(b, at, 64 * k, _VF32), b.load(most)), most)
        largest = _largest(b, _larger(b, *(b.load(most) for most in mosts)))
        with cgutils.for_range(b, count) as loop:
            at = b.add(base, b.mul(loop.index, _i64(4 * BLOCK)))
            powers = [
                _exp(b, b.fsub(_load(b, at, 64 * k, _VF32), largest), rough=True) for k in (0, 1)
            ]
            for power, total in zip(powers, totals, strict=True):
                b.store(_fma(b, power, _all(_VF32, 1.0), b.load(total)), total)
            _store(b, _rounded(b, *powers), b.add(to, b.mul(loop.index, _i64(BYTES))))
        less = _exp(b, b.fsub(_splat(b, least), largest))
        first = ir.Constant(_I32, 0)
        found = [b.extract_element(one, first) for one in (largest, less)]
        both = _fma(b, b.load(totals[0]), _all(_VF32, 1.0), b.load(totals[1]))
        found.insert(1, _sum(b, both))
        return context.make_tuple(b, signature.return_type, found)

    return (
        types.UniTuple(types.float32, 3)(types.int64, types.int64, types.float32, types.int64),
        generate,
    )


@intrinsic
def ask(typing, address, lines):
    """Ask memory for so many neighbouring cache lines, into the second-level cache."""

    def generate(context, b, signature, arguments):
        first, count = arguments
        with cgutils.for_range(b, count) as loop:
            _fetch(b, b.add(first, b.mul(loop.index, _i64(_ROW))), ahead=0, level=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


# --- products -------------------------------------------------------------------------------------------


WeightAt = Callable[[Value, int], tuple[Value, Value]]
"""From a block's number and a panel's: where that tile of weights begins, and bytes from row to row."""


def _products(
    b: Builder, parts: int, high: int, wide: int, more: int, tiles_at: WeightAt, arguments: Any
) -> None:
    """One or two panels' products with one or two groups of inputs, in up to four tiles of sums."""
    g0, g_step, count, y0, y_step = arguments
    places = [(g, w) for g in range(high) for w in range(wide)]
    to = [b.add(y0, b.add(b.mul(y_step, _i64(GROUP * g)), _i64(_ROW * w))) for g, w in places]
    for (g, w), at in zip(places, to, strict=True):
        if more:
            _load_tile(b, g * _WIDE + w, at, y_step)
        else:
            _call(b, "tilezero", _tile(g * _WIDE + w))
    with cgutils.for_range(b, count) as loop:
        x = b.add(g0, b.mul(loop.index, _i64(parts * BYTES)))
        for w in range(wide):
            _load_tile(b, _WEIGHTS[w], *tiles_at(loop.index, w))
        for part in range(parts):
            for g in range(high):
                one = b.add(b.add(x, _i64(part * BYTES)), b.mul(g_step, _i64(g)))
                _load_tile(b, _INPUTS[g], one, _i64(_ROW))
            for g, w in places:
                _add_products(b, g * _WIDE + w, _INPUTS[g], _WEIGHTS[w])
    for (g, w), at in zip(places, to, strict=True):
        _store_tile(b, g * _WIDE + w, at, y_step)


def _literals(*given: Any) -> list[int] | None:
    if not all(isinstance(one, types.IntegerLiteral) for one in given):
        return None
    return [one.literal_value for one in given]


@intrinsic
def products(
    typing, parts, high, wide, more, groups, group_bytes_, weights, weight_bytes, blocks, y, yb
):
    """y[m, r] = the products of the rows of one or two panels with one or two groups of inputs.

    Args:
        parts, high, wide, more: literals: of inputs; how many groups and panels; 1: add to what is in y.
        groups, weights, y: addresses; weights as tiles.
        group_bytes_, weight_bytes, yb: from one group, one panel, and one input's results to the next.
    """
    known = _literals(parts, high, wide, more)
    if known is None:
        return None

    def generate(context, b, signature, arguments):
        g0, g_step, w0, w_step, count, y0, y_step = arguments[4:]

        def tiles_at(block: Value, panel: int) -> tuple[Value, Value]:
            at = b.add(w0, b.mul(block, _i64(BYTES)))
            return b.add(at, b.mul(w_step, _i64(panel))), _i64(_ROW)

        _products(b, *known, tiles_at, (g0, g_step, count, y0, y_step))
        return context.get_dummy_value()

    return types.void(parts, high, wide, more, *(types.int64,) * 7), generate


@intrinsic
def products_with_keys(typing, high, groups, group_bytes_, keys, blocks, y, yb):
    """`products` with the 32 keys of a block of the cache, which lie by pairs of dimensions, [D / 2, 32, 2].

    Args:
        high: literal.
        keys: address.
        blocks: so many times 32 dimensions.
    """
    known = _literals(high)
    if known is None:
        return None

    def generate(context, b, signature, arguments):
        g0, g_step, k0, count, y0, y_step = arguments[1:]

        def tiles_at(block: Value, panel: int) -> tuple[Value, Value]:
            at = b.add(k0, b.mul(block, _i64(_WIDE * BYTES)))
            return b.add(at, _i64(panel * _ROW)), _i64(_WIDE * _ROW)

        _products(b, 1, *known, _WIDE, 0, tiles_at, (g0, g_step, count, y0, y_step))
        return context.get_dummy_value()

    return types.void(high, *(types.int64,) * 6), generate


@intrinsic
def products_with_values(typing, high, groups, group_bytes_, values, column, size, blocks, y, yb):
    """Add to y `products` of shares with 32 columns of the values of blocks of the cache, [16, D, 2] each.

    Args:
        high: literal.
        values: address of the addresses of so many blocks' values.
        column: the first; size: D.
    """
    known = _literals(high)
    if known is None:
        return None

    def generate(context, b, signature, arguments):
        g0, g_step, table, first, width, count, y0, y_step = arguments[1:]
        row_bytes, before = b.mul(width, _i64(4)), b.mul(first, _i64(4))

        def tiles_at(block: Value, panel: int) -> tuple[Value, Value]:
            values = _load(b, b.add(table, b.mul(block, _i64(8))), 0, _I64)
            return b.add(values, b.add(before, _i64(panel * _ROW))), row_bytes

        _products(b, 1, *known, _WIDE, 1, tiles_at, (g0, g_step, count, y0, y_step))
        return context.get_dummy_value()

    return types.void(high, *(types.int64,) * 8), generate


@njit(inline="always")
def multiply(form, parts, panels, panel_bytes, blocks, groups, y, y_bytes, inputs, rows, scratch):
    """y[m, r] for all m and r, for a literal `form` and `parts`; between `begin` and `end`.

    Some panels become tiles at a time, and some blocks of each: they stay in the second-level cache while all
    inputs pass by, group by group.

    Args:
        panels, groups, y: addresses of the first panel, group and result.
        panel_bytes, y_bytes: from one panel, and from one input's results, to the next.
        scratch: address of room for weights, of `SCRATCH` bytes.
    """
    of_group, of_block = parts * BYTES * blocks, _SIZES[form]
    pieces = (blocks + _DEEP - 1) // _DEEP
    deep = (blocks + pieces - 1) // pieces
    last = np.empty((_WIDE * GROUP, _WIDE * LANES), dtype=np.float32)
    for row in range(0, rows, _PANELS * LANES):
        high = min(rows - row, _PANELS * LANES)
        for block in range(0, blocks, deep):
            count = min(deep, blocks - block)
            for w in range((high + LANES - 1) // LANES):
                panel = panels + (row // LANES + w) * panel_bytes + block * of_block
                _spread(form, panel, count, scratch + w * _DEEP * BYTES)
            # What comes next is asked of memory little by little, while these are multiplied.
            further = block + deep < blocks
            ahead = panels + (row // LANES + (0 if further else _PANELS)) * panel_bytes
            ahead += (block + deep) * of_block if further else 0
            lines = (deep * of_block + _ROW - 1) // _ROW
            left = _PANELS if further else min((rows - row + LANES - 1) // LANES - _PANELS, _PANELS)
            for m in range(0, inputs, _WIDE * GROUP):
                _ask_for(ahead, panel_bytes, lines, lines * left, m, _WIDE * GROUP, inputs)
                group = groups + m // GROUP * of_group + block * parts * BYTES
                for r in range(0, high, _WIDE * LANES):
                    weights = scratch + r // LANES * _DEEP * BYTES
                    to = y + m * y_bytes + (row + r) * 4
                    tall, broad = min(inputs - m, _WIDE * GROUP), min(high - r, _WIDE * LANES)
                    if tall == _WIDE * GROUP and broad == _WIDE * LANES:
                        _times(parts, group, of_group, weights, count, to, y_bytes, 32, 32, block)
                        continue
                    at, at_bytes = last.ctypes.data, _WIDE * LANES * 4
                    if block:
                        _copy(to, y_bytes, at, at_bytes, tall, broad)
                    _times(parts, group, of_group, weights, count, at, at_bytes, tall, broad, block)
                    _copy(at, at_bytes, to, y_bytes, tall, broad)


@njit(inline="always")
def _times(parts, group, of_group, weights, blocks, y, y_bytes, tall, broad, before):
    """`products` of one or two groups and panels, added to what is there if there were blocks before."""
    if before:
        _of_so_many(parts, 1, group, of_group, weights, blocks, y, y_bytes, tall, broad)
    else:
        _of_so_many(parts, 0, group, of_group, weights, blocks, y, y_bytes, tall, broad)


@njit(inline="always")
def _of_so_many(parts, more, group, of_group, weights, blocks, y, y_bytes, tall, broad):
    of_panel = _DEEP * BYTES
    if tall > GROUP and broad > LANES:
        products(parts, 2, 2, more, group, of_group, weights, of_panel, blocks, y, y_bytes)
    elif tall > GROUP:
        products(parts, 2, 1, more, group, of_group, weights, of_panel, blocks, y, y_bytes)
    elif broad > LANES:
        products(parts, 1, 2, more, group, of_group, weights, of_panel, blocks, y, y_bytes)
    else:
        products(parts, 1, 1, more, group, of_group, weights, of_panel, blocks, y, y_bytes)


@njit(inline="always")
def _ask_for(panels, panel_bytes, lines, all_, m, step, inputs):
    """One's part of so many lines of neighbouring panels' blocks, of which each panel has `lines`."""
    first, last = all_ * m // inputs, all_ * min(m + step, inputs) // inputs
    while first < last:
        panel, line = first // lines, first % lines
        some = min(lines - line, last - first)
        ask(panels + panel * panel_bytes + line * _ROW, some)
        first += some


@njit(cache=True)
def _copy(x, x_bytes, y, y_bytes, rows, columns):
    for m in range(rows):
        for r in range(columns):
            vector.put(y + m * y_bytes + r * 4, vector.get(x + m * x_bytes + r * 4))
