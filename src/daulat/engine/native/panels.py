"""Products of vectors with a matrix in panels, and how both lie in memory for it.

A panel is sixteen rows of a matrix side by side: each row is a lane of a vector, an input's number goes to all
lanes, and nothing is summed across. Along its columns a panel is a row of blocks of 32, as in the files'
formats; a block is a vector or two of scales, and then the weights.

Inputs lie in groups of eight, block by block beside each other (`pack_steps`, `pack_floats`), so that one pass
over a panel serves eight.

Weights of few bits are multiplied in whole numbers. For that the inputs become 16-bit steps too, in a grid of
their own for each 32 of them. The 32 products of a block are summed exactly; the sum is scaled, and added to a
row's float32 sum, block after block. What is lost is that rounding of the inputs, half a step of a 32,767th of
the largest of the 32. Weights of floats are multiplied in float32, even and odd columns apart, each in their
order.

So a result does not depend on what else is multiplied at the same time, and one way serves a prompt of hundreds
of tokens and a single one that is being written.

Addresses are whole numbers and are not checked: `matrices` and `decoder` answer for them.
"""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from daulat.engine.native import vector
from daulat.engine.native.vector import (
    _F32,
    _I16,
    _I32,
    _VF16,
    _VF32,
    _VI16,
    _VI32,
    BLOCK,
    LANES,
    Builder,
    Value,
    _across,
    _all,
    _fetch,
    _fma,
    _function,
    _i64,
    _load,
    _splat,
    _store,
    _variable,
)


@dataclass(frozen=True, slots=True)
class Floats:
    """A form whose weights are floating-point numbers.

    Attributes:
        kind: how LLVM reads sixteen of them.
        each: bytes of one.
    """

    kind: ir.VectorType
    each: int

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return LANES * BLOCK * self.each


@dataclass(frozen=True, slots=True)
class Steps:
    """A form whose weights are whole numbers times a scale, by the block and row.

    Attributes:
        bits: 4 (0 to 15) or 8 (-128 to 127) in a step.
        half: scales are float16, else float32.
        offset: taken from each step.
        least: a number that is added comes behind the scale.
        two: a scale each for the first and the last sixteen columns.
    """

    bits: int
    half: bool
    offset: int = 0
    least: bool = False
    two: bool = False

    @property
    def scales(self) -> int:
        """Numbers ahead of a row's steps."""
        return 2 if self.least or self.two else 1

    @property
    def head(self) -> int:
        """Bytes ahead of a block's steps."""
        return LANES * self.scales * (2 if self.half else 4)

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return self.head + LANES * BLOCK * self.bits // 8


F32, F16, BF16, Q4_0, Q4_1, Q8_0, NIBBLES, BYTES, TWO_SCALES = range(9)
FORMS = (
    Floats(_VF32, 4),
    Floats(_VF16, 2),
    Floats(_VI16, 2),
    Steps(4, half=True, offset=8),
    Steps(4, half=True, least=True),
    Steps(8, half=True),
    Steps(4, half=False, least=True),
    Steps(8, half=False, least=True),
    Steps(8, half=False, two=True),
)
"""The first six are the files' own, the last three are what K-quants become (`repack`). Each gives exactly the
numbers that the `gguf` package gives for it: where a product has few enough bits to be exact, one rounding
follows in both."""

COLUMNS = tuple(c + o for k in range(0, 16, 4) for o in (0, 16, 1, 17) for c in (k, k + 2))
"""The columns of a block in the order in which steps lie, two and two together: as the nibbles of Q4_0 and Q4_1
come out of their bytes four at a time. Even pairs are of the first sixteen columns, odd ones of the last."""

GROUP = 8
"""Inputs that lie together."""
_INPUT, _TAIL = 2 * BLOCK, 8
STEPS_GROUP = GROUP * (_INPUT + _TAIL)
"""Bytes of a block of a group in steps: 32 of 16 bits for each input, then for each the grid's step, a float32,
and the sum of the steps, an int32."""
FLOATS_GROUP = GROUP * BLOCK * 4
"""Bytes of a block of a group in float32: for each column, one number of each input."""
_CACHE = 512 << 10
"""Bytes of inputs that stay in the second-level cache while all panels pass by."""


def _processor_has(feature: str) -> bool:
    """Whether code is compiled for a processor that has it: this one, or the one that Numba is told of."""
    if config.CPU_NAME:
        return f"+{feature}" in (config.CPU_FEATURES or "").split(",")
    return bool(binding.get_host_cpu_features().get(feature))


_VNNI = _processor_has("avx512vnni")
_MOST = GROUP if _processor_has("avx512f") else 2
"""Inputs at once: what fills the registers."""

_V32 = ir.VectorType(_I16, 2 * LANES)
_WIDE = ir.VectorType(_I32, 2 * LANES)


def group_bytes(form: int) -> int:
    """Bytes of a block of a group of inputs to a matrix of that form."""
    return FLOATS_GROUP if isinstance(FORMS[form], Floats) else STEPS_GROUP


# --- inputs ------------------------------------------------------------------------------------------


@intrinsic
def pack_steps(typing, x, blocks, group, member):
    """One input of float32 as steps, into its place in a group.

    What is not finite makes a step that is not, and with it every product. Blocks of nothing above 1e-30
    count as zeros.
    """

    def generate(context, b, signature, arguments):
        x0, count, y0, place = arguments
        with cgutils.for_range(b, count) as loop:
            at = b.add(x0, b.mul(loop.index, _i64(4 * BLOCK)))
            halves = [_load(b, at, 64 * k, _VF32) for k in (0, 1)]
            most = _function(b, "maximum", *(_function(b, "fabs", half) for half in halves))
            most = _across(b, most, lambda x, y: _function(b, "maximum", x, y))
            there = b.fcmp_ordered(">=", most, _all(_VF32, 1e-30))
            turned = b.fdiv(_all(_VF32, 32767.0), most)
            turned = b.select(there, turned, _all(_VF32, 0.0))
            whole = [b.fptosi(_function(b, "rint", b.fmul(half, turned)), _VI32) for half in halves]
            total = _across(b, b.add(*whole), b.add)
            order = ir.Constant(ir.VectorType(_I32, BLOCK), COLUMNS)
            steps = b.shuffle_vector(*(b.trunc(half, _VI16) for half in whole), order)
            block = b.add(y0, b.mul(loop.index, _i64(STEPS_GROUP)))
            _store(b, steps, b.add(block, b.mul(place, _i64(_INPUT))))
            tail = b.add(block, b.add(_i64(GROUP * _INPUT), b.mul(place, _i64(_TAIL))))
            zero = ir.Constant(_I32, 0)
            step = b.fmul(most, _all(_VF32, 1 / 32767))
            _store(b, b.extract_element(step, zero), tail)
            _store(b, b.extract_element(total, zero), b.add(tail, _i64(4)))
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), generate


@njit(inline="always")
def pack_floats(x, blocks, group, member):
    """One input of float32 as it is, into its place in a group."""
    for column in range(blocks * BLOCK):
        vector.put(group + (column * GROUP + member) * 4, vector.get(x + column * 4))


# --- weights -----------------------------------------------------------------------------------------


def _column(b: Builder, form: Floats, at: Value, column: int) -> Value:
    """One column of a block, as float32."""
    held = _load(b, at, LANES * form.each * column, form.kind)
    if form.kind == _VI16:
        return b.bitcast(b.shl(b.zext(held, _VI32), _all(_VI32, 16)), _VF32)
    return held if form.kind == _VF32 else b.fpext(held, _VF32)


def _shifted(b: Builder, how: str, value: Value, bits: int) -> Value:
    return getattr(b, how)(value, ir.Constant(_V32, [bits] * (2 * LANES)))


def _pairs(b: Builder, form: Steps, at: Value) -> Iterator[Value]:
    """The steps of a block, two columns of all rows at a time, 16 bits each."""
    for k in range(form.bits):
        held = _load(b, at, form.head + 64 * k, _V32)
        if form.bits == 8:
            yield _shifted(b, "ashr", _shifted(b, "shl", held, 8), 8)
            yield _shifted(b, "ashr", held, 8)
            continue
        for bits in (0, 4, 8, 12):
            part = _shifted(b, "lshr", held, bits) if bits else held
            yield part if bits == 12 else b.and_(part, ir.Constant(_V32, [15] * (2 * LANES)))


def _scales(b: Builder, form: Steps, at: Value) -> list[Value]:
    if form.half:
        return [b.fpext(_load(b, at, 32 * k, _VF16), _VF32) for k in range(form.scales)]
    return [_load(b, at, 64 * k, _VF32) for k in range(form.scales)]


def _unpacked(b: Builder, form: Floats | Steps, at: Value) -> Iterator[tuple[int, Value]]:
    """Every column of a block, and its numbers as float32."""
    if isinstance(form, Floats):
        yield from ((column, _column(b, form, at, column)) for column in range(BLOCK))
        return
    scale, other = (_scales(b, form, at) * 2)[:2]
    for place, pair in enumerate(_pairs(b, form, at)):
        both = b.bitcast(pair, _VI32)
        halves = (
            b.ashr(b.shl(both, _all(_VI32, 16)), _all(_VI32, 16)),
            b.ashr(both, _all(_VI32, 16)),
        )
        for column, half in zip(COLUMNS[2 * place :], halves, strict=False):
            step = b.sitofp(b.sub(half, _all(_VI32, form.offset)), _VF32)
            if form.least:
                yield column, _fma(b, step, scale, other)
            else:
                yield column, b.fmul(step, other if form.two and column >= LANES else scale)


@intrinsic
def _spread(typing, form, panel, blocks, y):
    """A panel as float32, [columns, 16]."""
    if not isinstance(form, types.IntegerLiteral):
        return None
    held = FORMS[form.literal_value]

    def generate(context, b, signature, arguments):
        p0, count, y0 = arguments[1:]
        with cgutils.for_range(b, count) as loop:
            to = b.add(y0, b.mul(loop.index, _i64(BLOCK * 64)))
            for column, numbers in _unpacked(
                b, held, b.add(p0, b.mul(loop.index, _i64(held.size)))
            ):
                _store(b, numbers, b.add(to, _i64(64 * column)))
        return context.get_dummy_value()

    return types.void(form, *(types.int64,) * 3), generate


@njit(inline="always")
def unpack(form, panel, blocks, lane, y):
    """One row of a panel as float32."""
    spread = np.empty(blocks * BLOCK * LANES, dtype=np.float32)
    _spread(form, panel, blocks, spread.ctypes.data)
    for column in range(blocks * BLOCK):
        vector.put(y + column * 4, spread[column * LANES + lane])


# --- products ----------------------------------------------------------------------------------------


def _dot(b: Builder, total: Value, one: Value, other: Value) -> Value:
    """Sixteen int32, to each of which two products of 16-bit numbers are added."""
    if _VNNI:
        kind = ir.FunctionType(_VI32, [_VI32] * 3)
        name = "llvm.x86.avx512.vpdpwssd.512"
        operands = [total, *(b.bitcast(side, _VI32) for side in (one, other))]
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), operands)
    products = b.mul(*(b.sext(b.bitcast(side, _V32), _WIDE) for side in (one, other)))
    even, odd = (
        b.shuffle_vector(
            products,
            ir.Constant(_WIDE, ir.Undefined),
            ir.Constant(_VI32, list(range(k, 2 * LANES, 2))),
        )
        for k in (0, 1)
    )
    return b.add(total, b.add(even, odd))


def _steps_block(
    b: Builder, form: Steps, ats: list[Value], x: Value, tails: list[Value], sums: list[list[Value]]
) -> None:
    """sums[w][m] += a block of panel w times input m, whose steps begin at x + m * _INPUT."""
    # Few inputs: two sums in turn, so that one product need not wait for the one before. What is added in which
    # order is all the same in whole numbers.
    turns = 2 if form.two or len(tails) <= 2 else 1
    wholes = [[[_started(b, form, tail), _all(_VI32, 0)][:turns] for tail in tails] for _ in ats]
    pairs = zip(*(_pairs(b, form, at) for at in ats), strict=True)
    for place, weights in enumerate(pairs):
        for m in range(len(tails)):
            number = _splat(b, _load(b, x, m * _INPUT + 4 * place, _I32))
            for pair, whole in zip(weights, wholes, strict=True):
                whole[m][place % turns] = _dot(b, whole[m][place % turns], number, pair)
    for at, panel, places in zip(ats, wholes, sums, strict=True):
        scales = _scales(b, form, at)
        for whole, tail, place in zip(panel, tails, places, strict=True):
            b.store(_scaled(b, form, scales, whole, tail, b.load(place)), place)


def _scaled(
    b: Builder, form: Steps, scales: list[Value], whole: list[Value], tail: Value, total: Value
) -> Value:
    """total + a block's sums of steps, times what a step of the weights and of the inputs stands for."""
    first = b.add(*whole) if len(whole) == 2 and not form.two else whole[0]
    value = b.fmul(b.sitofp(first, _VF32), scales[0])
    if form.two:
        value = _fma(b, b.sitofp(whole[1], _VF32), scales[1], value)
    if form.least:
        count = b.sitofp(_load(b, tail, 4, _I32), _F32)
        value = _fma(b, scales[1], _splat(b, count), value)
    return _fma(b, value, _splat(b, _load(b, tail, 0, _F32)), total)


def _started(b: Builder, form: Steps, tail: Value) -> Value:
    """What the sum of a block begins with, so that steps need not be made less by their offset."""
    if not form.offset:
        return _all(_VI32, 0)
    return _splat(b, b.mul(_load(b, tail, 4, _I32), ir.Constant(_I32, -form.offset)))


def _floats_block(b: Builder, form: Floats, at: Value, x: Value, sums: list[list[Value]]) -> None:
    """sums[k][m] += the even (k = 0) or odd columns of a block of a panel times input m, at x + m * 4."""
    for column in range(BLOCK):
        weights = _column(b, form, at, column)
        for m, place in enumerate(sums[column % 2]):
            number = _splat(b, _load(b, x, (column * GROUP + m) * 4, _F32))
            b.store(_fma(b, number, weights, b.load(place)), place)


@intrinsic
def _products(typing, form, inputs, wide, panel, panel_bytes, blocks, group, member, y, y_bytes):
    """y[m] = the products of the rows of neighbouring panels with input member + m of a group.

    Args:
        form, inputs, wide: literals; wide: how many panels, one of floats.
        panel, group, y: addresses; y of the result of input `member`.
        panel_bytes, y_bytes: from one panel, and from one input's results, to the next.
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (form, inputs, wide)):
        return None
    held, several = FORMS[form.literal_value], range(inputs.literal_value)
    panels, floats = range(wide.literal_value), isinstance(held, Floats)

    def generate(context, b, signature, arguments):
        p0, p_step, count, g0, first, y0, y_step = arguments[3:]
        each = 4 if floats else _INPUT
        x0 = b.add(g0, b.mul(first, _i64(each)))
        tail0 = b.add(g0, b.add(_i64(GROUP * _INPUT), b.mul(first, _i64(_TAIL))))
        sums = [[_variable(b) for _ in several] for _ in range(2 if floats else len(panels))]
        with cgutils.for_range(b, count) as loop:
            at = b.add(p0, b.mul(loop.index, _i64(held.size)))
            ats = [b.add(at, b.mul(p_step, _i64(w))) for w in panels]
            for one in ats:
                for line in range(0, held.size, 64):
                    _fetch(b, b.add(one, _i64(line)))
            step = b.mul(loop.index, _i64(group_bytes(form.literal_value)))
            if floats:
                _floats_block(b, held, at, b.add(x0, step), sums)
            else:
                tails = [b.add(tail0, b.add(step, _i64(_TAIL * m))) for m in several]
                _steps_block(b, held, ats, b.add(x0, step), tails, sums)
        for m in several:
            found = [b.load(places[m]) for places in sums]
            for w, total in enumerate([b.fadd(*found)] if floats else found):
                place = b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(64 * w)))
                _store(b, total, place)
        return context.get_dummy_value()

    return types.void(form, inputs, wide, *(types.int64,) * 7), generate


@njit(inline="always")
def _group(form, panel, blocks, group, y, y_bytes, count):
    """One panel with the first `count` inputs of a group."""
    if count == _MOST:
        _products(form, _MOST, 1, panel, 0, blocks, group, 0, y, y_bytes)
        return
    done = 0
    if _MOST == GROUP and count & 4:
        _products(form, 4, 1, panel, 0, blocks, group, 0, y, y_bytes)
        done = 4
    while count - done >= 2:
        _products(form, 2, 1, panel, 0, blocks, group, done, y + done * y_bytes, y_bytes)
        done += 2
    if count > done:
        _products(form, 1, 1, panel, 0, blocks, group, done, y + done * y_bytes, y_bytes)


@njit(inline="always")
def multiply(form, wide, of_block, panels, panel_bytes, blocks, groups, y, y_bytes, inputs, rows):
    """y[m, r] for all m and r, for a literal `form`.

    Args:
        wide: literal: how many panels at once with a whole group (`most_panels`).
        of_block: `group_bytes` of the form.
        panels, groups, y: addresses of the first panel, group and result.
        panel_bytes, y_bytes: from one panel, and from one input's results, to the next.
    """
    of_group = of_block * blocks
    step = max(_CACHE // of_group, 1) * GROUP
    last = np.empty((GROUP, LANES), dtype=np.float32)
    for first in range(0, inputs, step):
        end = min(first + step, inputs)
        for row in range(0, rows, wide * LANES):
            high = min(rows - row, wide * LANES)
            panel = panels + row // LANES * panel_bytes
            for m in range(first, end, GROUP):
                group, count = groups + m // GROUP * of_group, min(GROUP, end - m)
                to = y + m * y_bytes + row * 4
                if count == GROUP and high == wide * LANES:
                    _products(form, GROUP, wide, panel, panel_bytes, blocks, group, 0, to, y_bytes)
                    continue
                for w in range(high // LANES):
                    at = panel + w * panel_bytes
                    _group(form, at, blocks, group, to + w * LANES * 4, y_bytes, count)
                if high % LANES:
                    at, some = panel + high // LANES * panel_bytes, high % LANES
                    _group(form, at, blocks, group, last.ctypes.data, LANES * 4, count)
                    _copy(last, to + high // LANES * LANES * 4, y_bytes, count, some)


def most_panels(form: int) -> int:
    """How many panels at once fill the registers, with a group of inputs."""
    held = FORMS[form]
    return 2 if _MOST == GROUP and isinstance(held, Steps) and not held.two else 1


@njit(cache=True)
def _copy(source, y, y_bytes, count, high):
    for m in range(count):
        for r in range(high):
            vector.put(y + m * y_bytes + r * 4, source[m, r])
