"""A file in memory by mapping, and what a tensor file says about one tensor.

Pages are private copies on write: an array that looks into the mapping may be written to, and the file
never changes. Nobody may shorten a file while it is mapped; the
store keeps its files under their digests and never rewrites them.

Not here: any file format (those are `safetensors` and `gguf`).
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daulat.errors import ModelFileError
from daulat.models.numbers import Array

# Linux promises swap for every private page unless told otherwise; ours are never written in bulk.
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies in its file.

    Attributes:
        shape: outermost dimension first, the last one contiguous.
        type: the format's own word: `F32`, `BF16`, `Q4_1`, ...
        offset: bytes from the start of the file.
        size: bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int


class MappedFile:
    """One regular file, mapped.

    Raises:
        ModelFileError: no such file, not a regular file, empty, or not readable.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            # Without O_NONBLOCK a named pipe in a model folder would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{self.name} cannot be opened: {_reason(error)}.") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"{self.name} is not a regular file.")
            if status.st_size == 0:
                raise ModelFileError(f"{self.name} is empty; fetch it again.")
            self.size = status.st_size
            self._map = mmap.mmap(
                descriptor,
                self.size,
                flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        except OSError as error:
            raise ModelFileError(f"{self.name} cannot be mapped: {_reason(error)}.") from error
        finally:
            os.close(descriptor)

    def bytes(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes; the caller has checked the bounds."""
        return self._map[offset : offset + size]

    @property
    def buffer(self) -> mmap.mmap:
        """The whole file, for `struct.unpack_from` and `numpy.frombuffer`."""
        return self._map

    def tensor(self, offset: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """A view without copying; a copy where the file does not align the numbers."""
        count = 1
        for dim in shape:
            count *= dim
        if count == 0:
            return np.empty(tuple(shape), dtype=dtype)
        flat = np.frombuffer(self._map, dtype=dtype, count=count, offset=offset)
        if offset % dtype.itemsize:
            flat = flat.copy()
        return flat.reshape(tuple(shape))

    def release(self, offset: int, size: int) -> None:
        """Lets go of the pages that lie wholly inside; reading them again fetches them again."""
        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the path is not valid"
