"""What the vendor would bill, and what was asked: the books of the scripted upstream.

Not here: how tokens are counted (`values.tokens`), what is sent (`program`).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from daulat.endpoints.scripted.ask import Json
from daulat.endpoints.scripted.reply import Usage

_SECRETS: Final = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})
_SHOWN: Final = 4


class Entry(msgspec.Struct):
    """One request: what is billed for it. `status` is 0 where the connection died before it."""

    id: str
    protocol: str
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0
    stream: bool = False
    fault: str | None = None
    status: int = 0
    complete: bool = False

    def begin(self, usage: Usage) -> None:
        """Bill what is spent before the first token: the prompt and the thinking."""
        self.prompt_tokens = usage.prompt
        self.cached_tokens = usage.cached
        self.cache_written_tokens = usage.cache_written
        self.reasoning_tokens = usage.reasoning
        self.completion_tokens = usage.reasoning


_BILLED: Final = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_written_tokens",
    "reasoning_tokens",
)


class Ledger:
    """The entries in their order; the oldest go when there are more than `kept`, totals count all."""

    def __init__(self, kept: int) -> None:
        self._entries: deque[Entry] = deque()
        self._kept = kept
        self._gone = dict.fromkeys(("requests", *_BILLED), 0)

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        # An entry still grows while its answer is sent: only those long gone leave.
        while len(self._entries) > self._kept + 4096:
            old = self._entries.popleft()
            self._gone["requests"] += 1
            for name in _BILLED:
                self._gone[name] += getattr(old, name)

    def body(self) -> Json:
        """`{"entries": […], "totals": {…}}`."""
        entries = list(self._entries)
        totals = {
            name: gone + sum(getattr(entry, name) for entry in entries)
            for name, gone in self._gone.items()
            if name != "requests"
        }
        totals["requests"] = self._gone["requests"] + len(entries)
        return {"entries": entries[-self._kept :] if self._kept else [], "totals": totals}


class Requests:
    """The last requests as they came, secrets masked."""

    def __init__(self, kept: int) -> None:
        self._kept: deque[tuple[str, str, str, list[tuple[bytes, bytes]], bytes]] = deque(
            maxlen=min(kept, 1000)
        )

    def add(self, ident: str, scope: Any, body: bytes) -> None:
        query = scope["query_string"].decode("latin-1")
        self._kept.append((ident, scope["path"], query, scope["headers"], body))

    def body(self) -> Json:
        """`{"requests": [{id, path, query, headers, body}]}`; a body that is not JSON as text."""
        return {
            "requests": [
                {
                    "id": ident,
                    "path": path,
                    "query": _masked_query(query),
                    "headers": {
                        (key := name.decode("latin-1")): masked(key, value.decode("latin-1"))
                        for name, value in headers
                    },
                    "body": _read(body),
                }
                for ident, path, query, headers, body in self._kept
            ]
        }


def masked(name: str, value: str) -> str:
    """A header's value; a secret's last four characters, if it is long."""
    if name not in _SECRETS:
        return value
    scheme, space, secret = value.partition(" ")
    if not space:
        scheme, secret = "", value
    return f"{scheme}{space}***{secret[-_SHOWN:] if len(secret) > 4 * _SHOWN else ''}"


def _masked_query(query: str) -> str:
    parts = query.split("&")
    return "&".join("key=***" if part.startswith("key=") else part for part in parts)


def _read(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
