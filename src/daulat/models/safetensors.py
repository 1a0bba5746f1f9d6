"""The safetensors format, read as data: a length, a JSON header, the tensors' bytes.

Every claim of the header is checked against the file before anything is read: each tensor's bytes
    lie inside the file, fit its shape and type exactly, and all of them together cover the file
    without a gap or an overlap. Reading is mapping: no copy is made.

Not here: which tensor is which weight (`weights`), several files as one model (`checkpoint`).
Source: the format's description in the safetensors repository.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.jsonfile import parse_object
from daulat.models.mapped import MappedFile, TensorInfo
from daulat.models.numbers import FLOATS, WHOLE, Array

MAX_HEADER = 100_000_000  # bytes, as in the reference implementation
MAX_TENSORS = 1 << 18
MAX_DIMS = 8
MAX_ELEMENTS = 1 << 48
MAX_NAME = 1024

DTYPES: Mapping[str, np.dtype[Any]] = {
    **FLOATS,
    **WHOLE,
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


class SafetensorsFile:
    """One file, checked on opening.

    Attributes:
        tensors: name to place, in the order of the bytes.
        metadata: the header's own strings.

    Raises:
        ModelFileError: damaged, cut off or lying.
        UnsupportedModelError: a number type that we do not read.
    """

    def __init__(self, path: Path) -> None:
        self._file = MappedFile(path)
        start, header = _header(self._file)
        self.metadata: Mapping[str, str] = MappingProxyType(_metadata(self._file.name, header))
        infos = [_info(self._file.name, start, name, entry) for name, entry in header.items()]
        infos.sort(key=lambda info: (info.offset, info.size))
        _check_cover(self._file.name, infos, start, self._file.size)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({i.name: i for i in infos})

    def read(self, name: str) -> Array:
        """The tensor in its stored type, looking into the mapped file.

        Raises:
            ModelFileError: no tensor of that name.
        """
        info = self._find(name)
        if info.type == "BOOL":
            # A byte other than 0 and 1 is no boolean; compare instead of trusting the file.
            return self._file.tensor(info.offset, info.shape, DTYPES["U8"]) != 0
        return self._file.tensor(info.offset, info.shape, DTYPES[info.type])

    def raw(self, name: str) -> Array:
        """The stored bytes as uint8 [..., bytes of a row], a view.

        Raises:
            ModelFileError: no tensor of that name.
        """
        return self.read(name).view(np.uint8)

    def release(self, name: str) -> None:
        """Lets go of a tensor's pages; they are fetched again if read again."""
        info = self._find(name)
        self._file.release(info.offset, info.size)

    def _find(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self._file.name} has no tensor {name[:80]!r}.")
        return info


def _header(file: MappedFile) -> tuple[int, dict[str, Any]]:
    """Where the tensors' bytes start, and the parsed header."""
    if file.size < 8:
        raise ModelFileError(f"{file.name} is too short to be a safetensors file.")
    (length,) = struct.unpack_from("<Q", file.buffer, 0)
    if length > MAX_HEADER:
        raise ModelFileError(
            f"{file.name} claims a header of {length} bytes; {MAX_HEADER} is the maximum. "
            "It is damaged or not a safetensors file."
        )
    if length < 2 or length > file.size - 8:
        raise ModelFileError(
            f"{file.name} claims a header of {length} bytes, but has {file.size - 8}; refetch it."
        )
    data = file.bytes(8, length)
    if not data.startswith(b"{"):
        raise ModelFileError(f"{file.name}: the header is not a JSON object.")
    return 8 + length, parse_object(data, f"The header of {file.name}", depth=8)


def _metadata(where: str, header: dict[str, Any]) -> dict[str, str]:
    value = header.pop("__metadata__", {})
    if not isinstance(value, dict) or not all(
        isinstance(item, str) for item in cast("dict[str, Any]", value).values()
    ):
        raise ModelFileError(f"{where}: __metadata__ must be an object of strings.")
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"{where} names more than {MAX_TENSORS} tensors.")
    return cast("dict[str, str]", value)


def _info(where: str, start: int, name: str, entry: Any) -> TensorInfo:
    label = f"{where}: tensor {name[:80]!r}"
    if not 0 < len(name) <= MAX_NAME:
        raise ModelFileError(f"{label} has a name of {len(name)} characters.")
    if not isinstance(entry, dict):
        raise ModelFileError(f"{label} is not described by an object.")
    fields = cast("dict[str, Any]", entry)
    if fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"{label} must have exactly dtype, shape and data_offsets.")
    kind = fields["dtype"]
    if not isinstance(kind, str):
        raise ModelFileError(f"{label} has no dtype.")
    if kind not in DTYPES:
        raise UnsupportedModelError(
            f"{label} has the number type {kind[:40]!r}, which is not read."
        )
    shape = _numbers(label, "shape", fields["shape"], MAX_DIMS)
    offsets = _numbers(label, "data_offsets", fields["data_offsets"], 2)
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelFileError(f"{label}: data_offsets must be a start and an end behind it.")
    size = offsets[1] - offsets[0]
    count = _product(label, shape)
    if count * DTYPES[kind].itemsize != size:
        raise ModelFileError(
            f"{label} of shape {list(shape)} and type {kind} cannot be {size} bytes."
        )
    return TensorInfo(name, shape, kind, start + offsets[0], size)


def _numbers(label: str, what: str, value: Any, most: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(cast("list[Any]", value)) > most:
        raise ModelFileError(f"{label}: {what} must be a list of at most {most} numbers.")
    for item in cast("list[Any]", value):
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= MAX_ELEMENTS * 8:
            raise ModelFileError(f"{label}: {what} holds {str(item)[:40]}, which cannot be.")
    return tuple(cast("list[int]", value))


def _product(label: str, shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    # A zero hides absurd neighbours from the product, and NumPy multiplies them for its strides.
    largest = 1
    for dim in shape:
        largest *= max(dim, 1)
    if largest > MAX_ELEMENTS:
        raise ModelFileError(f"{label}: a shape of {list(shape)} cannot be.")
    return count


def _check_cover(where: str, infos: list[TensorInfo], start: int, end: int) -> None:
    position = start
    for info in infos:
        if info.offset + info.size > end:
            raise ModelFileError(
                f"{where}: tensor {info.name[:80]!r} ends behind the file's end; fetch it again."
            )
        if info.offset != position:
            what = "overlaps the one before it" if info.offset < position else "leaves a gap"
            raise ModelFileError(f"{where}: tensor {info.name[:80]!r} {what}.")
        position += info.size
    if position != end:
        raise ModelFileError(f"{where} has {end - position} bytes that belong to no tensor.")
