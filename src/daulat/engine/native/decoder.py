"""The decoder in machine code: a `step.Computer`.

It keeps the weights in the numbers of their file where `panels` knows them. What it gives for a sequence
depends on nothing but that sequence: not on what else is in the step, nor on how the prompt was cut. With the
processor's matrix units (`units`) tokens that are read go another way than those that the model has written, so
there it depends on which are which too; elsewhere it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from daulat.engine import rotary
from daulat.engine.adapter import Adapter
from daulat.engine.cache import Arena, SequenceCache, aligned, standalone
from daulat.engine.native import layout, lora, tile_attention, tiles, units
from daulat.engine.native import program as p
from daulat.engine.native.attention import TOGETHER, WIDTH
from daulat.engine.native.matrices import Inputs, Matrix, fine, input_bytes
from daulat.engine.native.team import team
from daulat.engine.native.vector import BLOCK
from daulat.engine.step import Chunk, whole, written_rows
from daulat.models.numbers import Floats
from daulat.values.architecture import Architecture

Whole = NDArray[np.int64]
Slots = Mapping[str, "Matrix | Floats"]

_ACTIVATIONS = {"silu": p.SILU, "gelu": p.GELU, "gelu_tanh": p.GELU_TANH, "relu": p.RELU}
_TOP = {
    "embed": p.EMBED,
    "head": p.HEAD_MATRIX,
    "positions": p.POSITIONS,
    "norm": p.NORM,
    "norm.bias": p.NORM_BIAS,
}
_BLOCK = {
    "qkv": p.QKV,
    "out": p.OUT,
    "up": p.UP,
    "down": p.DOWN,
    "router": p.ROUTER,
    "attn_norm": p.ATTN_NORM,
    "attn_norm.bias": p.ATTN_NORM_BIAS,
    "qkv.bias": p.QKV_BIAS,
    "q_norm": p.Q_NORM,
    "k_norm": p.K_NORM,
    "out.bias": p.OUT_BIAS,
    "post_attn_norm": p.POST_ATTN_NORM,
    "mlp_norm": p.MLP_NORM,
    "mlp_norm.bias": p.MLP_NORM_BIAS,
    "up.bias": p.UP_BIAS,
    "down.bias": p.DOWN_BIAS,
    "post_mlp_norm": p.POST_MLP_NORM,
}

_FLOAT32 = np.dtype(np.float32)
_BYTE = np.dtype(np.uint8)
_SHORT = np.dtype(np.uint16)
"""The bits of bfloat16, which NumPy does not have."""
_NO_ADAPTERS = np.zeros((0, 0, 0, 0, 0), dtype=np.int64)


def fits(a: Architecture) -> bool:
    """Whether every row of every matrix is whole blocks."""
    widths = (a.hidden, a.heads * a.head_dim, a.intermediate)
    return all(width % BLOCK == 0 for width in widths)


class NativeDecoder:
    """Weights and arithmetic of one model, as `engine.decoder.Decoder`.

    Args:
        top, blocks: the slots of `models.weights`; matrices as `Matrix`, vectors as float32.
        threads: how many compute.
        inputs: what they become where weights have few bits; with 16 bits no matrix units are used.
        matrix_units: use them where there are any.
        short_cache: keep keys and values in bfloat16 and not in float32; heads are multiples of 16 wide.

    Attributes:
        reads_as_it_writes: a token's numbers are the same whether it was read or written.
        goes_apart: threads have rows of their own where these are many (`layout`).
        reads_at_once: see `step.Computer`.
    """

    def __init__(
        self,
        architecture: Architecture,
        top: Slots,
        blocks: Sequence[Slots],
        threads: int,
        inputs: Inputs = "auto",
        *,
        matrix_units: bool = True,
        short_cache: bool = False,
    ) -> None:
        self.architecture = architecture
        self._units = matrix_units and inputs == "auto" and _any_for_units(blocks)
        self.reads_as_it_writes = not self._units
        self._team = team(threads)
        self._kept = (top, blocks)  # the tables hold addresses only
        outer = np.zeros(p.TOP_SIZE, dtype=np.int64)
        _enter(outer, _TOP, top, inputs, units=self._units)
        if architecture.tied:
            size = p.MATRIX_SIZE
            outer[p.HEAD_MATRIX : p.HEAD_MATRIX + size] = outer[p.EMBED : p.EMBED + size]
        self._ropes = list(dict.fromkeys(one.rope for one in architecture.layers if one.rope))
        self._frequencies = [rotary.frequencies(rope) for rope in self._ropes]
        layers = np.zeros((len(blocks), p.LAYER_SIZE), dtype=np.int64)
        for row, layer, block in zip(layers, architecture.layers, blocks, strict=True):
            row[p.WINDOW] = layer.window or 0
            row[p.ROPE] = self._ropes.index(layer.rope) if layer.rope else -1
            _enter(row, _BLOCK, block, inputs, units=self._units)
        shape = _shape(architecture)
        shape[p.SHORT] = short_cache
        shape[p.TILES] = self._units and short_cache and tile_attention.fits(architecture.head_dim)
        self._cached = _SHORT if short_cache else _FLOAT32
        self._model = p.Model(shape, _scale(architecture), outer, layers)
        self.goes_apart = (
            self._units and architecture.experts is None and architecture.hidden <= layout.NARROW
        )
        self.reads_at_once = layout.AT_ONCE if self.goes_apart else 0
        nothing = np.zeros((1, 0, 1), dtype=np.float32)
        self._turns = nothing, nothing
        self._tables: WeakKeyDictionary[Adapter, tuple[Whole, int]] = WeakKeyDictionary()
        kinds = {
            one for slots in (top, *blocks) for one in _kinds(slots, inputs, units=self._units)
        }
        self._place = _Place(architecture, self._team.size, kinds)
        self._own_places = [_Place(architecture, 1, kinds) for _ in range(self._team.size)]

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
        return standalone(self.architecture, capacity, self._cached)

    def new_memory(self, blocks: int) -> Arena:
        """For the keys and values of many sequences; taken as it is used, so `blocks` does not matter."""
        return Arena(self.architecture, self._cached)

    def warm(self) -> None:
        """Compile what is not yet compiled for this processor: seconds, once."""
        self.forward([Chunk((0,), self.new_cache(1))])

    def forward(self, chunks: Sequence[Chunk], every: bool = False) -> Floats:
        """See `step.Computer`; with `every` the logits behind each token, [T, V]."""
        if every:
            chunks = whole(chunks)
        return self._step(chunks, with_logits=True)[1]

    def states(self, chunks: Sequence[Chunk]) -> Floats:
        """See `step.Computer`."""
        return self._step(chunks, with_logits=False)[0]

    def logits(self, states: Floats, written: Sequence[bool]) -> Floats:
        """See `step.Computer`."""
        if not self._units:
            return self._logits(states, 0)
        order = np.argsort(np.array(written), kind="stable")
        found = self._logits(states[order], len(states) - sum(written))
        if (np.diff(order) == 1).all():
            return found
        logits = np.empty_like(found)
        logits[order] = found
        return logits

    def _logits(self, states: Floats, read: int) -> Floats:
        """Logits of states, of which so many, the first ones, are of tokens that are read."""
        # A step of no tokens through no blocks: what is left is the output matrix.
        vocab = self.architecture.vocab
        logits = np.empty((len(states), layout.spaced(vocab)), dtype=np.float32)
        none = np.zeros(0, dtype=np.int64)
        step = p.Step(
            np.zeros((0, p.CHUNK_SIZE), dtype=np.int64),
            none,
            none,
            none,
            *self._angles(0),
            np.ascontiguousarray(states, dtype=np.float32),
            logits,
            _NO_ADAPTERS,
            lora.stretches(()),
            0,
            read,
        )
        nowhere = self._model._replace(layers=self._model.layers[:0])
        self._team.run((nowhere, step, step, self._place.room(len(states), 1)))
        return logits[:, :vocab]

    def _step(self, chunks: Sequence[Chunk], *, with_logits: bool) -> tuple[Floats, Floats]:
        """The wanted tokens' states [W, H], and their logits, [W, V] or [0, V]."""
        self._check(chunks)
        plan, ranks = self._plan(chunks)
        vocab = self.architecture.vocab if with_logits else 0
        shares = layout.apart(chunks, self._team.size) if self.goes_apart else []
        if shares:
            states = self._run_apart([plan.lay_out(share, 0) for share in shares], ranks)
            logits = np.empty((0, 0), dtype=np.float32)
            if vocab:
                logits = self.logits(states, written_rows(chunks))
        else:
            laid = plan.lay_out(layout.together(chunks), vocab)
            room = self._place.room(len(laid.step.tokens), ranks)
            self._team.run((self._model, laid.step, laid.last, room))
            states, logits = laid.in_order(laid.step.states), laid.in_order(laid.step.logits)
            logits = logits[:, :vocab]
        for chunk in chunks:
            chunk.cache.advance(len(chunk.tokens))
        return states, logits

    def _run_apart(self, shares: Sequence[layout.Layout], ranks: int) -> Floats:
        """The wanted tokens' states, of threads that each compute their own rows."""
        self._team.run_apart(
            [
                (self._model, laid.step, laid.last, place.room(len(laid.step.tokens), ranks))
                for laid, place in zip(shares, self._own_places, strict=True)
            ]
        )
        count = sum(len(laid.whose) for laid in shares)
        states = np.empty((count, self.architecture.hidden), dtype=np.float32)
        for laid in shares:
            states[laid.whose] = laid.step.states
        return states

    def _check(self, chunks: Sequence[Chunk]) -> None:
        vocab = self.architecture.vocab
        if any(min(c.tokens) < 0 or max(c.tokens) >= vocab for c in chunks if len(c.tokens)):
            raise IndexError("a token is not in the vocabulary")
        if any(c.cache.length + len(c.tokens) > c.cache.capacity for c in chunks):
            raise IndexError("a sequence has more tokens than its cache holds")

    def _plan(self, chunks: Sequence[Chunk]) -> tuple[layout.Plan, int]:
        """And how many numbers stand between adapters' matrices."""
        found = list(dict.fromkeys(c.adapter for c in chunks if c.adapter is not None))
        for adapter in found:
            if adapter not in self._tables:
                self._tables[adapter] = lora.table(adapter)
        tables = [self._tables[adapter] for adapter in found]
        longest = max(c.cache.length + len(c.tokens) for c in chunks)
        plan = layout.Plan(
            [0, *accumulate(len(c.asked) for c in chunks)],
            self._angles(longest),
            np.stack([table for table, _ in tables]) if tables else _NO_ADAPTERS,
            {adapter: k for k, adapter in enumerate(found)},
            self.architecture.hidden,
            self._units,
        )
        return plan, max((ranks for _, ranks in tables), default=1)

    def _angles(self, longest: int) -> tuple[Floats, Floats]:
        """cos and sin, [rope tables, so many positions or more, dimensions / 2]; computed once for each."""
        if self._ropes and longest > self._turns[0].shape[1]:
            at = np.arange(2 * longest)
            pairs = [
                rotary.tables(rope, frequency, at)
                for rope, frequency in zip(self._ropes, self._frequencies, strict=True)
            ]
            cos, sin = (np.stack([pair[k] for pair in pairs]) for k in (0, 1))
            self._turns = cos, sin
        return self._turns


class _Place:
    """Where some threads work: memory for steps of as many tokens as there have been.

    Args:
        team: how many threads.
        kinds: of the matrices.
    """

    def __init__(self, a: Architecture, team: int, kinds: Collection[_Kind]) -> None:
        self._of = a, team, kinds
        self._tokens = self._ranks = 0
        self._room: p.Room | None = None

    def room(self, tokens: int, ranks: int) -> p.Room:
        """For so many tokens, and so many numbers between the matrices of adapters."""
        if self._room is None or tokens > self._tokens or ranks > self._ranks:
            self._tokens, self._ranks = max(tokens, self._tokens), max(ranks, self._ranks)
            a, team, kinds = self._of
            self._room = _room(a, team, self._tokens, self._ranks, kinds)
        return self._room


def _any_for_units(blocks: Sequence[Slots]) -> bool:
    """Whether there are matrix units, and something to do for them."""
    held = [one for block in blocks for one in block.values() if isinstance(one, Matrix)]
    return any(one.form in tiles.forms() for one in held) and units.there()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What of a matrix says how much room its inputs take."""

    form: int
    columns: int
    fine: bool
    units: bool


def _kinds(slots: Slots, inputs: Inputs, *, units: bool) -> set[_Kind]:
    return {
        _Kind(held.form, held.columns, fine(slot, inputs), units)
        for slot, held in slots.items()
        if isinstance(held, Matrix)
    }


def _room(a: Architecture, team: int, tokens: int, ranks: int, kinds: Collection[_Kind]) -> p.Room:
    """Memory to work in, for steps of up to so many tokens, with such adapters.

    Args:
        kinds: of the matrices.
    """

    def floats(*shape: int) -> Floats:
        return aligned(shape, _FLOAT32)

    chosen = a.experts.chosen if a.experts else 1
    spread = max(a.experts.count, chosen) if a.experts else 1
    experts = a.experts.count if a.experts else 0
    routed = tokens + 1 if a.experts else 1
    scratch, at_once = 0, TOGETHER
    if any(k.units for k in kinds):
        at_once = max(TOGETHER, tile_attention.TOGETHER)
        scratch = max(tiles.SCRATCH, tile_attention.room(a.head_dim))
    packed, own = (
        max(input_bytes(k.form, k.columns, count, k.fine, k.units) for k in kinds)
        for count in (tokens, max(routed, p.FEW))
    )
    return p.Room(
        x=floats(tokens, a.hidden),
        h=floats(tokens, a.hidden),
        tmp=floats(tokens, layout.spaced(a.hidden)),
        own_x=floats(team, p.FEW, a.hidden),
        own_h=floats(team, p.FEW, a.hidden),
        qkv=floats(tokens, layout.spaced((a.heads + 2 * a.kv_heads) * a.head_dim)),
        att=floats(tokens, a.heads * a.head_dim),
        up=floats(tokens * chosen, layout.spaced(a.intermediate * (2 if a.gated else 1))),
        own_up=floats(team, 1 if a.experts else tokens, layout.spaced(2 * p.PIECE)),
        scores=floats(team, TOGETHER, WIDTH),
        asked=floats(team, 2, at_once, a.head_dim),
        spans=np.empty((team, 2, at_once), dtype=np.int64),
        sums=floats(team, 2, at_once),
        choices=np.empty((team, routed, chosen), dtype=np.int64),
        shares=floats(team, routed, spread),
        places=np.empty((team, routed, chosen), dtype=np.int64),
        starts=np.empty((team, experts + 1), dtype=np.int64),
        mixed=floats(routed * chosen, a.hidden if a.experts else 1),
        low=floats(tokens, ranks),
        own_low=floats(team, p.FEW, ranks),
        wide=floats(team, lora.WIDE),
        packed=aligned((2, packed), _BYTE),
        own_packed=aligned((team, own), _BYTE),
        tiles=aligned((team, -(-scratch // 64) * 64), _BYTE),
    )


def _shape(a: Architecture) -> Whole:
    shape = np.zeros(p.SHAPE_SIZE, dtype=np.int64)
    shape[p.HIDDEN], shape[p.VOCAB], shape[p.INNER] = a.hidden, a.vocab, a.intermediate
    shape[p.HEADS], shape[p.KV_HEADS], shape[p.HEAD] = a.heads, a.kv_heads, a.head_dim
    if a.experts:
        shape[p.EXPERTS], shape[p.CHOSEN] = a.experts.count, a.experts.chosen
    shape[p.LAYER_NORM], shape[p.GATED] = a.norm == "layer", a.gated
    shape[p.ACTIVATION] = _ACTIVATIONS[a.activation]
    shape[p.QK_NORM], shape[p.POST_NORMS] = a.qk_norm, a.post_norms
    return shape


def _scale(a: Architecture) -> Floats:
    scale = np.zeros(p.SCALE_SIZE, dtype=np.float32)
    scale[p.EPS], scale[p.ATTENTION], scale[p.RESIDUAL] = (
        a.norm_eps,
        a.attention_scale,
        a.residual_scale,
    )
    scale[p.EMBEDDING], scale[p.DIVISOR] = a.embedding_scale, a.logits_divisor
    scale[p.SOFTCAP] = a.logits_softcap
    return scale


def _enter(
    row: Whole, places: Mapping[str, int], slots: Slots, inputs: Inputs, *, units: bool
) -> None:
    for slot, held in slots.items():
        place = places[slot]
        if isinstance(held, Matrix):
            row[place : place + p.MATRIX_SIZE] = held.numbers(
                fine(slot, inputs), units and slot != "router"
            )
        else:
            row[place] = held.ctypes.data
