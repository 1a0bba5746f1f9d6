"""A comparison with all texts of others made harmless.

What would steer a terminal or turn the direction of lines is gone, and names are of one line and differ. Not
here: escaping, which each form does itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from daulat.evaluate.comparing import Comparison
from daulat.values.plain import plain

Value = TypeVar("Value")


def cleaned(comparison: Comparison) -> Comparison:
    """The same with harmless texts."""
    return harmless(comparison, [one.name for one in comparison.endpoints])


def harmless(value: Value, endpoints: Sequence[str]) -> Value:
    """Any value of ours that tells of these endpoints, with harmless texts."""
    return _walk(value, _names(endpoints))


def _names(given: Sequence[str]) -> dict[str, str]:
    """How each name is shown; two that look the same get a number."""
    shown: dict[str, str] = {}
    for name in given:
        look = _isolated(" ".join(plain(name).split()) or "?")
        number = 1
        while look in shown.values():
            number += 1
            look = f"{look.removesuffix(f' ({number - 1})')} ({number})"
        shown[name] = look
    return shown


def _isolated(name: str) -> str:
    """A name that is written from right to left keeps to itself, so that it does not turn our sentences."""
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in name):
        return f"\u2068{name}\u2069"
    return name


def _walk(value: Value, names: Mapping[str, str]) -> Value:
    return cast("Value", _cleaned(value, names))


def _cleaned(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        # Caveats are texts of our own, of a type of their own.
        return value if type(value) is not str else names.get(value) or plain(value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: _cleaned(getattr(value, one.name), names) for one in fields(value)}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        rows = cast("Mapping[str, Any]", value).items()
        return {_cleaned(key, names): _cleaned(one, names) for key, one in rows}
    if isinstance(value, tuple):
        return tuple(_cleaned(one, names) for one in cast("tuple[Any, ...]", value))
    return value
