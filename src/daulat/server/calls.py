"""One call: who asks, the body within its limit, and the client's leaving noticed soon."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from daulat.deadline import Deadline
from daulat.errors import AuthenticationError, MediaTypeError, RequestError, TooLargeError
from daulat.flow import Hall
from daulat.server.metrics import Metrics
from daulat.server.trace import Trace, trace_of
from daulat.values.plan import Caller

T = TypeVar("T")

VERSION = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_BODY_SECONDS = 60.0  # for a whole body to arrive
_UNWATCHED_SECONDS = 0.02  # a task to watch a client costs a quick answer more than its leaving
_STALL_SECONDS = 60.0  # for a client to take what was sent


class ClientGone(Exception):
    """Nobody waits for this answer any more."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets: `caller` is None on open routes; `description` is the OpenAPI JSON; `home` is the
    house's folder, None where there is none."""

    hall: Hall
    metrics: Metrics
    description: bytes
    home: Path | None
    caller: Caller | None
    body: bytes
    scope: Scope
    receive: Receive
    send: Send

    @property
    def trace(self) -> Trace:
        return trace_of(self.scope)

    @property
    def known(self) -> Caller:
        """The caller of a guarded route."""
        if self.caller is None:
            raise AuthenticationError("This needs a key: send it as `Authorization: Bearer …`.")
        return self.caller


class Delivery:
    """Sends to a client, and gives up on one that takes nothing for a minute; close it in the end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._deadline = Deadline()

    async def deliver(self, message: Message) -> None:
        """Send.

        Raises:
            ClientGone: it hung up or stalled.
        """
        try:
            with self._deadline.until(time.monotonic() + _STALL_SECONDS):
                await self._send(message)
        except OSError as error:  # a TimeoutError is one
            raise ClientGone from error

    def close(self) -> None:
        """Nothing more is sent."""
        self._deadline.close()


def bearer(headers: Headers) -> str | None:
    """The secret of `Authorization: Bearer …`."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def check_version(headers: Headers) -> None:
    """Anthropic's API asks for the version that a client was written for; any is taken.

    Raises:
        RequestError: none is given, or something else than letters, digits, dots and dashes.
    """
    if not VERSION.fullmatch(headers.get("anthropic-version", "")):
        raise RequestError(
            "The header `anthropic-version` is missing, or no version: send "
            "`anthropic-version: 2023-06-01`.",
            param="anthropic-version",
        )


async def read_json(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes, refused as soon as it is known to be longer.

    Raises:
        MediaTypeError: not declared as JSON, or encoded.
        TooLargeError: longer than `limit`.
        RequestError: it did not arrive.
        ClientGone: the client hung up.
    """
    _check_type(headers)
    declared = headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    deadline = Deadline()
    try:
        with deadline.until(time.monotonic() + _BODY_SECONDS):
            return await _read(receive, limit)
    except TimeoutError:
        raise RequestError("The body did not arrive within a minute: send it again.") from None
    finally:
        deadline.close()


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _check_type(headers: Headers) -> None:
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise MediaTypeError("Send the body as JSON, with `Content-Type: application/json`.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise MediaTypeError("Send the body as it is, without Content-Encoding.")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"The body is longer than {limit} bytes: shorten it, or raise `max_body` in [server]."
    )


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do `work` while the client is there; when it leaves, the work is cancelled and awaited.

    What is done in no time is not watched.

    Raises:
        ClientGone: it left.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    watch: asyncio.Future[None] | None = None
    gone = over = False

    def begin() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(_left(receive))
        watch.add_done_callback(left)

    def left(ended: asyncio.Future[None]) -> None:
        nonlocal gone
        # It may have been on its way here when the work was done.
        if not ended.cancelled() and not over:
            ended.exception()  # whatever it was, nobody is there
            gone = True
            task.cancel()

    timer = asyncio.get_running_loop().call_later(_UNWATCHED_SECONDS, begin)
    try:
        result = await work
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    else:
        if gone:
            task.uncancel()
        return result
    finally:
        over = True
        timer.cancel()
        if watch is not None:
            watch.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
