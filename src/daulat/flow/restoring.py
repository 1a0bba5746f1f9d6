"""An answer's events with values in place of placeholders, whatever pieces they come in.

Not here: what a placeholder is (`guard.redaction`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from daulat.values.answer import CallPiece, Event, Finish, Kind, Piece

if TYPE_CHECKING:
    from daulat.guard.redaction import Redactor, Restorer


class Restoring:
    """Restores one answer. Every choice's text, and every call's arguments, is a text of its own."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._texts: dict[tuple[int, Kind], Restorer] = {}
        self._calls: dict[tuple[int, int], Restorer] = {}

    def events(self, event: Event) -> Iterator[Event]:
        """What is certain now; a `Finish` is preceded by what was held back."""
        match event:
            case Piece():
                key = (event.choice, event.kind)
                if key not in self._texts:
                    self._texts[key] = self._redactor.restorer()
                yield replace(event, text=self._texts[key].feed(event.text))
            case CallPiece():
                yield from self._call(event)
            case Finish():
                yield from self._rest(event.choice)
                yield event
            case _:
                yield event

    def _call(self, event: CallPiece) -> Iterator[Event]:
        key = (event.choice, event.call)
        if key not in self._calls:
            yield from self._finished_calls(event.choice)
            self._calls[key] = self._redactor.restorer(json=True)
        yield replace(event, arguments=self._calls[key].feed(event.arguments))

    def _finished_calls(self, choice: int) -> Iterator[Event]:
        for key in [key for key in self._calls if key[0] == choice]:
            if rest := self._calls[key].finish():
                yield CallPiece(*key, arguments=rest)
            self._calls[key] = self._redactor.restorer(json=True)

    def _rest(self, choice: int) -> Iterator[Event]:
        for key in [key for key in self._texts if key[0] == choice]:
            if rest := self._texts.pop(key).finish():
                yield Piece(choice, rest, kind=key[1])
        yield from self._finished_calls(choice)
