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
from pathlib import Path
from typing import Final

from daulat.record import frames
from daulat.record.entering import New
from daulat.record.journal import Journal
from daulat.record.link import Link, Lost
from daulat.record.telling import Waiting

BUSY: Final = 32
"""Entries in one second that make another process worth its memory."""
_AGAIN: Final = 60.0
"""Seconds until another is started, where one was lost."""

log = logging.getLogger(__name__)


class Writing:
    """Starts the process on its own when `post` is asked for often; until it is there, `post` has no answer.

    Args:
        where: the database, as `schema.connect` takes it.
        lost: gets the entries of which nobody knows whether the process had written them, in order, and the
            journal that holds the told ones.

    Attributes:
        owner: the name of this process's journals; None: it has none.
    """

    def __init__(self, where: str | Path, lost: Lost) -> None:
        self.owner: str | None = None
        self._where = where
        self._lost_entries = lost
        self._journals = itertools.count()
        self._second, self._count, self._not_before = 0, 0, 0.0
        self._closed = False
        self._starting: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None

    def post(self, one: New, *, ahead: bool) -> Waiting | None:
        """Hand an entry over; None: the caller writes it.

        The future raises RecordError where it could not be written.

        Args:
            ahead: it may be told before the database has it.
        """
        if self._link is not None:
            return self._link.post(one, ahead=ahead)
        if self._is_busy() and self._starting is None and time.monotonic() >= self._not_before:
            self._starting = asyncio.ensure_future(self._start())
        return None

    async def close(self) -> None:
        """Wait for what was handed over, and let the process end; from now on the caller writes."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._link is not None:
            # What comes meanwhile goes the same way, so that it cannot overtake.
            await self._link.drain()
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self.end()

    def end(self) -> None:
        """See that the process is gone, whatever it was doing."""
        self._closed = True
        # Before the journal is let go of: it writes without looking whether somebody else has.
        self._kill()
        link, self._link = self._link, None
        if link is not None:
            link.forsake()

    def _is_busy(self) -> bool:
        second = int(time.monotonic())
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        return self._count >= BUSY and not self._closed

    async def _start(self) -> None:
        ours, journal, link = None, None, Link(self._lost, self._lost_entries)
        try:
            journal = await self._journal()
            if self._closed:
                return
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = _started(theirs)  # a millisecond or two, once
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            await link.greet(frames.Place(os.fsencode(self._where), isinstance(self._where, Path)))
            if self._closed:
                self._kill()
                return
            if journal is not None:
                link.keep(journal)
            self._link = link
        except Exception as error:
            self._lost(str(error) or type(error).__name__)
        finally:
            self._starting = None
            if self._link is None:
                if not link.abort() and ours is not None:
                    ours.close()
                if journal is not None:
                    journal.remove()

    async def _journal(self) -> Journal | None:
        """A journal, if the database is a file of this machine's; without one, all wait for the database."""
        if self.owner is None or not isinstance(self._where, Path):
            return None
        name = f"{self.owner}-{next(self._journals)}"
        making = asyncio.get_running_loop().run_in_executor(None, Journal, self._where, name)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            if making.exception() is None:
                making.result().remove()
            raise
        except OSError as error:
            log.warning("entries cannot be written beside the record", extra={"why": str(error)})
            return None

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


def _started(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """The process, in a session of its own: signals from a terminal are for the server."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "daulat.record.writer"],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
