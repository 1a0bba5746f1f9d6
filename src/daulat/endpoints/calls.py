"""Tool calls in an answer's text: read as they come, whatever pieces they come in.

The text keeps to the family's syntax (a grammar saw to that), so reading is looking for the next
mark; an answer that was cut short ends in the middle of one, and what is certain of it has been
said. Not here: the syntaxes (`models.tools`), the grammar (`engine.grammars`).
"""

from __future__ import annotations

from collections.abc import Callable

from daulat.models.tools import ToolSyntax, new_call_id
from daulat.values.answer import CallPiece, Piece

Said = Piece | CallPiece


class CallReader:
    """One choice's text, taken apart into plain text and calls.

    Args:
        anywhere: text may stand before calls; else the answer is calls or has none.

    Attributes:
        calls: how many calls have begun.
    """

    def __init__(self, choice: int, syntax: ToolSyntax, *, anywhere: bool) -> None:
        self.calls = 0
        self._anywhere = anywhere
        self._choice = choice
        self._syntax = syntax
        self._held = ""
        self._step: Callable[[], list[Said] | None] = self._text
        self._object = _Object()

    def read(self, text: str) -> list[Said]:
        """What is now certain."""
        self._held += text
        said: list[Said] = []
        while (more := self._step()) is not None:
            said += more
        return said

    def finish(self) -> list[Said]:
        """The answer is over: what was held back and is no call."""
        held, self._held = self._held, ""
        plain = self._step in (self._text, self._plain)
        return [Piece(self._choice, held)] if held and plain else []

    # Each step takes from what is held and sets the next step; None: it needs more text.

    def _text(self) -> list[Said] | None:
        held, trigger = self._held, self._syntax.trigger
        place = held.find(trigger) if self._anywhere else held.find(trigger, 0, len(trigger))
        if place >= 0:
            self._step = self._opening
            return self._say(place)
        if self._anywhere:
            return self._say(len(held) - _beginning(held, trigger)) or None
        if trigger.startswith(held):
            return None
        self._step = self._plain
        return []

    def _plain(self) -> list[Said] | None:
        return self._say(len(self._held)) or None

    def _say(self, count: int) -> list[Said]:
        text, self._held = self._held[:count], self._held[count:]
        return [Piece(self._choice, text)] if text else []

    def _opening(self) -> list[Said] | None:
        syntax = self._syntax
        behind = len(syntax.trigger)
        if syntax.loose and self._held[behind : behind + 1] == " ":
            self._held = syntax.trigger + self._held[behind + 1 :]
        return self._pass(syntax.opening, self._head)

    def _pass(self, mark: str, step: Callable[[], list[Said] | None]) -> list[Said] | None:
        if not self._held.startswith(mark):
            return None
        self._held = self._held[len(mark) :]
        self._step = step
        return []

    def _head(self) -> list[Said] | None:
        head, middle = self._syntax.head, self._syntax.middle
        end = self._held.find(middle, len(head))
        if end < 0:
            return None
        name = self._held[len(head) : end]
        self._held = self._held[end + len(middle) :]
        self._step, self._object = self._arguments, _Object()
        self.calls += 1
        return [CallPiece(self._choice, self.calls - 1, new_call_id(), name)]

    def _arguments(self) -> list[Said] | None:
        count = self._object.take(self._held)
        text, self._held = self._held[:count], self._held[count:]
        if self._object.whole:
            self._step = self._behind
        if not text:
            return None
        return [CallPiece(self._choice, self.calls - 1, arguments=text)]

    def _behind(self) -> list[Said] | None:
        # A closing may be the beginning of what stands between calls: only another call decides.
        if not self._syntax.several:
            return None
        return self._pass(self._syntax.tail + self._syntax.between, self._head)


class _Object:
    """Where a JSON object ends, for text that is one."""

    def __init__(self) -> None:
        self.whole = False
        self._depth = 0
        self._quoted = self._escaped = False

    def take(self, text: str) -> int:
        """How many characters of the text belong to the object."""
        for count, character in enumerate(text, start=1):
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._quoted = True
            else:
                self._depth += {"{": 1, "}": -1}.get(character, 0)
                if self._depth == 0:
                    self.whole = True
                    return count
        return len(text)


def _beginning(text: str, mark: str) -> int:
    """The length of the longest end of the text with which the mark begins."""
    return next(
        (n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0
    )
