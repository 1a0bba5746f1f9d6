"""The activation of tokens that are read, made and packed at once.

What goes into tiles keeps 8 significant bits, so an exponential within 2^-16 and a reciprocal within 2^-14 are
enough, and nothing is stored between.
Not here: the activation of written tokens (`vector.silu_times`), and of others than silu.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from daulat.engine.native import tiles
from daulat.engine.native.attention import compiled
from daulat.engine.native.tiles import _ROW, _rounded
from daulat.engine.native.vector import (
    _I16,
    _VF32,
    BLOCK,
    Builder,
    Value,
    _all,
    _exp,
    _i64,
    _load,
    _store,
)


def _turned(b: Builder, x: Value) -> Value:
    """One over x, within 2^-14 of it."""
    kind = ir.FunctionType(_VF32, [_VF32, _VF32, _I16])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512.rcp14.ps.512")
    return b.call(function, [x, _all(_VF32, 0.0), ir.Constant(_I16, -1)])


@intrinsic
def silu_packed(typing, gate, up, blocks, group, member):
    """silu(gate) * up for blocks of 32 float32, into one's place in a group, as `tiles.pack` of one part."""

    def generate(context, b, signature, arguments):
        gate0, up0, count, y0, place = arguments
        with cgutils.for_range(b, count) as loop:
            offset = b.mul(loop.index, _i64(4 * BLOCK))
            made: list[Value] = []
            for k in (0, 1):
                z, x = (_load(b, b.add(at, offset), 64 * k, _VF32) for at in (gate0, up0))
                small = b.fsub(_all(_VF32, 0.0), z)
                most = _all(_VF32, 88.0)
                small = b.select(b.fcmp_ordered(">", small, most), most, small)
                below = b.fadd(_exp(b, small, rough=True), _all(_VF32, 1.0))
                made.append(b.fmul(b.fmul(z, x), _turned(b, below)))
            to = b.add(y0, b.add(b.mul(loop.index, _i64(tiles.BYTES)), b.mul(place, _i64(_ROW))))
            _store(b, _rounded(b, *made), to)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 5), generate


@compiled
def absent(gate, up, blocks, group, member):
    """What stands for `silu_packed` in code for processors that have no such units; it is never called."""
