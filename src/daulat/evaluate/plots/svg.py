"""Elements of SVG as text, and how wide letters are. Not here: what is drawn."""

from __future__ import annotations

import unicodedata
from html import escape
from typing import Final

from daulat.values.plain import plain

_LONGEST: Final = 1000
_ISOLATES: Final = "\u2068\u2069"
_WIDE: Final = frozenset("WMmw@%—…ŒÆ")
_SLIM: Final = frozenset("iljtfrI.,:;'|!()[] \u00a0")


def element(name: str, content: str = "", /, **attributes: float | str) -> str:
    """An element; numbers get two decimals, texts are escaped. In names of attributes _ stands for -.

    Args:
        content: markup.
    """
    told = "".join(
        f' {key.strip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>"


def text(words: str, x: float, y: float, size: float, **attributes: float | str) -> str:
    """A line of letters; `y` is their base line."""
    return element("text", clean(words), x=x, y=y, font_size=size, **attributes)


def clean(words: str) -> str:
    """Words as content: no markup, no characters that XML does not allow, one line."""
    return escape(" ".join(_bare(words).split()))


def _bare(words: str) -> str:
    """Without what steers or XML does not allow; isolates of directions are kept."""
    return "".join(
        one for one in words if one in _ISOLATES or (one not in "\ufffe\uffff" and plain(one))
    )


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def width_of(words: str, size: float) -> float:
    """Pixels that a text takes at most in a usual sans-serif face."""
    return size * sum(map(_ems, words))


def _ems(character: str) -> float:
    if unicodedata.combining(character) or character in "\u200c\u200d\ufe0f\u2068\u2069":
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.4 if ord(character) > 0xFFFF else 1.05
    if character in _SLIM:
        return 0.4
    if character in _WIDE or ord(character) > 0x2FFF:
        return 1.0
    return 0.72 if character.isupper() else 0.6 if ord(character) < 0x250 else 0.8


def shortened(words: str, size: float, room: float) -> str:
    """The text, or as much of its beginning and end as there is room for."""
    words = " ".join(_bare(words[:_LONGEST]).split())
    if width_of(words, size) <= room:
        return words
    keep = len(words) - 1
    while keep > 1 and width_of(_cut(words, keep), size) > room:
        keep -= max(1, keep // 16)
    return _cut(words, keep)


def _cut(words: str, keep: int) -> str:
    head = (2 * keep + 2) // 3
    tail = keep - head
    return words[:head].rstrip() + "…" + (words[-tail:].lstrip() if tail else "")
