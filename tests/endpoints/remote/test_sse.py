"""Server-sent events: however the bytes are cut, what a slow and plain parser finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.endpoints.remote.dialect import ServerEvent
from daulat.endpoints.remote.sse import Events
from daulat.errors import UpstreamAnswerError


def plain(stream: bytes, *, end: bool) -> list[ServerEvent]:
    """The WHATWG's algorithm, word by word, on the whole stream; `end`: the cut-off event too."""
    text = stream.decode().removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    *lines, rest = text.split("\n")
    if end:
        lines += [rest, ""] if rest else [""]
    found: list[ServerEvent] = []
    data: list[str] = []
    name = ""
    for line in lines:
        if line == "":
            if data:
                found.append(ServerEvent("\n".join(data), name))
            data, name = [], ""
            continue
        field, colon, value = line.partition(":")
        if field == "" and colon:
            continue
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return found


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    for size in sizes:
        parts.append(stream[at : at + size])
        at += size
    return [*parts, stream[at:]]


LINES = st.sampled_from(
    (
        *("data: a", "data:b", "data:  c", "data", "data:", ": note", "event: error", "event"),
        *("id: 1", "retry: 5", 'data: {"x":"é日🙂"}', "", "", "", "other: 1"),
        *("\ufeffdata: d", "data: \u2028x"),
    )
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
STREAMS = st.tuples(
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(LINES, ENDS), max_size=30),
    st.sampled_from(["", "data: cut", "data", "event: e", "\r"]),
).map(lambda made: (made[0] + "".join(a + b for a, b in made[1]) + made[2]).encode())


@given(STREAMS, st.lists(st.integers(0, 7), max_size=60))
def test_equals_the_plain_parser(stream: bytes, sizes: list[int]) -> None:
    events = Events()
    found = [event for part in cut(stream, sizes) for event in events.feed(part)]
    assert found == plain(stream, end=False)
    assert found + events.end() == plain(stream, end=True)


@given(st.text(max_size=200), st.lists(st.integers(1, 5), max_size=100))
def test_any_text(text: str, sizes: list[int]) -> None:
    stream = text.encode("utf-8", "replace")
    events = Events()
    found = [event for part in cut(stream, sizes) for event in events.feed(part)]
    assert found + events.end() == plain(stream, end=True)


def test_what_is_not_utf8_is_an_error() -> None:
    with pytest.raises(UpstreamAnswerError) as raised:
        Events().feed(b"data: \xe6\x97\n\n")
    assert raised.value.billable


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 200],
        [b"data: "] + [b"x"] * 200,
        [b"data: xxxxxxxxx\n"] * 12,
        [b"data\n"] * 200,
        [b"event: " + b"x" * 200 + b"\n"],
    ],
    ids=["line", "bytes", "lines", "empty lines", "name"],
)
def test_an_event_has_a_limit(chunks: list[bytes]) -> None:
    events = Events(limit=100)
    with pytest.raises(UpstreamAnswerError):
        _ = [events.feed(chunk) for chunk in chunks]


def test_events_below_the_limit_go_on_for_ever() -> None:
    events = Events(limit=100)
    for _ in range(1000):
        assert len(events.feed(b"data: " + b"x" * 80 + b"\n\n")) == 1


@pytest.mark.parametrize("bad", [b"data: \xe4\n\n", b"data: " + b"x" * 40 + b"\n\n"])
def test_what_came_before_a_broken_event_is_heard(bad: bytes) -> None:
    events = Events(limit=32)
    events.check()
    assert events.feed(b"data: a\n\ndata: b\n\n" + bad) == [
        ServerEvent("a", ""),
        ServerEvent("b", ""),
    ]
    with pytest.raises(UpstreamAnswerError):
        events.check()
