"""Whether two answers to the same request say the same, as far as their words show.

Answers that end with a letter of an option or an announced number agree if these are equal; all others if they
share many of their words. A test that is quick and the same for every task, not one of who is right: what it
counts is held against its own count on the examples of a certificate. Not here: metrics with references
(`evaluate.metrics`).
"""

from __future__ import annotations

from typing import Final

from daulat.route.learning.features import said, shared_words
from daulat.route.learning.texts import ending, seen

ALIKE: Final = 0.5
"""The share of all their words that two answers have in common, at least, to agree."""
_BRIEF: Final = 40
"""An answer of so few characters is its own announcement."""


def agree(one: str, other: str) -> bool:
    """Whether they do. Symmetric; an answer agrees with itself."""
    if _final(one) and _final(other):
        return said(one) == said(other)
    return one.strip() == other.strip() or shared_words(one, other) >= ALIKE


def _final(answer: str) -> bool:
    found = ending(seen(answer))
    if found.letter:
        return True
    return found.number is not None and (found.marked or len(answer.strip()) <= _BRIEF)
