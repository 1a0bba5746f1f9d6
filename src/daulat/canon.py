"""Canonical JSON and digests: one value, one sequence of bytes, one name.

The form is that of RFC 8785 (JCS) for the values that we store: object keys sorted by code point, no
white space, UTF-8, no NaN or infinity. Two things differ and are harmless because only we write these
bytes: keys are sorted by code point and not by UTF-16 unit, and floats are written by Python's `repr`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

_ENCODER: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises:
        ValueError: a float that is NaN or infinite.
        TypeError: a value that JSON does not have, or a key that is not a string.
    """
    _check_keys(value)
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def digest(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _check_keys(value: Any) -> None:
    # json.dumps turns 1 and "1" into the same key; a digest must not.
    if isinstance(value, dict):
        for key in value:  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON needs string keys, not {type(key).__name__}")  # pyright: ignore[reportUnknownArgumentType]
        value = value.values()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    elif not isinstance(value, list | tuple):
        return
    for item in value:  # pyright: ignore[reportUnknownVariableType]
        # Most are texts and numbers, and a call takes longer than seeing that.
        if isinstance(item, dict | list | tuple):
            _check_keys(item)
