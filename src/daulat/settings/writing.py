"""Settings for people: the commented file of defaults, and where each value in force comes from."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from daulat.settings.reading import FILE, HUB_VARIABLE, load, read
from daulat.settings.rules import Rule, rules
from daulat.settings.schema import NAMED, TABLES


@dataclass(frozen=True, slots=True)
class Source:
    """One setting in force, with what set it: `default`, `daulat.toml` or an environment variable."""

    key: str
    value: Any
    source: str


def sources(home: Path, environ: Mapping[str, str] = os.environ) -> list[Source]:
    """All settings of a home folder.

    Raises:
        SettingsError: its file is wrong.
    """
    settings = load(home, environ)
    path = home / FILE
    written = read(path) if path.exists() else {}

    def source(table: str, key: str) -> str:
        if (table, key) == ("models", "hub") and environ.get(HUB_VARIABLE):
            return HUB_VARIABLE
        return FILE if key in written.get(table, {}) else "default"

    plain = [
        Source(f"{table}.{key}", getattr(getattr(settings, table), key), source(table, key))
        for table, kind in TABLES.items()
        for key, (_, rule) in rules(kind).items()
        if rule.table is None
    ]
    return plain + [Source(key, value, FILE) for key, value in _below(written)]


def _below(written: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the file says in tables that have names of the user's."""
    for name in NAMED:
        yield from _leaves(name, written.get(name, {}))
    for table, kind in TABLES.items():
        for key, (_, rule) in rules(kind).items():
            if rule.table is not None:
                yield from _leaves(f"{table}.{key}", written.get(table, {}).get(key, {}))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, below in cast("dict[str, Any]", value).items():
        yield from _leaves(f"{name}.{key}", below)


def default_file() -> str:
    """A daulat.toml with every key at its default, explained, and commented out."""
    parts = [
        "# Daulat's settings, each at its default. Take away the # in front of a key to set it.\n"
    ]
    for name, kind in TABLES.items():
        parts.append(f"\n[{name}]  # {kind.__doc__}\n")
        parts += _keys(kind)
        parts += _inner(name, kind)
    for name, kind in NAMED.items():
        parts += _example(f"{name}.NAME", kind)
    return "".join(parts)


def _keys(kind: type) -> list[str]:
    parts: list[str] = []
    for key, (default, rule) in rules(kind).items():
        if rule.table is None:
            parts += [f"# {line}\n" for line in textwrap.wrap(_explained(default, rule), 96)]
            parts.append(f"#{key} = {_toml(default)}\n")
    return parts


def _inner(name: str, kind: type) -> list[str]:
    """The tables below a table, as examples."""
    return [
        part
        for key, (_, rule) in rules(kind).items()
        if rule.table is not None
        for part in [f"\n# {rule.doc}", *_example(f"{name}.{key}.NAME", rule.table)]
    ]


def _example(name: str, kind: type) -> list[str]:
    """A table that has a name of the user's: the example's own head is commented out as well."""
    return [f"\n#[{name}]  # {kind.__doc__}\n", *_keys(kind), *_inner(name, kind)]


def _explained(default: Any, rule: Rule) -> str:
    if isinstance(default, bool):
        return rule.doc
    if isinstance(default, int | float):
        return f"{rule.doc} ({rule.low:g} to {_number(rule.high)})"
    if rule.choices:
        return f"{rule.doc} ({', '.join(rule.choices)})"
    return rule.doc


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _toml(value: Any) -> str:
    # For the texts, numbers, lists and empty tables that the schema has, JSON is TOML.
    return json.dumps(value, ensure_ascii=False)
