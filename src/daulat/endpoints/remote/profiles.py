"""What servers of OpenAI's protocol do differently, as one table.

Sources: https://platform.openai.com/docs/api-reference/chat,
https://learn.microsoft.com/azure/ai-foundry/openai/reference, https://docs.mistral.ai/api,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html. Not here: what is made of it (`openai`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from daulat.values.plan import Capability

_COMMON: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
    "n": "n",
}
_OPENAI: Final = {**_COMMON, "seed": "seed", "logit_bias": "logit_bias", "logprobs": "logprobs"}
_EXTENDED: Final = {
    **_OPENAI,
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "ignore_eos": "ignore_eos",
}
_SAMPLED: Final = frozenset(
    {
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "stop",
    }
)


def _can(words: str) -> frozenset[Capability]:
    return frozenset(cast("list[Capability]", words.split()))


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of server.

    Attributes:
        label: what messages call it.
        url: where it is unless the settings say otherwise; empty: they must.
        capabilities: unless the settings say otherwise.
        key: the header for the key, and what stands before the key in it.
        limit: the field for the most tokens of an answer, in a chat.
        fields: fields of sampling that it knows, by our name for them.
        usage: `stream_options.include_usage` is known; else usage comes by itself.
        developer: the role of a developer's message.
        required: the word of `tool_choice` for: some tool.
        parallel: `parallel_tool_calls` is known.
        names: which roles' messages may have a name.
        call_ids: the form that ids of calls must have; None: any.
        parameters: a tool must have a schema.
        begun: how an answer is gone on with: vLLM's fields, Mistral's prefix (which the answer repeats),
            or not at all.
        grammars: vLLM's fields for other forms than JSON.
        user: `user` is known.
        dimensions: the field for the length of vectors.
        hints: fields without which an answer is still right, that it knows.
        fixed: models which take no field of sampling but their default, by their names.
        deployments: models are asked for in the path where the settings have a version.
    """

    label: str
    url: str
    capabilities: frozenset[Capability]
    key: tuple[str, str] = ("authorization", "Bearer ")
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    fields: Mapping[str, str] = field(default_factory=lambda: _OPENAI)
    usage: bool = True
    developer: Literal["developer", "system"] = "system"
    required: Literal["required", "any"] = "required"
    parallel: bool = True
    names: frozenset[str] = frozenset({"system", "developer", "user", "assistant", "tool"})
    call_ids: re.Pattern[str] | None = None
    parameters: bool = False
    begun: Literal["", "fields", "prefix"] = ""
    grammars: bool = False
    user: bool = True
    dimensions: str = "dimensions"
    hints: frozenset[str] = frozenset()
    fixed: re.Pattern[str] | None = None
    deployments: bool = False


_WRITES: Final = _can("chat tools json json_schema images n seed stop penalties")
_ALL: Final = _WRITES | _can("completions embeddings logprobs logit_bias echo tokens dimensions")
_HINTS: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "verbosity",
    }
)
_FIXED: Final = re.compile(r"(o[1-9]|gpt-5)(-(mini|nano|pro|codex|preview))*(-\d{4}-\d\d-\d\d)?")
"""The o series, and GPT-5 as it came first; what came later (gpt-5.1 ...) judges such fields itself."""

PROFILES: Final[Mapping[str, Profile]] = {
    "openai": Profile(
        label="OpenAI",
        url="https://api.openai.com/v1",
        capabilities=_ALL | _can("moderations"),
        limit="max_completion_tokens",
        developer="developer",
        hints=_HINTS,
        fixed=_FIXED,
    ),
    "azure": Profile(
        label="Azure OpenAI",
        url="",
        capabilities=_ALL,
        key=("api-key", ""),
        limit="max_completion_tokens",
        developer="developer",
        hints=_HINTS - {"service_tier", "prompt_cache_retention"},
        fixed=_FIXED,
        deployments=True,
    ),
    "mistral": Profile(
        label="Mistral",
        url="https://api.mistral.ai/v1",
        capabilities=_WRITES | _can("embeddings moderations continue dimensions"),
        fields={**_COMMON, "seed": "random_seed"},
        usage=False,
        required="any",
        names=frozenset({"tool"}),
        call_ids=re.compile(r"[a-zA-Z0-9]{9}"),
        parameters=True,
        begun="prefix",
        user=False,
        dimensions="output_dimension",
        hints=frozenset({"prediction"}),
    ),
    "compatible": Profile(
        label="The endpoint",
        url="",
        # What vLLM, Ollama, llama.cpp and LM Studio all honour; docs/connect.md has what each adds.
        capabilities=_can("chat completions embeddings tools json json_schema seed stop penalties"),
        fields=_EXTENDED,
        begun="fields",
        grammars=True,
        hints=frozenset({"reasoning_effort"}),
    ),
}


def fixed_fields(profile: Profile, *models: str) -> frozenset[str]:
    """Fields of sampling that must have their default for a model with one of these names."""
    fixed = profile.fixed
    if fixed is not None and any(fixed.fullmatch(name.rpartition("/")[2]) for name in models):
        return _SAMPLED
    return frozenset()
