"""Blocks of content in what a client sends, and what they become in a conversation.

A user's message may hold the results of calls beside its own words: each result becomes a turn of its
own, in the order of the blocks. Several texts of one turn are paragraphs of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import Incoming
from daulat.server.wire.images import image
from daulat.server.wire.structure import CallId
from daulat.values.request import Image, Message, Part, ToolCall

ToolName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
PARAGRAPH = "\n\n"


class CacheControl(Incoming, frozen=True, kw_only=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Block(Incoming, frozen=True, kw_only=True, tag_field="type"):
    cache_control: CacheControl | None = None


class Citing(Incoming, frozen=True, kw_only=True):
    enabled: Literal[False] | None = None


NoCitations = Annotated[list[Any], Meta(max_length=0)] | Citing | None


class TextBlock(_Block, frozen=True, kw_only=True, tag="text"):
    """The SDK's own helper for types adds `parsed_output`, which says the text again."""

    text: str
    citations: NoCitations = None
    parsed_output: Any = None


class Base64Source(Incoming, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Annotated[str, Meta(min_length=1)]


class UrlSource(Incoming, frozen=True, kw_only=True, tag_field="type", tag="url"):
    url: str


class ImageBlock(_Block, frozen=True, kw_only=True, tag="image"):
    source: Base64Source | UrlSource
    transformations: None = None

    def to_image(self, param: str) -> Image:
        """Raises RequestError: not a sound picture or address."""
        source = self.source
        if isinstance(source, UrlSource):
            return image(source.url, param)
        return image(f"data:{source.media_type};base64,{source.data}", param)


class ToolUseBlock(_Block, frozen=True, kw_only=True, tag="tool_use"):
    id: CallId
    name: ToolName
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    toolset_name: None = None

    def to_call(self) -> ToolCall:
        return ToolCall(self.id, self.name, msgspec.json.encode(self.input).decode())


class ToolResultBlock(_Block, frozen=True, kw_only=True, tag="tool_result"):
    tool_use_id: CallId
    content: str | Annotated[list[TextBlock | ImageBlock], Meta(max_length=1024)] | None = None
    is_error: bool | None = None
    toolset_name: None = None


class ThinkingBlock(_Block, frozen=True, kw_only=True, tag="thinking"):
    """An earlier thought; it is not told to a model again."""

    thinking: str
    signature: str | None = None


class RedactedBlock(_Block, frozen=True, kw_only=True, tag="redacted_thinking"):
    """An earlier thought that nobody here can read."""

    data: str


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedBlock
Blocks = Annotated[list[Block], Meta(max_length=4096)]
Texts = Annotated[list[TextBlock], Meta(max_length=1024)]
FAILED = "Error: "
"""Before the result of a tool that failed (`is_error`)."""


def paragraphs(content: str | Sequence[TextBlock]) -> str:
    if isinstance(content, str):
        return content
    return PARAGRAPH.join(block.text for block in content)


class MessageBody(Incoming, frozen=True, kw_only=True):
    """One turn; a user's may hold the results of calls, an assistant's its calls."""

    role: Literal["user", "assistant", "system"]
    content: str | Blocks

    def to_messages(self, param: str) -> list[Message]:
        """Raises RequestError: a block that does not go with the role."""
        content = self.content
        if isinstance(content, str):
            return [Message(self.role, content)]
        self._check_blocks(content, param)
        if self.role == "user":
            return _user(content, param)
        texts = [block for block in content if isinstance(block, TextBlock)]
        calls = tuple(block.to_call() for block in content if isinstance(block, ToolUseBlock))
        return [Message(self.role, paragraphs(texts), tool_calls=calls)]

    def _check_blocks(self, content: Sequence[Block], param: str) -> None:
        for i, block in enumerate(content):
            if not isinstance(block, _ALLOWED[self.role]):
                where = f"{param}.content[{i}]"
                kind = block.__struct_config__.tag
                raise RequestError(
                    f"`{where}`: a message of the role `{self.role}` has no block of the type "
                    f"`{kind}`.",
                    param=where,
                )


_ALLOWED: dict[str, tuple[type[_Block], ...]] = {
    "user": (TextBlock, ImageBlock, ToolResultBlock),
    "assistant": (TextBlock, ToolUseBlock, ThinkingBlock, RedactedBlock),
    "system": (TextBlock,),
}


def _user(content: Sequence[Block], param: str) -> list[Message]:
    made: list[Message] = []
    own: list[Part] = []
    for i, block in enumerate(content):
        where = f"{param}.content[{i}]"
        match block:
            case ToolResultBlock():
                if own:
                    made.append(_turn("user", own))
                    own = []
                made.append(_result(block, where))
            case TextBlock(text=text):
                own.append(text)
            case ImageBlock():
                own.append(block.to_image(f"{where}.source"))
            case _:
                pass  # `_check_blocks` has refused it
    return [*made, _turn("user", own)] if own or not made else made


def _result(block: ToolResultBlock, param: str) -> Message:
    content = block.content
    parts: list[Part] = [content or ""] if not isinstance(content, list) else []
    for i, part in enumerate(content if isinstance(content, list) else ()):
        where = f"{param}.content[{i}].source"
        parts.append(part.text if isinstance(part, TextBlock) else part.to_image(where))
    if block.is_error:
        first = parts[:1] if parts and isinstance(parts[0], str) else []
        parts = [FAILED + "".join(map(str, first)), *parts[len(first) :]]
    return _turn("tool", parts, block.tool_use_id)


def _turn(role: Literal["user", "tool"], parts: Sequence[Part], call: str | None = None) -> Message:
    texts = [part for part in parts if isinstance(part, str)]
    seen = tuple(parts) if len(texts) < len(parts) else ()
    return Message(role, PARAGRAPH.join(texts), tool_call_id=call, parts=seen)
