"""Which matrices keep eight bits where four are asked for: those whose four bits cost most for the bytes saved.

What four bits cost is measured. One matrix at a time takes them, all others have eight, and the words that the
model then expects are compared with those that it expects in eight bits throughout: the mean Kullback-Leibler
divergence, over text of the model's own. Such costs add up well enough while they are small, so the bytes that
there are go to the matrices in the order of cost for a byte (as by HAWQ, arXiv 1905.03696, which estimates the
cost instead).

There are as many bytes as if every matrix took the form of its kind (`matrices.form_for`), and a fiftieth more,
both in memory and in what is read for a token: experts that a token does not go to are not read.

Not here: how four bits are chosen (`native.gptq`), what the text is (`calibration`).
Shapes: N matrices, K kinds of bytes, R tokens that are compared, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daulat.engine.native.decoder import NativeDecoder, Slots
from daulat.engine.native.matrices import SPARE, Matrix, form_for
from daulat.engine.native.panels import Q8_0
from daulat.engine.step import Chunk
from daulat.engine.tensors import tensor
from daulat.models.numbers import Floats
from daulat.values.architecture import Architecture

Doubles = NDArray[np.float64]
Parts = tuple[Slots, Sequence[Slots]]
Progress = Callable[[int, int], None]
Name = tuple[int, str]
"""A block's number and a slot."""

TEXTS = 2
"""One begun by a token at random, one by a phrase; two more change little (docs/experiments.md)."""
APART = 4
"""The words expected behind every fourth token are compared: neighbours tell much the same."""
NUMBERS = 1 << 25
"""Logits kept at most (R V): with vocabularies of hundreds of thousands fewer tokens are compared."""


def allocate(
    parts: Parts,
    fours: Sequence[Mapping[str, Matrix]],
    texts: Sequence[Sequence[int]],
    architecture: Architecture,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[Slots]:
    """Each block, with its four bits where they cost little.

    Args:
        parts: the model in eight bits.
        fours: those matrices of each block that may take four bits, in four bits.
        texts: of the model's own; the first few are used.
    """
    _top, blocks = parts
    names = [(i, slot) for i, block in enumerate(fours) for slot in sorted(block)]
    harms = measure(parts, fours, names, texts[:TEXTS], architecture, threads, progress)
    eights, least = (
        np.array([_bytes(held[i][slot], slot, architecture) for i, slot in names])
        for held in (blocks, fours)
    )
    by_kind = np.array([[form_for(slot, "int4") == Q8_0] for _, slot in names])
    allowed = (1 + SPARE) * np.where(by_kind, eights, least).sum(0) - least.sum(0)
    kept = {names[n] for n in spend(harms, eights - least, allowed)}
    return [
        {**block, **{slot: four for slot, four in some.items() if (i, slot) not in kept}}
        for i, (block, some) in enumerate(zip(blocks, fours, strict=True))
    ]


def spend(harms: Doubles, sizes: Doubles, allowed: Doubles) -> list[int]:
    """Which matrices keep eight bits.

    Args:
        harms: [N], what each one's four bits cost.
        sizes: [N, K], the bytes that they save; none is zero.
        allowed: [K], how many of these bytes all kept matrices may take.

    Returns:
        Their places, ascending.
    """
    if not (allowed > 0).all():
        return []
    shares = (sizes / allowed).max(axis=1)
    left, kept = allowed.copy(), list[int]()
    for n in np.argsort(-harms / shares, kind="stable"):
        if (sizes[n] <= left).all():
            left -= sizes[n]
            kept.append(int(n))
    return sorted(kept)


def _bytes(held: Matrix | Floats, slot: str, a: Architecture) -> list[float]:
    """A matrix's bytes in memory, and what of them is read for a token."""
    size = np.asarray(held.data).nbytes
    routed = a.experts is not None and slot in ("up", "down")
    return [size, size * a.experts.chosen / a.experts.count if a.experts and routed else size]


def measure(
    parts: Parts,
    fours: Sequence[Mapping[str, Matrix]],
    names: Sequence[Name],
    texts: Sequence[Sequence[int]],
    architecture: Architecture,
    threads: int = 1,
    progress: Progress | None = None,
) -> Doubles:
    """What four bits of each named matrix cost, in nats for a token, [N]."""
    top, blocks = parts

    def expected(changed: Sequence[Slots]) -> Tensor:
        return _expected(NativeDecoder(architecture, top, changed, threads, "int16"), texts)

    exact = expected(blocks)
    likely = exact.exp()
    found = np.empty(len(names))
    for n, (i, slot) in enumerate(names):
        changed = list(blocks)
        changed[i] = {**blocks[i], slot: fours[i][slot]}
        # 0 times minus infinity is no number; float32 does not get there from finite logits.
        found[n] = float((likely * (exact - expected(changed))).sum(1).mean())
        if progress is not None:
            progress(n + 1, len(names))
    return found


def _expected(decoder: NativeDecoder, texts: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of all words behind some tokens of the texts, [R, V]."""
    tokens = sum(map(len, texts))
    apart = max(APART, -(-tokens * decoder.architecture.vocab // NUMBERS))
    found: list[Tensor] = []
    for text in texts:
        wanted = range(min(apart, len(text)) - 1, len(text), apart)
        chunk = Chunk(text, decoder.new_cache(len(text)), wanted=wanted)
        found.append(torch.log_softmax(tensor(decoder.forward([chunk])), 1))
    return torch.cat(found)
