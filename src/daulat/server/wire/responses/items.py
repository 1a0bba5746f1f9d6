"""Items of a response's input, and the conversation that they are.

A call goes into the assistant's turn before it, so that its words and calls are one turn as in a chat.
What a model has thought (`reasoning`) is not told to a model again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import Incoming, Label
from daulat.server.wire.images import Detail, image
from daulat.server.wire.structure import CallId, FunctionName, arguments
from daulat.values.request import Image, Message, Part, ToolCall


class _Part(Incoming, frozen=True, kw_only=True, tag_field="type"):
    """A part of an item's content."""


class InputText(_Part, frozen=True, kw_only=True, tag="input_text"):
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputImage(_Part, frozen=True, kw_only=True, tag="input_image"):
    """An https address, or a `data:` URL of a PNG, JPEG, WebP or GIF picture."""

    image_url: str | None = None
    detail: Detail | None = None
    file_id: None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None

    def to_image(self, param: str) -> Image:
        """Raises RequestError: no address, or not a sound one."""
        if self.image_url is None:
            raise RequestError(f"The field `{param}.image_url` is missing: add it.", param=param)
        return image(self.image_url, param, self.detail)


class GivenText(_Part, frozen=True, kw_only=True, tag="output_text"):
    """Text of an earlier answer, as it was given."""

    text: str
    annotations: Annotated[list[Any], Meta(max_length=1024)] | None = None
    logprobs: Annotated[list[Any], Meta(max_length=1_000_000)] | None = None
    parsed: Any = None


class GivenRefusal(_Part, frozen=True, kw_only=True, tag="refusal"):
    refusal: str


class GivenThought(_Part, frozen=True, kw_only=True, tag="reasoning_text"):
    text: str


AnyPart = InputText | InputImage | GivenText | GivenRefusal | GivenThought
Parts = Annotated[list[AnyPart], Meta(max_length=1024)]

_FIELDS: dict[str, tuple[str, ...]] = {
    "message": ("role", "content", "phase"),
    "function_call": ("call_id", "name", "arguments", "caller", "parsed_arguments"),
    "function_call_output": ("call_id", "output", "name", "caller"),
    "reasoning": ("summary", "content", "encrypted_content"),
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}
_OF_ALL = ("type", "id", "status")


class DirectCaller(Incoming, frozen=True, kw_only=True):
    type: Literal["direct"]


class InputItem(Incoming, frozen=True, kw_only=True):
    """A message (the type where none is given), a call, its output, or reasoning (left alone)."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    id: Label | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | Parts | None = None
    phase: Label | None = None
    call_id: CallId | None = None
    name: FunctionName | None = None
    arguments: Annotated[str, Meta(max_length=1_000_000)] | None = None
    parsed_arguments: Any = None
    output: str | Parts | None = None
    summary: Annotated[list[Any], Meta(max_length=1024)] | None = None
    encrypted_content: str | None = None
    # refused but for these values, see `fields.REFUSED_IN_ITEMS`
    caller: DirectCaller | None = None
    namespace: None = None

    def to_message(self, param: str) -> Message | None:
        """What it adds to a conversation; None: nothing.

        Raises:
            RequestError: a field that is missing, or that does not go with the type.
        """
        self._check_fields(param)
        match self.type:
            case "reasoning":
                return None
            case "message":
                role = self.role or "user"
                text, parts = _content(self.content or "", role, f"{param}.content")
                return Message(role, text, parts=parts)
            case "function_call":
                given = arguments(self.arguments or "", f"{param}.arguments")
                call = ToolCall(self.call_id or "", self.name or "", given)
                return Message("assistant", "", tool_calls=(call,))
            case "function_call_output":
                text, parts = _content(self.output or "", "tool", f"{param}.output")
                return Message("tool", text, tool_call_id=self.call_id, parts=parts)

    def _check_fields(self, param: str) -> None:
        for name in self.__struct_fields__:
            given = getattr(self, name) is not None
            if not given and name in _NEEDED[self.type]:
                raise RequestError(
                    f"The field `{param}.{name}` is missing: add it.", param=f"{param}.{name}"
                )
            if given and name not in (*_OF_ALL, *_FIELDS[self.type]):
                raise RequestError(
                    f"`{param}.{name}`: an item of the type `{self.type}` does not have it.",
                    param=f"{param}.{name}",
                )


_TAKEN: dict[str, tuple[type[_Part], ...]] = {
    "system": (InputText,),
    "developer": (InputText,),
    "user": (InputText, InputImage),
    "assistant": (InputText, GivenText, GivenRefusal),
    "tool": (InputText, InputImage),
}


def _content(given: str | Sequence[AnyPart], role: str, param: str) -> tuple[str, tuple[Part, ...]]:
    """All text, and where there are pictures the parts in their order."""
    if isinstance(given, str):
        return given, ()
    parts: list[Part] = []
    for i, part in enumerate(given):
        where = f"{param}[{i}]"
        if not isinstance(part, _TAKEN[role]):
            kind = part.__struct_config__.tag
            raise RequestError(
                f"`{where}`: nothing of the type `{kind}` goes with the role `{role}`.", param=where
            )
        match part:
            case InputImage():
                parts.append(part.to_image(where))
            case GivenRefusal(refusal=text):
                parts.append(text)
            case InputText(text=text) | GivenText(text=text) | GivenThought(text=text):
                parts.append(text)
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts), tuple(parts) if len(texts) < len(parts) else ()


def conversation(
    items: Sequence[InputItem], earlier: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The turns of `earlier`, then those of the items.

    Raises:
        RequestError: an item is at fault, or an output has no call.
    """
    made = list(earlier)
    called = {call.id for message in earlier for call in message.tool_calls}
    for i, item in enumerate(items):
        message = item.to_message(f"input[{i}]")
        if message is None:
            continue
        if message.tool_call_id is not None and message.tool_call_id not in called:
            param = f"input[{i}].call_id"
            raise RequestError(f"`{param}` names no call of an earlier item.", param=param)
        called.update(call.id for call in message.tool_calls)
        if message.tool_calls and made and made[-1].role == "assistant":
            calls = made[-1].tool_calls + message.tool_calls
            made[-1] = replace(made[-1], tool_calls=calls)
        else:
            made.append(message)
    return tuple(made)
