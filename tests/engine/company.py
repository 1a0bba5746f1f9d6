"""A sequence among others, and keys and values as they lie in a cache."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from daulat.engine.adapter import Adapter
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.step import Chunk

PROMPTS = [[(5 * i * i + 7 * i + k) % 300 for i in range(n)] for k, n in enumerate((70, 3, 41, 18))]


def bits(
    decoder: NativeDecoder,
    prompts: Sequence[Sequence[int]],
    piece: int,
    company: Sequence[Adapter | None],
    which: Adapter | None = None,
    count: int = 12,
) -> list[bytes]:
    """The logits' bits at the first prompt's end and behind so many tokens, others in the same steps.

    Args:
        piece: tokens of the prompt in a step.
        company: the adapters of others, who read and write in turn.
        which: its own adapter.
    """
    cache = decoder.new_cache(120)
    others = [(decoder.new_cache(300), adapter) for adapter in company]
    found: list[bytes] = []
    pending, written = prompts[0], False
    while len(found) < count:
        chunks = [
            Chunk(prompts[k % 4][: 1 + k % 3], c, adapter=a, written=k % 2 == len(found) % 2)
            for k, (c, a) in enumerate(others)
        ]
        place = len(chunks) // 2
        chunks.insert(place, Chunk(pending[:piece], cache, adapter=which, written=written))
        logits = decoder.forward(chunks)[place]
        pending = pending[piece:]
        if not pending:
            found.append(logits.tobytes())
            pending, written = [int(logits.argmax())], True
    return found


def rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16."""
    return x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def scattered(
    keys: np.ndarray, values: np.ndarray, random: np.random.Generator, *, short: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values [1024, D] in blocks of 32, those of a block together, and the blocks in no order.

    Args:
        short: in bfloat16, keys by pairs of dimensions and values by pairs of tokens.

    Returns:
        the memory [32, 2, 32 D], and the addresses of the blocks in the order of their tokens.
    """
    pieces = keys.reshape(32, 32, -1).transpose(0, 2, 1), values.reshape(32, 32, -1)
    if short:
        pieces = tuple(
            piece.astype(ml_dtypes.bfloat16)
            .reshape(32, piece.shape[1] // 2, 2, piece.shape[2])
            .swapaxes(2, 3)
            for piece in pieces
        )
    order = random.permutation(32)
    memory = np.stack([piece.reshape(32, -1)[order] for piece in pieces], axis=1)
    return memory, memory.ctypes.data + np.argsort(order) * memory.strides[0]
