"""JSON from a model's folder, read with a ceiling on size, depth and structure.

Not here: what the values mean (`fields`, `safetensors`, `checkpoint`, `tokenizers_folder`).
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, cast

from daulat.errors import ModelFileError

MAX_CONFIG = 4 << 20
MAX_DEPTH = 64
# A parsed value costs some 60 bytes; this keeps the worst file below a quarter of a gigabyte.
MAX_VALUES = 1 << 22


def read_bounded(path: Path, where: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        ModelFileError: not there, not a regular file, or larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelFileError(f"{where} is not a regular file.")
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelFileError(f"{where} cannot be read: {error.strerror}.") from error
    if len(data) > limit:
        raise ModelFileError(f"{where} is larger than {limit} bytes, the most that is read of it.")
    return data


def read_object(path: Path, where: str, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelFileError: as `read_bounded` and `parse_object`.
    """
    return parse_object(read_bounded(path, where, limit), where)


def parse_object(data: bytes, where: str, *, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """A JSON object whose names are unique at every level.

    Raises:
        ModelFileError: not UTF-8, not JSON, not an object, a name twice, or nested too deep.
    """
    # Each value but the first stands behind one of these: their count bounds the memory.
    if sum(data.count(mark) for mark in (b",", b"[", b"{", b":")) > MAX_VALUES:
        raise ModelFileError(f"{where} holds more than {MAX_VALUES} values.")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except _DuplicateError as error:
        raise ModelFileError(f"{where} has the name {str(error)[:80]!r} twice.") from error
    except RecursionError as error:
        raise ModelFileError(f"{where} is nested deeper than {depth} levels.") from error
    except ValueError as error:
        raise ModelFileError(f"{where} is not JSON: {str(error)[:120]}.") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{where} is not a JSON object.")
    if _deeper_than(cast("dict[str, Any]", value), depth):
        raise ModelFileError(f"{where} is nested deeper than {depth} levels.")
    return cast("dict[str, Any]", value)


class _DuplicateError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateError(key)
            seen.add(key)
    return result


def _deeper_than(value: Any, depth: int) -> bool:
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(cast("dict[str, Any]", item).values())
            elif isinstance(item, list):
                below.extend(cast("list[Any]", item))
        if not below:
            return False
        level = below
    return True
