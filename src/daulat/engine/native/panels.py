"""Products of vectors with a matrix in panels, and how both lie in memory for it.

A panel is sixteen rows of a matrix side by side: each row is a lane of a vector, an input's number goes to all
lanes, and nothing is summed across. Along its columns a panel is a row of blocks of 32, as in the files'
formats; a block is a vector or two of scales, and then the weights.

Inputs lie in groups of eight, block by block beside each other (`pack_steps`, `pack_floats`), so that one pass
over a panel serves eight.

Weights of few bits are multiplied in whole numbers. For that the inputs become steps too, in a grid of their
own for each 32 of them: of 8 bits, or of 16 bits where that is too coarse (`matrices` says where). The 32
products of a block are summed exactly; the sum is scaled, and added to a row's float32 sum, block after block.
What is lost is that rounding of the inputs: half a step of a 127th, or a 32,639th, of the largest of the 32.
The instruction takes 8 bits of each; 16 are two times 8. Weights of floats are multiplied in float32, even and
odd columns apart, each in their order.

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
    _I8,
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
        bits: 4 (0 to 15) or 8 (0 to 255) in a step.
        half: scales are float16, else float32.
        offset: taken from each step. Steps of 8 bits that have one are signed in files.
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
    Steps(8, half=True, offset=128),
    Steps(4, half=False, least=True),
    Steps(8, half=False, least=True),
    Steps(8, half=False, offset=128, two=True),
)
"""The first six are the files' own, the last three are what K-quants become (`repack`). Each gives exactly the
numbers that the `gguf` package gives for it: where a product has few enough bits to be exact, one rounding
follows in both."""

COLUMNS = tuple(first + o + k for first in range(0, 16, 4) for o in (0, 16) for k in range(4))
"""The columns of a block in the order in which steps lie, four and four together: as the nibbles of Q4_0 and
Q4_1 come out of their bytes. Even fours are of the first sixteen columns, odd ones of the last."""

GROUP = 8
"""Inputs that lie together."""
_STEPS, _TAIL = BLOCK, 16
"""Bytes of an input in a block of its group: its steps (of 16 bits: the high bytes, and behind those of all
inputs the low ones), and then its grid's step, a float32; _START times the sum of its steps, and of the first
sixteen, int32; and the sum as a float32."""
_START = -128
FLOATS_GROUP = GROUP * BLOCK * 4
"""Bytes of a block of a group in float32: for each column, one number of each input."""
_LIMITS = (127, 127 * 256 + 127)
"""The largest step of 8 and of 16 bits: both its bytes must be signed ones."""
_CACHE = 512 << 10
"""Bytes of inputs that stay in the second-level cache while all panels pass by."""


def processor_has(feature: str) -> bool:
    """Whether code is compiled for a processor that has it: this one, or the one that Numba is told of."""
    if config.CPU_NAME:
        return f"+{feature}" in (config.CPU_FEATURES or "").split(",")
    return bool(binding.get_host_cpu_features().get(feature))


_VNNI, _NARROW_VNNI = processor_has("avx512vnni"), processor_has("avxvnni")
_MOST = GROUP if processor_has("avx512f") else 2
"""Inputs at once: what fills the registers."""

_PAIRS = ir.VectorType(_I16, 2 * LANES)
_WIDE = ir.VectorType(_I32, 2 * LANES)


def group_bytes(form: int, fine: bool) -> int:
    """Bytes of a block of a group of inputs to a matrix of that form.

    Args:
        fine: whether steps are of 16 bits.
    """
    return (
        FLOATS_GROUP if isinstance(FORMS[form], Floats) else GROUP * (_STEPS * (1 + fine) + _TAIL)
    )


# --- inputs ------------------------------------------------------------------------------------------


@intrinsic
def pack_steps(typing, fine, x, blocks, group, member):
    """One input of float32 as steps, into its place in a group.

    What is not finite makes a step that is not, and with it every product. Blocks of nothing above 1e-30
    count as zeros.

    Args:
        fine: literal, 1: steps of 16 bits, 0: of 8.
    """
    if not isinstance(fine, types.IntegerLiteral):
        return None
    sixteen = bool(fine.literal_value)
    high, each = _LIMITS[sixteen], group_bytes(Q8_0, sixteen)

    def generate(context, b, signature, arguments):
        x0, count, y0, place = arguments[1:]
        with cgutils.for_range(b, count) as loop:
            at = b.add(x0, b.mul(loop.index, _i64(4 * BLOCK)))
            halves = [_load(b, at, 64 * k, _VF32) for k in (0, 1)]
            most = _largest(b, halves)
            there = b.fcmp_ordered(">=", most, ir.Constant(_F32, 1e-30))
            turned = b.fdiv(ir.Constant(_F32, float(high)), most)
            turned = _splat(b, b.select(there, turned, ir.Constant(_F32, 0.0)))
            whole = [b.fptosi(_function(b, "rint", b.fmul(half, turned)), _VI32) for half in halves]
            block = b.add(y0, b.mul(loop.index, _i64(each)))
            to = b.add(block, b.mul(place, _i64(_STEPS)))
            for part in _bytes(b, whole, sixteen):
                _store(b, part, to)
                to = b.add(to, _i64(GROUP * _STEPS))
            first, total = (_reduced(b, "add", held) for held in (whole[0], b.add(*whole)))
            step = b.fmul(most, ir.Constant(_F32, 1 / high))
            start = ir.Constant(_I32, _START)
            numbers = (step, b.mul(total, start), b.mul(first, start), b.sitofp(total, _F32))
            tail = b.add(block, b.add(_i64(each - GROUP * _TAIL), b.mul(place, _i64(_TAIL))))
            for k, number in enumerate(numbers):
                _store(b, number, b.add(tail, _i64(4 * k)))
        return context.get_dummy_value()

    return types.void(fine, *(types.int64,) * 4), generate


def _reduced(b: Builder, how: str, vector: Value) -> Value:
    """All lanes of whole numbers joined."""
    kind = ir.FunctionType(_I32, [_VI32])
    return b.call(
        cgutils.get_or_insert_function(b.module, kind, f"llvm.vector.reduce.{how}.v16i32"), [vector]
    )


def _largest(b: Builder, halves: list[Value]) -> Value:
    """The largest magnitude; not a number if there is one such. Floats without their signs are in the order of
    their bits."""
    bits = [b.and_(b.bitcast(half, _VI32), _all(_VI32, 0x7FFFFFFF)) for half in halves]
    larger = b.select(b.icmp_signed(">", *bits), *bits)
    return b.bitcast(_reduced(b, "smax", larger), _F32)


def _bytes(b: Builder, whole: list[Value], fine: bool) -> Iterator[Value]:
    """The steps of a block in the order of `COLUMNS`: the high bytes and the low ones, or the only ones."""
    order = ir.Constant(ir.VectorType(_I32, BLOCK), COLUMNS)
    kind = ir.VectorType(_I8, LANES)
    if fine:
        rounded = [b.add(half, _all(_VI32, 128)) for half in whole]
        yield b.shuffle_vector(
            *(b.trunc(b.ashr(half, _all(_VI32, 8)), kind) for half in rounded), order
        )
    yield b.shuffle_vector(*(b.trunc(half, kind) for half in whole), order)


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


def _fours(b: Builder, form: Steps, at: Value) -> Iterator[Value]:
    """The steps of a block, four columns of all rows at a time, 8 bits each, as int32."""
    for k in range(form.bits):
        held = _load(b, at, form.head + 64 * k, _VI32)
        if form.bits == 8:
            yield held
            continue
        for bits in (0, 4):
            part = b.lshr(held, _all(_VI32, bits)) if bits else held
            yield b.and_(part, _all(_VI32, 0x0F0F0F0F))


def _scales(b: Builder, form: Steps, at: Value) -> list[Value]:
    if form.half:
        return [b.fpext(_load(b, at, 32 * k, _VF16), _VF32) for k in range(form.scales)]
    return [_load(b, at, 64 * k, _VF32) for k in range(form.scales)]


def unpacked(b: Builder, form: Floats | Steps, at: Value) -> Iterator[tuple[int, Value]]:
    """Every column of a block, and its numbers as float32."""
    if isinstance(form, Floats):
        yield from ((column, _column(b, form, at, column)) for column in range(BLOCK))
        return
    scale, other = (_scales(b, form, at) * 2)[:2]
    for place, four in enumerate(_fours(b, form, at)):
        for k, column in enumerate(COLUMNS[4 * place : 4 * place + 4]):
            whole = b.and_(b.lshr(four, _all(_VI32, 8 * k)), _all(_VI32, 255))
            step = b.sitofp(b.sub(whole, _all(_VI32, form.offset)), _VF32)
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
            for column, numbers in unpacked(b, held, b.add(p0, b.mul(loop.index, _i64(held.size)))):
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


def _dot(b: Builder, total: Value, four: Value, number: Value) -> Value:
    """Sixteen int32, to each of which four products are added, of an unsigned and of a signed byte."""
    if _VNNI:
        return _four_products(b, 512, total, four, number)
    if _NARROW_VNNI:
        halves = [
            _four_products(b, 256, *(_half(b, one, k) for one in (total, four, number)))
            for k in (0, 8)
        ]
        return b.shuffle_vector(*halves, ir.Constant(_VI32, list(range(LANES))))
    four, number = (b.bitcast(one, _PAIRS) for one in (four, number))
    low, eight = (ir.Constant(_PAIRS, [k] * 2 * LANES) for k in (255, 8))
    total = _pair_products(b, total, b.and_(four, low), b.ashr(b.shl(number, eight), eight))
    return _pair_products(b, total, b.lshr(four, eight), b.ashr(number, eight))


def _four_products(b: Builder, bits: int, *operands: Value) -> Value:
    kind = operands[0].type
    name = f"llvm.x86.avx512.vpdpbusd.{bits}"
    function = ir.FunctionType(kind, [kind] * 3)
    return b.call(cgutils.get_or_insert_function(b.module, function, name), operands)


def _half(b: Builder, vector: Value, first: int) -> Value:
    order = ir.Constant(ir.VectorType(_I32, 8), list(range(first, first + 8)))
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


def _pair_products(b: Builder, total: Value, one: Value, other: Value) -> Value:
    """Sixteen int32, to each of which two products of 16-bit numbers are added."""
    products = b.mul(*(b.sext(side, _WIDE) for side in (one, other)))
    undefined = ir.Constant(_WIDE, ir.Undefined)
    even, odd = (
        b.shuffle_vector(products, undefined, ir.Constant(_VI32, list(range(k, 2 * LANES, 2))))
        for k in (0, 1)
    )
    return b.add(total, b.add(even, odd))


def _steps_block(
    b: Builder,
    form: Steps,
    fine: bool,
    ats: list[Value],
    x: Value,
    tails: list[Value],
    sums: list[list[Value]],
) -> None:
    """sums[w][m] += a block of panel w times input m, whose steps begin at x + m * _STEPS."""
    # Few inputs: two sums in turn, so that one product need not wait for the one before. What is added in which
    # order is all the same in whole numbers.
    turns = 2 if form.two or len(tails) <= 2 else 1
    starts = [_starts(b, form, tail)[:turns] for tail in tails]
    zeros = [[_all(_VI32, 0)] * turns for _ in tails]
    wholes = [[list(one) for one in (zeros if fine else starts)] for _ in ats]
    for part in range(1 + fine):
        at = b.add(x, _i64(part * GROUP * _STEPS))
        for place, weights in enumerate(zip(*(_fours(b, form, w) for w in ats), strict=True)):
            for m in range(len(tails)):
                number = _splat(b, _load(b, at, m * _STEPS + 4 * place, _I32))
                for four, whole in zip(weights, wholes, strict=True):
                    whole[m][place % turns] = _dot(b, whole[m][place % turns], four, number)
        if fine and part == 0:
            wholes = [
                [
                    [b.add(b.shl(v, _all(_VI32, 8)), start) for v, start in zip(*one, strict=True)]
                    for one in zip(panel, starts, strict=True)
                ]
                for panel in wholes
            ]
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
        value = _fma(b, scales[1], _splat(b, _load(b, tail, 12, _F32)), value)
    return _fma(b, value, _splat(b, _load(b, tail, 0, _F32)), total)


def _starts(b: Builder, form: Steps, tail: Value) -> list[Value]:
    """What a block's two sums begin with, so that steps need not be made less by their offset."""
    nothing = _all(_VI32, 0)
    if not form.offset:
        return [nothing, nothing]
    start = _splat(b, _load(b, tail, 4, _I32))
    if form.two:
        first = _splat(b, _load(b, tail, 8, _I32))
        return [first, b.sub(start, first)]
    fewer = (-_START // form.offset).bit_length() - 1
    return [b.ashr(start, _all(_VI32, fewer)) if fewer else start, nothing]


def _floats_block(b: Builder, form: Floats, at: Value, x: Value, sums: list[list[Value]]) -> None:
    """sums[k][m] += the even (k = 0) or odd columns of a block of a panel times input m, at x + m * 4."""
    for column in range(BLOCK):
        weights = _column(b, form, at, column)
        for m, place in enumerate(sums[column % 2]):
            number = _splat(b, _load(b, x, (column * GROUP + m) * 4, _F32))
            b.store(_fma(b, number, weights, b.load(place)), place)


@intrinsic
def _products(
    typing, form, fine, inputs, wide, panel, panel_bytes, blocks, group, member, y, y_bytes
):
    """y[m] = the products of the rows of neighbouring panels with input member + m of a group.

    Args:
        form, fine, inputs, wide: literals; fine: 1 for steps of 16 bits, 0 for 8; wide: how many panels,
            one of floats.
        panel, group, y: addresses; y of the result of input `member`.
        panel_bytes, y_bytes: from one panel, and from one input's results, to the next.
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (form, fine, inputs, wide)):
        return None
    sixteen = bool(fine.literal_value)
    each_group = group_bytes(form.literal_value, sixteen)
    held, several = FORMS[form.literal_value], range(inputs.literal_value)
    panels, floats = range(wide.literal_value), isinstance(held, Floats)

    def generate(context, b, signature, arguments):
        p0, p_step, count, g0, first, y0, y_step = arguments[4:]
        each = 4 if floats else _STEPS
        x0 = b.add(g0, b.mul(first, _i64(each)))
        tail0 = b.add(g0, b.add(_i64(each_group - GROUP * _TAIL), b.mul(first, _i64(_TAIL))))
        sums = [[_variable(b) for _ in several] for _ in range(2 if floats else len(panels))]
        with cgutils.for_range(b, count) as loop:
            at = b.add(p0, b.mul(loop.index, _i64(held.size)))
            ats = [b.add(at, b.mul(p_step, _i64(w))) for w in panels]
            for one in ats:
                for line in range(0, held.size, 64):
                    _fetch(b, b.add(one, _i64(line)))
            step = b.mul(loop.index, _i64(each_group))
            if floats:
                _floats_block(b, held, at, b.add(x0, step), sums)
            else:
                tails = [b.add(tail0, b.add(step, _i64(_TAIL * m))) for m in several]
                _steps_block(b, held, sixteen, ats, b.add(x0, step), tails, sums)
        for m in several:
            found = [b.load(places[m]) for places in sums]
            for w, total in enumerate([b.fadd(*found)] if floats else found):
                place = b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(64 * w)))
                _store(b, total, place)
        return context.get_dummy_value()

    return types.void(form, fine, inputs, wide, *(types.int64,) * 7), generate


@njit(inline="always")
def _group(form, fine, panel, blocks, group, y, y_bytes, count):
    """One panel with the first `count` inputs of a group."""
    if count == _MOST:
        _products(form, fine, _MOST, 1, panel, 0, blocks, group, 0, y, y_bytes)
        return
    done = 0
    if _MOST == GROUP and count & 4:
        _products(form, fine, 4, 1, panel, 0, blocks, group, 0, y, y_bytes)
        done = 4
    while count - done >= 2:
        _products(form, fine, 2, 1, panel, 0, blocks, group, done, y + done * y_bytes, y_bytes)
        done += 2
    if count > done:
        _products(form, fine, 1, 1, panel, 0, blocks, group, done, y + done * y_bytes, y_bytes)


@njit(inline="always")
def multiply(
    form, fine, wide, of_block, panels, panel_bytes, blocks, groups, y, y_bytes, inputs, rows
):
    """y[m, r] for all m and r, for a literal `form` and `fine`.

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
                    _products(
                        form, fine, GROUP, wide, panel, panel_bytes, blocks, group, 0, to, y_bytes
                    )
                    continue
                for w in range(high // LANES):
                    at = panel + w * panel_bytes
                    _group(form, fine, at, blocks, group, to + w * LANES * 4, y_bytes, count)
                if high % LANES:
                    at, some = panel + high // LANES * panel_bytes, high % LANES
                    _group(form, fine, at, blocks, group, last.ctypes.data, LANES * 4, count)
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
