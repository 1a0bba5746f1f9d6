"""Rotary positions: angles per frequency, and turning queries and keys by them (arXiv 2104.09864)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from daulat.values.architecture import Rope


def frequencies(rope: Rope) -> Tensor:
    """Radians per position, float32 [dims / 2], with the checkpoint's context scaling applied."""
    exponents = torch.arange(0, rope.dims, 2, dtype=torch.float32) / rope.dims
    inverse = 1.0 / (rope.theta**exponents)
    if rope.scaling == "linear":
        return inverse / rope.factor
    if rope.scaling == "table":
        return inverse / torch.tensor(rope.divisors, dtype=torch.float32)
    if rope.scaling == "llama3":
        return _llama3(inverse, rope)
    if rope.scaling == "yarn":
        return _yarn(inverse, rope)
    return inverse


def tables(rope: Rope, frequency: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 [tokens, 1, dims / 2], to be given to `rotate`."""
    angles = positions.to(torch.float32)[:, None, None] * frequency
    return angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn [tokens, heads, D]: dimension j with dimension j + dims/2; those beyond `dims` stay."""
    half = cos.shape[-1]
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat((*turned, rest) if rest.shape[-1] else turned, dim=-1).to(heads.dtype)


def _llama3(inverse: Tensor, rope: Rope) -> Tensor:
    """Llama 3.1: long waves are stretched, short ones kept, those between blended."""
    waves = 2 * math.pi / inverse
    blend = (rope.original_context / waves - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blend = blend.clamp(0.0, 1.0)
    return (1 - blend) * inverse / rope.factor + blend * inverse


def _yarn(inverse: Tensor, rope: Rope) -> Tensor:
    """YaRN (arXiv 2309.00071): a ramp between stretched and kept, over the dimensions."""

    def dimension(rotations: float) -> float:
        turns = rope.original_context / (rotations * 2 * math.pi)
        return rope.dims * math.log(turns) / (2 * math.log(rope.theta))

    low = max(math.floor(dimension(rope.beta_fast)), 0)
    high = min(math.ceil(dimension(rope.beta_slow)), rope.dims - 1)
    width = high - low if high != low else 0.001
    ramp = ((torch.arange(rope.dims // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    return inverse / rope.factor * ramp + inverse * (1 - ramp)
