"""OpenAI's chat completions and completions, and Azure's under its paths.

https://platform.openai.com/docs/api-reference/chat and
https://learn.microsoft.com/azure/ai-foundry/openai/reference. Not here: `/v1/responses` (`responses`).
"""

from __future__ import annotations

import functools
import time
from typing import Any, Final

from daulat.endpoints.scripted.ask import Ask, Fields, Json, Kind, TroubleError, names
from daulat.endpoints.scripted.reply import Reply, Usage, costs
from daulat.endpoints.scripted.wires import (
    Frames,
    Target,
    data,
    encode,
    filled,
    split,
    text_costs,
)
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

CHAT_FIELDS: Final = names(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs "
    "max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls prediction "
    "presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort "
    "response_format safety_identifier seed service_tier stop store stream stream_options temperature "
    "tool_choice tools top_logprobs top_p user verbosity web_search_options"
)
TEXT_FIELDS: Final = names(
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed "
    "stop stream stream_options suffix temperature top_p user"
)
DONE: Final = b"data: [DONE]\n\n"
_CHOICES: Final = frozenset({"auto", "none", "required"})

# Status, type, code and message of OpenAI's errors, and code and message of Azure's.
_ERRORS: Final[dict[Kind, tuple[int, str, str | None, str]]] = {
    "invalid": (400, "invalid_request_error", None, "Invalid request."),
    "unauthorized": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided: ***. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
    ),
    "unknown_model": (
        404,
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
    ),
    "unknown_route": (404, "invalid_request_error", None, "Invalid URL"),
    "rate_limited": (
        429,
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for requests per min (RPM): Limit 1, Used 1, Requested 1. Please try again in 1s.",
    ),
    "server_error": (
        500,
        "server_error",
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    "unavailable": (
        503,
        "server_error",
        None,
        "The engine is currently overloaded, please try again later",
    ),
    "overloaded": (529, "server_error", None, "Overloaded"),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is exceeded. Please reduce the length of the messages.",
    ),
    "blocked": (
        400,
        "invalid_request_error",
        "content_filter",
        "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy. Please modify your prompt and retry.",
    ),
}
_AZURE: Final[dict[Kind, tuple[str, str]]] = {
    "unauthorized": (
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
        "provide a valid key for an active subscription.",
    ),
    "unknown_model": ("DeploymentNotFound", "The API deployment for this resource does not exist."),
    "rate_limited": (
        "429",
        "Requests have exceeded call rate limit of your current tier. Please retry after 1 second.",
    ),
    "server_error": (
        "InternalServerError",
        "Backend returned unexpected response. Please contact Microsoft for help.",
    ),
    "unavailable": (
        "503",
        "The service is temporarily unable to process your request. Please try again later.",
    ),
}
_SAFE: Final = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
_HATED: Final = {**_SAFE, "hate": {"filtered": True, "severity": "high"}}


def error(trouble: TroubleError, target: Target) -> tuple[int, bytes]:
    """`{"error": {message, type, param, code}}`; Azure's own where it has its own."""
    status, kind, code, message = _ERRORS[trouble.kind]
    if target.azure and trouble.kind in _AZURE:
        code, message = _AZURE[trouble.kind]
        return status, encode({"error": {"code": code, "message": trouble.message or message}})
    told: Json = {
        "message": trouble.message or message,
        "type": kind,
        "param": "prompt" if trouble.kind == "blocked" else trouble.param,
        "code": code,
    }
    if trouble.kind == "blocked":
        told |= {
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _HATED},
        }
    return status, encode({"error": told})


def usage_body(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def common(ask: Ask, body: Fields, target: Target) -> None:
    """The fields that chat and completions share."""
    ask.stream = body.flag("stream")
    ask.count = body.number("n", 1, 128) or 1
    ask.stop = body.texts("stop", 4)
    options = body.part("stream_options", frozenset({"include_usage", "include_obfuscation"}))
    if options is not None and not ask.stream:
        words = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise TroubleError("invalid", words, "stream_options")
    ask.usage = not ask.stream or (options is not None and options.flag("include_usage"))


class Chat:
    """`POST /v1/chat/completions`."""

    name = "openai"

    def ask(self, body: Json, target: Target) -> Ask:
        top = Fields(body, "", target.allowed(CHAT_FIELDS))
        ask = Ask(target.model or top.text("model"))
        common(ask, top, target)
        hear_messages(ask, top.items("messages", required=True), target.strict)
        hear_tools(ask, top)
        ask.choice = choice(body.get("tool_choice"), ask.tools, _CHOICES)
        ask.parallel = top.flag("parallel_tool_calls", True)
        old, new = top.number("max_tokens", 1), top.number("max_completion_tokens", 1)
        ask.limit = old if new is None else new
        ask.schema = schema_of(top)
        if top.flag("logprobs"):
            ask.logprobs = top.number("top_logprobs", 0, 20) or 0
        return ask

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        choices = [
            {
                "index": index,
                "message": message_body(reply, f"{ident}_{index}"),
                "logprobs": _logprobs(ask, reply.pieces),
                "finish_reason": FINISH[reply.finish],
            }
            | ({"content_filter_results": _SAFE} if target.azure else {})
            for index in range(ask.count)
        ]
        body = {**_head(ask, ident, "chat.completion"), "choices": choices}
        if target.azure:
            body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _SAFE}]
        return encode(body | usage_field(reply.told, usage_body))

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        make = functools.partial(_chunk, ask, ident, ask.usage and reply.told != "absent")
        opening = _azure_opening() if target.azure else b""
        found: list[bytes] = []
        tokens: list[int] = []
        closing = b""
        for index in range(ask.count):
            delta: Json = {
                "role": "assistant",
                "content": None if reply.calls else "",
                "refusal": None,
            }
            opening += make(index, delta)
            events, weights = _deltas(ask, reply, make, index, ident, tiny)
            found += events
            tokens += weights
            closing += make(index, {}, FINISH[reply.finish])
        if ask.usage and reply.told != "absent":
            last: Json = {**_head(ask, ident, "chat.completion.chunk"), "choices": []}
            closing += data(last | usage_field(reply.told, usage_body))

        def more(text: str) -> bytes:
            return make(0, {"content": text})

        return Frames(opening, found, tokens, closing, DONE, more, _error_event())

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble, target)


def _error_event() -> bytes:
    _status, body = error(TroubleError("server_error"), Target())
    return b"data: " + body + b"\n\n"


def _azure_opening() -> bytes:
    results = [{"prompt_index": 0, "content_filter_results": _SAFE}]
    empty: Json = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    return data({**empty, "prompt_filter_results": results})


def _head(ask: Ask, ident: str, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{ident}",
        "object": kind,
        "created": int(time.time()),
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _chunk(
    ask: Ask,
    ident: str,
    usage: bool,
    index: int,
    delta: Json,
    finish: str | None = None,
    logprobs: Any = None,
) -> bytes:
    one = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    body = {**_head(ask, ident, "chat.completion.chunk"), "choices": [one]}
    if usage:
        body["usage"] = None
    return data(body)


def _deltas(
    ask: Ask, reply: Reply, make: Any, index: int, ident: str, tiny: bool
) -> tuple[list[bytes], list[int]]:
    """The content events of one choice and their tokens."""
    field = "refusal" if reply.finish == "refused" else "content"
    if ask.logprobs is None:
        events = filled(lambda text: make(index, {field: text}), reply.text)
    else:
        events = [
            make(index, {field: piece}, None, _logprobs(ask, (piece,))) for piece in reply.pieces
        ]
    tokens = list(text_costs(reply.text))
    for place, call in enumerate(reply.calls):
        ident_ = call_id(f"{ident}_{index}", place)
        names = split(call.name, True) if tiny else (call.name,)
        for at, name in enumerate(names):
            function = {"name": name, "arguments": ""}
            first = {"index": place, "id": ident_, "type": "function", "function": function}
            one = {"index": place, "function": {"name": name}} if at else first
            events.append(make(index, {"tool_calls": [one]}))
        tokens += costs(names)
        texts = split(call.arguments, tiny)
        for text in texts:
            one = {"index": place, "function": {"arguments": text}}
            events.append(make(index, {"tool_calls": [one]}))
        tokens += costs(texts)
    return events, tokens


def _logprobs(ask: Ask, found: tuple[str, ...]) -> Json | None:
    """Every token has the probability 1/2; the others share the rest."""
    if ask.logprobs is None:
        return None
    content: list[Json] = []
    for piece in found:
        entry = {"token": piece, "logprob": -0.6931472, "bytes": list(piece.encode())}
        others = [
            {
                "token": f"<{rank}>",
                "logprob": -0.6931472 - rank,
                "bytes": list(f"<{rank}>".encode()),
            }
            for rank in range(1, ask.logprobs)
        ]
        content.append({**entry, "top_logprobs": [entry, *others] if ask.logprobs else []})
    return {"content": content, "refusal": None}


class Text:
    """`POST /v1/completions`."""

    name = "openai"

    def ask(self, body: Json, target: Target) -> Ask:
        top = Fields(body, "", target.allowed(TEXT_FIELDS))
        ask = Ask(target.model or top.text("model"))
        common(ask, top, target)
        prompt = body.get("prompt", "")
        if isinstance(prompt, str):
            ask.heard(prompt, user=True)
        else:
            for one in top.texts("prompt", 128):
                ask.heard(one, user=True)
            ask.count *= max(len(ask.texts), 1)
        limit = top.number("max_tokens", 0)
        ask.limit = 16 if limit is None else limit
        ask.logprobs = top.number("logprobs", 0, 5)
        return ask

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        choices = [
            _text_choice(ask, reply.text, index, FINISH[reply.finish]) for index in range(ask.count)
        ]
        return encode(
            {**_text_head(ask, ident), "choices": choices} | usage_field(reply.told, usage_body)
        )

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        head = _text_head(ask, ident)
        usage = ask.usage and reply.told != "absent"
        null = {"usage": None} if usage else {}

        def make(index: int, text: str, finish: str | None = None) -> bytes:
            return data({**head, "choices": [_text_choice(ask, text, index, finish)], **null})

        found: list[bytes] = []
        closing = b""
        for index in range(ask.count):
            if ask.logprobs is None:
                found += filled(functools.partial(make, index), reply.text)
            else:
                found += [make(index, piece) for piece in reply.pieces]
            closing += make(index, "", FINISH[reply.finish])
        if usage:
            closing += data({**head, "choices": []} | usage_field(reply.told, usage_body))
        tokens = text_costs(reply.text) * ask.count
        return Frames(b"", found, tokens, closing, DONE, functools.partial(make, 0), _error_event())

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble, target)


def _text_head(ask: Ask, ident: str) -> Json:
    return {
        "id": f"cmpl-{ident}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": ask.model,
        "system_fingerprint": "fp_scripted",
    }


def _text_choice(ask: Ask, text: str, index: int, finish: str | None) -> Json:
    logprobs: Json | None = None
    if ask.logprobs is not None:
        found = (text[at : at + 4] for at in range(0, len(text), 4))
        tokens = list(found)
        logprobs = {
            "tokens": tokens,
            "token_logprobs": [-0.6931472] * len(tokens),
            "top_logprobs": [{token: -0.6931472} for token in tokens],
            "text_offset": [4 * at for at in range(len(tokens))],
        }
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
