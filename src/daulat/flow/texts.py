"""All texts of a request: to look through them, and to put others in their place.

Everything that an endpoint elsewhere is sent and that can hold words is here: messages, names, arguments and
results of tools, their descriptions and schemas, stop texts, the structure, hints, addresses of pictures.
What is JSON is one text, for the name of a field says what its value is. What must stay as it is (names that
others refer to, patterns, addresses) is read and not replaced: who replaces texts looks through the result
again. `joined` has what a model reads as one and that comes in several parts.

Pictures and prompts of token ids hold no texts that can be read; `opaque` says whether there are any. The
client's names for its end users are not sent anywhere: `nameless` takes them away.
"""

from __future__ import annotations

import itertools
import json as jsons
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote

from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Part,
    Request,
    Sampling,
    Structure,
    Tool,
    Toolbox,
    ToolCall,
)

R = TypeVar("R", bound=Request)

_SYSTEM: Final = ("system", "developer")
_NAMES_USERS: Final = ("safety_identifier",)
"""Hints that name the end user."""


class Rewrite(Protocol):
    """What is made of a text; `json`: it is JSON and has to stay so."""

    def __call__(self, text: str, *, json: bool = False) -> str: ...


def texts(request: Request) -> list[str]:
    """Every text, in order; the same text may come several times."""
    found: list[str] = []

    def note(text: str, *, json: bool = False) -> str:
        found.append(text)
        return text

    rewritten(request, note)
    return found


def joined(request: Request) -> list[str]:
    """What several parts make together, where a model may read them as one text: the parts around pictures,
    the system's messages, turns of one role that follow one another."""
    if not isinstance(request, ChatRequest):
        return []
    runs = [[m for m in request.messages if m.role in _SYSTEM]]
    turns = [m for m in request.messages if m.role not in _SYSTEM]
    # Results of tools are told apart by the ids of their calls.
    runs += [list(run) for role, run in itertools.groupby(turns, _role) if role != "tool"]
    several = [run for run in runs if len(run) > 1 or any(len(m.parts) > 1 for m in run)]
    return ["".join(map(_whole, run)) for run in several]


def nameless(request: R) -> R:
    """The request without the client's names for its end users."""
    if isinstance(request, ChatRequest) and any(name in request.hints for name in _NAMES_USERS):
        hints = {name: hint for name, hint in request.hints.items() if name not in _NAMES_USERS}
        return replace(request, user=None, hints=hints)
    return request if request.user is None else replace(request, user=None)


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
                tools=_toolbox(request.tools, rewrite),
                structure=_structure(request.structure, rewrite),
                hints=_json(nameless(request).hints, rewrite),
                begun=rewrite(request.begun) if request.begun else "",
            )
        case CompletionRequest():
            return replace(
                request,
                prompts=_inputs(request.prompts, rewrite),
                sampling=_sampling(request.sampling, rewrite),
                structure=_structure(request.structure, rewrite),
            )
        case EmbeddingRequest() | ModerationRequest():
            return replace(
                request,
                inputs=_inputs(request.inputs, rewrite),
            )


def _message(message: Message, rewrite: Rewrite) -> Message:
    if message.tool_call_id is not None:
        rewrite(message.tool_call_id)
    parts = tuple(_part(part, rewrite) for part in message.parts)
    # With parts, the content is their text once more: it is not looked through twice.
    content = _text_of(parts) if parts else rewrite(message.content)
    return replace(
        message,
        content=content,
        parts=parts,
        name=None if message.name is None else _bare(message.name, rewrite),
        tool_calls=tuple(_call(call, rewrite) for call in message.tool_calls),
    )


def _part(part: Part, rewrite: Rewrite) -> Part:
    if isinstance(part, str):
        return rewrite(part)
    if part.url[:5].lower() != "data:":
        rewrite(unquote(part.url))
    return part


def _text_of(parts: Sequence[Part]) -> str:
    return "".join(part for part in parts if isinstance(part, str))


def _role(message: Message) -> str:
    return message.role


def _whole(message: Message) -> str:
    return _text_of(message.parts) if message.parts else message.content


def _bare(name: str, rewrite: Rewrite) -> str:
    """A participant's name; vendors take no brackets in it, and a placeholder is known without them."""
    changed = rewrite(name)
    return name if changed == name else changed.replace("<", "").replace(">", "")


def _call(call: ToolCall, rewrite: Rewrite) -> ToolCall:
    rewrite(call.id)
    rewrite(call.name)
    return replace(call, arguments=rewrite(call.arguments, json=True))


def _toolbox(box: Toolbox | None, rewrite: Rewrite) -> Toolbox | None:
    return box and replace(box, tools=tuple(_tool(tool, rewrite) for tool in box.tools))


def _tool(tool: Tool, rewrite: Rewrite) -> Tool:
    rewrite(tool.name)
    description = None if tool.description is None else rewrite(tool.description)
    parameters = None if tool.parameters is None else _json(tool.parameters, rewrite)
    return replace(tool, description=description, parameters=parameters)


def _structure(structure: Structure | None, rewrite: Rewrite) -> Structure | None:
    if structure is None:
        return None
    if structure.name:
        rewrite(structure.name)
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


def _json(value: Any, rewrite: Rewrite) -> Any:
    """A JSON object with its texts replaced, the names of its fields and its numbers too."""
    if not value:
        return value
    text = jsons.dumps(value, ensure_ascii=False)
    changed = rewrite(text, json=True)
    return value if changed == text else jsons.loads(changed)
