"""Takes values out of the texts of one exchange, and puts them back into its answer.

    redactor = Redactor(["Mail ana@example.com"], Detectors())
    redactor.redact("Mail ana@example.com")     # "Mail <EMAIL_1>"
    redactor.restore("I wrote to <EMAIL_1>.")   # "I wrote to ana@example.com."

`restore(redact(text)) == text`, byte for byte. The values live in the redactor alone, as long as the
exchange. A model that invents a placeholder which exists gets that value restored: nobody can tell the two
apart. `guard.placeholders` says which changes of a placeholder are understood.
"""

from __future__ import annotations

import bisect
import json as jsons
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daulat.errors import GuardError, InternalError
from daulat.guard.findings import Finding, resolve
from daulat.guard.placeholders import Grammar, folded, label
from daulat.guard.scan import Detectors, search

_GRAMMARS: Final = {False: Grammar(json=False), True: Grammar(json=True)}
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_CONTEXT: Final = 4
"""Characters before a placeholder that decide whether it is one."""


@dataclass(frozen=True, slots=True)
class Value:
    """What was taken out: as plain text, and as the inside of a JSON string."""

    plain: str
    escaped: str


class Redactor:
    """The placeholders of one exchange; the same value always has the same one.

    Args:
        texts: every text of the request, so that no placeholder is already a word of theirs.
        detectors: what is taken out.
        classes: only values of these data classes; all, where it is None.
    """

    def __init__(
        self, texts: Sequence[str], detectors: Detectors, classes: frozenset[str] | None = None
    ) -> None:
        self._texts = frozenset(texts)
        self._detectors = detectors
        self._classes = classes
        self._folded: str | None = None
        self._taken: dict[str, set[str]] = {}
        self._next: dict[str, int] = {}
        self._names: dict[tuple[str, Value], str] = {}
        self._values: dict[str, Value] = {}

    @property
    def count(self) -> int:
        """How many values have been taken out."""
        return len(self._values)

    def redact(self, text: str, *, json: bool = False) -> str:
        """The text with a placeholder for each finding.

        Args:
            json: the text is JSON (the arguments of a tool call): values in its strings are found behind
                their escapes, and it stays JSON. A number becomes a string.

        Raises:
            GuardError: a detector failed, or a finding cannot be taken out of the JSON.
            InternalError: the redactor was not given this text.
        """
        if text not in self._texts:
            raise InternalError("A text was redacted that its redactor had not been given.")
        found = [one for one in search(text, self._detectors, json=json) if self._wanted(one)]
        strings = [match.span() for match in _STRING.finditer(text)] if json and found else []
        pieces, at = list[str](), 0
        for one in resolve(found):
            pieces += [text[at : one.start], self._replaced(text, one, strings, json)]
            at = one.end
        return "".join([*pieces, text[at:]])

    def restore(self, text: str, *, json: bool = False) -> str:
        """The text with the values in place of their placeholders.

        Args:
            json: the text is JSON; values are escaped for the strings that they stand in.
        """
        restorer = self.restorer(json=json)
        return restorer.feed(text) + restorer.finish()

    def restorer(self, *, json: bool = False) -> Restorer:
        """Restores a text that comes in pieces."""
        return Restorer(self._values, json=json)

    def _wanted(self, one: Finding) -> bool:
        return self._classes is None or one.data_class in self._classes

    def _replaced(
        self, text: str, one: Finding, strings: Sequence[tuple[int, int]], json: bool
    ) -> str:
        raw = text[one.start : one.end]
        if not json:
            return self._name(one.kind, Value(raw, jsons.dumps(raw, ensure_ascii=False)[1:-1]))
        # The last string that begins before the finding ends: around it, beside it, or cut by its edge.
        start, end = strings[bisect.bisect_left(strings, (one.end, 0)) - 1] if strings else (0, 0)
        if start < one.start and one.end < end:
            return self._name(one.kind, Value(str(jsons.loads(f'"{raw}"', strict=False)), raw))
        if start < one.end and one.start < end:
            raise GuardError(
                f'What "{one.detector}" found goes over the edge of a JSON string; nothing was sent.'
            )
        return '"' + self._name(one.kind, Value(raw, raw)) + '"'

    def _name(self, kind: str, value: Value) -> str:
        known = self._names.get((kind, value))
        if known is None:
            word = label(kind)
            number = self._free(folded(word))
            known = self._names[kind, value] = f"<{word}_{number}>"
            self._values[f"{folded(word)}{number}"] = value
        return known

    def _free(self, word: str) -> int:
        """The next number that stands behind this label in no text, however written."""
        if self._folded is None:
            self._folded = "\n".join(map(folded, self._texts))
        if word not in self._taken:
            # Folding joins `<EMAIL_1>` and a 0 behind it: what begins such a number is taken, too.
            behind = set(re.findall(f"{word}([0-9]+)", self._folded))
            self._taken[word] = {number[:end] for number in behind for end in range(1, 8)}
        number = self._next.get(word, 0) + 1
        while str(number) in self._taken[word]:
            number += 1
        self._next[word] = number
        return number


class Restorer:
    """Puts values back into a text that comes in pieces.

    It keeps back only what could be the beginning of a placeholder, at most `placeholders.LONGEST`
    characters. However a text is cut, the pieces given out make the same text.
    """

    def __init__(self, values: Mapping[str, Value], *, json: bool = False) -> None:
        self._values = values
        self._json = json
        self._grammar = _GRAMMARS[json]
        self._before = ""
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece; give out what is certain."""
        return self._given(piece, last=False) if self._values else piece

    def finish(self) -> str:
        """The rest, when the text has ended."""
        return self._given("", last=True)

    def _given(self, piece: str, *, last: bool) -> str:
        text = self._before + self._held + piece
        at = len(self._before)
        held = len(text) if last else self._grammar.held(text, at, self._values)
        pieces: list[str] = []
        while (found := self._grammar.find(text, at, self._values)) and found[0] < held:
            start, end, key = found
            pieces += [text[at:start], self._form(self._values[key])]
            at = end
        held = max(held, at)
        pieces.append(text[at:held])
        self._before, self._held = text[max(held - _CONTEXT, 0) : held], text[held:]
        return "".join(pieces)

    def _form(self, value: Value) -> str:
        return value.escaped if self._json else value.plain
