"""How answers become programs, and how faults rewrite them: two tables, for streams and for whole bodies.

A fault that is in neither table changes the answer (`reply`), the status (`app`), or nothing.
Not here: sending (`program`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from daulat.endpoints.scripted.faults import Chosen
from daulat.endpoints.scripted.program import Program, Step, plain
from daulat.endpoints.scripted.script import Delays
from daulat.endpoints.scripted.wires import JSON_TYPE, Frames

HUGE_BYTES: Final = 50_000_000
_MEGABYTE: Final = 1_000_000
_EURO: Final = "\u20ac"
_BROKEN_CHARACTER: Final = _EURO.encode()[:2]
_GARBAGE: Final = b"\x00\xff\xfe{{{]]]garbage\x80\x81" * 8
_PAGE: Final = b"<!doctype html><title>Sign in</title><p>Please sign in to the network.\n"
_ENDLESS_PAUSE: Final = 0.001
_STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
_STREAM_HEADERS: Final = [(b"content-type", _STREAM_TYPE), (b"cache-control", b"no-cache")]


def without_answer(fault: Chosen, stream: bool) -> Program | None:
    """The faults that come in place of any answer."""
    kind = _STREAM_TYPE if stream else JSON_TYPE
    match fault.name:
        case "dies_before_headers":
            return Program(0, [], ending="cut")
        case "redirect":
            return plain(302, b"", b"text/plain", [(b"location", b"https://elsewhere.invalid/")])
        case "wrong_content_type":
            return plain(200, _PAGE, b"text/html; charset=utf-8")
        case "empty_body":
            return plain(200, b"", kind)
        case "garbage_body":
            return plain(200, _GARBAGE, kind)
        case _:
            return None


def _bytewise(data: bytes, tokens: int, wait: float) -> list[Step]:
    steps = [Step(data[at : at + 1]) for at in range(len(data))]
    if steps:
        steps[0].tokens, steps[0].wait = tokens, wait
    return steps


def _endless(data: bytes) -> Iterator[Step]:
    while True:
        yield Step(data, 1, _ENDLESS_PAUSE)


# --- whole bodies ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Body:
    """A body of so many tokens that comes after `wait` seconds, cut in halves."""

    data: bytes
    tokens: int
    wait: float
    late: float

    @property
    def first(self) -> Step:
        return Step(self.data[: len(self.data) // 2], self.tokens, self.wait)

    def rest(self, wait: float = 0.0) -> Step:
        return Step(self.data[len(self.data) // 2 :], 0, wait)

    def told(self, data: bytes, program: Program) -> None:
        """Send other bytes, and say their length."""
        program.steps, program.length = [Step(data, self.tokens, self.wait)], len(data)


def whole(body: bytes, tokens: int, delays: Delays, fault: Chosen | None) -> Program:
    """An answer in one body of so many tokens; all of them are billed with its first byte."""
    wait = delays.first + delays.between * tokens
    headers = [(b"content-type", JSON_TYPE)]
    program = Program(200, [Step(body, tokens, wait)], headers, len(body))
    change = _WHOLE.get(fault.name) if fault else None
    if change is not None:
        change(program, _Body(body, tokens, wait, delays.late))
    return program


def _whole_slow(program: Program, body: _Body) -> None:
    program.steps = [Step(body.data, body.tokens, body.wait + body.late)]


def _headers_slow(program: Program, body: _Body) -> None:
    program.late = body.late


def _whole_second_slow(program: Program, body: _Body) -> None:
    program.steps = [body.first, body.rest(body.late)]


def _whole_dies(program: Program, body: _Body) -> None:
    program.steps, program.ending = [body.first], "cut"


def _whole_stalls(program: Program, body: _Body) -> None:
    program.steps, program.ending = [body.first], "stall"


def _whole_garbage(program: Program, body: _Body) -> None:
    body.told(body.data[: len(body.data) * 2 // 3], program)


def _whole_truncated(program: Program, body: _Body) -> None:
    at = body.data.rfind(b'"')
    body.told(body.data[:at] + _BROKEN_CHARACTER + body.data[at:], program)


def _whole_bytewise(program: Program, body: _Body) -> None:
    program.steps, program.length = _bytewise(body.data, body.tokens, body.wait), None


def _whole_endless(program: Program, body: _Body) -> None:
    program.steps, program.length = itertools.chain([body.first], _endless(b"and ")), None


def _whole_huge(program: Program, body: _Body) -> None:
    middle = [Step(b" " * _MEGABYTE)] * (HUGE_BYTES // _MEGABYTE)
    first = Step(body.data[:1], body.tokens, body.wait)
    program.steps = [first, *middle, Step(body.data[1:])]
    program.length = len(body.data) + HUGE_BYTES


_WHOLE: Final[Mapping[str, Callable[[Program, _Body], None]]] = {
    "slow": _whole_slow,
    "headers_slow": _headers_slow,
    "slow_second_chunk": _whole_second_slow,
    "dies_mid_stream": _whole_dies,
    "dies_mid_body": _whole_dies,
    "stalls": _whole_stalls,
    "garbage_json": _whole_garbage,
    "truncated_utf8": _whole_truncated,
    "split_bytes": _whole_bytewise,
    "never_ends": _whole_endless,
    "huge_line": _whole_huge,
}


# --- streams --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream's steps, cut behind K pieces."""

    frames: Frames
    steps: list[Step]
    k: int
    late: float

    @property
    def kept(self) -> list[Step]:
        """What opens it, and K pieces."""
        return self.steps[: self.k + 1]

    @property
    def rest(self) -> list[Step]:
        """The pieces behind, and the end."""
        return self.steps[self.k + 1 :]

    @property
    def next(self) -> bytes:
        """The event behind K pieces; one more, where there are no more."""
        return self.rest[0].data if len(self.rest) > 1 else self.frames.more("and ")

    def told(self, data: bytes) -> list[Step]:
        """All of it, with other bytes for the event behind K pieces."""
        rest = self.rest
        if len(rest) == 1:
            return [*self.kept, Step(data), *rest]
        return [*self.kept, Step(data, rest[0].tokens, rest[0].wait), *rest[1:]]


def streamed(frames: Frames, delays: Delays, fault: Chosen | None) -> Program:
    """An answer as events; those between which nothing has to happen go out together."""
    program = Program(200, (), _STREAM_HEADERS)
    change = _STREAM.get(fault.name) if fault else None
    if fault is None or change is None:
        program.steps = _together(frames, delays) if not delays.between else _apart(frames, delays)
        return program
    steps = _apart(frames, delays)
    k = min(fault.k, len(steps) - 2)
    program.steps = change(program, _Stream(frames, steps, k, delays.late))
    return program


def _together(frames: Frames, delays: Delays) -> list[Step]:
    body = b"".join((frames.opening, *frames.pieces, frames.closing, frames.done))
    return [Step(body, sum(frames.costs), delays.first)]


def _apart(frames: Frames, delays: Delays) -> list[Step]:
    """What opens the stream, each piece, what closes it."""
    pairs = zip(frames.pieces, frames.costs, strict=True)
    steps = [Step(data, tokens, delays.between) for data, tokens in pairs]
    if steps:
        steps[0].wait = 0.0
    return [Step(frames.opening, 0, delays.first), *steps, Step(frames.closing + frames.done)]


def _slow(_program: Program, stream: _Stream) -> Iterable[Step]:
    stream.steps[0].wait += stream.late
    return stream.steps


def _stream_headers_slow(program: Program, stream: _Stream) -> Iterable[Step]:
    program.late = stream.late
    return stream.steps


def _second_slow(_program: Program, stream: _Stream) -> Iterable[Step]:
    stream.rest[0].wait += stream.late
    return stream.steps


def _dies(program: Program, stream: _Stream) -> Iterable[Step]:
    program.ending, program.cut = "cut", stream.next
    return stream.kept


def _stalls(program: Program, stream: _Stream) -> Iterable[Step]:
    program.ending = "stall"
    return stream.kept


def _just_ends(_program: Program, stream: _Stream) -> Iterable[Step]:
    return stream.kept


def _errs(_program: Program, stream: _Stream) -> Iterable[Step]:
    return [*stream.kept, Step(stream.frames.error)]


def _garbage(_program: Program, stream: _Stream) -> Iterable[Step]:
    text = stream.next.rstrip(b"\r\n")
    json = len(text) - text.rfind(b"data: ")
    return stream.told(text[: len(text) - max(json // 3, 2)] + b"\n\n")


def _truncated(_program: Program, stream: _Stream) -> Iterable[Step]:
    return stream.told(stream.frames.more(_EURO).replace(_EURO.encode(), _BROKEN_CHARACTER))


def _huge(_program: Program, stream: _Stream) -> Iterable[Step]:
    return [*stream.kept, Step(stream.frames.more("x" * HUGE_BYTES)), *stream.rest]


def _never_ends(_program: Program, stream: _Stream) -> Iterable[Step]:
    return itertools.chain(stream.steps[:-1], _endless(stream.frames.more("and ")))


def _done_twice(_program: Program, stream: _Stream) -> Iterable[Step]:
    return [*stream.steps, Step(stream.frames.done or _last_event(stream.frames.closing))]


def _last_event(closing: bytes) -> bytes:
    text = closing.rstrip(b"\r\n")
    at = max(text.rfind(b"\n\n"), text.rfind(b"\r\n\r\n"))
    return closing[at + 1 :].lstrip(b"\r\n") if at >= 0 else closing


def _split(_program: Program, stream: _Stream) -> Iterable[Step]:
    return itertools.chain.from_iterable(
        _bytewise(step.data, step.tokens, step.wait) for step in stream.steps
    )


def _each(
    change: Callable[[bytes], bytes],
) -> Callable[[Program, _Stream], Iterable[Step]]:
    """Every step with its bytes changed."""
    return lambda _program, stream: [
        Step(change(step.data), step.tokens, step.wait) for step in stream.steps
    ]


_STREAM: Final[Mapping[str, Callable[[Program, _Stream], Iterable[Step]]]] = {
    "slow": _slow,
    "headers_slow": _stream_headers_slow,
    "slow_second_chunk": _second_slow,
    "dies_mid_stream": _dies,
    "dies_mid_body": _dies,
    "stalls": _stalls,
    "ends_without_done": _just_ends,
    "error_event_mid_stream": _errs,
    "garbage_json": _garbage,
    "truncated_utf8": _truncated,
    "huge_line": _huge,
    "never_ends": _never_ends,
    "duplicate_done": _done_twice,
    "split_bytes": _split,
    "keepalive_comments": _each(lambda data: b": keepalive\n\n" + data),
    "crlf": _each(lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
}
