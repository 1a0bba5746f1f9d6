"""What the wire shows for each named fault, as the socket sees it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from raw_http import PROTOCOLS, Shown, ask, said

from daulat.endpoints.scripted import FAULTS, Upstream, words

WHOLE = words(20)
KINDS = (*PROTOCOLS, "azure")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def entry(upstream: Upstream) -> dict[str, Any]:
    return upstream.ledger()["entries"][-1]


def billed(upstream: Upstream) -> tuple[int, int]:
    last = entry(upstream)
    return last["prompt_tokens"], last["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", KINDS)
def test_without_a_fault_all_is_said_and_billed(
    upstream: Upstream, protocol: str, stream: bool
) -> None:
    shown = ask(upstream, "m", protocol=protocol, stream=stream)
    assert (shown.status, shown.ended) == (200, True)
    if stream:
        assert said(shown, protocol) == WHOLE
    assert billed(upstream) == (6 if protocol != "responses" else 1, 20)
    assert entry(upstream)["complete"] is True


STATUS = {
    "error_500": {500},
    "error_503": {503},
    "rate_limited": {429},
    "overloaded_529": {529, 503},
    "context_length": {400},
    "redirect": {302},
}


@pytest.mark.parametrize("fault", STATUS)
@pytest.mark.parametrize("protocol", KINDS)
def test_statuses_cost_nothing(upstream: Upstream, protocol: str, fault: str) -> None:
    shown = ask(upstream, f"m+{fault}", protocol=protocol, stream=True)
    assert shown.status in STATUS[fault]
    assert shown.ended
    assert billed(upstream) == (0, 0)
    assert entry(upstream)["fault"] == fault
    assert entry(upstream)["status"] == shown.status
    if fault == "rate_limited":
        assert shown.headers["retry-after"] == "1"
    if fault == "redirect":
        assert shown.headers["location"] == "https://elsewhere.invalid/"
    else:
        assert {"error", "errors"} & shown.json().keys()


def test_529_is_anthropics_and_503_is_googles(upstream: Upstream) -> None:
    theirs = ask(upstream, "m+overloaded_529", protocol="anthropic")
    assert (theirs.status, theirs.json()["error"]["type"]) == (529, "overloaded_error")
    google = ask(upstream, "m+overloaded_529", protocol="gemini")
    assert (google.status, google.json()["error"]["status"]) == (503, "UNAVAILABLE")


@pytest.mark.parametrize(
    ("fault", "status", "times"),
    [("rate_limited_then_ok@2", 429, 2), ("error_500_then_ok", 500, 1), ("auth_expired", 401, 1)],
)
def test_some_pass(upstream: Upstream, fault: str, status: int, times: int) -> None:
    seen = [ask(upstream, f"m+{fault}", stream=True).status for _ in range(2 * times + 2)]
    assert seen == [*[status] * times, 200] * 2
    # Another body has its own count.
    assert ask(upstream, f"m+{fault}", stream=True, seed=1).status == status
    assert upstream.ledger()["totals"]["completion_tokens"] == 40


@pytest.mark.parametrize("stream", [False, True])
def test_dies_before_headers(upstream: Upstream, stream: bool) -> None:
    shown = ask(upstream, "m+dies_before_headers", stream=stream)
    assert (shown.raw, shown.closed) == (b"", True)
    assert billed(upstream) == (0, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("k", [0, 3, 20, 500])
def test_dies_mid_stream(upstream: Upstream, protocol: str, k: int) -> None:
    shown = ask(upstream, f"m+dies_mid_stream@{k}", protocol=protocol, stream=True)
    assert shown.status == 200
    assert shown.closed
    assert not shown.ended
    assert said(shown, protocol) == WHOLE[: 4 * k]
    # An HTTP chunk was begun and not finished.
    assert not shown.raw.endswith(b"\n\n\r\n")
    assert billed(upstream)[1] == min(k, 20)
    assert billed(upstream)[0] > 0
    assert entry(upstream)["complete"] is False


@pytest.mark.parametrize("fault", ["dies_mid_body", "dies_mid_stream"])
def test_dies_mid_body(upstream: Upstream, fault: str) -> None:
    shown = ask(upstream, f"m+{fault}")
    assert (shown.status, shown.closed, shown.ended) == (200, True, False)
    assert len(shown.body) == int(shown.headers["content-length"]) // 2
    assert billed(upstream) == (6, 20)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ends_without_done(upstream: Upstream, protocol: str) -> None:
    shown = ask(upstream, "m+ends_without_done@4", protocol=protocol, stream=True)
    assert shown.ended
    assert said(shown, protocol) == WHOLE[:16]
    text = shown.body.decode()
    for mark in ("[DONE]", "message_stop", '"stop"', "STOP", "completed", "end_turn"):
        assert mark not in text
    assert billed(upstream)[1] == 4


def test_ends_without_done_in_one_body(upstream: Upstream) -> None:
    shown = ask(upstream, "m+ends_without_done")
    assert shown.json()["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_error_event_mid_stream(upstream: Upstream, protocol: str) -> None:
    shown = ask(upstream, "m+error_event_mid_stream@2", protocol=protocol, stream=True)
    assert (shown.status, shown.ended) == (200, True)
    assert said(shown, protocol) == WHOLE[:8]
    last = shown.events()[-1]
    assert "error" in last or "errors" in last or last["type"] == "error"
    named = {
        "anthropic": b"event: error\n",
        "watsonx": b"event: error\n",
        "responses": b"event: error\n",
    }
    assert named.get(protocol, b"data: ") in shown.body
    assert billed(upstream)[1] == 2


def test_error_in_a_body_of_200(upstream: Upstream) -> None:
    shown = ask(upstream, "m+error_event_mid_stream")
    assert (shown.status, shown.json()["error"]["type"]) == (200, "server_error")
    assert billed(upstream) == (0, 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_garbage_json_in_a_stream(upstream: Upstream, protocol: str) -> None:
    shown = ask(upstream, "m+garbage_json@3", protocol=protocol, stream=True)
    broken = [event for event in shown.events() if isinstance(event, bytes)]
    assert len([one for one in broken if one != b"[DONE]"]) == 1
    assert said(shown, protocol) == WHOLE[:12] + WHOLE[16:]
    assert billed(upstream)[1] == 20


def test_garbage_json_in_a_body(upstream: Upstream) -> None:
    shown = ask(upstream, "m+garbage_json")
    assert shown.ended
    with pytest.raises(ValueError, match=r"."):
        json.loads(shown.body)


@pytest.mark.parametrize("stream", [False, True])
def test_bodies_that_are_no_answer(upstream: Upstream, stream: bool) -> None:
    empty = ask(upstream, "m+empty_body", stream=stream)
    assert (empty.status, empty.body, empty.ended) == (200, b"", True)
    garbage = ask(upstream, "m+garbage_body", stream=stream)
    assert garbage.headers["content-type"].startswith(
        "text/event-stream" if stream else "application/json"
    )
    with pytest.raises(UnicodeDecodeError):
        garbage.body.decode()
    page = ask(upstream, "m+wrong_content_type", stream=stream)
    assert page.headers["content-type"].startswith("text/html")
    assert page.body.startswith(b"<!doctype html>")
    assert upstream.ledger()["totals"]["prompt_tokens"] == 0


def _names(shown: Shown) -> tuple[str, str, int]:
    calls = [
        call["function"]
        for event in shown.events()
        if isinstance(event, dict) and event["choices"]
        for call in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    name = "".join(call.get("name", "") for call in calls)
    arguments = "".join(call.get("arguments", "") for call in calls)
    return name, arguments, len(calls)


@pytest.mark.parametrize("protocol", ["openai", "watsonx"])
def test_split_tool_name(upstream: Upstream, protocol: str) -> None:
    usual = ask(upstream, "m", protocol=protocol, stream=True, tools=TOOLS)
    split = ask(upstream, "m+split_tool_name", protocol=protocol, stream=True, tools=TOOLS)
    assert _names(usual)[:2] == _names(split)[:2] == ("look", '{"city":"word"}')
    assert _names(split)[2] == len("look") + len('{"city":"word"}')
    first, second = upstream.ledger()["entries"][-2:]
    assert first["completion_tokens"] == second["completion_tokens"] == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_split_bytes(upstream: Upstream, protocol: str) -> None:
    shown = ask(upstream, "m+split_bytes", protocol=protocol, stream=True)
    assert {len(chunk) for chunk in shown.chunks} == {1}
    assert said(shown, protocol) == WHOLE
    assert billed(upstream)[1] == 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("stream", [False, True])
def test_truncated_utf8(upstream: Upstream, protocol: str, stream: bool) -> None:
    shown = ask(upstream, "m+truncated_utf8@2", protocol=protocol, stream=stream)
    assert shown.ended
    with pytest.raises(UnicodeDecodeError):
        shown.body.decode()
    assert b"\xe2\x82" in shown.body
    assert billed(upstream)[1] == 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_never_ends(upstream: Upstream, protocol: str) -> None:
    more = {"openai": {"max_tokens": 5}}.get(protocol, {})
    shown = ask(upstream, "m+never_ends", protocol=protocol, stream=True, most=40_000, **more)
    assert not shown.ended
    assert len(said(shown, protocol)) > 200
    time.sleep(0.2)
    after = billed(upstream)[1]
    assert after >= len(said(shown, protocol)) // 4
    time.sleep(0.2)
    assert billed(upstream)[1] == after, "it stopped when the client had gone"


def test_never_ends_in_one_body(upstream: Upstream) -> None:
    shown = ask(upstream, "m+never_ends", most=5_000)
    assert not shown.ended
    assert b"and and and" in shown.body


@pytest.mark.parametrize("stream", [False, True])
def test_stalls(upstream: Upstream, stream: bool) -> None:
    shown = ask(upstream, "m+stalls@2", stream=stream, seconds=0.6)
    assert shown.status == 200
    assert not shown.closed
    assert not shown.ended
    if stream:
        assert said(shown, "openai") == WHOLE[:8]
    assert billed(upstream) == (6, 2 if stream else 20)


@pytest.mark.parametrize("stream", [False, True])
def test_what_comes_late(upstream: Upstream, stream: bool) -> None:
    head = ask(upstream, "m+headers_slow", stream=stream)
    assert head.headers_after >= 0.395  # event loops keep milliseconds, and may be one early
    body = ask(upstream, "m+slow", stream=stream)
    assert body.headers_after < 0.3
    assert max(body.pauses) >= 0.35
    second = ask(upstream, "m+slow_second_chunk@2", stream=stream)
    assert second.headers_after < 0.3
    assert max(second.pauses) >= 0.35
    assert {one.ended for one in (head, body, second)} == {True}


WRONG = {0: 0, 1: None, 2: 1_000_000_000, 3: -21, 4: 10}


@pytest.mark.parametrize("k", WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_usage(upstream: Upstream, k: int, stream: bool) -> None:
    shown = ask(upstream, f"m+wrong_usage@{k}", stream=stream)
    told = (shown.events()[-2] if stream else shown.json())["usage"]
    assert (told and told["completion_tokens"]) == WRONG[k]
    assert billed(upstream) == (6, 20)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("stream", [False, True])
def test_no_usage(upstream: Upstream, protocol: str, stream: bool) -> None:
    usual = ask(upstream, "m", protocol=protocol, stream=stream)
    assert b"sage" in usual.body.replace(b"message", b"")
    shown = ask(upstream, "m+no_usage", protocol=protocol, stream=stream)
    text = shown.body.replace(b'"usage":null', b"") if protocol == "responses" else shown.body
    assert b'"usage"' not in text
    assert b"usageMetadata" not in text
    assert billed(upstream)[1] == 20


FILTERED = {
    "openai": b'"finish_reason":"content_filter"',
    "azure": b'"finish_reason":"content_filter"',
    "responses": b'"reason":"content_filter"',
    "anthropic": b'"stop_reason":"refusal"',
    "gemini": b'"finishReason":"SAFETY"',
    "watsonx": b'"finish_reason":"error"',
}


@pytest.mark.parametrize("protocol", FILTERED)
@pytest.mark.parametrize("stream", [False, True])
def test_content_filter(upstream: Upstream, protocol: str, stream: bool) -> None:
    shown = ask(upstream, "m+content_filter@3", protocol=protocol, stream=stream)
    assert FILTERED[protocol] in shown.body
    assert billed(upstream)[1] == 3


def test_a_blocked_prompt(upstream: Upstream) -> None:
    azure = ask(upstream, "m+content_filter@0", protocol="azure")
    assert (azure.status, azure.json()["error"]["code"]) == (400, "content_filter")
    assert billed(upstream) == (0, 0)
    gemini = ask(upstream, "m+content_filter@0", protocol="gemini")
    assert gemini.json()["promptFeedback"]["blockReason"] == "SAFETY"
    assert billed(upstream) == (6, 0)


REFUSED = {
    "openai": b'"refusal":"I cannot',
    "responses": b'"refusal":"I cannot',
    "anthropic": b'"stop_reason":"refusal"',
    "gemini": b'"finishReason":"PROHIBITED_CONTENT"',
    "watsonx": b'"refusal":"I cannot',
}


@pytest.mark.parametrize("protocol", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_refusal(upstream: Upstream, protocol: str, stream: bool) -> None:
    shown = ask(upstream, "m+refusal", protocol=protocol, stream=stream)
    told = REFUSED[protocol]
    if stream:
        told = told.replace(b"I cannot", b"I ca").replace(b'"refusal":"I', b'"refusal":"I')
    if protocol == "responses" and stream:
        told = b"response.refusal.delta"
    assert told in shown.body
    assert billed(upstream)[1] == 7


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("stream", [False, True])
def test_empty_answer(upstream: Upstream, protocol: str, stream: bool) -> None:
    shown = ask(upstream, "m+empty_answer", protocol=protocol, stream=stream)
    assert shown.ended
    assert said(shown, protocol) == "" if stream else WHOLE.encode() not in shown.body
    assert billed(upstream)[1] == 0
    assert billed(upstream)[0] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_bad_tool_arguments(upstream: Upstream, stream: bool) -> None:
    shown = ask(upstream, "m+bad_tool_arguments", stream=stream, tools=TOOLS)
    if stream:
        arguments = _names(shown)[1]
    else:
        call = shown.json()["choices"][0]["message"]["tool_calls"][0]
        arguments = call["function"]["arguments"]
    with pytest.raises(ValueError, match=r"."):
        json.loads(arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_huge_line(upstream: Upstream, stream: bool) -> None:
    shown = ask(upstream, "m+huge_line@1", stream=stream, seconds=30)
    assert shown.ended
    lines = [len(line) for line in shown.body.split(b"\n")]
    assert max(lines) > 50_000_000
    assert billed(upstream) == (6, 20)


def test_the_end_comes_twice(upstream: Upstream) -> None:
    counts = {
        "openai": b"[DONE]",
        "anthropic": b"event: message_stop",
        "gemini": b'"finishReason":"STOP"',
        "responses": b"event: response.completed",
    }
    for protocol, mark in counts.items():
        shown = ask(upstream, "m+duplicate_done", protocol=protocol, stream=True)
        assert shown.body.count(mark) == 2, protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_ways_to_write_events(upstream: Upstream, protocol: str) -> None:
    comments = ask(upstream, "m+keepalive_comments", protocol=protocol, stream=True)
    assert comments.body.count(b": keepalive\n\n") > 20
    assert said(comments, protocol) == WHOLE
    lines = ask(upstream, "m+crlf", protocol=protocol, stream=True)
    assert lines.body.count(b"\n") == lines.body.count(b"\r\n") > 20
    assert said(lines, protocol) == WHOLE


def test_every_fault_answers_in_some_way_on_every_protocol(upstream: Upstream) -> None:
    """No fault meets a defect: a 500 that is not scripted has no JSON."""
    endless = {"never_ends", "stalls", "huge_line", "slow", "slow_second_chunk", "headers_slow"}
    for name in FAULTS.keys() - endless:
        for protocol in KINDS:
            for stream in (False, True):
                shown = ask(upstream, f"m+{name}", protocol=protocol, stream=stream)
                assert shown.status or name == "dies_before_headers", (name, protocol, stream)
                assert shown.body != b"Internal Server Error", (name, protocol, stream)
                assert upstream.ledger()["entries"][-1]["fault"].startswith(name)


def test_a_fault_that_is_not_there_is_refused_by_name(upstream: Upstream) -> None:
    shown = ask(upstream, "m+dies_midstream")
    assert shown.status == 400
    assert "dies_mid_stream" in shown.json()["error"]["message"]
    assert ask(upstream, "command-r+").status == 200
