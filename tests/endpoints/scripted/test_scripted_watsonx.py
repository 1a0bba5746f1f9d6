"""watsonx.ai's dialect: IBM's published shapes, its own list of parameters, and IAM tokens.

https://cloud.ibm.com/apidocs/watsonx-ai#text-chat, #text-chat-stream, #text-embeddings.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from raw_http import MESSAGES, Shown, ask, exchange, ibm_token

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Access, Script, Upstream, words
from daulat.endpoints.scripted.ask import names
from daulat.endpoints.scripted.wires import watsonx as wire

# TextChatParameters of IBM's own client, ibm-watsonx-ai 1.8, and the body's own fields.
PARAMETERS = names(
    "frequency_penalty logprobs top_logprobs presence_penalty response_format temperature max_tokens "
    "max_completion_tokens time_limit top_p n logit_bias seed stop guided_choice guided_regex "
    "guided_grammar guided_json chat_template_kwargs reasoning_effort include_reasoning "
    "repetition_penalty length_penalty model_id project_id space_id messages tools tool_choice "
    "tool_choice_option"
)


def test_the_fields_are_those_of_ibm() -> None:
    assert set() == PARAMETERS - wire.FIELDS


def test_an_answer(upstream: Upstream) -> None:
    answer = ask(upstream, "ibm/granite", protocol="watsonx", max_tokens=5).json()
    required = {
        "id",
        "model_id",
        "created",
        "created_at",
        "model_version",
        "choices",
        "usage",
        "system",
    }
    assert required <= answer.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["created_at"])
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": words(5)},
            "finish_reason": "length",
        }
    ]
    assert answer["usage"] == {"completion_tokens": 5, "prompt_tokens": 6, "total_tokens": 11}


def test_a_stream_is_numbered_events(upstream: Upstream) -> None:
    shown = ask(upstream, "m", protocol="watsonx", stream=True)
    events = shown.body.decode().strip().split("\n\n")
    for number, event in enumerate(events, 1):
        first, second, third = event.split("\n")
        assert (first, second) == (f"id: {number}", "event: message")
        assert third.startswith("data: {")
    data = shown.events()
    assert data[0]["choices"][0]["delta"]["role"] == "assistant"
    assert data[-2]["choices"][0]["finish_reason"] == "stop"
    assert (data[-1]["choices"], data[-1]["usage"]["completion_tokens"]) == ([], 20)
    assert {one["model_id"] for one in data} == {"m"}
    assert b"[DONE]" not in shown.body


@pytest.mark.parametrize("limit", [None, 0])
def test_the_vendors_own_limit(limit: int | None) -> None:
    more: dict[str, Any] = {} if limit is None else {"max_tokens": limit}
    with scripted.running(Script(words=1100)) as upstream:
        answer = ask(upstream, "m", protocol="watsonx", **more).json()
        # 1024 tokens where nothing is said, none where 0 is.
        assert answer["usage"]["completion_tokens"] == (1024 if limit is None else 1100)


def _post(upstream: Upstream, path: str, token: str = "", **body: Any) -> Shown:
    headers = {"Authorization": f"Bearer {token or ibm_token(upstream)}"}
    return exchange(upstream, "POST", path, headers, json.dumps(body).encode())


def test_embeddings(upstream: Upstream) -> None:
    path = "/ml/v1/text/embeddings?version=2024-05-02"
    answer = _post(upstream, path, model_id="m", project_id="p", inputs=["harbour", "port"]).json()
    assert [len(one["embedding"]) for one in answer["results"]] == [64, 64]
    assert answer["input_token_count"] == 3
    assert upstream.ledger()["entries"][-1]["prompt_tokens"] == 3


CHAT = "/ml/v1/text/chat?version=2025-01-01"
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no version": ("/ml/v1/text/chat", {}),
    "no date": ("/ml/v1/text/chat?version=latest", {}),
    "no project": (CHAT, {"project_id": None}),
    "two places": (CHAT, {"space_id": "s"}),
    "no model": (CHAT, {"model_id": None}),
    "an unknown field": (CHAT, {"stream": True}),
    "no messages": (CHAT, {"messages": []}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_ibm_refuses(upstream: Upstream, case: str) -> None:
    path, more = WRONG[case]
    body = {"model_id": "m", "project_id": "p", "messages": MESSAGES, **more}
    shown = _post(upstream, path, **body)
    told = shown.json()
    assert (shown.status, told["status_code"]) == (400, 400)
    assert {"code", "message", "more_info"} == told["errors"][0].keys()
    assert told["trace"]


def test_tokens_run_out_and_keys_are_checked() -> None:
    access = Access(keys=frozenset({"right"}), token_seconds=0.5)
    with scripted.running(Script(access=access)) as upstream:
        form = "grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey="
        wrong = exchange(upstream, "POST", "/identity/token", {}, (form + "wrong").encode())
        assert (wrong.status, wrong.json()["errorCode"]) == (400, "BXNIM0415E")
        assert exchange(upstream, "POST", "/identity/token", {}, b"apikey=right").status == 400
        told = exchange(upstream, "POST", "/identity/token", {}, (form + "right").encode()).json()
        assert (told["token_type"], told["expires_in"]) == ("Bearer", 0)
        body: dict[str, Any] = {"model_id": "m", "project_id": "p", "messages": MESSAGES}
        assert _post(upstream, CHAT, told["access_token"], **body).status == 200
        time.sleep(0.6)
        late = _post(upstream, CHAT, told["access_token"], **body)
        assert (late.status, late.json()["errors"][0]["code"]) == (
            401,
            "authentication_token_not_valid",
        )
        # A key that was named is let in as it is.
        assert _post(upstream, CHAT, "right", **body).status == 200
