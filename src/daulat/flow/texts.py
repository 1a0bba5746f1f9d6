"""All texts of a request: to look through them, and to put others in their place.

Everything that an endpoint would be sent and that can hold words is here: messages, names, arguments and
results of tools, their descriptions and schemas, stop texts, the structure, hints. What must stay as it is
(names that others refer to, patterns, fields of schemas) is read and not replaced: who replaces texts looks
through the result again. Pictures and prompts of token ids hold no texts that can be read; `opaque` says
whether there are any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Request,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

Rewrite = Callable[[str], str]
R = TypeVar("R", bound=Request)


def texts(request: Request) -> list[str]:
    """Every text, in order; the same text may come several times."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    rewritten(request, note)
    return found


def opaque(request: Request) -> bool:
    """Whether a part of the request cannot be read: pictures, prompts of token ids."""
    match request:
        case ChatRequest():
            return any(isinstance(p, Image) for m in request.messages for p in m.parts)
        case CompletionRequest():
            return any(not isinstance(prompt, str) for prompt in request.prompts)
        case EmbeddingRequest() | ModerationRequest():
            return any(not isinstance(text, str) for text in request.inputs)


def rewritten(request: R, rewrite: Rewrite) -> R:
    """The request with every text replaced by what `rewrite` makes of it."""
    match request:
        case ChatRequest():
            return replace(
                request,
                messages=tuple(_message(message, rewrite) for message in request.messages),
                sampling=_sampling(request.sampling, rewrite),
                user=_maybe(request.user, rewrite),
                tools=_toolbox(request.tools, rewrite),
                structure=_structure(request.structure, rewrite),
                hints=_json(request.hints, rewrite),
                begun=rewrite(request.begun) if request.begun else "",
            )
        case CompletionRequest():
            return replace(
                request,
                prompts=_inputs(request.prompts, rewrite),
                sampling=_sampling(request.sampling, rewrite),
                user=_maybe(request.user, rewrite),
                structure=_structure(request.structure, rewrite),
            )
        case EmbeddingRequest() | ModerationRequest():
            return replace(
                request,
                inputs=_inputs(request.inputs, rewrite),
                user=_maybe(request.user, rewrite),
            )


def _message(message: Message, rewrite: Rewrite) -> Message:
    rewrite(message.tool_call_id or "")
    parts = tuple(p if isinstance(p, Image) else rewrite(p) for p in message.parts)
    # With parts, the content is their text once more: it is not looked through twice.
    content = "".join(p for p in parts if isinstance(p, str)) if parts else rewrite(message.content)
    return replace(
        message,
        content=content,
        parts=parts,
        name=_maybe(message.name, rewrite),
        tool_calls=tuple(_call(call, rewrite) for call in message.tool_calls),
    )


def _call(call: ToolCall, rewrite: Rewrite) -> ToolCall:
    rewrite(call.id)
    rewrite(call.name)
    # Inside JSON an escape can hide a character: what counts is what it stands for.
    value = json.loads(call.arguments)
    changed = _json(value, rewrite)
    if changed == value:
        return call
    return replace(call, arguments=json.dumps(changed, ensure_ascii=False))


def _toolbox(box: Toolbox | None, rewrite: Rewrite) -> Toolbox | None:
    return box and replace(box, tools=tuple(_tool(tool, rewrite) for tool in box.tools))


def _tool(tool: Tool, rewrite: Rewrite) -> Tool:
    rewrite(tool.name)
    parameters = None if tool.parameters is None else _json(tool.parameters, rewrite)
    return replace(tool, description=_maybe(tool.description, rewrite), parameters=parameters)


def _structure(structure: Structure | None, rewrite: Rewrite) -> Structure | None:
    if structure is None:
        return None
    match structure.source:
        case str() as text:
            rewrite(text)
            return structure
        case tuple() as choices:
            return replace(structure, source=tuple(map(rewrite, choices)))
        case schema:
            return replace(structure, source=_json(schema, rewrite))


def _sampling(sampling: Sampling, rewrite: Rewrite) -> Sampling:
    return replace(sampling, stop=tuple(map(rewrite, sampling.stop))) if sampling.stop else sampling


def _inputs(inputs: Sequence[Any], rewrite: Rewrite) -> Any:
    return tuple(rewrite(text) if isinstance(text, str) else text for text in inputs)


def _maybe(text: str | None, rewrite: Rewrite) -> str | None:
    return None if text is None else rewrite(text)


def _json(value: Any, rewrite: Rewrite) -> Any:
    """Texts inside JSON; the names of its fields stay as they are."""
    match value:
        case str():
            return rewrite(value)
        case Mapping():
            fields = cast("Mapping[str, Any]", value)
            for name in fields:
                rewrite(name)
            return {name: _json(below, rewrite) for name, below in fields.items()}
        case list() | tuple():
            return [_json(below, rewrite) for below in cast("Sequence[Any]", value)]
        case _:
            return value
