"""OpenAI's SDK and its responses: whole and streamed, state, tools, forms, errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from servers import STARTER, Server, home_with_models, running

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    city: str
    people: int


@pytest.fixture
def gpt(scripted: Server) -> Any:
    with scripted.sdk() as client:
        yield client


def say(client: OpenAI, given: Any, **fields: Any) -> Any:
    return client.responses.create(model=STARTER, input=given, **fields)


def told(client: OpenAI, given: Any = "tell", **fields: Any) -> dict[str, Any]:
    """The request as the endpoint heard it."""
    return json.loads(say(client, given, **fields).output_text)


def turns(heard: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in heard["messages"]]


def test_a_whole_response(gpt: OpenAI) -> None:
    answer = say(gpt, "one two", metadata={"a": "b"}, user="someone")
    assert (answer.object, answer.status, answer.model) == ("response", "completed", STARTER)
    assert answer.output_text == "first one two "
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    assert (answer.metadata, answer.user) == ({"a": "b"}, "someone")
    assert answer.id == answer.daulat["record"]
    assert answer.error is None
    assert answer.incomplete_details is None


@pytest.mark.parametrize("text", ["one two", "think", "call", "decline", "filtered", "cut call"])
def test_the_stream_says_what_the_whole_response_says(gpt: OpenAI, text: str) -> None:
    tools = [WEATHER, {**WEATHER, "name": "news"}]
    whole = say(gpt, text, tools=tools)
    events = list(say(gpt, text, tools=tools, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last.type == f"response.{whole.status}"
    left = {"id", "created_at", "daulat", "output"}
    assert last.response.model_dump(exclude=left) == whole.model_dump(exclude=left)
    named = [item.model_dump(exclude={"id"}) for item in whole.output]
    assert [item.model_dump(exclude={"id"}) for item in last.response.output] == named
    added = [e.item.id for e in events if e.type == "response.output_item.added"]
    done = [e.item for e in events if e.type == "response.output_item.done"]
    assert [item.id for item in done] == added == [item.id for item in last.response.output]
    assert [item.model_dump() for item in done] == [
        item.model_dump() for item in last.response.output
    ]
    spoken = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(spoken) == whole.output_text
    parts = [e.type for e in events if e.type.startswith("response.content_part")]
    assert parts.count("response.content_part.added") == parts.count("response.content_part.done")


def test_kinds_of_output(gpt: OpenAI) -> None:
    thought, message = say(gpt, "think").output
    assert (thought.type, thought.content[0].text) == ("reasoning", "Let me see.")
    assert message.content[0].text == "It is so."
    usage = say(gpt, "think").usage
    assert usage.input_tokens_details.cached_tokens == 10
    assert usage.output_tokens_details.reasoning_tokens == 4
    (refused,) = say(gpt, "decline").output
    assert (refused.content[0].type, refused.content[0].refusal) == ("refusal", "I will not.")
    text, call = say(gpt, "call", tools=[WEATHER]).output
    assert text.content[0].text == "I ask."
    assert (call.type, call.name, call.call_id) == ("function_call", "weather", "call-0")
    cut = say(gpt, "cut call", tools=[WEATHER])
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    filtered = say(gpt, "filtered")
    assert filtered.incomplete_details.reason == "content_filter"


async def test_async(scripted: Server) -> None:
    async with scripted.async_sdk() as client:
        first, second = await asyncio.gather(
            client.responses.create(model=STARTER, input="one"),
            client.responses.create(model=STARTER, input="one"),
        )
        assert first.output_text == second.output_text == "first one "
        async with client.responses.stream(model=STARTER, input="one") as stream:
            final = await stream.get_final_response()
        assert final.output_text == "first one "


def test_forms_by_the_sdks_helpers(gpt: OpenAI) -> None:
    parsed = gpt.responses.parse(model=STARTER, input="form", text_format=City)
    assert parsed.output_parsed == City(city="Jakarta", people=10)
    with gpt.responses.stream(model=STARTER, input="form", text_format=City) as stream:
        assert stream.get_final_response().output_parsed == City(city="Jakarta", people=10)
    heard = told(gpt, text={"format": {"type": "json_object"}, "verbosity": "low"})
    assert heard["structure"]["source"] == {"type": "object"}
    assert heard["hints"] == {"verbosity": "low"}


def test_a_loop_of_tools_sends_its_own_output_back(gpt: OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "call"}]
    first = say(gpt, asked, tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "tell"}
        for call in calls
    ]
    heard = told(gpt, [*asked, *first.output, *results], tools=[WEATHER])
    assert turns(heard) == [("user", "call"), ("assistant", "I ask."), ("tool", "tell")]
    assert heard["messages"][1]["tool_calls"][0]["name"] == "weather"
    again = told(gpt, results, tools=[WEATHER], previous_response_id=first.id)
    assert again["messages"] == heard["messages"]


def test_the_conversation_goes_on_from_a_response(gpt: OpenAI) -> None:
    first = say(gpt, "one", instructions="Be brief.")
    second = say(gpt, "think", previous_response_id=first.id)
    heard = told(gpt, previous_response_id=second.id, instructions="Be long.")
    assert turns(heard) == [
        ("system", "Be long."),
        ("user", "one"),
        ("assistant", "first one "),
        ("user", "think"),
        ("assistant", "It is so."),
        ("user", "tell"),
    ]


def test_a_response_is_found_and_deleted(gpt: OpenAI) -> None:
    for fields in ({}, {"stream": True}):
        text = "call" if fields else "think"
        made = say(gpt, text, tools=[WEATHER], metadata={"a": "b"}, instructions="x", **fields)
        if fields:
            made = list(made)[-1].response
        found = gpt.responses.retrieve(made.id)
        assert abs(found.created_at - made.created_at) <= 1
        left = {"daulat", "created_at"}
        assert found.model_dump(exclude=left) == made.model_dump(exclude=left)
        gpt.responses.delete(made.id)
        for gone in (gpt.responses.retrieve, gpt.responses.delete):
            with pytest.raises(openai.NotFoundError, match="deleted"):
                gone(made.id)
        with pytest.raises(openai.BadRequestError, match="deleted") as refused:
            say(gpt, "on", previous_response_id=made.id)
        assert refused.value.param == "previous_response_id"


def test_whose_a_response_is(scripted: Server, gpt: OpenAI) -> None:
    made = say(gpt, "one")
    chat = scripted.say("one").json()["id"]
    unstored = say(gpt, "one", store=False)
    with scripted.sdk(api_key=scripted.new_key("other")) as other:
        for client, name in ((other, made.id), (gpt, chat), (gpt, "rec-none"), (gpt, unstored.id)):
            for ask in (client.responses.retrieve, client.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    ask(name)
            with pytest.raises(openai.BadRequestError):
                say(client, "on", previous_response_id=name)
    assert gpt.responses.retrieve(made.id).output_text == "first one "


def test_what_the_record_does_not_keep_cannot_be_gone_on_from(
    scripted: Server, model_cache: Any, tmp_path: Any
) -> None:
    home = home_with_models(tmp_path / "home", model_cache)
    kept = '[record]\ncontents = "digests"'
    with running(home, "scripted", settings=kept) as server, server.sdk() as client:
        made = say(client, "one")
        with pytest.raises(openai.BadRequestError, match="digests"):
            say(client, "on", previous_response_id=made.id)
        with pytest.raises(openai.NotFoundError, match="digests"):
            client.responses.retrieve(made.id)


def test_a_response_that_failed_is_told_and_not_gone_on_from(gpt: OpenAI) -> None:
    events = list(say(gpt, "break", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    failed = events[-1].response
    assert (failed.status, failed.error.message) == ("failed", "Broken.")
    assert not [event for event in events if event.type == "response.completed"]
    assert gpt.responses.retrieve(failed.id).status == "failed"
    with pytest.raises(openai.BadRequestError, match="not complete"):
        say(gpt, "on", previous_response_id=failed.id)
    with pytest.raises(openai.RateLimitError):
        say(gpt, "busy")


def test_all_that_a_request_says_arrives(gpt: OpenAI) -> None:
    heard = told(
        gpt,
        [
            {"role": "developer", "content": "Be brief."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look:"},
                    {
                        "type": "input_image",
                        "image_url": "https://a.example/x.png",
                        "detail": "low",
                    },
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"role": "user", "content": "tell"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=50,
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        prompt_cache_key="k",
        include=["reasoning.encrypted_content"],
        truncation="disabled",
    )
    assert turns(heard)[0] == ("developer", "Be brief.")
    assert heard["messages"][1]["parts"][1]["detail"] == "low"
    assert [role for role, _ in turns(heard)] == [
        "developer",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    box = heard["tools"]
    assert (box["named"], box["parallel"], box["tools"][0]["strict"]) == ("weather", False, True)
    sampling = heard["sampling"]
    assert (sampling["temperature"], sampling["top_p"]) == (0.5, 0.9)
    assert (sampling["max_tokens"], sampling["logprobs"]) == (50, 2)
    assert heard["hints"] == {"prompt_cache_key": "k", "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"colour": "red"}, "colour"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"server_label": "x", "type": "mcp"}]}, "tools[0]"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
            "input[0].content[0].file_id",
        ),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": "x", "output": "y"}]}, "input[0].output"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "y"}]},
            "input[0].call_id",
        ),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
    ],
    ids=str,
)
def test_what_is_refused_is_refused_by_name(
    gpt: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        say(gpt, "one", extra_body=fields)
    assert refused.value.param == param


def test_a_response_is_given_whole(scripted: Server, gpt: OpenAI) -> None:
    made = say(gpt, "one")
    answer = scripted.request("GET", f"/v1/responses/{made.id}?stream=true")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "query")


def test_a_real_model_answers_with_its_probabilities(server: Server) -> None:
    with server.sdk() as client:
        asked: Any = {"model": STARTER, "input": "What is the capital of France?", "temperature": 0}
        made = client.responses.create(**asked, max_output_tokens=6, top_logprobs=2)
        part: Any = made.output[0].content[0]  # type: ignore[union-attr]
        assert "".join(bytes(t.bytes).decode() for t in part.logprobs) == part.text
        events: Any = client.responses.create(
            **asked, max_output_tokens=6, top_logprobs=2, stream=True
        )
        tokens = [
            token.token
            for event in events
            if event.type == "response.output_text.delta"
            for token in event.logprobs
        ]
        assert tokens == [token.token for token in part.logprobs]
        on = client.responses.create(
            model=STARTER, input="And of Italy?", previous_response_id=made.id, max_output_tokens=4
        )
        assert on.usage
        assert on.usage.input_tokens_details.cached_tokens > 0
