"""How many tokens a text has where nobody tells: the house's estimate, one rule for everyone.

Not here: a model's own tokenizer (`models.tokenizer`), which knows.
"""

from __future__ import annotations

BYTES_PER_TOKEN = 4


def counted(text: str) -> int:
    """The house's estimate where nobody tells: UTF-8 bytes / 4, rounded up; 0 for no text.

    It is public and deterministic, so that whoever estimates the same text comes to the same number:
    the books of the gateway and those of the scripted upstream.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)
