"""Which trace the calls of a request belong to: W3C Trace Context, `traceparent` in and out.

Only the three numbers of `traceparent` pass: `tracestate` and `baggage` hold whatever a client writes, and
that must not reach an endpoint around the policy. Source: https://www.w3.org/TR/trace-context/. Not here:
spans, and where they are sent (`server.telemetry`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

HEADER: Final = "traceparent"
_FORM: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII,
)
_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """A span's place in a trace.

    Attributes:
        trace: 128 bits.
        span: 64 bits.
        sampled: whether the trace is kept.
        parent: the span above it, in another process; 0: none.
    """

    trace: int
    span: int
    sampled: bool
    parent: int = 0

    def header(self) -> str:
        """As `traceparent` has it."""
        return f"00-{self.trace:032x}-{self.span:016x}-{int(self.sampled):02x}"

    def attempt(self, number: int) -> Place:
        """The place of the span of a request's attempt. The same each time, so that it can be told to the
        endpoint before its span is made."""
        seed = self.span.to_bytes(8, "big") + number.to_bytes(8, "big")
        digest = hashlib.blake2b(seed, digest_size=8, key=self.trace.to_bytes(16, "big")).digest()
        return Place(self.trace, int.from_bytes(digest, "big") or 1, self.sampled)


_REQUEST: ContextVar[Place | None] = ContextVar("request", default=None)
_ATTEMPT: ContextVar[Place | None] = ContextVar("attempt", default=None)


def read(header: str) -> Place | None:
    """The place that a `traceparent` names; None: it is none, and a trace begins here.

    A version above 00 may have more behind the fields that are known; version 00 may not.
    """
    found = _FORM.fullmatch(header) if len(header) <= 512 else None
    if found is None or (header.startswith("00") and found[4] is not None):
        return None
    return Place(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


def enter(place: Place) -> None:
    """What this task, and those that it starts, do from now on belongs to that request."""
    _REQUEST.set(place)


def attempt(number: int) -> None:
    """An attempt of the request begins; without a trace nothing happens."""
    place = _REQUEST.get()
    if place is not None:
        _ATTEMPT.set(place.attempt(number))


def headers() -> Mapping[str, str]:
    """What the call of an endpoint says of its trace; nothing without one."""
    place = _ATTEMPT.get()
    return _NOTHING if place is None else {HEADER: place.header()}
