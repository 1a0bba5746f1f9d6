"""Stop strings in streamed text: nothing that may yet become one is let out.

Each stop string runs as a Knuth-Morris-Pratt automaton over the text, so the work is linear in the text
however the strings repeat themselves, and a match across any number of pieces is found.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Text in, text out, until the first stop string is complete. The string itself is not let out.

    Args:
        stops: non-empty strings.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _failures(stop)) for stop in stops]
        self._matched = [0] * len(self._stops)
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """What may be let out now, and whether a stop string is complete."""
        if self._stopped or not self._stops:
            return ("" if self._stopped else text), self._stopped
        held = self._held + text
        for i, character in enumerate(text, start=len(self._held)):
            longest = self._advance(character)
            if longest:
                self._stopped = True
                self._held = ""
                return held[: i + 1 - longest], True
        keep = max(self._matched)
        cut = len(held) - keep
        self._held = held[cut:]
        return held[:cut], False

    def finish(self) -> str:
        """What was held back; the text has ended without completing a stop string."""
        held, self._held = self._held, ""
        return held

    def _advance(self, character: str) -> int:
        """Feed one character to every automaton; the length of the longest string completed, or 0.

        Of several that complete together the longest begins first, and the text is cut before it.
        """
        longest = 0
        for i, (stop, failures) in enumerate(self._stops):
            state = self._matched[i]
            while state and stop[state] != character:
                state = failures[state - 1]
            if stop[state] == character:
                state += 1
            if state == len(stop):
                longest = max(longest, state)
                state = failures[state - 1]
            self._matched[i] = state
        return longest


def _failures(stop: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix."""
    table = [0] * len(stop)
    state = 0
    for i in range(1, len(stop)):
        while state and stop[i] != stop[state]:
            state = table[state - 1]
        if stop[i] == stop[state]:
            state += 1
        table[i] = state
    return table
