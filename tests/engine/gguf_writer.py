"""GGUF files as llama.cpp's converter writes them, made from small transformers models.

Returned beside each file are the weights as they come back from its number format, so that the oracle can
be given exactly what the file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers as hf
from gguf import GGMLQuantizationType as Kind

_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "block_sparse_moe.router": "ffn_gate_inp",
    "mlp.gate": "ffn_gate_inp",
}
_BLOCKS = {
    "gemma3": {
        **_BLOCK,
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    "starcoder": {
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
}
_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}


def write(
    model: hf.PreTrainedModel, path: Path, arch: str, kind: Kind, *, permuted: bool
) -> hf.PreTrainedModel:
    """Write `model` as GGUF and change it to what the file holds after quantisation."""
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    _metadata(writer, config, arch)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            for target, part in _targets(name, weight, _BLOCKS.get(arch, _BLOCK)):
                heads = _heads(target, config) if permuted else 0
                data = _permute(part, heads) if heads else part
                # Gemma's norms are stored as they are multiplied; transformers keeps them less one.
                more = 1.0 if arch == "gemma3" and "norm" in target else 0.0
                stored = _store(writer, target, (data + more).numpy(), kind)
                back = torch.from_numpy(stored) - more
                part.copy_(_unpermute(back, heads) if heads else back)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _metadata(writer: gguf.GGUFWriter, config: Any, arch: str) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if arch == "starcoder":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_head_count_kv(1)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    if arch == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    if arch.startswith("granite"):
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if getattr(config, "num_local_experts", None):
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", _divisors(rope, head_dim))


def _divisors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """What llama.cpp's converter stores for Llama 3.1: each frequency's divisor."""
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    found = []
    for frequency in frequencies:
        wave = 2 * np.pi / frequency
        if wave < high:
            found.append(1.0)
        elif wave > low:
            found.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, dtype=np.float32)


def _targets(
    name: str, weight: torch.Tensor, block_names: Mapping[str, str]
) -> list[tuple[str, torch.Tensor]]:
    """GGUF names, each with the part of the parameter (a view) that goes there."""
    if name.endswith("experts.gate_up_proj"):
        block, half = f"blk.{name.split('.')[2]}", weight.shape[1] // 2
        return [
            (f"{block}.ffn_gate_exps.weight", weight[:, :half]),
            (f"{block}.ffn_up_exps.weight", weight[:, half:]),
        ]
    if name.endswith("experts.down_proj"):
        return [(f"blk.{name.split('.')[2]}.ffn_down_exps.weight", weight)]
    stem, _, ending = name.rpartition(".")
    if stem in _TOP:
        return [(f"{_TOP[stem]}.{ending}", weight)]
    _, _, number, rest = stem.split(".", 3)
    return [(f"blk.{number}.{block_names[rest]}.{ending}", weight)]


def _store(writer: gguf.GGUFWriter, name: str, data: np.ndarray, kind: Kind) -> np.ndarray:
    """Add a tensor; what reading it back gives. Vectors and routers stay in float32, as usual."""
    data = np.ascontiguousarray(data, dtype=np.float32)
    if data.ndim == 1 or "ffn_gate_inp" in name:
        kind = Kind.F32
    raw = _q4_k(data) if kind == Kind.Q4_K else gguf.quants.quantize(data, kind)
    writer.add_tensor(name, raw, raw_dtype=kind)
    return gguf.quants.dequantize(raw, kind).reshape(data.shape).astype(np.float32)


def _q4_k(data: np.ndarray) -> np.ndarray:
    """Valid Q4_K blocks: one scale and minimum for each 256 numbers (the package cannot write any)."""
    flat = data.reshape(-1, 256)
    low = np.minimum(flat.min(1), 0)
    scale = (flat.max(1) - low) / 15 + 1e-8
    quants = np.clip(np.round((flat - low[:, None]) / scale[:, None]), 0, 15).astype(np.uint8)
    head = np.stack([scale, -low], 1).astype(np.float16).view(np.uint8)
    # Six-bit scales and minima, all 1, in llama.cpp's packing of eight of each into 12 bytes.
    scales = np.tile(np.array([1] * 8 + [0x11] * 4, np.uint8), (len(flat), 1))
    pairs = quants.reshape(-1, 4, 2, 32)
    packed = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    blocks = np.concatenate([head, scales, packed], 1)
    return blocks.reshape(*data.shape[:-1], -1)


def _heads(name: str, config: Any) -> int:
    if ".attn_q." in name:
        return config.num_attention_heads
    return config.num_key_value_heads if ".attn_k." in name else 0


def _permute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, half, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
