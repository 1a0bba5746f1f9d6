"""Rotary positions: angles per frequency (arXiv 2104.09864). Both decoders turn by the same numbers.

Powers, cosines and sines are computed in float64 and rounded once, so that they do not depend on a library's
or a processor's way to compute them in float32; all between is float32, as in the reference.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from daulat.models.numbers import Floats
from daulat.values.architecture import Rope


def frequencies(rope: Rope) -> Floats:
    """Radians per position, float32 [dims / 2], with the checkpoint's context scaling applied."""
    exponents = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    inverse = np.float32(1) / np.power(rope.theta, exponents.astype(np.float64)).astype(np.float32)
    if rope.scaling == "linear":
        return inverse / np.float32(rope.factor)
    if rope.scaling == "table":
        return inverse / np.array(rope.divisors, dtype=np.float32)
    if rope.scaling == "llama3":
        return _llama3(inverse, rope)
    if rope.scaling == "yarn":
        return _yarn(inverse, rope)
    return inverse


def tables(rope: Rope, frequency: Floats, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """cos and sin, float32 [tokens, dims / 2]."""
    angles = (positions.astype(np.float32)[:, None] * frequency).astype(np.float64)
    factor = np.float32(rope.attention_factor)
    return np.cos(angles).astype(np.float32) * factor, np.sin(angles).astype(np.float32) * factor


def _llama3(inverse: Floats, rope: Rope) -> Floats:
    """Llama 3.1: long waves are stretched, short ones kept, those between blended."""
    waves = 2 * math.pi / inverse
    blend = (rope.original_context / waves - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blend = blend.clip(0.0, 1.0)
    return (1 - blend) * inverse / rope.factor + blend * inverse


def _yarn(inverse: Floats, rope: Rope) -> Floats:
    """YaRN (arXiv 2309.00071): a ramp between stretched and kept, over the dimensions."""

    def dimension(rotations: float) -> float:
        turns = rope.original_context / (rotations * 2 * math.pi)
        return rope.dims * math.log(turns) / (2 * math.log(rope.theta))

    low = max(math.floor(dimension(rope.beta_fast)), 0)
    high = min(math.ceil(dimension(rope.beta_slow)), rope.dims - 1)
    width = high - low if high != low else 0.001
    ramp = ((np.arange(rope.dims // 2, dtype=np.float32) - low) / width).clip(0, 1)
    return inverse / rope.factor * ramp + inverse * (1 - ramp)
