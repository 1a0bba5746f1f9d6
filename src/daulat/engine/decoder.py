"""The decoder the plain way, in PyTorch: tokens in, logits out. One code for every family; `Architecture`
says what differs.

All tokens of a step, whatever sequences they belong to, go through each matrix together as rows of one
[T, H] matrix; only attention looks at sequences one by one. A prompt in pieces, many prompts, prompts
beside single new tokens: to the matrices they are all just rows.

Not here: which tokens make a step (`scheduler`), which token is chosen (`sampler`).
Shapes: T tokens of the step, H hidden, Q query heads, K key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine import rotary
from daulat.engine.adapter import Adapter
from daulat.engine.attention import attend, extend, rotate
from daulat.engine.cache import Arena, SequenceCache, standalone
from daulat.engine.step import Chunk, Floats, wanted_rows, whole
from daulat.engine.tensors import dtype_of, tensor
from daulat.values.architecture import Activation, Architecture, Layer, Rope

Block = dict[str, Tensor]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Decoder:
    """Weights and arithmetic of one model; it holds no state of any sequence.

    Args:
        architecture: what the model is.
        top: `embed`, `norm`, and as the architecture has them `positions`, `head`.
        blocks: one dictionary of weights per block, named as in `models.weights`.
    """

    def __init__(self, architecture: Architecture, top: Block, blocks: Sequence[Block]) -> None:
        self.architecture = architecture
        self._top = top
        self._blocks = blocks
        self._dtype = top["embed"].dtype
        self._activation = ACTIVATIONS[architecture.activation]
        ropes = {layer.rope for layer in architecture.layers if layer.rope is not None}
        self._frequencies = {rope: rotary.frequencies(rope) for rope in ropes}

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
        return standalone(self.architecture, capacity, dtype_of(self._dtype))

    def new_arena(self) -> Arena:
        """Memory for the keys and values of many sequences."""
        return Arena(self.architecture, dtype_of(self._dtype))

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk], every: bool = False) -> Floats:
        """See `step.Computer`; with `every` the logits behind each token, [T, V]."""
        if every:
            chunks = whole(chunks)
        return self.logits(self.states(chunks))

    @torch.inference_mode()
    def states(self, chunks: Sequence[Chunk]) -> Floats:
        """See `step.Computer`."""
        x, positions = self._embed(chunks)
        angles = self._angles(positions)
        for i, layer in enumerate(self.architecture.layers):
            x = self._block(i, layer, x, chunks, angles)
        for chunk in chunks:
            chunk.cache.advance(len(chunk.tokens))
        return _array(self._norm(x[wanted_rows(chunks, _starts(chunks))], self._top, "norm"))

    @torch.inference_mode()
    def logits(self, states: Floats) -> Floats:
        """See `step.Computer`."""
        a = self.architecture
        head = self._top["embed" if a.tied else "head"]
        logits = F.linear(tensor(states).to(self._dtype), head).float()
        if a.logits_divisor != 1.0:
            logits = logits / a.logits_divisor
        if a.logits_softcap:
            logits = a.logits_softcap * torch.tanh(logits / a.logits_softcap)
        return _array(logits)

    def _embed(self, chunks: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
        """[T, H] and the positions [T]."""
        tokens = torch.tensor([t for chunk in chunks for t in chunk.tokens], dtype=torch.long)
        positions = torch.cat(
            [
                torch.arange(chunk.cache.length, chunk.cache.length + len(chunk.tokens))
                for chunk in chunks
            ]
        )
        x = F.embedding(tokens, self._top["embed"])
        if self.architecture.embedding_scale != 1.0:
            # Rounded to the weights' precision first, as the reference does.
            x = x * torch.tensor(self.architecture.embedding_scale, dtype=x.dtype)
        if self.architecture.learned_positions:
            x = x + F.embedding(positions, self._top["positions"])
        return x, positions

    def _angles(self, positions: Tensor) -> dict[Rope, tuple[Tensor, Tensor]]:
        """cos and sin, [T, 1, dims / 2], as `rotate` takes them."""
        tables = {
            rope: rotary.tables(rope, frequency, positions.numpy())
            for rope, frequency in self._frequencies.items()
        }
        return {r: (tensor(cos)[:, None], tensor(sin)[:, None]) for r, (cos, sin) in tables.items()}

    def _block(
        self,
        i: int,
        layer: Layer,
        x: Tensor,
        chunks: Sequence[Chunk],
        angles: dict[Rope, tuple[Tensor, Tensor]],
    ) -> Tensor:
        w = self._blocks[i]
        cos_sin = angles[layer.rope] if layer.rope is not None else None
        h = self._attended(i, layer, self._norm(x, w, "attn_norm"), chunks, cos_sin)
        x = self._add(x, self._times(i, "out", h, chunks), w, "post_attn_norm")
        h = self._feed_forward(i, self._norm(x, w, "mlp_norm"), chunks)
        return self._add(x, h, w, "post_mlp_norm")

    def _add(self, x: Tensor, h: Tensor, w: Block, norm: str) -> Tensor:
        """What half a block gives, onto what it was given."""
        a = self.architecture
        if a.post_norms:
            h = self._norm(h, w, norm)
        return x + (h if a.residual_scale == 1.0 else h * a.residual_scale)

    def _attended(
        self,
        i: int,
        layer: Layer,
        h: Tensor,
        chunks: Sequence[Chunk],
        cos_sin: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """What the heads see, [T, Q D]: what the output matrix takes."""
        w, a = self._blocks[i], self.architecture
        qkv = self._times(i, "qkv", h, chunks).view(h.shape[0], -1, a.head_dim)
        end = a.heads + a.kv_heads
        q, k, v = qkv[:, : a.heads], qkv[:, a.heads : end], qkv[:, end:]
        if a.qk_norm:
            q, k = self._norm(q, w, "q_norm"), self._norm(k, w, "k_norm")
        if cos_sin is not None:
            q, k = rotate(q, *cos_sin), rotate(k, *cos_sin)
        out = torch.empty_like(q)
        start = 0
        for chunk in chunks:
            rows = slice(start, start + len(chunk.tokens))
            keys, values = extend(chunk.cache, i, k[rows], v[rows])
            out[rows] = attend(q[rows], keys, values, layer.window, a.attention_scale)
            start = rows.stop
        return out.flatten(1)

    def _feed_forward(self, i: int, h: Tensor, chunks: Sequence[Chunk]) -> Tensor:
        if self.architecture.experts is not None:
            return self._experts(self._blocks[i], h)
        inner = self._inner(self._times(i, "up", h, chunks))
        return self._times(i, "down", inner, chunks)

    def _times(self, i: int, slot: str, x: Tensor, chunks: Sequence[Chunk]) -> Tensor:
        """x times a matrix of block `i`, with its bias and the sequences' adapters."""
        w = self._blocks[i]
        y = F.linear(x, w[slot], w.get(f"{slot}.bias"))
        _change_rows(chunks, i, slot, x, y)
        return y

    def _inner(self, up: Tensor) -> Tensor:
        if not self.architecture.gated:
            return self._activation(up)
        gate, up = up.chunk(2, dim=-1)
        return self._activation(gate) * up

    def _experts(self, w: Block, h: Tensor) -> Tensor:
        """Each token goes through its best experts, weighted by softmax over those experts' scores."""
        experts = self.architecture.experts
        assert experts is not None  # noqa: S101 - narrows the type; `_feed_forward` has looked
        shares, chosen = self._routes(w, h)
        out = torch.zeros_like(h)
        for e in range(experts.count):
            rows, ranks = torch.where(chosen == e)
            if not len(rows):
                continue
            inner = self._inner(F.linear(h[rows], w["up"][e]))
            out.index_add_(0, rows, F.linear(inner, w["down"][e]) * shares[rows, ranks, None])
        return out

    def _routes(self, w: Block, h: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's best experts with their shares, both [T, chosen]."""
        experts = self.architecture.experts
        assert experts is not None  # noqa: S101 - as in `_experts`
        scores, chosen = F.linear(h, w["router"]).float().topk(experts.chosen, dim=-1)
        return scores.softmax(dim=-1).to(h.dtype), chosen

    def _norm(self, x: Tensor, w: Block, slot: str) -> Tensor:
        a = self.architecture
        if a.norm == "layer":
            return F.layer_norm(x, (x.shape[-1],), w[slot], w.get(f"{slot}.bias"), a.norm_eps)
        return F.rms_norm(x, (x.shape[-1],), w[slot], a.norm_eps)


def _array(numbers: Tensor) -> Floats:
    return np.asarray(numbers.float().numpy())


def _starts(chunks: Sequence[Chunk]) -> list[int]:
    return [0, *itertools.accumulate(len(chunk.tokens) for chunk in chunks)][: len(chunks)]


def _change_rows(chunks: Sequence[Chunk], layer: int, slot: str, x: Tensor, y: Tensor) -> None:
    """Apply each sequence's adapter to its rows of y, with x what was multiplied."""
    start = 0
    for chunk in chunks:
        rows = slice(start, start + len(chunk.tokens))
        if chunk.adapter is not None:
            _change(chunk.adapter, layer, slot, x[rows], y[rows])
        start = rows.stop


def _change(adapter: Adapter, layer: int, slot: str, x: Tensor, y: Tensor) -> None:
    """y += B (A x), for x [rows, inputs] and y [rows, outputs of the slot]."""
    for delta in adapter.layers[layer]:
        if delta.slot == slot:
            change = (x.float() @ tensor(delta.a).T) @ tensor(delta.b)[:, : delta.rows]
            y[:, delta.first : delta.first + delta.rows] += change.to(y.dtype)
