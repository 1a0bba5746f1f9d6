"""Weights as they lie in memory for the machine code, and the functions that multiply by them.

A matrix keeps the numbers of its file as they are stored, in the order of `panels`, at about the file's size.
Other formats, and floats where less memory is asked for, become one of `Numbers` first.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol, get_args

import numpy as np
from numba import cfunc, types

from daulat.engine.native import panels, tiles
from daulat.engine.native.panels import BF16, F16, F32, FORMS, Q4_0, Q4_1, Q8_0
from daulat.engine.native.quantise import quantise
from daulat.engine.native.repack import KINDS, lay, repack
from daulat.engine.native.vector import BLOCK, LANES
from daulat.models.numbers import FLOATS as TYPES
from daulat.models.numbers import Array

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
"""The forms of `panels.FORMS` in words that stay the same from version to version."""

Numbers = Literal["float32", "bfloat16", "int8", "int4"]
"""What becomes of matrices that are not kept as they are stored."""
NUMBERS: tuple[Numbers, ...] = get_args(Numbers)
FLOATS = {"F32": F32, "F16": F16, "BF16": BF16}
_OWN = {TYPES[name]: form for name, form in FLOATS.items()}
_FINE = ("head", "embed", "qkv", "down")
"""Eight bits where four are asked for: what costs most in quality for its size, as a rule
(docs/experiments.md). `engine.allocation` measures it, and this says how many bytes it may give out."""
SPARE = 0.02
"""What more four bits may take than by this rule, as a share of it: a token is written as much more slowly."""
Inputs = Literal["auto", "int16"]
"""What inputs become where weights are multiplied in whole numbers: 8 bits, and 16 where it matters; or 16."""
_FINE_INPUTS = ("qkv", "router")
"""Where 8 bits cost most in quality for their time (docs/experiments.md)."""
_EXACT = ("router", "positions")
"""Never quantised: small, and a router's least error picks another expert."""


def kept_formats(numbers: Numbers) -> frozenset[str]:
    """Which formats stay as they are when the others become `numbers`."""
    if numbers == "float32":
        return frozenset(KNOWN)
    return frozenset(KNOWN) - (frozenset({"F32"}) if numbers == "bfloat16" else frozenset(FLOATS))


def form_for(slot: str, numbers: Numbers, stored: np.dtype = TYPES["F32"]) -> int:
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


def fine(slot: str, inputs: Inputs) -> bool:
    """Whether a matrix's inputs keep 16 bits."""
    return inputs == "int16" or slot in _FINE_INPUTS


class Shaped(Protocol):
    """A tensor's description."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def type(self) -> str: ...


def short_cache(tensors: Iterable[Shaped], head_dim: int, numbers: Numbers, inputs: Inputs) -> bool:
    """Whether keys and values are kept in bfloat16: where weights or inputs are no finer themselves.

    Args:
        tensors: of the model; numbers: what becomes of matrices that are not kept as they are.
    """
    kept, stored = kept_formats(numbers), {one.type for one in tensors if len(one.shape) > 1}
    forms = {KNOWN[one] if one in kept else form_for("", numbers) for one in stored}
    return inputs == "auto" and bool(forms - {F32, F16}) and head_dim % LANES == 0


def held_bytes(stored: str, weights: int) -> int:
    """How many bytes so many weights of a known format take in memory."""
    return form_bytes(KNOWN[stored], weights)


def form_bytes(form: int, weights: int) -> int:
    """How many bytes so many weights take in a form."""
    return weights * FORMS[form].size // (BLOCK * LANES)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Attributes:
    data: uint8 [panels, bytes of a panel]; kept here so that the addresses stay good.
    form: place in `panels.FORMS`.
    rows: of the whole matrix; experts are laid one under the other.
    columns: a multiple of `vector.BLOCK`.
    """

    data: Array
    form: int
    rows: int
    columns: int

    def numbers(self, fine: bool = False, units: bool = False) -> tuple[int, ...]:
        """What the program needs: address, bytes of a panel, the functions' addresses.

        Args:
            fine: whether its inputs keep 16 bits, if they become whole numbers.
            units: inputs that are read are multiplied by the matrix units, if they can be.
        """
        found = functions(self.form, fine)
        of_block, multiply, _, pack = found
        reading = (panels.GROUP, of_block, multiply, pack)
        if units and self.form in tiles.forms():
            reading = read_functions(self.form)
        return self.data.ctypes.data, self.data.shape[1], *found, *reading


def input_bytes(form: int, columns: int, count: int, fine: bool, units: bool) -> int:
    """Bytes that so many inputs to a matrix take, some of them read, in whole groups of each kind."""
    of_block = panels.group_bytes(form, fine)
    found = (-(-count // panels.GROUP) + 1) * of_block
    if units and form in tiles.forms():
        found += -(-count // tiles.GROUP) * tiles.group_bytes(_parts(form))
    return found * (columns // BLOCK)


def matrix(tensor: Array, stored: str | None, form: int = F32, threads: int = 1) -> Matrix:
    """A matrix from a tensor: of stored bytes [..., rows, bytes], or of numbers [..., rows, columns].

    Args:
        stored: the format of the bytes; None: numbers, which become `form`.

    Raises:
        ModelFileError: numbers that cannot be quantised.
    """
    rows = tensor.reshape(-1, tensor.shape[-1])
    if stored in KINDS:
        form, rows = KNOWN[stored], repack(stored, rows)
    elif stored is not None:
        form = KNOWN[stored]
    elif form in (Q4_1, Q8_0):
        rows = quantise(rows, form, threads)
    else:
        kind = {one: dtype for dtype, one in _OWN.items()}[form]
        rows = np.ascontiguousarray(rows, dtype=kind).view(np.uint8)
    columns = rows.shape[1] * LANES // FORMS[form].size * BLOCK
    return Matrix(lay(rows, form, threads), form, len(rows), columns)


# --- the functions of each form ----------------------------------------------------------------------


_NINE = types.void(*(types.int64,) * 9)


def _multiply_by(form, fine):
    wide, of_block = panels.most_panels(form), panels.group_bytes(form, bool(fine))

    def multiply(w, panel_bytes, blocks, groups, y, y_bytes, inputs, rows, _8):
        panels.multiply(
            form, fine, wide, of_block, w, panel_bytes, blocks, groups, y, y_bytes, inputs, rows
        )

    return multiply


def _unpack_of(form):
    def unpack(panel, blocks, lane, y, _4, _5, _6, _7, _8):
        panels.unpack(form, panel, blocks, lane, y)

    return unpack


def _pack_for(floats, fine):
    def pack(x, blocks, group, member, _4, _5, _6, _7, _8):
        if floats:
            panels.pack_floats(x, blocks, group, member)
        else:
            panels.pack_steps(fine, x, blocks, group, member)

    return pack


def _tiles_of(form, parts):
    def multiply(w, panel_bytes, blocks, groups, y, y_bytes, inputs, rows, scratch):
        tiles.begin()
        tiles.multiply(
            form, parts, w, panel_bytes, blocks, groups, y, y_bytes, inputs, rows, scratch
        )
        tiles.end()

    return multiply


def _tile_pack_for(parts):
    def pack(x, blocks, group, member, _4, _5, _6, _7, _8):
        tiles.pack(parts, x, blocks, group, member)

    return pack


@cache
def _address(make, *which):
    # Numba's cache tells functions of one name by what they close over.
    return cfunc(_NINE, cache=True)(make(*which)).address or 0


def functions(form: int, fine: bool) -> tuple[int, int, int, int]:
    """What the program needs of a form: bytes of a block of a group of inputs, and three addresses.

    They are of C functions of nine whole numbers (`vector.call`): `panels.multiply`, `panels.unpack`, and what
    packs an input.
    """
    floats = isinstance(FORMS[form], panels.Floats)
    fine = fine and not floats
    return (
        panels.group_bytes(form, fine),
        _address(_multiply_by, form, int(fine)),
        _address(_unpack_of, form),
        _address(_pack_for, floats, int(fine)),
    )


def read_functions(form: int) -> tuple[int, int, int, int]:
    """The same for inputs that are read, by the matrix units: how many are a group, bytes of its block, and the
    addresses of `tiles.multiply` and `tiles.pack`."""
    parts = _parts(form)
    return (
        tiles.GROUP,
        tiles.group_bytes(parts),
        _address(_tiles_of, form, parts),
        _address(_tile_pack_for, parts),
    )


def _parts(form: int) -> int:
    """Weights that are exact are worth inputs that nearly are."""
    return 2 if isinstance(FORMS[form], panels.Floats) else 1
