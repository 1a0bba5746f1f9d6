"""The vendors' own protocols over a real socket: every named fault, tools, counts, vectors, tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from asking import Make, chat, ended, text
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from daulat.endpoints.remote.build import endpoint
from daulat.endpoints.scripted import FAULTS, Upstream, words
from daulat.errors import (
    SettingsError,
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.settings import Endpoint, Money
from daulat.values.answer import CallPiece, CallPieces, Done, Finish, Metered, Piece, Usage
from daulat.values.plan import Step
from daulat.values.request import EmbeddingRequest, Message, Sampling, Tool, Toolbox

WHOLE = words(20)
TOOLS = Toolbox((Tool("look", parameters={"type": "object", "properties": {}}),))
KINDS = ("anthropic", "gemini", "vertex", "watsonx")
KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
ACCOUNT = json.dumps(
    {
        "client_email": "daulat@my-project.iam.gserviceaccount.com",
        "private_key": KEY.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
)

# By fault: the error of a stream and of a whole answer; None: an answer. `Kind -> other` where they differ.
Error = type[UpstreamError] | None
OUTCOMES: dict[str, tuple[Error, Error]] = {
    "slow": (None, None),
    "slow_second_chunk": (None, None),
    "headers_slow": (None, None),
    "error_500": (UpstreamUnavailableError, UpstreamUnavailableError),
    "error_503": (UpstreamUnavailableError, UpstreamUnavailableError),
    "rate_limited": (UpstreamBusyError, UpstreamBusyError),
    "rate_limited_then_ok": (UpstreamBusyError, UpstreamBusyError),
    "error_500_then_ok": (UpstreamUnavailableError, UpstreamUnavailableError),
    "overloaded_529": (UpstreamBusyError, UpstreamBusyError),
    "auth_expired": (UpstreamAccessError, UpstreamAccessError),
    "context_length": (UpstreamRequestError, UpstreamRequestError),
    "redirect": (UpstreamAnswerError, UpstreamAnswerError),
    "dies_before_headers": (UpstreamUnavailableError, UpstreamUnavailableError),
    "dies_mid_stream": (UpstreamUnavailableError, UpstreamUnavailableError),
    "dies_mid_body": (UpstreamUnavailableError, UpstreamUnavailableError),
    "ends_without_done": (UpstreamAnswerError, UpstreamAnswerError),
    "error_event_mid_stream": (UpstreamUnavailableError, UpstreamUnavailableError),
    "garbage_json": (UpstreamAnswerError, UpstreamAnswerError),
    "garbage_body": (UpstreamAnswerError, UpstreamAnswerError),
    "empty_body": (UpstreamAnswerError, UpstreamAnswerError),
    "wrong_content_type": (UpstreamAnswerError, UpstreamAnswerError),
    "split_tool_name": (None, None),
    "split_bytes": (None, None),
    "truncated_utf8": (UpstreamAnswerError, UpstreamAnswerError),
    "wrong_usage": (None, None),
    "no_usage": (None, None),
    "content_filter": (None, None),
    "refusal": (None, None),
    "empty_answer": (None, None),
    "bad_tool_arguments": (None, None),
    "huge_line": (UpstreamAnswerError, None),
    "duplicate_done": (None, None),
    "keepalive_comments": (None, None),
    "crlf": (None, None),
}
OTHERWISE: dict[tuple[str, str], tuple[Error, Error]] = {
    # A token is had anew, and the request is asked once more.
    ("vertex", "auth_expired"): (None, None),
    ("watsonx", "auth_expired"): (None, None),
    # Google has no 529.
    ("gemini", "overloaded_529"): (UpstreamUnavailableError, UpstreamUnavailableError),
    ("vertex", "overloaded_529"): (UpstreamUnavailableError, UpstreamUnavailableError),
    # Anthropic's event says `overloaded_error`.
    ("anthropic", "error_event_mid_stream"): (UpstreamBusyError, UpstreamAnswerError),
    # IBM's list of reasons has none for a filter.
    ("watsonx", "content_filter"): (UpstreamAnswerError, UpstreamAnswerError),
}
CUT = {"content_filter", "refusal", "empty_answer"}

MakeKind = Callable[..., Any]


@pytest.fixture
def made(remote: Make, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> MakeKind:
    """Endpoints of a vendor's kind, at the scripted upstream."""
    monkeypatch.setenv("SCRIPTED_ACCOUNT", ACCOUNT)
    tables: dict[str, dict[str, Any]] = {
        "anthropic": {"url": f"{upstream.url}/v1"},
        "gemini": {"url": f"{upstream.url}/v1beta"},
        "vertex": {
            "url": f"{upstream.url}/v1",
            "key": "env:SCRIPTED_ACCOUNT",
            "token_url": f"{upstream.url}/token",
            "project": "my-project",
            "location": "europe-west4",
        },
        "watsonx": {
            "url": f"{upstream.url}/ml/v1",
            "token_url": f"{upstream.url}/identity/token",
            "project": "p-1",
        },
    }
    return lambda kind, **keys: remote(kind=kind, **{**tables[kind], **keys})


def test_every_fault_has_its_row() -> None:
    assert OUTCOMES.keys() | {"never_ends", "stalls"} == FAULTS.keys()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", OUTCOMES)
@pytest.mark.parametrize("kind", KINDS)
async def test_fault(made: MakeKind, kind: str, fault: str, stream: bool) -> None:
    error = OTHERWISE.get((kind, fault), OUTCOMES[fault])[0 if stream else 1]
    asked = made(kind)
    request = chat(f"scripted+{fault}", stream=stream)
    if error is None:
        heard = await asked.ask(request)
        assert ended(heard)
        assert fault in CUT or text(heard) == WHOLE
        return
    with pytest.raises(UpstreamError) as raised:
        await asked.ask(request)
    assert raised.type is error
    assert not any(isinstance(one, Done) for one in asked.heard)
    assert WHOLE.startswith(text(asked.heard))
    assert "scripted-secret-key" not in repr(raised.value) + str(raised.value)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", ["", "+split_tool_name", "+split_bytes"])
@pytest.mark.parametrize("kind", KINDS)
async def test_tools_there_and_back(
    made: MakeKind, upstream: Upstream, kind: str, fault: str, stream: bool
) -> None:
    asked = made(kind)
    request = chat(f"scripted{fault}", stream=stream, tools=TOOLS)
    heard = await asked.ask(request)
    assert [one.reason for one in heard if isinstance(one, Finish)] == ["tool_calls"]
    calls = CallPieces()
    for one in heard:
        if isinstance(one, CallPiece):
            calls.add(one)
    (call,) = calls.whole()
    assert (call.name, json.loads(call.arguments)) == ("look", {})
    assert call.id
    messages = (
        *request.messages,
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "rain", tool_call_id=call.id),
    )
    follow = replace(request, model="scripted", messages=messages)
    again = await asked.ask(follow)
    assert ended(again)
    assert all(entry["status"] == 200 for entry in upstream.ledger()["entries"])


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", KINDS)
async def test_counts_are_the_ledgers(
    made: MakeKind, upstream: Upstream, kind: str, stream: bool
) -> None:
    asked = made(kind)
    done = (await asked.ask(chat(stream=stream)))[-1]
    assert isinstance(done, Done)
    (entry,) = upstream.ledger()["entries"]
    told = (done.usage.prompt_tokens, done.usage.completion_tokens)
    assert told == (entry["prompt_tokens"], entry["completion_tokens"])
    assert not done.usage.counted
    for fault in ("no_usage", "wrong_usage@1", "wrong_usage@3"):
        done = (await asked.ask(chat(f"scripted+{fault}", stream=stream)))[-1]
        assert isinstance(done, Done)
        assert done.usage.counted
        assert done.usage.total_tokens >= 0


async def test_anthropic_counts_from_the_start(made: MakeKind) -> None:
    heard = await made("anthropic").ask(chat(stream=True))
    assert isinstance(heard[1], Metered)
    assert heard[1].usage.prompt_tokens == 2


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
async def test_the_list_of_models(made: MakeKind, kind: str) -> None:
    assert b"scripted" in await made(kind).endpoint.models()


@pytest.mark.parametrize("kind", ["gemini", "vertex", "watsonx"])
async def test_several_answers(made: MakeKind, kind: str) -> None:
    for stream in (True, False):
        heard = await made(kind).ask(chat(stream=stream, sampling=Sampling(n=3)))
        assert ended(heard)
        texts = {
            choice: "".join(p.text for p in heard if isinstance(p, Piece) and p.choice == choice)
            for choice in range(3)
        }
        assert texts == dict.fromkeys(range(3), WHOLE)


@pytest.mark.parametrize("kind", ["gemini", "vertex", "watsonx"])
async def test_vectors(made: MakeKind, kind: str) -> None:
    request = EmbeddingRequest("scripted", ("satu dua", "tiga"))
    step = Step("scripted", "this-machine", "closed", "scripted", "", upstream="scripted")
    told = await made(kind).endpoint.embed(request, step)
    assert len(told.vectors) == 2
    assert {len(vector) for vector in told.vectors} == {64}
    assert told.usage.prompt_tokens == 3
    assert told.usage.completion_tokens == 0


@pytest.mark.parametrize("kind", ["vertex", "watsonx"])
async def test_one_token_serves_many_requests(
    made: MakeKind, upstream: Upstream, kind: str
) -> None:
    asked = made(kind)
    for _ in range(3):
        assert ended(await asked.ask(chat()))
    seen = {
        dict(request["headers"])["authorization"]
        for request in upstream.requests()
        if "authorization" in dict(request["headers"])
    }
    assert len(seen) == 1
    assert "scripted-secret-key" not in seen.pop()


async def test_a_token_endpoint_that_is_not_there(made: MakeKind) -> None:
    asked = made("watsonx", token_url="http://127.0.0.1:1/identity/token")
    with pytest.raises(UpstreamUnavailableError) as raised:
        await asked.ask(chat())
    assert "token_url" in raised.value.message


BASE: dict[str, Any] = {"key": "env:X", "place": "us", "models": ("m",)}


@pytest.mark.parametrize(
    ("kind", "keys", "param"),
    [
        ("anthropic", {"key": ""}, "key"),
        ("gemini", {"key": ""}, "key"),
        ("vertex", {"location": "europe-west4"}, "project"),
        ("vertex", {"project": "p"}, "location"),
        ("vertex", {"project": "p", "location": "evil.example/"}, "location"),
        ("watsonx", {"location": "us-south"}, "project"),
        ("watsonx", {"project": "p", "space": "s", "location": "us-south"}, "project"),
        ("watsonx", {"project": "p"}, "location"),
    ],
)
def test_what_a_kind_needs(kind: Any, keys: dict[str, Any], param: str) -> None:
    with pytest.raises(SettingsError) as raised:
        endpoint("e", Endpoint(kind=kind, **{**BASE, **keys}), Money())
    assert raised.value.param == f"endpoints.e.{param}"


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("anthropic", {}),
        ("gemini", {}),
        ("vertex", {"project": "p", "location": "global"}),
        ("watsonx", {"project": "p", "location": "eu-de"}),
    ],
)
def test_the_vendors_own_addresses(kind: Any, keys: dict[str, Any]) -> None:
    card = endpoint("e", Endpoint(kind=kind, **{**BASE, **keys}), Money()).card
    assert {"chat", "tools", "json_schema", "images"} <= card.capabilities
    with pytest.raises(SettingsError):
        endpoint("e", Endpoint(kind=kind, **{**BASE, **keys, "place": "this-machine"}), Money())


async def test_no_usage_is_nothing_counted(made: MakeKind) -> None:
    done = (await made("gemini").ask(chat("scripted+no_usage")))[-1]
    assert isinstance(done, Done)
    assert done.usage == Usage(0, counted=True)
