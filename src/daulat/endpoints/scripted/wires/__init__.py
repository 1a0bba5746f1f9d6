"""The vendors' wire protocols, one module each: their words into an `Ask`, a `Reply` into their bytes.

Not here: sockets and faults (`program`), keys (`access`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from daulat.endpoints.scripted.ask import Ask, Json, TroubleError
from daulat.endpoints.scripted.reply import Reply, costs
from daulat.endpoints.scripted.script import pieces

Headers = list[tuple[bytes, bytes]]

JSON_TYPE: Final = b"application/json"
encode: Final = msgspec.json.encode


@dataclass(slots=True)
class Frames:
    """A streamed answer as events in bytes; the i-th piece carries `costs[i]` tokens.

    `more` makes a content event of any text; `error` is the vendor's error event; `done` the end mark.
    """

    opening: bytes
    pieces: Sequence[bytes]
    costs: Sequence[int]
    closing: bytes
    done: bytes
    more: Callable[[str], bytes]
    error: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """What the path of a request said."""

    model: str = ""
    stream: bool = False
    azure: bool = False
    query: str = ""
    strict: bool = True
    dimensions: int = 64

    def allowed(self, names: frozenset[str]) -> frozenset[str] | None:
        """The fields that are taken; None: any."""
        return names if self.strict else None


class Wire(Protocol):
    """A vendor's protocol for answers."""

    name: str

    def ask(self, body: Json, target: Target) -> Ask:
        """Read a request.

        Raises:
            TroubleError: it is not as the vendor wants it.
        """
        ...

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        """The answer in one body."""
        ...

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        """The answer as events; `tiny`: tools in deltas of one character."""
        ...

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        """Status and body of an error."""
        ...


@functools.lru_cache(maxsize=256)
def encoded(text: str) -> tuple[bytes, ...]:
    """The text's pieces as JSON strings."""
    return tuple(encode(piece) for piece in pieces(text))


@functools.lru_cache(maxsize=256)
def text_costs(text: str) -> tuple[int, ...]:
    """The tokens that each piece of the text adds."""
    return tuple(costs(pieces(text)))


def split(text: str, tiny: bool) -> tuple[str, ...]:
    """Pieces of one token, or of one character."""
    return tuple(text) if tiny else pieces(text)


def data(value: Any) -> bytes:
    """An SSE event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def event(name: str, value: Any) -> bytes:
    """An SSE event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + encode(value) + b"\n\n"


def templated(make: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    """What stands before and behind the JSON string of a text in the event that `make` makes of it."""
    before, _mark, behind = make("\u2603\u2603").partition('"\u2603\u2603"'.encode())
    return before, behind


def filled(make: Callable[[str], bytes], text: str) -> list[bytes]:
    """The events of a text, a token each: `make` is asked once, the rest is joining bytes."""
    if not text:
        return []
    before, behind = templated(make)
    return [before + word + behind for word in encoded(text)]
