"""Which tensors of a checkpoint are which weights of the decoder: one table per layout.

The decoder wants few, wide matrices: query, key and value in one, gate and up in one. A table row names
the source tensors that are laid one under the other for each; `Layout` says what else must be undone
(GGUF's permuted rows, GPTBigCode's interleaved heads, experts stored one by one).

Shapes below: H hidden, Q query heads, K key-value heads, D head size, I intermediate, E experts, V vocabulary.

| slot | shape |
|---|---|
| `embed` | [V, H] |
| `positions` | [positions, H] |
| `head` | [V, H] (absent where tied) |
| `attn_norm`, `mlp_norm`, `norm`, `post_attn_norm`, `post_mlp_norm` | [H] |
| `q_norm`, `k_norm` | [D] |
| `qkv` | [(Q + 2K) D, H] |
| `out` | [H, Q D] |
| `up` | [2I, H] (gate first) or [I, H]; experts [E, 2I, H] |
| `down` | [H, I]; experts [E, H, I] |
| `router` | [E, H] |

Biases have the slot's name and `.bias`; they are there exactly where the checkpoint has them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from daulat.errors import ModelFileError
from daulat.models.families import family_of
from daulat.models.mapped import TensorInfo
from daulat.models.numbers import Array, float32, is_float
from daulat.values.architecture import Architecture


class Source(Protocol):
    """What this module needs of a checkpoint."""

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def config(self) -> Mapping[str, object]: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    def read(self, name: str) -> Array: ...
    def raw(self, name: str) -> Array: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Names in one kind of checkpoint; `{i}` is the block, `{e}` the expert.

    Attributes:
        top: slot to tensor, outside the blocks.
        block: slot to the tensors that form it, one under the other.
        ignored: patterns of tensors that are derived data (mask buffers and the like).
        renamed: (old, new) beginnings of names under which models that carry other parts (vision)
            file the same tensors.
        permuted: rows of q and k are in llama.cpp's order.
        interleaved: with several key-value heads, q, k and v alternate head by head (GPTBigCode).
    """

    top: Mapping[str, str]
    block: Mapping[str, Sequence[str]]
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    permuted: bool = False
    interleaved: bool = False


def _under(prefix: str, names: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    def full(name: str) -> str:
        return f"{prefix}{name}"

    return {
        slot: (full(source),) if isinstance(source, str) else tuple(full(s) for s in source)
        for slot, source in names.items()
    }


_HF_TOP = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_HF_ATTENTION: dict[str, str | Sequence[str]] = {
    "attn_norm": "input_layernorm",
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "out": "self_attn.o_proj",
}
_HF_MLP: dict[str, str | Sequence[str]] = {
    "mlp_norm": "post_attention_layernorm",
    "up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": "mlp.down_proj",
}
_HF_IGNORED = (r".*rotary_emb\.inv_freq",)
_GPT_TOP = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}
_GGUF_TOP = {"embed": "token_embd", "norm": "output_norm", "head": "output"}
_GGUF_BLOCK: dict[str, str | Sequence[str]] = {
    "attn_norm": "attn_norm",
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "out": "attn_output",
    "mlp_norm": "ffn_norm",
    "up": ("ffn_gate", "ffn_up"),
    "down": "ffn_down",
}
_GGUF_EXPERTS: dict[str, str | Sequence[str]] = {
    "router": "ffn_gate_inp",
    "expert_up": ("ffn_gate_exps", "ffn_up_exps"),
    "expert_down": "ffn_down_exps",
}
_GGUF_IGNORED = (r"rope_freqs\.weight",)

LAYOUTS: Mapping[str, Layout] = {
    "llama": Layout(
        _HF_TOP, _under("model.layers.{i}.", {**_HF_ATTENTION, **_HF_MLP}), _HF_IGNORED
    ),
    "mixtral": Layout(
        _HF_TOP,
        _under(
            "model.layers.{i}.",
            {
                **_HF_ATTENTION,
                "mlp_norm": "post_attention_layernorm",
                "router": "block_sparse_moe.gate",
                "expert_up": (
                    "block_sparse_moe.experts.{e}.w1",
                    "block_sparse_moe.experts.{e}.w3",
                ),
                "expert_down": "block_sparse_moe.experts.{e}.w2",
            },
        ),
        _HF_IGNORED,
    ),
    "granitemoe": Layout(
        _HF_TOP,
        _under(
            "model.layers.{i}.",
            {
                **_HF_ATTENTION,
                "mlp_norm": "post_attention_layernorm",
                "router": "block_sparse_moe.router.layer",
                "expert_up": "block_sparse_moe.input_linear",
                "expert_down": "block_sparse_moe.output_linear",
            },
        ),
        _HF_IGNORED,
    ),
    "gpt_bigcode": Layout(
        _GPT_TOP,
        _under(
            "transformer.h.{i}.",
            {
                "attn_norm": "ln_1",
                "qkv": "attn.c_attn",
                "out": "attn.c_proj",
                "mlp_norm": "ln_2",
                "up": "mlp.c_fc",
                "down": "mlp.c_proj",
            },
        ),
        (r".*\.attn\.(bias|masked_bias)",),
        interleaved=True,
    ),
    "gpt_neo": Layout(
        _GPT_TOP,
        _under(
            "transformer.h.{i}.",
            {
                "attn_norm": "ln_1",
                "qkv": (
                    "attn.attention.q_proj",
                    "attn.attention.k_proj",
                    "attn.attention.v_proj",
                ),
                "out": "attn.attention.out_proj",
                "mlp_norm": "ln_2",
                "up": "mlp.c_fc",
                "down": "mlp.c_proj",
            },
        ),
        (r".*\.attn\.attention\.(bias|masked_bias)",),
    ),
    "gemma": Layout(
        _HF_TOP,
        _under(
            "model.layers.{i}.",
            {
                **_HF_ATTENTION,
                **_HF_MLP,
                "post_attn_norm": "post_attention_layernorm",
                "mlp_norm": "pre_feedforward_layernorm",
                "post_mlp_norm": "post_feedforward_layernorm",
            },
        ),
        (
            *_HF_IGNORED,
            r"(model\.)?(vision_tower|multi_modal_projector)\..*|language_model\.lm_head\.weight",
        ),
        renamed=(("model.", "language_model.model."), ("model.", "model.language_model.")),
    ),
    "gguf_llama": Layout(
        _GGUF_TOP,
        _under("blk.{i}.", {**_GGUF_BLOCK, **_GGUF_EXPERTS}),
        _GGUF_IGNORED,
        permuted=True,
    ),
    "gguf_plain": Layout(_GGUF_TOP, _under("blk.{i}.", _GGUF_BLOCK), _GGUF_IGNORED),
    "gguf_gemma": Layout(
        _GGUF_TOP,
        _under(
            "blk.{i}.",
            {
                **_GGUF_BLOCK,
                "post_attn_norm": "post_attention_norm",
                "post_mlp_norm": "post_ffw_norm",
            },
        ),
        _GGUF_IGNORED,
    ),
    "gguf_starcoder": Layout(
        {**_GGUF_TOP, "positions": "position_embd"},
        _under("blk.{i}.", {**_GGUF_BLOCK, "qkv": "attn_qkv", "up": "ffn_up"}),
        _GGUF_IGNORED,
        interleaved=True,
    ),
}


def top_shapes(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The slots outside the blocks."""
    yield "embed", (a.vocab, a.hidden)
    if a.learned_positions:
        yield "positions", (a.learned_positions, a.hidden)
    yield "norm", (a.hidden,)
    if not a.tied:
        yield "head", (a.vocab, a.hidden)


def block_shapes(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The slots of a block in order; those of experts have `expert_` before their names."""
    rows = 2 * a.intermediate if a.gated else a.intermediate
    yield "attn_norm", (a.hidden,)
    yield "qkv", ((a.heads + 2 * a.kv_heads) * a.head_dim, a.hidden)
    if a.qk_norm:
        yield "q_norm", (a.head_dim,)
        yield "k_norm", (a.head_dim,)
    yield "out", (a.hidden, a.heads * a.head_dim)
    if a.post_norms:
        yield "post_attn_norm", (a.hidden,)
        yield "post_mlp_norm", (a.hidden,)
    yield "mlp_norm", (a.hidden,)
    if a.experts is None:
        yield "up", (rows, a.hidden)
        yield "down", (a.hidden, a.intermediate)
    else:
        yield "router", (a.experts.count, a.hidden)
        yield "expert_up", (a.experts.count, rows, a.hidden)
        yield "expert_down", (a.experts.count, a.hidden, a.intermediate)


class Weights:
    """The decoder's weights, read one slot at a time so that only one copy is ever in memory.

    Args:
        keep: formats whose matrices come as stored bytes, uint8 with the bytes of a row for the last
            dimension; the others, and all vectors, come as numbers.

    Attributes:
        stored: slot to format, of the matrices that the last call gave as bytes.
    """

    def __init__(
        self, source: Source, architecture: Architecture, keep: Collection[str] = ()
    ) -> None:
        self.stored: dict[str, str] = {}
        self._keep = keep
        self._source = source
        self._architecture = architecture
        self._layout = LAYOUTS[family_of(source).layout]
        self._left = set(source.tensors)
        self._renaming = self._find_renaming()

    def top(self) -> dict[str, Array]:
        """`embed`, `positions`, `norm`, `head`, as far as the architecture has them."""
        a = self._architecture
        found: dict[str, Array] = {}
        self.stored.clear()
        for slot, shape in top_shapes(a):
            self._take(found, slot, (self._layout.top[slot],), shape)
        if a.tied:
            # Some writers store the tied matrix a second time.
            self._left.discard(self._name(self._layout.top["head"]) + ".weight")
        return found

    def block(self, i: int) -> dict[str, Array]:
        """The slots of block `i`."""
        found: dict[str, Array] = {}
        self.stored.clear()
        for slot, shape in block_shapes(self._architecture):
            sources = self._layout.block.get(slot)
            if sources is None:
                raise ModelFileError(f"{self._source.name}: this format has no place for {slot}.")
            names = tuple(source.replace("{i}", str(i)) for source in sources)
            if slot.startswith("expert_"):
                bare = slot.removeprefix("expert_")
                found[bare] = self._experts(bare, names, shape)
            else:
                self._take(found, slot, names, shape)
        return self._reorder(found)

    def finish(self) -> None:
        """Complain of tensors that nothing asked for: the file is not what its description says."""
        ignored = [re.compile(pattern) for pattern in self._layout.ignored]
        extra = sorted(n for n in self._left if not any(p.fullmatch(n) for p in ignored))
        if extra:
            raise ModelFileError(
                f"{self._source.name}: {len(extra)} tensors do not belong to a "
                f"{self._architecture.family} model of {len(self._architecture.layers)} layers, "
                f"the first being {extra[0]!r}. The file and its description do not match."
            )

    def _take(
        self,
        found: dict[str, Array],
        slot: str,
        names: Sequence[str],
        shape: tuple[int, ...],
    ) -> None:
        found[slot] = self._join(slot, [f"{name}.weight" for name in names], shape)
        biases = [f"{name}.bias" for name in names]
        if any(self._name(bias) in self._source.tensors for bias in biases):
            found[f"{slot}.bias"] = self._join(f"{slot}.bias", biases, shape[:1])

    def _join(self, slot: str, names: Sequence[str], shape: tuple[int, ...]) -> Array:
        kept = self._kept(slot, names, shape)
        parts = [self._rows(slot, j, self._read(name, kept)) for j, name in enumerate(names)]
        return self._checked(names[0], _concatenate(parts, 0), shape, kept)

    def _experts(self, slot: str, names: Sequence[str], shape: tuple[int, ...]) -> Array:
        """[E, rows, columns], from stacked tensors or from one tensor per expert."""
        if "{e}" in names[0]:
            each = [[f"{n.replace('{e}', str(e))}.weight" for n in names] for e in range(shape[0])]
            kept = self._kept(slot, [name for one in each for name in one], shape)
            one_by_one = [_concatenate([self._read(n, kept) for n in one], 0) for one in each]
            self._same_shape(names[0], one_by_one)
            return self._checked(names[0], np.stack(_alike(one_by_one)), shape, kept)
        full = [f"{name}.weight" for name in names]
        kept = self._kept(slot, full, shape)
        parts = [self._read(name, kept) for name in full]
        return self._checked(names[0], _concatenate(parts, 1), shape, kept)

    def _kept(self, slot: str, names: Sequence[str], shape: tuple[int, ...]) -> bool:
        """Whether the tensors of a matrix have one format that is to be kept."""
        infos = [self._source.tensors.get(self._name(name)) for name in names]
        formats = {info.type for info in infos if info is not None}
        widths = {info.shape[-1:] for info in infos if info is not None}
        if len(shape) < 2 or len(formats) != 1 or widths != {shape[-1:]}:
            return False
        kept = formats <= set(self._keep)
        if kept:
            self.stored[slot] = formats.pop()
        return kept

    def _same_shape(self, name: str, parts: Sequence[Array]) -> None:
        if len({part.shape for part in parts}) != 1:
            raise ModelFileError(f"{self._source.name}: experts of {name} differ in shape.")

    def _read(self, name: str, kept: bool) -> Array:
        full = self._name(name)
        if full not in self._source.tensors:
            raise ModelFileError(
                f"{self._source.name}: the tensor {full!r} is missing. The files are incomplete or "
                f"not of the {self._architecture.family} family; pull the model again."
            )
        self._left.discard(full)
        return self._source.raw(full) if kept else self._source.read(full)

    def _rows(self, slot: str, part: int, tensor: Array) -> Array:
        """Undo llama.cpp's order of rows within each head of q (part 0) and k (part 1)."""
        if not self._layout.permuted or part == 2 or slot not in ("qkv", "qkv.bias"):
            return tensor
        heads = self._architecture.heads if part == 0 else self._architecture.kv_heads
        rows = tensor.shape[0]
        if rows % (2 * heads):
            raise ModelFileError(f"{self._source.name}: {rows} rows do not divide into heads.")
        pairs = tensor.reshape(heads, rows // heads // 2, 2, *tensor.shape[1:])
        return pairs.swapaxes(1, 2).reshape(tensor.shape)

    def _reorder(self, found: dict[str, Array]) -> dict[str, Array]:
        """GPTBigCode without multi-query: [heads, (q k v), D] rows become all q, all k, all v."""
        a = self._architecture
        if self._layout.interleaved and a.kv_heads == a.heads:
            for slot in ("qkv", "qkv.bias"):
                if slot in found:
                    t = found[slot]
                    by_head = t.reshape(a.heads, 3, a.head_dim, *t.shape[1:])
                    found[slot] = by_head.swapaxes(0, 1).reshape(t.shape)
        return found

    def _checked(self, name: str, tensor: Array, shape: tuple[int, ...], kept: bool) -> Array:
        # The width of what comes as bytes has been looked at before.
        end = len(shape) - 1 if kept else len(shape)
        if tuple(tensor.shape[:end]) != shape[:end]:
            raise ModelFileError(
                f"{self._source.name}: {self._name(name)!r} has shape {tuple(tensor.shape)}; "
                f"its description calls for {shape}."
            )
        return tensor

    def _find_renaming(self) -> tuple[str, str]:
        embed = f"{self._layout.top['embed']}.weight"
        for old, new in self._layout.renamed:
            if new + embed.removeprefix(old) in self._left:
                return old, new
        return "", ""

    def _name(self, name: str) -> str:
        old, new = self._renaming
        return new + name.removeprefix(old) if name.startswith(old) else name


def _concatenate(parts: Sequence[Array], dim: int) -> Array:
    if len(parts) == 1:
        return parts[0]
    if len({(*p.shape[:dim], *p.shape[dim + 1 :]) for p in parts}) != 1:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise ModelFileError(f"Tensors that belong together have shapes {shapes}.")
    return np.concatenate(_alike(parts), dim)


def _alike(parts: Sequence[Array]) -> Sequence[Array]:
    """The same numbers in one type."""
    types = {str(part.dtype) for part in parts}
    if len(types) == 1:
        return parts
    if not all(map(is_float, parts)):
        raise ModelFileError(
            f"Tensors that belong together are of the types {', '.join(sorted(types))}."
        )
    return [float32(part) for part in parts]
