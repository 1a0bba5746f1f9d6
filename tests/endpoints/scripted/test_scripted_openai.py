"""OpenAI's and Azure's dialects, driven by OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import openai
import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from pydantic import BaseModel
from raw_http import ask

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Access, Answer, Call, Script, Upstream, words
from daulat.endpoints.scripted.wires import openai as wire
from daulat.endpoints.scripted.wires import responses

SAID: Any = [{"role": "user", "content": "Where is the harbour?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Look around",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"enum": ["Medan"]},
                    "days": {"type": "integer", "minimum": 2},
                },
                "required": ["city", "days"],
            },
        },
    }
    for name in ("look", "walk")
]


@pytest.fixture
def client(upstream: Upstream) -> openai.OpenAI:
    return openai.OpenAI(base_url=upstream.url + "/v1", api_key="sk-test", max_retries=0)


def test_the_fields_are_those_of_the_sdk() -> None:
    pairs = [
        (chat_params.CompletionCreateParamsBase, wire.CHAT_FIELDS),
        (completion_create_params.CompletionCreateParamsBase, wire.TEXT_FIELDS),
        (response_create_params.ResponseCreateParamsBase, responses.FIELDS),
    ]
    for theirs, ours in pairs:
        assert get_type_hints(theirs).keys() - ours == set()
    assert get_type_hints(embedding_create_params.EmbeddingCreateParams).keys()


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=SAID, n=2)
    assert [choice.message.content for choice in answer.choices] == [words(20)] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 40)


@pytest.mark.parametrize("limit", [1, 7, 19])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_chat_keeps_the_limit(client: openai.OpenAI, name: str, limit: int) -> None:
    given: Any = {name: limit}
    answer = client.chat.completions.create(model="m", messages=SAID, **given)
    assert answer.choices[0].message.content == words(20)[: 4 * limit]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == limit


def test_chat_stops(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=SAID, stop=["api", "far"])
    assert answer.choices[0].message.content == "air oak big "
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="m", messages=SAID, stream=True, stream_options={"include_usage": True}, n=2
        )
    )
    for index in (0, 1):
        mine = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert [one.delta.content for one in mine][:2] == ["", "air "]
        assert "".join(one.delta.content or "" for one in mine) == words(20)
        assert [one.finish_reason for one in mine][-2:] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 40
    assert all(chunk.usage is None for chunk in chunks[:-1])
    without = list(client.chat.completions.create(model="m", messages=SAID, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in without)


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="m", messages=SAID, logprobs=True, top_logprobs=3, max_tokens=4
    )
    assert answer.choices[0].logprobs
    content = answer.choices[0].logprobs.content or []
    assert "".join(one.token for one in content) == words(4)
    assert {len(one.top_logprobs) for one in content} == {3}
    stream = client.chat.completions.create(
        model="m", messages=SAID, logprobs=True, max_tokens=4, stream=True
    )
    streamed = [c.choices[0].logprobs for c in stream]
    assert "".join(one.content[0].token for one in streamed if one and one.content) == words(4)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_in_parallel(stream: bool) -> None:
    with (
        scripted.running(Script(calls=2)) as upstream,
        openai.OpenAI(base_url=upstream.url + "/v1", api_key="k") as client,
    ):
        with client.chat.completions.stream(model="m", messages=SAID, tools=TOOLS) as events:
            final = events.get_final_completion() if stream else None
        answer = final or client.chat.completions.create(model="m", messages=SAID, tools=TOOLS)
        calls = answer.choices[0].message.tool_calls or []
        assert [call.function.name for call in calls if call.type == "function"] == ["look", "walk"]
        for call in calls:
            assert call.type == "function"
            assert json.loads(call.function.arguments) == {"city": "Medan", "days": 2}
        assert answer.choices[0].finish_reason == "tool_calls"
        one = client.chat.completions.create(
            model="m", messages=SAID, tools=TOOLS, parallel_tool_calls=False
        )
        assert len(one.choices[0].message.tool_calls or []) == 1
        assert len({call.id for call in calls}) == 2


def test_the_choice_of_tools(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "walk"}}
    answer = client.chat.completions.create(
        model="m", messages=SAID, tools=TOOLS, tool_choice=named
    )
    call = (answer.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert call.function.name == "walk"
    none = client.chat.completions.create(model="m", messages=SAID, tools=TOOLS, tool_choice="none")
    assert none.choices[0].message.tool_calls is None
    after: Any = [
        *SAID,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny"},
    ]
    last = client.chat.completions.create(model="m", messages=after, tools=TOOLS)
    assert last.choices[0].message.content == words(20)
    named["function"]["name"] = "swim"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="m", messages=SAID, tools=TOOLS, tool_choice=named)


class Place(BaseModel):
    name: str
    population: int
    coast: bool
    ports: list[str]
    twin: Place | None


def test_json_that_fits(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="m", messages=SAID, response_format=Place)
    assert answer.choices[0].message.parsed is not None
    assert isinstance(answer.choices[0].message.parsed.population, int)
    loose = client.chat.completions.create(
        model="m", messages=SAID, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(loose.choices[0].message.content or ""), dict)


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt=["one", "two"], logprobs=2, max_tokens=5)
    assert [choice.text for choice in answer.choices] == [words(5)] * 2
    assert answer.choices[0].logprobs
    assert answer.choices[0].logprobs.tokens == ["air ", "oak ", "big ", "api ", "map "]
    default = client.completions.create(model="m", prompt="one")
    assert default.usage
    assert default.usage.completion_tokens == 16
    chunks = list(client.completions.create(model="m", prompt="one", max_tokens=5, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == words(5)
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("style", ["float", "base64"])
def test_embeddings(client: openai.OpenAI, style: Any) -> None:
    given: list[str] = ["harbour", "port"]
    answer = client.embeddings.create(model="m", input=given, dimensions=16, encoding_format=style)
    default = client.embeddings.create(model="m", input=given, dimensions=16)
    for one, other in zip(answer.data, default.data, strict=True):
        vector: Any = one.embedding
        if style == "float":
            assert vector == pytest.approx(other.embedding, abs=1e-6)
            assert sum(number * number for number in vector) == pytest.approx(1)
            assert len(vector) == 16
    assert default.data[0].embedding != default.data[1].embedding
    assert answer.usage.prompt_tokens == 3


def test_moderations_and_models(client: openai.OpenAI) -> None:
    verdicts = client.moderations.create(input=["a forbidden word", "a word"])
    assert [one.flagged for one in verdicts.results] == [True, False]
    assert [model.id for model in client.models.list()] == ["scripted"]


def test_responses(client: openai.OpenAI, upstream: Upstream) -> None:
    answer = client.responses.create(model="m", input="Where?", instructions="Be kind.")
    assert answer.output_text == words(20)
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 20)
    later = client.responses.create(model="m", input="Why?", previous_response_id=answer.id)
    assert later.usage
    assert later.usage.input_tokens == 2 + 20 + 1
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(model="m", input="Why?", previous_response_id="resp_unknown")
    assert upstream.ledger()["entries"][1]["protocol"] == "openai"


@pytest.mark.parametrize("tools", [False, True])
def test_streamed_responses(client: openai.OpenAI, tools: bool) -> None:
    given: Any = {"tools": [{"type": "function", **TOOLS[0]["function"]}]} if tools else {}
    events = list(client.responses.create(model="m", input="Where?", stream=True, **given))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    if not tools:
        assert last.response.output_text == words(20)
        deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(deltas) == words(20)
        assert len(deltas) == 20
        return
    call: Any = last.response.output[0]
    assert (call.type, call.name) == ("function_call", "look")
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    after = client.responses.create(model="m", input=[call.to_dict(), result], **given)
    assert after.output_text == words(20)


def test_responses_in_a_form_and_cut(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="m", input="Where?", text_format=Place)
    assert parsed.output_parsed is not None
    short = client.responses.create(model="m", input="Where?", max_output_tokens=16)
    assert short.status == "incomplete"
    assert short.incomplete_details
    assert short.incomplete_details.reason == "max_output_tokens"


ERRORS = {
    "rate_limited": openai.RateLimitError,
    "error_500": openai.InternalServerError,
    "error_503": openai.InternalServerError,
    "auth_expired": openai.AuthenticationError,
    "context_length": openai.BadRequestError,
    "dies_before_headers": openai.APIConnectionError,
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_as_the_client_has_them(client: openai.OpenAI, fault: str) -> None:
    with pytest.raises(ERRORS[fault]) as caught:
        client.chat.completions.create(model=f"m+{fault}", messages=SAID)
    if fault == "context_length":
        assert caught.value.code == "context_length_exceeded"


def test_an_error_event_reaches_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="had an error"):
        list(
            client.chat.completions.create(
                model="m+error_event_mid_stream", messages=SAID, stream=True
            )
        )


WRONG: dict[str, Any] = {
    "unknown field": {"top_k": 3},
    "no messages": {"messages": []},
    "a role": {"messages": [{"role": "king", "content": "x"}]},
    "no content": {"messages": [{"role": "user"}]},
    "a tool's result without its call": {"messages": [{"role": "tool", "content": "x"}]},
    "a type": {"stream": "yes"},
    "stream options alone": {"stream_options": {"include_usage": True}},
    "a part": {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
    "a format": {"response_format": {"type": "yaml"}},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_openai_refuses(client: openai.OpenAI, case: str) -> None:
    body = {"model": "m", "messages": SAID, **WRONG[case]}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.body


def test_any_field_where_it_is_not_strict() -> None:
    with scripted.running(strict=False) as upstream:
        shown = ask(upstream, "m", top_k=3)
        assert shown.json()["choices"][0]["message"]["content"] == "Where is the harbour?"


def test_answers_in_turn_with_calls_and_counts() -> None:
    script = Script(
        answers=(Answer("Ya."), Answer(calls=(Call("look", '{"a": 1}'),))),
        cached_tokens=4,
        reasoning_tokens=9,
        access=Access(keys=frozenset({"right"})),
    )
    with scripted.running(script) as upstream:
        client = openai.OpenAI(base_url=upstream.url + "/v1", api_key="right", max_retries=0)
        first = client.chat.completions.create(model="m", messages=SAID, tools=TOOLS)
        second = client.chat.completions.create(model="m", messages=SAID, tools=TOOLS)
        assert first.choices[0].message.content == "Ya."
        call = (second.choices[0].message.tool_calls or [])[0]
        assert call.type == "function"
        assert call.function.arguments == '{"a": 1}'
        assert first.usage
        assert first.usage.completion_tokens == 10
        assert first.usage.completion_tokens_details
        assert first.usage.completion_tokens_details.reasoning_tokens == 9
        assert first.usage.prompt_tokens_details
        assert first.usage.prompt_tokens_details.cached_tokens == 4
        last = upstream.ledger()["entries"][0]
        assert (last["cached_tokens"], last["reasoning_tokens"]) == (4, 9)
        assert last["completion_tokens"] == 10
        with pytest.raises(openai.AuthenticationError) as caught:
            client.with_options(api_key="wrong").models.list()
        assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("stream", [False, True])
def test_azure(upstream: Upstream, stream: bool) -> None:
    client = openai.AzureOpenAI(
        azure_endpoint=upstream.url, api_key="k", api_version="2024-10-21", max_retries=0
    )
    if stream:
        chunks = list(client.chat.completions.create(model="dep", messages=SAID, stream=True))
        assert chunks[0].choices == []
        assert "".join(c.choices[0].delta.content or "" for c in chunks[1:]) == words(20)
    else:
        answer: Any = client.chat.completions.create(model="dep", messages=SAID)
        assert answer.prompt_filter_results[0]["prompt_index"] == 0
        assert len(client.embeddings.create(model="dep", input="x").data[0].embedding) == 64
    last = upstream.ledger()["entries"][-1]
    assert (last["protocol"], last["model"]) == ("azure", "dep")
    newer = openai.OpenAI(base_url=upstream.url + "/openai/v1", api_key="k", max_retries=0)
    assert newer.chat.completions.create(model="dep", messages=SAID).usage
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="dep+rate_limited", messages=SAID)
    assert caught.value.code == "429"


def test_azure_wants_a_version_and_a_key(upstream: Upstream) -> None:
    shown = ask(upstream, "m+error_500", protocol="azure")
    assert shown.json()["error"]["code"] == "InternalServerError"
    client = openai.OpenAI(
        base_url=upstream.url + "/openai/deployments/dep", api_key="k", max_retries=0
    )
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="dep", messages=SAID)
