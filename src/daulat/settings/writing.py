"""Settings for people: the commented file of defaults, and where each value in force comes from."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daulat.settings.reading import FILE, HUB_VARIABLE, load, read
from daulat.settings.schema import TABLES, Rule, rules


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

    return [
        Source(f"{table}.{key}", getattr(getattr(settings, table), key), source(table, key))
        for table, kind in TABLES.items()
        for key in rules(kind)
    ]


def default_file() -> str:
    """A daulat.toml with every key at its default, explained, and commented out."""
    parts = [
        "# Daulat's settings, each at its default. Take away the # in front of a key to set it.\n"
    ]
    for name, kind in TABLES.items():
        parts.append(f"\n[{name}]  # {kind.__doc__}\n")
        for key, (default, rule) in rules(kind).items():
            parts += [f"# {line}\n" for line in textwrap.wrap(_explained(default, rule), 96)]
            parts.append(f"#{key} = {_toml(default)}\n")
    return "".join(parts)


def _explained(default: Any, rule: Rule) -> str:
    if isinstance(default, int):
        return f"{rule.doc} ({rule.low} to {rule.high})"
    if rule.choices:
        return f"{rule.doc} ({', '.join(rule.choices)})"
    return rule.doc


def _toml(value: Any) -> str:
    # For the texts and numbers that the schema has, JSON is TOML.
    return json.dumps(value, ensure_ascii=False)
