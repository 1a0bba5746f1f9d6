"""OpenAI's `POST /v1/responses`, with its typed events.

https://platform.openai.com/docs/api-reference/responses and /responses-streaming. A response is known
to later ones by its id (`previous_response_id`). Not here: built-in tools, background runs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
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
from daulat.endpoints.scripted.reply import Reply, Usage, costs
from daulat.endpoints.scripted.wires import (
    Frames,
    Target,
    encode,
    event,
    split,
    templated,
    text_costs,
)
from daulat.endpoints.scripted.wires.chatlike import call_id, choice
from daulat.endpoints.scripted.wires.openai import error
from daulat.values.tokens import counted

FIELDS: Final = names(
    "model input instructions access_programs background image conversation "
    "context_management include max_output_tokens "
    "max_tool_calls metadata moderation parallel_tool_calls previous_response_id prompt prompt_cache_key "
    "prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
_KEPT: Final = 1000
_CHOICES: Final = frozenset({"auto", "none", "required"})


class Responses:
    """`POST /v1/responses`; it remembers the last 1,000 conversations."""

    name = "openai_responses"

    def __init__(self) -> None:
        self._known: OrderedDict[str, list[str]] = OrderedDict()

    def ask(self, body: Json, target: Target) -> Ask:
        top = Fields(body, "", target.allowed(FIELDS))
        ask = Ask(top.text("model"), stream=top.flag("stream"))
        ask.limit = top.number("max_output_tokens", 16)
        self._recall(ask, top)
        instructions = top.text("instructions", "")
        ask.prompt_tokens += counted(instructions)
        if isinstance(body.get("input"), str):
            ask.heard(top.text("input"), user=True)
        else:
            for index, item in enumerate(top.items("input", required=True)):
                _hear(ask, Fields(item, f"input[{index}]"))
        _hear_tools(ask, top)
        ask.choice = choice(body.get("tool_choice"), ask.tools, _CHOICES)
        ask.parallel = top.flag("parallel_tool_calls", True)
        ask.schema = _schema(top)
        return ask

    def _recall(self, ask: Ask, top: Fields) -> None:
        before = top.text("previous_response_id", "")
        if not before:
            return
        if before not in self._known:
            words = f"Previous response with id '{before[:128]}' not found."
            raise TroubleError("invalid", words, "previous_response_id")
        for text in self._known[before]:
            ask.heard(text)

    def _remember(self, ask: Ask, reply: Reply, ident: str) -> None:
        said = reply.text + "".join(call.name + call.arguments for call in reply.calls)
        self._known[f"resp_{ident}"] = [*ask.texts, said]
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        self._remember(ask, reply, ident)
        return encode(_body(ask, reply, ident, _items(reply, ident)))

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        self._remember(ask, reply, ident)
        log = _Events()
        begun = _body(ask, None, ident, [])
        opening = log("response.created", response=begun) + log(
            "response.in_progress", response=begun
        )
        found: list[bytes] = []
        tokens: list[int] = []
        items = _items(reply, ident)
        pending = b""
        for index, item in enumerate(items):
            head, events, weights, tail = _item_events(log, index, item, reply, tiny)
            pending += head
            if events:
                events[0] = pending + events[0]
                pending = b""
            found += events
            tokens += weights
            pending += tail
        end = "response.completed" if reply.finish != "length" else "response.incomplete"
        end = "response.incomplete" if reply.finish == "filtered" else end
        closing = pending + log(end, response=_body(ask, reply, ident, items))
        broken = log("error", code="server_error", message=_BROKEN, param=None)
        place: Json = {
            "item_id": f"msg_{ident}",
            "output_index": 0,
            "content_index": 0,
            "logprobs": [],
        }

        def more(text: str) -> bytes:
            return log("response.output_text.delta", **place, delta=text)

        if not found:
            opening, closing = opening + pending, closing.removeprefix(pending)
        return Frames(opening, found, tokens, closing, b"", more, broken)

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble, target)


_BROKEN: Final = "The server had an error while processing your request. Sorry about that!"


class _Events:
    """Events with running numbers."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = -1

    def __call__(self, kind: str, **fields: Any) -> bytes:
        self.number += 1
        return event(kind, {"type": kind, "sequence_number": self.number, **fields})


def _hear(ask: Ask, item: Fields) -> None:
    match item.text("type", "message"):
        case "message":
            role = item.text("role")
            if role not in ("user", "assistant", "system", "developer"):
                raise TroubleError("invalid", f"Invalid value: '{role}'.", f"{item.what}.role")
            ask.heard(_content(ask, item), user=role == "user")
        case "function_call":
            ask.heard(item.text("name") + item.text("arguments", ""))
        case "function_call_output":
            item.text("call_id")
            output = item.body.get("output")
            ask.heard(
                output if isinstance(output, str) else _content(ask, item, "output"), reply=True
            )
        case "reasoning" | "item_reference":
            pass
        case other:
            raise TroubleError("invalid", f"Invalid value: '{other}'.", f"{item.what}.type")


def _content(ask: Ask, item: Fields, name: str = "content") -> str:
    content = item.body.get(name)
    if isinstance(content, str):
        return content
    found: list[str] = []
    for index, one in enumerate(item.items(name, required=True)):
        part = Fields(one, f"{item.what}.{name}[{index}]")
        kind = part.text("type")
        if kind in ("input_text", "output_text"):
            found.append(part.text("text", ""))
        elif kind == "refusal":
            found.append(part.text("refusal", ""))
        elif kind in ("input_image", "input_file", "input_audio"):
            ask.prompt_tokens += MEDIA_TOKENS
        else:
            raise TroubleError("invalid", f"Invalid value: '{kind}'.", f"{part.what}.type")
    return "".join(found)


def _hear_tools(ask: Ask, top: Fields) -> None:
    found: list[tuple[Tool, str]] = []
    for index, item in enumerate(top.items("tools")):
        tool = Fields(item, f"tools[{index}]")
        if tool.text("type") != "function":
            raise TroubleError("invalid", "Only functions are scripted.", f"tools[{index}].type")
        schema = tool.part("parameters")
        one = Tool(tool.text("name"), schema.body if schema else {})
        found.append((one, tool.text("description", "")))
    tools_heard(ask, found)


def _schema(top: Fields) -> Json | None:
    text = top.part("text")
    wanted = text.part("format") if text else None
    if wanted is None:
        return None
    match wanted.text("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object", "properties": {"answer": {}}, "required": ["answer"]}
        case "json_schema":
            wanted.text("name")
            schema = wanted.part("schema")
            if schema is None:
                raise TroubleError("invalid", "Missing 'schema'.", "text.format.schema")
            return schema.body
        case other:
            raise TroubleError("invalid", f"Invalid value: '{other}'.", "text.format.type")


def _items(reply: Reply, ident: str) -> list[Json]:
    """The output: a message, or calls."""
    found: list[Json] = []
    if reply.text or not reply.calls:
        part = _part(reply, reply.text)
        content = [part] if reply.text else []
        status = "incomplete" if reply.finish in ("length", "filtered") else "completed"
        found.append(
            {
                "id": f"msg_{ident}",
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": content,
            }
        )
    for index, call in enumerate(reply.calls):
        found.append(
            {
                "id": f"fc_{ident}_{index}",
                "type": "function_call",
                "status": "completed",
                "call_id": call_id(ident, index),
                "name": call.name,
                "arguments": call.arguments,
            }
        )
    return found


def _part(reply: Reply, text: str) -> Json:
    if reply.finish == "refused":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item_events(
    log: _Events, place: int, item: Json, reply: Reply, tiny: bool
) -> tuple[bytes, list[bytes], list[int], bytes]:
    """What opens an item of the output, its content events and their tokens, what closes it."""
    at: Json = {"item_id": item["id"], "output_index": place}
    if item["type"] == "function_call":
        empty = {**item, "status": "in_progress", "arguments": ""}
        named = log("response.output_item.added", output_index=place, item=empty)
        texts = split(item["arguments"], tiny)
        events = [log("response.function_call_arguments.delta", **at, delta=text) for text in texts]
        done = {"name": item["name"], "arguments": item["arguments"]}
        tail = log("response.function_call_arguments.done", **at, **done)
        tail += log("response.output_item.done", output_index=place, item=item)
        return b"", [named, *events], [counted(item["name"]), *costs(texts)], tail
    empty: Json = {**item, "status": "in_progress", "content": []}
    head = log("response.output_item.added", output_index=place, item=empty)
    if not reply.text:
        return head, [], [], log("response.output_item.done", output_index=place, item=item)
    at["content_index"] = 0
    head += log("response.content_part.added", **at, part=_part(reply, ""))
    kind = "refusal" if reply.finish == "refused" else "output_text"
    extra: Json = {} if kind == "refusal" else {"logprobs": []}
    events = _text_events(log, f"response.{kind}.delta", {**at, **extra}, reply)
    final: Json = (
        {"refusal": reply.text} if kind == "refusal" else {"text": reply.text, "logprobs": []}
    )
    tail = log(f"response.{kind}.done", **at, **final)
    tail += log("response.content_part.done", **at, part=_part(reply, reply.text))
    tail += log("response.output_item.done", output_index=place, item=item)
    return head, events, list(text_costs(reply.text)), tail


def _text_events(log: _Events, kind: str, at: Json, reply: Reply) -> list[bytes]:
    first = log.number + 1
    log.number += len(reply.pieces)
    before, behind = templated(
        lambda text: event(kind, {"type": kind, "sequence_number": 0, **at, "delta": text})
    )
    start, number, rest = before.partition(b'"sequence_number":')
    rest = rest.removeprefix(b"0")
    return [
        b"%b%b%d%b%b%b" % (start, number, first + index, rest, encode(piece), behind)
        for index, piece in enumerate(reply.pieces)
    ]


def usage_body(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_written,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _body(ask: Ask, reply: Reply | None, ident: str, items: list[Json]) -> Json:
    """The response object; without a reply, as it begins."""
    status, why = "in_progress", None
    if reply is not None:
        status = {"length": "incomplete", "filtered": "incomplete", None: "in_progress"}.get(
            reply.finish, "completed"
        )
        why = {"length": "max_output_tokens", "filtered": "content_filter"}.get(reply.finish or "")
    body: Json = {
        "id": f"resp_{ident}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": why} if why else None,
        "instructions": None,
        "max_output_tokens": ask.limit,
        "model": ask.model,
        "output": items,
        "parallel_tool_calls": ask.parallel,
        "previous_response_id": None,
        "store": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": {},
    }
    if reply is None or reply.told == "null":
        return body | {"usage": None}
    return body | ({"usage": usage_body(reply.told)} if isinstance(reply.told, Usage) else {})
