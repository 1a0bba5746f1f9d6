"""The server against its own description: what it allows is answered, what it forbids is refused.

What a real model answers is kept small; the scripted endpoint gets everything.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from servers import EMBEDDER, KEY, STARTER, Server

from daulat.server.openapi import describe
from daulat.server.routes import ROUTES
from daulat.server.wire.completions import CompletionBody

POSTS = [route for route in ROUTES if route.method == "POST"]
GETS = [route for route in ROUTES if route.method == "GET"]
HEADERS = {"Authorization": f"Bearer {KEY}"}

# Rules between two fields, which a schema of fields does not say (tests/server/test_wire.py does).
TOGETHER = ("top_logprobs", "max_completion_tokens", "best_of", "echo")
TOGETHER_IN_MESSAGES = ("tool_calls", "tool_call_id")

# One of its four fields, and tools of different names, are rules of the same kind.
_NAME = {"enum": ["f", "weather-2"]}
_TOOL = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": _NAME, "strict": {"type": "boolean"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "function"],
    "additionalProperties": False,
}
STRUCTURES: dict[str, Any] = {
    "structured_outputs": {
        "enum": [None, {"regex": "a{1,2}"}, {"choice": ["a", "b"]}, {"json": {"type": "null"}}]
    },
    "tools": {"type": "array", "items": _TOOL, "maxItems": 1},
    "tool_choice": {"enum": [None, "auto", "none"]},
}

_COUNT = {"minimum": 1, "maximum": 10_000_000}

SMALL: dict[str, dict[str, Any]] = {
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2},
    "n": {"type": "integer", "minimum": 1, "maximum": 2},
    "messages": {
        "type": "array",
        "items": {"$ref": "#/components/schemas/ChatMessage"},
        "minItems": 1,
        "maxItems": 2,
    },
    "prompt": {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": 20},
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 49151},
                "minItems": 1,
                "maxItems": 9,
            },
        ]
    },
    "input": {"type": "string", "minLength": 1, "maxLength": 50},
    # Token ids are checked against the model's vocabulary.
    "logit_bias": {"type": "null"},
    # A structure is cut by the one, and gone beyond by the other.
    "stop": {"type": "null"},
    "ignore_eos": {"type": "null"},
}


def description(model: str, *, small: bool) -> dict[str, Any]:
    """The server's description for one model; small: only what a real model answers soon."""
    found = copy.deepcopy(describe(ROUTES))
    message = found["components"]["schemas"]["ChatMessage"]
    for name in TOGETHER_IN_MESSAGES:
        message["properties"].pop(name)
    message["properties"]["role"] = {"enum": ["system", "user", "assistant"]}
    message["properties"]["content"] = {"type": "string"}
    message["required"] = ["role", "content"]
    for route in POSTS:
        assert route.request
        schema = found["components"]["schemas"][route.request.__name__]
        fields = schema["properties"]
        for name in TOGETHER:
            fields.pop(name, None)
        for name in STRUCTURES.keys() & fields.keys():
            fields[name] = STRUCTURES[name]
        if "response_format" in fields:
            fields.pop("response_format" if small else "structured_outputs")
        fields["model"] = {"enum": [model]}
        if route.request is CompletionBody:  # 0 is for `echo` only
            fields["max_tokens"] = {**_COUNT, "type": ["integer", "null"]}
        for name in SMALL if small else ():
            if name in fields:
                fields[name] = SMALL[name]
        if small and "max_tokens" in fields:
            schema["required"] = [*schema["required"], "max_tokens"]
    return found


def whole_numbers(value: Any) -> Any:
    """JSON Schema takes 3.0 for an integer; we do not, and no client writes one so."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    return value


def run(server: Server, route: Any, mode: GenerationMode, schema: Any, examples: int) -> None:
    """Generate cases for one route and hold every answer against the description."""
    operation = schemathesis.openapi.from_dict(schema)[route.path][route.method]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def check(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            case.body = whole_numbers(case.body)
        response = case.call_and_validate(base_url=server.url, headers=HEADERS)
        assert response.status_code < 500

    check()


@pytest.mark.parametrize("route", GETS, ids=lambda route: route.path)
def test_what_can_be_read(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.POSITIVE, description(STARTER, small=False), 5)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_what_is_allowed_is_answered(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.POSITIVE, description(STARTER, small=False), 60)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_what_is_forbidden_is_refused(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.NEGATIVE, description(STARTER, small=False), 80)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_a_real_model_answers_what_is_allowed(server: Server, route: Any) -> None:
    model = EMBEDDER if route.path.endswith("embeddings") else STARTER
    run(server, route, GenerationMode.POSITIVE, description(model, small=True), 12)
