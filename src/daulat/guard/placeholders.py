"""What stands for a value that must not leave: `<EMAIL_1>`, and what models make of it.

    EMAIL          label: letters and underscores, from the kind
    1              number, from 1
    email1         key: the two, folded; two placeholders never have the same

Models copy most placeholders as they are, and change a few. Taken for the placeholder: any case, spaces or
dashes for underscores, a space inside the brackets, brackets and underscores escaped for Markdown
(`\\<EMAIL\\_1\\>`) or HTML (`&lt;EMAIL_1&gt;`), and the bare word where it is written exactly (`EMAIL_1`,
also in other brackets or quotes). Not taken, for it is not certain: the bare word changed ("email 1"), a
translated label, one broken over two lines, a closing tag (`</EMAIL_1>`), a number spelt out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 160
"""Characters that a placeholder can have, however it is written."""

_ESCAPED = r"\\{0,2}"
_NUMBER = r"[1-9][0-9]{0,5}"
_NAME = rf"[A-Za-z]{{1,40}}(?:{_ESCAPED}[_ -][A-Za-z]{{1,40}}){{0,12}}{_ESCAPED}[_ -]?{_NUMBER}"
_EXACT = rf"[A-Z]{{1,40}}(?:{_ESCAPED}_[A-Z]{{1,40}}){{0,12}}{_ESCAPED}_{_NUMBER}"
_START: Final = re.compile(r"[\\<&]|[A-Z]")
_BODY: Final = re.compile(r"[A-Za-z0-9_ \\-]*")
_BARE: Final = re.compile(r"[A-Z][A-Z0-9_\\]*")
_OPENS: Final = ("<", "&lt;")
_CLOSES: Final = (">", "&gt;")


class Grammar:
    """How placeholders may be written in plain text, or in JSON text, where `<` may be `\\u003c` too."""

    def __init__(self, json: bool) -> None:
        opens = (*_OPENS, r"\u003c", r"\u003C") if json else _OPENS
        closes = (*_CLOSES, r"\u003e", r"\u003E") if json else _CLOSES
        # In JSON text a line break is `\n`, whose n is no part of the word behind it.
        before = r"(?:(?<![A-Za-z0-9_])|(?<=(?<!\\)\\[bfnrt]))" if json else "(?<![A-Za-z0-9_])"
        self._pattern = re.compile(
            rf"(?P<lead>{_ESCAPED})(?:{_any(opens)}) ?(?P<name>{_NAME}) ?{_ESCAPED}(?:{_any(closes)})"
            rf"|{before}(?P<exact>{_EXACT})(?![A-Za-z0-9_])"
        )
        self._opens = opens
        self._broken = {text[:end] for text in opens for end in range(1, len(text))} | {
            "\\",
            "\\\\",
        }
        self._endings = {text[:end] for text in closes for end in range(1, len(text))}

    def find(self, text: str, at: int, keys: Iterable[str]) -> tuple[int, int, str] | None:
        """The next placeholder from `at` on whose key is known: start, end, key."""
        while (match := self._pattern.search(text, at)) is not None:
            key = folded(match["name"] or match["exact"])
            if key in keys:
                return match.start() + _kept(match), match.end(), key
            at = match.start() + 1
        return None

    def held(self, text: str, at: int, keys: Iterable[str]) -> int:
        """From where on, at or behind `at`, the end of the text may be the beginning of a placeholder."""
        for match in _START.finditer(text, max(at, len(text) - LONGEST)):
            if self._begins(text[match.start() :], keys):
                return match.start()
        return len(text)

    def _begins(self, tail: str, keys: Iterable[str]) -> bool:
        if _BARE.fullmatch(tail) and _is_prefix(tail, keys):
            return True
        inner = tail.lstrip("\\")
        if tail in self._broken or inner in self._broken or not inner:
            return True
        for opening in self._opens:
            for whole in (tail, inner):
                if whole.startswith(opening) and self._goes_on(whole[len(opening) :], keys):
                    return True
        return False

    def _goes_on(self, body: str, keys: Iterable[str]) -> bool:
        cut = [body[: -len(ending)] for ending in self._endings if body.endswith(ending)]
        return any(_BODY.fullmatch(one) and _is_prefix(one, keys) for one in (body, *cut))


def label(kind: str) -> str:
    """The letters of a kind, as a placeholder's label; digits would be taken for its number."""
    letters = re.sub(r"[^A-Z]+", "_", kind.upper()).strip("_")
    return letters or "VALUE"


def folded(text: str) -> str:
    """ASCII letters in lower case and digits, nothing else."""
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def _kept(match: re.Match[str]) -> int:
    """Characters in front that are the text's own: a backslash before a placeholder not escaped within."""
    lead = len(match["lead"] or "")
    return 0 if lead and "\\" in match[0][lead:] else lead


def _any(literals: Iterable[str]) -> str:
    return "|".join(map(re.escape, literals))


def _is_prefix(text: str, keys: Iterable[str]) -> bool:
    start = folded(text)
    return any(key.startswith(start) for key in keys)
