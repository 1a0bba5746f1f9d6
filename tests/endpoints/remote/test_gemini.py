"""Gemini's dialect: bodies against the vendor's own types, there and back, streams, vectors, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from chats import OFFER, PIXEL, Told, heard, replies, requests, split, streamed
from google.genai import types
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daulat.endpoints.remote.gemini import GeminiDialect, VertexDialect, vertex_address
from daulat.endpoints.remote.gemini_answers import signed, unsigned
from daulat.errors import (
    UnsupportedFieldError,
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.answer import TokenLogprob, Usage
from daulat.values.plan import Offer
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

DIALECT = GeminiDialect()
VERTEX = VertexDialect("my-project", "europe-west4")
HELLO = ChatRequest("model", (Message("user", "hello"),))
SIGNATURE = "CpMDAVSoXO5s/4aQ+w=="

samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 4096),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.1, 1),
    top_k=st.integers(0, 100),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.none() | st.integers(-(2**31), 2**31 - 1),
    stop=st.lists(st.sampled_from(["END", "\n\n"]), unique=True).map(tuple),
    logprobs=st.none() | st.integers(0, 20),
    n=st.integers(1, 8),
)


def body_of(request: ChatRequest, offer: Offer = OFFER) -> dict[str, Any]:
    return json.loads(DIALECT.generate(request, offer).body)


def check(body: dict[str, Any]) -> None:
    """The vendor's own types take it, and know every field of it."""
    assert body.keys() <= {
        "contents",
        "systemInstruction",
        "generationConfig",
        "tools",
        "toolConfig",
    }
    for content in body["contents"]:
        types.Content.model_validate(content)
        for part in content["parts"]:
            types.Part.model_validate(part)
    types.GenerationConfig.model_validate(body["generationConfig"])
    types.Content.model_validate(body.get("systemInstruction", {}))
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)


def back(body: dict[str, Any]) -> ChatRequest:
    """The request that a body says."""
    system = body.get("systemInstruction", {"parts": []})["parts"]
    messages = [Message("system", part["text"]) for part in system]
    for turn in body["contents"]:
        messages += turn_back(turn)
    config = body["generationConfig"]
    form = config.get("responseJsonSchema")
    assert ("responseMimeType" in config) == (form is not None)
    logprobs = config.get("logprobs", 0) if config.get("responseLogprobs") else None
    sampling = Sampling(
        config["maxOutputTokens"],
        config.get("temperature", 1.0),
        config.get("topP", 1.0),
        config.get("topK", 0),
        presence_penalty=config.get("presencePenalty", 0.0),
        frequency_penalty=config.get("frequencyPenalty", 0.0),
        seed=config.get("seed"),
        stop=tuple(config.get("stopSequences", ())),
        logprobs=logprobs,
        n=config.get("candidateCount", 1),
    )
    structure = Structure("json", form, "response_format") if form else None
    return ChatRequest(
        "model", tuple(messages), sampling, tools=tools_back(body), structure=structure
    )


def tools_back(body: dict[str, Any]) -> Toolbox | None:
    if "tools" not in body:
        return None
    declared = tuple(
        Tool(t["name"], t.get("description"), t.get("parametersJsonSchema"))
        for t in body["tools"][0]["functionDeclarations"]
    )
    how = body["toolConfig"]["functionCallingConfig"]
    mode = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}[how["mode"]]
    return Toolbox(declared, mode, (how.get("allowedFunctionNames") or [None])[0])


def turn_back(turn: dict[str, Any]) -> list[Message]:
    parts: list[str | Image] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for part in turn["parts"]:
        match part:
            case {"text": text}:
                parts.append(text)
            case {"inlineData": {"mimeType": kind, "data": data}}:
                parts.append(Image(f"data:{kind};base64,{data}"))
            case {"fileData": {"fileUri": url}}:
                parts.append(Image(url))
            case {"functionCall": {"id": ident, "name": name, "args": args}}:
                calls.append(ToolCall(ident, name, json.dumps(args)))
            case {"functionResponse": {"id": ident, "response": {"output": text}}}:
                results.append(Message("tool", text, tool_call_id=ident))
            case _:
                raise AssertionError(part)
    if results:
        return results
    text = "".join(part for part in parts if isinstance(part, str))
    pictured = any(isinstance(part, Image) for part in parts)
    role = "assistant" if turn["role"] == "model" else "user"
    return [Message(role, text, tool_calls=tuple(calls), parts=tuple(parts) if pictured else ())]


def usual(request: ChatRequest) -> ChatRequest:
    """The request with what the vendor has one word for said in one way."""
    messages = tuple(
        replace(m, role="system" if m.role == "developer" else m.role) for m in request.messages
    )
    tools = request.tools and replace(
        request.tools, tools=tuple(replace(tool, strict=None) for tool in request.tools.tools)
    )
    limit = request.sampling.max_tokens or OFFER.max_output
    return replace(
        request,
        messages=messages,
        tools=tools,
        structure=request.structure and replace(request.structure, name=""),
        sampling=replace(request.sampling, max_tokens=limit),
        stream=False,
    )


class TestRequests:
    @settings(max_examples=150, deadline=None)
    @given(requests(samplings, parallel=True))
    def test_there_and_back(self, request_: ChatRequest) -> None:
        body = body_of(request_)
        check(body)
        assert back(body) == usual(request_)
        assert json.loads(VERTEX.generate(request_, OFFER).body) == body

    @pytest.mark.parametrize(
        ("model", "path"),
        [
            ("gemini-3-pro", "/models/gemini-3-pro:generateContent"),
            ("tunedModels/mine", "/tunedModels/mine:generateContent"),
            ("odd?x#y", "/models/odd%3Fx%23y:generateContent"),
        ],
    )
    def test_paths(self, model: str, path: str) -> None:
        assert DIALECT.generate(HELLO, Offer("m", model)).path == path

    def test_paths_of_streams_and_of_vertex(self) -> None:
        asked = replace(HELLO, stream=True)
        within = "/projects/my-project/locations/europe-west4/"
        stream = ":streamGenerateContent?alt=sse"
        offer = Offer("m", "gemini-3-pro")
        assert DIALECT.generate(asked, offer).path == "/models/gemini-3-pro" + stream
        expected = within + "publishers/google/models/gemini-3-pro" + stream
        assert VERTEX.generate(asked, offer).path == expected
        endpoint = VERTEX.generate(asked, Offer("m", "endpoints/123")).path
        assert endpoint == within + "endpoints/123" + stream

    def test_addresses(self) -> None:
        assert vertex_address("europe-west4") == "https://europe-west4-aiplatform.googleapis.com/v1"
        assert vertex_address("global") == "https://aiplatform.googleapis.com/v1"

    def test_results_are_one_turn_and_have_the_names_of_their_calls(self) -> None:
        calls = (ToolCall("a", "f", "{}"), ToolCall("b", "g", '{"x":1}'))
        messages = (
            Message("user", "go"),
            Message("assistant", "", tool_calls=calls),
            Message("tool", "one", tool_call_id="a"),
            Message("tool", '{"two":2}', tool_call_id="b"),
        )
        contents = body_of(ChatRequest("model", messages))["contents"]
        assert [turn["role"] for turn in contents] == ["user", "model", "user"]
        assert [part["functionResponse"] for part in contents[2]["parts"]] == [
            {"id": "a", "name": "f", "response": {"output": "one"}},
            {"id": "b", "name": "g", "response": {"output": '{"two":2}'}},
        ]

    def test_a_signature_comes_back_with_its_call(self) -> None:
        call = {"name": "f", "args": {}, "id": "abc"}
        made = chunk([{"functionCall": call, "thoughtSignature": SIGNATURE}], finish="STOP")
        ((ident, _name, _args),) = streamed(DIALECT.reader(HELLO), [made]).calls[0]
        messages = (
            *HELLO.messages,
            Message("assistant", "", tool_calls=(ToolCall(ident, "f", "{}"),)),
            Message("tool", "one", tool_call_id=ident),
        )
        body = body_of(ChatRequest("model", messages), Offer("m", "gemini-3-pro"))
        check(body)
        assert body["contents"][1]["parts"] == [
            {
                "functionCall": {"id": "abc", "name": "f", "args": {}},
                "thoughtSignature": SIGNATURE,
            }
        ]
        assert body["contents"][2]["parts"][0]["functionResponse"]["id"] == "abc"

    @pytest.mark.parametrize(
        ("model", "sent"),
        [
            ("gemini-3-pro-preview", True),
            ("gemini-flash-latest", True),
            ("gemini-10-pro", True),
            ("gemini-2.5-flash", False),
            ("gemini-2.0-flash", False),
        ],
    )
    def test_a_call_of_another_vendors_model_is_said_to_have_no_signature(
        self, model: str, sent: bool
    ) -> None:
        calls = (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))
        messages = (*HELLO.messages, Message("assistant", "", tool_calls=calls))
        body = body_of(ChatRequest("model", messages), Offer("m", model))
        check(body)
        signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]
        assert signatures == ["skip_thought_signature_validator" if sent else None, None]

    @given(st.text(max_size=30), st.from_regex(r"[A-Za-z0-9+/_-]{1,40}={0,2}", fullmatch=True))
    def test_signatures_in_ids(self, ident: str, signature: str) -> None:
        assert unsigned(signed(ident, signature)) == (ident, signature)
        assert unsigned(signed(ident, "")) == unsigned(ident)

    def test_strict_tools(self) -> None:
        def mode(choice: Any, strict: bool | None) -> str:
            toolbox = Toolbox((Tool("f", strict=strict),), choice)
            body = body_of(replace(HELLO, tools=toolbox))
            return body["toolConfig"]["functionCallingConfig"]["mode"]

        assert mode("auto", True) == "VALIDATED"
        assert mode("auto", False) == "AUTO"
        assert mode("required", True) == "ANY"
        assert mode("none", True) == "NONE"

    def test_any_json_object(self) -> None:
        form = Structure("json", {"type": "object"}, "response_format")
        config = body_of(replace(HELLO, structure=form))["generationConfig"]
        assert config == {"maxOutputTokens": 4096, "responseMimeType": "application/json"}

    def test_effort(self) -> None:
        body = body_of(replace(HELLO, hints={"reasoning_effort": "low"}))
        check(body)
        assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}

    @pytest.mark.parametrize(
        ("request_", "param"),
        [
            (replace(HELLO, sampling=Sampling(min_p=0.1)), "min_p"),
            (replace(HELLO, sampling=Sampling(logit_bias={1: 2.0})), "logit_bias"),
            (replace(HELLO, sampling=Sampling(repetition_penalty=2)), "repetition_penalty"),
            (replace(HELLO, sampling=Sampling(ignore_eos=True)), "ignore_eos"),
            (replace(HELLO, sampling=Sampling(seed=2**31)), "seed"),
            (replace(HELLO, sampling=Sampling(stop=tuple("abcdef"))), "stop"),
            (replace(HELLO, tools=Toolbox((Tool("f"),), parallel=False)), "parallel_tool_calls"),
            (replace(HELLO, structure=Structure("choice", ("a", "b"), "so.choice")), "so.choice"),
            (replace(HELLO, begun="It is"), "messages"),
            (ChatRequest("m", (Message("user", "hello", name="Ann"),)), "messages[0].name"),
            (ChatRequest("m", (Message("assistant", ""),)), "messages[0].content"),
            (
                ChatRequest("m", (Message("tool", "x", tool_call_id="z"),)),
                "messages[0].tool_call_id",
            ),
            (
                ChatRequest("m", (Message("user", "", parts=(Image("https://example.org/pic"),)),)),
                "messages[0].content[0]",
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


# --- answers --------------------------------------------------------------------------------------

USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 5,
    "toolUsePromptTokenCount": 2,
    "totalTokenCount": 37,
}


def chunk(
    parts: list[dict[str, Any]],
    finish: str | None = None,
    index: int | None = None,
    usage: Any = None,
) -> dict[str, Any]:
    """One response of a stream, as on the vendor's page, with texts of our own."""
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    made: dict[str, Any] = {
        "candidates": [candidate],
        "responseId": "r1",
        "modelVersion": "gemini-3",
    }
    return made | ({"usageMetadata": usage} if usage is not None else {})


def story(pieces: list[str], calls: list[tuple[str, str, Any]]) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        yield chunk(
            [{"text": piece}], index=0, usage={"promptTokenCount": 20, "totalTokenCount": 20}
        )
    for ident, name, args in calls:
        yield chunk([{"functionCall": {"id": ident, "name": name, "args": args}}])
    yield chunk([{"text": ""}], finish="STOP", usage=USAGE)


def read(datas: Any, request: ChatRequest = HELLO) -> Told:
    return streamed(DIALECT.reader(request), datas)


def whole(data: Any, request: ChatRequest = HELLO) -> Told:
    return heard(DIALECT.whole(request, json.dumps(data).encode()))


class TestAnswers:
    @settings(max_examples=150, deadline=None)
    @given(st.data(), replies())
    def test_whole_equals_streamed(self, data: st.DataObject, reply: Any) -> None:
        text, calls = reply
        events = list(story(data.draw(split(text)) if text else [], calls))
        parts: list[dict[str, Any]] = [{"text": text}] if text else []
        parts += [{"functionCall": {"id": i, "name": n, "args": a}} for i, n, a in calls]
        one = chunk(parts, finish="STOP", usage=USAGE)
        for event in (*events, one):
            types.GenerateContentResponse.model_validate(event)
        told = read(events)
        assert told == whole(one)
        assert told.text.get(0, "") == text
        assert told.calls.get(0, []) == calls
        assert told.finish == {0: "tool_calls" if calls else "stop"}
        assert told.usage == Usage(22, 15, cached_tokens=8, reasoning_tokens=5)

    def test_calls_without_ids_get_ones_of_their_own(self) -> None:
        call = {"functionCall": {"name": "f", "args": {"x": 1}}}
        first = read([chunk([call, call], finish="STOP")])
        ids = [ident for ident, _name, _args in first.calls[0]]
        assert len(set(ids)) == 2
        earlier = tuple(ToolCall(ident, "f", "{}") for ident in ids)
        asked = replace(
            HELLO, messages=(*HELLO.messages, Message("assistant", "", tool_calls=earlier))
        )
        nameless = chunk([call], finish="STOP")
        del nameless["responseId"]
        again = read([nameless], asked)
        assert again.calls[0][0][0] not in ids

    def test_several_answers(self) -> None:
        asked = replace(HELLO, sampling=Sampling(n=2))
        events = [
            chunk([{"text": "a"}], index=0),
            chunk([{"text": "b"}], index=1),
            chunk([{"text": "c"}], finish="STOP", index=1),
            chunk([], finish="MAX_TOKENS", index=0),
        ]
        told = read(events, asked)
        assert told.text == {0: "a", 1: "bc"}
        assert told.finish == {0: "length", 1: "stop"}
        with pytest.raises(UpstreamAnswerError):
            read(events[:3], asked)
        with pytest.raises(UpstreamAnswerError):
            read(events, HELLO)

    def test_thoughts_are_told_apart(self) -> None:
        told = read(
            [
                chunk(
                    [
                        {"text": "Clouds", "thought": True},
                        {"text": "Rain", "thoughtSignature": "QQ=="},
                    ],
                    "STOP",
                )
            ]
        )
        assert (told.thought, told.text) == ({0: "Clouds"}, {0: "Rain"})

    @pytest.mark.parametrize("reason", list(types.FinishReason))
    def test_every_reason_is_an_end_or_an_error(self, reason: types.FinishReason) -> None:
        ends = {"STOP": "stop", "MAX_TOKENS": "length"}
        filters = [
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ]
        ends |= dict.fromkeys(filters, "content_filter")
        events = [chunk([{"text": "x"}]), chunk([], finish=reason.value)]
        if reason.value in ends:
            assert read(events).finish == {0: ends[reason.value]}
        else:
            with pytest.raises(UpstreamAnswerError):
                read(events)

    def test_a_prompt_that_is_blocked(self) -> None:
        told = whole(
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
        )
        assert told.finish == {0: "content_filter"}
        assert told.usage == Usage(4)

    def test_a_reason_with_every_event(self) -> None:
        told = read([chunk([{"text": "a"}], "STOP"), chunk([{"text": "b"}], "STOP")])
        assert (told.text, told.finish) == ({0: "ab"}, {0: "stop"})

    @given(st.integers(0, 100))
    def test_a_cut_answer_is_never_whole(self, cut: int) -> None:
        events = list(story(["It ", "rains."], [("a", "f", {"x": 1})]))
        with pytest.raises(UpstreamAnswerError) as raised:
            read(events[: cut % len(events)])
        assert raised.value.billable

    def test_logprobs(self) -> None:
        result = {
            "chosenCandidates": [{"token": "Ra", "logProbability": -0.5}, {"token": "in"}],
            "topCandidates": [{"candidates": [{"token": "Ra", "logProbability": -0.5}]}],
        }
        event = chunk([{"text": "Rain"}], "STOP")
        event["candidates"][0]["logprobsResult"] = result
        pieces = [e for e in DIALECT.whole(HELLO, json.dumps(event).encode()) if hasattr(e, "text")]
        top = TokenLogprob("Ra", b"Ra", -0.5)
        assert pieces[0].logprobs == (
            TokenLogprob("Ra", b"Ra", -0.5, (top,)),
            TokenLogprob("in", b"in", 0.0),
        )

    @pytest.mark.parametrize(
        ("failed", "error"),
        [
            (
                {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"},
                UpstreamUnavailableError,
            ),
            ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, UpstreamBusyError),
            ({"code": 400, "status": "INVALID_ARGUMENT", "message": "x"}, UpstreamRequestError),
            ({}, UpstreamUnavailableError),
        ],
    )
    def test_an_error_in_the_stream(self, failed: Any, error: type[Exception]) -> None:
        with pytest.raises(error) as raised:
            read([chunk([{"text": "x"}]), {"error": failed}])
        assert raised.value.billable  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "part",
        [
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            {"functionCall": {"args": {}}},
            {"text": 1},
        ],
    )
    def test_parts_that_were_not_asked_for(self, part: Any) -> None:
        with pytest.raises(UpstreamAnswerError):
            read([chunk([part], "STOP")])

    @pytest.mark.parametrize(
        "usage", [None, {}, {"promptTokenCount": -3}, {"promptTokenCount": "1"}, 7]
    )
    def test_counts_that_cannot_be_believed_are_not(self, usage: Any) -> None:
        assert whole(chunk([{"text": "x"}], "STOP", usage=usage)).usage == Usage(0, counted=True)

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    @example(b'{"error":{}}')
    @example(b'{"error":{"code":503}}')
    def test_whatever_comes_ends_in_our_own_errors(self, body: bytes) -> None:
        with pytest.raises(UpstreamError):
            list(DIALECT.whole(HELLO, body))
        assert DIALECT.error(500, {}, body).again


class TestVectors:
    ASKED = EmbeddingRequest("m", ("satu", "dua"), dimensions=2)

    def test_gemini(self) -> None:
        call = DIALECT.embed(self.ASKED, Offer("m", "gemini-embedding-001"))
        assert call.path == "/models/gemini-embedding-001:batchEmbedContents"
        assert json.loads(call.body) == {
            "requests": [
                {
                    "model": "models/gemini-embedding-001",
                    "content": {"parts": [{"text": text}]},
                    "outputDimensionality": 2,
                }
                for text in ("satu", "dua")
            ]
        }
        body = b'{"embeddings":[{"values":[0.6,0.8]},{"values":[1,0]}]}'
        told = DIALECT.embeddings(self.ASKED, body)
        assert told.vectors == ((0.6, 0.8), (1.0, 0.0))
        assert told.usage == Usage(counted("satu") + counted("dua"), counted=True)

    def test_vertex(self) -> None:
        call = VERTEX.embed(self.ASKED, Offer("m", "text-embedding-005"))
        assert call.path.endswith("/publishers/google/models/text-embedding-005:predict")
        assert json.loads(call.body) == {
            "instances": [{"content": "satu"}, {"content": "dua"}],
            "parameters": {"outputDimensionality": 2},
        }
        one = {
            "embeddings": {"values": [0.5], "statistics": {"truncated": False, "token_count": 3}}
        }
        told = VERTEX.embeddings(self.ASKED, json.dumps({"predictions": [one, one]}).encode())
        assert told.vectors == ((0.5,), (0.5,))
        assert told.usage == Usage(6)

    def test_one_vector_for_each_input(self) -> None:
        with pytest.raises(UpstreamAnswerError):
            DIALECT.embeddings(self.ASKED, b'{"embeddings":[{"values":[1]}]}')
        with pytest.raises(UpstreamAnswerError):
            VERTEX.embeddings(self.ASKED, b'{"predictions":[]}')

    def test_what_is_refused(self) -> None:
        with pytest.raises(UnsupportedFieldError):
            DIALECT.embed(EmbeddingRequest("m", ((1, 2),)), OFFER)
        with pytest.raises(UnsupportedFieldError):
            DIALECT.moderate(ModerationRequest("m", ("a",)), OFFER)


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, UpstreamRequestError),
            (401, UpstreamAccessError),
            (403, UpstreamAccessError),
            (404, UpstreamRequestError),
            (429, UpstreamBusyError),
            (500, UpstreamUnavailableError),
            (503, UpstreamUnavailableError),
        ],
    )
    def test_statuses(self, status: int, error: type[Exception]) -> None:
        failed = {"error": {"code": status, "message": "Invalid value.", "status": "X"}}
        for body in (failed, [failed]):
            made = DIALECT.error(status, {}, json.dumps(body).encode())
            assert type(made) is error
            assert not made.billable
            assert ("Invalid value." in made.message) == (error is UpstreamRequestError)

    def test_a_key_that_is_not_taken(self) -> None:
        detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        body = {"error": {"code": 400, "message": "API key not valid.", "details": [detail]}}
        made = DIALECT.error(400, {}, json.dumps(body).encode())
        assert type(made) is UpstreamAccessError

    def test_how_long_to_wait(self) -> None:
        detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
        body = {"error": {"code": 429, "message": "Quota", "details": [detail]}}
        assert DIALECT.error(429, {}, json.dumps(body).encode()).retry_after == 34.5
        assert DIALECT.error(429, {"retry-after": "3"}, b"").retry_after == 3
