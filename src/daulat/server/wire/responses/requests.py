"""`POST /v1/responses`: its request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import (
    Count,
    Incoming,
    Label,
    Name,
    Nothing,
    StreamOptions,
)
from daulat.server.wire.fields import Tables
from daulat.server.wire.images import check_number
from daulat.server.wire.responses.answers import Echo
from daulat.server.wire.responses.fields import RESPONSES
from daulat.server.wire.responses.items import InputItem, conversation
from daulat.server.wire.structure import (
    MAX_TOOLS,
    Description,
    FunctionName,
    JsonObjectFormat,
    SchemaObject,
    TextFormat,
    boxed,
    named_schema,
)
from daulat.values.request import ChatRequest, Message, Sampling, Structure, Tool, Toolbox

ResponseId = Annotated[str, Meta(min_length=1, max_length=64)]
WITH_LOGPROBS = "message.output_text.logprobs"


class FunctionTool(Incoming, frozen=True, kw_only=True):
    """One of the client's own functions."""

    type: Literal["function"]
    name: FunctionName
    parameters: SchemaObject | None = None
    description: Description | None = None
    strict: bool | None = None
    # refused but for these values, see `fields.REFUSED_IN_TOOLS`
    allowed_callers: Annotated[list[Literal["direct"]], Meta(max_length=1)] | None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None


class NamedFunction(Incoming, frozen=True, kw_only=True):
    type: Literal["function"]
    name: FunctionName


class SchemaFormat(Incoming, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that validates against a schema."""

    name: FunctionName
    schema: SchemaObject
    description: Description | None = None
    strict: bool | None = None


class TextConfig(Incoming, frozen=True, kw_only=True):
    """`verbosity` is a hint on length."""

    format: TextFormat | JsonObjectFormat | SchemaFormat | None = None
    verbosity: Label | None = None


class Reasoning(Incoming, frozen=True, kw_only=True):
    effort: Label | None = None
    summary: Label | None = None
    generate_summary: Label | None = None


class ResponsesBody(Incoming, frozen=True, kw_only=True):
    tables: ClassVar[Tables] = RESPONSES

    model: Name
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    store: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: Annotated[list[Label], Meta(max_length=16)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    metadata: Annotated[dict[str, Label], Meta(max_length=16)] | None = None
    stream: bool | None = None
    user: Label | None = None
    # harmless, see `fields.HARMLESS`
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: dict[str, Any] | None = None
    reasoning: Reasoning | None = None
    max_tool_calls: Count | None = None
    stream_options: StreamOptions | None = None
    # refused but for these values, see `fields.REFUSED`
    background: Literal[False] | None = None
    conversation: None = None
    prompt: None = None
    truncation: Literal["disabled"] | None = None
    context_management: Nothing | None = None
    moderation: None = None

    def to_request(self, earlier: Sequence[Message] = ()) -> ChatRequest:
        """`earlier`: the conversation that `previous_response_id` stands for.

        Raises:
            RequestError: two fields contradict each other, or an item is at fault.
        """
        box, form = self._toolbox(), self._structure()
        return ChatRequest(
            model=self.model,
            messages=self._messages(earlier),
            sampling=self._sampling(),
            user=self.user,
            tools=box,
            structure=form,
            stream=bool(self.stream),
            hints=self._hints(),
            kept={"api": "responses", **msgspec.to_builtins(self.echo())},
        )

    def echo(self) -> Echo:
        """What the response repeats of this."""
        text = self.text or TextConfig()
        form: dict[str, Any] = msgspec.to_builtins(text.format or TextFormat())
        verbosity = {} if text.verbosity is None else {"verbosity": text.verbosity}
        choice = self.tool_choice or "auto"
        return Echo(
            instructions=self.instructions,
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata or {},
            parallel_tool_calls=self.parallel_tool_calls is not False,
            previous_response_id=self.previous_response_id,
            reasoning=msgspec.to_builtins(self.reasoning or Reasoning()),
            store=self.store is not False,
            temperature=1.0 if self.temperature is None else self.temperature,
            text={"format": form, **verbosity},
            tool_choice=msgspec.to_builtins(choice),
            tools=[_tool(tool) for tool in self.tools or ()],
            top_logprobs=self.top_logprobs or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            user=self.user,
        )

    def _messages(self, earlier: Sequence[Message]) -> tuple[Message, ...]:
        told = [Message("system", self.instructions)] if self.instructions is not None else []
        if isinstance(self.input, str):
            messages = (*told, *earlier, Message("user", self.input))
        else:
            messages = (*told, *conversation(self.input, earlier))
        if not messages:
            raise RequestError("`input` has nothing to answer: add a message.", param="input")
        check_number(messages, "input")
        return messages

    def _sampling(self) -> Sampling:
        given: dict[str, Any] = {
            name: value
            for name in ("temperature", "top_p")
            if (value := getattr(self, name)) is not None
        }
        wanted = WITH_LOGPROBS in (self.include or ()) or self.top_logprobs is not None
        logprobs = self.top_logprobs or 0 if wanted else None
        return Sampling(max_tokens=self.max_output_tokens, logprobs=logprobs, **given)

    def _hints(self) -> dict[str, Any]:
        told = {
            "reasoning_effort": self.reasoning and self.reasoning.effort,
            "verbosity": self.text and self.text.verbosity,
        }
        return self.hints() | {name: value for name, value in told.items() if value is not None}

    def _toolbox(self) -> Toolbox | None:
        offered = [
            Tool(tool.name, tool.description, tool.parameters, tool.strict)
            for tool in self.tools or ()
        ]
        choice, named = self.tool_choice or "auto", None
        if isinstance(choice, NamedFunction):
            choice, named = "required", choice.name
        return boxed(offered, choice, named, self.parallel_tool_calls is not False, "name")

    def _structure(self) -> Structure | None:
        match self.text and self.text.format:
            case JsonObjectFormat():
                return Structure("json", {"type": "object"}, "text.format")
            case SchemaFormat(name=name, description=told, schema=schema, strict=strict):
                return named_schema(name, told, schema, strict, "text.format.schema")
            case _:
                return None


def _tool(tool: FunctionTool) -> dict[str, Any]:
    """As a response shows it: without what was not said, but for what the SDK's type requires."""
    given: dict[str, Any] = msgspec.to_builtins(tool)
    return {
        name: value
        for name, value in given.items()
        if value is not None or name in ("parameters", "strict")
    }
