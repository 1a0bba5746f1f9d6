"""The requests of Anthropic's messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import Count, Incoming, Label, Name, StopTexts
from daulat.server.wire.fields import Tables
from daulat.server.wire.images import check_number
from daulat.server.wire.messages.blocks import (
    CacheControl,
    MessageBody,
    Texts,
    ToolName,
    paragraphs,
)
from daulat.server.wire.messages.fields import ANTHROPIC
from daulat.server.wire.structure import MAX_TOOLS, Description, SchemaObject, boxed
from daulat.values.request import ChatRequest, Message, Sampling, Structure, Tool, Toolbox

_EFFORTS = {"max": "xhigh"}  # OpenAI's word for the most, which `hints` have


class CustomTool(Incoming, frozen=True, kw_only=True):
    """One of the client's own tools."""

    type: Literal["custom"] | None = None
    name: ToolName
    input_schema: SchemaObject
    description: Description | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    # refused but for these values, see `fields.REFUSED_IN_TOOLS`
    allowed_callers: Annotated[list[Literal["direct"]], Meta(max_length=1)] | None = None
    defer_loading: Literal[False] | None = None
    input_examples: Annotated[list[Any], Meta(max_length=0)] | None = None


class _Choice(Incoming, frozen=True, kw_only=True, tag_field="type"):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(_Choice, frozen=True, kw_only=True, tag="auto"):
    """The model decides."""


class AnyChoice(_Choice, frozen=True, kw_only=True, tag="any"):
    """A tool must be called."""


class NamedChoice(_Choice, frozen=True, kw_only=True, tag="tool"):
    """This tool must be called."""

    name: ToolName


class NoChoice(Incoming, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """No tool may be called."""


class SchemaOutput(Incoming, frozen=True, kw_only=True):
    type: Literal["json_schema"]
    schema: SchemaObject


class OutputConfig(Incoming, frozen=True, kw_only=True):
    """`effort` is a hint on how long to think."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: SchemaOutput | None = None


class Metadata(Incoming, frozen=True, kw_only=True):
    user_id: Label | None = None


class NoThinking(Incoming, frozen=True, kw_only=True):
    type: Literal["disabled"]


class CountBody(Incoming, frozen=True, kw_only=True):
    """`POST /v1/messages/count_tokens`: the conversation alone."""

    tables: ClassVar[Tables] = ANTHROPIC

    model: Name
    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=4096)]
    system: str | Texts | None = None
    tools: Annotated[list[CustomTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    output_config: OutputConfig | None = None
    output_format: SchemaOutput | None = None
    # harmless, see `fields.HARMLESS`
    cache_control: CacheControl | None = None
    speed: Label | None = None
    user_profile_id: Label | None = None
    workspace_id: Label | None = None
    # refused but for these values, see `fields.REFUSED`
    thinking: NoThinking | None = None
    context_management: None = None
    mcp_servers: Annotated[list[Any], Meta(max_length=0)] | None = None

    def to_request(self) -> ChatRequest:
        """Raises RequestError: two fields contradict each other, or a result has no call."""
        effort = self.output_config.effort if self.output_config else None
        return ChatRequest(
            model=self.model,
            messages=self._messages(),
            tools=self._toolbox(),
            structure=self._structure(),
            hints={"reasoning_effort": _EFFORTS.get(effort, effort)} if effort else {},
        )

    def _messages(self) -> tuple[Message, ...]:
        made = [] if self.system is None else [Message("system", paragraphs(self.system))]
        called: set[str] = set()
        for i, body in enumerate(self.messages):
            param = f"messages[{i}]"
            for message in body.to_messages(param):
                called.update(call.id for call in message.tool_calls)
                if message.tool_call_id is not None and message.tool_call_id not in called:
                    raise RequestError(
                        f"`{param}`: `tool_use_id` names no call of an earlier message.",
                        param=param,
                    )
                made.append(message)
        if self.messages[-1].role == "assistant":
            param = f"messages[{len(self.messages) - 1}]"
            raise RequestError(
                f"`{param}`: an answer that has begun is not gone on with: let the last message be "
                "the user's.",
                param=param,
            )
        check_number(tuple(made), "messages")
        return tuple(made)

    def _toolbox(self) -> Toolbox | None:
        offered = [
            Tool(tool.name, tool.description, tool.input_schema, tool.strict)
            for tool in self.tools or ()
        ]
        parallel = not getattr(self.tool_choice, "disable_parallel_tool_use", False)
        match self.tool_choice:
            case NamedChoice(name=name):
                return boxed(offered, "required", name, parallel, "name")
            case AnyChoice():
                return boxed(offered, "required", None, parallel, "name")
            case NoChoice():
                return boxed(offered, "none", None, True, "name")
            case AutoChoice() | None:
                return boxed(offered, "auto", None, parallel, "name")

    def _structure(self) -> Structure | None:
        found = self.output_config.format if self.output_config else None
        if found and self.output_format:
            raise RequestError(
                "`output_format` and `output_config.format` both ask for a form: send one of them.",
                param="output_format",
            )
        if found:
            return Structure("json", found.schema, "output_config.format.schema", "answer", True)
        if self.output_format:
            schema = self.output_format.schema
            return Structure("json", schema, "output_format.schema", "answer", True)
        return None


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Count
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    stop_sequences: StopTexts | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    # harmless, see `fields.HARMLESS`
    service_tier: Label | None = None
    inference_geo: Label | None = None
    diagnostics: dict[str, Any] | None = None
    # refused but for these values, see `fields.REFUSED`
    container: None = None
    thread: None = None

    def to_request(self) -> ChatRequest:
        """Raises RequestError: as `CountBody.to_request`."""
        asked = super().to_request()
        return replace(
            asked,
            sampling=self._sampling(),
            user=self.metadata.user_id if self.metadata else None,
            stream=bool(self.stream),
        )

    def _sampling(self) -> Sampling:
        given: dict[str, Any] = {
            name: value
            for name in ("temperature", "top_p", "top_k")
            if (value := getattr(self, name)) is not None
        }
        return Sampling(max_tokens=self.max_tokens, stop=tuple(self.stop_sequences or ()), **given)
