"""One GGUF file: metadata, the table of tensors, and each tensor as numbers.

Floats come as they are stored; quantised tensors are unpacked to float32 by the `gguf` package,
block of rows by block of rows, so that the temporary memory stays small.

Not here: several files as one model (`checkpoint`), the undoing of GGUF's permutations (`weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models import gguf_header
from daulat.models.mapped import MappedFile, TensorInfo
from daulat.models.numbers import FLOATS, WHOLE, Array

_OWN = ("F64", "F32", "F16", "BF16")
DTYPES: Mapping[str, np.dtype[Any]] = {**{name: FLOATS[name] for name in _OWN}, **WHOLE}
# Elements unpacked at once: the temporaries of that many stay in the second-level cache.
_STEP = 1 << 17


class GgufFile:
    """One file, checked on opening.

    Attributes:
        tensors: name to place, in the order of the file's table; shapes with the outermost dimension first.
        metadata: key to number, string, boolean, or tuple of those.

    Raises:
        ModelFileError: damaged, cut off or lying.
        UnsupportedModelError: a version, byte order or quantisation that we do not read.
    """

    def __init__(self, path: Path) -> None:
        self._file = MappedFile(path)
        header = gguf_header.parse(self._file)
        self.version = header.version
        self.metadata: Mapping[str, Any] = MappingProxyType(header.metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {info.name: info for info in header.tensors}
        )

    def read(self, name: str) -> Array:
        """The whole tensor: stored floats as a view into the file, quantised ones as float32.

        Raises:
            ModelFileError: no tensor of that name.
            UnsupportedModelError: a quantisation that the `gguf` package cannot unpack.
        """
        info = self._find(name)
        dtype = DTYPES.get(info.type)
        if dtype is not None:
            return self._file.tensor(info.offset, info.shape, dtype)
        return self._unpack(info, info.offset, info.shape)

    def read_rows(self, name: str, start: int, stop: int) -> Array:
        """Rows `start` to `stop` along the first dimension, as `read` gives them.

        Raises:
            ModelFileError: no tensor of that name, or no such rows.
            UnsupportedModelError: a quantisation that the `gguf` package cannot unpack.
        """
        info = self._find(name)
        if not 0 <= start <= stop <= info.shape[0]:
            raise ModelFileError(f"Tensor {name[:80]!r} has no rows {start} to {stop}.")
        dtype = DTYPES.get(info.type)
        if dtype is not None:
            return self._file.tensor(info.offset, info.shape, dtype)[start:stop]
        if len(info.shape) == 1:
            return self._unpack(info, info.offset, info.shape)[start:stop]
        row = info.size // info.shape[0]
        return self._unpack(info, info.offset + start * row, (stop - start, *info.shape[1:]))

    def raw(self, name: str) -> Array:
        """The stored bytes as uint8 [..., bytes of a row], a view: for kernels that unpack
        themselves.

        Raises:
            ModelFileError: no tensor of that name.
        """
        info = self._find(name)
        rows = prod(info.shape[:-1])
        shape = (*info.shape[:-1], info.size // rows)
        return self._file.tensor(info.offset, shape, np.dtype(np.uint8))

    def release(self, name: str) -> None:
        """Lets go of a tensor's pages; they are fetched again if read again."""
        info = self._find(name)
        self._file.release(info.offset, info.size)

    def _find(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise ModelFileError(f"{self._file.name} has no tensor {name[:80]!r}.")
        return info

    def _unpack(self, info: TensorInfo, offset: int, shape: tuple[int, ...]) -> Array:
        block, block_size = gguf_header.BLOCKS[info.type]
        count = 1
        for dim in shape:
            count *= dim
        out = np.empty(count, np.float32)
        blocks = np.frombuffer(self._file.buffer, np.uint8, count // block * block_size, offset)
        step = _STEP // block
        for first in range(0, count // block, step):
            part = blocks[first * block_size : (first + step) * block_size]
            out[first * block : (first + step) * block] = _dequantise(part, info.type)
        self._file.release(offset, blocks.nbytes)
        return out.reshape(shape)


def _dequantise(part: np.ndarray[Any, np.dtype[np.uint8]], kind: str) -> Any:
    # Imported here: what machine code computes with is not unpacked, and a start must not wait for it.
    from gguf import GGMLQuantizationType, quants  # noqa: PLC0415

    # One long row: the package would otherwise walk through the rows sixteen at a time.
    try:
        with np.errstate(all="ignore"):
            return quants.dequantize(part.reshape(1, -1), GGMLQuantizationType[kind]).reshape(-1)
    except (KeyError, NotImplementedError) as error:
        raise UnsupportedModelError(
            f"The quantisation {kind} is not read; convert the model to another one."
        ) from error
