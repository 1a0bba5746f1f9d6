"""OpenAI's SDK: pictures, thoughts, refusals, hints, forms, tools, moderations through any endpoint."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from dialects import PIXEL
from openai import OpenAI
from pydantic import BaseModel
from servers import STARTER, Server


class City(BaseModel):
    city: str
    people: int


class Weather(BaseModel):
    """The weather of a city."""

    city: str


@pytest.fixture
def gpt(scripted: Server) -> Any:
    with scripted.sdk() as client:
        yield client


def say(client: OpenAI, text: str, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(**{"model": STARTER, "messages": messages, **fields})


def told(client: OpenAI, **fields: Any) -> dict[str, Any]:
    """The request as the endpoint heard it."""
    return json.loads(say(client, "tell", **fields).choices[0].message.content)


SEEN: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "tell"},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        ],
    }
]


def test_pictures_arrive_and_a_model_that_cannot_see_says_so(gpt: OpenAI, server: Server) -> None:
    (message,) = told(gpt, messages=SEEN)["messages"]
    assert message["content"] == "tell"
    assert [p if isinstance(p, str) else p["detail"] for p in message["parts"]] == ["tell", "low"]
    with server.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        say(client, "", messages=[{"role": "system", "content": "Look."}, *SEEN])
    assert (refused.value.code, refused.value.param) == (
        "unsupported_field",
        "messages[1].content[1]",
    )


def test_thoughts_and_refusals_are_told_apart_whole_and_streamed(gpt: OpenAI) -> None:
    for text, field, said, content in (
        ("think", "reasoning_content", "Let me see.", "It is so."),
        ("decline", "refusal", "I will not.", None),
    ):
        message = say(gpt, text).choices[0].message
        assert (getattr(message, field), message.content) == (said, content)
        deltas = [c.choices[0].delta for c in say(gpt, text, stream=True) if c.choices]
        assert "".join(getattr(delta, field, None) or "" for delta in deltas) == said
        assert "".join(delta.content or "" for delta in deltas) == (content or "")
        again = say(gpt, text, messages=[{"role": "user", "content": "a"}, message, *SEEN])
        heard = json.loads(again.choices[0].message.content)
        assert heard["messages"][1]["content"] == content or said


def test_why_it_ended_and_what_it_took(gpt: OpenAI) -> None:
    answer = say(gpt, "filtered")
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.usage.prompt_tokens_details.cached_tokens == 10
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4


def test_hints_and_strictness_are_passed_on(gpt: OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}
    form = {"name": "x", "schema": {"type": "object"}, "strict": True}
    hints = {"reasoning_effort": "low", "verbosity": "low", "prompt_cache_key": "k", "store": True}
    heard = told(
        gpt,
        tools=[tool],
        response_format={"type": "json_schema", "json_schema": form},
        **hints,
    )
    assert heard["hints"] == hints
    assert heard["tools"]["tools"][0]["strict"] is True
    assert (heard["structure"]["name"], heard["structure"]["strict"]) == ("x", True)
    assert heard["stream"] is False
    chunks = list(say(gpt, "tell", stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert json.loads(text)["stream"] is True


async def test_forms_and_tools_by_the_sdks_helpers(scripted: Server, gpt: OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "form"}]
    parsed = gpt.chat.completions.parse(model=STARTER, messages=ask, response_format=City)
    assert parsed.choices[0].message.parsed == City(city="Jakarta", people=10)
    with gpt.chat.completions.stream(model=STARTER, messages=ask, response_format=City) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == City(city="Jakarta", people=10)
    calling: Any = [{"role": "user", "content": "call"}]
    tools = [openai.pydantic_function_tool(Weather)]
    async with scripted.async_sdk() as client:
        made = await client.chat.completions.parse(model=STARTER, messages=calling, tools=tools)
    (call,) = made.choices[0].message.tool_calls or ()
    assert call.function.parsed_arguments == Weather(city="Jakarta")
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "tell"}
    heard = told(gpt, messages=[*calling, made.choices[0].message, result], tools=tools)
    assert heard["messages"][2]["tool_call_id"] == heard["messages"][1]["tool_calls"][0]["id"]


def test_moderations_pass_through(gpt: OpenAI, server: Server) -> None:
    raw: Any = gpt.moderations.with_raw_response.create(model=STARTER, input=["good", "bad"])
    answer = raw.parse()
    assert [result.flagged for result in answer.results] == [False, True]
    assert (answer.model, answer.id) == ("judge-1", raw.headers["daulat-record"])
    assert gpt.moderations.create(model=STARTER, input="bad").results[0].flagged
    picture: Any = [{"type": "image_url", "image_url": {"url": PIXEL}}]
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.moderations.create(model=STARTER, input=picture)
    assert (refused.value.code, refused.value.param) == ("unsupported_field", "input[0]")
    with pytest.raises(openai.NotFoundError, match="omni-moderation-latest"):
        gpt.moderations.create(input="x")
    with pytest.raises(openai.InternalServerError) as defect:
        gpt.moderations.create(model=STARTER, input="defect")
    assert "secret" not in defect.value.message
    with server.sdk() as client, pytest.raises(openai.BadRequestError, match="no moderation"):
        client.moderations.create(model=STARTER, input="x")


def test_a_vectors_length_is_the_endpoints_to_honour(gpt: OpenAI, server: Server) -> None:
    assert gpt.embeddings.create(model=STARTER, input="x", dimensions=2).data
    with server.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="all-MiniLM-L6-v2", input="x", dimensions=2)
    assert refused.value.param == "dimensions"
