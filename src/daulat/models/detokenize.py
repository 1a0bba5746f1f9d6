"""From tokens back to text: the bytes of each piece, and a stream that gives whole characters only.

Text is always the tokens' bytes, joined and then read as UTF-8; what is not UTF-8 becomes U+FFFD.
So a stream and a whole decode agree by construction, and no token is ever decoded twice.
`tokenizers` agrees on every sequence whose bytes are UTF-8; on others it may count the U+FFFD
differently.

Not here: text to tokens (`tokenizer`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

PieceKind = Literal["bytes", "spaces", "words"]
"""How a vocabulary spells bytes.

`bytes`: GPT-2's alphabet, one printable character for each byte. `spaces`: SentencePiece's, U+2581
for a space and `<0xNN>` for a byte. `words`: WordPiece's, `##` inside a word.
"""

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte (openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return alphabet


_ALPHABET = byte_alphabet()


def _of_bytes(piece: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8")  # an added token, spelled as it is


def _of_spaces(piece: str) -> bytes:
    if byte := _FALLBACK.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("\u2581", " ").encode("utf-8")


def _of_words(piece: str) -> bytes:
    return piece[2:].encode("utf-8") if piece.startswith("##") else f" {piece}".encode()


PIECE_BYTES: dict[PieceKind, Callable[[str], bytes]] = {
    "bytes": _of_bytes,
    "spaces": _of_spaces,
    "words": _of_words,
}


class Vocabulary(Protocol):
    """What a stream needs of a tokenizer."""

    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def drops_first_space(self) -> bool: ...
    def token_bytes(self, token: int) -> bytes: ...


class TextStream:
    """Tokens in, whole characters out; everything it gave, joined, is `Tokenizer.decode` of all
    tokens.

    Args:
        keep_space: keep the space before the first word where the vocabulary would drop it: for
            text
            that continues a prompt.
        spelled: special tokens that are spelled out nevertheless.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        keep_space: bool = False,
        spelled: frozenset[int] = frozenset(),
    ) -> None:
        self._vocabulary = vocabulary
        self._skipped = vocabulary.special_ids - spelled
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drop_space = vocabulary.drops_first_space and not keep_space

    def push(self, token: int) -> str:
        """The characters that this token completes; often none."""
        if token in self._skipped:
            return ""
        data = self._vocabulary.token_bytes(token)
        if self._drop_space and data:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def decode(vocabulary: Vocabulary, tokens: Iterable[int], *, keep_space: bool = False) -> str:
    """The text of a sequence; special tokens are skipped."""
    special = vocabulary.special_ids
    data = b"".join(vocabulary.token_bytes(t) for t in tokens if t not in special)
    if vocabulary.drops_first_space and not keep_space:
        data = data.removeprefix(b" ")
    return data.decode("utf-8", "replace")
