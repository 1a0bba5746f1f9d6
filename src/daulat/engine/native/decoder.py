"""The decoder in machine code: a `step.Computer`.

It keeps the weights in the numbers of their file where `panels` knows them. What it gives for a sequence
depends on nothing but that sequence: not on what else is in the step, nor on how the prompt was cut. With the
processor's matrix units (`units`) tokens that are read go another way than those that the model has written, so
there it depends on which are which too; elsewhere it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from daulat.engine import rotary
from daulat.engine.adapter import Adapter
from daulat.engine.cache import Arena, SequenceCache, aligned, standalone
from daulat.engine.native import lora, tile_attention, tiles, units
from daulat.engine.native import program as p
from daulat.engine.native.attention import TOGETHER, WIDTH
from daulat.engine.native.matrices import Inputs, Matrix, fine, input_bytes
from daulat.engine.native.team import team
from daulat.engine.native.vector import BLOCK, LANES
from daulat.engine.step import Chunk, wanted_rows, whole
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
_NO_ADAPTERS = np.zeros((0, 0, 0, 0, 0), dtype=np.int64)
_NO_STRETCHES = lora.stretches(())


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

    Attributes:
        reads_as_it_writes: a token's numbers are the same whether it was read or written.
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
    ) -> None:
        self.architecture = architecture
        self._units = matrix_units and inputs == "auto" and _any_for_units(blocks)
        self.reads_as_it_writes = not self._units
        self._team = team(threads)
        self._kept = (top, blocks)  # the tables hold addresses only
        outer = np.zeros(p.TOP_SIZE, dtype=np.int64)
        _enter(outer, _TOP, top, inputs, units=False)
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
        shape[p.TILES] = self._units and tile_attention.fits(architecture.head_dim)
        self._model = p.Model(shape, _scale(architecture), outer, layers)
        nothing = np.zeros((1, 0, 1), dtype=np.float32)
        self._turns = nothing, nothing
        self._tables: WeakKeyDictionary[Adapter, tuple[Whole, int]] = WeakKeyDictionary()
        self._tokens = self._ranks = 0
        self._matrices = _kinds(top, inputs, units=False) | {
            one for block in blocks for one in _kinds(block, inputs, units=self._units)
        }
        self._room = self._room_for(1, 1)

    def new_cache(self, capacity: int) -> SequenceCache:
        """An empty cache for one sequence of up to `capacity` tokens, with memory of its own."""
        return standalone(self.architecture, capacity, _FLOAT32)

    def new_memory(self, blocks: int) -> Arena:
        """For the keys and values of many sequences; taken as it is used, so `blocks` does not matter."""
        return Arena(self.architecture, _FLOAT32)

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

    def logits(self, states: Floats) -> Floats:
        """See `step.Computer`."""
        # A step of no tokens through no blocks: what is left is the output matrix.
        logits = np.empty((len(states), self.architecture.vocab), dtype=np.float32)
        none = np.zeros(0, dtype=np.int64)
        room = self._room_for(len(states), 1)
        step = p.Step(
            np.zeros((0, p.CHUNK_SIZE), dtype=np.int64),
            none,
            none,
            none,
            *self._angles(none, 0),
            np.ascontiguousarray(states, dtype=np.float32),
            logits,
            _NO_ADAPTERS,
            _NO_STRETCHES,
            0,
        )
        self._team.run((self._model._replace(layers=self._model.layers[:0]), step, step, room))
        return logits

    def _step(self, chunks: Sequence[Chunk], *, with_logits: bool) -> tuple[Floats, Floats]:
        """The wanted tokens' states [W, H], and their logits, [W, V] or [0, V]."""
        if not self._units or _read_first(chunks):
            return self._step_in_order(chunks, with_logits=with_logits)
        order = sorted(range(len(chunks)), key=lambda k: chunks[k].written)
        states, logits = self._step_in_order([chunks[k] for k in order], with_logits=with_logits)
        counts = [1 if c.wanted is None else len(c.wanted) for c in chunks]
        firsts, first = [0] * len(chunks), 0
        for k in order:
            firsts[k], first = first, first + counts[k]
        parts = zip(firsts, counts, strict=True)
        rows = [row for start, count in parts for row in range(start, start + count)]
        return states[rows], logits[rows] if with_logits else logits

    def _step_in_order(
        self, chunks: Sequence[Chunk], *, with_logits: bool
    ) -> tuple[Floats, Floats]:
        """The same, for chunks of which those that are read come first."""
        counts = [len(chunk.tokens) for chunk in chunks]
        starts = np.cumsum([0, *counts])
        table = np.array(
            [
                (start, count, c.cache.table.ctypes.data, c.cache.length)
                for start, count, c in zip(starts, counts, chunks, strict=False)
            ],
            dtype=np.int64,
        )
        tokens = np.concatenate([np.asarray(c.tokens, dtype=np.int64) for c in chunks])
        if tokens.min() < 0 or tokens.max() >= self.architecture.vocab:
            raise IndexError("a token is not in the vocabulary")
        if any(c.cache.length + len(c.tokens) > c.cache.capacity for c in chunks):
            raise IndexError("a sequence has more tokens than its cache holds")
        positions = np.concatenate(
            [np.arange(c.cache.length, c.cache.length + len(c.tokens)) for c in chunks]
        )
        wanted = np.array(wanted_rows(chunks, starts.tolist()[:-1]), dtype=np.int64)
        longest = max(c.cache.length + len(c.tokens) for c in chunks)
        adapters, stretches, ranks = self._adapted(chunks)
        room = self._room_for(len(tokens), ranks)
        cos, sin = self._angles(positions, longest)
        a = self.architecture
        states = np.empty((len(wanted), a.hidden), dtype=np.float32)
        logits = np.empty((len(wanted) if with_logits else 0, a.vocab), dtype=np.float32)
        step = p.Step(
            table,
            tokens,
            positions,
            wanted,
            cos,
            sin,
            states,
            logits,
            adapters,
            stretches,
            sum(len(c.tokens) for c in chunks if not c.written) if self._units else 0,
        )
        last = step
        if len(wanted) < len(tokens) > p.FEW:
            last = _narrowed(step)
        self._team.run((self._model, step, last, room))
        for chunk in chunks:
            chunk.cache.advance(len(chunk.tokens))
        return states, logits

    def _adapted(self, chunks: Sequence[Chunk]) -> tuple[Whole, Whole, int]:
        """The step's adapters, whose rows are whose, and how many numbers stand between their matrices."""
        found = list(dict.fromkeys(c.adapter for c in chunks if c.adapter is not None))
        if not found:
            return _NO_ADAPTERS, _NO_STRETCHES, 1
        for adapter in found:
            if adapter not in self._tables:
                self._tables[adapter] = lora.table(adapter)
        tables = [self._tables[adapter] for adapter in found]
        parts = [(len(c.tokens), found.index(c.adapter) if c.adapter else -1) for c in chunks]
        return (
            np.stack([table for table, _ in tables]),
            lora.stretches(parts),
            max(ranks for _, ranks in tables),
        )

    def _room_for(self, tokens: int, ranks: int) -> p.Room:
        if tokens > self._tokens or ranks > self._ranks:
            self._ranks = max(ranks, self._ranks)
            self._tokens = max(tokens, self._tokens)
            self._room = _room(
                self.architecture,
                self._team.size,
                self._tokens,
                self._ranks,
                self._matrices,
            )
        return self._room

    def _angles(self, positions: Whole, longest: int) -> tuple[Floats, Floats]:
        """cos and sin, [rope tables, T, dimensions / 2]; computed once for each position."""
        if not self._ropes:
            return self._turns
        if longest > self._turns[0].shape[1]:
            at = np.arange(2 * longest)
            pairs = [
                rotary.tables(rope, frequency, at)
                for rope, frequency in zip(self._ropes, self._frequencies, strict=True)
            ]
            cos, sin = (np.stack([pair[k] for pair in pairs]) for k in (0, 1))
            self._turns = cos, sin
        cos, sin = self._turns
        return np.take(cos, positions, axis=1), np.take(sin, positions, axis=1)


def _narrowed(step: p.Step) -> p.Step:
    """The wanted tokens alone, as the last block sees them: neighbours of one sequence are a chunk."""
    ends = np.append(step.chunks[1:, p.START], len(step.tokens))
    whose = np.searchsorted(ends, step.wanted, side="right")
    breaks = (np.diff(step.wanted, prepend=-2) != 1) | (np.diff(whose, prepend=-1) != 0)
    firsts = np.flatnonzero(breaks)
    chunks = step.chunks[whose[firsts]]
    chunks[:, p.LENGTH] += step.wanted[firsts] - chunks[:, p.START]
    chunks[:, p.START] = firsts
    chunks[:, p.COUNT] = np.diff(firsts, append=len(step.wanted))
    which = np.full(len(step.tokens), -1)
    for start, count, adapter in step.stretches:
        which[start : start + count] = adapter
    return step._replace(
        chunks=chunks,
        tokens=step.tokens[step.wanted],
        positions=step.positions[step.wanted],
        wanted=np.arange(len(step.wanted)),
        stretches=lora.stretches([(1, adapter) for adapter in which[step.wanted].tolist()]),
        read=int(np.searchsorted(step.wanted, step.read)),
    )


def _any_for_units(blocks: Sequence[Slots]) -> bool:
    """Whether there are matrix units, and something to do for them."""
    held = [one for block in blocks for one in block.values() if isinstance(one, Matrix)]
    return any(one.form in tiles.forms() for one in held) and units.there()


def _read_first(chunks: Sequence[Chunk]) -> bool:
    return all(a.written <= b.written for a, b in pairwise(chunks))


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
        tmp=floats(tokens, _spaced(a.hidden)),
        own_x=floats(team, p.FEW, a.hidden),
        own_h=floats(team, p.FEW, a.hidden),
        qkv=floats(tokens, _spaced((a.heads + 2 * a.kv_heads) * a.head_dim)),
        att=floats(tokens, a.heads * a.head_dim),
        up=floats(tokens * chosen, _spaced(a.intermediate * (2 if a.gated else 1))),
        own_up=floats(team, 1 if a.experts else tokens, _spaced(2 * p.PIECE)),
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


def _spaced(width: int) -> int:
    """Room for a row of what a matrix gives.

    An odd number of lines, so that sixteen rows begin in as many sets of the cache; where a row is whole pages,
    they would all be in one.
    """
    return width if width // LANES % 2 else width + LANES


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
