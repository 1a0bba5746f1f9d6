"""A server's end of the socket to the process that writes: entries go over it, and who waits is told.

An entry that no limit can refuse, and that nobody looks up in the database at once, is told as soon as it is
in the journal (`journal`); it goes over a little later, with others. All go over in the order in which they
came, and the process stops at the first told one that it cannot write: so what is in the database is always
the beginning of what was told.

Used on the event loop that it was made on. Not here: when there is such a process (`writing`), what it does
(`writer`), what becomes of entries when it is lost (`store`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from daulat.errors import RecordError
from daulat.record import frames
from daulat.record.chain import now
from daulat.record.entering import New
from daulat.record.journal import Journal
from daulat.record.telling import Teller, Waiting

LATE: Final = 0.01
"""Seconds for which told entries gather."""


class LostError(Exception):
    """The process has ended before it was ready."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that the database may not have yet. `at`: it is told by the journal, once `future` is done."""

    new: New
    future: Waiting
    at: str | None = None

    @property
    def told(self) -> New | None:
        """The entry as it was told; None: somebody still waits for it."""
        return replace(self.new, at=self.at) if self.at and self.future.done() else None


Lost = Callable[[Sequence[Pending], Journal | None], None]


class Link(asyncio.Protocol):
    """The socket's end here.

    Args:
        lost: is told why the other end was closed, where `closing` was not set.
        lost_entries: gets the entries of which nobody knows whether the process had written them, in order,
            and the journal that holds the told ones.

    Attributes:
        closing: that it is closed is no surprise.
    """

    def __init__(self, lost: Callable[[str], None], lost_entries: Lost) -> None:
        self._lost = lost
        self._lost_entries = lost_entries
        self._transport: asyncio.Transport | None = None
        self._frames = frames.Frames()
        self._unsent: list[bytes] = []
        self._sending: asyncio.Handle | None = None
        self._hurrying = False
        self._numbers = itertools.count()
        self._pending: dict[int, Pending] = {}
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._drained: asyncio.Future[None] | None = None
        self._teller: Teller | None = None
        self.closing = False

    async def greet(self, place: frames.Place) -> None:
        """Say where the record is, and wait until entries may come.

        Raises:
            LostError: the process has ended.
        """
        self._send(frames.place(place), 0.0)
        await self._ready

    def keep(self, journal: Journal) -> None:
        """Tell by this journal from now on."""
        self._teller = Teller(journal, self._hurry)

    def post(self, one: New, *, ahead: bool) -> Waiting | None:
        """Send an entry. None: this is another event loop, or a text has half a surrogate pair.

        Args:
            ahead: it may be told before the database has it.
        """
        if asyncio.get_running_loop() is not self._loop:
            return None
        number = next(self._numbers)
        try:
            pending, frame = self._framed(number, one, ahead)
        except UnicodeEncodeError:
            return None
        told = pending.at is not None
        self._send(frame, LATE if told and not one.releases else 0.0)
        self._pending[number] = pending
        if self._teller is not None and told:
            self._teller.tell(number, frame, pending.future)
        return pending.future

    def _framed(self, number: int, one: New, ahead: bool) -> tuple[Pending, bytes]:
        """Told by the journal, where that may be and can be."""
        future, teller = self._loop.create_future(), self._teller
        if ahead and teller is not None and not one.may_be_refused and teller.pays():
            frame = frames.new(number, one, at := now())
            if teller.fits(frame):
                return Pending(one, future, at), frame
        return Pending(one, future), frames.new(number, one)

    async def drain(self) -> None:
        """Wait until the database has all that was handed over, or the process is lost."""
        while self._pending:
            self._hurry()
            self._drained = self._drained or self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Close the socket; right behind `drain`."""
        self.closing = True
        if self._transport is not None:
            self._transport.close()
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.forsaken().remove()

    def forsake(self) -> None:
        """Leave everything as it is: whoever opens the record next enters what the journal holds."""
        self.closing = True
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.forsaken().leave()

    def abort(self) -> bool:
        """Close the socket at once, if it is this end's."""
        if self._transport is not None:
            self.closing = True
            self._transport.abort()
        return self._transport is not None

    def _send(self, frame: bytes, within: float) -> None:
        if self._transport is None:
            raise LostError("it has ended")
        self._unsent.append(frame)
        if not within:
            self._hurry()
        elif self._sending is None:
            self._sending = self._loop.call_later(within, self._flush)

    def _hurry(self) -> None:
        """What comes in one turn of the event loop goes out in one piece."""
        if not self._hurrying:
            if self._sending is not None:
                self._sending.cancel()
            self._sending, self._hurrying = self._loop.call_soon(self._flush), True

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._sending, self._hurrying = None, False
        if self._transport is not None and unsent:
            self._transport.write(b"".join(unsent))

    # --- what the event loop calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.cut(data):
            if not self._ready.done():
                self._ready.set_result(None)
            self._answered(frames.read_answers(frame))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._ready.done():
            self._ready.set_exception(LostError("it has ended"))
        elif not self.closing:
            self._lost(str(exc or "it has ended"))
        teller, self._teller = self._teller, None
        left, self._pending = self._pending, {}
        if left or teller is not None:
            self._lost_entries(list(left.values()), teller and teller.forsaken())
        self._emptied()

    def _answered(self, answers: Sequence[frames.Answer]) -> None:
        for answer in answers:
            future = self._pending.pop(answer.number).future
            if future.done():  # told already, or nobody waits any more
                continue
            if answer.error is not None:
                future.set_exception(RecordError(answer.error))
            else:
                future.set_result(answer.refusal)
        if answers and self._teller is not None:
            self._teller.entered(answers[-1].number)
        self._emptied()

    def _emptied(self) -> None:
        if not self._pending and self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
