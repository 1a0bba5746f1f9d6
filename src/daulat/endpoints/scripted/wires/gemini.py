"""Google's `generateContent` and `streamGenerateContent`, on the Gemini API and on Vertex AI.

https://ai.google.dev/api/generate-content and
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference. Fields are taken in camel
case and in snake case, as Google takes them. Not here: Google's tokens (`access`), live sessions.
"""

from __future__ import annotations

import re
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
from daulat.endpoints.scripted.reply import Reply, Usage, spoken
from daulat.endpoints.scripted.wires import Frames, Target, encode, filled, text_costs
from daulat.values.tokens import counted

FIELDS: Final = names(
    "contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels model "
    "serviceTier store modelArmorConfig"
)
_CONFIG: Final = names(
    "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount "
    "maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs "
    "enableEnhancedCivicAnswers enableAffectiveDialog translationConfig "
    "audioTranscriptionConfig speechConfig thinkingConfig imageConfig mediaResolution "
    "routingConfig "
    "audioTimestamp modelSelectionConfig responseFormat"
)
_MEDIA: Final = frozenset({"inlineData", "fileData"})
_FINISH: Final[dict[str | None, str | None]] = {
    None: None,
    "stop": "STOP",
    "stop_text": "STOP",
    "length": "MAX_TOKENS",
    "calls": "STOP",
    "filtered": "SAFETY",
    "refused": "PROHIBITED_CONTENT",
}
_CATEGORIES: Final = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)
_ERRORS: Final[dict[Kind, tuple[int, str, str]]] = {
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "unauthorized": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "unknown_model": (404, "NOT_FOUND", "models/… is not found for API version v1beta."),
    "unknown_route": (404, "NOT_FOUND", "Not found."),
    "rate_limited": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "server_error": (
        500,
        "INTERNAL",
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    ),
    "unavailable": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context_length": (
        400,
        "INVALID_ARGUMENT",
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
    ),
    "blocked": (400, "INVALID_ARGUMENT", "The prompt was blocked."),
}
_NO_KEY: Final = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API."  # noqa: E501
_NO_TOKEN: Final = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."  # noqa: E501, S105
MISSING: Final = "missing"


def error(trouble: TroubleError, *, vertex: bool = False) -> tuple[int, bytes]:
    """`{"error": {code, message, status, details}}`; a missing key is 403, a wrong one 400."""
    status, name, message = _ERRORS[trouble.kind]
    details: list[Json] = []
    told = trouble.message or message
    if trouble.kind == "unauthorized" and vertex:
        status, name, told = 401, "UNAUTHENTICATED", _NO_TOKEN
        details = [_reason("ACCESS_TOKEN_TYPE_UNSUPPORTED")]
    elif trouble.kind == "unauthorized" and trouble.message == MISSING:
        status, name, told = 403, "PERMISSION_DENIED", _NO_KEY
    elif trouble.kind == "unauthorized":
        told, details = message, [_reason("API_KEY_INVALID")]
    elif trouble.kind == "rate_limited":
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]
    body: Json = {"code": status, "message": told, "status": name}
    return status, encode({"error": body | ({"details": details} if details else {})})


def _reason(reason: str) -> Json:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": "googleapis.com"}


def camel(value: Json) -> Json:
    """The object with its own fields in camel case; what stands in them stays as it is."""
    return {
        re.sub("_([a-z])", lambda found: found[1].upper(), key): one for key, one in value.items()
    }


def fields(value: object, what: str, allowed: frozenset[str] | None = None) -> Fields:
    """A JSON object whose fields may be in snake case.

    Raises:
        TroubleError: it is none, or has a field that Google does not know.
    """
    if isinstance(value, dict):
        value = camel(value)  # pyright: ignore[reportUnknownArgumentType]
    found = Fields(value, what)
    if allowed is not None and not allowed.issuperset(found.body):
        name = min(found.body.keys() - allowed)
        at = f" at '{what}'" if what else ""
        raise TroubleError(
            "invalid",
            f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
            name,
        )
    return found


def hear_content(ask: Ask, content: Fields, *, system: bool = False) -> None:
    """Take in a `Content`: text, calls, results and media."""
    role = content.text("role", "user")
    if role not in ("user", "model", "function", "system"):
        raise TroubleError(
            "invalid", "Please use a valid role: user, model.", f"{content.what}.role"
        )
    found: list[str] = []
    replied = False
    for index, item in enumerate(content.items("parts", required=True)):
        part = fields(item, f"{content.what}.parts[{index}]")
        if "text" in part.body:
            found.append(part.text("text", ""))
        elif "functionCall" in part.body:
            call = fields(part.body["functionCall"], "functionCall")
            found.append(
                call.text("name") + canonical(fields(call.body.get("args") or {}, "args").body)
            )
        elif "functionResponse" in part.body:
            result = fields(part.body["functionResponse"], "functionResponse")
            result.text("name")
            ask.heard(_result(result))
            replied = True
        elif part.body.keys() & _MEDIA:
            ask.prompt_tokens += MEDIA_TOKENS
        else:
            raise TroubleError(
                "invalid", "Unable to submit request: a part has no data.", part.what
            )
    if system:
        ask.prompt_tokens += counted("".join(found))
    elif found or not replied:
        ask.heard("".join(found), user=role == "user" and not replied)
    ask.replied = replied


def _result(result: Fields) -> str:
    """A result's text: what other vendors take as text stands in `output`, `result` or `content` here."""
    response = result.part("response")
    if response is None:
        return canonical({})
    value = next(iter(response.body.values()), None)
    alone = len(response.body) == 1 and response.body.keys() <= {"output", "result", "content"}
    return value if alone and isinstance(value, str) else canonical(response.body)


class Gemini:
    """`:generateContent` and `:streamGenerateContent?alt=sse`."""

    def __init__(self, *, vertex: bool) -> None:
        self.name = "vertex" if vertex else "gemini"
        self._vertex = vertex

    def ask(self, body: Json, target: Target) -> Ask:
        top = fields(body, "", target.allowed(FIELDS))
        ask = Ask(target.model, stream=target.stream)
        if (system := top.body.get("systemInstruction")) is not None:
            hear_content(ask, fields(system, "system_instruction"), system=True)
        for index, item in enumerate(top.items("contents", required=True)):
            hear_content(ask, fields(item, f"contents[{index}]"))
        config = fields(
            top.body.get("generationConfig") or {}, "generation_config", target.allowed(_CONFIG)
        )
        ask.limit = config.number("maxOutputTokens", 1)
        ask.count = config.number("candidateCount", 1, 8) or 1
        ask.stop = config.texts("stopSequences", 5)
        if config.text("responseMimeType", "text/plain") == "application/json":
            wanted = config.part("responseSchema") or config.part("responseJsonSchema")
            ask.schema = wanted.body if wanted else {"type": "object"}
        _hear_tools(ask, top)
        return ask

    def whole(self, ask: Ask, reply: Reply, ident: str, target: Target) -> bytes:
        if reply.finish == "filtered" and not reply.text:
            return encode(self._envelope(ask, reply, ident) | _BLOCKED)
        candidates = [
            _candidate(reply, index, _parts(reply, reply.text)) for index in range(ask.count)
        ]
        return encode({"candidates": candidates, **self._envelope(ask, reply, ident)})

    def frames(self, ask: Ask, reply: Reply, ident: str, target: Target, tiny: bool) -> Frames:
        tail = self._envelope(ask, None, ident)

        def make(index: int, parts: list[Json]) -> bytes:
            content = {"parts": parts, "role": "model"}
            return _data({"candidates": [{"content": content, "index": index}], **tail})

        _status, told = self.error(TroubleError("unavailable"), target)
        if reply.finish == "filtered" and not reply.text:
            closing = _data(self._envelope(ask, reply, ident) | _BLOCKED)
        else:
            last = [_candidate(reply, index, [{"text": ""}]) for index in range(ask.count)]
            closing = _data({"candidates": last, **self._envelope(ask, reply, ident)})
        found: list[bytes] = []
        tokens: list[int] = []
        for index in range(ask.count):
            found += filled(lambda text, index=index: make(index, [{"text": text}]), reply.text)
            tokens += text_costs(reply.text)
            for call, part in zip(reply.calls, _calls(reply), strict=True):
                found.append(make(index, [part]))
                tokens.append(spoken("", (call,)))

        def more(text: str) -> bytes:
            return make(0, [{"text": text}])

        # The stream has no end mark: the last chunk says why it ends.
        return Frames(b"", found, tokens, closing, b"", more, b"data: " + told + b"\r\n\r\n")

    def error(self, trouble: TroubleError, target: Target) -> tuple[int, bytes]:
        return error(trouble, vertex=self._vertex)

    def _envelope(self, ask: Ask, reply: Reply | None, ident: str) -> Json:
        body: Json = {"modelVersion": ask.model, "responseId": ident}
        if reply is None or reply.told == "absent":
            return body
        usage = usage_body(reply.told) if isinstance(reply.told, Usage) else None
        return {"usageMetadata": usage, **body}


def _data(value: Any) -> bytes:
    """Google ends the lines of its events with CR LF."""
    return b"data: " + encode(value) + b"\r\n\r\n"


_BLOCKED: Final = {
    "promptFeedback": {
        "blockReason": "SAFETY",
        "safetyRatings": [{"category": _CATEGORIES[3], "probability": "HIGH", "blocked": True}],
    }
}


def usage_body(usage: Usage) -> Json:
    """Google counts thoughts beside the candidates' tokens, not in them."""
    return {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion - usage.reasoning,
        "totalTokenCount": usage.total,
        **({"cachedContentTokenCount": usage.cached} if usage.cached else {}),
        **({"thoughtsTokenCount": usage.reasoning} if usage.reasoning else {}),
    }


def _parts(reply: Reply, text: str) -> list[Json]:
    return ([{"text": text}] if text or not reply.calls else []) + _calls(reply)


def _calls(reply: Reply) -> list[Json]:
    return [
        {"functionCall": {"name": call.name, "args": _args(call.arguments)}} for call in reply.calls
    ]


def _args(arguments: str) -> Any:
    """Google's arguments are an object: broken ones get a field that no schema knows."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {"__broken__": arguments}


def _candidate(reply: Reply, index: int, parts: list[Json]) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": index}
    finish = _FINISH[reply.finish]
    if finish is not None:
        candidate["finishReason"] = finish
    if finish == "SAFETY":
        candidate["safetyRatings"] = [
            {
                "category": name,
                "probability": "HIGH" if at == 3 else "NEGLIGIBLE",
                "blocked": at == 3,
            }
            for at, name in enumerate(_CATEGORIES)
        ]
    return candidate


def _hear_tools(ask: Ask, top: Fields) -> None:
    found: list[tuple[Tool, str]] = []
    for index, item in enumerate(top.items("tools")):
        tool = fields(item, f"tools[{index}]")
        if "functionDeclarations" not in tool.body:
            raise TroubleError("invalid", "Only functions are scripted.", f"tools[{index}]")
        for place, one in enumerate(tool.items("functionDeclarations")):
            function = fields(one, f"tools[{index}].function_declarations[{place}]")
            schema = function.part("parameters") or function.part("parametersJsonSchema")
            named = Tool(function.text("name"), schema.body if schema else {})
            found.append((named, function.text("description", "")))
    tools_heard(ask, found)
    config = fields(top.body.get("toolConfig") or {}, "tool_config")
    calling = fields(config.body.get("functionCallingConfig") or {}, "function_calling_config")
    mode = calling.text("mode", "AUTO").upper()
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise TroubleError("invalid", f"Invalid value at 'mode': \"{mode}\"", "mode")
    names = calling.texts("allowedFunctionNames", 128)
    ask.choice = {"ANY": "required", "NONE": "none"}.get(mode, "auto")
    if mode == "ANY" and names:
        ask.tools = tuple(tool for tool in ask.tools if tool.name in names)
        if not ask.tools:
            raise TroubleError("invalid", "allowed_function_names has no declared function.")
