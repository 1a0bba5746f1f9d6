"""report.json: a comparison as JSON, and back. Not here: other forms of reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from daulat.canon import canonical
from daulat.errors import DataError
from daulat.evaluate.comparing import SCHEMA, Comparison

MAX_BYTES: Final = 64 << 20
MAX_ENDPOINTS: Final = 100
LARGEST: Final = 1e15
"""No figure of a report is larger."""

_AGAIN: Final = "`daulat compare` makes a new one from the answers that are kept."
_ENDS: Final = {"low": -math.inf, "high": math.inf}


def stored(comparison: Comparison) -> bytes:
    """Canonical JSON. An end of an interval that is not bounded is null.

    Raises:
        ValueError: a figure is NaN.
    """
    return canonical(plain(comparison)) + b"\n"


def restored(data: bytes, where: str) -> Comparison:
    """The comparison that `stored` wrote.

    Raises:
        DataError: it is none, of another version's form, or out of bounds; the message begins with `where`.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{where} has more than {MAX_BYTES} bytes. {_AGAIN}")
    try:
        told = msgspec.json.decode(data)
        if not isinstance(told, dict) or cast("dict[str, Any]", told).get("schema") != SCHEMA:
            raise DataError(f"{where} is not a report of the form {SCHEMA}. {_AGAIN}")
        found = msgspec.convert(_open_ended(told), Comparison)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{where} is not a report: {str(error)[:200]}. {_AGAIN}") from error
    _check(found, where)
    return found


def read(path: Path) -> Comparison:
    """The comparison in a report.json.

    Raises:
        DataError: there is none that can be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. {_AGAIN}") from error
    return restored(data, str(path))


def plain(value: Any) -> Any:
    """A value of ours as JSON has it: names, numbers, lists; what has no bound is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in cast("tuple[Any, ...]", value)]
    if isinstance(value, float):
        return None if math.isinf(value) else value
    return value


def _open_ended(told: Any) -> Any:
    """The same with the infinities that JSON lacks, where an interval's end is null."""
    if isinstance(told, list):
        return [_open_ended(one) for one in cast("list[Any]", told)]
    if not isinstance(told, dict):
        return told
    row = {name: _open_ended(value) for name, value in cast("dict[str, Any]", told).items()}
    if "low" in row and "high" in row and "confidence" in row:
        row |= {name: end for name, end in _ENDS.items() if row[name] is None}
    return row


def _check(found: Comparison, where: str) -> None:
    """What a report's own words rely on.

    Raises:
        DataError: it does not hold.
    """
    names = [one.name for one in found.endpoints]
    named = [name for one in (*found.pairs, *found.contrasts) for name in (one.a, one.b)]
    problem = ""
    if not 1 <= len(names) <= MAX_ENDPOINTS or len(set(names)) != len(names):
        problem = f"it is not of 1 to {MAX_ENDPOINTS} different endpoints"
    elif set(named) - set(names):
        problem = "a pair names an endpoint that it does not have"
    elif not 0 < found.confidence < 1 or not 0 < found.margin < 1:
        problem = "its confidence or its margin is not between 0 and 1"
    elif _too_large(found):
        problem = f"a number in it is beyond {LARGEST:g}"
    if problem:
        raise DataError(f"{where} cannot be shown: {problem}. {_AGAIN}")


def _too_large(value: Any) -> bool:
    if isinstance(value, int | float):
        return math.isnan(value) or LARGEST < abs(value) < math.inf
    if is_dataclass(value):
        return any(_too_large(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, Mapping):
        return any(_too_large(one) for one in cast("Mapping[Any, Any]", value).values())
    return isinstance(value, tuple | list) and any(map(_too_large, cast("tuple[Any, ...]", value)))
