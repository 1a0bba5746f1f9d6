"""Weights as they lie in memory for the machine code, and the functions that multiply by them.

A matrix keeps the bytes of its file where `vector` knows their format, or takes them in blocks that it knows
(`repack`); so what is multiplied by are exactly the numbers that the file stands for, at about the file's
size. Other formats, and floats where less memory is asked for, become one of `Numbers` first.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from numba import cfunc, njit, types
from torch import Tensor

from daulat.engine.native import panels, vector
from daulat.engine.native.quantise import quantise
from daulat.engine.native.repack import KINDS, repack
from daulat.engine.native.vector import (
    BF16,
    BLOCK,
    F16,
    F32,
    FORMATS,
    Q4_0,
    Q4_1,
    Q8_0,
)

KNOWN = {
    "F32": F32,
    "F16": F16,
    "BF16": BF16,
    "Q4_0": Q4_0,
    "Q4_1": Q4_1,
    "Q8_0": Q8_0,
    **{name: form for name, (_, form, _, _) in KINDS.items()},
}
"""The file formats' words, and how each is held."""


FORM_NAMES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "NIBBLES", "BYTES", "TWO_SCALES")
"""The forms of `vector.FORMATS` in words that stay the same from version to version."""

Numbers = Literal["float32", "bfloat16", "int8", "int4"]
"""What becomes of matrices that are not kept as they are stored."""
NUMBERS: tuple[Numbers, ...] = get_args(Numbers)
FLOATS = {"F32": F32, "F16": F16, "BF16": BF16}
_OWN = {torch.float32: F32, torch.float16: F16, torch.bfloat16: BF16}
_FINE = ("head", "embed", "qkv", "down")
"""Eight bits where four are asked for: what costs most in quality for its size (docs/experiments.md)."""
_EXACT = ("router", "positions")
"""Never quantised: small, and a router's least error picks another expert."""


def kept_formats(numbers: Numbers) -> frozenset[str]:
    """Which formats stay as they are when the others become `numbers`."""
    if numbers == "float32":
        return frozenset(KNOWN)
    return frozenset(KNOWN) - (frozenset({"F32"}) if numbers == "bfloat16" else frozenset(FLOATS))


def form_for(slot: str, numbers: Numbers, stored: torch.dtype = torch.float32) -> int:
    """The form that a matrix of floats takes.

    Args:
        slot: as in `models.weights`.
        stored: the type that it comes in.
    """
    if numbers in ("float32", "bfloat16"):
        return F32 if numbers == "float32" else BF16
    if slot in _EXACT:
        return _OWN.get(stored, F32)
    return Q4_1 if numbers == "int4" and slot not in _FINE else Q8_0


_NINE = types.void(*(types.int64,) * 9)
_MANY = 12
"""From so many inputs on, unpacking a row once for all of them is quicker than again for every four."""
_TILE, _TILE_ROWS = 6, 4
_CACHE = 512 << 10
"""Bytes of inputs that stay in the second-level cache while all rows pass by."""


def held_bytes(stored: str, weights: int) -> int:
    """How many bytes so many weights of a known format take in memory."""
    return form_bytes(KNOWN[stored], weights)


def form_bytes(form: int, weights: int) -> int:
    """How many bytes so many weights take in a form."""
    return weights // BLOCK * FORMATS[form].size


@dataclass(frozen=True, slots=True)
class Matrix:
    """Attributes:
    data: uint8, one row of blocks behind the other; kept here so that the addresses stay good.
    form: place in `vector.FORMATS`.
    rows: of the whole matrix; experts are laid one under the other.
    columns: a multiple of `vector.BLOCK`.
    """

    data: Tensor
    form: int
    rows: int
    columns: int

    @property
    def row_bytes(self) -> int:
        return self.columns // BLOCK * FORMATS[self.form].size

    def numbers(self, prefill: int) -> tuple[int, int, int, int, int]:
        """What the program needs: address, bytes of a row, the functions' addresses."""
        return self.data.data_ptr(), self.row_bytes, *functions(self.form, prefill)


def matrix(
    tensor: Tensor, stored: str | None, form: int = F32, threads: int = 1, own: bool = False
) -> Matrix:
    """A matrix from a tensor: of stored bytes [..., rows, bytes], or of numbers [..., rows, columns].

    Args:
        stored: the format of the bytes; None: numbers, which become `form`.
        own: the tensor is a copy already, and no view of a file.

    Raises:
        ModelFileError: numbers that cannot be quantised.
    """
    rows = tensor.reshape(-1, tensor.shape[-1])
    if stored in KINDS:
        form, data = KNOWN[stored], repack(stored, rows)
    elif stored is not None:
        # Else a copy: the file's pages can be taken from memory, or change under us, at any time.
        form, data = KNOWN[stored], rows.contiguous() if own else rows.clone().contiguous()
    elif form in (Q4_1, Q8_0):
        data = quantise(rows, form, threads)
    else:
        kind = {one: dtype for dtype, one in _OWN.items()}[form]
        data = rows.to(kind, copy=True).contiguous().view(torch.uint8)
    return Matrix(data, form, data.shape[0], data.shape[1] // FORMATS[form].size * BLOCK)


# --- the functions of each format --------------------------------------------------------------------


@njit(inline="always")
def _multiply(form, weights, row_bytes, blocks, x, x_bytes, y, y_bytes, inputs, rows):
    """y[m, r] for all m and r. Few inputs: unpacked in registers; many: unpacked once, then tiles."""
    if inputs >= _MANY:
        scratch = np.empty(_TILE_ROWS * blocks * 32, dtype=np.float32)
        room = scratch.ctypes.data
        step = max(_CACHE // (blocks * 128), _TILE) // _TILE * _TILE
        for first in range(0, inputs, step):
            count = min(step, inputs - first)
            for row in range(0, rows, _TILE_ROWS):
                high = min(_TILE_ROWS, rows - row)
                for r in range(high):
                    vector.unpack(
                        form, weights + (row + r) * row_bytes, blocks, room + r * blocks * 128
                    )
                at, to = x + first * x_bytes, y + first * y_bytes + row * 4
                _tiles(room, blocks, at, x_bytes, to, y_bytes, count, high)
        return
    row = 0
    while row + 2 <= rows:
        w, at, to = weights + row * row_bytes, x, y + row * 4
        left = inputs
        while left >= 4:
            vector.products(form, 4, 2, w, row_bytes, blocks, at, x_bytes, to, y_bytes)
            at, to, left = at + 4 * x_bytes, to + 4 * y_bytes, left - 4
        if left >= 2:
            vector.products(form, 2, 2, w, row_bytes, blocks, at, x_bytes, to, y_bytes)
            at, to, left = at + 2 * x_bytes, to + 2 * y_bytes, left - 2
        if left:
            vector.products(form, 1, 2, w, row_bytes, blocks, at, x_bytes, to, y_bytes)
        row += 2
    if row < rows:
        w, at, to = weights + row * row_bytes, x, y + row * 4
        for m in range(inputs):
            vector.products(
                form,
                1,
                1,
                w,
                row_bytes,
                blocks,
                at + m * x_bytes,
                x_bytes,
                to + m * y_bytes,
                y_bytes,
            )


@njit(cache=True)
def _tiles(w, blocks, x, x_bytes, y, y_bytes, inputs, rows):
    """Up to four rows of float32 with many inputs, six at a time: what fills the registers."""
    row_bytes = blocks * 128
    if rows < _TILE_ROWS:
        for m in range(inputs):
            for r in range(rows):
                at, to = x + m * x_bytes, y + m * y_bytes + r * 4
                vector.products(
                    F32, 1, 1, w + r * row_bytes, row_bytes, blocks, at, x_bytes, to, y_bytes
                )
        return
    left = inputs
    while left >= _TILE:
        vector.products(F32, 6, 4, w, row_bytes, blocks, x, x_bytes, y, y_bytes)
        x, y, left = x + _TILE * x_bytes, y + _TILE * y_bytes, left - _TILE
    while left >= 2:
        vector.products(F32, 2, 4, w, row_bytes, blocks, x, x_bytes, y, y_bytes)
        x, y, left = x + 2 * x_bytes, y + 2 * y_bytes, left - 2
    if left:
        vector.products(F32, 1, 4, w, row_bytes, blocks, x, x_bytes, y, y_bytes)


def _multiply_by(form):
    def multiply(w, wb, n, x, xb, y, yb, inputs, rows):
        _multiply(form, w, wb, n, x, xb, y, yb, inputs, rows)

    return multiply


def _read_by(form, prefill):
    def read(w, wb, n, x, xb, y, yb, inputs, rows):
        panels.read(form, prefill, w, wb, n, x, xb, y, yb, inputs, rows)

    return read


def _unpack_of(form):
    def unpack(w, n, y, _3, _4, _5, _6, _7, _8):
        vector.unpack(form, w, n, y)

    return unpack


@cache
def _address(make, *which):
    # Numba's cache tells functions of one name by what they close over.
    return cfunc(_NINE, cache=True)(make(*which)).address or 0


def multiplier(form: int) -> int:
    """Address of the C function of nine whole numbers that is `_multiply` for a format (`vector.call`)."""
    return _address(_multiply_by, form)


def functions(form: int, prefill: int) -> tuple[int, int, int]:
    """Addresses of a format's three C functions, each of nine whole numbers, for `vector.call`.

    The first is `multiplier`'s, for tokens that are written; the second `panels.read`'s of that kind, for
    tokens that are read; the third takes (row, blocks, y) and six more that mean nothing.
    """
    read = _address(_read_by, form, prefill)
    return multiplier(form), read, _address(_unpack_of, form)
