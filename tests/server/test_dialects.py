"""Translation there and back: what a client of a dialect writes is, as values, what it meant."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import dialects
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import DaulatError, RequestError
from daulat.record import Record
from daulat.record.transcript import Transcript, conversation, opened, reply
from daulat.server.wire.chat import ChatCompletionRequest
from daulat.server.wire.common import Incoming
from daulat.server.wire.decode import decode
from daulat.server.wire.images import MAX_IMAGES, MAX_URL
from daulat.server.wire.messages.counting import estimate
from daulat.server.wire.messages.requests import CountBody, MessagesBody
from daulat.server.wire.moderations import ModerationBody
from daulat.server.wire.responses.requests import ResponsesBody
from daulat.values.answer import CallPiece, Done, Finish, Piece, Timings, Usage
from daulat.values.plan import Caller, Plan, Step
from daulat.values.request import ChatRequest, Image, Message, ToolCall
from daulat.values.tokens import counted

BODIES: dict[type[Incoming], dict[str, Any]] = {
    ChatCompletionRequest: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    MessagesBody: {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
    CountBody: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    ResponsesBody: {"model": "m", "input": "x"},
    ModerationBody: {"input": "x"},
}


def read(kind: type[Any], body: Any) -> ChatRequest:
    return decode(msgspec.json.encode(body), kind).to_request()


@given(dialects.CHATS)
def test_chat(request: ChatRequest) -> None:
    assert read(ChatCompletionRequest, dialects.chat_body(request)) == request


@given(dialects.MESSAGES)
def test_messages(request: ChatRequest) -> None:
    body = dialects.messages_body(request)
    assert read(MessagesBody, body) == request
    only = {"max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream", "metadata"}
    asked = read(CountBody, {name: value for name, value in body.items() if name not in only})
    assert (asked.messages, asked.tools) == (request.messages, request.tools)
    assert estimate(asked) >= sum(counted(message.content) for message in request.messages)


@given(dialects.RESPONSES)
def test_responses(request: ChatRequest) -> None:
    made = read(ResponsesBody, dialects.responses_body(request))
    assert replace(made, kept={}) == request
    assert made.kept["api"] == "responses"


@given(dialects.RESPONSES, dialects.TEXTS)
def test_a_response_is_gone_on_from_as_if_all_had_been_sent(
    request: ChatRequest, text: str
) -> None:
    """The record's contents of the one, as JSON, and the items that a client would send."""
    made = read(ResponsesBody, dialects.responses_body(request))
    step = Step("e", "this-machine", "open", "m", "d")
    _, contents = opened(made, Caller("k", "n"), Plan((step,), "only one"), "i")
    kept = msgspec.json.decode(msgspec.json.encode(contents["request"]))
    assert conversation(kept) == made.messages
    transcript = Transcript(made)
    for event in (
        Piece(0, "hm", kind="thought"),
        Piece(0, text),
        CallPiece(0, 0, "c9", "f", "{}"),
        Finish(0, "tool_calls"),
        Done(Usage(1, 1), Timings(0, 0, 0)),
    ):
        transcript.add(event)
    _, answered = transcript.closed("ok", None)
    said = reply(answered["answer"])
    assert said == Message("assistant", text, tool_calls=(ToolCall("c9", "f", "{}"),))
    told = kept["kept"]["instructions"] is not None
    told_before = (*conversation(kept)[int(told) :], said)
    result = [{"type": "function_call_output", "call_id": "c9", "output": "x"}]
    body = {"model": "m", "input": result}
    body_bytes = msgspec.json.encode(body)
    gone_on = decode(body_bytes, ResponsesBody).to_request(told_before)
    assert gone_on.messages == (*told_before, Message("tool", "x", tool_call_id="c9"))


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
def test_no_value_of_a_field_raises_anything_else(
    kind: type[Incoming], value: Any, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([f.name for f in msgspec.structs.fields(kind)]))
    # Nothing but an error of the client, however strange the value.
    with contextlib.suppress(RequestError):
        read(kind, {**BODIES[kind], name: value})


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_else(kind: type[Incoming], body: bytes) -> None:
    with pytest.raises(DaulatError):
        decode(body, kind)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x.png",
        "ftp://a.example/x.png",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://a.example/a b",
        "https://a.example/" + "x" * MAX_URL,
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,A*A=",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AAAé",
        "",
    ],
)
def test_addresses_of_pictures_that_are_not_taken(url: str) -> None:
    chat = [{"type": "image_url", "image_url": {"url": url}}]
    item = [{"type": "input_image", "image_url": url}]
    for kind, body in (
        (ChatCompletionRequest, {"model": "m", "messages": [{"role": "user", "content": chat}]}),
        (ResponsesBody, {"model": "m", "input": [{"role": "user", "content": item}]}),
    ):
        with pytest.raises(RequestError) as refused:
            read(kind, body)
        assert (refused.value.param or "").endswith(".content[0]")
        assert len(refused.value.message) < 300


def test_pictures_are_counted_and_stand_where_they_may() -> None:
    picture = {"type": "image_url", "image_url": {"url": dialects.PIXEL}}

    def body(role: str, number: int) -> dict[str, Any]:
        content = [{"type": "text", "text": "x"}, *[picture] * number]
        return {"model": "m", "messages": [{"role": role, "content": content}]}

    made = read(ChatCompletionRequest, body("user", MAX_IMAGES))
    assert sum(isinstance(part, Image) for part in made.messages[0].parts) == MAX_IMAGES
    with pytest.raises(RequestError, match="65 pictures"):
        read(ChatCompletionRequest, body("user", MAX_IMAGES + 1))
    for role in ("system", "assistant"):
        with pytest.raises(RequestError) as refused:
            read(ChatCompletionRequest, body(role, 1))
        assert refused.value.param == "messages[0].content[1]"


def test_the_record_keeps_pictures_and_thoughts(tmp_path: Path) -> None:
    picture = Image(dialects.PIXEL, "low")
    request = ChatRequest("m", (Message("user", "x", parts=("x", picture)),))
    step = Step("e", "this-machine", "open", "m", "d")
    body, contents = opened(request, Caller("k", "n"), Plan((step,), "only one"), "i")
    record = Record.open(tmp_path / "record.sqlite3")
    entry = record.append("exchange.opened", "rec-1", body, contents)
    kept = record.contents(entry)["request"]
    record.close()
    assert kept["messages"][0]["parts"] == ["x", {"url": dialects.PIXEL, "detail": "low"}]
    assert conversation(kept) == request.messages
