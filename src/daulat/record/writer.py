"""A process that appends to the record for a busy server: `python -m daulat.record.writer`.

A server's event loop and a thread that writes wait for one interpreter, several times a statement; a process
of its own waits for the disk alone. Its socket (file descriptor 0) brings entries (`frames`), and what has
arrived goes into one transaction, as in `store`. Told entries (`link`) it writes in order or ends: the server
sees to the rest. Signals are for the server, which closes the socket when it is
done. Who finds a server dead closes what it had left open (`store.Record.recover`): so nothing is written once
the socket's other end is gone, which is looked at behind the lock that whoever recovers needs, too.

Not here: who starts it, and what happens when it dies (`writing`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from daulat.record import frames, schema
from daulat.record.appending import Appender
from daulat.record.entering import BATCH, New, enter, enter_once, failure, refusal

_CHUNK: Final = 1 << 20
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL

Numbered = tuple[int, New]


class ToldError(Exception):
    """Told entries were not written; nothing may be, before they are."""


class ServerGoneError(Exception):
    """The socket's other end is closed."""


class Inbox:
    """What the socket brings."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._frames = frames.Frames()
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
    """Transactions on a connection that stays open.

    Args:
        is_gone: whether nobody waits any more.
        tell: takes answers to whoever waits.
    """

    def __init__(
        self,
        engine: Engine,
        is_gone: Callable[[], bool],
        tell: Callable[[list[frames.Answer]], None],
    ) -> None:
        self._engine = engine.execution_options(writing=True)
        self._connection: Connection | None = None
        self._is_gone = is_gone
        self._tell = tell

    def write(self, batch: list[Numbered]) -> None:
        """All in one transaction; if that fails, each in its own, so that one cannot harm another.

        Raises:
            ServerGoneError: nothing more is to be written.
            ToldError: nor by this process.
        """
        failed = self._tried(lambda: self._together(batch))
        if failed is None:
            return
        if any(one.at for _, one in batch):
            raise ToldError from failed
        if len(batch) == 1:
            self._refuse(batch[0][0], failed)
            return
        for number, one in batch:
            self._alone(number, one)

    def _together(self, batch: list[Numbered]) -> None:
        with self._transaction() as appender:
            found = enter(appender, [one for _, one in batch])
        pairs = zip(batch, found, strict=True)
        self._tell([frames.Answer(number, refusal(one)) for (number, _), one in pairs])

    def _alone(self, number: int, one: New) -> None:
        """Behind a failure, which need not mean that nothing was written. Told at once: others may be slow."""

        def work() -> None:
            with self._transaction() as appender:
                found = enter_once(appender, one)
            self._tell([frames.Answer(number, found)])

        failed = self._tried(work)
        if failed is not None:
            self._refuse(number, failed)

    def _refuse(self, number: int, why: Exception) -> None:
        self._tell([frames.Answer(number, None, str(failure(why)))])

    def _tried(self, work: Callable[[], None]) -> Exception | None:
        """What went wrong; a connection on which something did is not trusted again."""
        try:
            work()
        except (ServerGoneError, ConnectionError):
            raise
        except Exception as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.invalidate()
                    connection.close()
            return error
        return None

    @contextlib.contextmanager
    def _transaction(self) -> Generator[Appender]:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            appender = Appender(self._connection)
            appender.lock()
            if self._is_gone():
                raise ServerGoneError
            yield appender
            appender.flush()


def serve(link: socket.socket) -> None:
    """Write what the socket brings, until it is closed."""
    inbox = Inbox(link)
    first = inbox.next(1)
    if not first:
        return
    place = frames.read_place(first[0])
    where = os.fsdecode(place.where)

    def tell(answers: list[frames.Answer]) -> None:
        link.sendall(frames.answers(answers))

    engine = schema.connect(Path(where) if place.path else where)
    writer = Writer(engine, lambda: is_closed(link), tell)
    tell([])
    while batch := inbox.next(BATCH):
        writer.write([frames.read_new(frame) for frame in batch])


def is_closed(link: socket.socket) -> bool:
    """Whether the other end is closed, though there may still be something to read."""
    watch = select.poll()
    watch.register(link, 0)
    return any(event & _GONE for _, event in watch.poll(0))


if __name__ == "__main__":
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    with (
        contextlib.suppress(ConnectionError, ServerGoneError, ToldError),
        socket.socket(fileno=0) as link,
    ):
        serve(link)
