"""Which matrices of a base an adapter may change, under the names that PEFT files them by.

PEFT names matrices as transformers' models do, whatever format our base has: a GGUF's rows are put into
that order when they are loaded (`weights`), so the same adapter fits both. The decoder keeps query, key and
value in one matrix and gate and up in another; a `Site` says which rows are whose.

Not here: the adapter's own files (`lora`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daulat.errors import UnsupportedModelError
from daulat.models.checkpoint import Checkpoint
from daulat.models.families import family_of
from daulat.models.weights import LAYOUTS, Layout
from daulat.values.architecture import Architecture

# The layout of transformers' model of the same family.
_TRANSFORMERS = {
    "gguf_llama": "llama",
    "gguf_plain": "llama",
    "gguf_gemma": "gemma",
    "gguf_starcoder": "gpt_bigcode",
}
_TOP = frozenset({"lm_head", "embed_tokens", "wte", "wpe"})


@dataclass(frozen=True, slots=True)
class Site:
    """A matrix as transformers has it, within our slot.

    Attributes:
        slot: of `models.weights`: qkv, out, up or down.
        first: its first row in the slot.
        rows, columns: its outputs and inputs.
        heads: its rows come head by head [heads, (q k v), D], and our slot has all q first; 0: as they are.
    """

    layer: int
    slot: str
    first: int
    rows: int
    columns: int
    heads: int = 0

    @property
    def order(self) -> tuple[int, str, int]:
        return self.layer, self.slot, self.first


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter is held against.

    Attributes:
        sites: matrix (`model.layers.0.self_attn.q_proj`) to its place.
        renamed: (old, new) beginnings, as in `weights.Layout`.
    """

    name: str
    family: str
    layers: int
    experts: bool
    sites: Mapping[str, Site]
    renamed: tuple[tuple[str, str], ...]

    def canonical(self, module: str) -> str:
        """The name under which `sites` has it."""
        for old, new in self.renamed:
            if module.startswith(new) and (name := old + module.removeprefix(new)) in self.sites:
                return name
        return module

    def why_not(self, module: str) -> str:
        """A sentence on why a matrix cannot be changed here."""
        known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in self.sites))
        if module.rpartition(".")[2] in _TOP:
            return (
                f"adapters of embeddings and of the output matrix are not supported; {known} are."
            )
        layer = re.search(r"(?:^|\.)(?:layers|h)\.(\d{1,9})\.", module)
        if layer and int(layer[1]) >= self.layers:
            return f"{self.name} has {self.layers} layers; the adapter was made for a larger base."
        if self.experts and not module.rpartition(".")[2].endswith("_proj"):
            return f"adapters of experts and of their router are not supported; {known} are."
        return (
            f"{self.name} ({self.family}) has no such matrix; it has {known}. "
            "The adapter was made for another base."
        )


def base_of(checkpoint: Checkpoint) -> Base:
    """What adapters of this model may change; reads descriptions only.

    Raises:
        UnsupportedModelError: an embedding model.
    """
    a = checkpoint.architecture
    if not isinstance(a, Architecture):
        raise UnsupportedModelError(
            f"{checkpoint.name} is an embedding model; adapters are for models that write text."
        )
    own = family_of(checkpoint).layout
    layout = LAYOUTS[_TRANSFORMERS.get(own, own)]
    sites = {
        name.replace("{i}", str(site.layer)): site
        for i in range(len(a.layers))
        for name, site in _block(layout, a, i)
    }
    experts = a.experts is not None
    return Base(checkpoint.name, a.family, len(a.layers), experts, sites, layout.renamed)


def _block(layout: Layout, a: Architecture, i: int) -> Iterator[tuple[str, Site]]:
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    by_head = a.heads if layout.interleaved and a.kv_heads == a.heads else 0
    slots: dict[str, tuple[tuple[int, ...], int]] = {
        "qkv": ((q, kv, kv), a.hidden),
        "out": ((a.hidden,), q),
    }
    if a.experts is None:
        slots["up"] = ((a.intermediate,) * (2 if a.gated else 1), a.hidden)
        slots["down"] = ((a.hidden,), a.intermediate)
    for slot, (parts, columns) in slots.items():
        names = layout.block[slot]
        if len(names) == 1:
            heads = by_head if slot == "qkv" else 0
            yield names[0], Site(i, slot, 0, sum(parts), columns, heads)
            continue
        for j, name in enumerate(names):
            yield name, Site(i, slot, sum(parts[:j]), parts[j], columns)
