"""The head of a GGUF file: metadata and the table of tensors, parsed with a ceiling on everything.

The parser never allocates by a number that it has not compared with the bytes that are left, so a
lying header costs no more than the file is long.

Not here: the tensors' contents (`gguf`), what the keys mean (`families`, `tokenizers_gguf`).
Source: the GGUF specification in the ggml repository, versions 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.mapped import MappedFile, TensorInfo

MAX_KEYS = 1 << 16
MAX_KEY = 1 << 12
MAX_STRING = 16 << 20
MAX_VALUES = 1 << 22  # of all arrays together
MAX_NESTING = 4
MAX_TENSORS = 1 << 17
MAX_NAME = 256
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 48
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY, _BOOL = 8, 9, 7
# Value type in the file -> little-endian numpy type.
_SCALARS = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("u1"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}


# What the numbers in the table of tensors stand for (ggml.h, ggml-common.h), written down here because the
# `gguf` package, which knows it too, takes longer to import than a header to parse.
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
KINDS = {number: name for number, (name, _, _) in _TYPES.items()}
"""The types' numbers and names."""
BLOCKS = {name: (weights, size) for name, weights, size in _TYPES.values()}
"""Weights in a block of a type, and its bytes."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the head says, checked against the file.

    Attributes:
        version: 2 or 3.
        metadata: key to number, string, boolean, or tuple of those.
        tensors: in the order of the table.
    """

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]


def parse(file: MappedFile) -> GgufHeader:
    """Reads and checks the head of a mapped file.

    Raises:
        ModelFileError: damaged, cut off or lying.
        UnsupportedModelError: a version, byte order or quantisation that we do not read.
    """
    cursor = _Cursor(file)
    version = _version(cursor)
    tensor_count = cursor.count("tensors", MAX_TENSORS, 24)
    key_count = cursor.count("metadata keys", MAX_KEYS, 13)
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.string("a metadata key", MAX_KEY)
        if key in metadata:
            raise cursor.wrong(f"the metadata key {key[:80]!r} appears twice")
        metadata[key] = cursor.value(key, cursor.unpack("<I"), 0)
    described = [_describe(cursor) for _ in range(tensor_count)]
    alignment = _alignment(cursor, metadata)
    start = -(-cursor.position // alignment) * alignment
    infos = tuple(_place(cursor, start, alignment, entry) for entry in described)
    _check_apart(cursor, infos)
    return GgufHeader(version, metadata, infos)


class _Cursor:
    """Reads forward through the file and never past its end."""

    def __init__(self, file: MappedFile) -> None:
        self._buffer = file.buffer
        self._end = file.size
        self._name = file.name
        self._left = MAX_VALUES
        self.position = 0

    @property
    def end(self) -> int:
        return self._end

    def wrong(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self._name}: {what}. The GGUF file is damaged; fetch it again.")

    def unsupported(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self._name}: {what}.")

    def take(self, size: int) -> int:
        """Moves on by `size` bytes and returns where they start."""
        at = self.position
        if size > self._end - at:
            raise self.wrong(f"it ends at byte {self._end} in the middle of its header")
        self.position = at + size
        return at

    def unpack(self, layout: str) -> Any:
        return struct.unpack_from(layout, self._buffer, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str, most: int, smallest: int) -> int:
        """A number of things of at least `smallest` bytes each."""
        value = self.unpack("<Q")
        if value > most or value * smallest > self._end - self.position:
            raise self.wrong(f"it claims {value} {what}, which cannot be")
        return value

    def string(self, what: str, most: int = MAX_STRING) -> str:
        length = self.unpack("<Q")
        if length > most:
            raise self.wrong(f"{what} claims {length} bytes; {most} is the most there may be")
        at = self.take(length)
        try:
            return self._buffer[at : at + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(f"{what} is not UTF-8") from error

    def _strings(self, what: str, count: int) -> Iterator[str]:
        """As `string`, for vocabularies: a hundred thousand of them, without a call for each."""
        buffer, end, length = self._buffer, self._end, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at = self.position + 8
            size = length(buffer, at - 8)[0] if at <= end else MAX_STRING + 1
            if size > MAX_STRING or size > end - at:
                yield self.string(what)  # raises
                continue
            self.position = at + size
            try:
                yield buffer[at : at + size].decode()
            except UnicodeDecodeError as error:
                raise self.wrong(f"{what} is not UTF-8") from error

    def value(self, key: str, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self.string(f"the string at {key[:80]!r}")
        if kind == _ARRAY:
            return self._array(key, depth)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise self.wrong(f"the metadata key {key[:80]!r} has the unknown type {kind}")
        at = self.take(scalar.itemsize)
        number = np.frombuffer(self._buffer, scalar, 1, at)[0].item()
        return bool(number) if kind == _BOOL else number

    def _array(self, key: str, depth: int) -> tuple[Any, ...]:
        if depth >= MAX_NESTING:
            raise self.wrong(f"the arrays at {key[:80]!r} are nested too deep")
        kind = self.unpack("<I")
        scalar = _SCALARS.get(kind)
        smallest = scalar.itemsize if scalar else {_STRING: 8, _ARRAY: 12}.get(kind, 1)
        length = self.count(f"values at {key[:80]!r}", self._left, smallest)
        self._left -= length
        if kind == _STRING:
            return tuple(self._strings(f"the string at {key[:80]!r}", length))
        if scalar is None:
            return tuple(self.value(key, kind, depth + 1) for _ in range(length))
        at = self.take(length * scalar.itemsize)
        numbers = np.frombuffer(self._buffer, scalar, length, at).tolist()
        return tuple(map(bool, numbers)) if kind == _BOOL else tuple(numbers)


def _version(cursor: _Cursor) -> int:
    if cursor.unpack("4s") != b"GGUF":
        raise cursor.wrong("it does not begin with GGUF")
    version = cursor.unpack("<I")
    if version in (2, 3):
        return version
    if version and version & 0xFFFF == 0:
        raise cursor.unsupported("big-endian GGUF files are not read; convert it to little-endian")
    raise cursor.unsupported(f"GGUF version {version} is not read, only 2 and 3")


class _Entry(NamedTuple):
    """One line of the table of tensors: dimensions fastest first, offset from the data's start."""

    name: str
    dims: tuple[int, ...]
    kind: int
    at: int


def _describe(cursor: _Cursor) -> _Entry:
    name = cursor.string("a tensor's name", MAX_NAME)
    count = cursor.unpack("<I")
    if not 1 <= count <= MAX_DIMS:
        raise cursor.wrong(f"tensor {name!r} has {count} dimensions")
    dims = tuple(cursor.unpack("<Q") for _ in range(count))
    elements = 1
    for dim in dims:
        elements *= dim
    if not 0 < elements <= MAX_ELEMENTS:
        raise cursor.wrong(f"tensor {name!r} claims the shape {list(dims)}")
    return _Entry(name, dims, cursor.unpack("<I"), cursor.unpack("<Q"))


def _alignment(cursor: _Cursor, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 1 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise cursor.wrong(f"general.alignment is {str(value)[:40]}, not a power of two")
    return value


def _place(cursor: _Cursor, start: int, alignment: int, entry: _Entry) -> TensorInfo:
    name, dims, kind, at = entry
    try:
        quantisation = KINDS[kind]
        block, block_size = BLOCKS[quantisation]
    except KeyError as error:
        raise cursor.unsupported(
            f"tensor {name!r} has the quantisation number {kind}, which is not read"
        ) from error
    elements = 1
    for dim in dims:
        elements *= dim
    if dims[0] % block:
        raise cursor.wrong(f"the rows of tensor {name!r} are not whole blocks of {block}")
    size = elements // block * block_size
    if at % alignment:
        raise cursor.wrong(f"tensor {name!r} does not start at a multiple of {alignment}")
    if at > cursor.end or start + at + size > cursor.end:
        raise cursor.wrong(f"tensor {name!r} ends behind the file's end")
    return TensorInfo(name, tuple(reversed(dims)), quantisation, start + at, size)


def _check_apart(cursor: _Cursor, infos: tuple[TensorInfo, ...]) -> None:
    if len({info.name for info in infos}) != len(infos):
        raise cursor.wrong("two tensors have the same name")
    ordered = sorted(infos, key=lambda info: info.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.size > after.offset:
            raise cursor.wrong(f"tensors {before.name!r} and {after.name!r} overlap")
