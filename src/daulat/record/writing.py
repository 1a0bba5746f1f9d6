"""The writing process as a server sees it: started when there is much to write, left when it is lost.

Used on the event loop that it was started on; others write themselves. Not here: what it does (`writer`), what
is written meanwhile and afterwards (`store`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from daulat.errors import RecordError
from daulat.record import charges, frames
from daulat.record.entering import New

BUSY: Final = 32
"""Entries in one second that make another process worth its memory."""
_AGAIN: Final = 60.0
"""Seconds until another is started, where one was lost."""

log = logging.getLogger(__name__)
Waiting = asyncio.Future[charges.Refusal | None]
Lost = Callable[[New, Waiting], None]


class LostError(Exception):
    """The process has ended before it was ready."""


class Writing:
    """Starts the process on its own when `post` is asked for often; until it is there, `post` has no answer.

    Args:
        where: the database, as `schema.connect` takes it.
        lost: gets each entry of which nobody knows whether the process had written it, and who waits.
    """

    def __init__(self, where: str | Path, lost: Lost) -> None:
        self._where = where
        self._lost_entry = lost
        self._second, self._count, self._not_before = 0, 0, 0.0
        self._closed = False
        self._starting: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None

    def post(self, one: New) -> Waiting | None:
        """Hand an entry over; None: the caller writes it.

        The future raises RecordError where it could not be written.
        """
        if self._link is not None:
            return self._link.post(one)
        if self._is_busy() and self._starting is None and time.monotonic() >= self._not_before:
            self._starting = asyncio.ensure_future(self._start())
        return None

    async def close(self) -> None:
        """Wait for what was handed over, and let the process end; from now on the caller writes."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        self.end()

    def end(self) -> None:
        """See that the process is gone, whatever it was doing."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            link.closing = True
        self._kill()

    def _is_busy(self) -> bool:
        second = int(time.monotonic())
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        return self._count >= BUSY and not self._closed

    async def _start(self) -> None:
        ours, link = None, _Link(self._lost, self._lost_entry)
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = _started(theirs)  # a millisecond or two, once
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            await link.greet(frames.Place(os.fsencode(self._where), isinstance(self._where, Path)))
            self._link = link
        except Exception as error:
            self._lost(str(error) or type(error).__name__)
        finally:
            self._starting = None
            if self._link is None and not link.abort() and ours is not None:
                ours.close()

    def _lost(self, why: str) -> None:
        log.warning("the process that writes the record is gone", extra={"why": why})
        self._not_before = time.monotonic() + _AGAIN
        self._link = None
        self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class _Link(asyncio.Protocol):
    """The socket's end here. `closing`: that it is closed is no surprise."""

    def __init__(self, lost: Callable[[str], None], lost_entry: Lost) -> None:
        self._lost = lost
        self._lost_entry = lost_entry
        self._transport: asyncio.Transport | None = None
        self._frames = frames.Frames()
        self._unsent: list[bytes] = []
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[New, Waiting]] = {}
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self.closing = False

    async def greet(self, place: frames.Place) -> None:
        """Say where the record is, and wait until entries may come.

        Raises:
            LostError: the process has ended.
        """
        self._send(frames.place(place))
        await self._ready

    def post(self, one: New) -> Waiting | None:
        """Send an entry. None: this is another event loop, or a text has half a surrogate pair."""
        if asyncio.get_running_loop() is not self._loop:
            return None
        number = next(self._numbers)
        try:
            self._send(frames.new(number, one))
        except UnicodeEncodeError:
            return None
        future: Waiting = self._loop.create_future()
        self._waiting[number] = one, future
        return future

    async def close(self) -> None:
        """Wait for all answers, then close the socket."""
        if self._waiting:
            await asyncio.wait([future for _, future in self._waiting.values()])
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> bool:
        """Close the socket at once, if it is this end's."""
        if self._transport is not None:
            self.closing = True
            self._transport.abort()
        return self._transport is not None

    def _send(self, frame: bytes) -> None:
        if self._transport is None:
            raise LostError("it has ended")
        # What comes in one turn of the event loop goes out in one piece.
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(b"".join(unsent))

    # --- what the event loop calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.cut(data):
            if not self._ready.done():
                self._ready.set_result(None)
            for answer in frames.read_answers(frame):
                self._answered(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        was_ready = self._ready.done()
        if not was_ready:
            self._ready.set_exception(LostError("it has ended"))
        elif not self.closing:
            self._lost(str(exc or "it has ended"))
        left, self._waiting = self._waiting, {}
        for one, future in left.values():
            if not future.done():
                self._lost_entry(one, future)

    def _answered(self, answer: frames.Answer) -> None:
        _, future = self._waiting.pop(answer.number)
        if future.done():  # nobody waits any more
            return
        if answer.error is not None:
            future.set_exception(RecordError(answer.error))
        else:
            future.set_result(answer.refusal)


def _started(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """The process, in a session of its own: signals from a terminal are for the server."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "daulat.record.writer"],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
