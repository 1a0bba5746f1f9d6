"""The load that measures the gateway: does it notice every answer that is not the right one?

Its figures are of no interest here; nothing is timed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import load
import wire

HEAD = b"HTTP/1.1 200 OK\r\n"


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    chunked=st.booleans(),
)
def test_an_answer_is_the_same_however_it_is_cut(
    chunks: list[bytes], cuts: list[int], chunked: bool
) -> None:
    body = b"".join(chunks)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    data = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" + framed if chunked else length + body)
    framing = wire.Framing()
    found = list[bytes]()
    for piece in _pieces(data, cuts):
        assert not framing.done
        found.append(framing.feed(piece))
    assert (framing.status, framing.done, b"".join(found)) == (200, True, body)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 1\r\n\r\nab",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1",
    ],
)
def test_what_is_no_answer_is_broken(data: bytes) -> None:
    with pytest.raises(wire.Broken):
        wire.Framing().feed(data)


def _whole(text: str, finish: str = "stop") -> bytes:
    choice = {"message": {"content": text}, "finish_reason": finish}
    return _answer(json.dumps({"choices": [choice]}).encode())


def _answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _events(*texts: str, done: bool = True, finish: str | None = "stop") -> bytes:
    choices: list[Any] = [{"delta": {"content": text}} for text in texts]
    choices.append({"delta": {}, "finish_reason": finish})
    told = "".join(f"data: {json.dumps({'choices': [one]})}\n\n" for one in choices)
    return _answer((told + "data: [DONE]\n\n" * done).encode())


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _cut(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return bool(answer) and len(body) < int(head.rpartition(b" ")[2])


Answer = Callable[[str], bytes]
PLAIN: dict[str, tuple[Answer, str]] = {
    "right": (_whole, ""),
    "short": (lambda text: _whole(text[:-4]), "wrong"),
    "another's": (lambda text: _whole("b" + text), "wrong"),
    "cut by length": (lambda text: _whole(text, "length"), "wrong"),
    "no JSON": (lambda text: _answer(b"{"), "wrong"),
    "no choice": (lambda text: _answer(b'{"choices": []}'), "wrong"),
    "an error": (lambda text: _answer(b"{}", "500 Oh"), "status"),
    "cut": (lambda text: _whole(text)[:-5], "broken"),
    "nothing": (lambda text: b"", "timeout"),
}
STREAMED: dict[str, tuple[Answer, str]] = {
    "right": (lambda text: _events(*_halves(text)), ""),
    "a chunk lost": (lambda text: _events(_halves(text)[0]), "wrong"),
    "chunks in another order": (lambda text: _events(*_halves(text)[::-1]), "wrong"),
    "no [DONE]": (lambda text: _events(text, done=False), "broken"),
    "no reason": (lambda text: _events(text, finish=None), "wrong"),
    "an error event": (
        lambda text: _answer(b'data: {"error": {"message": "oh"}}\n\ndata: [DONE]\n\n'),
        "broken",
    ),
    "refused": (lambda text: _answer(b'{"error": {"message": "no"}}', "429 No"), "status"),
}


async def _came(answer: Answer, kind: str, **job: Any) -> dict[str, Any]:
    """One job against a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(length))
            told = answer(asked["messages"][0]["content"])
            writer.write(told)
            if _cut(told):
                writer.close()
                return

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    whole = load.Job(kind, f"http://127.0.0.1:{port}", "key", "model", timeout=1.0, **job)
    try:
        return await load.run(whole)
    finally:
        server.close()


@pytest.mark.parametrize("name", PLAIN)
async def test_each_wrong_answer_is_counted_as_what_it_is(name: str) -> None:
    answer, failure = PLAIN[name]
    told = await _came(answer, "many", requests=20, under_way=10)
    assert told["failures"] == ({failure: 20} if failure else {})
    assert told["answered"] == (0 if failure else 20)


@pytest.mark.parametrize("name", STREAMED)
async def test_each_wrong_stream_is_counted_as_what_it_is(name: str) -> None:
    answer, failure = STREAMED[name]
    told = await _came(answer, "streams", requests=20, rate=200.0)
    assert told["failures"] == ({failure: 20} if failure else {})


async def test_a_constant_rate_asks_each_question_once() -> None:
    seen = list[str]()

    def answer(text: str) -> bytes:
        seen.append(text)
        return _whole(text)

    told = await _came(answer, "rate", rate=200.0, seconds=0.5, warm=0.25)
    assert told["answered"] == len(seen) == len(set(seen)) == 150


async def test_one_slow_connection_holds_nothing_up() -> None:
    """Requests that find no connection wait, and their time runs."""
    told = await _came(lambda text: b"", "rate", rate=50.0, seconds=0.2, warm=0.0, connections=1)
    assert told["failures"] == {"timeout": 10}
