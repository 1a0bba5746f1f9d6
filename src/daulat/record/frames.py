"""What goes between a server and the process that writes its record: frames over a socket.

A frame is four bytes of length (big endian) and as many bytes of JSON:

    first, to the writer    the database, and whether it is a path
    from then on            a number, an entry to be appended, and when it was told, if it was (`link`)
    back                    a list of [number, refusal, error], empty when the writer is ready

Both ends are of one version. Not here: what either end does (`writer`, `writing`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from daulat.record.chain import Draft
from daulat.record.charges import Outcome, Refusal, Wish
from daulat.record.entering import New

HEADER: Final = struct.Struct(">I")


class Place(msgspec.Struct, array_like=True):
    """A database, as the file system's bytes. `path`: SQLite's file; else an SQLAlchemy URL."""

    where: bytes
    path: bool


class Answer(msgspec.Struct, array_like=True):
    """What became of an entry: written, refused by a limit, or not written, and why."""

    number: int
    refusal: Refusal | None = None
    error: str | None = None


class _Draft(msgspec.Struct, array_like=True):
    """A draft without its body, whose bytes are there already."""

    kind: str
    subject: str
    encoded: bytes
    contents: dict[str, tuple[bytes, bytes | None]]
    commitments: dict[str, tuple[str, bool]]


class _New(msgspec.Struct, array_like=True):
    number: int
    draft: _Draft
    wish: Wish | None
    settled: tuple[Outcome, ...]
    refused: _Draft | None
    at: str | None


_ENCODER: Final = msgspec.json.Encoder()
_PLACES: Final = msgspec.json.Decoder(Place)
_NEW: Final = msgspec.json.Decoder(_New)
_ANSWERS: Final = msgspec.json.Decoder(list[Answer])


def place(one: Place) -> bytes:
    return _framed(one)


def new(number: int, one: New, at: str | None = None) -> bytes:
    """An entry. `at`: when it was told; None: it was not."""
    refused = None if one.refused is None else _sent(one.refused)
    settled = tuple(one.settled)
    return _framed(_New(number, _sent(one.draft), one.wish, settled, refused, at or one.at))


def answers(many: list[Answer]) -> bytes:
    return _framed(many)


def read_place(frame: bytes) -> Place:
    return _PLACES.decode(frame)


def read_new(frame: bytes) -> tuple[int, New]:
    one = _NEW.decode(frame)
    refused = None if one.refused is None else _received(one.refused)
    return one.number, New(_received(one.draft), one.wish, one.settled, refused, one.at)


def read_answers(frame: bytes) -> list[Answer]:
    return _ANSWERS.decode(frame)


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole with these bytes."""
        self._rest += data
        at = 0
        while len(self._rest) - at >= HEADER.size:
            (length,) = HEADER.unpack_from(self._rest, at)
            end = at + HEADER.size + length
            if end > len(self._rest):
                break
            yield bytes(self._rest[at + HEADER.size : end])
            at = end
        del self._rest[:at]


def _framed(value: object) -> bytes:
    data = _ENCODER.encode(value)
    return HEADER.pack(len(data)) + data


def _sent(one: Draft) -> _Draft:
    return _Draft(one.kind, one.subject, one.encoded, dict(one.contents), dict(one.commitments))


def _received(one: _Draft) -> Draft:
    body = json.loads(one.encoded.decode("utf-8", "surrogatepass"))
    return Draft(one.kind, one.subject, body, one.encoded, one.contents, one.commitments)
