"""Circuit breakers: an endpoint that keeps failing is left alone for a while, then tried with one request.

Pure arithmetic over times that are given; one `Breakers` for a process. Nygard, "Release It!" (2007).
Not here: which failures count (`attempts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Health = Literal["closed", "half_open", "open"]

FAILURES = 5
"""In a row: so many open the breaker."""
FIRST_REST = 5.0
LONGEST_REST = 120.0


@dataclass(slots=True)
class _State:
    """`until`: left alone up to this time; `probing`: one request is finding out."""

    failures: int = 0
    rests: int = 0
    until: float = 0.0
    probing: bool = False


class Breakers:
    """What is known of each endpoint's health. Times are seconds by one monotonic clock."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def states(self, now: float) -> dict[str, Health]:
        """What is known to fail: `open` is left alone, `half_open` is being found out; the rest is `closed`."""
        return {name: _state(state, now) for name, state in list(self._states.items())}

    def waits(self, name: str, now: float) -> float:
        """Seconds for which the endpoint is to be left alone; 0: it may be asked."""
        state = self._states.get(name)
        if state is None:
            return 0.0
        if state.until > now:
            return state.until - now
        return FIRST_REST if state.probing else 0.0

    def broken(self, name: str) -> bool:
        """It is left alone because it failed, and not because it asked for that."""
        state = self._states.get(name)
        return state is not None and state.failures >= FAILURES

    def asked(self, name: str) -> None:
        """It is asked now; after a rest this is the one request that finds out."""
        if self.broken(name):
            self._states[name].probing = True

    def answered(self, name: str) -> None:
        """It answered: all is forgotten."""
        self._states.pop(name, None)

    def left(self, name: str) -> None:
        """A request ended without telling anything about the endpoint."""
        state = self._states.get(name)
        if state is not None:
            state.probing = False

    def failed(self, name: str, now: float) -> None:
        """It failed. Rests grow from `FIRST_REST` to `LONGEST_REST`, twice as long each time."""
        state = self._states.setdefault(name, _State())
        state.failures += 1
        state.probing = False
        if state.failures >= FAILURES:
            own = min(LONGEST_REST, FIRST_REST * 2.0**state.rests)
            state.rests = min(state.rests + 1, 10)
            state.until = max(state.until, now + own)

    def rests(self, name: str, now: float, seconds: float) -> None:
        """It asks to be left alone for so long (Retry-After)."""
        state = self._states.setdefault(name, _State())
        state.probing = False
        state.until = max(state.until, now + min(seconds, LONGEST_REST))


def _state(state: _State, now: float) -> Health:
    if state.until > now:
        return "open"
    return "half_open" if state.failures >= FAILURES else "closed"
