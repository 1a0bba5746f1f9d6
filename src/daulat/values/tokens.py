"""The house's estimate of tokens, where nobody tells how many there were.

Four UTF-8 bytes to a token, rounded up: what English text has on the average with the vocabularies of
today's models. Not here: a model's own tokens (`models.tokenizer`).
"""

from __future__ import annotations

BYTES = 4


def counted(text: str) -> int:
    """About how many tokens a text has; 0 for none."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES)
