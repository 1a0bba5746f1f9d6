"""Requests as OpenAI's protocol says them, in the way of one profile.

Not here: what comes back (`openai_answers`), what the profiles are (`profiles`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from daulat.endpoints.remote.profiles import Profile, fixed_fields
from daulat.endpoints.remote.terms import any_object, refusal
from daulat.values.plan import Offer
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    Message,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

Json = dict[str, Any]

_DEFAULTS: Final = Sampling()
_SAMPLING: Final = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "seed", "stop", "logit_bias", "logprobs", "ignore_eos", "n"),
)
_GUIDED: Final = {"regex": "guided_regex", "grammar": "guided_grammar", "choice": "guided_choice"}


def chat_body(request: ChatRequest, offer: Offer, profile: Profile) -> Json:
    """The body of a chat.

    Raises:
        UnsupportedFieldError: a part of the request that the profile has no words for.
    """
    body: Json = {
        "model": offer.upstream,
        "messages": list(_messages(request, profile)),
        **_sampling(request.sampling, offer, profile, chat=True),
        **_tools(request.tools, profile),
        **_form(request.structure, profile),
        **_common(request, profile),
        **{name: value for name, value in request.hints.items() if name in profile.hints},
    }
    if request.sampling.max_tokens is not None:
        body[profile.limit] = request.sampling.max_tokens
    if request.begun and profile.begun == "fields":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def text_body(request: CompletionRequest, offer: Offer, profile: Profile) -> Json:
    """The body of a completion.

    Raises:
        UnsupportedFieldError: as `chat_body`.
    """
    if request.structure is not None and not profile.grammars:
        raise refusal(request.structure.param, profile.label, "in completions")
    prompts = [one if isinstance(one, str) else list(one) for one in request.prompts]
    body: Json = {
        "model": offer.upstream,
        "prompt": prompts[0] if len(prompts) == 1 else prompts,
        **_sampling(request.sampling, offer, profile, chat=False),
        **_form(request.structure, profile),
        **_common(request, profile),
    }
    if request.sampling.max_tokens is not None:
        body["max_tokens"] = request.sampling.max_tokens
    if request.echo:
        body["echo"] = True
    return body


def vectors_body(request: EmbeddingRequest, offer: Offer, profile: Profile) -> Json:
    """The body for vectors."""
    inputs = [one if isinstance(one, str) else list(one) for one in request.inputs]
    body: Json = {"model": offer.upstream, "input": inputs}
    if request.dimensions is not None:
        body[profile.dimensions] = request.dimensions
    if request.user is not None and profile.user:
        body["user"] = request.user
    return body


def _common(request: GenerationRequest, profile: Profile) -> Json:
    body: Json = {}
    if request.stream:
        body["stream"] = True
        if profile.usage:
            body["stream_options"] = {"include_usage": True}
    if request.user is not None and profile.user:
        body["user"] = request.user
    return body


# --- sampling -------------------------------------------------------------------------------------


def _sampling(sampling: Sampling, offer: Offer, profile: Profile, *, chat: bool) -> Json:
    """What differs from the default, which is the upstream's too."""
    fixed = fixed_fields(profile, offer.upstream, offer.model)
    body: Json = {}
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value == getattr(_DEFAULTS, name):
            continue
        if name in fixed:
            raise refusal(name, f"{profile.label}'s {offer.model}", "it takes the default only")
        if name not in profile.fields:
            raise refusal(name, profile.label)
        body |= _said(name, profile.fields[name], value, chat)
    return body


def _said(name: str, field: str, value: Any, chat: bool) -> Json:
    match name:
        case "stop":
            return {field: list(value)}
        case "logit_bias":
            return {field: {str(token): bias for token, bias in value.items()}}
        case "logprobs" if chat:
            return {field: True, **({"top_logprobs": value} if value else {})}
        case _:
            return {field: value}


# --- messages -------------------------------------------------------------------------------------


def _messages(request: ChatRequest, profile: Profile) -> Iterator[Json]:
    for at, message in enumerate(request.messages):
        yield _message(message, f"messages[{at}]", profile)
    if request.begun:
        if not profile.begun:
            raise refusal("messages", profile.label, "an answer that another endpoint began")
        prefix = {"prefix": True} if profile.begun == "prefix" else {}
        yield {"role": "assistant", "content": request.begun, **prefix}


def _message(message: Message, param: str, profile: Profile) -> Json:
    role = profile.developer if message.role == "developer" else message.role
    body: Json = {"role": role, "content": _content(message)}
    if message.name is not None:
        if message.role not in profile.names:
            raise refusal(f"{param}.name", profile.label)
        body["name"] = message.name
    if message.tool_calls:
        body["tool_calls"] = [_call(call, profile) for call in message.tool_calls]
    if message.tool_call_id is not None:
        body["tool_call_id"] = _call_id(message.tool_call_id, profile)
    return body


def _content(message: Message) -> str | list[Json] | None:
    if message.parts:
        return [_part(part) for part in message.parts]
    return None if message.tool_calls and not message.content else message.content


def _part(part: str | Image) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    detail = {} if part.detail is None else {"detail": part.detail}
    return {"type": "image_url", "image_url": {"url": part.url, **detail}}


def _call(call: ToolCall, profile: Profile) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": _call_id(call.id, profile), "type": "function", "function": function}


def _call_id(given: str, profile: Profile) -> str:
    """The id, or one of the form that is asked for, which stands for it each time."""
    if profile.call_ids is None or profile.call_ids.fullmatch(given):
        return given
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]


# --- tools and forms ------------------------------------------------------------------------------


def _tools(toolbox: Toolbox | None, profile: Profile) -> Json:
    if toolbox is None:
        return {}
    body: Json = {"tools": [_tool(tool, profile) for tool in toolbox.tools]}
    if toolbox.named is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": toolbox.named}}
    elif toolbox.choice != "auto":
        body["tool_choice"] = profile.required if toolbox.choice == "required" else "none"
    if not toolbox.parallel:
        if not profile.parallel:
            raise refusal("parallel_tool_calls", profile.label)
        body["parallel_tool_calls"] = False
    return body


def _tool(tool: Tool, profile: Profile) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    elif profile.parameters:
        function["parameters"] = {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _form(structure: Structure | None, profile: Profile) -> Json:
    if structure is None:
        return {}
    if structure.kind == "json":
        return {"response_format": _json_form(structure)}
    if not profile.grammars:
        raise refusal(structure.param, profile.label)
    source = list(structure.source) if structure.kind == "choice" else structure.source
    # vLLM before 0.10.2 knows the second field alone, and from 0.12 on the first.
    return {"structured_outputs": {structure.kind: source}, _GUIDED[structure.kind]: source}


def _json_form(structure: Structure) -> Mapping[str, Any]:
    if any_object(structure):
        return {"type": "json_object"}
    schema: Json = {"name": structure.name or "answer", "schema": structure.source}
    if structure.strict is not None:
        schema["strict"] = structure.strict
    return {"type": "json_schema", "json_schema": schema}
