"""Texts of others, made harmless where they stand among our own. Not here: escaping for a format."""

from __future__ import annotations

import unicodedata
from typing import Final

# Tab, newline, and the joiners that Indic and Arabic scripts and emoji need.
_HARMLESS: Final = "\t\n\u200c\u200d"


def plain(text: str) -> str:
    """The text without what would steer a terminal or turn the direction of ours: control and format
    characters, lone surrogates."""
    return "".join(character for character in text if _is_plain(character))


def _is_plain(character: str) -> bool:
    return character in _HARMLESS or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
