"""`POST /v1/chat/completions`: its request, its answer, its chunks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import (
    Count,
    Generation,
    Incoming,
    Label,
    Nothing,
    Origin,
    Outgoing,
    UsageBody,
)
from daulat.server.wire.images import Detail, check_number, image
from daulat.server.wire.structure import (
    CallDelta,
    CallId,
    MadeCall,
    ResponseFormat,
    StructuredOutputs,
    ToolCallBody,
    ToolChoice,
    Tools,
    structure,
    toolbox,
)
from daulat.values.answer import FinishReason, TokenLogprob
from daulat.values.request import ChatRequest, Image, Message, Part, ToolCall


class TextPart(Incoming, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class RefusalPart(Incoming, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """What an assistant's message said in place of an answer: a part of its text."""

    refusal: str


class ImageAddress(Incoming, frozen=True, kw_only=True):
    """An https address, or a `data:` URL of a PNG, JPEG, WebP or GIF picture."""

    url: str
    detail: Detail | None = None


class ImagePart(Incoming, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    image_url: ImageAddress


ContentPart = TextPart | RefusalPart | ImagePart


class ChatMessage(Incoming, frozen=True, kw_only=True):
    """One turn. An assistant's may have calls and no content; a tool's says which call it answers.

    What an assistant thought (`reasoning_content`) is not told to a model again; `parsed`, which the SDK's
    own helper for types adds, says its content again.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Meta(max_length=1024)] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    tool_calls: Annotated[list[ToolCallBody], Meta(max_length=128)] | None = None
    tool_call_id: CallId | None = None
    function_call: None = None
    audio: None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    parsed: Any = None
    annotations: Nothing | None = None

    def to_message(self, param: str) -> Message:
        """Raises RequestError: a field that does not go with the role."""
        self._check_role(param)
        content, parts = self._content(param)
        calls = tuple(
            call.to_call(f"{param}.tool_calls[{i}]") for i, call in enumerate(self.tool_calls or ())
        )
        return Message(self.role, content, self.name, calls, self.tool_call_id, parts)

    def _content(self, param: str) -> tuple[str, tuple[Part, ...]]:
        """All text, and where there are pictures the parts in their order."""
        given = self.content
        if given is None or isinstance(given, str):
            return (given or "") + (self.refusal or ""), ()
        parts = tuple(self._part(part, f"{param}.content[{i}]") for i, part in enumerate(given))
        text = "".join(part for part in parts if isinstance(part, str)) + (self.refusal or "")
        return text, parts if any(isinstance(part, Image) for part in parts) else ()

    def _part(self, part: ContentPart, param: str) -> Part:
        match part:
            case TextPart(text=text):
                return text
            case RefusalPart(refusal=text):
                self._only("assistant", "says what it will not", param)
                return text
            case ImagePart(image_url=address):
                self._only("user", "has pictures", param)
                return image(address.url, param, address.detail)

    def _only(self, role: str, what: str, param: str) -> None:
        if self.role != role:
            raise RequestError(
                f"`{param}`: only a message of the role `{role}` {what}.", param=param
            )

    def _check_role(self, param: str) -> None:
        if self.content is None and self.role != "assistant":
            param = f"{param}.content"
            raise RequestError(f"The field `{param}` is missing: add it.", param=param)
        if self.refusal is not None:
            self._only("assistant", "says what it will not", f"{param}.refusal")
        if self.reasoning_content is not None:
            self._only("assistant", "has thoughts", f"{param}.reasoning_content")
        if self.tool_calls and self.role != "assistant":
            param = f"{param}.tool_calls"
            raise RequestError(f"`{param}`: only an assistant's message has calls.", param=param)
        if (self.tool_call_id is None) == (self.role == "tool"):
            param = f"{param}.tool_call_id"
            raise RequestError(
                f"`{param}`: messages of the role `tool` need it, and no others have it.",
                param=param,
            )


class ChatCompletionRequest(Generation, frozen=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    # harmless, see `fields.HARMLESS`
    store: bool | None = None
    metadata: Annotated[dict[str, Label], Meta(max_length=16)] | None = None
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prediction: dict[str, Any] | None = None
    reasoning_effort: Label | None = None
    verbosity: Label | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # refused but for these values, see `fields.REFUSED`
    functions: Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    modalities: Annotated[list[Literal["text"]], Meta(max_length=1)] | None = None
    audio: None = None
    web_search_options: None = None

    def to_request(self) -> ChatRequest:
        """Raises RequestError: two fields contradict each other."""
        return ChatRequest(
            model=self.model,
            messages=self._messages(),
            sampling=self.sampling(max_tokens=self._max_tokens(), logprobs=self._logprobs()),
            user=self.user,
            tools=toolbox(self.tools, self.tool_choice, self.parallel_tool_calls),
            structure=structure(self.response_format, self.structured_outputs),
            stream=bool(self.stream),
            hints=self.hints(),
        )

    def _messages(self) -> tuple[Message, ...]:
        made: list[Message] = []
        called: set[str] = set()
        for i, body in enumerate(self.messages):
            message = body.to_message(f"messages[{i}]")
            called.update(_ids(message.tool_calls))
            if message.tool_call_id is not None and message.tool_call_id not in called:
                param = f"messages[{i}].tool_call_id"
                raise RequestError(
                    f"`{param}` names no call of an earlier assistant message.", param=param
                )
            made.append(message)
        check_number(tuple(made), "messages")
        return tuple(made)

    def _max_tokens(self) -> int | None:
        old, new = self.max_tokens, self.max_completion_tokens
        if old is not None and new is not None and old != new:
            message = (
                f"`max_tokens` is {old} and `max_completion_tokens` is {new}: send one of them."
            )
            raise RequestError(message, param="max_tokens")
        return old if new is None else new

    def _logprobs(self) -> int | None:
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs is not None:
            message = "`top_logprobs` needs `logprobs`: set that to true."
            raise RequestError(message, param="top_logprobs")
        return None


def _ids(calls: tuple[ToolCall, ...]) -> list[str]:
    return [call.id for call in calls]


class TopLogprob(Outgoing, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob, frozen=True, kw_only=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Outgoing, frozen=True, kw_only=True):
    content: list[ChatTokenLogprob]
    refusal: None = None


class AssistantMessage(Outgoing, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[MadeCall] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(Outgoing, frozen=True, kw_only=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    system_fingerprint: str | None
    daulat: Origin


class Delta(Outgoing, omit_defaults=True, frozen=True, kw_only=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChatChunkChoice(Outgoing, frozen=True, kw_only=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Outgoing, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str | None
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    daulat: Origin | msgspec.UnsetType = msgspec.UNSET


def chat_logprobs(tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                token=token.text,
                logprob=token.logprob,
                bytes=list(token.data),
                top_logprobs=[
                    TopLogprob(token=top.text, logprob=top.logprob, bytes=list(top.data))
                    for top in token.top
                ],
            )
            for token in tokens
        ]
    )
