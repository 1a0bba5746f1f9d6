"""Checkpoints of real shapes with random weights, for benchmarks/shapes.py: what is measured is bytes.

The shapes are those of the models' published config.json; Llama's rotary scaling, which costs nothing, is left
out. Weights are normal numbers with a deviation of 0.02, norms are one. There is no tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import cache_folder, checkpoint

Table = dict[str, tuple[int, ...]]

_GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "rope_theta": 10000.0}
_GRANITE |= {"attention_multiplier": 0.015625, "max_position_embeddings": 4096}
_GRANITE |= {"vocab_size": 49155, "num_key_value_heads": 8, "tie_word_embeddings": True}
SHAPES: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
    },
    "Granite-3.0-1B-A400M": {
        **_GRANITE,
        "architectures": ["GraniteMoeForCausalLM"],
        "model_type": "granitemoe",
        "hidden_size": 1024,
        "intermediate_size": 512,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_local_experts": 32,
        "num_experts_per_tok": 8,
        "rms_norm_eps": 1e-6,
        "logits_scaling": 6.0,
    },
    "Granite-3.0-2B": {
        **_GRANITE,
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "rms_norm_eps": 1e-5,
        "logits_scaling": 8.0,
    },
    "Mistral-7B-v0.3": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": 32768,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
}
_COMMON = {"hidden_act": "silu", "dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}


def home() -> Path:
    return cache_folder() / "shapes"


def config_of(name: str) -> dict[str, Any]:
    return {**_COMMON, **SHAPES[name]}


def digest(name: str) -> str:
    """Stands for the weights, which follow from the description."""
    return "sha256:" + hashlib.sha256(json.dumps(config_of(name)).encode()).hexdigest()


# --- Hugging Face's files --------------------------------------------------------------------------------


def top_tensors(c: Mapping[str, Any]) -> Table:
    found: Table = {
        "model.embed_tokens.weight": (c["vocab_size"], c["hidden_size"]),
        "model.norm.weight": (c["hidden_size"],),
    }
    if not c["tie_word_embeddings"]:
        found["lm_head.weight"] = (c["vocab_size"], c["hidden_size"])
    return found


def block_tensors(c: Mapping[str, Any]) -> Table:
    """Of one block, by what follows `model.layers.0.`."""
    h, inner, experts = c["hidden_size"], c["intermediate_size"], c.get("num_local_experts")
    head = c.get("head_dim") or h // c["num_attention_heads"]
    q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    found: Table = {
        "input_layernorm.weight": (h,),
        "self_attn.q_proj.weight": (q, h),
        "self_attn.k_proj.weight": (kv, h),
        "self_attn.v_proj.weight": (kv, h),
        "self_attn.o_proj.weight": (h, q),
        "post_attention_layernorm.weight": (h,),
    }
    if experts:
        mixture = "block_sparse_moe."
        found[mixture + "router.layer.weight"] = (experts, h)
        found[mixture + "input_linear.weight"] = (experts, 2 * inner, h)
        found[mixture + "output_linear.weight"] = (experts, h, inner)
    else:
        found |= {f"mlp.{one}_proj.weight": (inner, h) for one in ("gate", "up")}
        found["mlp.down_proj.weight"] = (h, inner)
    return found


def folder_of(name: str) -> Path:
    """The model's folder, written if it is not there: one shard a block."""
    folder = home() / name
    config = config_of(name)
    if folder.is_dir() and json.loads((folder / "config.json").read_text()) == config:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    half = folder.with_name(name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    block = block_tensors(config)
    blocks = [
        {f"model.layers.{i}.{tensor}": shape for tensor, shape in block.items()}
        for i in range(config["num_hidden_layers"])
    ]
    parts = [top_tensors(config), *blocks]
    places = {
        tensor: _write_shard(half, number, len(parts), part)
        for number, part in enumerate(parts)
        for tensor in part
    }
    index = {"metadata": {}, "weight_map": places}
    (half / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (half / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    half.rename(folder)
    return folder


def _write_shard(folder: Path, number: int, count: int, part: Table) -> str:
    import torch
    from safetensors.torch import save_file

    file = folder / f"model-{number + 1:05d}-of-{count:05d}.safetensors"
    if not file.exists():
        random = torch.Generator().manual_seed(number)
        weights = {
            tensor: (torch.randn(shape, generator=random) * 0.02).bfloat16()
            if len(shape) > 1
            else torch.ones(shape, dtype=torch.bfloat16)
            for tensor, shape in part.items()
        }
        save_file(weights, file, metadata={"format": "pt"})
    return file.name


# --- GGUF, for llama.cpp -----------------------------------------------------------------------------------

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.output_linear": "ffn_down_exps",
}
GGUF_FORMATS = {"int8": "Q8_0", "int4": "Q4_0"}
"""llama.cpp's quickest format of that many bits; of four, the embedding and output matrices have eight."""


def gguf_of(name: str, numbers: str) -> Path:
    """The same weights as a GGUF file, written if it is not there."""
    import gguf
    from gguf import quants

    path = home() / f"{name}-{numbers}.gguf"
    if path.exists():
        return path
    config = config_of(name)
    half = path.with_suffix(".part")
    kind = config["model_type"] if "granite" in config["model_type"] else "llama"
    writer = gguf.GGUFWriter(half, kind)
    _describe(writer, config)
    planned = [(file, *one) for file, one in _gguf_tensors(name, config)]
    for _, tensor, shape, _, _ in planned:
        form = _gguf_form(tensor, numbers)
        block, size = gguf.GGML_QUANT_SIZES[form]
        numbered = np.dtype(np.float32)
        writer.add_tensor_info(tensor, shape, numbered, math.prod(shape) // block * size, form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for file, tensor, _, source, rows in planned:
        form = _gguf_form(tensor, numbers)
        writer.write_tensor_data(quants.quantize(_weights(file, source, rows, config), form))
    writer.close()
    half.rename(path)
    return path


def _gguf_form(tensor: str, numbers: str) -> Any:
    from gguf import GGMLQuantizationType as Kind

    if "norm" in tensor or "gate_inp" in tensor:
        return Kind.F32
    outer = tensor in ("token_embd.weight", "output.weight")
    return Kind.Q8_0 if outer else Kind[GGUF_FORMATS[numbers]]


def _gguf_tensors(name: str, config: Mapping[str, Any]) -> Iterator[tuple[Path, tuple[Any, ...]]]:
    """Shard, and (name, shape, source, rows of each expert): gate and up come apart."""
    folder = folder_of(name)
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    inner = config["intermediate_size"]
    outer, block = top_tensors(config), block_tensors(config)
    named = dict(outer)
    for i in range(config["num_hidden_layers"]):
        named |= {f"model.layers.{i}.{tensor}": shape for tensor, shape in block.items()}
    for source, shape in named.items():
        file = folder / places[source]
        bare = source.removesuffix(".weight")
        prefix = ""
        if bare.startswith("model.layers."):
            _, _, i, bare = bare.split(".", 3)
            prefix = f"blk.{i}."
        if bare == "block_sparse_moe.input_linear":
            half = (shape[0], inner, shape[2])
            for k, one in enumerate(("gate", "up")):
                rows = slice(k * inner, (k + 1) * inner)
                yield file, (f"{prefix}ffn_{one}_exps.weight", half, source, rows)
        else:
            yield file, (f"{prefix}{_GGUF_NAMES[bare]}.weight", shape, source, None)


def _weights(file: Path, source: str, rows: slice | None, config: Mapping[str, Any]) -> Any:
    """float32, with the rows of q and k in llama.cpp's order."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        weights = opened.get_tensor(source).float().numpy()
    if rows is not None:
        weights = weights[:, rows]
    for one, key in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if one in source:
            heads, columns = config[key], weights.shape[1]
            halves = weights.reshape(heads, 2, -1, columns)
            weights = halves.swapaxes(1, 2).reshape(-1, columns)
    return np.ascontiguousarray(weights)


def _describe(writer: Any, c: Mapping[str, Any]) -> None:
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_vocab_size(c["vocab_size"])
    if "num_local_experts" in c:
        writer.add_expert_count(c["num_local_experts"])
        writer.add_expert_used_count(c["num_experts_per_tok"])
    if "logits_scaling" in c:
        writer.add_logit_scale(c["logits_scaling"])
        writer.add_embedding_scale(c["embedding_multiplier"])
        writer.add_residual_scale(c["residual_multiplier"])
        writer.add_attention_scale(c["attention_multiplier"])
    _words(writer, c["vocab_size"])


def _words(writer: Any, count: int) -> None:
    """The starter's tokenizer, as long as the shape's vocabulary: llama.cpp does not run without one."""
    own = checkpoint().config
    known = list(own["tokenizer.ggml.tokens"])[:count]
    more = [f"<unused_{i}>" for i in range(count - len(known))]
    kinds = list(own["tokenizer.ggml.token_type"])[: len(known)]
    writer.add_tokenizer_model(own["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(own["tokenizer.ggml.pre"])
    writer.add_token_list([*known, *more])
    writer.add_token_types([*(int(kind) for kind in kinds), *[1] * len(more)])
    there = set(known)
    pairs = [p for p in own["tokenizer.ggml.merges"] if set(p.split(" ")) <= there]
    writer.add_token_merges([p for p in pairs if p.replace(" ", "") in there])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
