"""A time-out for many waits, one behind the other: one timer for all of them.

`asyncio.timeout` makes a timer for each wait, which takes as long as all else that is done for a token of a
stream. Not here: what is waited for, and what is said when it does not come.
"""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType
from typing import Final, Self

_TICK: Final = 0.001


class Deadline:
    """What is awaited inside is cancelled when its time is up, and `TimeoutError` comes in its place.

        with deadline.until(time.monotonic() + 5.0):
            await something()

    One wait at a time, in whatever task. The timer of the last wait may outlive it, unless `close` is called.

    Attributes:
        expired: the last wait's time was up.
    """

    __slots__ = ("_cancelling", "_due", "_task", "_timer", "_timer_due", "expired")

    def __init__(self) -> None:
        self._due = self._timer_due = math.inf
        self._timer: asyncio.Handle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.expired = False

    def until(self, due: float) -> Self:
        """The next wait ends then: seconds of `time.monotonic`, or infinity."""
        self._due = due
        return self

    def close(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_due = None, math.inf

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101 - a coroutine runs in one
        self._cancelling, self.expired = self._task.cancelling(), False
        # A timer that fires too early looks again; so those of all later waits need none of their own.
        if self._due < self._timer_due:
            self._arm()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        # Who cancels from outside at the same time is heard before the time-out, as in `asyncio.timeout`.
        if (
            self.expired
            and task is not None
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def _arm(self, least: float = 0.0) -> None:
        self.close()
        loop, left = asyncio.get_running_loop(), max(least, self._due - time.monotonic())
        # What is late already is ended at once, also where each wait takes no more than a turn of the loop.
        self._timer = loop.call_later(left, self._look) if left > 0 else loop.call_soon(self._look)
        self._timer_due = self._due

    def _look(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._task is None or self.expired:
            return
        if time.monotonic() < self._due:
            # uvloop's clock has milliseconds, and what is left may be less.
            self._arm(_TICK)
            return
        self.expired = True
        self._task.cancel()
