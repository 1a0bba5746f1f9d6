"""Answers: however a stream is cut it says what the whole says, and what is broken never looks whole."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.endpoints.remote.openai import OpenAiDialect
from daulat.endpoints.remote.openai_calls import CallBody, Calls, FunctionBody
from daulat.endpoints.remote.profiles import PROFILES
from daulat.endpoints.remote.sse import Events
from daulat.errors import UpstreamAnswerError, UpstreamBusyError, UpstreamError
from daulat.values.answer import (
    CallPiece,
    CallPieces,
    Done,
    Finish,
    Heard,
    Metered,
    Piece,
    TokenLogprob,
    Usage,
)
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Message,
    Sampling,
    Tool,
    Toolbox,
    ToolCall,
)

DIALECT = OpenAiDialect(PROFILES["compatible"])
ASKED = ChatRequest(
    "m", (Message("user", "Hi"),), Sampling(n=2), tools=Toolbox((Tool("look"), Tool("aa")))
)
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 7,
    "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
CALLS = st.lists(
    st.tuples(st.sampled_from(["look", "aa"]), st.dictionaries(TEXT, TEXT, max_size=2)), max_size=3
)


def streamed(
    chunks: Iterable[Any],
    request: Any = ASKED,
    dialect: OpenAiDialect = DIALECT,
    sizes: Iterable[int] = (),
) -> list[Heard]:
    """What the reader says to these chunks of JSON, cut at these sizes."""
    stream = b"".join(
        b"data: " + (c if isinstance(c, bytes) else json.dumps(c).encode()) + b"\n\n"
        for c in chunks
    )
    events, reader = Events(), dialect.reader(request)
    heard: list[Heard] = []
    at = 0
    for size in (*sizes, len(stream)):
        for event in events.feed(stream[at : at + size]):
            heard += reader.feed(event)
        at += size
    for event in events.end():
        heard += reader.feed(event)
    return [*heard, *reader.end()]


def choice(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def gathered(heard: Iterable[Heard]) -> dict[int, tuple[str, str, str, tuple[ToolCall, ...], str]]:
    """By choice: text, thought, refusal, calls, finish."""
    told: dict[int, Any] = {}
    for one in heard:
        if isinstance(one, Metered | Done):
            continue
        kinds, calls, finish = told.setdefault(one.choice, ({}, CallPieces(), []))
        if isinstance(one, Piece):
            kinds[one.kind] = kinds.get(one.kind, "") + one.text
        elif isinstance(one, CallPiece):
            calls.add(one)
        elif isinstance(one, Finish):
            finish.append(one.reason)
    return {
        index: (*(kinds.get(k, "") for k in ("text", "thought", "refusal")), calls.whole(), *finish)
        for index, (kinds, calls, finish) in told.items()
    }


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Any], bytes]:
    """The same answer as chunks in an order and a cut of their own, and whole."""
    queues: list[list[Any]] = []
    messages: list[Any] = []
    for index in range(2):
        content, thought, calls = draw(TEXT), draw(TEXT), draw(CALLS)
        made = [
            {
                "id": f"call_{index}_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for at, (name, arguments) in enumerate(calls)
        ]
        queue = [choice(index, reasoning_content=part) for part in draw(cuts(thought))]
        queue += [choice(index, content=part) for part in draw(cuts(content))]
        for at, call in enumerate(made):
            queue += _deltas(draw, index, at, call)
        reason = "tool_calls" if made else draw(st.sampled_from(["stop", "length"]))
        queue.append(choice(index, reason))
        queues.append(queue)
        message = {"role": "assistant", "content": content, "reasoning_content": thought}
        messages.append(
            {
                "index": index,
                "message": {**message, **({"tool_calls": made} if made else {})},
                "finish_reason": reason,
            }
        )
    chunks: list[Any] = []
    while any(queues):
        chunks.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    chunks += [{"id": "c1", "choices": [], "usage": USAGE}, b"[DONE]"]
    whole = {"id": "c1", "choices": draw(st.permutations(messages)), "usage": USAGE}
    return chunks, json.dumps(whole).encode()


def _deltas(draw: st.DrawFn, index: int, at: int, call: Any) -> list[Any]:
    """A call in deltas; its id comes with the first part, or late, or with each."""
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    parts: list[Any] = [{"function": {"name": part}} for part in draw(cuts(name))]
    parts += [{"function": {"arguments": part}} for part in draw(cuts(arguments))]
    numbered = draw(st.booleans())
    ids = draw(st.sampled_from(["first", "all", "late"]))
    for place, part in enumerate(parts):
        # Without an index only an id with the name's first part tells calls apart.
        if numbered or ids == "late":
            part["index"] = at
        if ids == "all" or place == (len(parts) - 1 if ids == "late" else 0):
            part["id"] = call["id"]
    return [choice(index, tool_calls=[part]) for part in parts]


def cuts(text: str) -> st.SearchStrategy[list[str]]:
    """The text in parts, none of them empty."""

    def cut(places: set[int]) -> list[str]:
        edges = [0, *sorted(p for p in places if 0 < p < len(text)), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(edges) if a < b]

    return st.sets(st.integers(1, 30), max_size=5).map(cut)


@given(answers(), st.lists(st.integers(1, 40), max_size=50))
def test_a_stream_says_what_the_whole_says(made: tuple[list[Any], bytes], sizes: list[int]) -> None:
    chunks, body = made
    heard = streamed(chunks, sizes=sizes)
    whole = list(DIALECT.whole(ASKED, body))
    assert gathered(heard) == gathered(whole)
    expected = Usage(9, 7, cached_tokens=4, reasoning_tokens=3)
    for events in (heard, whole):
        assert isinstance(events[-1], Done)
        assert events[-1].usage == expected
    for piece in heard:
        assert not isinstance(piece, CallPiece) or (piece.id is None) == (piece.name is None)


@given(answers(), st.integers(0, 100))
def test_a_cut_stream_never_looks_whole(made: tuple[list[Any], bytes], keep: int) -> None:
    chunks, _body = made
    with pytest.raises(UpstreamAnswerError):
        streamed(chunks[: min(keep, len(chunks) - 1)])


KEYS = (
    *("choices", "index", "delta", "message", "content", "tool_calls", "id", "function", "name"),
    *("arguments", "usage", "prompt_tokens", "finish_reason", "logprobs", "error", "text"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_whatever_comes_is_an_answer_or_an_error_of_ours(chunks: list[Any]) -> None:
    asked = ChatRequest("m", (Message("user", "Hi"),), Sampling(logprobs=1))
    for body in [json.dumps(chunk).encode() for chunk in chunks]:
        for request in (asked, CompletionRequest("m", ("a",), Sampling(logprobs=1))):
            with contextlib.suppress(UpstreamError):
                assert isinstance(list(DIALECT.whole(request, body))[-1], Done)
    with pytest.raises(UpstreamError):
        streamed(chunks, asked)


def test_usage_on_every_chunk_is_the_last_one() -> None:
    first = choice(0, content="a") | {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    last = choice(0, "stop") | {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    heard = streamed([first, last, b"[DONE]"], ChatRequest("m", (Message("user", "Hi"),)))
    assert isinstance(heard[-1], Done)
    assert heard[-1].usage == Usage(1, 2)
    assert [one.usage.completion_tokens for one in heard if isinstance(one, Metered)] == [1, 2]


ONE = ChatRequest(
    "m", (Message("user", "Hi"),), tools=Toolbox((Tool("look"), Tool("aa"), Tool("a")))
)


def calls_of(*parts: Any) -> tuple[ToolCall, ...]:
    chunks = [choice(0, tool_calls=[part]) for part in parts]
    told = gathered(streamed([*chunks, choice(0, "stop"), b"[DONE]"], ONE))
    assert told[0][4] == "tool_calls"
    return told[0][3]


def part(name: str | None = None, arguments: Any = None, **more: Any) -> Any:
    return {**more, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([part("look", '{"a":1}', id="x")], [("look", '{"a":1}')]),
        ([part("look", {"a": 1}, index=0, id="x")], [("look", '{"a":1}')]),
        # every part has the index 0
        (
            [part("look", "{}", index=0, id="x"), part("aa", "{}", index=0, id="y")],
            [("look", "{}"), ("aa", "{}")],
        ),
        # no index and no id, one call behind the other
        ([part("look", "{}"), part("aa", "{}")], [("look", "{}"), ("aa", "{}")]),
        # the whole name again with each part
        (
            [
                part("look", "", index=0, id="x"),
                part("look", "{", index=0),
                part("look", "}", index=0),
            ],
            [("look", "{}")],
        ),
        # an id of its own for each part
        (
            [
                part("look", "", index=0, id="x"),
                part(None, "{", index=0, id="y"),
                part(None, "}", index=0, id="z"),
            ],
            [("look", "{}")],
        ),
        # a name in equal parts
        (
            [part("a", index=0, id="x"), part("a", index=0), part(None, "{}", index=0)],
            [("aa", "{}")],
        ),
        # no arguments at all, in front of a call that has some
        (
            [part("look", index=0, id="x"), part("aa", '{"b":2}', index=1, id="y")],
            [("look", "{}"), ("aa", '{"b":2}')],
        ),
        # two calls in turns
        (
            [
                part("look", "{", index=0, id="x"),
                part("aa", "{", index=1, id="y"),
                part(None, "}", index=0),
                part(None, "}", index=1),
            ],
            [("look", "{}"), ("aa", "{}")],
        ),
    ],
)
def test_calls_as_servers_send_them(parts: list[Any], expected: list[tuple[str, str]]) -> None:
    calls = calls_of(*parts)
    assert [(call.name, call.arguments) for call in calls] == expected
    assert len({call.id for call in calls}) == len(calls)
    assert all(call.id for call in calls)


def test_legacy_function_calls() -> None:
    chunks = [
        choice(0, function_call={"name": "look", "arguments": ""}),
        choice(0, function_call={"arguments": '{"a"'}),
        choice(0, function_call={"arguments": ":1}"}),
        choice(0, "function_call"),
    ]
    told = gathered(streamed([*chunks, b"[DONE]"], ONE))
    assert [(c.name, c.arguments) for c in told[0][3]] == [("look", '{"a":1}')]
    assert told[0][4] == "tool_calls"


def test_calls_have_a_limit() -> None:
    calls = Calls(0, (), "seed", "It")
    parts = [CallBody(at, f"i{at}", FunctionBody("look", "{}")) for at in range(129)]
    with pytest.raises(UpstreamAnswerError):
        _ = [list(calls.feed(part)) for part in parts]


@pytest.mark.parametrize(
    "chunks",
    [
        [choice(5, content="x")],
        [choice(-1, content="x")],
        [choice(0, "stop"), choice(0, content="more")],
        [choice(0, "who knows")],
        [choice(0, tool_calls=[part(None, "{}", id="x")]), choice(0, "tool_calls")],
        [choice(0, "stop"), choice(1, "stop")],  # and no [DONE]
        [choice(0, "stop"), b"[DONE]"],  # and no choice 1
        [b"{}", b"[DONE]"],
        [b"not json"],
        [b"[]"],
        [choice(0, content=7)],
        [choice(0, content=[{"type": "audio"}])],
    ],
)
def test_broken_streams(chunks: list[Any]) -> None:
    with pytest.raises(UpstreamAnswerError) as raised:
        streamed(chunks)
    assert raised.value.billable


def test_errors_in_streams() -> None:
    with pytest.raises(UpstreamBusyError) as raised:
        streamed([{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}])
    assert raised.value.billable


def test_thoughts_of_mistral_and_its_prefix() -> None:
    dialect = OpenAiDialect(PROFILES["mistral"])
    request = ChatRequest("m", (Message("user", "Hi"),), begun="Well, then")
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    for texts in (["Well", ", then", " yes"], ["Well, then yes"], ["We", "ll, then yes"]):
        chunks = [choice(0, content=thinking), *(choice(0, content=t) for t in texts)]
        told = gathered(streamed([*chunks, choice(0, "stop"), b"[DONE]"], request, dialect))
        assert told[0][:2] == (" yes", "Hm.")
    chunks = [choice(0, content="Well"), choice(0, content=" no"), choice(0, "stop"), b"[DONE]"]
    assert gathered(streamed(chunks, request, dialect))[0][0] == "Well no"


def test_logprobs_of_chats_and_completions() -> None:
    entry = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "e", "logprob": -1, "bytes": None},
        ],
    }
    chunk = choice(0, "stop", content="é")
    chunk["choices"][0]["logprobs"] = {"content": [entry]}
    asked = ChatRequest("m", (Message("user", "Hi"),), Sampling(logprobs=2))
    (piece,) = [one for one in streamed([chunk, b"[DONE]"], asked) if isinstance(one, Piece)]
    data = "é".encode()
    top = (TokenLogprob("é", data, -0.5), TokenLogprob("e", b"e", -1.0))
    assert piece.logprobs == (TokenLogprob("é", data, -0.5, top),)

    text = {
        "text": "a b",
        "index": 0,
        "finish_reason": "stop",
        "logprobs": {
            "tokens": ["a", "bytes:\\xe6\\x97"],
            "token_logprobs": [None, -2],
            "top_logprobs": [None, {"x": -3, "bytes:\\xe6\\x97": -2}],
            "text_offset": [0, 1],
        },
    }
    request = CompletionRequest("m", ("a",), Sampling(logprobs=2))
    heard = DIALECT.whole(request, json.dumps({"choices": [text]}).encode())
    first, second = next(one for one in heard if isinstance(one, Piece)).logprobs
    assert math.isnan(first.logprob)
    assert (second.data, second.logprob) == (b"\xe6\x97", -2.0)
    assert [one.logprob for one in second.top] == [-2.0, -3.0]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": [1.0]}],
    ],
)
def test_vectors_that_are_none(data: list[Any]) -> None:
    with pytest.raises(UpstreamAnswerError):
        DIALECT.embeddings(EmbeddingRequest("m", ("a", "b")), json.dumps({"data": data}).encode())


def test_vectors_in_the_order_of_the_inputs() -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    body = json.dumps({"data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}).encode()
    found = DIALECT.embeddings(EmbeddingRequest("m", ("a", "b")), body)
    assert found.vectors == ((1.0,), (2.0,))
    assert found.usage == Usage(4)


def test_no_credit_is_not_a_passing_limit() -> None:
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    error = DIALECT.error(429, {}, body)
    assert not error.again
    assert DIALECT.error(429, {"retry-after": "3"}, b"").retry_after == 3.0
    assert "too long" in DIALECT.error(400, {}, b'{"message": "too long"}').message
