"""Responses that were given before: found, gone on from, deleted.

Their state is the record: a response is the exchange of its id, for the key that it was given to. There is
no other copy, so what the record does not keep cannot be gone on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from daulat.errors import NotFoundError, RequestError
from daulat.record.chain import Entry
from daulat.record.store import CLOSED, Record
from daulat.record.transcript import conversation, reply
from daulat.server.answering import json_response
from daulat.server.calls import Call
from daulat.server.shapes.base import Block
from daulat.server.shapes.responses import items
from daulat.server.wire.responses.answers import (
    DeletedResponse,
    Echo,
    Incomplete,
    ResponseBody,
    ResponseFault,
    response_usage,
)
from daulat.values.answer import Kind, Usage
from daulat.values.request import Message

_LONGEST = 64  # characters of an id
_STATUSES = {"ok": "completed", "error": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A response in the record.

    Attributes:
        closed: None while it is being answered, and where the process died over it.
        request, answer: contents.
    """

    opened: Entry
    closed: Entry | None
    request: Mapping[str, Any]
    answer: Mapping[str, Any]


async def retrieve(call: Call) -> Response:
    """`GET /v1/responses/{response_id}`."""
    found = await _asked(call)
    return json_response(call, await asyncio.to_thread(_body, found))


async def delete(call: Call) -> Response:
    """`DELETE /v1/responses/{response_id}`: its contents go; that there was an exchange stays."""
    found = await _asked(call)
    name = found.opened.subject
    reason = "the client deleted the response"
    await asyncio.to_thread(call.hall.record.redact, name, reason)
    return json_response(call, DeletedResponse(id=name))


async def earlier(call: Call, name: str | None) -> tuple[tuple[Message, ...], str]:
    """The conversation that a response ended, without its instructions, which hold for it alone, and the class
    that was declared for it (empty: none), which its texts keep.

    Raises:
        RequestError: there is none of that name for this key, or it cannot be gone on from.
    """
    if name is None:
        return (), ""
    found = await asyncio.to_thread(_find, call.hall.record, name, call.known.id)
    if isinstance(found, str):
        raise RequestError(
            f"`previous_response_id`: {found} Send the conversation in `input` instead.",
            param="previous_response_id",
        )
    if found.closed is None or found.closed.body.get("status") != "ok":
        raise RequestError(
            "`previous_response_id`: that response is not complete. Name the one before it, and send "
            "its input again.",
            param="previous_response_id",
        )
    told = found.request["kept"]["instructions"] is not None
    turns = (*conversation(found.request)[int(told) :], reply(found.answer))
    return turns, found.opened.body.get("declared", "")


async def _asked(call: Call) -> Stored:
    """The response that the path names.

    Raises:
        RequestError: a query that asks for another form of it.
        NotFoundError: there is none of that name for this key, or it is not kept.
    """
    if call.scope["query_string"].strip(b"&"):
        raise RequestError(
            "A response is given as it is, whole: leave out what is behind the `?`.", param="query"
        )
    name: str = call.scope["path_params"]["response_id"]
    found = await asyncio.to_thread(_find, call.hall.record, name, call.known.id)
    if isinstance(found, str):
        raise NotFoundError(f"{found} Create one with POST /v1/responses.", param="response_id")
    return found


def _find(record: Record, name: str, key: str) -> Stored | str:
    """A response by its id, or why there is none. Another key's are not there."""
    missing = f"There is no response `{name[:_LONGEST]}` of this key."
    exchange = record.exchange(name) if len(name) <= _LONGEST else None
    if exchange is None or exchange.opened.body.get("key") != key:
        return missing
    if exchange.opened.body.get("kind") != "chat":
        return missing
    closed = exchange.closed if exchange.closed and exchange.closed.kind == CLOSED else None
    request = record.contents(exchange.opened).get("request")
    answer = record.contents(closed).get("answer") if closed else None
    if request is None or (closed and answer is None):
        return (
            f"The record does not hold the contents of `{name}`: they were deleted, their time was "
            'over, or it keeps none (`contents = "digests"` in [record]).'
        )
    kept = request.get("kept", {})
    if kept.get("api") != "responses":
        return missing
    if not kept["store"]:
        return f"The response `{name}` was asked for with `store` false."
    return Stored(exchange.opened, closed, request, answer or {})


def _body(found: Stored) -> ResponseBody:
    opened = found.opened.body
    closed: Mapping[str, Any] = found.closed.body if found.closed else {}
    kept = {name: value for name, value in found.request["kept"].items() if name != "api"}
    reasons = closed.get("finish_reasons") or [None]
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(str(reasons[0]))
    status: Any = _STATUSES.get(str(closed.get("status")), "in_progress")
    if status == "completed" and why:
        status = "incomplete"
    fault = ResponseFault(code="server_error", message=f"It failed ({closed.get('error')}).")
    base, adapter = opened["model"], opened.get("adapter")
    usage = closed.get("usage")
    return ResponseBody(
        **msgspec.structs.asdict(msgspec.convert(kept, Echo)),
        id=found.opened.subject,
        created_at=int(datetime.fromisoformat(found.opened.time).timestamp()),
        status=status,
        error=fault if status == "failed" else None,
        incomplete_details=msgspec.convert({"reason": why}, Incomplete) if why else None,
        model=f"{base}:{adapter}" if adapter else base,
        output=items(
            found.opened.subject,
            _blocks(found.answer),
            "incomplete" if why else "completed",
        ),
        usage=response_usage(Usage(**usage)) if usage else None,
    )


def _blocks(answer: Mapping[str, Any]) -> list[Block]:
    said: tuple[tuple[Kind, str], ...] = (
        ("thought", "thoughts"),
        ("text", "choices"),
        ("refusal", "refusals"),
    )
    blocks = [
        Block(kind, parts=[text])
        for kind, name in said
        for text in answer.get(name, ())[:1]
        if text
    ]
    for i, call in enumerate(answer.get("tool_calls", [[]])[0]):
        blocks.append(Block("call", i, call["id"], call["name"], [call["arguments"]]))
    return blocks
