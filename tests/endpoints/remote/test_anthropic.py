"""Anthropic's dialect: bodies against the vendor's own types, there and back, streams, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import Message as VendorMessage
from anthropic.types import MessageCreateParams, RawMessageStreamEvent
from chats import OFFER, PIXEL, Told, heard, replies, requests, schemas, split, streamed
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from daulat.endpoints.remote.anthropic import AnthropicDialect
from daulat.endpoints.remote.dialect import ServerEvent
from daulat.errors import (
    UnsupportedFieldError,
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.answer import Metered, Piece, Usage
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

DIALECT = AnthropicDialect()
PARAMS = TypeAdapter(MessageCreateParams)
EVENT = TypeAdapter(RawMessageStreamEvent)
HELLO = ChatRequest("model", (Message("user", "hello"),))
# Parameters of the wire that the package's types have no more, as today's models refuse them.
OLDER = ("temperature", "top_p", "top_k")

samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 4096),
    temperature=st.floats(0, 1),
    top_p=st.floats(0.1, 1),
    top_k=st.integers(0, 100),
    stop=st.lists(st.sampled_from(["END", "\n\n"]), unique=True).map(tuple),
)


def body_of(request: ChatRequest) -> dict[str, Any]:
    return json.loads(DIALECT.generate(request, OFFER).body)


def plain(value: Any) -> Any:
    """Validated values as JSON: the vendor's iterables are validated as they are walked."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return (
        value if isinstance(value, str) or not hasattr(value, "__iter__") else [*map(plain, value)]
    )


def back(body: dict[str, Any]) -> ChatRequest:
    """The request that a body says."""
    messages = [Message("system", block["text"]) for block in body.get("system", ())]
    for turn in body["messages"]:
        messages += turn_back(turn)
    chosen = body.get("tool_choice", {})
    kinds = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
    tools = tuple(
        Tool(t["name"], t.get("description"), t["input_schema"], t.get("strict"))
        for t in body.get("tools", ())
    )
    form = body.get("output_config", {}).get("format")
    return ChatRequest(
        "model",
        tuple(messages),
        Sampling(
            body["max_tokens"],
            body.get("temperature", 1.0),
            body.get("top_p", 1.0),
            body.get("top_k", 0),
            stop=tuple(body.get("stop_sequences", ())),
        ),
        tools=Toolbox(
            tools,
            kinds[chosen["type"]],
            chosen.get("name"),
            not chosen.get("disable_parallel_tool_use", False),
        )
        if tools
        else None,
        structure=Structure("json", form["schema"], "response_format") if form else None,
        stream=body.get("stream", False),
    )


def turn_back(turn: dict[str, Any]) -> list[Message]:
    parts: list[str | Image] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for block in turn["content"]:
        match block:
            case {"type": "text", "text": text}:
                parts.append(text)
            case {"type": "image", "source": {"type": "url", "url": url}}:
                parts.append(Image(url))
            case {"type": "image", "source": {"media_type": kind, "data": data}}:
                parts.append(Image(f"data:{kind};base64,{data}"))
            case {"type": "tool_use"}:
                calls.append(ToolCall(block["id"], block["name"], json.dumps(block["input"])))
            case {"type": "tool_result", "content": [{"type": "text", "text": text}]}:
                results.append(Message("tool", text, tool_call_id=block["tool_use_id"]))
            case _:
                raise AssertionError(block)
    if results:
        return results
    text = "".join(part for part in parts if isinstance(part, str))
    pictured = any(isinstance(part, Image) for part in parts)
    return [
        Message(turn["role"], text, tool_calls=tuple(calls), parts=tuple(parts) if pictured else ())
    ]


def usual(request: ChatRequest) -> ChatRequest:
    """The request with what the vendor has one word for said in one way."""
    from dataclasses import replace

    messages = [
        replace(m, role="system" if m.role == "developer" else m.role) for m in request.messages
    ]
    tools = request.tools and replace(
        request.tools,
        tools=tuple(
            replace(tool, parameters=tool.parameters or {"type": "object"})
            for tool in request.tools.tools
        ),
        parallel=request.tools.parallel or request.tools.choice == "none",
    )
    form = request.structure and Structure("json", request.structure.source, "response_format")
    limit = request.sampling.max_tokens or OFFER.max_output
    return replace(
        request,
        messages=tuple(messages),
        tools=tools,
        structure=form,
        sampling=replace(request.sampling, max_tokens=limit),
    )


class TestRequests:
    @settings(max_examples=150, deadline=None)
    @given(requests(samplings, parallel=False))
    def test_there_and_back(self, request_: ChatRequest) -> None:
        body = body_of(request_)
        assert back(body) == usual(request_)
        typed = {key: value for key, value in body.items() if key not in OLDER}
        assert plain(PARAMS.validate_python(typed)) == typed

    def test_call(self) -> None:
        call = DIALECT.generate(HELLO, OFFER)
        assert call.path == "/messages"
        assert call.headers == {"anthropic-version": "2023-06-01"}
        assert json.loads(call.body) == {
            "model": "vendor-model",
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        }

    def test_results_that_follow_one_another_are_one_turn(self) -> None:
        calls = (ToolCall("a", "f", "{}"), ToolCall("b", "f", '{"x":1}'))
        messages = (
            Message("user", "go"),
            Message("assistant", "", tool_calls=calls),
            Message("tool", "one", tool_call_id="a"),
            Message("tool", "", tool_call_id="b"),
        )
        turns = body_of(ChatRequest("model", messages))["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
        assert turns[2]["content"] == [
            {
                "type": "tool_result",
                "tool_use_id": "a",
                "content": [{"type": "text", "text": "one"}],
            },
            {"type": "tool_result", "tool_use_id": "b"},
        ]

    def test_ids_of_other_vendors_stay_together(self) -> None:
        foreign = "call_1~signed~AbC+/=" + "x" * 500
        messages = (
            Message("user", "go"),
            Message("assistant", "", tool_calls=(ToolCall(foreign, "f", "{}"),)),
            Message("tool", "one", tool_call_id=foreign),
        )
        turns = body_of(ChatRequest("model", messages))["messages"]
        used, answered = turns[1]["content"][0]["id"], turns[2]["content"][0]["tool_use_id"]
        assert used == answered
        assert used.replace("_", "").isalnum()
        assert len(used) <= 64

    def test_effort(self) -> None:
        asked = ChatRequest("model", HELLO.messages, hints={"reasoning_effort": "low"})
        assert body_of(asked)["output_config"] == {"effort": "low"}

    def test_an_answer_that_has_begun_goes_on_without_its_white_space(self) -> None:
        asked = ChatRequest("model", HELLO.messages, begun="It is \n")
        last = body_of(asked)["messages"][-1]
        assert last == {"role": "assistant", "content": [{"type": "text", "text": "It is"}]}
        for pieces in ([" ", "\n", "raining"], [" \nraining"], ["raining"], [" ", "raining"]):
            assert streamed(DIALECT.reader(asked), story(pieces)).text[0] == "raining"
        assert streamed(DIALECT.reader(asked), story(["  x"])).text[0] == " x"

    @pytest.mark.parametrize(
        ("request_", "param"),
        [
            (ChatRequest("m", HELLO.messages, Sampling(n=2)), "n"),
            (ChatRequest("m", HELLO.messages, Sampling(seed=1)), "seed"),
            (ChatRequest("m", HELLO.messages, Sampling(logprobs=0)), "logprobs"),
            (ChatRequest("m", HELLO.messages, Sampling(temperature=1.5)), "temperature"),
            (ChatRequest("m", HELLO.messages, Sampling(logit_bias={1: 2.0})), "logit_bias"),
            (ChatRequest("m", HELLO.messages, Sampling(min_p=0.1)), "min_p"),
            (ChatRequest("m", HELLO.messages, Sampling(ignore_eos=True)), "ignore_eos"),
            (ChatRequest("m", HELLO.messages, Sampling(presence_penalty=1)), "presence_penalty"),
            (ChatRequest("m", HELLO.messages, Sampling(frequency_penalty=1)), "frequency_penalty"),
            (
                ChatRequest("m", HELLO.messages, Sampling(repetition_penalty=2)),
                "repetition_penalty",
            ),
            (
                ChatRequest(
                    "m",
                    HELLO.messages,
                    structure=Structure("json", {"type": "object"}, "response_format"),
                ),
                "response_format",
            ),
            (
                ChatRequest(
                    "m",
                    HELLO.messages,
                    structure=Structure("regex", "a+", "structured_outputs.regex"),
                ),
                "structured_outputs.regex",
            ),
            (ChatRequest("m", (Message("user", "hello", name="Ann"),)), "messages[0].name"),
            (ChatRequest("m", (Message("user", ""),)), "messages[0].content"),
            (
                ChatRequest(
                    "m", (Message("user", "", parts=(Image("data:image/tiff;base64,AAAA"),)),)
                ),
                "messages[0].content[0]",
            ),
            (
                ChatRequest(
                    "m", (Message("user", "x", parts=("x", Image("data:text/plain,hello"))),)
                ),
                "messages[0].content[1]",
            ),
            (
                ChatRequest(
                    "m", (Message("system", "", parts=(Image(f"data:image/png;base64,{PIXEL}"),)),)
                ),
                "messages[0].content[0]",
            ),
            (CompletionRequest("m", ("once",)), "prompt"),
        ],
    )
    def test_what_has_no_words_is_refused_by_name(self, request_: Any, param: str) -> None:
        with pytest.raises(UnsupportedFieldError) as raised:
            DIALECT.generate(request_, OFFER)
        assert raised.value.param == param
        assert param in raised.value.message

    def test_no_vectors_and_no_judgements(self) -> None:
        with pytest.raises(UnsupportedFieldError):
            DIALECT.embed(EmbeddingRequest("m", ("a",)), OFFER)
        with pytest.raises(UnsupportedFieldError):
            DIALECT.moderate(ModerationRequest("m", ("a",)), OFFER)

    @given(schemas())
    def test_a_schema_is_said_as_it_is(self, schema: dict[str, Any]) -> None:
        form = Structure("json", schema, "response_format.json_schema.schema", "x", strict=True)
        body = body_of(ChatRequest("m", HELLO.messages, structure=form))
        assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


# --- answers --------------------------------------------------------------------------------------

USAGE = {"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7}


def story(
    pieces: list[str],
    calls: list[tuple[str, str, list[str]]] | None = None,
    reason: str = "end_turn",
    thoughts: str = "",
) -> Iterator[dict[str, Any]]:
    """The events of the vendor's page on streaming, with texts of our own."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-opus-4-8",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 1},
    }
    yield {"type": "message_start", "message": message}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if thoughts:
        deltas = [{"type": "thinking_delta", "thinking": thoughts}]
        signature = {"type": "signature_delta", "signature": "EqQB"}
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]))
    if pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for ident, name, parts in calls or ():
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        blocks.append(({"type": "tool_use", "id": ident, "name": name, "input": {}}, deltas))
    for index, (block, deltas) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {"output_tokens": 15, "output_tokens_details": {"thinking_tokens": 5}}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def in_one(text: str, calls: list[tuple[str, str, Any]], reason: str) -> bytes:
    content: list[Any] = [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": ident, "name": name, "input": args}
        for ident, name, args in calls
    ]
    details = {"output_tokens_details": {"thinking_tokens": 5}}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": "claude-opus-4-8",
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 15, **details},
    }
    VendorMessage.model_validate(message, strict=True)
    return json.dumps(message).encode()


def read(datas: Any) -> Told:
    return streamed(DIALECT.reader(HELLO), datas, "type")


class TestAnswers:
    @settings(max_examples=150, deadline=None)
    @given(st.data(), replies())
    def test_whole_equals_streamed(self, data: st.DataObject, reply: Any) -> None:
        text, calls = reply
        reason = "tool_use" if calls else "end_turn"
        pieces = data.draw(split(text)) if text else []
        parts = [(i, n, data.draw(split(json.dumps(a))) if a else [""]) for i, n, a in calls]
        events = list(story(pieces, parts, reason))
        for event in events:
            if event["type"] != "ping":
                EVENT.validate_python(event)
        told = read(events)
        assert told == heard(DIALECT.whole(HELLO, in_one(text, calls, reason)))
        assert told.text.get(0, "") == text
        assert told.calls.get(0, []) == calls
        assert told.finish == {0: "tool_calls" if calls else "stop"}
        assert told.usage == Usage(
            127, 15, cached_tokens=100, cache_write_tokens=7, reasoning_tokens=5
        )

    def test_thoughts_are_told_apart(self) -> None:
        told = read(story(["Rain."], thoughts="Clouds, so"))
        assert (told.thought, told.text) == ({0: "Clouds, so"}, {0: "Rain."})

    def test_the_vendors_count_is_told_as_it_comes(self) -> None:
        reader = DIALECT.reader(HELLO)
        first = next(iter(story(["x"])))
        metered = list(reader.feed(ServerEvent(json.dumps(first))))
        assert metered == [Metered(Usage(127, 1, cached_tokens=100, cache_write_tokens=7))]

    @pytest.mark.parametrize(
        ("reason", "ours"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("refusal", "content_filter"),
        ],
    )
    def test_reasons(self, reason: str, ours: str) -> None:
        assert read(story(["x"], reason=reason)).finish == {0: ours}

    @pytest.mark.parametrize("reason", ["pause_turn", "something_new"])
    def test_an_answer_that_is_to_go_on_is_not_whole(self, reason: str) -> None:
        with pytest.raises(UpstreamAnswerError, match=reason):
            read(story(["x"], reason=reason))
        with pytest.raises(UpstreamAnswerError, match=reason):
            list(DIALECT.whole(HELLO, in_one_unchecked(reason)))

    def test_words_for_not_answering(self) -> None:
        events = list(story([], reason="refusal"))
        events[-2]["delta"]["stop_details"] = {"type": "refusal", "explanation": "No."}
        told = read(events)
        assert (told.refusal, told.finish) == ({0: "No."}, {0: "content_filter"})

    @given(st.integers(0, 100))
    def test_a_cut_answer_is_never_whole(self, cut: int) -> None:
        events = list(story(["It ", "rains."], [("a", "f", ['{"x":', "1}"])], "tool_use"))
        cut %= len(events)
        with pytest.raises(UpstreamAnswerError) as raised:
            read(events[:cut])
        assert raised.value.billable

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("overloaded_error", UpstreamBusyError),
            ("rate_limit_error", UpstreamBusyError),
            ("api_error", UpstreamUnavailableError),
            ("timeout_error", UpstreamUnavailableError),
            ("authentication_error", UpstreamAccessError),
            ("invalid_request_error", UpstreamRequestError),
        ],
    )
    def test_an_error_in_the_stream(self, kind: str, error: type[Exception]) -> None:
        events = list(story(["x"]))[:3]
        events.append({"type": "error", "error": {"type": kind, "message": "why"}})
        with pytest.raises(error) as raised:
            read(events)
        assert raised.value.billable  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "event",
        [
            {
                "type": "content_block_delta",
                "index": 9,
                "delta": {"type": "text_delta", "text": "x"},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": "1"},
            },
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "server_tool_use"},
            },
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "", "name": "f"},
            },
            {"type": "content_block_start", "index": 1},
            {"type": "message_stop"},
            {"index": 1},
            [],
        ],
    )
    def test_what_is_not_of_the_protocol(self, event: Any) -> None:
        reader = DIALECT.reader(HELLO)
        for data in list(story(["x"]))[:2]:
            list(reader.feed(ServerEvent(json.dumps(data))))
        with pytest.raises(UpstreamAnswerError):
            list(reader.feed(ServerEvent(json.dumps(event))))

    def test_kinds_of_events_that_are_not_known_are_passed_over(self) -> None:
        events = list(story(["x"]))
        events.insert(3, {"type": "something_new", "delta": {"type": "new"}})
        assert read(events).text == {0: "x"}

    @pytest.mark.parametrize(
        "usage",
        [None, {}, {"output_tokens": -3}, {"output_tokens": "many"}, {"output_tokens": None}],
    )
    def test_counts_that_cannot_be_believed_are_not(self, usage: Any) -> None:
        events = list(story(["x"]))
        events[-2]["usage"] = usage
        told = read(events).usage
        assert told is not None
        assert told.counted
        assert told.prompt_tokens == 127

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"{}", b'{"type":"message"}', b"\xff\xfe", b"[" * 5000]
    )
    def test_no_answer(self, body: bytes) -> None:
        with pytest.raises(UpstreamAnswerError):
            list(DIALECT.whole(HELLO, body))

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_whatever_comes_ends_in_our_own_errors(self, body: bytes) -> None:
        with pytest.raises(UpstreamAnswerError):
            list(DIALECT.whole(HELLO, body))
        assert DIALECT.error(500, {}, body).again


def in_one_unchecked(reason: str) -> bytes:
    message = json.loads(in_one("x", [], "end_turn"))
    return json.dumps({**message, "stop_reason": reason}).encode()


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, UpstreamRequestError),
            (401, UpstreamAccessError),
            (402, UpstreamAccessError),
            (403, UpstreamAccessError),
            (404, UpstreamRequestError),
            (413, UpstreamRequestError),
            (429, UpstreamBusyError),
            (500, UpstreamUnavailableError),
            (504, UpstreamUnavailableError),
            (529, UpstreamBusyError),
            (302, UpstreamAnswerError),
        ],
    )
    def test_statuses(self, status: int, error: type[Exception]) -> None:
        body = b'{"type":"error","error":{"type":"x","message":"max_tokens: too\\n large"},"request_id":"r"}'
        made = DIALECT.error(status, {"retry-after": "7"}, body)
        assert type(made) is error
        assert (made.retry_after == 7) == (status in (429, 500, 504, 529))
        assert ("max_tokens: too large" in made.message) == (error is UpstreamRequestError)

    def test_a_date_to_wait_for(self) -> None:
        headers = {
            "date": "Sat, 21 Nov 2026 20:00:00 GMT",
            "retry-after": "Sat, 21 Nov 2026 20:01:30 GMT",
        }
        assert DIALECT.error(529, headers, b"").retry_after == 90
        assert DIALECT.error(529, {"retry-after": "soon"}, b"").retry_after is None


def test_pieces_of_nothing_are_not_told() -> None:
    events = list(story(["", "x", ""]))
    reader = DIALECT.reader(HELLO)
    told = [event for data in events for event in reader.feed(ServerEvent(json.dumps(data)))]
    assert [event for event in told if isinstance(event, Piece)] == [Piece(0, "x")]
