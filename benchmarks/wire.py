"""The least of HTTP/1.1 that a load needs: keep-alive connections, one request on each at a time.

Answers are framed by Content-Length or in chunks, as RFC 9112 has them; what else a server may do (trailers,
bodies that end with the connection, interim answers) is refused as broken rather than guessed at. Not a client
for anything but benchmarks/load.py, which has to cost less than what it measures.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Protocol, cast
from urllib.parse import urlsplit

HEAD = 1 << 16
"""Bytes of an answer's head, at most."""
STALE = 2.0
"""Seconds without a request after which a connection is not trusted: servers close idle ones after five."""


class Broken(Exception):
    """What came is no whole answer; the text says why."""


class Framing:
    """Takes an answer's bytes as they arrive; gives those of its body, and knows the end."""

    __slots__ = ("_buffer", "_chunked", "_left", "done", "keep", "status")

    def __init__(self) -> None:
        self.status, self.done, self.keep = 0, False, True
        self._buffer, self._chunked, self._left = b"", False, 0

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes, which may be none.

        Raises:
            Broken: they are no answer, or more than one.
        """
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if not self.status:
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                if len(head) > HEAD:
                    raise Broken("the head of the answer has no end")
                self._buffer = head
                return b""
            self._head(head)
        body = self._chunks(data) if self._chunked else self._counted(data)
        if self.done and self._buffer:
            raise Broken("bytes behind the answer")
        return body

    def _head(self, head: bytes) -> None:
        line, _, rest = head.partition(b"\r\n")
        if not line.startswith(b"HTTP/1.1 ") or not line[9:12].isdigit():
            raise Broken("no answer of HTTP/1.1")
        pairs = (field.partition(b":") for field in rest.lower().split(b"\r\n"))
        fields = {name: value.strip() for name, _, value in pairs}
        self._chunked = fields.get(b"transfer-encoding") == b"chunked"
        if not self._chunked:
            length = fields.get(b"content-length", b"")
            if not length.isdigit():
                raise Broken("an answer with neither a length nor chunks")
            self._left = int(length)
        self.keep = fields.get(b"connection") != b"close"
        self.status = int(line[9:12])

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise Broken("more bytes than the answer's length")
        self.done = self._left == 0
        return data

    def _chunks(self, data: bytes) -> bytes:
        """Whole chunks only; the rest waits for more."""
        found, at = list[bytes](), 0
        while (line := data.find(b"\r\n", at)) >= 0:
            size, start = _size(data[at:line]), line + 2
            if len(data) < start + size + 2:
                break
            if data[start + size : start + size + 2] != b"\r\n":
                raise Broken("a chunk of another length than it says")
            at = start + size + 2
            if not size:
                self.done = True
                break
            found.append(data[start : start + size])
        self._buffer = data[at:]
        return b"".join(found)


def _size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise Broken("a chunk without a length") from None
    if not 0 <= size < 1 << 30:
        raise Broken("a chunk of an impossible length")
    return size


class Asked(Protocol):
    """One request's side of a connection."""

    def request(self) -> bytes:
        """What to send; asked for when it is sent."""
        ...

    def piece(self, body: bytes) -> None:
        """A part of the body has come."""
        ...

    def end(self, status: int, broken: str) -> None:
        """The answer is whole, or (where `broken` says why) will never be."""
        ...


class Connection(asyncio.Protocol):
    """Keep-alive: carries one request after the other, and goes back to its owner between them."""

    def __init__(self, freed: Callable[[Connection], None]) -> None:
        self._freed = freed
        self._asked: Asked | None = None
        self._framing = Framing()
        self._transport: asyncio.Transport | None = None
        self.since = 0.0
        """When the last answer ended."""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def carries(self, asked: Asked) -> bool:
        """Is its answer still to come, here?"""
        return self._asked is asked

    def send(self, asked: Asked) -> None:
        assert self._asked is None
        assert self._transport is not None
        self._asked, self._framing = asked, Framing()
        self._transport.write(asked.request())

    def abort(self) -> None:
        """Close without another word; what was asked hears nothing more."""
        self._asked = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        asked, framing = self._asked, self._framing
        if asked is None:
            self.abort()
            return
        try:
            body = framing.feed(data)
        except Broken as wrong:
            self._end(asked, str(wrong))
            return
        if body:
            asked.piece(body)
        if framing.done:
            self._end(asked, "")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked is not None:
            self._end(self._asked, f"the connection was closed: {exc or 'no reason'}")

    def _end(self, asked: Asked, broken: str) -> None:
        """Free first: what hears of the end may want to ask again at once."""
        status, self._asked = self._framing.status, None
        if broken or not self._framing.keep:
            self.abort()
        self._freed(self)
        asked.end(status, broken)


class Pool:
    """Connections, and requests that wait for one.

    The one longest idle goes first, so that every worker process of a server gets its share.
    """

    def __init__(self, url: str, most: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host, self.port = parts.hostname, parts.port or 80
        self._most, self._count, self.peak = most, 0, 0
        self._idle = collections.deque[Connection]()
        self._waiting = collections.deque[Asked]()
        self._busy = dict[Asked, Connection]()
        self._opening = set[asyncio.Task[None]]()

    async def open(self, count: int) -> None:
        """Have so many connections before the first request."""
        await asyncio.gather(*(self._open() for _ in range(count)))

    def ask(self, asked: Asked) -> None:
        connection = self._fresh()
        if connection is not None:
            self._send(connection, asked)
            return
        self._waiting.append(asked)
        self._another()

    def ended(self, asked: Asked) -> None:
        """To be told when an answer ended, or nobody waits for it any more."""
        connection = self._busy.pop(asked, None)
        if connection is None:
            if asked in self._waiting:
                self._waiting.remove(asked)
        elif connection.carries(asked):
            connection.abort()
            self._freed(connection)

    def _another(self) -> None:
        if self._count < self._most:
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        self._count += 1
        self.peak = max(self.peak, self._count)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._freed), self.host, self.port
            )
        except OSError as refused:
            self._count -= 1
            if self._waiting:
                self._waiting.popleft().end(0, f"no connection: {refused}")
            return
        self._give(connection)

    def _fresh(self) -> Connection | None:
        while self._idle:
            connection = self._idle.popleft()
            if connection.open and time.monotonic() - connection.since < STALE:
                return connection
            connection.abort()
            self._count -= 1
        return None

    def _send(self, connection: Connection, asked: Asked) -> None:
        self._busy[asked] = connection
        connection.send(asked)

    def _freed(self, connection: Connection) -> None:
        if connection.open:
            self._give(connection)
            return
        self._count -= 1
        if self._waiting:
            self._another()

    def _give(self, connection: Connection) -> None:
        connection.since = time.monotonic()
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)
