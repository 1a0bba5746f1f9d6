"""Anthropic's messages: blocks, typed events, errors, and the counting of tokens.

https://docs.anthropic.com/en/api/messages, /messages-streaming, /errors, /messages-count-tokens.
Not here: thinking blocks, server tools, batches.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from daulat.endpoints.scripted.ask import (
    MEDIA_TOKENS,
    Ask,
    Fields,
    Json,
    Kind,
    Tool,
    TroubleError,
    canonical,
    names,
    tools_heard,
)
from daulat.endpoints.scripted.reply import Reply, Told, Usage, costs
from daulat.endpoints.scripted.wires import Frames, Target, encode, event, filled, split, text_costs
from daulat.values.tokens import counted

FIELDS: Final = names(
    "model messages max_tokens cache_control container context_management diagnostics "
    "inference_geo mcp_servers metadata "
    "output_config output_format service_tier speed stop_sequences stream system temperature thinking "
    "tool_choice tools top_k top_p user_profile_id workspace_id"
)
COUNT_FIELDS: Final = names(
    "model messages cache_control output_config speed system thinking tool_choice tools "
    "user_profile_id workspace_id"
)
_TOOL: Final = names(
    "name description input_schema type cache_control strict input_examples defer_loading allowed_callers "
    "eager_input_streaming"
)
_MEDIA: Final = frozenset({"image", "document"})
_FINISH: Final[dict[str | None, str | None]] = {
    None: None,
    "stop": "end_turn",
    "stop_text": "stop_sequence",
    "length": "max_tokens",
    "calls": "tool_use",
    "filtered": "refusal",
    "refused": "refusal",
}
_ERRORS: Final[dict[Kind, tuple[int, str, str]]] = {
    "invalid": (400, "invalid_request_error", "Invalid request."),
    "unauthorized": (401, "authentication_error", "invalid x-api-key"),
    "unknown_model": (404, "not_found_error", "model: not found"),
    "unknown_route": (404, "not_found_error", "Not found"),
    "rate_limited": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit.",
    ),
    "server_error": (500, "api_error", "Internal server error"),
    "unavailable": (503, "api_error", "Service unavailable"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "context_length": (
        400,
        "invalid_request_error",
        "prompt is too long: 200001 tokens > 200000 maximum",
    ),
    "blocked": (400, "invalid_request_error", "Output blocked by content filtering policy"),
}


def error(trouble: TroubleError) -> tuple[int, bytes]:
    """`{"type": "error", "error": {type, message}, "request_id"}`."""
    status, kind, message = _ERRORS[trouble.kind]
    told = {"type": kind, "message": trouble.message or message}
    return status, encode({"type": "error", "error": told, "request_id": "req_scripted"})


def hear(body: Json, target: Target, *, counting: bool = False) -> Ask:
    """Read a request for a message or for a count.

    Raises:
        TroubleError: it is not as the vendor wants it.
    """
    top = Fields(body, "", target.allowed(COUNT_FIELDS if counting else FIELDS))
    ask = Ask(top.text("model"), stream=top.flag("stream"))
    if not counting:
        ask.limit = top.number("max_tokens", 1)
        if ask.limit is None:
            raise TroubleError("invalid", "max_tokens: Field required", "max_tokens")
    _hear_system(ask, top)
    for index, item in enumerate(top.items("messages", required=True)):
        message = Fields(item, f"messages.{index}", frozenset({"role", "content"}))
        role = message.text("role")
        if role not in ("user", "assistant"):
            words = f"messages.{index}.role: Input should be 'user' or 'assistant'"
            raise TroubleError("invalid", words, f"messages.{index}.role")
        _hear_message(ask, message, role == "user")
    _hear_tools(ask, top)
    ask.stop = top.texts("stop_sequences", 8191)
    ask.schema = _schema(top)
    return ask


def _hear_system(ask: Ask, top: Fields) -> None:
    system = top.body.get("system")
    if isinstance(system, str):
        ask.prompt_tokens += counted(system)
        return
    blocks = [Fields(one, f"system.{at}") for at, one in enumerate(top.items("system"))]
    ask.prompt_tokens += counted("".join(block.text("text") for block in blocks))


def _hear_message(ask: Ask, message: Fields, user: bool) -> None:
    content = message.body.get("content")
    if isinstance(content, str):
        ask.heard(content, user=user)
        return
    found: list[str] = []
    replied = False
    for index, item in enumerate(message.items("content", required=True)):
        block = Fields(item, f"{message.what}.content.{index}")
        kind = block.text("type")
        if kind == "tool_result":
            # Results stand in one message here and in messages of their own elsewhere.
            block.text("tool_use_id")
            ask.heard(_result(ask, block))
            replied = True
        else:
            found.append(_block(ask, block, kind))
    if found or not replied:
        ask.heard("".join(found), user=user and not replied)
    ask.replied = replied


def _block(ask: Ask, block: Fields, kind: str) -> str:
    match kind:
        case "text":
            return block.text("text", "")
        case "tool_use":
            block.text("id")
            given = block.part("input")
            return block.text("name") + canonical(given.body if given else {})
        case "thinking" | "redacted_thinking":
            return ""
        case _ if kind in _MEDIA:
            ask.prompt_tokens += MEDIA_TOKENS
            return ""
        case _:
            words = f"{block.what}: Input tag '{kind}' found using 'type' does not match"
            raise TroubleError("invalid", words, f"{block.what}.type")


def _result(ask: Ask, block: Fields) -> str:
    content = block.body.get("content", "")
    if isinstance(content, str):
        return content
    parts = [Fields(one, f"{block.what}.content") for one in block.items("content")]
    return "".join(_block(ask, part, part.text("type")) for part in parts)


def _hear_tools(ask: Ask, top: Fields) -> None:
    found: list[tuple[Tool, str]] = []
    for index, item in enumerate(top.items("tools")):
        tool = Fields(item, f"tools.{index}", _TOOL)
        schema = tool.part("input_schema")
        if schema is None:
            raise TroubleError("invalid", f"tools.{index}.input_schema: Field required", tool.what)
        found.append((Tool(tool.text("name"), schema.body), tool.text("description", "")))
    tools_heard(ask, found)
    told = top.part("tool_choice", frozenset({"type", "name", "disable_parallel_tool_use"}))
    if told is None:
        return
    ask.parallel = not told.flag("disable_parallel_tool_use")
    kind = told.text("type")
    if kind not in ("auto", "any", "none", "tool"):
        raise TroubleError("invalid", "tool_choice.type: not a choice", "tool_choice.type")
    ask.choice = {"any": "required", "tool": told.text("name", "")}.get(kind, kind)
    if kind == "tool" and all(tool.name != ask.choice for tool in ask.tools):
        raise TroubleError(
            "invalid", f"Tool '{ask.choice}' not found in provided tools", "tool_choice"
        )


def _schema(top: Fields) -> Json | None:
    config = top.part("output_config")
    wanted = (config.part("format") if config else None) or top.part("output_format")
    schema = wanted.part("schema") if wanted else None
    return schema.body if schema else None


def usage_body(told: Told) -> Any:
    """Anthropic counts cached tokens beside the input's, not in it."""
    if not isinstance(told, Usage):
        return None
    return {
        "input_tokens": told.prompt - told.cached - told.cache_written,
        "cache_creation_input_tokens": told.cache_written,
        "cache_read_input_tokens": told.cached,
        "output_tokens": told.completion,
        "output_tokens_details": {"thinking_tokens": told.reasoning},
        "service_tier": "standard",
    }


def _usage_field(told: Told) -> Json:
    return {} if told == "absent" else {"usage": usage_body(told)}


class Messages:
    """`POST /v1/messages`."""

    name = "anthropic"

    def ask(self, body: Json, target: Target) -> Ask:
        return hear(body, target)

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        content: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
        content += [
            {**_tool_use(ident, place, call.name), "input": _input(call.arguments)}
            for place, call in enumerate(reply.calls)
        ]
        body = _message(ask, ident) | {
            "content": content,
            "stop_reason": _FINISH[reply.finish],
            "stop_sequence": reply.stopped_by,
        }
        return encode(body | _usage_field(reply.told))

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        told = reply.told
        begun = told
        if isinstance(told, Usage):
            begun = Usage(told.prompt, min(told.completion, 1), told.cached, told.cache_written)
        start = _message(ask, ident) | _usage_field(begun)
        opening = event("message_start", {"type": "message_start", "message": start})
        opening += event("ping", {"type": "ping"})
        found: list[bytes] = []
        tokens: list[int] = []
        place = 0
        pending = b""
        if reply.text:
            opening += _block_start(0, {"type": "text", "text": ""})
            found += filled(lambda text: _text_delta(0, text), reply.text)
            tokens += text_costs(reply.text)
            pending = _block_stop(0)
            place = 1
        for number, call in enumerate(reply.calls):
            block: Json = {**_tool_use(ident, number, call.name), "input": {}}
            texts = split(call.arguments, tiny)
            found.append(pending + _block_start(place, block))
            found += [_json_delta(place, text) for text in texts]
            tokens += [counted(call.name), *costs(texts)]
            pending = _block_stop(place)
            place += 1
        delta = {"stop_reason": _FINISH[reply.finish], "stop_sequence": reply.stopped_by}
        end = {"type": "message_delta", "delta": delta}
        closing = pending + event("message_delta", end | _usage_field(told))
        done = event("message_stop", {"type": "message_stop"})
        broken = {"type": "overloaded_error", "message": "Overloaded"}
        failed = event("error", {"type": "error", "error": broken, "request_id": "req_scripted"})
        return Frames(
            opening, found, tokens, closing, done, lambda text: _text_delta(0, text), failed
        )

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble)


def _message(ask: Ask, ident: str) -> Json:
    return {
        "id": f"msg_{ident}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _tool_use(ident: str, place: int, name: str) -> Json:
    return {"type": "tool_use", "id": f"toolu_{ident}_{place}", "name": name}


def _input(arguments: str) -> Any:
    """The arguments as an object; text that is none stays a text, which is no object either."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def _block_start(index: int, block: Json) -> bytes:
    return event(
        "content_block_start",
        {"type": "content_block_start", "index": index, "content_block": block},
    )


def _block_stop(index: int) -> bytes:
    return event("content_block_stop", {"type": "content_block_stop", "index": index})


def _text_delta(index: int, text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return event(
        "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    )


def _json_delta(index: int, text: str) -> bytes:
    delta = {"type": "input_json_delta", "partial_json": text}
    return event(
        "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    )
