"""The threads that run a step together: the caller's own, and helpers that wait for the next one.

One team in a process, one step at a time: two steps at once would only take each other's cores, and a
thread that has no core keeps all others waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from daulat.engine.native import program

_run = cast("Callable[..., None]", program.run)  # pyright: ignore[reportUnknownMemberType]


class Team:
    """Args:
    size: threads, the caller's among them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sync = _counter()
        self._own = [_counter() for _ in range(size)]
        self._one_at_a_time = threading.Lock()
        self._arguments: list[tuple[Any, ...]] = []
        self._calls = [threading.Semaphore(0) for _ in range(size - 1)]
        for me, call in enumerate(self._calls, start=1):
            threading.Thread(target=self._help, args=(me, call), daemon=True).start()

    def run(self, arguments: tuple[Any, ...]) -> None:
        """`program.run` by all threads together, with (model, step, last, room)."""
        with self._one_at_a_time:
            turn = int(self._sync[0])
            alone = self._sync, 1, 0
            self._go(
                [(me, self.size, self._sync, turn, *alone, *arguments) for me in range(self.size)]
            )

    def run_apart(self, each: Sequence[tuple[Any, ...]]) -> None:
        """The same, each thread by itself with its own step and room: all wait for all where they must."""
        with self._one_at_a_time:
            others = self._sync, self.size, int(self._sync[0])
            self._go(
                [
                    (0, 1, own, int(own[0]), *others, *arguments)
                    for own, arguments in zip(self._own, each, strict=True)
                ]
            )

    def _go(self, arguments: list[tuple[Any, ...]]) -> None:
        self._arguments = arguments
        for call in self._calls:
            call.release()
        _run(*arguments[0])
        self._arguments = []

    def _help(self, me: int, call: threading.Semaphore) -> None:
        while True:
            call.acquire()
            _run(*self._arguments[me])


def _counter() -> NDArray[np.int64]:
    return np.zeros(8, dtype=np.int64)


_teams: dict[int, Team] = {}
_making = threading.Lock()


def team(size: int) -> Team:
    """The process's team of that size."""
    with _making:
        if size not in _teams:
            _teams[size] = Team(size)
        return _teams[size]
