"""A process that appends to the record for a busy server: `python -m daulat.record.writer`.

A server's event loop and a thread that writes wait for one interpreter, several times a statement; a process
of its own waits for the disk alone. Its socket (file descriptor 0) brings entries (`frames`), and what has
arrived goes into one transaction, as in `store`. It ends with the socket: whoever had sent what is not
written yet is gone. Signals are for the server, which closes the socket when it is done.

Not here: who starts it, and what happens when it dies (`writing`).
"""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from daulat.record import charges, frames, schema
from daulat.record.appending import Appender
from daulat.record.entering import New, enter, failure

_BATCH: Final = 256
_CHUNK: Final = 1 << 20


class Inbox:
    """What the socket brings."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._frames = frames.Frames.empty()
        self._waiting: list[bytes] = []

    def next(self, most: int) -> list[bytes]:
        """All frames that have arrived, one at least, unless the other end is closed."""
        while not self._waiting and self._receive(0):
            pass
        with contextlib.suppress(BlockingIOError):
            while 0 < len(self._waiting) < most and self._receive(socket.MSG_DONTWAIT):
                pass
        found, self._waiting = self._waiting[:most], self._waiting[most:]
        return found

    def _receive(self, flags: int) -> bool:
        data = self._link.recv(_CHUNK, flags)
        self._waiting += self._frames.cut(data)
        return bool(data)


class Writer:
    """Transactions on a connection that stays open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(writing=True)
        self._connection: Connection | None = None

    def write(self, new: list[New]) -> list[charges.Refusal | Exception | None]:
        """All in one transaction; if that fails, each in its own, so that one cannot harm another."""
        try:
            return self._written(new)
        except Exception as error:
            self._leave()
            if len(new) == 1:
                return [error]
            return [result for one in new for result in self.write([one])]

    def _written(self, new: list[New]) -> list[charges.Refusal | Exception | None]:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            appender = Appender(self._connection)
            found = enter(appender, new)
            appender.flush()
        return [one if isinstance(one, charges.Refusal) else None for one in found]

    def _leave(self) -> None:
        """A connection on which something failed is not trusted again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
                connection.close()


def serve(link: socket.socket) -> None:
    """Write what the socket brings, until it is closed."""
    inbox = Inbox(link)
    first = inbox.next(1)
    if not first:
        return
    place = frames.read_place(first[0])
    writer = Writer(schema.connect(Path(place.where) if place.path else place.where))
    link.sendall(frames.answers([]))
    while batch := inbox.next(_BATCH):
        read = [frames.read_new(frame) for frame in batch]
        results = writer.write([one for _, one in read])
        told = [_answer(number, result) for (number, _), result in zip(read, results, strict=True)]
        link.sendall(frames.answers(told))


def _answer(number: int, result: charges.Refusal | Exception | None) -> frames.Answer:
    if isinstance(result, Exception):
        return frames.Answer(number, None, str(failure(result)))
    return frames.Answer(number, result)


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as link:
        serve(link)
