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
from daulat.server.wire.moderations import ModerationBody

# What works on a home's tasks is shown by tests of its own.
POSTS = [route for route in ROUTES if route.method == "POST" and route.scope == "ask"]
READS = [route for route in ROUTES if route.method != "POST"]
HEADERS = {"Authorization": f"Bearer {KEY}"}

# Rules between two fields, which a schema of fields does not say (tests/server/test_wire.py does).
TOGETHER = ("top_logprobs", "max_completion_tokens", "best_of", "echo")
TOGETHER_IN_MESSAGES = ("tool_calls", "tool_call_id", "refusal", "reasoning_content")

# One of its four fields is a rule of the same kind; so are tools of different names, of which there is one.
_NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}
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

# Anthropic's messages and OpenAI's responses: the same, in their own words.
_SCHEMA = {"type": "object", "enum": [{"type": "object", "properties": {}}]}
_FLAT = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "name": _NAME},
    "required": ["type", "name"],
    "additionalProperties": False,
}
_CUSTOM = {
    "type": "object",
    "properties": {"name": _NAME, "input_schema": _SCHEMA},
    "required": ["name", "input_schema"],
    "additionalProperties": False,
}
_USER = {
    "type": "object",
    "properties": {"role": {"const": "user"}, "content": {"type": "string"}},
    "required": ["role", "content"],
    "additionalProperties": False,
}
_ASKED = {"type": "array", "items": _USER, "minItems": 1, "maxItems": 3}
_ANTHROPIC = {
    "messages": _ASKED,
    "system": {"enum": [None, "Be brief.", [{"type": "text", "text": "Be brief."}]]},
    "tools": {"type": "array", "items": _CUSTOM, "maxItems": 1},
    "tool_choice": {"enum": [None, {"type": "auto"}, {"type": "none"}]},
    "output_format": {"type": "null"},
}
DIALECTS: dict[str, dict[str, Any]] = {
    "MessagesBody": _ANTHROPIC,
    "CountBody": _ANTHROPIC,
    "ResponsesBody": {
        "input": {"anyOf": [{"type": "string"}, _ASKED]},
        "previous_response_id": {"type": "null"},
        "tools": {"type": "array", "items": _FLAT, "maxItems": 1},
        "tool_choice": {"enum": [None, "auto", "none"]},
    },
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
    "max_output_tokens": {"type": "integer", "minimum": 1, "maximum": 2},
    "dimensions": {"type": "null"},
    "output_config": {"type": "null"},
    "text": {"type": "null"},
    "stop_sequences": {"type": "null"},
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
        for name in (
            STRUCTURES.keys() & fields.keys() - DIALECTS.get(route.request.__name__, {}).keys()
        ):
            fields[name] = STRUCTURES[name]
        if "response_format" in fields:
            fields.pop("response_format" if small else "structured_outputs")
        fields["model"] = {"enum": [model]}
        fields.update(DIALECTS.get(route.request.__name__, {}))
        if route.request is CompletionBody:  # 0 is for `echo` only
            fields["max_tokens"] = {**_COUNT, "type": ["integer", "null"]}
        for name in SMALL if small else ():
            own = route.request.__name__ in DIALECTS and name in ("messages", "prompt", "input")
            if name in fields and not own:
                fields[name] = SMALL[name]
        for name in ("max_tokens", "max_output_tokens") if small else ():
            if name in fields and name not in schema["required"]:
                schema["required"] = [*schema["required"], name]
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
        response = case.call(base_url=server.url, headers=HEADERS)
        if mode is GenerationMode.NEGATIVE and response.status_code == 413:
            return  # refused before it was read, whatever is wrong with it
        case.validate_response(response)
        assert response.status_code < 500

    check()


@pytest.mark.parametrize("route", READS, ids=lambda route: f"{route.method} {route.path}")
def test_what_can_be_read(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.POSITIVE, description(STARTER, small=False), 5)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_what_is_allowed_is_answered(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.POSITIVE, description(STARTER, small=False), 60)


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_what_is_forbidden_is_refused(scripted: Server, route: Any) -> None:
    run(scripted, route, GenerationMode.NEGATIVE, description(STARTER, small=False), 80)


REAL = [route for route in POSTS if route.request is not ModerationBody]  # no model here judges


@pytest.mark.parametrize("route", REAL, ids=lambda route: route.path)
def test_a_real_model_answers_what_is_allowed(server: Server, route: Any) -> None:
    model = EMBEDDER if route.path.endswith("embeddings") else STARTER
    run(server, route, GenerationMode.POSITIVE, description(model, small=True), 12)
