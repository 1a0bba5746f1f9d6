"""Anthropic's dialect, driven by Anthropic's own client."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from raw_http import exchange

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Script, Upstream, words
from daulat.endpoints.scripted.wires import anthropic as wire

anthropic = pytest.importorskip("anthropic")

SAID: Any = [{"role": "user", "content": "Where is the harbour?"}]
TOOLS: Any = [
    {
        "name": name,
        "description": "Look around",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
    for name in ("look", "walk")
]


def client_of(upstream: Upstream) -> Any:
    return anthropic.Anthropic(base_url=upstream.url, api_key="k", max_retries=0)


@pytest.fixture
def client(upstream: Upstream) -> Any:
    return client_of(upstream)


def test_the_fields_are_those_of_the_sdk() -> None:
    from anthropic.types import message_count_tokens_params, message_create_params

    theirs = get_type_hints(message_create_params.MessageCreateParamsBase)
    assert theirs.keys() - wire.FIELDS == set()
    counted = get_type_hints(message_count_tokens_params.MessageCountTokensParams)
    assert counted.keys() - wire.COUNT_FIELDS == set()


@pytest.mark.parametrize("stream", [False, True])
def test_messages(client: Any, stream: bool) -> None:
    given = {"model": "m", "max_tokens": 50, "messages": SAID, "system": "Be kind."}
    if stream:
        with client.messages.stream(**given) as events:
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**given)
    assert [block.text for block in answer.content] == [words(20)]
    assert (answer.stop_reason, answer.usage.input_tokens) == ("end_turn", 8)
    assert answer.usage.output_tokens == 20


def test_the_order_of_events(client: Any) -> None:
    events = list(client.messages.create(model="m", max_tokens=3, messages=SAID, stream=True))
    kinds = [event.type for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2].delta.stop_reason == "max_tokens"
    assert events[-2].usage.output_tokens == 3
    assert events[0].message.usage.input_tokens == 6


def test_stop_sequences(client: Any) -> None:
    answer = client.messages.create(model="m", max_tokens=50, messages=SAID, stop_sequences=["api"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "api")
    assert answer.content[0].text == "air oak big "


@pytest.mark.parametrize("stream", [False, True])
def test_tools(stream: bool) -> None:
    script = Script(calls=2, cached_tokens=3, cache_written_tokens=2)
    with scripted.running(script) as upstream:
        client = client_of(upstream)
        given = {"model": "m", "max_tokens": 50, "messages": SAID, "tools": TOOLS}
        if stream:
            with client.messages.stream(**given) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**given)
        assert [(block.name, block.input) for block in answer.content] == [
            ("look", {"city": "word"}),
            ("walk", {"city": "word"}),
        ]
        assert answer.stop_reason == "tool_use"
        usage = answer.usage
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 2)
        told = usage.input_tokens + 5
        assert told == upstream.ledger()["totals"]["prompt_tokens"]
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "Sunny"}
            for block in answer.content
        ]
        said = [block.model_dump(exclude_none=True) for block in answer.content]
        more = [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
        after = client.messages.create(**{**given, "messages": [*SAID, *more]})
        assert after.stop_reason == "end_turn"


def test_the_choice_of_tools(client: Any) -> None:
    given = {"model": "m", "max_tokens": 50, "messages": SAID, "tools": TOOLS}
    named = client.messages.create(**given, tool_choice={"type": "tool", "name": "walk"})
    assert [block.name for block in named.content] == ["walk"]
    none = client.messages.create(**given, tool_choice={"type": "none"})
    assert none.content[0].type == "text"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**given, tool_choice={"type": "tool", "name": "swim"})


def test_counting(client: Any, upstream: Upstream) -> None:
    counted = client.messages.count_tokens(model="m", messages=SAID, system="Be kind.")
    assert counted.input_tokens == 8
    assert upstream.ledger()["totals"]["prompt_tokens"] == 0


ERRORS = {
    "rate_limited": ("RateLimitError", "rate_limit_error"),
    "error_500": ("InternalServerError", "api_error"),
    "overloaded_529": ("OverloadedError", "overloaded_error"),
    "auth_expired": ("AuthenticationError", "authentication_error"),
    "context_length": ("BadRequestError", "invalid_request_error"),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_as_the_client_has_them(client: Any, fault: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=f"m+{fault}", max_tokens=5, messages=SAID)
    name, kind = ERRORS[fault]
    assert type(caught.value).__name__ == name
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id


def test_an_error_event_reaches_the_client(client: Any) -> None:
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(
            client.messages.create(
                model="m+error_event_mid_stream", max_tokens=9, messages=SAID, stream=True
            )
        )


WRONG: dict[str, Any] = {
    "no limit": {"max_tokens": None},
    "unknown field": {"frequency_penalty": 1},
    "a system message": {"messages": [{"role": "system", "content": "x"}]},
    "a block": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "a tool's schema": {"tools": [{"name": "look"}]},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_anthropic_refuses(client: Any, case: str) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": SAID, **WRONG[case]}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", body=body, cast_to=object)
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_a_version_and_a_key_are_wanted(upstream: Upstream) -> None:
    none = exchange(upstream, "POST", "/v1/messages", {"x-api-key": "k"}, b"{}")
    assert "anthropic-version" in none.json()["error"]["message"]
    version = {"anthropic-version": "2023-06-01"}
    nobody = exchange(upstream, "POST", "/v1/messages", version, b"{}")
    assert (nobody.status, nobody.json()["error"]["type"]) == (401, "authentication_error")


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
