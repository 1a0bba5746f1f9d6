"""Daulat's own API keys in a text: where they are, and the text without them.

A key is known by its shape alone, so no text is compared with any secret.

Not here: which keys exist (`record.keys`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MASK = "daulat-…"

# A key has 43 characters behind its prefix. More are taken too: where two keys, or a prefix and a
# key, stand together without a gap, a match of just 43 would leave the end of a secret behind.
PATTERN: Final = re.compile(r"daulat-[A-Za-z0-9_-]{43,}")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text."""

    start: int
    end: int


def find(text: str) -> tuple[Span, ...]:
    """Where keys stand, in order, without overlaps."""
    return tuple(Span(*match.span()) for match in PATTERN.finditer(text))


def mask(text: str) -> str:
    """The text with `MASK` in place of each key; nothing of the secret is left."""
    return PATTERN.sub(MASK, text)
