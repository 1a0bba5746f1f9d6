"""Small random checkpoints of every family, written by transformers, which is also the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

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
    "granite": ("Granite", COMMON | GRANITE),
    "granite moe": (
        "GraniteMoe",
        COMMON | GRANITE | {"num_local_experts": 8, "num_experts_per_tok": 3},
    ),
    "bigcode": ("GPTBigCode", GPT2 | {"multi_query": True}),
    "bigcode multi-head": ("GPTBigCode", GPT2 | {"multi_query": False}),
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


def make(case: str) -> hf.PreTrainedModel:
    """The model of a case in float32, with weights that make every part matter."""
    family, options = CASES[case]
    config_class = getattr(hf, "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config")
    model = getattr(hf, f"{family}ForCausalLM")._from_config(
        config_class(**options), attn_implementation="eager", dtype=torch.float32
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
