"""What the server does with an endpoint's events: whole, streamed, failing, slow, abandoned."""

from __future__ import annotations

import json
import socket
from typing import Any

import openai
import pytest
from servers import KEY, STARTER, Server, wait_until

from daulat.record import Record
from daulat.server.wire.common import Generation

TIMINGS = {"queued": 0.25, "first_token": 0.5, "decode": 1.0, "tokens_per_second": 4.0}


def closed(server: Server, exchange: str) -> dict[str, Any] | None:
    """The body of the exchange's last entry, when it is closed."""
    record = Record.open(server.home / "record.sqlite3")
    try:
        bodies = [entry.body for entry in record.entries(subject=exchange, kind="exchange.closed")]
    finally:
        record.close()
    return bodies[0] if bodies else None


def test_a_whole_answer(scripted: Server) -> None:
    response = scripted.say("one two", user="someone")
    body = response.json()
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "first one two ",
        "refusal": None,
    }
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    record = response.headers["daulat-record"]
    assert body["daulat"] == {
        "record": record,
        "endpoint": "scripted",
        "place": "this-machine",
        "timings": TIMINGS,
        "cost": "0 USD",
    }
    assert closed(scripted, record)


def test_the_order_of_a_stream(scripted: Server) -> None:
    *chunks, last = scripted.events("one")
    assert last == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "first "},
        {"content": "one "},
        {},
    ]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None, None, None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert [("daulat" in chunk) for chunk in chunks] == [False, False, False, True]
    assert chunks[-1]["daulat"]["timings"] == TIMINGS


def test_the_order_of_a_stream_with_usage(scripted: Server) -> None:
    *chunks, last = scripted.events("one", stream_options={"include_usage": True})
    assert last == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 8
    assert [("daulat" in chunk) for chunk in chunks] == [False] * 4 + [True]


@pytest.mark.parametrize("stream", [True, False])
def test_an_early_error_keeps_its_status(scripted: Server, stream: bool) -> None:
    busy = scripted.say("busy", stream=stream)
    assert busy.status_code == 429
    assert busy.headers["retry-after"] == "7"
    assert busy.json()["error"]["code"] == "queue_full"
    refused = scripted.say("refuse", stream=stream)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    for response in (busy, refused):
        body = closed(scripted, response.headers["daulat-record"])
        assert body
        assert body["status"] == "error"


@pytest.mark.parametrize("stream", [True, False])
def test_a_defect_is_a_500_without_its_text(scripted: Server, stream: bool) -> None:
    response = scripted.say("defect", stream=stream)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert "ZeroDivisionError" in scripted.log.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["break", "broken"])
def test_a_late_error_is_an_event_and_the_stream_is_not_done(scripted: Server, text: str) -> None:
    events = scripted.events(text)
    assert "[DONE]" not in events
    assert set(events[-1]) == {"error"}
    assert events[1]["choices"][0]["delta"] == {"content": "first "}
    with pytest.raises(openai.APIError):
        list(
            scripted.sdk().chat.completions.create(
                model=STARTER, messages=[{"role": "user", "content": text}], stream=True
            )
        )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("text", ["never", "hang"])
@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_cancels_and_is_recorded(
    scripted: Server, path: str, text: str, stream: bool
) -> None:
    body: dict[str, Any] = {"model": STARTER, "stream": stream}
    body["messages"] = [{"role": "user", "content": text}]
    if path == "/v1/embeddings":
        if text == "hang" or stream:
            pytest.skip("embeddings have no stream")
        body = {"model": STARTER, "input": text}
    raw = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )

    def opened() -> list[str]:
        record = Record.open(scripted.home / "record.sqlite3")
        try:
            return [entry.subject for entry in record.entries(kind="exchange.opened")]
        finally:
            record.close()

    before = set(opened())
    with socket.create_connection(scripted.address, timeout=10) as connection:
        connection.sendall(head.encode() + raw)
        wait_until(lambda: set(opened()) - before)
    (exchange,) = set(opened()) - before
    wait_until(lambda: closed(scripted, exchange), seconds=3)
    assert (closed(scripted, exchange) or {})["status"] == "cancelled"


def test_embeddings_default_to_numbers(scripted: Server) -> None:
    body = scripted.post("/v1/embeddings", {"model": STARTER, "input": ["a", "b"]}).json()
    assert [item["embedding"] for item in body["data"]] == [[1.0, 0.0], [1.0, 0.0]]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    encoded = {"model": STARTER, "input": "a", "encoding_format": "base64"}
    body = scripted.post("/v1/embeddings", encoded).json()
    assert body["data"][0]["embedding"] == "AACAPwAAAAA="


def test_metrics_count_and_name_only_known_models(scripted: Server) -> None:
    scripted.say("one")
    scripted.post("/v1/embeddings", {"model": "invented-by-a-client", "input": "x"})
    scripted.request("GET", "/nothing/invented-by-a-client")
    text = scripted.request("GET", "/metrics").text
    assert f'model="{STARTER}",route="/v1/chat/completions",status="200"' in text
    assert "daulat_first_event_seconds_bucket" in text
    line = f'endpoint="scripted",kind="completion",model="{STARTER}"'
    assert f"daulat_tokens_total{{{line}}}" in text
    assert "invented-by-a-client" not in text
    assert scripted.metric("daulat_record_head") > 0


def test_logs_hold_no_contents_and_no_keys(scripted: Server) -> None:
    scripted.say("extraordinarily-private", user="private-person", stop="private-stop")
    response = scripted.say("extraordinarily-private", temperature=9)
    assert response.status_code == 400

    def lines() -> list[str]:
        return scripted.log.read_text(encoding="utf-8").splitlines()

    # A request's line is written when its answer is on its way.
    wait_until(lambda: json.loads(lines()[-1]).get("status") == 400)
    assert "private-" not in "".join(lines())
    assert KEY not in "".join(lines())
    line = json.loads(lines()[-1])
    assert line["error"] == "invalid_request"
    assert line["route"] == "/v1/chat/completions"
    assert line["key"] == "env"


def test_every_shared_field_is_sent_through(scripted: Server) -> None:
    assert "ignore_eos" in Generation.__struct_fields__
    assert scripted.say("one", ignore_eos=True, top_k=1, min_p=0.5).status_code == 200
