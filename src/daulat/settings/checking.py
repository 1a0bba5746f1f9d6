"""TOML values against the tables' rules: every fault with the place where it stands, and the built tables.

Not here: files and lines (`reading`), what the names in one table mean in another (`house`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from daulat.settings.rules import Rule, rules
from daulat.settings.schema import NAMED, TABLES

Keys = tuple[str, ...]
Fault = tuple[Keys, str]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MONEY = Decimal(10**9)


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """A table from sound values: lists as tuples, tables below it as what they are."""
    known = rules(kind)
    return kind(**{key: _built(value, known[key][1]) for key, value in values.items()})


def _built(value: Any, rule: Rule) -> Any:
    if rule.table is not None:
        return {name: build(rule.table, table) for name, table in value.items()}
    if rule.money:
        return str(value)
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong, in the order of the file."""
    for name, table in values.items():
        if name in TABLES:
            yield from _table_faults((name,), table, TABLES[name])
        elif name in NAMED:
            yield from _named_faults((name,), table, NAMED[name])
        else:
            yield (name,), f"there is no setting [{name}]. {_nearest(name, [*TABLES, *NAMED])}"


def _table_faults(at: Keys, table: Any, kind: type) -> Iterator[Fault]:
    name = ".".join(at)
    if not isinstance(table, dict):
        yield at, f"{name} is a table; write [{name}] and its keys below."
        return
    known = rules(kind)
    for key, value in cast("dict[str, Any]", table).items():
        here = (*at, key)
        if key not in known:
            yield here, f"[{name}] has no {key!r}. {_nearest(key, known)}"
        elif (below := known[key][1].table) is not None:
            yield from _named_faults(here, value, below, known[key][1].many)
        elif fault := _fault(value, *known[key]):
            yield here, f"{name}.{key} must be {fault}, not {_shown(value)}."


def _named_faults(at: Keys, value: Any, kind: type, many: int = 256) -> Iterator[Fault]:
    name = ".".join(at)
    if not isinstance(value, dict):
        yield at, f"{name} holds tables; write [{name}.NAME] and its keys below."
        return
    table = cast("dict[str, Any]", value)
    if len(table) > many:
        yield at, f"{name} may have {many} tables; there are {len(table)}."
    for one, below in table.items():
        if (at[-1] in _FREE_NAMES and 1 <= len(one) <= 256) or NAME.fullmatch(one):
            yield from _table_faults((*at, one), below, kind)
        else:
            yield (
                (*at, one),
                f"{one[:64]!r} is no name: use 1 to 64 letters, digits, dots, hyphens and underscores.",
            )


_FREE_NAMES = ("prices", "routes")  # models' names, which have slashes and colons


def _fault(value: Any, default: Any, rule: Rule) -> str:
    """What the value should have been; empty where it is right."""
    if rule.money:
        return _money_fault(value)
    match default:
        case bool():
            return "" if isinstance(value, bool) else "true or false"
        case int() | float():
            return _number_fault(value, default, rule)
        case tuple():
            return _list_fault(value, rule)
        case dict():
            return _pairs_fault(value, rule)
        case _:
            return _text_fault(value, rule)


def _number_fault(value: Any, default: float, rule: Rule) -> str:
    whole = isinstance(default, int)
    kinds = int if whole else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and rule.low <= value <= rule.high:
        return ""
    return f"a {'whole ' if whole else ''}number from {rule.low:g} to {_number(rule.high)}"


def _list_fault(value: Any, rule: Rule) -> str:
    items = cast("list[Any]", value) if isinstance(value, list) else None
    numbers = rule.low == 0
    if items is None or len(items) > rule.many:
        return f"a list of at most {rule.many} {'numbers' if numbers else 'texts'}"
    if numbers:
        right = all(
            isinstance(item, int | float) and not isinstance(item, bool) and 0 < item <= rule.high
            for item in items
        )
        return "" if right else f"a list of numbers above 0, at most {rule.high:g}"
    right = all(isinstance(item, str) and 1 <= len(item) <= rule.high for item in items)
    return "" if right else f"a list of texts of 1 to {rule.high:g} characters"


def _pairs_fault(value: Any, rule: Rule) -> str:
    pairs = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    right = (
        pairs is not None
        and len(pairs) <= rule.many
        and all(isinstance(item, str) and len(item) <= rule.high for item in pairs.values())
    )
    return (
        "" if right else f"a table of at most {rule.many} texts of at most {rule.high:g} characters"
    )


def _text_fault(value: Any, rule: Rule) -> str:
    if rule.choices:
        if isinstance(value, str) and value in rule.choices:
            return ""
        near = difflib.get_close_matches(str(value), rule.choices, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return "one of " + ", ".join(map(repr, rule.choices)) + hint
    right = isinstance(value, str) and rule.low <= len(value) <= rule.high
    return "" if right else f"a text of {rule.low} to {rule.high} characters"


def _money_fault(value: Any) -> str:
    expected = 'a decimal number from 0 to 1000000000, such as "12.50"'
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return expected
    if value == "":
        return ""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return expected
    exponent = number.as_tuple().exponent
    sound = isinstance(exponent, int) and -12 <= exponent <= 12
    return "" if sound and 0 <= number <= _MONEY else expected


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else "There are: " + ", ".join(names) + "."


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
