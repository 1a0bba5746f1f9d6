"""What asks for a form: `response_format`, `structured_outputs`, `tools`, `tool_choice`.

Bounds and forms only; whether a schema or grammar can be kept to is the endpoint's to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import Incoming, Outgoing
from daulat.values.request import Structure, Tool, Toolbox, ToolCall

FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str, Meta(max_length=8192)]
SchemaObject = Annotated[dict[str, Any], Meta(description="A JSON schema.")]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]

MAX_TOOLS = 128


# --- tools ----------------------------------------------------------------------------------------


class FunctionBody(Incoming, frozen=True, kw_only=True):
    """`strict` is for endpoints elsewhere: here arguments always validate."""

    name: FunctionName
    description: Description | None = None
    parameters: SchemaObject | None = None
    strict: bool | None = None

    def to_tool(self) -> Tool:
        return Tool(self.name, self.description, self.parameters, self.strict)


class ToolBody(Incoming, frozen=True, kw_only=True):
    type: Literal["function"]
    function: FunctionBody


class ChosenFunction(Incoming, frozen=True, kw_only=True):
    name: FunctionName


class ChosenTool(Incoming, frozen=True, kw_only=True):
    type: Literal["function"]
    function: ChosenFunction


class CalledFunction(Incoming, frozen=True, kw_only=True):
    """The SDK's own helper for types adds `parsed_arguments`, which says the same again."""

    name: FunctionName
    arguments: Annotated[str, Meta(max_length=1_000_000)]
    parsed_arguments: Any = None


class ToolCallBody(Incoming, frozen=True, kw_only=True):
    """A call in an assistant's message. The SDK's own streaming helper adds `index`."""

    id: CallId
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None

    def to_call(self, param: str) -> ToolCall:
        """Raises RequestError: arguments that are no JSON object."""
        text = arguments(self.function.arguments, f"{param}.function.arguments")
        return ToolCall(self.id, self.function.name, text)


def arguments(text: str, param: str) -> str:
    """A call's arguments; of none, an empty object.

    Raises:
        RequestError: no JSON object.
    """
    try:
        value: object = json.loads(text) if text.strip() else {}
        sound = isinstance(value, dict)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise RequestError(f"`{param}` must be a JSON object as text.", param=param)
    return text if text.strip() else "{}"


Tools = Annotated[list[ToolBody], Meta(max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | ChosenTool


def toolbox(
    tools: Sequence[ToolBody] | None, choice: ToolChoice | None, parallel: bool | None
) -> Toolbox | None:
    """The tools and how they may be used; None: there are none.

    Raises:
        RequestError: two tools of one name, or a choice of what is not there.
    """
    offered = [tool.function.to_tool() for tool in tools or ()]
    if isinstance(choice, ChosenTool):
        choice, named = "required", choice.function.name
    else:
        named = None
    return boxed(offered, choice or "auto", named, parallel is not False, "function.name")


def boxed(
    offered: Sequence[Tool],
    choice: Literal["auto", "none", "required"],
    named: str | None,
    parallel: bool,
    at: str,
) -> Toolbox | None:
    """Tools of any dialect, where a tool's name stands `at` a field of it; None: there are none.

    Raises:
        RequestError: two tools of one name, or a choice of what is not there.
    """
    names: set[str] = set()
    for place, tool in enumerate(offered):
        if tool.name in names:
            param = f"tools[{place}].{at}"
            raise RequestError(f"`{param}`: there are two tools of this name.", param=param)
        names.add(tool.name)
    if named is not None and named not in names:
        raise RequestError(
            "`tool_choice` names a tool that is not in `tools`.", param="tool_choice"
        )
    if choice == "required" and not offered:
        raise RequestError(
            "`tool_choice` asks for a call: that needs `tools`.", param="tool_choice"
        )
    return Toolbox(tuple(offered), choice, named, parallel) if offered else None


# --- forms of an answer ---------------------------------------------------------------------------


class TextFormat(Incoming, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(Incoming, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class NamedSchema(Incoming, frozen=True, kw_only=True):
    """`strict` is for endpoints elsewhere: here the answer always validates."""

    name: FunctionName
    description: Description | None = None
    schema: SchemaObject | None = None
    strict: bool | None = None

    def to_structure(self, param: str) -> Structure:
        """`param`: the field that has the schema."""
        return named_schema(self.name, self.description, self.schema, self.strict, param)


class JsonSchemaFormat(Incoming, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that validates against a schema."""

    json_schema: NamedSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StructuredOutputs(Incoming, frozen=True, kw_only=True):
    """vLLM's extension; one of the four."""

    json: SchemaObject | None = None
    regex: Annotated[str, Meta(max_length=2048)] | None = None
    choice: (
        Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=1024)]],
            Meta(min_length=1, max_length=1000),
        ]
        | None
    ) = None
    grammar: Annotated[str, Meta(min_length=1, max_length=65_536)] | None = None

    def to_structure(self) -> Structure:
        """Raises RequestError: none of the four, or several."""
        given = {
            name: value
            for name in ("json", "regex", "choice", "grammar")
            if (value := getattr(self, name)) is not None
        }
        if len(given) != 1:
            raise RequestError(
                "`structured_outputs` must have one of `json`, `regex`, `choice` and `grammar`.",
                param="structured_outputs",
            )
        ((name, value),) = given.items()
        kind = cast("Literal['json', 'regex', 'choice', 'grammar']", name)
        source = tuple(value) if kind == "choice" else value
        return Structure(kind, source, f"structured_outputs.{name}")


def structure(
    response_format: ResponseFormat | None, extension: StructuredOutputs | None
) -> Structure | None:
    """The form that an answer must have; None: any text.

    Raises:
        RequestError: both fields ask for one.
    """
    asked = _formatted(response_format)
    if extension is None:
        return asked
    if asked is not None:
        raise RequestError(
            "`response_format` and `structured_outputs` both ask for a form: send one of them.",
            param="structured_outputs",
        )
    return extension.to_structure()


def _formatted(response_format: ResponseFormat | None) -> Structure | None:
    match response_format:
        case JsonObjectFormat():
            return Structure("json", {"type": "object"}, "response_format")
        case JsonSchemaFormat(json_schema=named):
            return named.to_structure("response_format.json_schema.schema")
        case TextFormat() | None:
            return None


def named_schema(
    name: str,
    description: str | None,
    schema: SchemaObject | None,
    strict: bool | None,
    param: str,
) -> Structure:
    """A JSON schema with the name that its client gave it; its description goes into the schema."""
    told = {} if description is None else {"description": description}
    return Structure("json", {**told, **(schema or {})}, param, name, strict)


# --- calls in answers -----------------------------------------------------------------------------


class FunctionCall(Outgoing, frozen=True, kw_only=True):
    name: str
    arguments: str


class MadeCall(Outgoing, frozen=True, kw_only=True):
    """A call in a whole answer."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class FunctionDelta(Outgoing, omit_defaults=True, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str | None = None


class CallDelta(Outgoing, omit_defaults=True, frozen=True, kw_only=True):
    """A part of a call in a stream: first id, type and name, then stretches of the arguments."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta
