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
    """Restores one answer. Every choice's text, and every call's arguments, is a text of its own.

    The log-probabilities stay those of the words that the endpoint said, placeholders among them.

    Args:
        json: the answer is JSON, so what is put back is escaped.
    """

    def __init__(self, redactor: Redactor, *, json: bool = False) -> None:
        self._redactor = redactor
        self._json = json
        self._texts: dict[tuple[int, Kind], Restorer] = {}
        self._calls: dict[tuple[int, int], Restorer] = {}

    def events(self, event: Event) -> Iterator[Event]:
        """What is certain now; what was held back comes before anything that is said behind it."""
        match event:
            case Piece():
                yield from self._said(event.choice, event.kind)
                yield replace(event, text=self._text(event).feed(event.text))
            case CallPiece():
                yield from self._said(event.choice, None)
                yield replace(event, arguments=self._call(event).feed(event.arguments))
            case Finish():
                yield from self._said(event.choice, None)
                yield from self._called(event.choice)
                stop = event.stop and self._redactor.restore(event.stop)
                yield replace(event, stop=stop)
            case _:
                yield event

    def _text(self, event: Piece) -> Restorer:
        key = (event.choice, event.kind)
        if key not in self._texts:
            self._texts[key] = self._redactor.restorer(json=self._json and event.kind == "text")
        return self._texts[key]

    def _call(self, event: CallPiece) -> Restorer:
        key = (event.choice, event.call)
        if key not in self._calls:
            self._calls[key] = self._redactor.restorer(json=True)
        return self._calls[key]

    def _said(self, choice: int, goes_on: Kind | None) -> Iterator[Event]:
        """The rest of the texts that are over: all but those of the kind that goes on."""
        for key in [key for key in self._texts if key[0] == choice and key[1] != goes_on]:
            if rest := self._texts.pop(key).finish():
                yield Piece(choice, rest, kind=key[1])

    def _called(self, choice: int) -> Iterator[Event]:
        """The rest of calls that were cut: whole arguments end with a brace, and nothing is held back."""
        for key in [key for key in self._calls if key[0] == choice]:
            if rest := self._calls.pop(key).finish():
                yield CallPiece(*key, arguments=rest)
