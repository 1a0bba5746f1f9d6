"""Small random checkpoints of every family, written by transformers, which is also the oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

COMMON = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.11,
    "residual_multiplier": 0.45,
    "logits_scaling": 2.5,
    "tie_word_embeddings": True,
}
GPT2 = {
    "vocab_size": 300,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 3,
    "n_positions": 512,
    "n_inner": 96,
    "bos_token_id": None,
    "eos_token_id": None,
}
NEO = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_heads": 4,
    "num_layers": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 13,
    "bos_token_id": None,
    "eos_token_id": None,
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", COMMON),
    "llama multi-head tied": (
        "Llama",
        COMMON | {"num_key_value_heads": 4, "tie_word_embeddings": True},
    ),
    "llama biases": ("Llama", COMMON | {"attention_bias": True, "mlp_bias": True}),
    "llama head size": ("Llama", COMMON | {"head_dim": 32}),
    "llama 3.1": ("Llama", COMMON | {"rope_parameters": LLAMA3}),
    "llama linear": (
        "Llama",
        COMMON | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama yarn": ("Llama", COMMON | {"rope_parameters": YARN}),
    "mistral window": ("Mistral", COMMON | {"sliding_window": 17}),
    "mistral": ("Mistral", COMMON | {"sliding_window": None}),
    "mixtral": ("Mixtral", COMMON | {"num_local_experts": 6, "num_experts_per_tok": 2}),
    "mixtral window": (
        "Mixtral",
        COMMON | {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 11},
    ),
    "granite": ("Granite", COMMON | GRANITE),
    "granite untied biases": (
        "Granite",
        COMMON | GRANITE | {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    ),
    "granite moe": (
        "GraniteMoe",
        COMMON | GRANITE | {"num_local_experts": 8, "num_experts_per_tok": 3},
    ),
    "bigcode": ("GPTBigCode", GPT2 | {"multi_query": True}),
    "bigcode multi-head": ("GPTBigCode", GPT2 | {"multi_query": False}),
    "bigcode unscaled": (
        "GPTBigCode",
        GPT2 | {"scale_attn_weights": False, "n_inner": None, "activation_function": "gelu"},
    ),
    "gpt-neo": ("GPTNeo", NEO),
    "qwen2": ("Qwen2", COMMON),
    "qwen2 window": (
        "Qwen2",
        COMMON | {"use_sliding_window": True, "sliding_window": 17, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", COMMON | {"head_dim": 16}),
    "gemma 3": (
        "Gemma3",
        COMMON | {"head_dim": 16, "sliding_window": 17, "query_pre_attn_scalar": 20},
    ),
}


# What config.json held before transformers 5 instead of what it holds now (None: nothing there).
OLD_STYLE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"rope_theta": 500.0, "rope_scaling": None}),
    "llama 3.1": ("llama 3.1", {"rope_theta": 2e4, "rope_scaling": LLAMA3}),
    "linear": ("llama", {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "yarn": ("llama", {"rope_theta": 1e4, "rope_scaling": {"type": "yarn", **YARN}}),
    "mistral": ("mistral window", {"rope_theta": 1e5}),
    "mixtral": ("mixtral", {"rope_theta": 1e5}),
    "granite": ("granite", {"rope_theta": 3e5, "rope_scaling": None}),
    "qwen2": ("qwen2 window", {"rope_theta": 1e6, "rope_scaling": None}),
    "qwen3": ("qwen3", {"rope_theta": 1e6, "rope_scaling": None}),
    "gemma 3": (
        "gemma 3",
        {
            "rope_theta": 2e5,
            "rope_local_base_freq": 5e3,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window_pattern": 2,
        },
    ),
}
NEW_STYLE_KEYS = ("rope_parameters", "layer_types", "attention_layers", "dtype")


def make(case: str, changes: Mapping[str, Any] | None = None) -> hf.PreTrainedModel:
    """The model of a case in float32, with weights that make every part matter."""
    family, options = CASES[case]
    config_class = getattr(hf, "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config")
    model = getattr(hf, f"{family}ForCausalLM")._from_config(
        config_class(**(options | dict(changes or {}))),
        attn_implementation="eager",
        dtype=torch.float32,
    )
    random = torch.Generator().manual_seed(len(case))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            centre = 0.0 if weight.dim() > 1 or name.endswith("bias") or family == "Gemma3" else 1.0
            weight.copy_(centre + 0.15 * noise)
    return model.eval()


def write(model: hf.PreTrainedModel, folder: Path, shard: str = "50GB") -> Path:
    """The model as a folder of safetensors."""
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def read_back(folder: Path) -> hf.PreTrainedModel:
    """The oracle as it understands a folder itself."""
    return hf.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def edit_config(folder: Path, changes: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
    """Changes config.json as if another program had written it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key in without:
        config.pop(key, None)
    path.write_text(json.dumps(config | dict(changes)))


def edit_tensors(
    folder: Path, changes: Mapping[str, torch.Tensor], without: tuple[str, ...] = ()
) -> None:
    """Changes the single file of weights."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in without:
        del tensors[name]
    save_file({**tensors, **changes}, path, metadata={"format": "pt"})
