"""The threads that run a step together: the caller's own, and helpers that wait for the next one.

One team in a process, one step at a time: two steps at once would only take each other's cores, and a
thread that has no core keeps all others waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from daulat.engine.native import program

_run = cast("Callable[..., None]", program.run)  # pyright: ignore[reportUnknownMemberType]


class Team:
    """Args:
    size: threads, the caller's among them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sync = np.zeros(8, dtype=np.int64)
        self._one_at_a_time = threading.Lock()
        self._arguments: tuple[Any, ...] = ()
        self._calls = [threading.Semaphore(0) for _ in range(size - 1)]
        for me, call in enumerate(self._calls, start=1):
            threading.Thread(target=self._help, args=(me, call), daemon=True).start()

    def run(self, arguments: tuple[Any, ...]) -> None:
        """`program.run` by all threads, with (model, step, last, room)."""
        with self._one_at_a_time:
            turn = int(self._sync[0])
            self._arguments = (self.size, self._sync, turn, *arguments)
            for call in self._calls:
                call.release()
            _run(0, *self._arguments)
            self._arguments = ()

    def _help(self, me: int, call: threading.Semaphore) -> None:
        while True:
            call.acquire()
            _run(me, *self._arguments)


_teams: dict[int, Team] = {}
_making = threading.Lock()


def team(size: int) -> Team:
    """The process's team of that size."""
    with _making:
        if size not in _teams:
            _teams[size] = Team(size)
        return _teams[size]
