"""Google's Gemini models, through the Gemini API and through Vertex AI: how they are asked.

The bodies are the same, the paths are not. Sources: https://ai.google.dev/api/generate-content,
https://ai.google.dev/gemini-api/docs/function-calling (modes, `parametersJsonSchema`),
https://ai.google.dev/gemini-api/docs/structured-output (`responseJsonSchema`),
https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/api/embeddings,
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and
.../text-embeddings-api, and the types of the `google-genai` package 3.4.

A Gemini 3 signs the first call of an answer and refuses the call's result without that signature. It
travels inside the call's id (`gemini_answers.signed`), so that it comes back whoever keeps the
conversation. Calls that another vendor's model made carry the word that Google has for that case.

Refused: pictures in results of tools, names of participants, calls one at a time (`parallel_tool_calls`),
going on with an answer that has begun. Not here: the answers (`gemini_answers`), tokens (`tokens`).
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from daulat.endpoints.remote import gemini_answers as answers
from daulat.endpoints.remote import terms
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

NAME = answers.NAME
ADDRESS = "https://generativelanguage.googleapis.com/v1beta"

CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "chat",
        "dimensions",
        "embeddings",
        "images",
        "json",
        "json_schema",
        "logprobs",
        "n",
        "penalties",
        "seed",
        "stop",
        "tools",
        "top_k",
    }
)
_SAYABLE = frozenset(
    {"frequency_penalty", "logprobs", "n", "presence_penalty", "seed", "stop", "top_k"}
)
_FIELDS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "candidateCount": "n",
    "seed": "seed",
    "stopSequences": "stop",
}
_STOPS = 5
_SEEDS = range(-(2**31), 2**31)
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_LEVELS = frozenset({"minimal", "low", "medium", "high"})
_UNSIGNED = "skip_thought_signature_validator"
_BEFORE_SIGNATURES = re.compile(r"gemini-[12]([.-]|$)")
_Json = dict[str, Any]


def vertex_address(location: str) -> str:
    """Vertex AI's own address for a region, or for `global`."""
    host = "aiplatform.googleapis.com"
    return f"https://{host if location == 'global' else f'{location}-{host}'}/v1"


class GeminiDialect:
    """The Gemini API."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return CAPABILITIES

    def generate(self, request: GenerationRequest, offer: Offer) -> Call:
        asked = terms.chat(request, NAME)
        way = ":streamGenerateContent?alt=sse" if asked.stream else ":generateContent"
        return Call(self._path(offer.upstream) + way, terms.body(_request(asked, offer)))

    def reader(self, request: GenerationRequest) -> answers.GeminiReader:
        return answers.GeminiReader(terms.chat(request, NAME))

    def whole(self, request: GenerationRequest, body: bytes) -> Iterable[Heard]:
        return answers.whole(terms.chat(request, NAME), body)

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        model = _full(offer.upstream)
        asked: list[_Json] = []
        for text in terms.texts(request, NAME):
            one: _Json = {"model": model, "content": {"parts": [{"text": text}]}}
            if request.dimensions is not None:
                one["outputDimensionality"] = request.dimensions
            asked.append(one)
        path = self._path(offer.upstream) + ":batchEmbedContents"
        return Call(path, terms.body({"requests": asked}))

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return answers.embedded(request, body)

    def moderate(self, request: ModerationRequest, offer: Offer) -> Call:
        raise terms.refusal("input", NAME, "it has no moderations")

    def moderations(self, request: ModerationRequest, body: bytes) -> Moderations:
        raise terms.refusal("input", NAME, "it has no moderations")

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return answers.error(status, headers, body)

    def _path(self, model: str) -> str:
        return "/" + quote(_full(model), safe="/")


class VertexDialect(GeminiDialect):
    """Gemini models at Vertex AI, in a project and a region of the customer's."""

    def __init__(self, project: str, location: str) -> None:
        self._within = f"/projects/{quote(project, safe=':')}/locations/{quote(location, safe='')}/"

    def embed(self, request: EmbeddingRequest, offer: Offer) -> Call:
        instances = [{"content": text} for text in terms.texts(request, NAME)]
        made: _Json = {"instances": instances}
        if request.dimensions is not None:
            made["parameters"] = {"outputDimensionality": request.dimensions}
        return Call(self._path(offer.upstream) + ":predict", terms.body(made))

    def embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return answers.predicted(request, body)

    def _path(self, model: str) -> str:
        named = model if "/" in model else f"publishers/google/models/{model}"
        return self._within + quote(named, safe="/")


def _full(model: str) -> str:
    return model if "/" in model else f"models/{model}"


# --- the request ----------------------------------------------------------------------------------


def _request(request: ChatRequest, offer: Offer) -> _Json:
    if request.begun:
        raise terms.refusal("messages", NAME, "an answer that has begun already")
    terms.check_sampling(request.sampling, _SAYABLE, NAME)
    made: _Json = {
        "contents": _contents(request.messages, offer.upstream),
        "generationConfig": _config(request, offer),
    }
    if system := _system(request.messages):
        made["systemInstruction"] = {"parts": system}
    if request.tools:
        made |= _tools(request.tools)
    return made


def _config(request: ChatRequest, offer: Offer) -> _Json:
    sampling = request.sampling
    usual = Sampling()
    made: _Json = {"maxOutputTokens": sampling.max_tokens or offer.max_output}
    for name, field in _FIELDS.items():
        if (value := getattr(sampling, field)) != getattr(usual, field):
            made[name] = value
    _check_bounds(sampling)
    if sampling.logprobs is not None:
        made["responseLogprobs"] = True
        if sampling.logprobs:
            made["logprobs"] = sampling.logprobs
    if (level := request.hints.get("reasoning_effort")) in _LEVELS:
        made["thinkingConfig"] = {"thinkingLevel": str(level).upper()}
    return made | _form(request)


def _check_bounds(sampling: Sampling) -> None:
    if len(sampling.stop) > _STOPS:
        raise terms.refusal("stop", NAME, f"more than {_STOPS} texts")
    if sampling.seed is not None and sampling.seed not in _SEEDS:
        raise terms.refusal("seed", NAME, "a seed of more than 32 bits")


def _form(request: ChatRequest) -> _Json:
    structure = request.structure
    if structure is None:
        return {}
    made: _Json = {"responseMimeType": "application/json"}
    if not terms.any_object(structure):
        made["responseJsonSchema"] = terms.schema_of(structure, NAME)
    return made


def _tools(toolbox: Toolbox) -> _Json:
    if not toolbox.parallel and toolbox.choice != "none":
        raise terms.refusal("parallel_tool_calls", NAME, "calls one at a time")
    declared: list[_Json] = []
    for tool in toolbox.tools:
        made: _Json = {"name": tool.name}
        if tool.description is not None:
            made["description"] = tool.description
        if tool.parameters is not None:
            made["parametersJsonSchema"] = terms.parameters(tool)
        declared.append(made)
    # VALIDATED is AUTO with calls that are held to their schemas, as those of ANY are.
    strict = toolbox.choice == "auto" and any(tool.strict for tool in toolbox.tools)
    how: _Json = {"mode": "VALIDATED" if strict else _MODES[toolbox.choice]}
    if toolbox.named is not None:
        how["allowedFunctionNames"] = [toolbox.named]
    return {
        "tools": [{"functionDeclarations": declared}],
        "toolConfig": {"functionCallingConfig": how},
    }


def _system(messages: tuple[Message, ...]) -> list[_Json]:
    made: list[_Json] = []
    for at, message in enumerate(messages):
        if message.role in ("system", "developer"):
            _check_name(message, at)
            made += [_text_only(part, param) for part, param in terms.parts(message, at)]
    return made


def _contents(messages: tuple[Message, ...], model: str) -> list[_Json]:
    """The turns; results of calls that follow one another are one turn of the user's."""
    made: list[_Json] = []
    names: dict[str, str] = {}
    results: list[_Json] = []
    for at, message in enumerate(messages):
        if message.role in ("system", "developer"):
            continue
        if message.role != "tool":
            results = []
            role = "model" if message.role == "assistant" else "user"
            made.append({"role": role, "parts": _parts(message, at, model)})
            names.update((call.id, call.name) for call in message.tool_calls)
            continue
        if not results:
            made.append({"role": "user", "parts": results})
        results.append(_result(message, at, names))
    return made


def _parts(message: Message, at: int, model: str) -> list[_Json]:
    _check_name(message, at)
    made = [_part(part, param) for part, param in terms.parts(message, at)]
    for place, call in enumerate(message.tool_calls):
        ident, signature = answers.unsigned(call.id)
        if not signature and place == 0 and not _BEFORE_SIGNATURES.search(model):
            signature = _UNSIGNED
        args = terms.arguments(call.arguments)
        one: _Json = {"functionCall": {"id": ident, "name": call.name, "args": args}}
        if signature:
            one["thoughtSignature"] = signature
        made.append(one)
    if not made:
        raise terms.refusal(f"messages[{at}].content", NAME, "a message that says nothing")
    return made


def _result(message: Message, at: int, names: Mapping[str, str]) -> _Json:
    called = message.tool_call_id or ""
    if called not in names:
        raise terms.refusal(f"messages[{at}].tool_call_id", NAME, "no earlier call has this id")
    said = "".join(_text_only(part, param)["text"] for part, param in terms.parts(message, at))
    return {
        "functionResponse": {
            "id": answers.unsigned(called)[0],
            "name": names[called],
            "response": {"output": said},
        }
    }


def _part(part: str | Image, param: str) -> _Json:
    if isinstance(part, str):
        return {"text": part}
    inline = terms.picture(part, param, NAME)
    if inline is not None:
        return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
    kind = mimetypes.guess_type(urlsplit(part.url).path)[0] or ""
    if not kind.startswith("image/"):
        raise terms.refusal(param, NAME, "an address that does not end in a picture's kind")
    return {"fileData": {"mimeType": kind, "fileUri": part.url}}


def _text_only(part: str | Image, param: str) -> _Json:
    if isinstance(part, Image):
        raise terms.refusal(param, NAME, "a picture in such a message")
    return {"text": part}


def _check_name(message: Message, at: int) -> None:
    if message.name is not None:
        raise terms.refusal(f"messages[{at}].name", NAME)
