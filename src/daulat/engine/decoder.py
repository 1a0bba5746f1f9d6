"""The decoder in PyTorch, on the processor or on a CUDA device: tokens in, logits out. One code for every
family; `Architecture` says what differs.

All tokens of a step, whatever sequences they belong to, go through each matrix together as rows of one
[T, H] matrix; only attention looks at sequences (`batch`). A prompt in pieces, many prompts, prompts
beside single new tokens: to the matrices they are all just rows.

Not here: which tokens make a step (`scheduler`), which token is chosen (`sampler`).
Shapes: T tokens of the step, H hidden, Q query heads, K key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine import rotary
from daulat.engine.adapter import Adapter, Delta
from daulat.engine.attention import View, attend, attend_anew, rotate, view
from daulat.engine.batch import Batch, Part, Turns, batch_of
from daulat.engine.cache import SequenceCache
from daulat.engine.graphs import Capture, Graphs
from daulat.engine.pages import Pages, standalone
from daulat.engine.step import Chunk, Floats, wanted_rows, whole
from daulat.engine.tensors import tensor
from daulat.values.architecture import Activation, Architecture, Layer

Block = dict[str, Tensor]
Views = Sequence[Mapping[int | None, View]]
"""For each part of a step, what its tokens see through each window that layers have."""

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
        blocks: one dictionary of weights per block, named as in `models.weights`; all on one device.
        capture: captures the steps that only write (`graphs`); None: they are computed as all others.
    """

    reads_as_it_writes = True
    reads_at_once = 0

    def __init__(
        self,
        architecture: Architecture,
        top: Block,
        blocks: Sequence[Block],
        capture: Capture | None = None,
    ) -> None:
        self.architecture = architecture
        self._top = top
        self._blocks = blocks
        self._dtype, self._device = top["embed"].dtype, top["embed"].device
        self._activation = ACTIVATIONS[architecture.activation]
        ropes = {layer.rope for layer in architecture.layers if layer.rope is not None}
        self._frequencies = {rope: rotary.frequencies(rope) for rope in ropes}
        # Rounded to the weights' precision first, as the reference does.
        self._scale = torch.tensor(architecture.embedding_scale, dtype=self._dtype).item()
        self._changes: WeakKeyDictionary[Adapter, Sequence[Sequence[_Change]]] = WeakKeyDictionary()
        self._capture = capture
        self._graphs: Graphs | None = None

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
        return standalone(self.architecture, capacity, self._dtype, self._device)

    def new_memory(self, blocks: int) -> Pages:
        """For the keys and values of many sequences, in up to so many blocks. Captured are steps in the
        memory that was asked for last."""
        pages = Pages(self.architecture, self._dtype, self._device, blocks)
        self._graphs = Graphs(pages, self._capture) if self._capture else None
        return pages

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk], every: bool = False) -> Floats:
        """See `step.Computer`; with `every` the logits behind each token, [T, V]."""
        return _array(self._logits(self._states(whole(chunks) if every else chunks)))

    @torch.inference_mode()
    def states(self, chunks: Sequence[Chunk]) -> Floats:
        """See `step.Computer`."""
        return _array(self._states(chunks))

    @torch.inference_mode()
    def logits(self, states: Floats, written: Sequence[bool]) -> Floats:
        """See `step.Computer`."""
        return _array(self._logits(tensor(states).to(self._device, self._dtype)))

    def _states(self, chunks: Sequence[Chunk]) -> Tensor:
        """The wanted tokens' states [W, H]; the chunks' caches are extended."""
        batch = batch_of(chunks, self.architecture.vocab, self._turns)
        wanted = wanted_rows(chunks, batch.starts)
        if self._graphs is not None and self._graphs.take(batch):
            x = self._graphs.run(batch, self._device, self._through)
        else:
            x = self._through(batch.each(lambda one: one.to(self._device)))
        for chunk in chunks:
            chunk.cache.advance(len(chunk.tokens))
        return self._norm(x[torch.tensor(wanted, dtype=torch.long)], self._top, "norm")

    def _logits(self, states: Tensor) -> Tensor:
        """[W, V], float32."""
        a = self.architecture
        logits = F.linear(states, self._top["embed" if a.tied else "head"]).float()
        if a.logits_divisor != 1.0:
            logits = logits / a.logits_divisor
        if a.logits_softcap:
            logits = a.logits_softcap * torch.tanh(logits / a.logits_softcap)
        return logits

    def _turns(self, positions: Tensor) -> Turns:
        tables = {
            rope: rotary.tables(rope, frequency, positions.numpy())
            for rope, frequency in self._frequencies.items()
        }
        return {r: (tensor(cos)[:, None], tensor(sin)[:, None]) for r, (cos, sin) in tables.items()}

    def _through(self, batch: Batch) -> Tensor:
        """A step through all blocks, [T, H]; what is captured."""
        x = self._embed(batch)
        views = self._views(batch)
        for i, layer in enumerate(self.architecture.layers):
            x = self._block(i, layer, x, batch, views)
        return x

    def _embed(self, batch: Batch) -> Tensor:
        x = F.embedding(batch.tokens, self._top["embed"])
        if self._scale != 1.0:
            x = x * self._scale
        if self.architecture.learned_positions:
            x = x + F.embedding(batch.positions, self._top["positions"])
        return x

    def _views(self, batch: Batch) -> Views:
        windows = {layer.window for layer in self.architecture.layers}
        return [
            {
                window: view(part.pages, part.tables, part.of(batch.positions), window)
                for window in windows
                if not _sees_itself_alone(part, window)
            }
            for part in batch.parts
        ]

    def _block(self, i: int, layer: Layer, x: Tensor, batch: Batch, views: Views) -> Tensor:
        w = self._blocks[i]
        h = self._attended(i, layer, self._norm(x, w, "attn_norm"), batch, views)
        x = self._add(x, self._times(i, "out", h, batch), w, "post_attn_norm")
        h = self._feed_forward(i, self._norm(x, w, "mlp_norm"), batch)
        return self._add(x, h, w, "post_mlp_norm")

    def _add(self, x: Tensor, h: Tensor, w: Block, norm: str) -> Tensor:
        """What half a block gives, onto what it was given."""
        a = self.architecture
        if a.post_norms:
            h = self._norm(h, w, norm)
        return x + (h if a.residual_scale == 1.0 else h * a.residual_scale)

    def _attended(self, i: int, layer: Layer, h: Tensor, batch: Batch, views: Views) -> Tensor:
        """What the heads see, [T, Q D]: what the output matrix takes."""
        w, a = self._blocks[i], self.architecture
        qkv = self._times(i, "qkv", h, batch).view(h.shape[0], -1, a.head_dim)
        end = a.heads + a.kv_heads
        q, k, v = qkv[:, : a.heads], qkv[:, a.heads : end], qkv[:, end:]
        if a.qk_norm:
            q, k = self._norm(q, w, "q_norm"), self._norm(k, w, "k_norm")
        if layer.rope is not None:
            q, k = rotate(q, *batch.turns[layer.rope]), rotate(k, *batch.turns[layer.rope])
        out = torch.empty_like(q)
        for part, seen in zip(batch.parts, views, strict=True):
            rows = part.rows
            part.pages.write(i, batch.slots[rows], k[rows], v[rows])
            if _sees_itself_alone(part, layer.window):
                out[rows] = attend_anew(q[rows], k[rows], v[rows], a.attention_scale)
                continue
            look = seen[layer.window]
            keys, values = part.pages.read(i, look.slots)
            found = attend(part.of(q), keys, values, look.bias, a.attention_scale)
            out[rows] = found.flatten(0, 1)
        return out.flatten(1)

    def _feed_forward(self, i: int, h: Tensor, batch: Batch) -> Tensor:
        if self.architecture.experts is not None:
            return self._experts(self._blocks[i], h)
        inner = self._inner(self._times(i, "up", h, batch))
        return self._times(i, "down", inner, batch)

    def _times(self, i: int, slot: str, x: Tensor, batch: Batch) -> Tensor:
        """x times a matrix of block `i`, with its bias and the sequences' adapters."""
        w = self._blocks[i]
        y = F.linear(x, w[slot], w.get(f"{slot}.bias"))
        for rows, adapter in batch.changes:
            for change in self._changes_of(adapter)[i]:
                if change.delta.slot == slot:
                    change.to(x[rows], y[rows])
        return y

    def _changes_of(self, adapter: Adapter) -> Sequence[Sequence[_Change]]:
        """An adapter's matrices on the model's device, for each block."""
        if adapter not in self._changes:
            self._changes[adapter] = [
                [_Change.of(delta, self._device) for delta in layer] for layer in adapter.layers
            ]
        return self._changes[adapter]

    def _inner(self, up: Tensor) -> Tensor:
        if not self.architecture.gated:
            return self._activation(up)
        gate, up = up.chunk(2, dim=-1)
        return self._activation(gate) * up

    def _experts(self, w: Block, h: Tensor) -> Tensor:
        """Each token goes through its best experts, weighted by softmax over those experts' scores.

        The rows lie expert by expert, so that each one's matrix is read once, and none that nobody chose.
        """
        experts = self.architecture.experts
        assert experts is not None  # noqa: S101 - narrows the type; `_feed_forward` has looked
        shares, chosen = self._routes(w, h)
        order = chosen.flatten().argsort(stable=True)
        every = torch.arange(experts.count, device=h.device)
        ends = (chosen.flatten()[:, None] <= every).sum(0, dtype=torch.int32)
        inner = self._inner(_grouped(h[order // experts.chosen], w["up"], ends))
        found = _grouped(inner, w["down"], ends)[order.argsort()]
        return torch.sum(found.view(*shares.shape, -1) * shares[..., None], dim=1)

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


class _Change(NamedTuple):
    """A part of an adapter on the model's device: A [rank, inputs], B transposed [rank, rows]."""

    delta: Delta
    a: Tensor
    b: Tensor

    @classmethod
    def of(cls, delta: Delta, device: torch.device) -> _Change:
        return cls(delta, tensor(delta.a).to(device), tensor(delta.b)[:, : delta.rows].to(device))

    def to(self, x: Tensor, y: Tensor) -> None:
        """y += B (A x), for x [rows, inputs] and y [rows, outputs of the slot]."""
        first, rows = self.delta.first, self.delta.rows
        y[:, first : first + rows] += ((x.float() @ self.a.T) @ self.b).to(y.dtype)


def _sees_itself_alone(part: Part, window: int | None) -> bool:
    """Whether a part's tokens see each other and nothing else, each all before it."""
    return part.anew and (window is None or part.rows.stop - part.rows.start <= window)


def _grouped(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Rows [T, in], of each expert up to its end, times its matrix of [experts, out, in]."""
    if rows.dtype == torch.bfloat16 or rows.device.type == "cpu":
        return F.grouped_mm(rows, matrices.transpose(1, 2), offs=ends)
    return one_by_one(rows, matrices, ends)  # on a device PyTorch groups no other format


def one_by_one(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """The same without grouping: the processor waits for the ends."""
    parts = rows.tensor_split(ends[:-1].to("cpu", torch.int64))
    return torch.cat([F.linear(*pair) for pair in zip(parts, matrices, strict=True)])


def _array(numbers: Tensor) -> Floats:
    return np.asarray(numbers.float().cpu().numpy())
