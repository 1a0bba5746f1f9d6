"""Who waits for an entry is told when the journal has it: one flush for all that come in a turn of the loop.

Not here: the journal's files (`journal`), which entries are told so (`link`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from daulat.record import charges
from daulat.record.journal import Journal, sized

_TURN: Final = 1.0
"""Seconds until the journal's other file is taken, so that the one can be wiped."""
_BUSY: Final = 0.8
"""Part of the event loop's time that flushes and all else may take together. Beyond it answers would wait for
each other's flushes; many entries come together then anyway, and one transaction for them costs less."""
_QUIET: Final = 0.7
"""The same, before flushes begin again."""
_LONGEST: Final = 0.002
"""Seconds of a flush beyond which the journal rests: everybody else's answer waits for it, too."""
_WINDOW: Final = 0.1

log = logging.getLogger(__name__)
Waiting = asyncio.Future[charges.Refusal | None]
Clock = Callable[[], float]


class Pace:
    """Whether a flush for an entry pays: there must be time for it, and each must be short.

    Args:
        clock: seconds that have passed.
        used: seconds for which this thread had a processor.
    """

    def __init__(self, clock: Clock = time.perf_counter, used: Clock = time.thread_time) -> None:
        self._clock, self._used = clock, used
        self._begun, self._used_before, self._count = clock(), used(), 0
        self._rate = self._busy = self._flush = 0.0
        self._pays = True

    def pays(self) -> bool:
        """Asked once for each entry."""
        self._count += 1
        passed = self._clock() - self._begun
        if passed >= _WINDOW:
            used = self._used()
            self._rate, self._busy = self._count / passed, (used - self._used_before) / passed
            self._begun, self._used_before, self._count = self._begun + passed, used, 0
            if not self._pays:
                self._flush *= 0.9  # the disk may be quicker now: it is asked once more, in a while
            self._decide()
        return self._pays

    def flushed(self, seconds: float) -> None:
        """How long a flush has taken."""
        self._flush += (seconds - self._flush) / 16
        self._decide()

    def _decide(self) -> None:
        busy, most = self._busy + self._rate * self._flush, _BUSY if self._pays else _QUIET
        self._pays = self._flush <= _LONGEST and busy <= most


@dataclass(frozen=True, slots=True)
class _Untold:
    number: int
    frame: bytes
    future: Waiting


class Teller:
    """A journal in use on this event loop.

    Args:
        failed: called where the journal cannot be written, so that the database is: who waits waits for that.
    """

    def __init__(self, journal: Journal, failed: Callable[[], None]) -> None:
        self.journal = journal
        self._failed = failed
        self._broken = self._forsaken = False
        self._untold: list[_Untold] = []
        self._bytes = 0
        self._entered = -1
        self._loop = asyncio.get_running_loop()
        self._turning: asyncio.Handle | None = None
        self._wiping: asyncio.Future[None] | None = None
        self._pace = Pace()

    def pays(self) -> bool:
        """Whether an entry is to be told by the journal. Asked once for each."""
        return self._pace.pays() and not self._broken

    def fits(self, frame: bytes) -> bool:
        """Whether the journal has room for it."""
        return self.journal.fits(self._bytes + sized(frame))

    def tell(self, number: int, frame: bytes, future: Waiting) -> None:
        """Set the future when the entry is on disk, which it is at the end of this turn of the loop."""
        if not self._untold:
            self._loop.call_soon(self._write)
        self._bytes += sized(frame)
        self._untold.append(_Untold(number, frame, future))

    def entered(self, number: int) -> None:
        """The database has all up to that number."""
        self._entered = number
        self._wipe_next()

    def forsaken(self) -> Journal:
        """The journal, to which nothing is written from now on."""
        self._untold, self._forsaken = [], True
        if self._turning is not None:
            self._turning.cancel()
        return self.journal

    def _write(self) -> None:
        untold, self._untold, self._bytes = self._untold, [], 0
        if not untold:
            return
        if self._turning is None:
            self._turning = self._loop.call_later(_TURN, self._turn)
        began = time.perf_counter()
        try:
            self.journal.write([one.frame for one in untold], untold[-1].number)
        except OSError as error:
            log.warning("entries beside the record cannot be written", extra={"why": str(error)})
            self._broken = True
            self._failed()
            return
        self._pace.flushed(time.perf_counter() - began)
        for one in untold:
            if not one.future.done():
                one.future.set_result(None)

    def _turn(self) -> None:
        """See that what was written goes, also where nothing follows it."""
        self._turning = None
        self.journal.turn()
        self._wipe_next()
        if not self.journal.clean:
            self._turning = self._loop.call_later(_TURN, self._turn)

    def _wipe_next(self) -> None:
        side = self.journal.done_with(self._entered) if self._wiping is None else None
        if side is not None:
            self._wiping = self._loop.run_in_executor(None, side.wipe)
            self._wiping.add_done_callback(self._wiped)

    def _wiped(self, wiping: asyncio.Future[None]) -> None:
        self._wiping = None
        if wiping.cancelled() or self._forsaken:
            return
        if (error := wiping.exception()) is not None:
            log.warning("entries beside the record cannot be wiped", extra={"why": str(error)})
            if self._turning is None:
                self._turning = self._loop.call_later(_TURN, self._turn)
        else:
            self._wipe_next()
