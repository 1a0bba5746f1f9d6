"""What a load asks, and whether the answer is the one to that very question.

The upstream says the question back, a token at a time, and no two questions are alike: each begins with a
word of its own, and the words behind it are drawn at random. So the answer is known beforehand, and one that
is short, changed, mixed with another's or another's altogether is found, for streams down to the single chunk.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import msgspec

CONSONANTS, VOWELS = "bdfghjklmnprstvz", "aiou"
SYLLABLES = [a + b for a in CONSONANTS for b in VOWELS]
MARKS = len(SYLLABLES) ** 4
SLOT = "x" * 8
"""Where the mark goes: no word has as many of them."""
MARK_TOKENS = 3
"""The mark with three letters before it and the space: 12 bytes, and the upstream has 4 to a token."""
TEXTS = 1024
"""So many are drawn; the mark makes each use of one another question."""


def mark(number: int) -> str:
    """A word that can be spoken, of eight letters: no detector takes it for somebody's number."""
    rest, found = number % MARKS, ""
    for _ in range(4):
        rest, digit = divmod(rest, len(SYLLABLES))
        found += SYLLABLES[digit]
    return found


def texts(tokens: int) -> list[str]:
    """Questions of so many tokens: the slot, then words of three letters, each a token with its space."""
    chance = random.Random(7)  # noqa: S311 - a workload
    words = [syllable + end for syllable in SYLLABLES for end in CONSONANTS]
    return [
        " ".join([f"ask{SLOT}", *chance.choices(words, k=tokens - MARK_TOKENS)])
        for _ in range(TEXTS)
    ]


class Forms:
    """Requests made beforehand but for their marks: what is sent, and what must come back."""

    def __init__(self, host: str, key: str, model: str, tokens: int, *, stream: bool) -> None:
        self.stream = stream
        self._texts = texts(tokens)
        self._requests = [_request(host, key, model, text, stream) for text in self._texts]
        self._slot = SLOT.encode("ascii")

    def request(self, number: int) -> bytes:
        return self._requests[number % TEXTS].replace(self._slot, mark(number).encode("ascii"))

    def answer(self, number: int) -> str:
        return self._texts[number % TEXTS].replace(SLOT, mark(number))


def _request(host: str, key: str, model: str, text: str, stream: bool) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    content = json.dumps(body)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return (head + content).encode("ascii")


class Message(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: Message | None = None
    delta: Message | None = None


class Completion(msgspec.Struct):
    choices: list[Choice] = msgspec.field(default_factory=list)
    error: object = None


_decode = msgspec.json.Decoder(Completion).decode


class Exchange:
    """One request and what came of it.

    `failure` is empty for the right answer, else its kind: status, broken, timeout or wrong. Times are seconds
    on the clock of the load; `first` is that of the first text.
    """

    __slots__ = (
        "_done",
        "_forms",
        "_pieces",
        "counted",
        "ended",
        "failure",
        "first",
        "number",
        "scheduled",
        "sent",
        "why",
    )

    def __init__(
        self,
        forms: Forms,
        number: int,
        scheduled: float,
        done: Callable[[Exchange], None],
        *,
        counted: bool = True,
    ) -> None:
        self._forms, self._done, self._pieces = forms, done, list[bytes]()
        self.number, self.scheduled, self.counted = number, scheduled, counted
        self.sent = self.first = self.ended = 0.0
        self.failure, self.why = "", ""

    def request(self) -> bytes:
        self.sent = time.monotonic()
        return self._forms.request(self.number)

    def piece(self, body: bytes) -> None:
        self._pieces.append(body)

    def end(self, status: int, broken: str) -> None:
        if self.ended:
            return
        self.ended = time.monotonic()
        body = b"".join(self._pieces)
        self._pieces.clear()
        if broken:
            self.fail("broken", broken)
        elif status != 200:
            self.fail("status", f"{status}: {body[:300].decode(errors='replace')}")
        else:
            self.judge(body)
        self._done(self)

    def late(self) -> None:
        """It has taken too long."""
        if not self.ended:
            self.ended = time.monotonic()
            self.fail("timeout", "no whole answer in time")
            self._done(self)

    def fail(self, kind: str, why: str) -> None:
        self.failure, self.why = kind, why

    def judge(self, body: bytes) -> None:
        """Is this the whole answer to this request?"""
        try:
            choice = _decode(body).choices[0]
            text = choice.message.content if choice.message else None
        except (msgspec.DecodeError, IndexError) as wrong:
            self.fail("wrong", f"{wrong}: {body[:300].decode(errors='replace')}")
            return
        self.compare(text or "", choice.finish_reason)

    def compare(self, text: str, finish: str | None) -> None:
        if text != self._forms.answer(self.number):
            self.fail("wrong", f"to {mark(self.number)!r} came {text[:200]!r}, {len(text)} letters")
        elif finish != "stop":
            self.fail("wrong", f"ended by {finish!r}")


class Streamed(Exchange):
    """The same as server-sent events: chunks, then the reason of the end, then [DONE] and nothing more."""

    __slots__ = ("_closed", "_finish", "_rest", "_texts", "chunks", "gap", "last")

    def __init__(
        self,
        forms: Forms,
        number: int,
        scheduled: float,
        done: Callable[[Exchange], None],
        *,
        counted: bool = True,
    ) -> None:
        super().__init__(forms, number, scheduled, done, counted=counted)
        self._rest, self._texts = b"", list[str]()
        self._closed, self._finish = False, ""
        self.chunks, self.last, self.gap = 0, 0.0, 0.0

    def piece(self, body: bytes) -> None:
        if self.failure:
            return
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
            elif line.startswith(b"{"):  # an error's body, which is no event
                super().piece(line)
        if self._rest.startswith(b"{"):
            super().piece(self._rest)
            self._rest = b""

    def _event(self, data: bytes) -> None:
        if self._closed:
            self.fail("wrong", f"behind [DONE] came {data[:100]!r}")
            return
        if data == b"[DONE]":
            self._closed = True
            return
        try:
            chunk = _decode(data)
        except msgspec.DecodeError as wrong:
            self.fail("wrong", f"{wrong}: {data[:300].decode(errors='replace')}")
            return
        if chunk.error is not None:
            self.fail("broken", f"an error event: {chunk.error}")
        for choice in chunk.choices:
            if choice.delta and choice.delta.content:
                self._text(choice.delta.content)
            self._finish = choice.finish_reason or self._finish

    def _text(self, text: str) -> None:
        now = time.monotonic()
        self.first = self.first or now
        self.gap = max(self.gap, now - (self.last or now))
        self.last = now
        self.chunks += 1
        self._texts.append(text)

    def judge(self, body: bytes) -> None:
        if self.failure:
            return
        if not self._closed:
            self.fail("broken", f"ended without [DONE], behind {self.chunks} chunks")
            return
        self.compare("".join(self._texts), self._finish)
