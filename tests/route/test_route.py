"""From names to plans: pure, so every case is a line."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat import route
from daulat.errors import UnsupportedFieldError
from daulat.route import Route, Target
from daulat.values.plan import EndpointCard, Offer, Step
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    Request,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)


def card(name: str, *models: str, can: str = "chat") -> EndpointCard:
    offers = {model: Offer(model, model) for model in models}
    return EndpointCard(name, "us", "closed", offers, frozenset(can.split()))  # pyright: ignore


CARDS = {c.name: c for c in (card("native"), card("a", "m", "x/y"), card("b", "m", "n"))}
ROUTES = {"best": Route(("b/n", "native/tiny", "a/x/y")), "m": Route(("b/m",))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("best", [("b", "n"), ("native", "tiny"), ("a", "x/y")]),
        ("m", [("b", "m")]),
        ("n", [("b", "n")]),
        ("x/y", [("a", "x/y")]),
        ("a/m", [("a", "m")]),
        ("a/x/y", [("a", "x/y")]),
        ("native/org/model", [("native", "org/model")]),
        ("a/n", []),
        ("c/m", []),
        ("nothing", []),
    ],
)
def test_what_a_name_stands_for(name: str, expected: list[tuple[str, str]]) -> None:
    found = route.targets(name, ROUTES, CARDS, "native")
    assert found == tuple(Target(*one) for one in expected)


def test_a_model_of_several_endpoints_is_asked_in_their_order() -> None:
    assert route.targets("m", {}, CARDS, "native") == (Target("a", "m"), Target("b", "m"))
    assert route.names(ROUTES, CARDS) == ("best", "m", "x/y", "n")


HELLO = (Message("user", "Hello"),)


@pytest.mark.parametrize(
    ("request_", "needed"),
    [
        (ChatRequest("m", HELLO), {"chat": "model"}),
        (ChatRequest("m", HELLO, Sampling(top_k=4)), {"chat": "model", "top_k": "top_k"}),
        (
            ChatRequest("m", HELLO, Sampling(presence_penalty=1.0, frequency_penalty=1.0)),
            {"chat": "model", "penalties": "presence_penalty"},
        ),
        (
            ChatRequest("m", HELLO, tools=Toolbox((Tool("f"),))),
            {"chat": "model", "tools": "tools"},
        ),
        (
            ChatRequest("m", (Message("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),)),)),
            {"chat": "model", "tools": "tools"},
        ),
        (
            ChatRequest("m", (Message("user", "", parts=(Image("https://x/y.png"),)),)),
            {"chat": "model", "images": "messages[0].content"},
        ),
        (
            ChatRequest("m", HELLO, structure=Structure("json", {"type": "object"}, "f")),
            {"chat": "model", "json": "f"},
        ),
        (
            ChatRequest("m", HELLO, structure=Structure("json", {"type": "object"}, "f", "n")),
            {"chat": "model", "json_schema": "f"},
        ),
        (
            ChatRequest("m", HELLO, structure=Structure("regex", "a+", "f")),
            {"chat": "model", "grammar": "f"},
        ),
        (
            CompletionRequest("m", ((1, 2),), echo=True),
            {"completions": "model", "echo": "echo", "tokens": "prompt"},
        ),
        (
            EmbeddingRequest("m", ((1,),), dimensions=8),
            {"embeddings": "model", "tokens": "input", "dimensions": "dimensions"},
        ),
    ],
)
def test_what_a_request_needs(request_: Request, needed: dict[str, str]) -> None:
    assert route.needs(request_) == needed


def test_who_cannot_honour_a_part_is_left_out_and_if_nobody_can_the_part_is_named() -> None:
    request = ChatRequest("m", HELLO, Sampling(top_k=4, seed=1))
    able, plain = card("able", can="chat top_k seed"), card("plain", can="chat seed")
    assert route.able(request, [plain, able]) == (able,)
    with pytest.raises(UnsupportedFieldError, match="`top_k`") as caught:
        route.able(request, [plain])
    assert caught.value.param == "top_k"
    # Each part is honoured by one of them, and no one honours both.
    half = card("half", can="chat top_k")
    with pytest.raises(UnsupportedFieldError, match="plain, half"):
        route.able(request, [plain, half])


STEPS = [Step(name, "us", "closed", "m", "") for name in "abcd"]


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.floats(0.01, 100), min_size=n, max_size=n),
            st.lists(st.floats(0, 1, exclude_max=True), min_size=n, max_size=n),
        )
    )
)
def test_weights_lose_no_step(case: tuple[int, list[float], list[float]]) -> None:
    count, weights, draws = case
    steps = STEPS[:count]
    plan = route.plan(steps, "why", weights, 0.0, iter(draws).__next__)
    assert sorted(step.endpoint for step in plan.steps) == [step.endpoint for step in steps]
    assert route.plan(steps, "why").steps == tuple(steps)


def test_weights_are_shares() -> None:
    rng = random.Random(3)
    first = Counter(
        route.plan(STEPS[:3], "why", (6, 3, 1), 0.0, rng.random).steps[0].endpoint
        for _ in range(10_000)
    )
    # Three standard deviations of a share of 10,000 are at most 1.5 points.
    for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert abs(first[name] / 10_000 - share) < 0.015
