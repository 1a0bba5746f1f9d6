"""What goes over the wire, byte by byte and second by second: a program, sent and billed.

Not here: what the bytes say (`wires`), how a fault changes them (`breaking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from daulat.endpoints.scripted.ledger import Entry
from daulat.endpoints.scripted.reply import Usage
from daulat.endpoints.scripted.wires import JSON_TYPE, Headers

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

# The server puts the connection's transport here: only it can cut an answer.
TRANSPORT: Final = "daulat.transport"

_PAGE: Final = b"<!doctype html><title>Sign in</title><p>Please sign in to the network.\n"
_ENDLESS_PAUSE: Final = 0.001
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


@dataclass(slots=True)
class Step:
    """Bytes that go out together, the tokens in them, and the seconds waited before."""

    data: bytes
    tokens: int = 0
    wait: float = 0.0


@dataclass(slots=True)
class Program:
    """An answer on the wire; `status` 0: the connection is closed before a byte of it.

    `length` is the content-length that is promised; without it the body is chunked. `cut`: the event
    inside which the connection ends. `usage`: what is billed; the prompt with the status line, the answer
    as it goes out.
    """

    status: int
    steps: Iterable[Step]
    headers: Headers = field(default_factory=list[tuple[bytes, bytes]])
    length: int | None = None
    ending: Literal["end", "cut", "stall"] = "end"
    cut: bytes = b""
    late: float = 0.0
    usage: Usage | None = None


def plain(
    status: int, body: bytes, kind: bytes = JSON_TYPE, headers: Sequence[Any] = ()
) -> Program:
    """A whole body."""
    return Program(status, [Step(body)], [(b"content-type", kind), *headers], len(body))


class Line:
    """A connection: what the server gave for one request."""

    __slots__ = ("_receive", "_send", "_transport")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._transport = scope.get("extensions", {}).get(TRANSPORT)

    @property
    def gone(self) -> bool:
        """The client has left, or the connection is closed."""
        return self._transport is not None and self._transport.is_closing()

    async def begin(self, program: Program) -> None:
        headers = program.headers
        if program.length is not None:
            headers = [*headers, (b"content-length", b"%d" % program.length)]
        start = {"type": "http.response.start", "status": program.status, "headers": headers}
        await self._send(start)

    async def send(self, data: bytes, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def cut(self, inside: bytes) -> None:
        """Close the connection, within an HTTP chunk that promises `inside` and gives half of it.

        Raises:
            ConnectionError: the server gave no transport (it is not `server.Server`): it has to end the
                connection on its own.
        """
        if self._transport is None:
            raise ConnectionError("The script cuts this connection.")
        if inside:
            self._transport.write(b"%x\r\n" % len(inside) + inside[: len(inside) // 2])
        self._transport.close()
        await self.stall()

    async def stall(self) -> None:
        """Wait until the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def run(program: Program, line: Line, entry: Entry) -> None:
    """Send a program and bill what goes out."""
    if program.late:
        await asyncio.sleep(program.late)
    entry.status = program.status
    if program.status:
        await line.begin(program)
        if program.usage is not None:
            entry.begin(program.usage)
        if not await _send_steps(program, line, entry):
            return
    match program.ending:
        case "cut":
            await line.cut(program.cut)
        case "stall":
            await line.stall()
        case "end":
            entry.complete = True


async def _send_steps(program: Program, line: Line, entry: Entry) -> bool:
    """Whether all of it went out."""
    ends = program.ending == "end"
    before: Step | None = None
    for step in program.steps:
        if before is not None and not await _send_step(before, line, entry, True):
            return False
        before = step
    last = before or Step(b"")
    return await _send_step(last, line, entry, not ends)


async def _send_step(step: Step, line: Line, entry: Entry, more: bool) -> bool:
    if step.wait:
        await asyncio.sleep(step.wait)
    if line.gone:
        return False
    await line.send(step.data, more)
    entry.completion_tokens += step.tokens
    return True
