"""watsonx.ai's dialect: bodies against what is documented, there and back, streams, vectors, errors.

IBM says that its messages and tools are OpenAI's, so OpenAI's own types judge them; the fields around them
are those of `TextChatParams` (https://ibm.github.io/watsonx-ai-node-sdk/interfaces/1_7_x.WatsonXAI.TextChatParams.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from chats import OFFER, PIXEL, Told, heard, replies, requests, split, streamed
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import ConfigDict, TypeAdapter, with_config

from daulat.endpoints.remote.watsonx import WatsonxDialect, address
from daulat.errors import (
    UnsupportedFieldError,
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.answer import Piece, TokenLogprob, Usage
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
from daulat.values.tokens import counted

DIALECT = WatsonxDialect("p-1")
HELLO = ChatRequest("model", (Message("user", "hello"),))
QUERY = "?version=2025-02-06"
FIELDS = set(
    "model_id project_id space_id messages tools tool_choice tool_choice_option frequency_penalty "  # noqa: SIM905
    "logit_bias logprobs top_logprobs max_completion_tokens n presence_penalty response_format seed stop "
    "temperature top_p time_limit guided_choice guided_regex guided_grammar reasoning_effort "
    "repetition_penalty".split()
)
MESSAGE = TypeAdapter(ChatCompletionMessageParam)
TOOL = TypeAdapter(with_config(ConfigDict(extra="forbid"))(ChatCompletionFunctionToolParam))

samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 4096),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.1, 1),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    repetition_penalty=st.floats(1, 2),
    seed=st.none() | st.integers(),
    stop=st.lists(st.sampled_from(["END", "\n\n"]), unique=True).map(tuple),
    logit_bias=st.dictionaries(st.integers(0, 9), st.floats(-100, 100), max_size=2),
    logprobs=st.none() | st.integers(0, 20),
    n=st.integers(1, 4),
)


def body_of(request: ChatRequest) -> dict[str, Any]:
    return json.loads(DIALECT.generate(request, OFFER).body)


def plain(value: Any) -> Any:
    """Validated values as JSON: iterables are validated as they are walked."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return (
        value if isinstance(value, str) or not hasattr(value, "__iter__") else [*map(plain, value)]
    )


def check(body: dict[str, Any]) -> None:
    assert body.keys() <= FIELDS
    assert not ({"tool_choice", "tool_choice_option"} <= body.keys())
    for message in body["messages"]:
        assert plain(MESSAGE.validate_python(message)) == message
    for tool in body.get("tools", ()):
        TOOL.validate_python(tool)


def back(body: dict[str, Any]) -> ChatRequest:
    """The request that a body says."""
    form = body.get("response_format", {}).get("json_schema")
    structure = None
    if form:
        structure = Structure(
            "json", form["schema"], "response_format", form["name"], form.get("strict")
        )
    sampling = Sampling(
        body["max_completion_tokens"],
        logit_bias={int(token): bias for token, bias in body.get("logit_bias", {}).items()},
        logprobs=body["top_logprobs"] if body.get("logprobs") else None,
        stop=tuple(body.get("stop", ())),
        **{
            name: body[name]
            for name in (
                "temperature",
                "top_p",
                "presence_penalty",
                "frequency_penalty",
                "repetition_penalty",
                "seed",
                "n",
            )
            if name in body
        },
    )
    messages = tuple(message_back(message) for message in body["messages"])
    return ChatRequest("model", messages, sampling, tools=tools_back(body), structure=structure)


def tools_back(body: dict[str, Any]) -> Toolbox | None:
    if "tools" not in body:
        return None
    found = [tool["function"] for tool in body["tools"]]
    tools = tuple(
        Tool(f["name"], f.get("description"), f.get("parameters"), f.get("strict")) for f in found
    )
    if "tool_choice" in body:
        return Toolbox(tools, "required", body["tool_choice"]["function"]["name"])
    return Toolbox(tools, body["tool_choice_option"])


def message_back(message: dict[str, Any]) -> Message:
    content = message.get("content", "")
    parts: list[str | Image] = []
    if not isinstance(content, str):
        for part in content:
            image = part.get("image_url")
            parts.append(Image(image["url"], image.get("detail")) if image else part["text"])
        content = "".join(part for part in parts if isinstance(part, str))
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", ())
    )
    ident = message.get("tool_call_id")
    return Message(message["role"], content, message.get("name"), calls, ident, tuple(parts))


def usual(request: ChatRequest) -> ChatRequest:
    messages = tuple(
        replace(m, role="system" if m.role == "developer" else m.role) for m in request.messages
    )
    limit = request.sampling.max_tokens or OFFER.max_output
    sampling = replace(request.sampling, max_tokens=limit)
    return replace(request, messages=messages, sampling=sampling, stream=False)


class TestRequests:
    @settings(max_examples=150, deadline=None)
    @given(requests(samplings, parallel=True))
    def test_there_and_back(self, request_: ChatRequest) -> None:
        body = body_of(request_)
        check(body)
        assert back(body) == usual(request_)

    def test_paths(self) -> None:
        assert DIALECT.generate(HELLO, OFFER).path == "/text/chat" + QUERY
        stream = DIALECT.generate(replace(HELLO, stream=True), OFFER)
        assert stream.path == "/text/chat_stream" + QUERY
        assert b"stream" not in stream.body
        dated = WatsonxDialect("p", version="2026-01-31&x")
        assert dated.generate(HELLO, OFFER).path == "/text/chat?version=2026-01-31%26x"
        assert address("eu-de") == "https://eu-de.ml.cloud.ibm.com/ml/v1"

    def test_whose_it_is_and_how_long(self) -> None:
        body = body_of(HELLO)
        assert (body["model_id"], body["project_id"]) == ("vendor-model", "p-1")
        assert "time_limit" not in body
        spaced = WatsonxDialect(space="s-1", seconds=1.5).generate(HELLO, OFFER)
        assert json.loads(spaced.body)["space_id"] == "s-1"
        assert json.loads(spaced.body)["time_limit"] == 1500

    def test_names_details_and_effort(self) -> None:
        url = f"data:image/png;base64,{PIXEL}"
        message = Message("user", "hello", name="Ann", parts=("hello", Image(url, "low")))
        body = body_of(ChatRequest("m", (message,), hints={"reasoning_effort": "low"}))
        check(body)
        assert back(body).messages == (message,)
        assert body["reasoning_effort"] == "low"

    @pytest.mark.parametrize(
        ("structure", "said"),
        [
            (
                Structure("json", {"type": "object"}, "r"),
                {"response_format": {"type": "json_object"}},
            ),
            (Structure("regex", "a+", "r"), {"guided_regex": "a+"}),
            (Structure("grammar", 'root ::= "a"', "r"), {"guided_grammar": 'root ::= "a"'}),
            (Structure("choice", ("a", "b"), "r"), {"guided_choice": ["a", "b"]}),
        ],
    )
    def test_forms(self, structure: Structure, said: dict[str, Any]) -> None:
        body = body_of(replace(HELLO, structure=structure))
        check(body)
        assert {name: body[name] for name in said} == said

    def test_long_ids_are_shortened_alike(self) -> None:
        call = ToolCall("call~signed~" + "x" * 500, "f", "{}")
        messages = (
            *HELLO.messages,
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "one", tool_call_id=call.id),
        )
        _user, called, answered = body_of(ChatRequest("m", messages))["messages"]
        assert called["tool_calls"][0]["id"] == answered["tool_call_id"]
        assert len(answered["tool_call_id"]) <= 64
        assert "content" not in called

    @pytest.mark.parametrize(
        ("request_", "param"),
        [
            (replace(HELLO, sampling=Sampling(top_k=5)), "top_k"),
            (replace(HELLO, sampling=Sampling(min_p=0.1)), "min_p"),
            (replace(HELLO, sampling=Sampling(ignore_eos=True)), "ignore_eos"),
            (replace(HELLO, sampling=Sampling(stop=tuple("abcde"))), "stop"),
            (replace(HELLO, tools=Toolbox((Tool("f"),), parallel=False)), "parallel_tool_calls"),
            (replace(HELLO, begun="It is"), "messages"),
            (
                ChatRequest("m", (Message("tool", "x", name="f", tool_call_id="z"),)),
                "messages[0].name",
            ),
            (
                ChatRequest(
                    "m", (Message("tool", "", tool_call_id="z", parts=(Image("https://e.org/a"),)),)
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


# --- answers --------------------------------------------------------------------------------------

USAGE = {"completion_tokens": 15, "prompt_tokens": 20, "total_tokens": 35}


def chunk(
    delta: dict[str, Any] | None, finish: str | None = None, index: int = 0
) -> dict[str, Any]:
    head = {
        "id": "chat-1",
        "model_id": "ibm/granite-4-h-small",
        "created": 1,
        "model_version": "1.0.0",
    }
    choices = [] if delta is None else [{"index": index, "finish_reason": finish, "delta": delta}]
    return {**head, "choices": choices}


def story(
    pieces: list[str], calls: list[tuple[str, list[str], list[str]]]
) -> Iterator[dict[str, Any]]:
    """Events of a stream; names and arguments of calls come in stretches."""
    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces:
        yield chunk({"content": piece})
    for at, (ident, names, parts) in enumerate(calls):
        for name in names:
            function = {"name": name, "arguments": ""}
            call = {"index": at, "id": ident, "type": "function", "function": function}
            yield chunk({"role": "assistant", "tool_calls": [call]})
        for part in parts:
            yield chunk(
                {"tool_calls": [{"index": at, "function": {"name": "", "arguments": part}}]}
            )
    yield chunk({"content": ""}, "tool_calls" if calls else "stop")
    yield {**chunk(None), "usage": USAGE}


def in_one(text: str, calls: list[tuple[str, str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for i, n, a in calls
        ]
    finish = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {**chunk(None), "choices": [choice], "usage": USAGE}


def read(datas: Any, request: ChatRequest = HELLO) -> Told:
    return streamed(DIALECT.reader(request), datas)


def whole(data: Any) -> Told:
    return heard(DIALECT.whole(HELLO, json.dumps(data).encode()))


class TestAnswers:
    @settings(max_examples=150, deadline=None)
    @given(st.data(), replies())
    def test_whole_equals_streamed(self, data: st.DataObject, reply: Any) -> None:
        text, calls = reply
        parts = [(i, data.draw(split(n)), data.draw(split(json.dumps(a)))) for i, n, a in calls]
        told = read(story(data.draw(split(text)) if text else [], parts))
        assert told == whole(in_one(text, calls))
        assert told.text.get(0, "") == text
        assert told.calls.get(0, []) == calls
        assert told.finish == {0: "tool_calls" if calls else "stop"}
        assert told.usage == Usage(20, 15)

    def test_a_name_that_comes_again_is_one_name(self) -> None:
        asked = replace(HELLO, tools=Toolbox((Tool("rain"),)))
        assert read(story([], [("a", ["rain", "rain"], ["{}"])]), asked).calls[0] == [
            ("a", "rain", {})
        ]

    def test_a_call_without_arguments(self) -> None:
        told = read(story([], [("a", ["f"], []), ("b", ["g"], [])]))
        assert told.calls[0] == [("a", "f", {}), ("b", "g", {})]

    def test_thoughts_refusals_and_several_answers(self) -> None:
        asked = replace(HELLO, sampling=Sampling(n=2))
        events = [
            chunk({"reasoning_content": "Clouds"}),
            chunk({"content": "Rain"}, index=1),
            chunk({"refusal": "No."}),
            chunk({}, "stop", index=0),
            chunk({}, "length", index=1),
        ]
        told = read(events, asked)
        assert (told.thought, told.text, told.refusal) == ({0: "Clouds"}, {1: "Rain"}, {0: "No."})
        assert told.finish == {0: "stop", 1: "length"}
        assert told.usage == Usage(0, counted=True)
        with pytest.raises(UpstreamAnswerError):
            read(events)
        with pytest.raises(UpstreamAnswerError):
            read(events[:-1], asked)

    def test_logprobs(self) -> None:
        token = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
        event = chunk({"content": "é"}, "stop")
        event["choices"][0]["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
        piece = next(e for e in DIALECT.reader(HELLO).feed(told_as(event)) if isinstance(e, Piece))
        top = TokenLogprob("é", b"\xc3\xa9", -0.5)
        assert piece.logprobs == (TokenLogprob("é", b"\xc3\xa9", -0.5, (top,)),)

    @pytest.mark.parametrize("reason", ["time_limit", "cancelled", "error", "something_new"])
    def test_an_answer_that_was_cut_there_is_not_whole(self, reason: str) -> None:
        with pytest.raises(UpstreamAnswerError, match=reason) as raised:
            read([chunk({"content": "x"}), chunk({}, reason)])
        assert raised.value.billable

    @given(st.integers(0, 100))
    def test_a_cut_answer_is_never_whole(self, cut: int) -> None:
        events = list(story(["It ", "rains."], [("a", ["f"], ['{"x":', "1}"])]))[:-1]
        with pytest.raises(UpstreamAnswerError) as raised:
            read(events[: cut % len(events)])
        assert raised.value.billable

    def test_an_error_in_the_stream(self) -> None:
        failed = {"errors": [{"code": "x", "message": "why"}], "status_code": 429, "trace": "t"}
        with pytest.raises(UpstreamBusyError) as raised:
            read([chunk({"content": "x"}), failed])
        assert raised.value.billable

    @pytest.mark.parametrize(
        "event",
        [
            chunk({"content": "x"}, index=1),
            chunk({"content": 1}),
            chunk({"tool_calls": [{"index": 2, "id": "a", "function": {"name": "f"}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
            {**chunk({}), "choices": 1},
        ],
    )
    def test_what_is_not_of_the_protocol(self, event: Any) -> None:
        with pytest.raises(UpstreamAnswerError):
            read([event])

    def test_nothing_comes_behind_an_end(self) -> None:
        with pytest.raises(UpstreamAnswerError):
            read([chunk({}, "stop"), chunk({"content": "x"})])
        assert read([chunk({}, "stop"), chunk({}, "stop")]).finish == {0: "stop"}

    @pytest.mark.parametrize(
        "usage",
        [None, {}, {"prompt_tokens": -3, "completion_tokens": 1}, {"prompt_tokens": 1}, "x"],
    )
    def test_counts_that_cannot_be_believed_are_not(self, usage: Any) -> None:
        assert whole({**in_one("x", []), "usage": usage}).usage == Usage(0, counted=True)

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_whatever_comes_ends_in_our_own_errors(self, body: bytes) -> None:
        with pytest.raises(UpstreamAnswerError):
            list(DIALECT.whole(HELLO, body))
        assert DIALECT.error(500, {}, body).again


def told_as(data: Any) -> Any:
    from daulat.endpoints.remote.dialect import ServerEvent

    return ServerEvent(json.dumps(data), "message")


class TestVectors:
    ASKED = EmbeddingRequest("m", ("satu", "dua"))

    def test_vectors(self) -> None:
        call = DIALECT.embed(self.ASKED, OFFER)
        assert call.path == "/text/embeddings" + QUERY
        assert json.loads(call.body) == {
            "model_id": "vendor-model",
            "project_id": "p-1",
            "inputs": ["satu", "dua"],
        }
        body = {
            "results": [{"embedding": [0.6, 0.8]}, {"embedding": [1, 0]}],
            "input_token_count": 4,
        }
        told = DIALECT.embeddings(self.ASKED, json.dumps(body).encode())
        assert told.vectors == ((0.6, 0.8), (1.0, 0.0))
        assert told.usage == Usage(4)
        del body["input_token_count"]
        told = DIALECT.embeddings(self.ASKED, json.dumps(body).encode())
        assert told.usage == Usage(counted("satu") + counted("dua"), counted=True)

    def test_what_is_refused(self) -> None:
        with pytest.raises(UpstreamAnswerError):
            DIALECT.embeddings(self.ASKED, b'{"results":[{"embedding":[1]}]}')
        with pytest.raises(UnsupportedFieldError):
            DIALECT.embed(EmbeddingRequest("m", ("a",), dimensions=2), OFFER)
        with pytest.raises(UnsupportedFieldError):
            DIALECT.embed(EmbeddingRequest("m", ((1, 2),)), OFFER)
        with pytest.raises(UnsupportedFieldError):
            DIALECT.moderate(ModerationRequest("m", ("a",)), OFFER)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamRequestError),
        (401, UpstreamAccessError),
        (403, UpstreamAccessError),
        (404, UpstreamRequestError),
        (429, UpstreamBusyError),
        (500, UpstreamUnavailableError),
        (529, UpstreamBusyError),
    ],
)
def test_statuses(status: int, error: type[Exception]) -> None:
    one = {
        "code": "invalid_request_entity",
        "message": "Validation failed.",
        "more_info": "https://x",
    }
    body = json.dumps({"errors": [one], "trace": "t", "status_code": status}).encode()
    made = DIALECT.error(status, {"retry-after": "2"}, body)
    assert type(made) is error
    assert ("Validation failed." in made.message) == (error is UpstreamRequestError)
