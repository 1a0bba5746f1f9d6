"""Messages, tools and formats in OpenAI's shape, which watsonx.ai shares."""

from __future__ import annotations

from typing import Any, Final

from daulat.endpoints.scripted.ask import (
    MEDIA_TOKENS,
    Ask,
    Fields,
    Json,
    Tool,
    TroubleError,
    names,
    tools_heard,
)
from daulat.endpoints.scripted.reply import Reply, Told, Usage
from daulat.endpoints.scripted.script import Call

_ROLES: Final = frozenset(
    {"system", "developer", "user", "assistant", "tool", "function", "control"}
)
_MEDIA: Final = frozenset({"image_url", "input_audio", "file", "video_url"})
_MESSAGE: Final = names(
    "role content name tool_calls tool_call_id refusal audio function_call annotations "
    "reasoning_content"
)
FINISH: Final[dict[str | None, str | None]] = {
    None: None,
    "stop": "stop",
    "stop_text": "stop",
    "length": "length",
    "calls": "tool_calls",
    "filtered": "content_filter",
    "refused": "stop",
}


def hear_messages(ask: Ask, items: list[Any], strict: bool) -> None:
    """Take in `messages`.

    Raises:
        TroubleError: one is not as it must be.
    """
    for index, item in enumerate(items):
        message = Fields(item, f"messages[{index}]", _MESSAGE if strict else None)
        role = message.text("role")
        if role not in _ROLES:
            raise TroubleError("invalid", f"Invalid value: '{role}'.", f"messages[{index}].role")
        if role == "tool":
            message.text("tool_call_id")
        text = _content(ask, message)
        for place, call in enumerate(message.items("tool_calls")):
            function = Fields(call, f"messages[{index}].tool_calls[{place}]").part("function")
            if function is None:
                raise TroubleError("invalid", "Missing required parameter: 'function'.", "messages")
            text += function.text("name") + function.text("arguments", "")
        ask.heard(text, user=role == "user", reply=role == "tool")


def _content(ask: Ask, message: Fields) -> str:
    content = message.body.get("content")
    if content is None or isinstance(content, str):
        if content is None and message.body["role"] in ("user", "system", "developer"):
            raise message.missing("content")
        return content or ""
    found: list[str] = []
    for index, item in enumerate(message.items("content")):
        part = Fields(item, f"{message.what}.content[{index}]")
        kind = part.text("type")
        if kind in ("text", "refusal"):
            found.append(part.text(kind, ""))
        elif kind in _MEDIA:
            ask.prompt_tokens += MEDIA_TOKENS
        else:
            raise TroubleError("invalid", f"Invalid value: '{kind}'.", f"{part.what}.type")
    return "".join(found)


def hear_tools(ask: Ask, body: Fields) -> None:
    """Take in `tools`."""
    found: list[tuple[Tool, str]] = []
    for index, item in enumerate(body.items("tools")):
        tool = Fields(item, f"tools[{index}]")
        if tool.text("type") != "function":
            raise TroubleError("invalid", "Only functions are scripted.", f"tools[{index}].type")
        function = tool.part("function")
        if function is None:
            raise TroubleError("invalid", "Missing required parameter: 'function'.", tool.what)
        schema = function.part("parameters")
        found.append(
            (
                Tool(function.text("name"), schema.body if schema else {}),
                function.text("description", ""),
            )
        )
    tools_heard(ask, found)


def choice(value: Any, tools: tuple[Tool, ...], words: frozenset[str]) -> str:
    """What `tool_choice` says: one of the words or a tool's name."""
    if value is None:
        return "auto"
    if isinstance(value, str) and value in words:
        return value
    if not isinstance(value, str):
        told = Fields(value, "tool_choice")
        name = (told.part("function") or told).text("name")
        if any(tool.name == name for tool in tools):
            return name
    raise TroubleError("invalid", "Invalid value for 'tool_choice'.", "tool_choice")


def schema_of(body: Fields) -> Json | None:
    """The schema that `response_format` demands; any object for `json_object`."""
    wanted = body.part("response_format")
    if wanted is None:
        return None
    match wanted.text("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object", "properties": {"answer": {}}, "required": ["answer"]}
        case "json_schema":
            told = wanted.part("json_schema")
            schema = told.part("schema") if told else None
            if told is None or schema is None or not told.text("name"):
                raise TroubleError("invalid", "Missing 'schema'.", "response_format.json_schema")
            return schema.body
        case other:
            raise TroubleError("invalid", f"Invalid value: '{other}'.", "response_format.type")


def calls_body(calls: tuple[Call, ...], ident: str) -> list[Json]:
    """`tool_calls` of a message."""
    return [
        {
            "id": call_id(ident, index),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def call_id(ident: str, index: int) -> str:
    return f"call_{ident}_{index}"


def message_body(reply: Reply, ident: str) -> Json:
    """The assistant's message."""
    refused = reply.finish == "refused"
    message: Json = {
        "role": "assistant",
        "content": None if refused or (reply.calls and not reply.text) else reply.text,
        "refusal": reply.text if refused else None,
        "annotations": [],
    }
    if reply.calls:
        message["tool_calls"] = calls_body(reply.calls, ident)
    return message


def usage_field(told: Told, make: Any) -> Json:
    """`{"usage": …}`, or nothing where there is none."""
    if told == "absent":
        return {}
    return {"usage": make(told) if isinstance(told, Usage) else None}
