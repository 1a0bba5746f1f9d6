"""Sixteen numbers at once: the inner loops in LLVM's own terms, so that they compile the same everywhere.

Each function here becomes a few machine instructions in the code that calls it (Numba's intrinsics); what
the processor lacks, LLVM makes of what it has. Nothing here knows of models.

Sums are made in one fixed order, whatever is computed beside them. So the result for one input does not depend
on how many others there are.

Addresses are whole numbers and are not checked: `matrices` and `decoder` answer for them.
"""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

LANES = 16
BLOCK = 32
"""Weights in a block: what one scale stands for in the quantised formats."""

_F32 = ir.FloatType()
_F16 = ir.HalfType()
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VF32 = ir.VectorType(_F32, LANES)
_VF16 = ir.VectorType(_F16, LANES)
_VI16 = ir.VectorType(_I16, LANES)
_VI32 = ir.VectorType(_I32, LANES)
_ADDRESS = types.int64

Builder = Any
Value = Any


def _i64(value: int) -> Value:
    return ir.Constant(_I64, value)


def _all(kind: ir.VectorType, value: float) -> Value:
    return ir.Constant(kind, [value] * LANES)


def _load(b: Builder, address: Value, offset: int, kind: Any) -> Value:
    pointer = b.inttoptr(b.add(address, _i64(offset)), kind.as_pointer())
    value = b.load(pointer)
    value.align = 1
    return value


AHEAD = 8192
"""Bytes from what is multiplied now to what is asked of memory: rows are too short for the processor to see by
itself where the next one lies."""


def _fetch(
    b: Builder, address: Value, ahead: int = AHEAD, level: int = 3, *, to_write: bool = False
) -> None:
    """Ask memory for what lies so many bytes further, into the first-level cache (3) or the second (2)."""
    byte = _I8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    prefetch = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    pointer = b.inttoptr(b.add(address, _i64(ahead)), byte)
    b.call(prefetch, [pointer, *(ir.Constant(_I32, k) for k in (int(to_write), level, 1))])


def _store(b: Builder, value: Value, address: Value) -> None:
    b.store(value, b.inttoptr(address, value.type.as_pointer())).align = 4


def _splat(b: Builder, scalar: Value) -> Value:
    """A number in all lanes."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(one, undefined, _all(_VI32, 0))


def _function(b: Builder, name: str, *operands: Value) -> Value:
    """LLVM's function of that name, of vectors of float32."""
    kind = ir.FunctionType(_VF32, [_VF32] * len(operands))
    found = cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.v16f32")
    return b.call(found, operands)


def _fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    return _function(b, "fma", x, y, z)


def _larger(b: Builder, x: Value, y: Value) -> Value:
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _largest(b: Builder, vector: Value) -> Value:
    """The largest lane, in all lanes."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    for width in (8, 4, 2, 1):
        mask = ir.Constant(_VI32, [k ^ width for k in range(LANES)])
        vector = _larger(b, vector, b.shuffle_vector(vector, undefined, mask))
    return vector


def _sum(b: Builder, vector: Value) -> Value:
    """Halves onto halves: the order is part of what we promise."""
    width = LANES
    while width > 1:
        width //= 2
        indices = [
            ir.Constant(ir.VectorType(_I32, width), list(range(k, k + width))) for k in (0, width)
        ]
        undefined = ir.Constant(vector.type, ir.Undefined)
        low, high = (b.shuffle_vector(vector, undefined, index) for index in indices)
        vector = b.fadd(low, high)
    return b.extract_element(vector, ir.Constant(_I32, 0))


# --- products -------------------------------------------------------------------------------------


@intrinsic
def products(typing, inputs, rows, weights, row_bytes, blocks, x, x_bytes, y, y_bytes):
    """y[m, r] = the product of row r of a float32 matrix with vector m, for literal numbers of both.

    Args:
        inputs, rows: literals.
        weights, x, y: addresses of the first row, vector and result.
        row_bytes, x_bytes, y_bytes: from one to the next.
        blocks: of 32 columns, in a row.
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (inputs, rows)):
        return None
    several, high = range(inputs.literal_value), range(rows.literal_value)

    def generate(context, b, signature, arguments):
        w0, row_step, count, x0, x_step, y0, y_step = arguments[2:]
        sums = [[_variable(b) for _ in several] for _ in high]
        with cgutils.for_range(b, b.mul(count, _i64(2))) as loop:
            offset = b.mul(loop.index, _i64(4 * LANES))
            at, vector = b.add(w0, offset), b.add(x0, offset)
            rows_at = [b.add(at, b.mul(row_step, _i64(r))) for r in high]
            for row_at in rows_at:
                _fetch(b, row_at)
            numbers = [_load(b, row_at, 0, _VF32) for row_at in rows_at]
            for m in several:
                number = _load(b, b.add(vector, b.mul(x_step, _i64(m))), 0, _VF32)
                for r in high:
                    total = _fma(b, numbers[r], number, b.load(sums[r][m]))
                    b.store(total, sums[r][m])
        for m in several:
            for r in high:
                place = b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(4 * r)))
                _store(b, _sum(b, b.load(sums[r][m])), place)
        return context.get_dummy_value()

    return types.void(inputs, rows, *(_ADDRESS,) * 7), generate


def _variable(b: Builder) -> Value:
    place = cgutils.alloca_once_value(b, _all(_VF32, 0.0))
    b.store(_all(_VF32, 0.0), place)  # anew each time, where the code runs in a loop
    return place


def _in_row(b: Builder, row: Value, offset: int, short: int) -> list[Value]:
    """Sixteen numbers of float32; or the firsts and the seconds of sixteen pairs of bfloat16, as float32."""
    if not short:
        return [_load(b, row, offset, _VF32)]
    pairs = _load(b, row, offset, _VI32)
    parts = b.shl(pairs, _all(_VI32, 16)), b.and_(pairs, _all(_VI32, -(1 << 16)))
    return [b.bitcast(part, _VF32) for part in parts]


@intrinsic
def columns(typing, inputs, short, x, x_bytes, keys, size, y, y_bytes, ahead):
    """y[m, j] = the sum over d of x[m, d] * keys[d, j], for the 32 keys of a block of the cache.

    Args:
        inputs, short: literals; short: 1 for keys in bfloat16.
        x, keys, y: addresses; keys [size, 32], or by pairs of dimensions, [size / 2, 32, 2].
        x_bytes, y_bytes: from one row to the next.
        ahead: from these keys to what is read after them, which is asked of memory.
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (inputs, short)):
        return None
    several, halves, pairs = range(inputs.literal_value), range(2), short.literal_value

    def generate(context, b, signature, arguments):
        x0, x_step, k0, count, y0, y_step, further = arguments[2:]
        sums = [[_variable(b) for _ in halves] for _ in several]
        with cgutils.for_range(b, b.lshr(count, _i64(pairs))) as loop:
            row = b.add(k0, b.mul(loop.index, _i64(2 * 4 * LANES)))
            for k in halves:
                _fetch(b, b.add(row, further), ahead=64 * k, level=2)
            numbers = [_in_row(b, row, 64 * k, pairs) for k in halves]
            at = b.add(x0, b.mul(loop.index, _i64(4 << pairs)))
            for m, d in product(several, range(1 + pairs)):
                factor = _load(b, b.add(at, b.mul(x_step, _i64(m))), 4 * d, _F32)
                for k in halves:
                    more = _fma(b, _splat(b, factor), numbers[k][d], b.load(sums[m][k]))
                    b.store(more, sums[m][k])
        for m in several:
            for k in halves:
                place = b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(64 * k)))
                _store(b, b.load(sums[m][k]), place)
        return context.get_dummy_value()

    return types.void(inputs, short, *(_ADDRESS,) * 7), generate


@intrinsic
def mixtures(
    typing,
    inputs,
    vectors,
    short,
    shares,
    share_bytes,
    values,
    value_bytes,
    count,
    y,
    y_bytes,
    ahead,
):
    """y[m] += the sum over j of shares[m, j] * values[j], for 16 * `vectors` neighbouring columns.

    Args:
        inputs, vectors, short: literals; short: 1 for values in bfloat16, of which two lie in a row, number
            by number.
        shares, values, y: addresses of the first row.
        share_bytes, value_bytes, y_bytes: from one row to the next.
        count: how many values; summed in their order.
        ahead: from these values to what is read after them, which is asked of memory.
    """
    if not all(isinstance(one, types.IntegerLiteral) for one in (inputs, vectors, short)):
        return None
    several, wide = range(inputs.literal_value), range(vectors.literal_value)
    pairs = short.literal_value

    def generate(context, b, signature, arguments):
        p0, p_step, v0, v_step, count, y0, y_step, further = arguments[3:]
        places = [
            [b.add(y0, b.add(b.mul(y_step, _i64(m)), _i64(64 * k))) for k in wide] for m in several
        ]
        sums = [[_variable(b) for _ in wide] for _ in several]
        for m in several:
            for k in wide:
                b.store(_load(b, places[m][k], 0, _VF32), sums[m][k])

        def add(number: Value, values: int) -> None:
            row = b.add(v0, b.mul(v_step, number))
            for k in wide:
                _fetch(b, b.add(row, further), ahead=64 * k, level=2)
            numbers = [_in_row(b, row, 64 * k, pairs) for k in wide]
            share = b.add(p0, b.mul(number, _i64(4 << pairs)))
            for m, j in product(several, range(values)):
                factor = _load(b, b.add(share, b.mul(p_step, _i64(m))), 4 * j, _F32)
                for k in wide:
                    more = _fma(b, _splat(b, factor), numbers[k][j], b.load(sums[m][k]))
                    b.store(more, sums[m][k])

        rows = b.lshr(count, _i64(pairs))
        with cgutils.for_range(b, rows) as loop:
            add(loop.index, 1 + pairs)
        if pairs:  # of the last two only the first may be there
            odd = b.icmp_signed("!=", b.shl(rows, _i64(1)), count)
            with b.if_then(odd):
                add(rows, 1)
        for m in several:
            for k in wide:
                _store(b, b.load(sums[m][k]), places[m][k])
        return context.get_dummy_value()

    return types.void(inputs, vectors, short, *(_ADDRESS,) * 8), generate


# --- functions of sixteen numbers ------------------------------------------------------------------

_LOG2E, _LOG2E_LOW = 1.44269502, 1.92596303e-8
_ROUND = 1.5 * 2**23
"""Added to a small number, it leaves a whole one in the last bits."""
_EXP2 = (0.000153533547, 0.0013398875, 0.00961843785, 0.0555033237, 0.240226477, 0.693147182, 1.0)
_ROUGH_EXP2 = (0.00961981, 0.05598165, 0.24023501, 0.69311036, 1.0)
"""2^r for r from -1/2 to 1/2, within 0.000005 of it (minimax)."""


def _exp(b: Builder, x: Value, *, rough: bool = False) -> Value:
    """e to x (up to 88) within 2 units in the last place: 2^n by a polynomial (minimax) of 2^r; 0 below -87.

    Args:
        rough: within 2^-16 of it is enough.
    """
    factors = _ROUGH_EXP2 if rough else _EXP2
    shifted = _fma(b, x, _all(_VF32, _LOG2E), _all(_VF32, _ROUND))
    n = b.fsub(shifted, _all(_VF32, _ROUND))
    r = _fma(b, x, _all(_VF32, _LOG2E), b.fneg(n))
    if not rough:
        r = _fma(b, x, _all(_VF32, _LOG2E_LOW), r)
    y = _all(_VF32, factors[0])
    for factor in factors[1:]:
        y = _fma(b, y, r, _all(_VF32, factor))
    power = b.shl(b.bitcast(shifted, _VI32), _all(_VI32, 23))  # n, to be added to y's exponent
    y = b.bitcast(b.add(b.bitcast(y, _VI32), power), _VF32)
    return b.select(b.fcmp_unordered(">", x, _all(_VF32, -87.0)), y, _all(_VF32, 0.0))


def _between(b: Builder, x: Value, low: float, high: float) -> Value:
    x = b.select(b.fcmp_ordered("<", x, _all(_VF32, low)), _all(_VF32, low), x)
    return b.select(b.fcmp_ordered(">", x, _all(_VF32, high)), _all(_VF32, high), x)


@intrinsic
def soften(typing, address, count, least):
    """a[i] = exp(a[i] - m) for the float32 at an address, m the largest of them and `least`.

    Zeros before and behind change nothing: the sum goes sixteen by sixteen, and as a fused product with one,
    since Numba lets LLVM change the order of plain additions.

    Args:
        count: a multiple of sixteen.

    Returns:
        m, the sum of the new a, by sixteen partial sums, and exp(least - m).
    """

    def generate(context, b, signature, arguments):
        base, count, least = arguments
        most, total = _variable(b), _variable(b)
        b.store(_splat(b, least), most)
        with _sixteens(b, count) as offset:
            one = _load(b, b.add(base, offset), 0, _VF32)
            b.store(_larger(b, one, b.load(most)), most)
        largest = _largest(b, b.load(most))
        with _sixteens(b, count) as offset:
            place = b.add(base, offset)
            power = _exp(b, b.fsub(_load(b, place, 0, _VF32), largest))
            _store(b, power, place)
            b.store(_fma(b, power, _all(_VF32, 1.0), b.load(total)), total)
        less = _exp(b, b.fsub(_splat(b, least), largest))
        first = ir.Constant(_I32, 0)
        found = [b.extract_element(one, first) for one in (largest, less)]
        found.insert(1, _sum(b, b.load(total)))
        return context.make_tuple(b, signature.return_type, found)

    return types.UniTuple(types.float32, 3)(_ADDRESS, types.int64, types.float32), generate


@intrinsic
def silu_times(typing, gate, up, count):
    """gate[i] = silu(gate[i]) * up[i]; `count` is a multiple of sixteen."""

    def generate(context, b, signature, arguments):
        base, other, count = arguments
        one = _all(_VF32, 1.0)
        with _sixteens(b, count) as offset:
            place = b.add(base, offset)
            z = _load(b, place, 0, _VF32)
            small = _exp(b, _between(b, b.fsub(_all(_VF32, 0.0), z), -88.0, 88.0))
            number = _load(b, b.add(other, offset), 0, _VF32)
            _store(b, b.fmul(b.fdiv(z, b.fadd(one, small)), number), place)
        return context.get_dummy_value()

    return types.void(_ADDRESS, _ADDRESS, types.int64), generate


@contextmanager
def _sixteens(b: Builder, count: Value) -> Iterator[Value]:
    """The byte offset of each sixteen numbers."""
    rounds = b.udiv(b.add(count, _i64(LANES - 1)), _i64(LANES))
    with cgutils.for_range(b, rounds) as loop:
        yield b.mul(loop.index, _i64(4 * LANES))


# --- the search for a block's grid (`quantise`) -----------------------------------------------------


def _steps(b: Builder, x: Value, low: Value, turned: Value) -> Value:
    """The nearest of 0 to 15 steps above the least number; `turned` is one over the step."""
    return _function(b, "rint", _between(b, b.fmul(b.fsub(x, low), turned), 0.0, 15.0))


@intrinsic
def step_sums(typing, address, low, turned):
    """The sums of q, q q and q x over the 32 float32 x at an address, q their steps in a grid."""

    def generate(context, b, signature, arguments):
        base, low, turned = arguments
        low, turned = _splat(b, low), _splat(b, turned)
        totals = [_all(_VF32, 0.0)] * 3
        for k in (0, 1):
            x = _load(b, base, 64 * k, _VF32)
            q = _steps(b, x, low, turned)
            one, two, three = totals
            totals = [b.fadd(one, q), _fma(b, q, q, two), _fma(b, q, x, three)]
        sums = [_sum(b, total) for total in totals]
        return context.make_tuple(b, signature.return_type, sums)

    return types.UniTuple(types.float32, 3)(_ADDRESS, types.float32, types.float32), generate


@intrinsic
def step_error(typing, address, low, turned, step):
    """The sum of squared errors of the 32 float32 at an address in a grid of 16 steps."""

    def generate(context, b, signature, arguments):
        base, *grid = arguments
        low, turned, step = (_splat(b, one) for one in grid)
        total = _all(_VF32, 0.0)
        for k in (0, 1):
            x = _load(b, base, 64 * k, _VF32)
            away = b.fsub(_fma(b, _steps(b, x, low, turned), step, low), x)
            total = _fma(b, away, away, total)
        return _sum(b, total)

    return types.float32(_ADDRESS, *(types.float32,) * 3), generate


# --- threads --------------------------------------------------------------------------------------


@intrinsic
def arrive(typing, counter):
    """Add one to the int64 at an address, atomically; what it was before."""

    def generate(context, b, signature, arguments):
        pointer = b.inttoptr(arguments[0], _I64.as_pointer())
        return b.atomic_rmw("add", pointer, _i64(1), "seq_cst")

    return types.int64(_ADDRESS), generate


@intrinsic
def look(typing, counter):
    """The int64 at an address, as other threads have left it."""

    def generate(context, b, signature, arguments):
        pointer = b.inttoptr(arguments[0], _I64.as_pointer())
        return b.load_atomic(pointer, "seq_cst", 8)

    return types.int64(_ADDRESS), generate


@intrinsic
def give_way(typing):
    """Let the system run somebody else on this core (POSIX sched_yield)."""

    def generate(context, b, signature, arguments):
        kind = ir.FunctionType(_I32, [])
        b.call(cgutils.get_or_insert_function(b.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def ask_to_write(typing, address, step_bytes, count):
    """Ask memory for so many places, so many bytes apart, which will be written."""

    def generate(context, b, signature, arguments):
        first, step, places = arguments
        with cgutils.for_range(b, places) as loop:
            _fetch(b, b.add(first, b.mul(loop.index, step)), ahead=0, to_write=True)
        return context.get_dummy_value()

    return types.void(_ADDRESS, _ADDRESS, types.int64), generate


def _as_bfloat16(b: Builder, x: Value) -> Value:
    """Sixteen float32 as the bits of bfloat16, each in 32; to the nearest, to even between two."""
    bits = b.bitcast(x, _VI32)
    upper = b.lshr(bits, _all(_VI32, 16))
    bits = b.add(bits, b.add(_all(_VI32, 0x7FFF), b.and_(upper, _all(_VI32, 1))))
    # What is no number might overflow to one.
    none = b.fcmp_unordered("uno", x, x)
    return b.select(none, _all(_VI32, 0x7FC0), b.lshr(bits, _all(_VI32, 16)))


@intrinsic
def store_pairs(typing, x, count, y, y_bytes):
    """Pairs of so many float32 as bfloat16, `y_bytes` from one pair to the next; a multiple of sixteen."""

    def generate(context, b, signature, arguments):
        x0, numbers, y0, step = arguments
        with cgutils.for_range(b, b.udiv(numbers, _i64(LANES))) as loop:
            vector = _load(b, b.add(x0, b.mul(loop.index, _i64(4 * LANES))), 0, _VF32)
            halves = b.trunc(_as_bfloat16(b, vector), _VI16)
            pairs = b.bitcast(halves, ir.VectorType(_I32, LANES // 2))
            first = b.add(y0, b.mul(b.mul(loop.index, _i64(LANES // 2)), step))
            for k in range(LANES // 2):
                one = b.extract_element(pairs, ir.Constant(_I32, k))
                _store(b, one, b.add(first, b.mul(step, _i64(k))))
        return context.get_dummy_value()

    return types.void(_ADDRESS, types.int64, _ADDRESS, _ADDRESS), generate


@intrinsic
def store_every_other(typing, x, count, y):
    """So many float32 as bfloat16, with room for another between each two, which stays as it is; a multiple of
    sixteen."""

    def generate(context, b, signature, arguments):
        x0, numbers, y0 = arguments
        wide = ir.VectorType(_I16, 2 * LANES)
        lanes = ir.VectorType(ir.IntType(1), 2 * LANES)
        mask = ir.Constant(lanes, [1 - k % 2 for k in range(2 * LANES)])
        kind = ir.FunctionType(ir.VoidType(), [wide, wide.as_pointer(), _I32, lanes])
        name = f"llvm.masked.store.v{2 * LANES}i16.p0"
        store = cgutils.get_or_insert_function(b.module, kind, name)
        with cgutils.for_range(b, b.udiv(numbers, _i64(LANES))) as loop:
            offset = b.mul(loop.index, _i64(4 * LANES))
            halves = _as_bfloat16(b, _load(b, b.add(x0, offset), 0, _VF32))
            to = b.inttoptr(b.add(y0, offset), wide.as_pointer())
            b.call(store, [b.bitcast(halves, wide), to, ir.Constant(_I32, 2), mask])
        return context.get_dummy_value()

    return types.void(_ADDRESS, types.int64, _ADDRESS), generate


@intrinsic
def get(typing, address):
    """The float32 at an address."""

    def generate(context, b, signature, arguments):
        return _load(b, arguments[0], 0, _F32)

    return types.float32(_ADDRESS), generate


@intrinsic
def put(typing, address, number):
    """Store a float32 at an address."""

    def generate(context, b, signature, arguments):
        _store(b, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(_ADDRESS, types.float32), generate


@intrinsic
def floats(typing, address, count):
    """So many float32 at an address, as an array. Not `numba.carray`, which needs Numba's own memory."""
    return _array(types.float32)


@intrinsic
def integers(typing, address, count):
    """So many int64 at an address, as an array."""
    return _array(types.int64)


def _array(number: Any) -> Any:
    kind = types.Array(number, 1, "C")

    def generate(context, b, signature, arguments):
        address, count = arguments
        found = make_array(kind)(context, b)
        each = context.get_constant(types.intp, number.bitwidth // 8)
        data = b.inttoptr(address, found.data.type)
        populate_array(found, data, shape=[count], strides=[each], itemsize=each, meminfo=None)
        return found._getvalue()

    return kind(_ADDRESS, types.int64), generate


@intrinsic
def call(typing, function, a0, a1, a2, a3, a4, a5, a6, a7, a8):
    """Call the C function at an address with nine whole numbers."""

    def generate(context, b, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [_I64] * 9)
        b.call(b.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*(_ADDRESS,) * 10), generate
