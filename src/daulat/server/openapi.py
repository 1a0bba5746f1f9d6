"""The OpenAPI 3.1 description, made from the table of routes and the wire's own types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from daulat import __version__
from daulat.server.calls import VERSION
from daulat.server.errors import OVERLOADED
from daulat.server.routes import Query, Route
from daulat.server.trace import HEADERS
from daulat.server.wire.answers import ErrorBody
from daulat.server.wire.common import FOUR_SHAPES
from daulat.server.wire.messages.answers import AnthropicError

JSON = dict[str, Any]

_PLACE = "#/components/schemas/{name}"
_HEADERS: JSON = {
    name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
}
_VERSION: JSON = {
    "name": "anthropic-version",
    "in": "header",
    "required": True,
    "description": "The version that the client was written for; any is taken.",
    "schema": {"type": "string", "pattern": VERSION.pattern},
}


def describe(routes: Sequence[Route]) -> JSON:
    """The description as a JSON value."""
    types = _types(routes)
    references, components = msgspec.json.schema_components(types, ref_template=_PLACE)
    schemas = dict(zip(types, references, strict=True))
    _state_shapes(components)
    paths: dict[str, JSON] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Daulat",
            "version": __version__,
            "description": "OpenAI's API and Anthropic's messages, in front of your own models.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _types(routes: Sequence[Route]) -> list[Any]:
    found: dict[Any, None] = {ErrorBody: None, AnthropicError: None}
    for route in routes:
        for kind in (route.request, route.response, *route.chunks):
            if kind is not None:
                found[kind] = None
    return list(found)


def _state_shapes(components: JSON) -> None:
    # The decoder's union is wider than what is taken: a list holds one kind of item
    # (`common.texts`).
    for name, field in (("CompletionBody", "prompt"), ("EmbeddingBody", "input")):
        components[name]["properties"][field] = FOUR_SHAPES


def _operation(route: Route, schemas: dict[Any, JSON]) -> JSON:
    operation: JSON = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}".rstrip(
            "_"
        ),
        "security": [{"key": []}] if route.guarded else [],
        "responses": _responses(route, schemas),
    }
    parameters = re.findall(r"{(\w+)}", route.path)
    if parameters or route.query:
        operation["parameters"] = [*map(_parameter, parameters), *map(_query, route.query)]
    if route.anthropic:
        operation["security"] = [{"key": []}, {"x-api-key": []}]
        operation["parameters"] = [_VERSION]
    if route.request:
        content: JSON = {"application/json": {"schema": schemas[route.request]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(name: str) -> JSON:
    schema: JSON = {"type": "string", "minLength": 1, "maxLength": 256}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(query: Query) -> JSON:
    schema: JSON = {"type": "string", "pattern": query.pattern}
    return {"name": query.name, "in": "query", "description": query.description, "schema": schema}


def _responses(route: Route, schemas: dict[Any, JSON]) -> JSON:
    statuses: list[int] = sorted({*route.statuses, *([401] if route.guarded else [])})
    good: JSON = {"description": "OK", "content": _content(route, schemas)}
    if route.request:
        good["headers"] = _HEADERS
    responses: JSON = {"200": good}
    error = AnthropicError if route.anthropic else ErrorBody
    for status in statuses:
        responses[str(status)] = {
            "description": _phrase(status),
            "content": {"application/json": {"schema": schemas[error]}},
        }
    return responses


def _phrase(status: int) -> str:
    return "Overloaded" if status == OVERLOADED else HTTPStatus(status).phrase


def _content(route: Route, schemas: dict[Any, JSON]) -> JSON:
    content: JSON = {route.media: {"schema": _answer(route, schemas)}}
    if route.chunks:
        names = ", ".join(chunk.__name__ for chunk in route.chunks)
        content["text/event-stream"] = {
            "schema": {
                "type": "object",
                "description": f"An event: its data is of {names} or an error.",
                "required": ["data"],
                "properties": {"data": {"type": "string"}},
            }
        }
    return content


def _answer(route: Route, schemas: dict[Any, JSON]) -> JSON:
    if route.response:
        return schemas[route.response]
    return {"type": "object"} if route.media == "application/json" else {"type": "string"}
