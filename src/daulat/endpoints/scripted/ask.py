"""What a request asks, whichever vendor's words it came in, and what is wrong with one.

A prompt's tokens are those of its texts, each counted on its own: every message, the system prompt,
name, description and schema of each tool; 256 for each image or file. Not here: the vendors' fields (`wires`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import msgspec

from daulat.values.tokens import counted

MEDIA_TOKENS: Final = 256

Json = dict[str, Any]

Kind = Literal[
    "invalid",
    "unauthorized",
    "unknown_model",
    "unknown_route",
    "rate_limited",
    "server_error",
    "unavailable",
    "overloaded",
    "context_length",
    "blocked",
]


class TroubleError(Exception):
    """A request that is refused, in the vendor's words.

    Args:
        kind: which of the vendor's errors.
        message: the text; empty: the vendor's own.
        param: the field at fault.
    """

    def __init__(self, kind: Kind, message: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called; `schema` is the JSON schema of its arguments."""

    name: str
    schema: Json


@dataclass(slots=True)
class Ask:
    """A request for an answer.

    `last` is the user's last text, `replied` says that a tool's result is the last message.
    `choice` is auto, none, required, or the name of the tool that must be called.
    """

    model: str
    stream: bool = False
    last: str = ""
    prompt_tokens: int = 0
    replied: bool = False
    limit: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    parallel: bool = True
    schema: Json | None = None
    count: int = 1
    logprobs: int | None = None
    usage: bool = True
    texts: list[str] = field(default_factory=list[str])

    def heard(self, text: str, *, user: bool = False, reply: bool = False) -> None:
        """Take in a message's text."""
        self.prompt_tokens += counted(text)
        self.texts.append(text)
        self.replied = reply
        if user:
            self.last = text


def names(words: str) -> frozenset[str]:
    """A set of names, written as words."""
    return frozenset(words.split())


def canonical(value: object) -> str:
    """JSON without spaces, keys in order: the text that is counted where a vendor takes an object."""
    return msgspec.json.encode(value, order="deterministic").decode()


def tools_heard(ask: Ask, tools: Sequence[tuple[Tool, str]]) -> None:
    """Take in tools with their descriptions."""
    ask.tools = tuple(tool for tool, _description in tools)
    for tool, description in tools:
        ask.prompt_tokens += counted(tool.name) + counted(description)
        ask.prompt_tokens += counted(canonical(tool.schema)) if tool.schema else 0


class Fields:
    """A JSON object of a request, asked for its fields by type.

    Args:
        what: where it stands, for messages: `messages[0]`, empty at the top.
        allowed: its fields; others are refused by name, as the vendors do. None: any.
    """

    __slots__ = ("body", "what")

    def __init__(self, body: object, what: str = "", allowed: frozenset[str] | None = None) -> None:
        if not isinstance(body, dict):
            raise TroubleError("invalid", f"`{what or 'body'}` must be an object.", what or None)
        self.body = cast("Json", body)
        self.what = what
        if allowed is not None and not allowed.issuperset(self.body):
            name = self._name(min(self.body.keys() - allowed))
            raise TroubleError("invalid", f"Unrecognized request argument supplied: {name}", name)

    def _name(self, name: str) -> str:
        return f"{self.what}.{name}" if self.what else name

    def _wrong(self, name: str, kind: str) -> TroubleError:
        name = self._name(name)
        return TroubleError("invalid", f"Invalid type for '{name}': expected {kind}.", name)

    def missing(self, name: str) -> TroubleError:
        name = self._name(name)
        return TroubleError("invalid", f"Missing required parameter: '{name}'.", name)

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there and not be empty."""
        value = self.body.get(name)
        if value is None:
            if default is None:
                raise self.missing(name)
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        if not value and default is None:
            raise self.missing(name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "a boolean")
        return value

    def number(self, name: str, least: int, most: int = 10_000_000) -> int | None:
        """A whole number in bounds, or None."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "an integer")
        if not least <= value <= most:
            words = f"Invalid value for '{self._name(name)}': {least} to {most} are allowed."
            raise TroubleError("invalid", words, self._name(name))
        return value

    def items(self, name: str, *, required: bool = False) -> list[Any]:
        value = self.body.get(name)
        if value is None and not required:
            return []
        if value is None or value == []:
            raise self.missing(name)
        if not isinstance(value, list):
            raise self._wrong(name, "an array")
        return cast("list[Any]", value)

    def part(self, name: str, allowed: frozenset[str] | None = None) -> Fields | None:
        """An object within, or None."""
        value = self.body.get(name)
        return None if value is None else Fields(value, self._name(name), allowed)

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A text or a list of them."""
        value = self.body.get(name)
        found = [value] if isinstance(value, str) else self.items(name)
        if len(found) > most or not all(isinstance(one, str) for one in found):
            raise self._wrong(name, f"up to {most} strings")
        return tuple(found)
