"""A SentencePiece `tokenizer.model`, read without its library: the few fields that a BPE model
needs.

The file is a protocol buffer; the reader below knows four wire types and never trusts a length.

Not here: what becomes of the pieces (`tokenizer_parts`).
Source: `sentencepiece_model.proto` in the SentencePiece repository.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.tokenizer_parts import MAX_VOCAB, Piece

_BPE = 2


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """Pieces in the order of their ids, and whether a text gets a space in front."""

    pieces: tuple[Piece, ...]
    add_space: bool


def parse(data: bytes, where: str) -> SentencePieceModel:
    """Reads a BPE model.

    Raises:
        ModelFileError: not a SentencePiece model, or damaged.
        UnsupportedModelError: a unigram model, or one that rewrites texts by rules of its own.
    """
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data, where):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            pieces.append(_piece(dict(_fields(value, where)), where))
            if len(pieces) > MAX_VOCAB:
                raise ModelFileError(f"{where} has more than {MAX_VOCAB} pieces.")
        elif number == 2:
            trainer = dict(_fields(value, where))
        elif number == 3:
            normalizer = dict(_fields(value, where))
    if not pieces:
        raise ModelFileError(f"{where} is not a SentencePiece model: it has no pieces.")
    if trainer.get(3, 1) != _BPE:
        raise _unsupported(where, "it is not a BPE model")
    if normalizer.get(2):
        raise _unsupported(where, "it normalises texts by a table of its own")
    if normalizer.get(4, 1) != 0:
        raise _unsupported(where, "it removes spaces from texts")
    return SentencePieceModel(tuple(pieces), normalizer.get(3, 1) != 0)


def _unsupported(where: str, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{where} is not read, because {what}; add a tokenizer.json.")


def _piece(fields: dict[int, int | bytes], where: str) -> Piece:
    text, score, kind = fields.get(1, b""), fields.get(2, b"\0\0\0\0"), fields.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise ModelFileError(f"{where}: a piece has fields of the wrong type.")
    (number,) = struct.unpack("<f", score)
    if not isinstance(kind, int) or not 1 <= kind <= 6 or not math.isfinite(number):
        raise ModelFileError(f"{where}: a piece has an impossible type or score.")
    try:
        return Piece(text.decode("utf-8"), number, kind)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{where}: a piece is not UTF-8.") from error


def _fields(data: bytes, where: str) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one message; numbers of fixed width come as their bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at, where)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at, where)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at, where)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ModelFileError(f"{where} is not a SentencePiece model.")
        if size > len(data) - at:
            raise ModelFileError(f"{where} is cut off or not a SentencePiece model.")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelFileError(f"{where} is cut off or not a SentencePiece model.")
