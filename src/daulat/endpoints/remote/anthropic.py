"""Anthropic's Messages API: how it is asked.

Sources: https://platform.claude.com/docs/en/api/messages (the call),
https://platform.claude.com/docs/en/build-with-claude/structured-outputs (`output_config.format`),
https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview (tools),
https://platform.claude.com/docs/en/api/errors (statuses, 529), and the types of the `anthropic` package 2.12.

Said otherwise than a client said it: all messages of `system` and `developer` go to the front, as they have a
place of their own there. Refused: any JSON object without a schema (a schema must close its objects), seeds,
penalties, log-probabilities, several answers, names of participants. `temperature`, `top_p` and `top_k` are
sent where they are not the default; models from Claude Opus 4.7 on refuse them
(https://platform.claude.com/docs/en/about-claude/models/migration-guide), and those from 4.6 on refuse an
answer that has begun already, so `continue` is not among the capabilities of the kind. The signed
thoughts before a call are not returned with its result: the newest models refuse them as soon as anything
before them has changed (https://platform.claude.com/docs/en/build-with-claude/preserved-thinking), and what was
redacted, or answered elsewhere between, has. Not here: the answers (`anthropic_answers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from daulat.endpoints.remote import terms
from daulat.endpoints.remote.anthropic_answers import NAME, AnthropicReader, whole
from daulat.endpoints.remote.dialect import Call
from daulat.errors import UpstreamError
from daulat.values.answer import Embeddings, Heard, Moderations
from daulat.values.plan import Capability, Offer
from daulat.values.request import (
    ChatRequest,
    EmbeddingRequest,
    GenerationRequest,
    Image,
    Message,
    ModerationRequest,
    Sampling,
    Toolbox,
)

ADDRESS = "https://api.anthropic.com/v1"
VERSION = "2023-06-01"

CAPABILITIES: frozenset[Capability] = frozenset(
    {"chat", "tools", "json_schema", "images", "stop", "top_k"}
)
_SAYABLE = frozenset({"stop", "top_k"})
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_Json = dict[str, Any]


class AnthropicDialect:
    """The dialect. `version` is the header `anthropic-version`."""

    def __init__(self, version: str = "") -> None:
        self._headers = {"anthropic-version": version or VERSION}

    @property
    def capabilities(self) -> frozenset[Capability]:
        return CAPABILITIES

    def generate(self, request: GenerationRequest, offer: Offer) -> Call:
        asked = terms.chat(request, NAME)
        return Call("/messages", terms.body(_request(asked, offer)), self._headers)

    def reader(self, request: GenerationRequest) -> AnthropicReader:
        return AnthropicReader(terms.chat(request, NAME))

    def whole(self, request: GenerationRequest, body: bytes) -> Iterable[Heard]:
        return whole(terms.chat(request, NAME), body)

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        raise terms.refusal("input", NAME, "it has no embeddings")

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        raise terms.refusal("input", NAME, "it has no embeddings")

    def moderate(self, request: ModerationRequest, offer: Offer) -> Call:
        raise terms.refusal("input", NAME, "it has no moderations")

    def moderations(self, request: ModerationRequest, body: bytes) -> Moderations:
        raise terms.refusal("input", NAME, "it has no moderations")

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        try:
            words = _ERROR.decode(body).error.message
        except (msgspec.DecodeError, UnicodeDecodeError):
            words = ""
        return terms.by_status(status, NAME, words, terms.waiting(headers))


class _Said(msgspec.Struct, frozen=True):
    message: str = ""


class _Error(msgspec.Struct, frozen=True):
    error: _Said


_ERROR = msgspec.json.Decoder(_Error)


# --- the request ----------------------------------------------------------------------------------


def _request(request: ChatRequest, offer: Offer) -> _Json:
    terms.check_sampling(request.sampling, _SAYABLE, NAME)
    made: _Json = {
        "model": offer.upstream,
        "max_tokens": request.sampling.max_tokens or offer.max_output,
        "messages": _messages(request),
        **_sampling(request.sampling),
        **_output(request),
    }
    if system := _system(request.messages):
        made["system"] = system
    if request.tools:
        made |= _tools(request.tools)
    if request.stream:
        made["stream"] = True
    return made


def _sampling(sampling: Sampling) -> _Json:
    made: _Json = {}
    if sampling.temperature > 1:
        raise terms.refusal("temperature", NAME, "it goes to 1 at most")
    if sampling.temperature != 1:
        made["temperature"] = sampling.temperature
    if sampling.top_p != 1:
        made["top_p"] = sampling.top_p
    if sampling.top_k:
        made["top_k"] = sampling.top_k
    if sampling.stop:
        made["stop_sequences"] = list(sampling.stop)
    return made


def _output(request: ChatRequest) -> _Json:
    """The form of the answer, and how much effort it is worth."""
    made: _Json = {}
    if structure := request.structure:
        if terms.any_object(structure):
            raise terms.refusal(structure.param, NAME, "an object without a schema")
        if request.begun:
            raise terms.refusal(structure.param, NAME, "in an answer that has begun already")
        schema = terms.schema_of(structure, NAME)
        made["format"] = {"type": "json_schema", "schema": schema}
    if (effort := request.hints.get("reasoning_effort")) in _EFFORTS:
        made["effort"] = effort
    return {"output_config": made} if made else {}


def _tools(toolbox: Toolbox) -> _Json:
    tools: list[_Json] = []
    for tool in toolbox.tools:
        made: _Json = {"name": tool.name, "input_schema": terms.parameters(tool)}
        if tool.description is not None:
            made["description"] = tool.description
        if tool.strict is not None:
            made["strict"] = tool.strict
        tools.append(made)
    choice: _Json = {"type": _CHOICES[toolbox.choice]}
    if toolbox.named is not None:
        choice = {"type": "tool", "name": toolbox.named}
    if not toolbox.parallel and toolbox.choice != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}


def _system(messages: tuple[Message, ...]) -> list[_Json]:
    made: list[_Json] = []
    for at, message in enumerate(messages):
        if message.role not in ("system", "developer"):
            continue
        _check_name(message, at)
        for part, param in terms.parts(message, at):
            if isinstance(part, Image):
                raise terms.refusal(param, NAME, "a picture in a system message")
            made.append({"type": "text", "text": part})
    return made


def _messages(request: ChatRequest) -> list[_Json]:
    """The turns; results of calls that follow one another are one turn of the user's."""
    made: list[_Json] = []
    results: list[_Json] = []
    for at, message in enumerate(request.messages):
        if message.role in ("system", "developer"):
            continue
        if message.role != "tool":
            results = []
            made.append({"role": message.role, "content": _blocks(message, at)})
            continue
        if not results:
            made.append({"role": "user", "content": results})
        results.append(_result(message, at))
    if begun := request.begun.rstrip():
        # A prefill must not end with white space; the reader knows what was taken away.
        made.append({"role": "assistant", "content": [{"type": "text", "text": begun}]})
    return made


def _blocks(message: Message, at: int) -> list[_Json]:
    _check_name(message, at)
    made = [_block(part, param) for part, param in terms.parts(message, at)]
    made += [
        {
            "type": "tool_use",
            "id": terms.short_id(call.id, _ID),
            "name": call.name,
            "input": terms.arguments(call.arguments),
        }
        for call in message.tool_calls
    ]
    if not made:
        raise terms.refusal(f"messages[{at}].content", NAME, "a message that says nothing")
    return made


def _result(message: Message, at: int) -> _Json:
    made: _Json = {
        "type": "tool_result",
        "tool_use_id": terms.short_id(message.tool_call_id or "", _ID),
    }
    if blocks := [_block(part, param) for part, param in terms.parts(message, at)]:
        made["content"] = blocks
    return made


def _block(part: str | Image, param: str) -> _Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    inline = terms.picture(part, param, NAME)
    if inline is None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    kind, data = inline
    if kind not in _PICTURES:
        raise terms.refusal(param, NAME, f"a picture of the kind {kind}")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _check_name(message: Message, at: int) -> None:
    if message.name is not None:
        raise terms.refusal(f"messages[{at}].name", NAME)
