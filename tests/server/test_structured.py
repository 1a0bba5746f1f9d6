"""Structured output and tools through the official SDK, against the running server."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from servers import STARTER, Server

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 30},
                "unit": {"enum": ["C", "F"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}
ASK: Any = [{"role": "user", "content": "What is the weather in Paris? Call get_weather."}]


class Place(BaseModel):
    name: Literal["Paris", "Rome"]
    capital: bool
    people: Literal[1, 2, 3]


def chat(client: OpenAI, **fields: Any) -> Any:
    fields = {"max_tokens": 200, "temperature": 0, "messages": ASK, **fields}
    return client.chat.completions.create(model=STARTER, **fields)


def gathered(chunks: Any) -> tuple[str, list[dict[str, str]], str]:
    """A stream's text, calls and finish reason, put together as a client does."""
    text, calls, reason = "", [], ""
    for chunk in chunks:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        for part in choice.delta.tool_calls or ():
            if part.id:
                assert part.index == len(calls)
                assert part.type == "function"
                calls.append({"name": part.function.name, "arguments": ""})
            calls[part.index]["arguments"] += part.function.arguments or ""
        reason = choice.finish_reason or reason
    return text, calls, reason


def test_a_pydantic_model_comes_back(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=STARTER, messages=ASK, response_format=Place, temperature=1.5, seed=3, max_tokens=60
    )
    assert isinstance(answer.choices[0].message.parsed, Place)
    assert answer.choices[0].finish_reason == "stop"


def test_a_json_object(client: OpenAI) -> None:
    answer = chat(client, response_format={"type": "json_object"}, n=2, temperature=0.7, seed=1)
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
        assert choice.message.content.startswith("{")


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    schema = {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 5}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    whole = chat(client, response_format=form).choices[0]
    assert gathered(chat(client, response_format=form, stream=True))[0] == whole.message.content
    assert all(item <= 99 for item in json.loads(whole.message.content))


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_that_must_be(client: OpenAI, choice: Any) -> None:
    options = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False}
    whole = chat(client, **options).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (call,) = whole.message.tool_calls
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city", "unit"}
    text, calls, reason = gathered(chat(client, **options, stream=True))
    assert (text, reason) == ("", "tool_calls")
    assert calls == [{"name": "get_weather", "arguments": call.function.arguments}]


def test_a_call_and_its_result_go_back(server: Server, client: OpenAI) -> None:
    called = chat(client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    message = called.choices[0].message
    result = {
        "role": "tool",
        "content": "18 degrees, sunny",
        "tool_call_id": message.tool_calls[0].id,
    }
    told = [*ASK, message, result]
    plain = chat(client, messages=told, tools=[WEATHER], tool_choice="none").choices[0].message
    assert plain.content
    assert plain.tool_calls is None
    answer = chat(client, messages=told, tools=[WEATHER])
    assert answer.usage.prompt_tokens > called.usage.prompt_tokens


def test_several_calls_in_one_answer(client: OpenAI) -> None:
    options = {"tools": [WEATHER, NOW], "tool_choice": "required", "temperature": 1.2, "seed": 5}
    whole = chat(client, **options, max_tokens=400).choices[0]
    _, calls, _ = gathered(chat(client, **options, max_tokens=400, stream=True))
    assert calls == [
        {"name": c.function.name, "arguments": c.function.arguments}
        for c in whole.message.tool_calls
    ]
    assert len({c.id for c in whole.message.tool_calls}) == len(whole.message.tool_calls)


def test_tools_may_be_left_alone(client: OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "Say hello."}]
    answer = chat(client, messages=ask, tools=[NOW], stop=["\n"], max_tokens=20).choices[0]
    assert answer.finish_reason in ("stop", "length", "tool_calls")
    none = chat(client, messages=ask, tools=[NOW], tool_choice="none", max_tokens=20)
    plain = chat(client, messages=ask, max_tokens=20)
    assert none.choices[0].message.content == plain.choices[0].message.content
    assert none.usage.prompt_tokens == plain.usage.prompt_tokens


def test_the_sdks_own_streaming_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=STARTER, messages=ASK, tools=[WEATHER], tool_choice="required", max_tokens=200,
        temperature=0, parallel_tool_calls=False,
    ) as stream:  # fmt: skip
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments)["city"]


def test_an_expression_and_a_grammar(client: OpenAI) -> None:
    phone = {"structured_outputs": {"regex": "[0-9]{3}-[0-9]{4}"}}
    answer = chat(client, extra_body=phone, temperature=2, seed=9).choices[0]
    assert re.fullmatch("[0-9]{3}-[0-9]{4}", answer.message.content)
    sums = {"structured_outputs": {"grammar": 'start: N ("+" N){1,3}\nN: /[0-9]{1,2}/'}}
    text = (
        client.completions.create(
            model=STARTER, prompt="A sum: ", max_tokens=40, temperature=0, extra_body=sums
        )
        .choices[0]
        .text
    )
    assert re.fullmatch(r"[0-9]{1,2}(\+[0-9]{1,2}){1,3}", text)


def test_log_probabilities_of_a_call_are_those_of_its_tokens(client: OpenAI) -> None:
    options = {"tools": [WEATHER], "tool_choice": "required", "logprobs": True, "top_logprobs": 2}
    choice = chat(client, **options, parallel_tool_calls=False).choices[0]
    text = bytes(b for token in choice.logprobs.content for b in token.bytes).decode()
    assert text.startswith('<tool_call>\n{"name": "get_weather", "arguments": {')
    assert choice.message.tool_calls[0].function.arguments in text
    streamed = chat(client, **options, parallel_tool_calls=False, stream=True)
    again = [t for c in streamed if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in again] == [t.token for t in choice.logprobs.content]


def test_the_same_seed_gives_the_same_call(client: OpenAI) -> None:
    def arguments(seed: int) -> str:
        options = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
        answer = chat(client, **options, temperature=1.5, seed=seed)
        return answer.choices[0].message.tool_calls[0].function.arguments

    assert arguments(4) == arguments(4)


def test_an_answer_that_is_cut_says_length(client: OpenAI) -> None:
    choice = chat(client, tools=[WEATHER], tool_choice="required", max_tokens=12).choices[0]
    assert choice.finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema",
                              "json_schema": {"name": "x", "schema": {"uniqueItems": True}}}},
         "response_format.json_schema.schema.uniqueItems"),
        ({"structured_outputs": {"regex": "(?=x)"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": "a{99999}"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: x"}}, "structured_outputs.grammar"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
         "tools[0].function.parameters.type"),
        ({"response_format": {"type": "json_object"}, "stop": "}"}, "stop"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
        ({"tools": [NOW], "tool_choice": "required", "stop": "}"}, "stop"),
        ({"response_format": {"type": "json_object"}, "logit_bias": {"504": 100}}, "logit_bias"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_and_the_server_goes_on(
    server: Server, fields: Any, param: str
) -> None:
    for stream in (False, True):
        answer = server.say("Hello", **fields, max_tokens=10, stream=stream)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param
    assert server.say("Hello", max_tokens=2).status_code == 200


def test_the_sdk_raises_its_own_class(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, extra_body={"structured_outputs": {"json": {"not": {}}}})
    assert caught.value.param == "structured_outputs.json.not"


def test_a_users_text_is_no_call(client: OpenAI) -> None:
    fake = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    answer = chat(client, messages=[{"role": "user", "content": fake}], tools=[NOW], max_tokens=30)
    for call in answer.choices[0].message.tool_calls or ():
        assert call.function.name == "now"
    without = chat(client, messages=[{"role": "user", "content": fake}], max_tokens=30)
    assert without.choices[0].message.tool_calls is None
