"""Requests there and back: what a dialect writes, the server's own wire types read as the same request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.endpoints.remote.openai import OpenAiDialect
from daulat.endpoints.remote.profiles import PROFILES
from daulat.errors import UnsupportedFieldError
from daulat.server.wire.chat import ChatCompletionRequest
from daulat.server.wire.completions import CompletionBody as WireCompletion
from daulat.values.plan import Offer
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

OFFER = Offer("house-name", "their-name")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
NAME = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)


def said(request: Any, kind: str = "openai", offer: Offer = OFFER, version: str = "") -> Any:
    call = OpenAiDialect(PROFILES[kind], version).generate(request, offer)
    return json.loads(call.body)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    made = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        made.append(Message("user", draw(TEXT), name=draw(st.none() | NAME)))
        if draw(st.booleans()):
            arguments = json.dumps(draw(st.dictionaries(NAME, st.integers(), max_size=2)))
            call = ToolCall(f"call_{turn}", draw(NAME), arguments)
            made.append(Message("assistant", draw(st.just("") | TEXT), tool_calls=(call,)))
            made.append(Message("tool", draw(TEXT), tool_call_id=call.id))
        else:
            made.append(Message("assistant", draw(TEXT)))
    return tuple(made)


SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 10_000),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(TEXT, max_size=4).map(tuple),
    logit_bias=st.dictionaries(st.integers(0, 100_000), st.floats(-100, 100), max_size=3),
    logprobs=st.none() | st.integers(0, 20),
    n=st.integers(1, 16),
)
EXTENDED = st.builds(
    lambda base, k, p, r, eos: replace(
        base, top_k=k, min_p=p, repetition_penalty=r, ignore_eos=eos
    ),
    SAMPLINGS,
    st.integers(0, 1000),
    st.floats(0, 1),
    st.floats(0.01, 10),
    st.booleans(),
)
TOOLS = st.lists(NAME, min_size=1, max_size=3, unique=True).flatmap(
    lambda names: (
        st.builds(
            Toolbox,
            st.tuples(
                *(
                    st.builds(
                        Tool,
                        st.just(name),
                        st.none() | TEXT,
                        st.none()
                        | st.just({"type": "object", "properties": {"x": {"type": "integer"}}}),
                    )
                    for name in names
                )
            ),
            st.sampled_from(["auto", "none", "required"]),
            st.none(),
            st.booleans(),
        )
        | st.builds(
            Toolbox,
            st.tuples(*(st.just(Tool(name)) for name in names)),
            st.just("required"),
            st.sampled_from(names),
        )
    )
)
FORMS = st.sampled_from(
    [
        Structure("json", {"type": "object"}, "response_format"),
        Structure(
            "json",
            {"type": "object", "properties": {"a": {"type": "string"}}},
            "response_format.json_schema.schema",
        ),
    ]
)


def canonical(request: ChatRequest) -> ChatRequest:
    """Without what the server's own reader does not keep apart."""
    structure = request.structure
    if structure is not None:
        structure = replace(structure, name="", strict=None)
    tools = request.tools
    if tools is not None:
        tools = replace(tools, tools=tuple(replace(t, strict=None) for t in tools.tools))
    return replace(request, structure=structure, tools=tools, stream=False, hints={})


@given(
    st.builds(
        ChatRequest,
        st.just("their-name"),
        conversations(),
        SAMPLINGS,
        st.none() | TEXT,
        st.none() | TOOLS,
        st.none() | FORMS,
        st.booleans(),
    )
)
def test_chat_there_and_back(request: ChatRequest) -> None:
    body = OpenAiDialect(PROFILES["openai"]).generate(request, OFFER).body
    wire = msgspec.json.decode(body, type=ChatCompletionRequest)
    assert bool(wire.stream) is request.stream
    assert wire.wants_usage is request.stream
    assert canonical(wire.to_request()) == canonical(request)


@given(conversations(), EXTENDED)
def test_extensions_there_and_back(messages: tuple[Message, ...], sampling: Sampling) -> None:
    request = ChatRequest("their-name", messages, sampling)
    body = OpenAiDialect(PROFILES["compatible"]).generate(request, OFFER).body
    wire = msgspec.json.decode(body, type=ChatCompletionRequest)
    assert wire.to_request().sampling == sampling


PROMPTS = st.lists(TEXT, min_size=1, max_size=3).map(tuple) | st.lists(
    st.lists(st.integers(0, 1000), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3
).map(tuple)


@given(PROMPTS, EXTENDED, st.booleans())
def test_completion_there_and_back(prompts: Any, sampling: Sampling, echo: bool) -> None:
    top = None if sampling.logprobs is None else min(sampling.logprobs, 5)
    sampling = replace(sampling, logprobs=top, max_tokens=sampling.max_tokens or 7)
    request = CompletionRequest("their-name", prompts, sampling, echo)
    body = OpenAiDialect(PROFILES["compatible"]).generate(request, OFFER).body
    back = msgspec.json.decode(body, type=WireCompletion).to_request()
    assert back == replace(request, stream=back.stream)


def test_nothing_but_the_needed_is_sent() -> None:
    request = ChatRequest("m", (Message("user", "Hi"),))
    assert said(request) == {
        "model": "their-name",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_pictures_in_their_order() -> None:
    parts = ("See ", Image("https://example.org/a.png", "low"), Image("data:image/png;base64,AA=="))
    request = ChatRequest("m", (Message("user", "See ", parts=parts),))
    assert said(request)["messages"][0]["content"] == [
        {"type": "text", "text": "See "},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5-mini-2025-08-07", "o3", "o4-mini", "o1-preview"])
@pytest.mark.parametrize(
    "wish", [{"temperature": 0.0}, {"top_p": 0.5}, {"stop": ("x",)}, {"logprobs": 0}], ids=str
)
def test_models_that_take_no_sampling(model: str, wish: dict[str, Any]) -> None:
    request = ChatRequest(model, (Message("user", "Hi"),), Sampling(**wish))
    with pytest.raises(UnsupportedFieldError) as raised:
        said(request, offer=Offer(model, model))
    assert raised.value.param == next(iter(wish))
    for other in ("gpt-4o", "gpt-5-chat-latest", "gpt-5.1"):
        assert said(request, offer=Offer(other, other))


def test_azure_asks_deployments_by_path() -> None:
    request = ChatRequest("m", (Message("user", "Hi"),), Sampling(max_tokens=5))
    azure = OpenAiDialect(PROFILES["azure"], "2024-10-21")
    path = azure.generate(request, Offer("m", "my deployment")).path
    assert path == "/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    assert OpenAiDialect(PROFILES["azure"]).generate(request, OFFER).path == "/chat/completions"
    vectors = EmbeddingRequest("m", ("a",))
    assert azure.embed(vectors, Offer("m", "d")).path.startswith("/deployments/d/embeddings?")


def test_mistral_has_words_of_its_own() -> None:
    box = Toolbox((Tool("look"),), "required", parallel=False)
    call = ToolCall("call_0123456789abcdef", "look", "{}")
    turns = (
        Message("developer", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "4", tool_call_id=call.id),
    )
    request = ChatRequest(
        "m", turns, Sampling(max_tokens=3, seed=4), "someone", box, stream=True, begun="Well"
    )
    body = said(request, "mistral")
    assert body["random_seed"] == 4
    assert body["max_tokens"] == 3
    assert body["tool_choice"] == "any"
    assert body["parallel_tool_calls"] is False
    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][-1] == {"role": "assistant", "content": "Well", "prefix": True}
    ids = {body["messages"][2]["tool_calls"][0]["id"], body["messages"][3]["tool_call_id"]}
    assert len(ids) == 1
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert not {"seed", "user", "stream_options"} & body.keys()


@pytest.mark.parametrize(
    ("kind", "request_", "param"),
    [
        ("mistral", {"sampling": Sampling(logit_bias={1: 1.0})}, "logit_bias"),
        ("mistral", {"sampling": Sampling(logprobs=1)}, "logprobs"),
        ("openai", {"sampling": Sampling(top_k=5)}, "top_k"),
        ("openai", {"sampling": Sampling(ignore_eos=True)}, "ignore_eos"),
        (
            "openai",
            {"structure": Structure("regex", "a+", "structured_outputs.regex")},
            "structured_outputs.regex",
        ),
        ("openai", {"begun": "Well"}, "messages"),
        ("mistral", {"messages": (Message("user", "Hi", name="ann"),)}, "messages[0].name"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(kind: str, request_: Any, param: str) -> None:
    request = ChatRequest(**{"model": "m", "messages": (Message("user", "Hi"),), **request_})
    with pytest.raises(UnsupportedFieldError) as raised:
        said(request, kind)
    assert raised.value.param == param


def test_vllm_has_fields_of_its_own() -> None:
    form = Structure("choice", ("yes", "no"), "structured_outputs.choice")
    request = ChatRequest("m", (Message("user", "Hi"),), structure=form, begun="I say")
    body = said(request, "compatible")
    assert body["structured_outputs"] == {"choice": ["yes", "no"]}
    assert body["guided_choice"] == ["yes", "no"]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["messages"][-1] == {"role": "assistant", "content": "I say"}


def test_hints_go_where_they_are_known() -> None:
    hints = {"reasoning_effort": "low", "store": False, "metadata": {"a": "b"}}
    request = ChatRequest("m", (Message("user", "Hi"),), hints=hints)
    assert hints.items() <= said(request).items()
    assert "store" not in said(request, "compatible")
    assert "reasoning_effort" not in said(request, "mistral")


def test_vectors_and_judgements() -> None:
    dialect = OpenAiDialect(PROFILES["mistral"])
    call = dialect.embed(EmbeddingRequest("m", ("a", "b"), dimensions=8), OFFER)
    assert json.loads(call.body) == {
        "model": "their-name",
        "input": ["a", "b"],
        "output_dimension": 8,
    }
    call = dialect.moderate(ModerationRequest("m", ("a",)), OFFER)
    assert (call.path, json.loads(call.body)) == (
        "/moderations",
        {"model": "their-name", "input": ["a"]},
    )
