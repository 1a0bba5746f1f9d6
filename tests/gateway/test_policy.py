"""Rules that hold: what is forbidden reaches no upstream, and what is replaced comes back byte for byte.

The upstreams are the scripted ones, a process for each place; what they say they were sent is what counts.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from policed import Gateway, bodies, opened, reaching, said, table

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Call, Script, Upstream
from daulat.settings import Project, Route
from tests.guard.planted import Planted, plant

TEXTS = int(os.environ.get("DAULAT_POLICY_TEXTS", "1000"))
"""How many texts are planted; 10,000 take some minutes."""
ANTHROPIC = {"anthropic_version": "2023-06-01"}
PLACES = {"us": "openai", "eu": "anthropic", "jp": "gemini", "sg": "compatible"}
# A class may go to the first places as it is, to the second with placeholders.
RULES = reaching(
    public=(("*",), ()),
    internal=(("*",), ()),
    personal=((), ("us", "jp")),
    secret=((), ("us",)),
)
MODELS = [*(f"m-{place}" for place in PLACES), "any"]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Mapping[str, Upstream]]:
    """One for each place; they say again what the user said last."""
    with ExitStack() as stack:
        yield {place: stack.enter_context(scripted.running()) for place in PLACES}


@pytest.fixture
async def gateway(
    upstreams: Mapping[str, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """All places, under `RULES`; the route `any` asks the strictest place first."""
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    for one in upstreams.values():
        one.reset()
    endpoints = {
        place: table(upstreams[place], kind, place, f"m-{place}") for place, kind in PLACES.items()
    }
    routes = {"any": Route(to=("eu/m-eu", "sg/m-sg", "jp/m-jp", "us/m-us"))}
    projects = {"clinic": Project(data_class="personal")}
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(
            opened(tmp_path / "home", endpoints, RULES, routes=routes, projects=projects)
        )


# --- every field that holds words -----------------------------------------------------------------

Body = dict[str, Any]
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def user(content: Any, **more: Any) -> Body:
    return {"role": "user", "content": content, **more}


def chat(*messages: Body, **more: Any) -> tuple[str, Body]:
    return "/v1/chat/completions", {"messages": list(messages) or [user("Hi.")], **more}


def tool(text: str = "", **schema: Any) -> list[Body]:
    """A tool of that description, with that schema of its one field."""
    parameters = {"type": "object", "properties": {"a": {"type": "string", **schema}}}
    function = {"name": "look", "description": text, "parameters": parameters}
    return [{"type": "function", "function": function}]


def called(arguments: str, result: str = "done") -> tuple[str, Body]:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": arguments},
    }
    turns = [
        user("Look."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
        user("Go on."),
    ]
    return chat(*turns, tools=tool())


def form(schema: Body) -> Body:
    return {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}


def messages(content: Any, **more: Any) -> tuple[str, Body]:
    return "/v1/messages", {"max_tokens": 2000, "messages": [user(content)], **more}


def asked(content: Any, **more: Any) -> tuple[str, Body]:
    return "/v1/responses", {"input": content, **more}


FIELDS: Mapping[str, Callable[[str], tuple[str, Body]]] = {
    "chat": lambda t: chat(user(t)),
    "chat streamed": lambda t: chat(user(t), stream=True),
    "parts": lambda t: chat(
        user([{"type": "text", "text": t[:9]}, {"type": "text", "text": t[9:]}])
    ),
    "picture": lambda t: chat(
        user([{"type": "text", "text": t}, {"type": "image_url", "image_url": {"url": PICTURE}}])
    ),
    "address": lambda t: chat(
        user([{"type": "image_url", "image_url": {"url": f"https://example.com/?q={quote(t)}"}}])
    ),
    "system": lambda t: chat({"role": "system", "content": t}, user("Hi.")),
    "two of the system's": lambda t: chat(
        {"role": "system", "content": t[: len(t) // 2]},
        {"role": "developer", "content": t[len(t) // 2 :]},
        user("Hi."),
    ),
    "two turns": lambda t: chat(user(t[: len(t) // 2]), user(t[len(t) // 2 :])),
    "assistant": lambda t: chat(user("Hi."), {"role": "assistant", "content": t}, user("Again.")),
    "arguments": lambda t: called(json.dumps({"a": t})),
    "arguments escaped": lambda t: called(json.dumps({"a": t}).replace("@", "\\u0040")),
    "arguments twice": lambda t: called(json.dumps({"a": t})[:-1] + ', "a": "none"}'),
    "arguments inside": lambda t: called(json.dumps({"a": json.dumps({"b": "\n" + t})})),
    "argument's name": lambda t: called(json.dumps({t: True})),
    "result": lambda t: called("{}", t),
    "result of JSON": lambda t: called("{}", json.dumps({"rows": [{"text": "\t" + t}]})),
    "description": lambda t: chat(tools=tool(t)),
    "schema": lambda t: chat(tools=tool(default=t)),
    "choices of a schema": lambda t: chat(tools=tool(enum=[t, "none"])),
    "field": lambda t: chat(
        response_format=form({"type": "object", "properties": {t: {"type": "string"}}})
    ),
    "form": lambda t: chat(response_format=form({"type": "object", "description": t})),
    "choice": lambda t: chat(structured_outputs={"choice": [t[:1024], "none"]}),
    "pattern": lambda t: chat(structured_outputs={"regex": t[:2048]}),
    "stop": lambda t: chat(stop=[t[-256:]]),
    "metadata": lambda t: chat(metadata={"note": t[:512]}, store=True),
    "prediction": lambda t: chat(prediction={"type": "content", "content": t}),
    "cache key": lambda t: chat(prompt_cache_key=t[:512]),
    "end user": lambda t: chat(user=t[:512], safety_identifier=t[:512]),
    "completion": lambda t: ("/v1/completions", {"prompt": t, "max_tokens": 2000}),
    "completions": lambda t: ("/v1/completions", {"prompt": ["Hi.", t], "stream": True}),
    "embedding": lambda t: ("/v1/embeddings", {"input": ["Hi.", t], "user": t[:512]}),
    "moderation": lambda t: ("/v1/moderations", {"input": [t, "Hi."]}),
    "messages": messages,
    "messages' system": lambda t: messages("Hi.", system=[{"type": "text", "text": t}]),
    "messages' end user": lambda t: messages("Hi.", metadata={"user_id": t[:256]}),
    "messages' tool": lambda t: messages(
        "Hi.", tools=[{"name": "look", "description": t, "input_schema": {"type": "object"}}]
    ),
    "messages streamed": lambda t: messages(t, stream=True),
    "response": asked,
    "instructions": lambda t: asked("Hi.", instructions=t),
    "response's parts": lambda t: asked([user([{"type": "input_text", "text": t}])]),
    "response's metadata": lambda t: asked("Hi.", metadata={"note": t[:512]}, user=t[:512]),
    "response's tool": lambda t: asked(
        "Hi.",
        tools=[
            {"type": "function", "name": "look", "description": t, "parameters": {"type": "object"}}
        ],
    ),
}


NOT_SENT = ("end user", "messages' end user", "response's metadata")
"""What stays in the record, whatever the rules say."""


@pytest.mark.timeout(1800)
async def test_no_identifier_reaches_a_place_where_it_must_not_go(
    gateway: Gateway, upstreams: Mapping[str, Upstream]
) -> None:
    random = Random(2026)
    sent, statuses = 0, dict[int, int]()
    for begin in range(0, TEXTS, 100):
        tried = [_try(random) for _ in range(min(100, TEXTS - begin))]
        answers = await asyncio.gather(*(_ask(gateway, *one) for one in tried))
        for status in answers:
            statuses[status] = statuses.get(status, 0) + 1
        values = [one.value for _, _, one in tried]
        for place, upstream in upstreams.items():
            for body in bodies(upstream):
                sent += 1
                words = list(said(body))
                found = [value for value in values if any(value in word for word in words)]
                assert not found, (place, found, body)
    # The rules are not kept by refusing everything, nor is everything sent.
    assert sent > TEXTS / 4
    assert statuses[403] > TEXTS / 10
    assert set(statuses) <= {200, 400, 403}, statuses


def _try(random: Random) -> tuple[str, str, Planted]:
    one = plant(random)
    while len(one.text) > 256:
        one = plant(random)
    return random.choice(list(FIELDS)), random.choice(MODELS), one


async def _ask(gateway: Gateway, field: str, model: str, one: Planted) -> int:
    path, body = FIELDS[field](one.text)
    headers = ANTHROPIC if path == "/v1/messages" else {}
    answer = await gateway.post(path, {"model": model, **body}, **headers)
    assert "GuardError" not in answer.text
    if answer.status_code == 200 and field in ("chat", "parts"):
        assert answer.json()["choices"][0]["message"]["content"] == one.text
    return answer.status_code


@pytest.mark.parametrize("field", sorted(FIELDS))
async def test_every_field_is_looked_through(
    gateway: Gateway, upstreams: Mapping[str, Upstream], field: str
) -> None:
    text = "Mail to ana.putri@example.com today, please."
    path, body = FIELDS[field](text)
    answer = await gateway.post(path, {"model": "sg/m-sg", **body}, **ANTHROPIC)
    if field in NOT_SENT:
        assert answer.status_code == 200
    else:
        assert answer.status_code in (400, 403), answer.text
    await gateway.post(path, {"model": "m-us", **body}, **ANTHROPIC)
    for place in PLACES:
        assert not any(
            "ana.putri" in word for got in bodies(upstreams[place]) for word in said(got)
        )


# --- what comes back ------------------------------------------------------------------------------

SECRETS = (
    "ana@example.com",
    "password: pa\\ss\\w0rd-X",
    "0812-3456-7890",
    "müller@firma.example.de",
)


def streamed(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def written(answer: Any) -> str:
    """The text of a streamed chat."""
    pieces = (c["delta"].get("content") for one in streamed(answer.text) for c in one["choices"])
    return "".join(filter(None, pieces))


@pytest.mark.parametrize("place", ["us", "jp"])
async def test_what_is_replaced_comes_back_byte_for_byte(
    gateway: Gateway, upstreams: Mapping[str, Upstream], place: str
) -> None:
    random = Random(7)
    for _ in range(40):
        one = plant(random, disguise=random.random() < 0.5)
        body = {"model": f"m-{place}", "messages": [user(one.text)], "stream": True}
        answer = await gateway.post("/v1/chat/completions", body)
        if answer.status_code == 200:
            assert written(answer) == one.text
        got = bodies(upstreams[place])
        assert not any(one.value in word for body in got for word in said(body))


async def test_several_answers_and_prompts_come_back_each(gateway: Gateway) -> None:
    text = "Mail ana@example.com or call 0812-3456-7890."
    body = {"model": "m-us", "messages": [user(text)], "n": 3}
    found = (await gateway.post("/v1/chat/completions", body)).json()["choices"]
    assert [choice["message"]["content"] for choice in found] == [text] * 3
    prompts = ["To bo@example.com", text]
    body = {"model": "m-us", "prompt": prompts, "stream": True, "max_tokens": 100}
    found = streamed((await gateway.post("/v1/completions", body)).text)
    for at in range(len(prompts)):
        pieces = [c["text"] for one in found for c in one["choices"] if c["index"] == at]
        assert "".join(pieces) == text  # the upstream says the last prompt again, for each


async def test_a_stop_text_comes_back(gateway: Gateway, upstreams: Mapping[str, Upstream]) -> None:
    body = {"model": "m-us", "max_tokens": 100, "stop_sequences": ["ana@example.com"]}
    body["messages"] = [user("Mail ana@example.com now.")]
    answer = (await gateway.post("/v1/messages", body, **ANTHROPIC)).json()
    assert answer["content"][0]["text"] == "Mail "
    (sent,) = bodies(upstreams["us"])
    assert sent["stop"] == ["<EMAIL_1>"]


async def test_participants_names_take_no_brackets(
    gateway: Gateway, upstreams: Mapping[str, Upstream]
) -> None:
    body = {"model": "m-us", "messages": [user("Hi.", name="ana@example.com")]}
    assert (await gateway.post("/v1/chat/completions", body)).status_code == 200
    (sent,) = bodies(upstreams["us"])
    assert sent["messages"][0]["name"] == "EMAIL_1"


@pytest.fixture
async def answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Script], Any]]:
    """Makes a gateway whose one endpoint, in `us`, answers by a script."""
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    async with AsyncExitStack() as stack:

        async def make(script: Script) -> Gateway:
            upstream = stack.enter_context(scripted.running(script))
            endpoints = {"us": table(upstream, "openai", "us", "m-us")}
            return await stack.enter_async_context(opened(tmp_path / "own", endpoints, RULES))

        yield make


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_of_calls_come_back(
    answering: Callable[[Script], Any], stream: bool
) -> None:
    said_there = '{"to": "<EMAIL_1>", "key": "x <PASSWORD_1>", "also": "\\u003cPHONE_1\\u003e"}'
    script = Script(answers=(Answer("I write to <EMAIL_1>", (Call("look", said_there),)),))
    gateway = await answering(script)
    body = {"model": "m-us", "messages": [user(", ".join(SECRETS))], "tools": tool()}
    answer = await gateway.post("/v1/chat/completions", {**body, "stream": stream})
    if stream:
        events = streamed(answer.text)
        deltas = [c["delta"] for one in events for c in one["choices"]]
        content = "".join(filter(None, (delta.get("content") for delta in deltas)))
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        text = "".join(call["function"].get("arguments", "") for call in calls)
    else:
        message = answer.json()["choices"][0]["message"]
        content, text = message["content"], message["tool_calls"][0]["function"]["arguments"]
    assert content == "I write to ana@example.com"
    told = json.loads(text)
    assert told["to"] == "ana@example.com"
    assert told["also"] == "0812-3456-7890"
    assert told["key"] == "x pa\\ss\\w0rd-X"
    body["stream"], body["max_tokens"] = stream, 500
    answer = await gateway.post("/v1/messages", _for_messages(body), **ANTHROPIC)
    assert answer.status_code == 200
    kinds = [one["content_block"]["type"] for one in _data(answer.text)] if stream else None
    assert kinds in (None, ["text", "tool_use"])


def _for_messages(body: Body) -> Body:
    function = body["tools"][0]["function"]
    made = {"name": function["name"], "input_schema": function["parameters"]}
    return {**body, "tools": [made]}


def _data(text: str) -> list[Any]:
    """The starts of blocks in a stream of the Messages API."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [one for one in map(json.loads, lines) if one["type"] == "content_block_start"]


async def test_a_structured_answer_stays_json(answering: Callable[[Script], Any]) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----"
    gateway = await answering(Script(answers=(Answer('{"key": "<PRIVATE_KEY_1>"}'),)))
    schema = {"type": "object", "properties": {"key": {"type": "string"}}}
    for stream in (False, True):
        body = {"model": "m-us", "messages": [user(f"Keep {key}")], "stream": stream}
        answer = await gateway.post(
            "/v1/chat/completions", {**body, "response_format": form(schema)}
        )
        whole = answer.json()["choices"][0]["message"]["content"] if not stream else written(answer)
        assert json.loads(whole) == {"key": key}


# --- classes --------------------------------------------------------------------------------------


async def test_a_class_that_is_declared_is_the_floor(
    gateway: Gateway, upstreams: Mapping[str, Upstream]
) -> None:
    body = {"model": "m-us", "messages": [user("Nothing in here.")]}
    path = "/v1/chat/completions"
    assert (await gateway.post(path, body, daulat_class="public")).status_code == 200
    refused = await gateway.post(path, body, daulat_class="Personal")
    assert (refused.status_code, "may not go to us" in refused.text) == (403, True)
    unknown = await gateway.post(path, body, daulat_class="top")
    assert (unknown.status_code, "public, internal" in unknown.text) == (400, True)
    for given in ({"data_class": "secret"}, {"project": "clinic"}):
        _, secret = gateway.keys.create("strict", **given)
        answer = await gateway.post(
            path, body, authorization=f"Bearer {secret}", daulat_class="public"
        )
        assert answer.status_code == 403
    assert len(bodies(upstreams["us"])) == 1


async def test_pictures_are_personal_unless_the_request_says_otherwise(gateway: Gateway) -> None:
    path, body = FIELDS["picture"]("Look at this.")
    _, secret = gateway.keys.create("office", data_class="internal")
    for key in (gateway.secret, secret):
        told = {"authorization": f"Bearer {key}"}
        assert (await gateway.post(path, {"model": "m-us", **body}, **told)).status_code == 403
        answer = await gateway.post(
            path, {"model": "m-us", **body}, **told, daulat_class="internal"
        )
        assert answer.status_code == 200


async def test_what_goes_on_from_a_response_keeps_its_class(
    upstreams: Mapping[str, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    policy = reaching(public=(("*",), ()), internal=(("*",), ()), secret=(("sg",), ()))
    kinds = {"sg": "compatible", "us": "openai"}
    endpoints = {
        name: table(upstreams[name], kind, name, f"m-{name}") for name, kind in kinds.items()
    }
    upstreams["us"].reset()
    async with opened(tmp_path / "home", endpoints, policy) as gateway:
        body = {"model": "m-sg", "input": "The plan is the blue one."}
        first = await gateway.post("/v1/responses", body, daulat_class="secret")
        assert first.status_code == 200
        more = {"input": "Why?", "previous_response_id": first.json()["id"]}
        assert (await gateway.post("/v1/responses", {"model": "m-us", **more})).status_code == 403
        second = await gateway.post(
            "/v1/responses", {"model": "m-sg", **more}, daulat_class="public"
        )
        assert second.status_code == 200
        more["previous_response_id"] = second.json()["id"]
        assert (await gateway.post("/v1/responses", {"model": "m-us", **more})).status_code == 403
    assert bodies(upstreams["us"]) == []


async def test_tokens_are_not_counted_elsewhere(
    gateway: Gateway, upstreams: Mapping[str, Upstream]
) -> None:
    path, body = messages("Mail ana@example.com")
    body.pop("max_tokens")
    answer = await gateway.post(f"{path}/count_tokens", {"model": "m-eu", **body}, **ANTHROPIC)
    assert answer.status_code == 200
    assert all(bodies(one) == [] for one in upstreams.values())


@pytest.mark.parametrize(
    ("said_there", "goes_on"), [("0812-3456-7890", False), ("the blue door", True)]
)
async def test_words_of_an_answer_are_looked_through_before_another_place_hears_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_there: str, goes_on: bool
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    answer = Answer(f"Her number is {said_there}, as far as I know, and she is in.")
    policy = reaching(internal=(("*",), ()), personal=(("lab",), ()))
    can = ("chat", "continue")
    with scripted.running(Script(answers=(answer,))) as lab, scripted.running() as away:
        endpoints = {
            "lab": table(
                lab,
                "compatible",
                "lab",
                "m",
                capabilities=can,
                names={"m": "scripted+dies_mid_stream@10"},
            ),
            "away": table(away, "compatible", "away", "m", capabilities=can),
        }
        async with opened(tmp_path / "home", endpoints, policy) as gateway:
            body = {"model": "m", "messages": [user("Where is she?")], "stream": True}
            await gateway.post("/v1/chat/completions", body)
        assert bodies(lab)
        got = bodies(away)
    assert bool(got) == goes_on
    assert not any("0812" in word for one in got for word in said(one))
