"""Rotary positions as descriptions give them: config.json (old and new style) and GGUF metadata.

`full` is for layers that see everything, `local` (where there is one) for layers with a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from daulat.errors import UnsupportedModelError
from daulat.models.fields import Fields
from daulat.values.architecture import Rope

_MAX_THETA = 1e12


def hf_rope(fields: Fields, head_dim: int) -> Mapping[str, Rope]:
    """From `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    theta = fields.number("rope_theta", 1.0, _MAX_THETA, default=10000.0)
    context = fields.integer("max_position_embeddings", 1, 1 << 27)
    partial = fields.number("partial_rotary_factor", 0.01, 1.0, default=1.0)
    table = fields.table("rope_parameters") or fields.table("rope_scaling") or Fields({}, "")
    full_table, local_table = table.table("full_attention"), table.table("sliding_attention")
    full = _hf_one(full_table or table, theta, head_dim, context, partial)
    if local_table is not None:
        local = _hf_one(local_table, theta, head_dim, context, partial)
    elif fields.get("rope_local_base_freq") is not None:
        local_theta = fields.number("rope_local_base_freq", 1.0, _MAX_THETA)
        local = Rope(theta=local_theta, dims=head_dim)
    else:
        return {"full": full}
    return {"full": full, "local": local}


def _hf_one(table: Fields, theta: float, head_dim: int, context: int, partial: float) -> Rope:
    kind = table.get("rope_type") or table.get("type") or "default"
    theta = table.number("rope_theta", 1.0, _MAX_THETA, default=theta)
    partial = table.number("partial_rotary_factor", 0.01, 1.0, default=partial)
    dims = int(head_dim * partial)
    if dims < 2 or dims % 2:
        raise UnsupportedModelError(f"Rotary positions over {dims} dimensions are not supported.")
    if kind == "default":
        return Rope(theta, dims)
    factor = table.number("factor", 1e-3, 1e6)
    if kind == "linear":
        return Rope(theta, dims, "linear", factor)
    original = table.integer("original_max_position_embeddings", 1, 1 << 27, default=context)
    if kind == "llama3":
        return Rope(
            theta,
            dims,
            "llama3",
            factor,
            low_freq_factor=table.number("low_freq_factor", 1e-3, 1e6),
            high_freq_factor=table.number("high_freq_factor", 1e-3, 1e6),
            original_context=original,
        )
    if kind == "yarn":
        return _hf_yarn(table, theta, dims, factor, original)
    raise UnsupportedModelError(
        f"Rotary positions of type {str(kind)[:60]!r} are not supported; "
        "known are default, linear, llama3 and yarn."
    )


def _hf_yarn(table: Fields, theta: float, dims: int, factor: float, original: int) -> Rope:
    if table.get("truncate") is False:
        raise UnsupportedModelError("YaRN positions without truncation are not supported.")
    return Rope(
        theta,
        dims,
        "yarn",
        factor,
        original_context=original,
        beta_fast=table.number("beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=table.number("beta_slow", 1e-3, 1e6, default=1.0),
        attention_factor=table.number(
            "attention_factor", 1e-3, 1e6, default=_yarn_attention(table, factor)
        ),
    )


def _yarn_attention(table: Fields, factor: float) -> float:
    """The paper's 0.1 ln(factor) + 1, or DeepSeek's quotient of two such terms."""

    def term(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if table.get("mscale") and table.get("mscale_all_dim"):
        return term(table.number("mscale", 0.0, 1e3)) / term(table.number("mscale_all_dim", 0, 1e3))
    return term(1.0)


def gguf_rope(fields: Fields, head_dim: int, divisors: tuple[float, ...]) -> Mapping[str, Rope]:
    """From `rope.*` metadata and the `rope_freqs` tensor, which holds Llama 3.1's scaling."""
    theta = fields.number("rope_theta", 1.0, _MAX_THETA)
    dims = fields.integer("rope.dimension_count", 2, head_dim, default=head_dim)
    if dims % 2:
        raise fields.wrong("rope.dimension_count", "even")
    full = _gguf_one(fields, theta, dims, divisors)
    if fields.get("rope_local_base_freq") is None:
        return {"full": full}
    local_theta = fields.number("rope_local_base_freq", 1.0, _MAX_THETA)
    return {"full": full, "local": Rope(local_theta, dims)}


def _gguf_one(fields: Fields, theta: float, dims: int, divisors: tuple[float, ...]) -> Rope:
    kind = fields.get("rope.scaling.type") or "none"
    if divisors:
        if kind != "none" or len(divisors) != dims // 2:
            raise UnsupportedModelError(
                "GGUF rope_freqs together with another scaling, or of the wrong length, "
                "is not supported."
            )
        return Rope(theta, dims, "table", divisors=divisors)
    if kind == "none":
        return Rope(theta, dims)
    factor = fields.number("rope.scaling.factor", 1e-3, 1e6)
    if kind == "linear":
        return Rope(theta, dims, "linear", factor)
    if kind == "yarn":
        return Rope(
            theta,
            dims,
            "yarn",
            factor,
            original_context=fields.integer("rope.scaling.original_context_length", 1, 1 << 27),
            attention_factor=fields.number("rope.scaling.attn_factor", 1e-3, 1e6, default=1.0)
            * (1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0),
        )
    raise UnsupportedModelError(
        f"GGUF rope scaling {str(kind)[:60]!r} is not supported; known are none, linear and yarn."
    )
