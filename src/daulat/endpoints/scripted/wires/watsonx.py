"""IBM watsonx.ai's text chat: OpenAI's messages, IBM's envelope.

https://cloud.ibm.com/apidocs/watsonx-ai#text-chat and #text-chat-stream. Not here: IAM (`access`).
"""

from __future__ import annotations

import re
import time
from typing import Any, Final
from urllib.parse import parse_qs

from daulat.endpoints.scripted.ask import Ask, Fields, Json, Kind, TroubleError, names
from daulat.endpoints.scripted.reply import Reply, Usage, costs
from daulat.endpoints.scripted.wires import Frames, Target, encode, split, text_costs
from daulat.endpoints.scripted.wires.chatlike import (
    FINISH,
    call_id,
    choice,
    hear_messages,
    hear_tools,
    message_body,
    schema_of,
    usage_field,
)

FIELDS: Final = names(
    "model_id project_id space_id messages tools tool_choice tool_choice_option frequency_penalty logit_bias "
    "logprobs top_logprobs max_tokens max_completion_tokens n presence_penalty response_format seed stop "
    "temperature top_p time_limit context guided_choice guided_regex guided_grammar guided_json "
    "chat_template_kwargs reasoning_effort include_reasoning repetition_penalty length_penalty crypto"
)
_INFO: Final = "https://cloud.ibm.com/apidocs/watsonx-ai#text-chat"
# IBM's list of reasons has none for a filter.
_FINISH: Final = {**FINISH, "filtered": "error"}
_DATE: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")

_ERRORS: Final[dict[Kind, tuple[int, str, str]]] = {
    "invalid": (400, "invalid_request_entity", "Validation failed."),
    "unauthorized": (
        401,
        "authentication_token_not_valid",
        "Failed to authenticate the request due to invalid token: check the token and retry",
    ),
    "unknown_model": (404, "model_not_supported", "Model is not supported for this environment."),
    "unknown_route": (404, "not_found", "The resource was not found."),
    "rate_limited": (
        429,
        "rate_limit_reached_requests",
        "The request rate limit was reached: retry later.",
    ),
    "server_error": (500, "downstream_request_failed", "Downstream request failed."),
    "unavailable": (503, "service_unavailable", "The service is unavailable: retry later."),
    "overloaded": (529, "service_unavailable", "The service is overloaded: retry later."),
    "context_length": (
        400,
        "invalid_input_argument",
        "Invalid input argument for Model: This model's maximum context length is exceeded. "
        "Please reduce the length of the input messages.",
    ),
    "blocked": (400, "invalid_request_entity", "The input was blocked."),
}


def error(trouble: TroubleError) -> tuple[int, bytes]:
    """`{"errors": [{code, message, more_info}], "trace", "status_code"}`."""
    status, code, message = _ERRORS[trouble.kind]
    one = {"code": code, "message": trouble.message or message, "more_info": _INFO}
    return status, encode({"errors": [one], "trace": "5c71" * 8, "status_code": status})


def checked(body: Fields, target: Target) -> None:
    """The version in the query and whose project it is.

    Raises:
        TroubleError: one is missing, or both a project and a space are named.
    """
    version = parse_qs(target.query).get("version", [""])[0]
    if not _DATE.fullmatch(version):
        raise TroubleError("invalid", "The `version` query parameter must be a date: YYYY-MM-DD.")
    if bool(body.text("project_id", "")) == bool(body.text("space_id", "")):
        raise TroubleError("invalid", "Exactly one of `project_id` and `space_id` must be given.")


def usage_body(usage: Usage) -> Json:
    return {
        "completion_tokens": usage.completion,
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.total,
        **({"prompt_tokens_details": {"cached_tokens": usage.cached}} if usage.cached else {}),
        **(
            {"completion_tokens_details": {"reasoning_tokens": usage.reasoning}}
            if usage.reasoning
            else {}
        ),
    }


class Chat:
    """`POST /ml/v1/text/chat` and `/ml/v1/text/chat_stream`."""

    name = "watsonx"

    def ask(self, body: Json, target: Target) -> Ask:
        top = Fields(body, "", target.allowed(FIELDS))
        checked(top, target)
        ask = Ask(top.text("model_id"), stream=target.stream)
        hear_messages(ask, top.items("messages", required=True), target.strict)
        hear_tools(ask, top)
        option = choice(
            top.text("tool_choice_option", "auto"), (), frozenset({"none", "auto", "required"})
        )
        ask.choice = choice(body.get("tool_choice"), ask.tools, frozenset())
        ask.choice = option if ask.choice == "auto" else ask.choice
        old, new = top.number("max_tokens", 0), top.number("max_completion_tokens", 0)
        ask.limit = (old if new is None else new) or (None if 0 in (old, new) else 1024)
        ask.count = top.number("n", 1, 100) or 1
        ask.stop = top.texts("stop", 4)
        ask.schema = schema_of(top)
        guided = top.part("guided_json")
        ask.schema = guided.body if guided else ask.schema
        return ask

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        choices = [
            {
                "index": index,
                "message": _slim(message_body(reply, f"{ident}_{index}")),
                "finish_reason": _FINISH[reply.finish],
            }
            for index in range(ask.count)
        ]
        body = {**_head(ask, ident), "choices": choices} | usage_field(reply.told, usage_body)
        return encode(body | {"system": _SYSTEM})

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        head = encode(_head(ask, ident))[1:-1]
        number = 0

        def make(index: int, delta: Json, finish: str | None = None) -> bytes:
            nonlocal number
            number += 1
            one = encode({"index": index, "finish_reason": finish, "delta": delta})
            return b'id: %d\nevent: message\ndata: {%b,"choices":[%b]}\n\n' % (number, head, one)

        opening = b""
        found: list[bytes] = []
        tokens: list[int] = []
        for index in range(ask.count):
            opening += make(index, {"role": "assistant", "content": ""})
        field = "refusal" if reply.finish == "refused" else "content"
        for index in range(ask.count):
            found += [make(index, {field: piece}) for piece in reply.pieces]
            tokens += text_costs(reply.text)
            _calls(reply, make, index, ident, tiny, found, tokens)
        closing = b"".join(
            make(index, {"content": ""}, _FINISH[reply.finish]) for index in range(ask.count)
        )
        if reply.told != "absent":
            last = {**_head(ask, ident), "choices": list[Json]()} | usage_field(
                reply.told, usage_body
            )
            closing += b"id: %d\nevent: message\ndata: %b\n\n" % (number + 1, encode(last))
        _status, told = error(TroubleError("server_error"))
        broken = b"id: %d\nevent: error\ndata: %b\n\n" % (number, told)
        # The last event is the end: there is no mark behind it.
        return Frames(
            opening, found, tokens, closing, b"", lambda text: make(0, {"content": text}), broken
        )

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble)


_SYSTEM: Final = {
    "warnings": [
        {"message": "This is a scripted upstream: no model has answered.", "id": "scripted"}
    ]
}


def _head(ask: Ask, ident: str) -> Json:
    now = time.time()
    return {
        "id": f"chatcmpl-{ident}",
        "object": "chat.completion.chunk" if ask.stream else "chat.completion",
        "model_id": ask.model,
        "model": ask.model,
        "created": int(now),
        "model_version": "1.0.0",
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now)),
    }


def _slim(message: Json) -> Json:
    return {key: value for key, value in message.items() if value not in (None, [])}


def _calls(
    reply: Reply,
    make: Any,
    index: int,
    ident: str,
    tiny: bool,
    found: list[bytes],
    tokens: list[int],
) -> None:
    for place, call in enumerate(reply.calls):
        names = split(call.name, True) if tiny else (call.name,)
        for name in names:
            function = {"name": name, "arguments": ""}
            one = {"index": place, "id": call_id(f"{ident}_{index}", place), "type": "function"}
            found.append(make(index, {"tool_calls": [{**one, "function": function}]}))
        texts = split(call.arguments, tiny)
        for text in texts:
            one = {"index": place, "function": {"name": "", "arguments": text}}
            found.append(make(index, {"tool_calls": [one]}))
        tokens += costs(names) + costs(texts)
