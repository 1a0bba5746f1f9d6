"""Anthropic's SDK against the running server: whole and streamed, tools, forms, counting, errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, beta_tool
from pydantic import BaseModel
from servers import KEY, STARTER, Server

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


CAPITAL = "What is the capital of France? Answer in one sentence."


class City(BaseModel):
    city: str
    people: int


@pytest.fixture
def claude(scripted: Server) -> Any:
    with scripted.anthropic() as client:
        yield client


def say(client: Anthropic, text: str, **fields: Any) -> Any:
    fields = {"max_tokens": 50, "messages": [{"role": "user", "content": text}], **fields}
    return client.messages.create(model=STARTER, **fields)


def told(client: Anthropic, **fields: Any) -> dict[str, Any]:
    """The request as the endpoint heard it."""
    return json.loads(say(client, "tell", **fields).content[0].text)


def test_a_whole_message(claude: Anthropic) -> None:
    answer = say(claude, "one two")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", STARTER)
    assert [(b.type, b.text) for b in answer.content] == [("text", "first one two ")]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    assert answer.daulat["place"] == "this-machine"
    assert answer.id == answer.daulat["record"]
    assert answer._request_id


def test_thoughts_are_a_block_of_their_own_and_the_counts_add_up(claude: Anthropic) -> None:
    answer = say(claude, "think")
    assert [b.type for b in answer.content] == ["thinking", "text"]
    assert answer.content[0].thinking == "Let me see."
    assert answer.content[1].text == "It is so."
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (15, 10)
    assert (usage.cache_creation_input_tokens, usage.output_tokens) == (5, 9)
    assert usage.output_tokens_details.thinking_tokens == 4


@pytest.mark.parametrize(
    "text", ["one two", "think", "call", "decline", "filtered", "stopped", "cut call"]
)
def test_the_stream_says_what_the_whole_message_says(claude: Anthropic, text: str) -> None:
    fields: Any = {"tools": [WEATHER], "stop_sequences": ["END"]}
    whole = say(claude, text, **fields)
    ask: Any = [{"role": "user", "content": text}]
    with claude.messages.stream(model=STARTER, max_tokens=50, messages=ask, **fields) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    assert streamed.usage == whole.usage
    assert (streamed.stop_reason, streamed.stop_sequence) == (
        whole.stop_reason,
        whole.stop_sequence,
    )
    blocks = [block.model_dump(exclude_none=True) for block in streamed.content]
    if text == "cut call":  # a stream has shown its beginning; a whole message has no words for it
        assert blocks.pop()["type"] == "tool_use"
    for block in blocks:
        block.pop("parsed_output", None)
    assert blocks == [block.model_dump(exclude_none=True) for block in whole.content]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stopped", "stop_sequence"),
        ("call", "tool_use"),
        ("cut call", "max_tokens"),
        ("decline", "refusal"),
        ("filtered", "refusal"),
    ],
)
def test_why_it_stopped(claude: Anthropic, text: str, reason: str) -> None:
    answer = say(claude, text, stop_sequences=["END"], tools=[WEATHER])
    assert answer.stop_reason == reason
    assert answer.stop_sequence == ("END" if text == "stopped" else None)


def test_the_order_of_a_stream(scripted: Server) -> None:
    body = {
        "model": STARTER,
        "max_tokens": 5,
        "stream": True,
        "messages": [{"role": "user", "content": "think"}],
    }
    text = scripted.post("/v1/messages", body, headers={"anthropic-version": "2023-06-01"}).text
    events = [part.split("\n") for part in text.strip().split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in events]
    data = [json.loads(line.removeprefix("data: ")) for _, line in events]
    assert [one["type"] for one in data] == names
    assert names == [
        "message_start",
        "ping",
        *["content_block_start", *["content_block_delta"] * 2, "content_block_stop"] * 2,
        "message_delta",
        "message_stop",
    ]
    assert data[-2]["daulat"]["record"] == data[0]["message"]["id"]


async def test_async(scripted: Server) -> None:
    async with scripted.async_anthropic() as client:
        ask: Any = {
            "model": STARTER,
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "one"}],
        }
        first, second = await asyncio.gather(
            client.messages.create(**ask), client.messages.create(**ask)
        )
        assert first.content == second.content
        async with client.messages.stream(**ask) as stream:
            assert "".join([text async for text in stream.text_stream]) == "first one "


def test_tools_are_run_by_the_sdks_runner(claude: Anthropic) -> None:
    asked: list[str] = []

    @beta_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "tell"

    for streamed in (False, True):
        runner: Any = claude.beta.messages.tool_runner(
            model=STARTER,
            max_tokens=50,
            tools=[weather],
            messages=[{"role": "user", "content": "call"}],
            stream=streamed,
        )
        if streamed:
            messages = [stream.get_final_message() for stream in runner]
        else:
            messages = list(runner)
        heard = json.loads(messages[-1].content[0].text)
        assert asked == ["Jakarta"]
        asked.clear()
        calling, result = heard["messages"][1:]
        assert calling["content"] == "I ask."
        assert calling["tool_calls"][0]["id"] == result["tool_call_id"] == "call-0"
        assert json.loads(calling["tool_calls"][0]["arguments"]) == {"city": "Jakarta"}
        assert heard["tools"]["tools"][0]["name"] == "weather"


def test_forms_by_the_sdks_helpers(claude: Anthropic) -> None:
    ask: Any = [{"role": "user", "content": "form"}]
    parsed = claude.messages.parse(model=STARTER, max_tokens=50, messages=ask, output_format=City)
    assert parsed.parsed_output == City(city="Jakarta", people=10)
    with claude.messages.stream(
        model=STARTER, max_tokens=50, messages=ask, output_format=City
    ) as stream:
        assert stream.get_final_message().parsed_output == City(city="Jakarta", people=10)


def test_all_that_a_request_says_arrives(claude: Anthropic) -> None:
    heard = told(
        claude,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "I ask."},
                    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "X"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no such city"}],
                    },
                    {"type": "text", "text": "tell"},
                ],
            },
        ],
        tools=[{**WEATHER, "type": "custom", "strict": True}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "someone"},
        output_config={"effort": "max"},
        extra_body={"top_k": 3, "temperature": 0.5, "top_p": 0.9, "thinking": {"type": "disabled"}},
    )
    system, look, calling, failed, last = heard["messages"]
    assert (system["role"], system["content"]) == ("system", "Be brief.")
    assert [p if isinstance(p, str) else p["url"] for p in look["parts"]] == [
        "Look:",
        "https://a.example/x.png",
        f"data:image/png;base64,{PIXEL}",
    ]
    assert (calling["content"], calling["tool_calls"][0]["name"]) == ("I ask.", "weather")
    assert (failed["role"], failed["content"]) == ("tool", "Error: no such city")
    assert last["content"] == "tell"
    box = heard["tools"]
    assert (box["choice"], box["parallel"], box["tools"][0]["strict"]) == ("required", False, True)
    sampling = heard["sampling"]
    assert (sampling["top_k"], sampling["temperature"], sampling["top_p"]) == (3, 0.5, 0.9)
    assert (sampling["stop"], sampling["max_tokens"]) == (["END"], 50)
    assert (heard["user"], heard["hints"]) == ("someone", {"reasoning_effort": "xhigh"})


def test_errors_are_the_sdks_own_classes(scripted: Server, claude: Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        say(scripted.anthropic(api_key="daulat-wrong"), "one")
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(
            model="no-such-model", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        )
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.InternalServerError) as busy:
        say(claude, "busy")
    assert busy.value.status_code == 529
    assert busy.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]
    assert busy.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.BadRequestError) as refused:
        say(claude, "refuse")
    assert refused.value.body["error"] == {"type": "invalid_request_error", "message": "No."}  # type: ignore[index]
    with pytest.raises(anthropic.InternalServerError) as defect:
        say(claude, "defect")
    assert defect.value.body["error"]["type"] == "api_error"  # type: ignore[index]
    with pytest.raises(anthropic.RequestTooLargeError):
        say(claude, "x" * 30_000)


@pytest.mark.parametrize("text", ["break", "broken"])
def test_a_cut_stream_ends_with_an_error_event(scripted: Server, text: str) -> None:
    body = {
        "model": STARTER,
        "max_tokens": 5,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
    }
    version = {"anthropic-version": "2023-06-01"}
    answer = scripted.post("/v1/messages", body, headers=version).text
    assert "message_stop" not in answer
    assert "secret" not in answer
    name, data = answer.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["type"] == "error"
    with scripted.anthropic() as client, pytest.raises(anthropic.APIStatusError):
        list(say(client, text, stream=True))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"colour": "red"}, "colour"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"max_uses": 1, "type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
        ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "document", "source": {"type": "text", "data": "x"}}],
                    }
                ]
            },
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "messages[0].content[0].source",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "The answer is"},
                ]
            },
            "messages[1]",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages[0]"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}],
                    }
                ]
            },
            "messages[0]",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "f"}, "tools": [WEATHER]}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"temperature": 1.5}, "temperature"),
    ],
    ids=str,
)
def test_what_is_refused_is_refused_by_name(
    claude: Anthropic, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        say(claude, "one", extra_body=fields)
    assert f"`{named}" in refused.value.body["error"]["message"]  # type: ignore[index]


def test_counting_is_exact_here_and_an_estimate_elsewhere(server: Server, scripted: Server) -> None:
    ask: Any = {
        "model": STARTER,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "system": "Be brief.",
        "tools": [WEATHER],
    }
    with server.anthropic() as client:
        counted = client.messages.with_raw_response.count_tokens(**ask)
        assert "daulat-counted" not in counted.headers
        answer = client.messages.create(**ask, max_tokens=1)
        usage = answer.usage
        used = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        assert counted.parse().input_tokens == used
    with scripted.anthropic() as client:
        counted = client.messages.with_raw_response.count_tokens(**ask)
        assert counted.headers["daulat-counted"] == "estimate"
        assert 30 < counted.parse().input_tokens < 200
        more = {**ask, "messages": [{"role": "user", "content": "word " * 400}]}
        assert client.messages.count_tokens(**more).input_tokens > 400


def test_a_real_model_answers_and_stops(server: Server) -> None:
    with server.anthropic() as client:
        ask: Any = {
            "model": STARTER,
            "max_tokens": 12,
            "messages": [{"role": "user", "content": CAPITAL}],
        }
        whole = client.messages.create(**ask, extra_body={"temperature": 0})
        assert "Paris" in whole.content[0].text  # type: ignore[union-attr]
        stopped = client.messages.create(
            **ask, stop_sequences=["Paris", "never"], extra_body={"temperature": 0}
        )
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Paris")
        picture: Any = {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        }
        seen = {**ask, "messages": [{"role": "user", "content": [picture]}], "system": "Look."}
        with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]"):
            client.messages.create(**seen)


def test_the_key_and_the_version(scripted: Server) -> None:
    import httpx2

    body = {"model": STARTER, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    version = {"anthropic-version": "2023-06-01"}
    for headers, status in (
        ({"x-api-key": KEY, **version}, 200),
        ({"authorization": f"Bearer {KEY}", "anthropic-version": "anything"}, 200),
        ({"x-api-key": "wrong", **version}, 401),
        (version, 401),
        ({"x-api-key": KEY}, 400),
    ):
        answer = httpx2.post(f"{scripted.url}/v1/messages", json=body, headers=headers)
        assert answer.status_code == status
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        assert answer.json()["type"] == ("message" if status == 200 else "error")


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "kind"),
    [
        ("GET", "/v1/messages", {}, 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", {"json": {}}, 404, "not_found_error"),
        ("POST", "/v1/messages", {"content": b"{"}, 415, "invalid_request_error"),
        ("POST", "/v1/messages", {"json": {"x": "y" * 30_000}}, 413, "request_too_large"),
        ("POST", "/v1/messages", {"headers": {"host": "evil.example"}}, 403, "permission_error"),
    ],
)
def test_errors_on_these_paths_have_anthropics_form(
    scripted: Server, method: str, path: str, options: Any, status: int, kind: str
) -> None:
    headers = {"anthropic-version": "2023-06-01", **options.pop("headers", {})}
    answer = scripted.request(method, path, headers=headers, **options)
    assert answer.status_code == status
    assert set(answer.json()) == {"type", "error"}
    assert answer.json()["error"]["type"] == kind
