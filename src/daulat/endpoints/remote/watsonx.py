"""IBM's watsonx.ai: chat and embeddings, with OpenAI's messages in an envelope of its own.

Sources: https://cloud.ibm.com/apidocs/watsonx-ai#text-chat, #text-chat-stream and #text-embeddings,
https://ibm.github.io/watsonx-ai-node-sdk/interfaces/1_7_x.WatsonXAI.TextChatParams.html (fields),
.../1_6_x.WatsonXAI.TextChatResultChoice-1.html (reasons for an end, `time_limit` among them), and
`foundation_models.schema.TextChatParameters` of the `ibm-watsonx-ai` package 1.8.

A stream is another path and has no mark at its end: it is whole when every choice has a reason for its end.
What was cut by the service's own limit of time is not whole. `developer` is said as `system`. Refused:
`top_k`, calls one at a time, pictures outside of a user's messages, vectors of another length.
Not here: IBM's tokens (`tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from daulat.endpoints.remote import terms
from daulat.endpoints.remote import watsonx_answers as answers
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
    Structure,
    Toolbox,
)

NAME = answers.NAME
VERSION = "2025-02-06"

CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "chat",
        "embeddings",
        "grammar",
        "images",
        "json",
        "json_schema",
        "logit_bias",
        "logprobs",
        "n",
        "penalties",
        "repetition_penalty",
        "seed",
        "stop",
        "tools",
    }
)
_SAYABLE = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "n",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "stop",
    }
)
_STOPS = 4
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_EFFORTS = frozenset({"low", "medium", "high"})
_GUIDES = {"regex": "guided_regex", "grammar": "guided_grammar", "choice": "guided_choice"}
_Json = dict[str, Any]


def address(location: str) -> str:
    """The service's own address for a region, such as `us-south` or `eu-de`."""
    return f"https://{location}.ml.cloud.ibm.com/ml/v1"


class WatsonxDialect:
    """The dialect.

    Args:
        project, space: whose the calls are; one of them, the project where both are given.
        version: a date; the service behaves as it did then.
        seconds: after which the service is to stop an answer; 0: its own limit.
    """

    def __init__(
        self, project: str = "", space: str = "", version: str = "", seconds: float = 0
    ) -> None:
        self._owner = {"project_id": project} if project else {"space_id": space}
        self._query = f"?version={quote(version or VERSION, safe='')}"
        self._limit = {"time_limit": int(seconds * 1000)} if seconds else {}

    @property
    def capabilities(self) -> frozenset[Capability]:
        return CAPABILITIES

    def generate(self, request: GenerationRequest, offer: Offer) -> Call:
        asked = terms.chat(request, NAME)
        path = "/text/chat_stream" if asked.stream else "/text/chat"
        made = {"model_id": offer.upstream, **self._owner, **self._limit, **_request(asked, offer)}
        return Call(path + self._query, terms.body(made))

    def reader(self, request: GenerationRequest) -> answers.WatsonxReader:
        return answers.WatsonxReader(terms.chat(request, NAME))

    def whole(self, request: GenerationRequest, body: bytes) -> Iterable[Heard]:
        return answers.whole(terms.chat(request, NAME), body)

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        if request.dimensions is not None:
            raise terms.refusal("dimensions", NAME)
        made = {
            "model_id": offer.upstream,
            **self._owner,
            "inputs": terms.texts(request, NAME),
        }
        return Call("/text/embeddings" + self._query, terms.body(made))

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return answers.embedded(request, body)

    def moderate(self, request: ModerationRequest, offer: Offer) -> Call:
        raise terms.refusal("input", NAME, "it has no moderations of OpenAI's form")

    def moderations(self, request: ModerationRequest, body: bytes) -> Moderations:
        raise terms.refusal("input", NAME, "it has no moderations of OpenAI's form")

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return answers.error(status, headers, body)


# --- the request ----------------------------------------------------------------------------------


def _request(request: ChatRequest, offer: Offer) -> _Json:
    if request.begun:
        raise terms.refusal("messages", NAME, "an answer that has begun already")
    terms.check_sampling(request.sampling, _SAYABLE, NAME)
    made: _Json = {
        "messages": [_message(message, at) for at, message in enumerate(request.messages)],
        "max_completion_tokens": request.sampling.max_tokens or offer.max_output,
        **_sampling(request.sampling),
    }
    if request.structure:
        made |= _form(request.structure)
    if request.tools:
        made |= _tools(request.tools)
    if (effort := request.hints.get("reasoning_effort")) in _EFFORTS:
        made["reasoning_effort"] = effort
    return made


def _sampling(sampling: Sampling) -> _Json:
    usual = Sampling()
    made: _Json = {
        name: getattr(sampling, name)
        for name in (
            "temperature",
            "top_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
            "seed",
            "n",
        )
        if getattr(sampling, name) != getattr(usual, name)
    }
    if len(sampling.stop) > _STOPS:
        raise terms.refusal("stop", NAME, f"more than {_STOPS} texts")
    if sampling.stop:
        made["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        made["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs is not None:
        made |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    return made


def _form(structure: Structure) -> _Json:
    if terms.any_object(structure):
        return {"response_format": {"type": "json_object"}}
    if structure.kind != "json":
        source = structure.source
        return {_GUIDES[structure.kind]: list(source) if isinstance(source, tuple) else source}
    schema: _Json = {
        "name": structure.name or "answer",
        "schema": terms.schema_of(structure, NAME),
    }
    if structure.strict is not None:
        schema["strict"] = structure.strict
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _tools(toolbox: Toolbox) -> _Json:
    if not toolbox.parallel and toolbox.choice != "none":
        raise terms.refusal("parallel_tool_calls", NAME, "calls one at a time")
    tools: list[_Json] = []
    for tool in toolbox.tools:
        function: _Json = {"name": tool.name}
        for name in ("description", "parameters", "strict"):
            if (value := getattr(tool, name)) is not None:
                function[name] = value
        tools.append({"type": "function", "function": function})
    made: _Json = {"tools": tools}
    if toolbox.named is None:
        return made | {"tool_choice_option": toolbox.choice}
    return made | {"tool_choice": {"type": "function", "function": {"name": toolbox.named}}}


def _message(message: Message, at: int) -> _Json:
    role = "system" if message.role == "developer" else message.role
    made: _Json = {"role": role}
    if message.name is not None:
        if role == "tool":
            raise terms.refusal(f"messages[{at}].name", NAME)
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = terms.short_id(message.tool_call_id, _ID)
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": terms.short_id(call.id, _ID),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.parts:
        made["content"] = [_part(part, param, role) for part, param in terms.parts(message, at)]
    elif message.content or not message.tool_calls:
        made["content"] = message.content
    return made


def _part(part: str | Image, param: str, role: str) -> _Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if role != "user":
        raise terms.refusal(param, NAME, "a picture in such a message")
    terms.picture(part, param, NAME)
    made: _Json = {"url": part.url}
    if part.detail is not None:
        made["detail"] = part.detail
    return {"type": "image_url", "image_url": made}
