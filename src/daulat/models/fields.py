"""Reading a model's own description with a floor and a ceiling on every number.

A `Fields` wraps config.json or GGUF metadata. Each getter names the key and the file format in its error,
so that a damaged or lying description is told apart from one that we do not support.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from daulat.errors import ModelFileError


class Fields:
    """Typed, bounded access to a description.

    Args:
        values: key to value, as parsed.
        where: what the errors call it, such as `config.json`.
        aliases: our key to the description's key, where they differ.
        defaults: values (under our keys) that the format leaves out when they are the usual ones.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str,
        aliases: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._values = values
        self._where = where
        self._aliases = aliases or {}
        self._defaults = defaults or {}

    def get(self, key: str) -> Any:
        """The raw value, the default, or None."""
        value = self._values.get(self._aliases.get(key, key))
        return self._defaults.get(key) if value is None else value

    def is_null(self, key: str) -> bool:
        """Whether the description says `null`, as against saying nothing."""
        name = self._aliases.get(key, key)
        return name in self._values and self._values[name] is None

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number within [low, high]."""
        value = self.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number within [low, high]."""
        value = self.get(key)
        value = default if value is None else value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise self._wrong(key, value, f"a number from {low} to {high}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, options: Mapping[str, Any], default: str | None = None) -> Any:
        """What `options` gives for a word."""
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, str) or value not in options:
            raise self._wrong(key, value, "one of " + ", ".join(sorted(options)))
        return options[value]

    def words(self, key: str, length: int) -> tuple[str, ...] | None:
        """A list of exactly `length` strings; None where the key is absent."""
        value = self.get(key)
        if value is None:
            return None
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or len(cast("Sequence[Any]", value)) != length
            or not all(isinstance(word, str) for word in cast("Sequence[Any]", value))
        ):
            raise self._wrong(key, value, f"a list of {length} words")
        return tuple(cast("Sequence[str]", value))

    def table(
        self,
        key: str,
        aliases: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Fields | None:
        """A nested table, read with its own aliases and defaults; None where the key is absent."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "a table")
        values = cast("Mapping[str, Any]", value)
        return Fields(values, f"{self._where}, {key}", aliases, defaults)

    def wrong(self, key: str, allowed: str) -> ModelFileError:
        """The error for a value that this object's getters could not judge."""
        return self._wrong(key, self.get(key), allowed)

    def _wrong(self, key: str, value: Any, allowed: str) -> ModelFileError:
        name = self._aliases.get(key, key)
        shown = "nothing" if value is None else repr(value)[:80]
        return ModelFileError(f"{self._where}: {name} must be {allowed}, but it is {shown}.")
