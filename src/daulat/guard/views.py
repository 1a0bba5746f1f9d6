"""A text as the detectors see it, with the way back to the characters as they were sent.

An identifier must not hide behind full-width digits, a zero-width space, or JSON's escapes. Where a
text holds any of these, it is also looked at with them folded away; `View.span` leads back. A plain
text is its own view, and costs nothing.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_ISLAND: Final = re.compile(r"[0-9][0-9 ().+/-]{5,}[0-9]")
_ESCAPE: Final = re.compile(
    r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])'
)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_TAGS: Final = range(0xE0000, 0xE0200)
_HIDDEN: Final = (range(0x300, 0x370), range(0x20DD, 0x20E5), range(0xFE00, 0xFE10), _TAGS)
"""Accents, circles and keycaps that stand on another character; its variations; tags."""
ODD_RANGES: Final = (
    *(range(0x80, 0x3400), range(0xA4D0, 0xAC00), range(0xF900, 0x14000), range(0x16000, 0x17000)),
    *(range(0x1B000, 0x20000), _TAGS),
)
"""Where odd characters are; beyond are ideographs, syllables, hieroglyphs and private use."""


@dataclass(frozen=True, slots=True)
class View:
    """A text, its lower case (of the same length), and where numbers may be.

    `islands` are runs of digits and what people write between them, of 7 characters or more.
    Position p of `text` came from position `sources[i] + p - starts[i]` of the raw text, where i is the
    last piece with `starts[i] <= p`; the last character of a piece stands for `widths[i]` raw ones.
    """

    text: str
    low: str = field(init=False)
    islands: tuple[tuple[int, int], ...] = field(init=False)
    starts: tuple[int, ...] = ()
    sources: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        islands = tuple(match.span() for match in _ISLAND.finditer(self.text))
        object.__setattr__(self, "low", _lower(self.text))
        object.__setattr__(self, "islands", islands)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The raw characters behind `start` to `end` (exclusive, not empty) of this view."""
        if not self.starts:
            return start, end
        first = bisect.bisect_right(self.starts, start) - 1
        last = bisect.bisect_right(self.starts, end - 1) - 1
        begin = self.sources[first] + start - self.starts[first]
        return begin, self.sources[last] + end - 1 - self.starts[last] + self.widths[last]


def views(text: str) -> tuple[View, ...]:
    """The text as it is and, where it is not plain, folded.

    Both, for what stands next to an identifier (a zero-width space, a full-width digit) could also
    spoil it when folded.
    """
    plain = View(text)
    if text.isascii() or (folded := fold(text)) is None:
        return (plain,)
    return plain, folded


def fold(text: str) -> View | None:
    """Digits of every script, full-width letters, odd spaces and dashes as ASCII; the invisible gone.

    None where nothing in the text is odd.
    """
    present = set(text) & odd().keys()
    if not present:
        return None
    for char in present:
        if new := odd()[char]:
            text = text.replace(char, new)
    hidden = "".join(sorted(char for char in present if not odd()[char]))
    return _replaced(text, re.compile(f"[{hidden}]+"), lambda _: "") if hidden else View(text)


def unescape(text: str) -> View:
    """A JSON text with the escapes in its strings decoded."""
    return _replaced(text, _ESCAPE, _unescaped)


def _replaced(text: str, pattern: re.Pattern[str], change: Callable[[str], str]) -> View:
    """A view in which each match stands changed: to one character each, to one in all, or to none."""
    pieces: list[str] = []
    starts: list[int] = []
    sources: list[int] = []
    widths: list[int] = []
    length, before = 0, 0

    def add(piece: str, source: int, width: int) -> None:
        nonlocal length
        if piece:
            pieces.append(piece)
            starts.append(length)
            sources.append(source)
            widths.append(width)
            length += len(piece)

    for match in pattern.finditer(text):
        add(text[before : match.start()], before, 1)
        new = change(match[0])
        add(new, match.start(), len(match[0]) - len(new) + 1)
        before = match.end()
    add(text[before:], before, 1)
    return View("".join(pieces), starts=tuple(starts), sources=tuple(sources), widths=tuple(widths))


def _lower(text: str) -> str:
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(small if len(small := one.lower()) == 1 else one for one in text)


def _unescaped(escape: str) -> str:
    if escape[1] != "u":
        return _SHORT.get(escape[1], escape[1])
    units = [int(unit, 16) for unit in escape.split("\\u")[1:]]
    if len(units) == 1:
        return chr(units[0])
    return chr(0x10000 + ((units[0] - 0xD800) << 10) + (units[1] - 0xDC00))


@functools.cache
def odd() -> dict[str, str]:
    """Every odd character, and the one that it reads as, or nothing; made once, in tens of milliseconds."""
    codes = itertools.chain(*ODD_RANGES)
    return {chr(code): new for code in codes if (new := plain(chr(code))) is not None}


def plain(char: str) -> str | None:
    """The ASCII character that this one reads as, "" for an invisible one, None for any other."""
    code, category = ord(char), unicodedata.category(char)
    if category == "Cf" or any(code in hidden for hidden in _HIDDEN):
        return ""
    if category == "Zs":
        return " "
    if category == "Pd" or char == "\N{MINUS SIGN}":
        return "-"
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    compatible = unicodedata.normalize("NFKC", char)
    return compatible if len(compatible) == 1 and compatible.isascii() else None
