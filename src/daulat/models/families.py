"""The families that we run, as data: how each one's description maps to an `Architecture`.

One table row per family and format; the functions below know no family by name. `weights` holds the
matching table of tensor names. Not here: any arithmetic (that is `engine.decoder`).

Sources: the configuration classes of transformers 5 and the metadata keys of the GGUF specification.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from daulat.errors import ModelFileError, UnsupportedModelError
from daulat.models.fields import Fields
from daulat.models.rope import gguf_rope, hf_rope
from daulat.values.architecture import (
    Activation,
    Architecture,
    EncoderArchitecture,
    Experts,
    Layer,
    Norm,
    Rope,
)

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20
MAX_VOCAB = 1 << 24
MAX_CONTEXT = 1 << 27

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}


class Described(Protocol):
    """What this module needs of a checkpoint."""

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, Any]: ...
    def read(self, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Family:
    """One row: a family in one format.

    Attributes:
        title: what people call it.
        layout: which table of `weights` names its tensors.
        aliases: our key to the format's key.
        defaults: what the format leaves out.
        scale: how q.k is scaled: by 1/sqrt(head size), not at all, by the number at key
            `attention_multiplier`, or by 1/sqrt of the number at `query_pre_attn_scalar`.
        windows: where the sliding window applies: nowhere; in every layer; as `layer_types` or a
            period says; in GPT-Neo's `local` layers; in the layers from `max_window_layers` on.
        default_window: used where the description has a window flag but no size.
    """

    title: str
    layout: str
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    norm: Norm = "rms"
    norm_offset: float = 0.0
    gated: bool = True
    learned_positions: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    experts: bool = False
    granite: bool = False
    scale: str = "head"
    windows: str = "none"
    tied: bool = False
    embedding_sqrt: bool = False
    nested: str | None = None
    title_with_experts: str = ""


_GPT2_KEYS = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
    "norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
}
_LLAMA_DEFAULTS = {"norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0}
_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
_LLAMA_KEYS = {"norm_eps": "rms_norm_eps"}
_GEMMA_KEYS = {"norm_eps": "rms_norm_eps", "hidden_act": "hidden_activation"}
_GEMMA_DEFAULTS = {
    "norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window_pattern": 6,
}
_GEMMA = Family(
    "Gemma 3",
    "gemma",
    _GEMMA_KEYS,
    _GEMMA_DEFAULTS,
    norm_offset=1.0,
    qk_norm=True,
    post_norms=True,
    scale="query",
    windows="pattern",
    tied=True,
    embedding_sqrt=True,
)

HF_FAMILIES: Mapping[str, Family] = {
    "llama": Family("Llama", "llama", _LLAMA_KEYS, _LLAMA_DEFAULTS),
    "mistral": Family(
        "Mistral",
        "llama",
        _LLAMA_KEYS,
        {**_LLAMA_DEFAULTS, "num_key_value_heads": 8, "sliding_window": 4096},
        windows="all",
    ),
    "mixtral": Family(
        "Mixtral",
        "mixtral",
        _LLAMA_KEYS,
        {
            **_LLAMA_DEFAULTS,
            **_EXPERTS,
            "norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
        },
        windows="all",
        experts=True,
    ),
    "granite": Family("Granite 3", "llama", _LLAMA_KEYS, _LLAMA_DEFAULTS, granite=True),
    "granitemoe": Family(
        "Granite 3 MoE",
        "granitemoe",
        _LLAMA_KEYS,
        {**_LLAMA_DEFAULTS, **_EXPERTS},
        granite=True,
        experts=True,
    ),
    "gpt_bigcode": Family(
        "GPTBigCode (Granite Code 20B and 34B)",
        "gpt_bigcode",
        _GPT2_KEYS,
        {"norm_eps": 1e-5, "hidden_act": "gelu_pytorch_tanh", "multi_query": True},
        norm="layer",
        gated=False,
        learned_positions=True,
        scale="bigcode",
        tied=True,
    ),
    "gpt_neo": Family(
        "GPT-Neo",
        "gpt_neo",
        {
            "num_attention_heads": "num_heads",
            "num_hidden_layers": "num_layers",
            "norm_eps": "layer_norm_epsilon",
            "hidden_act": "activation_function",
            "sliding_window": "window_size",
        },
        {"norm_eps": 1e-5, "hidden_act": "gelu_new", "sliding_window": 256},
        norm="layer",
        gated=False,
        learned_positions=True,
        scale="none",
        windows="neo",
        tied=True,
    ),
    "qwen2": Family("Qwen2", "llama", _LLAMA_KEYS, _LLAMA_DEFAULTS, windows="flagged"),
    "qwen3": Family(
        "Qwen3",
        "llama",
        _LLAMA_KEYS,
        {**_LLAMA_DEFAULTS, "head_dim": 128},
        qk_norm=True,
        windows="flagged",
    ),
    "gemma3_text": _GEMMA,
    "gemma3": replace(_GEMMA, nested="text_config"),
}

_GGUF_KEYS = {
    "hidden_size": "embedding_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "intermediate_size": "feed_forward_length",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "sliding_window": "attention.sliding_window",
    "rope_theta": "rope.freq_base",
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
_GGUF_DEFAULTS = {"norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0}

GGUF_FAMILIES: Mapping[str, Family] = {
    # Mistral and Mixtral call themselves llama in this format; only experts tell one of them apart.
    "llama": Family(
        "Llama", "gguf_llama", _GGUF_KEYS, _GGUF_DEFAULTS, title_with_experts="Mixtral"
    ),
    "granite": Family("Granite 3", "gguf_llama", _GGUF_KEYS, _GGUF_DEFAULTS, granite=True),
    "granitemoe": Family(
        "Granite 3 MoE", "gguf_llama", _GGUF_KEYS, _GGUF_DEFAULTS, granite=True, experts=True
    ),
    "starcoder": Family(
        "GPTBigCode (Granite Code 20B and 34B)",
        "gguf_starcoder",
        {**_GGUF_KEYS, "norm_eps": "attention.layer_norm_epsilon"},
        {"norm_eps": 1e-5, "hidden_act": "gelu_pytorch_tanh"},
        norm="layer",
        gated=False,
        learned_positions=True,
    ),
    "qwen2": Family("Qwen2", "gguf_plain", _GGUF_KEYS, _GGUF_DEFAULTS),
    "qwen3": Family("Qwen3", "gguf_plain", _GGUF_KEYS, _GGUF_DEFAULTS, qk_norm=True),
    "gemma3": Family(
        "Gemma 3",
        "gguf_gemma",
        _GGUF_KEYS,
        {**_GEMMA_DEFAULTS, "rope_theta": 1_000_000.0},
        qk_norm=True,
        post_norms=True,
        scale="gemma_gguf",
        windows="pattern",
        embedding_sqrt=True,
    ),
}


def supported() -> str:
    """The families in one sentence, for error texts and the docs."""
    titles = dict.fromkeys([f.title for f in HF_FAMILIES.values()])
    return ", ".join(titles) + "; for embeddings: BERT"


def describe(checkpoint: Described) -> Architecture | EncoderArchitecture:
    """What the checkpoint is.

    Raises:
        UnsupportedModelError: a family, activation or position scheme that we do not run.
        ModelFileError: a description with missing or absurd numbers.
    """
    if checkpoint.format == "gguf":
        return _describe_gguf(checkpoint)
    config = checkpoint.config
    kind = config.get("model_type")
    if kind == "bert":
        return _encoder(config)
    family = HF_FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise _unsupported(checkpoint.name, kind, remote_code="auto_map" in config)
    fields = Fields(config, "config.json", family.aliases, family.defaults)
    if family.nested is not None:
        fields = fields.table(family.nested, family.aliases, family.defaults) or fields
    return _architecture(family, fields, lambda dims: hf_rope(fields, dims))


def family_of(checkpoint: Described) -> Family:
    """The row that describes a decoder; `describe` has accepted it before."""
    if checkpoint.format == "gguf":
        return GGUF_FAMILIES[checkpoint.config["general.architecture"]]
    return HF_FAMILIES[checkpoint.config["model_type"]]


def _describe_gguf(checkpoint: Described) -> Architecture:
    config = checkpoint.config
    kind = config.get("general.architecture")
    family = GGUF_FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise _unsupported(checkpoint.name, kind, remote_code=False)
    prefix = f"{kind}."
    own = {key.removeprefix(prefix): v for key, v in config.items() if key.startswith(prefix)}
    own["vocab_size"] = own.get("vocab_size") or len(config.get("tokenizer.ggml.tokens") or ())
    # GGUF has no flag for it: the output matrix is there, or it is the embedding matrix.
    own["tie_word_embeddings"] = "output.weight" not in checkpoint.tensors
    fields = Fields(own, "GGUF metadata", family.aliases, family.defaults)
    divisors = _divisors(checkpoint)
    return _architecture(family, fields, lambda dims: gguf_rope(fields, dims, divisors))


def _divisors(checkpoint: Described) -> tuple[float, ...]:
    """GGUF's `rope_freqs`; empty where there are none."""
    info = checkpoint.tensors.get("rope_freqs.weight")
    if info is None:
        return ()
    if len(info.shape) != 1 or info.shape[0] > 4096:
        raise ModelFileError("GGUF: rope_freqs.weight must be one short row of numbers.")
    values = tuple(float(x) for x in checkpoint.read("rope_freqs.weight").tolist())
    if not all(math.isfinite(x) and x > 0 for x in values):
        raise ModelFileError("GGUF: rope_freqs.weight must hold positive numbers.")
    return values


def _unsupported(name: str, kind: Any, *, remote_code: bool) -> UnsupportedModelError:
    code = " Code that comes with a model is never run." if remote_code else ""
    return UnsupportedModelError(
        f"{name}: models of type {str(kind)[:60]!r} are not supported.{code} "
        f"Daulat runs these families: {supported()}."
    )


class _Ropes(Protocol):
    def __call__(self, dims: int) -> Mapping[str, Rope]: ...


def _architecture(family: Family, fields: Fields, ropes: _Ropes) -> Architecture:
    hidden = fields.integer("hidden_size", 1, MAX_WIDTH)
    heads = fields.integer("num_attention_heads", 1, 4096)
    kv_heads = _kv_heads(fields, heads)
    head_dim = fields.integer("head_dim", 1, 4096, default=hidden // heads)
    if heads % kv_heads:
        raise fields.wrong("num_key_value_heads", f"a divisor of {heads}, the number of heads")
    if head_dim * heads > 8 * MAX_WIDTH:
        raise fields.wrong("head_dim", f"at most {8 * MAX_WIDTH // heads} with {heads} heads")
    context = fields.integer("max_position_embeddings", 1, MAX_CONTEXT)
    count = fields.integer("num_hidden_layers", 1, MAX_LAYERS)
    rotary: Mapping[str, Rope] = {} if family.learned_positions else ropes(head_dim)
    experts = _experts(family, fields)
    return Architecture(
        family=(experts and family.title_with_experts) or family.title,
        vocab=fields.integer("vocab_size", 1, MAX_VOCAB),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=fields.integer("intermediate_size", 1, MAX_WIDTH, default=4 * hidden),
        context=context,
        layers=_layers(family, fields, count, rotary),
        norm=family.norm,
        norm_eps=fields.number("norm_eps", 0.0, 1.0),
        norm_offset=family.norm_offset,
        learned_positions=context if family.learned_positions else 0,
        gated=family.gated,
        activation=_activation(fields),
        attention_scale=_scale(family, fields, head_dim, count),
        qk_norm=family.qk_norm,
        post_norms=family.post_norms,
        experts=experts,
        embedding_scale=_embedding_scale(family, fields, hidden),
        residual_scale=_granite(family, fields, "residual_multiplier"),
        logits_divisor=_granite(family, fields, "logits_scaling"),
        logits_softcap=fields.number("final_logit_softcapping", 0.0, 1e6, default=0.0),
        tied=fields.flag("tie_word_embeddings", family.tied),
    )


def _activation(fields: Fields) -> Activation:
    word = fields.get("hidden_act")
    if not isinstance(word, str) or word not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"The activation {str(word)[:60]!r} is not supported; known are "
            + ", ".join(sorted(ACTIVATIONS))
            + "."
        )
    return ACTIVATIONS[word]


def _kv_heads(fields: Fields, heads: int) -> int:
    # GPTBigCode says it with a flag; the others with a number, and mean `heads` when they say nothing.
    multi_query = fields.get("multi_query")
    if multi_query is not None:
        return 1 if fields.flag("multi_query", True) else heads
    return fields.integer("num_key_value_heads", 1, 4096, default=heads)


def _experts(family: Family, fields: Fields) -> Experts | None:
    if not family.experts and not fields.get("num_local_experts"):
        return None
    count = fields.integer("num_local_experts", 1, 4096)
    return Experts(count, fields.integer("num_experts_per_tok", 1, count))


def _granite(family: Family, fields: Fields, key: str) -> float:
    if not family.granite:
        return 1.0
    return fields.number(key, 1e-6, 1e6, default=1.0)


def _embedding_scale(family: Family, fields: Fields, hidden: int) -> float:
    if family.embedding_sqrt:
        return math.sqrt(hidden)
    return _granite(family, fields, "embedding_multiplier")


def _scale(family: Family, fields: Fields, head_dim: int, layers: int) -> float:
    if family.granite:
        return fields.number("attention_multiplier", 1e-6, 1e6, default=1.0)
    if family.scale == "none" or (
        family.scale == "bigcode" and not fields.flag("scale_attn_weights", True)
    ):
        return 1.0
    if family.scale == "query":
        return fields.number("query_pre_attn_scalar", 1e-6, 1e6) ** -0.5
    if family.scale == "gemma_gguf" and layers == 62:
        # The 27B model alone (62 blocks) scales by hidden/heads; GGUF has no key for it.
        heads = fields.integer("num_attention_heads", 1, 4096)
        return (fields.integer("hidden_size", 1, MAX_WIDTH) / heads) ** -0.5
    return head_dim**-0.5


def _layers(
    family: Family, fields: Fields, count: int, ropes: Mapping[str, Rope]
) -> tuple[Layer, ...]:
    windows = _windows(family, fields, count)
    full, local = ropes.get("full"), ropes.get("local")
    return tuple(
        Layer(window, local if window is not None and local is not None else full)
        for window in windows
    )


def _windows(family: Family, fields: Fields, count: int) -> tuple[int | None, ...]:
    # `null` says "no window"; a missing key says "the usual one".
    nowhere = fields.is_null("sliding_window") or fields.get("sliding_window") is None
    if family.windows == "none" or nowhere:
        return (None,) * count
    if family.windows == "flagged" and not fields.flag("use_sliding_window", False):
        return (None,) * count
    window = fields.integer("sliding_window", 1, MAX_CONTEXT)
    return tuple(window if local else None for local in _local_layers(family, fields, count))


def _local_layers(family: Family, fields: Fields, count: int) -> tuple[bool, ...]:
    if family.windows == "neo":
        return tuple(word == "local" for word in _neo_layers(fields, count))
    types = fields.words("layer_types", count)
    if types is not None:
        unknown = set(types) - {"full_attention", "sliding_attention"}
        if unknown:
            raise UnsupportedModelError(
                f"Attention of type {sorted(unknown)[0][:60]!r} is not supported."
            )
        return tuple(word == "sliding_attention" for word in types)
    if family.windows == "pattern":
        period = fields.integer("sliding_window_pattern", 1, MAX_LAYERS)
        return tuple((i + 1) % period != 0 for i in range(count))
    if family.windows == "flagged":
        first = fields.integer("max_window_layers", 0, MAX_LAYERS, default=28)
        return tuple(i >= first for i in range(count))
    return (True,) * count


def _neo_layers(fields: Fields, count: int) -> tuple[str, ...]:
    """GPT-Neo's `attention_layers`, or `attention_types` = [[[kinds…], repeats], …] spelled out."""
    words = fields.words("attention_layers", count)
    if words is None:
        try:
            words = tuple(
                kind
                for kinds, repeats in fields.get("attention_types")
                for _ in range(min(int(repeats), MAX_LAYERS))
                for kind in kinds
            )
        except (TypeError, ValueError) as error:
            raise fields.wrong("attention_types", "a list of [[kinds], repeats]") from error
    if len(words) != count or set(words) - {"global", "local"}:
        raise fields.wrong("attention_types", f"{count} times global or local")
    return words


def _encoder(config: Mapping[str, Any]) -> EncoderArchitecture:
    fields = Fields(config, "config.json")
    if fields.get("position_embedding_type") not in (None, "absolute"):
        raise UnsupportedModelError("BERT with relative positions is not supported.")
    hidden = fields.integer("hidden_size", 1, MAX_WIDTH)
    heads = fields.integer("num_attention_heads", 1, 4096)
    if hidden % heads:
        raise ModelFileError("config.json: hidden_size must be a multiple of num_attention_heads.")
    return EncoderArchitecture(
        family="BERT",
        vocab=fields.integer("vocab_size", 1, MAX_VOCAB),
        hidden=hidden,
        heads=heads,
        intermediate=fields.integer("intermediate_size", 1, MAX_WIDTH),
        context=fields.integer("max_position_embeddings", 1, MAX_CONTEXT),
        layers=fields.integer("num_hidden_layers", 1, MAX_LAYERS),
        norm_eps=fields.number("layer_norm_eps", 0.0, 1.0, default=1e-12),
        activation=_activation(fields),
        normalise=True,
    )
