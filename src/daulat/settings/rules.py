"""What a key of a settings table may hold: the rules that the tables are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be.

    Attributes:
        doc: one or two sentences for the user.
        low, high: bounds of a number, or of a text's length.
        choices: the words allowed; empty: any text.
        many: most items of a list or table.
        table: the dataclass of the tables below this key, which have names of the user's.
        money: a decimal number, kept as a text.
    """

    doc: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    many: int = 0
    table: type | None = None
    money: bool = False


def scalar(
    default: Any, doc: str, low: float = 0, high: float = 0, choices: tuple[str, ...] = ()
) -> Any:
    """A whole number, a number, a yes or no, a text, or one of some words, as its default is."""
    return field(default=default, metadata={"rule": Rule(doc, low, high, choices)})


def texts(doc: str, many: int = 256, *, longest: int = 256) -> Any:
    """A list of texts; empty where nothing is said."""
    rule = Rule(doc, 1, longest, many=many)
    return field(default=(), metadata={"rule": rule})


def numbers(doc: str, high: float, many: int = 64) -> Any:
    """A list of numbers above 0; empty where nothing is said."""
    return field(default=(), metadata={"rule": Rule(doc, 0, high, many=many)})


def pairs(doc: str, many: int = 256, *, longest: int = 1024) -> Any:
    """A table of texts by names of the user's."""
    rule = Rule(doc, 0, longest, many=many)
    return field(default_factory=dict[str, str], metadata={"rule": rule})


def money(doc: str) -> Any:
    """A decimal number of the currency's units; empty: none."""
    return field(default="", metadata={"rule": Rule(doc, money=True)})


def tables(kind: type, doc: str, many: int = 256) -> Any:
    """Tables of one kind by names of the user's."""
    rule = Rule(doc, many=many, table=kind)
    return field(default_factory=dict[str, Any], metadata={"rule": rule})


def rules(table: type) -> dict[str, tuple[Any, Rule]]:
    """Key to default and rule, in the order of the file."""
    return {
        f.name: (f.default if f.default_factory is _MISSING else {}, f.metadata["rule"])
        for f in fields(table)
    }


_MISSING = field().default_factory
