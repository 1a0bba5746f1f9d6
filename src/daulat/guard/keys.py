"""Daulat's own keys in texts: where they stand, and the text without them.

People paste configuration into prompts. A key that got into a prompt must not get into the record.
"""

from __future__ import annotations

import re

_KEY = re.compile(r"daulat-[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_MASK = "daulat-…"


def find(text: str) -> list[tuple[int, int]]:
    """Start and end of each key, in order."""
    return [match.span() for match in _KEY.finditer(text)]


def mask(text: str) -> str:
    """The text with each key replaced by a mark that holds none of it."""
    return _KEY.sub(_MASK, text)
