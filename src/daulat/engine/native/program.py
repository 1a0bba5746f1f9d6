"""One step of a decoder, as every thread of a team runs it: each takes its share of every matrix's rows.

    embed -> [norm -> qkv | turn -> attend | out -> norm -> up | down] for each block -> norm | logits

`|` is where all wait for all. Nothing here knows a family: `SHAPE`, `SCALE` and the tables say what there is.
The arithmetic is that of `engine.decoder`, in float32; the sums of one number are made in one order, whatever
else is in the step. Rows whose sequence has an adapter get its part behind each matrix (`lora`).

The tables, in whole numbers (0: there is none):
- a matrix takes six: address, bytes of a panel, bytes of a block of a group of its inputs, and the functions
  that multiply, that unpack a row, and that pack an input (`panels`);
- a vector of float32 takes one, its address.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native import lora
from daulat.engine.native.attention import TOGETHER, attend, scaled
from daulat.engine.native.attention import compiled as _fast
from daulat.engine.native.panels import GROUP
from daulat.engine.native.vector import (
    BLOCK,
    LANES,
    arrive,
    call,
    floats,
    give_way,
    integers,
    look,
    silu_times,
)

# --- the tables' places ---------------------------------------------------------------------------

HIDDEN, HEADS, KV_HEADS, HEAD, INNER, VOCAB, EXPERTS, CHOSEN = range(8)
LAYER_NORM, GATED, ACTIVATION, QK_NORM, POST_NORMS = range(8, 13)
SHAPE_SIZE = 13
EPS, ATTENTION, EMBEDDING, RESIDUAL, DIVISOR, SOFTCAP = range(6)
SCALE_SIZE = 6

WINDOW, ROPE = 0, 1
QKV, OUT, UP, DOWN, ROUTER = range(2, 32, 6)
(
    ATTN_NORM,
    ATTN_NORM_BIAS,
    QKV_BIAS,
    Q_NORM,
    K_NORM,
    OUT_BIAS,
    POST_ATTN_NORM,
    MLP_NORM,
    MLP_NORM_BIAS,
    UP_BIAS,
    DOWN_BIAS,
    POST_MLP_NORM,
) = range(32, 44)
LAYER_SIZE = 44

EMBED, HEAD_MATRIX, POSITIONS = 0, 6, 12
NORM, NORM_BIAS = 18, 19
TOP_SIZE = 20
MATRIX_SIZE = 6
ADDRESS, PANEL_BYTES, GROUP_BYTES, MULTIPLY, UNPACK, PACK = range(MATRIX_SIZE)

START, COUNT, CACHE, LENGTH = range(4)
CHUNK_SIZE = 4


class Model(NamedTuple):
    """Attributes:
    shape: int64 [SHAPE_SIZE]; scale: float32 [SCALE_SIZE].
    top: int64 [TOP_SIZE]; layers: int64 [blocks, LAYER_SIZE].
    """

    shape: Any
    scale: Any
    top: Any
    layers: Any


class Step(NamedTuple):
    """Attributes:
    chunks: int64 [C, CHUNK_SIZE]; a cache is the address of the addresses of its blocks, [layers, 2, K, ...]:
        keys [D, BLOCK_TOKENS], values [BLOCK_TOKENS, D].
    tokens, positions: int64 [T].
    wanted: the rows whose last hidden states are asked for, int64 [W].
    cos, sin: float32 [rope tables, T, dimensions / 2].
    states: float32 [W or more, H]; the first W are filled: hidden states behind the last norm.
    logits: float32 [any, V], to be filled with the logits of the first states.
    adapters: int64 [adapters, layers, ...] of `lora.table`; stretches: of `lora.stretches`.
    """

    chunks: Any
    tokens: Any
    positions: Any
    wanted: Any
    cos: Any
    sin: Any
    states: Any
    logits: Any
    adapters: Any
    stretches: Any


class Room(NamedTuple):
    """Memory to work in, float32 where not said otherwise.

    Attributes:
        x, h, tmp: [T, H]; own: [team, FEW, H].
        qkv: [T, (Q + 2K) D]; att: [T, Q D].
        up: [T or T * experts chosen, 2I or I].
        scores: [team, TOGETHER, WIDTH], of `attention`.
        choices, places: int64 [team, T + 1, experts chosen]; shares: [team, T + 1, experts].
        starts: int64 [team, experts + 1]; mixed: [T * experts chosen, H].
        low: [T, ranks]; own_low: [team, FEW, ranks]: between an adapter's two matrices.
        packed: uint8 [room for the inputs of a matrix in groups]; own_packed: [team, the same].
    """

    x: Any
    h: Any
    own: Any
    qkv: Any
    att: Any
    up: Any
    tmp: Any
    scores: Any
    choices: Any
    shares: Any
    places: Any
    starts: Any
    mixed: Any
    low: Any
    own_low: Any
    packed: Any
    own_packed: Any


FEW = 4
"""Up to so many tokens every thread norms and packs them all for itself, which is quicker than waiting for the
others."""

SHARE = 32
"""Rows are shared out in pieces of so many, whole panels."""

SILU, GELU, GELU_TANH, RELU = range(4)
_SPINS = 4000


@_fast
def _wait(sync, target):
    """Until so many have arrived, oneself among them."""
    arrive(sync)
    spins = 0
    while look(sync) < target:
        spins += 1
        if spins > _SPINS:
            give_way()


@_fast
def _numbers(address, count):
    return carray(floats(address), (count,))


@_fast
def _share(count, me, team):
    """My part of `count` rows: from, to."""
    parts = (count + SHARE - 1) // SHARE
    return min(parts * me // team * SHARE, count), min(parts * (me + 1) // team * SHARE, count)


@_fast
def _times(table, slot, columns, groups, y, inputs, first, last, base):
    """y[:, first:last] = rows base + first to base + last of a matrix times its inputs, which are packed."""
    if last == first or inputs == 0:
        return
    panel = table[slot + ADDRESS] + (base + first) // LANES * table[slot + PANEL_BYTES]
    to, to_bytes, rows = y.ctypes.data + first * 4, y.shape[1] * 4, last - first
    call(
        table[slot + MULTIPLY],
        panel,
        table[slot + PANEL_BYTES],
        columns // BLOCK,
        groups,
        to,
        to_bytes,
        inputs,
        rows,
        0,
    )


@_fast
def _pack(table, slot, columns, x, t, place, groups):
    """Row t of x as an input to a matrix, in a place among them."""
    blocks = columns // BLOCK
    group = groups + place // GROUP * blocks * table[slot + GROUP_BYTES]
    call(table[slot + PACK], x[t].ctypes.data, blocks, group, place % GROUP, 0, 0, 0, 0, 0)


@_fast
def _packed(me, team, sync, turn, table, slot, columns, x, room, count):
    """All rows of x as a matrix's inputs, where this thread reads them: few in its own memory."""
    if count <= FEW:
        groups = room.own_packed[me].ctypes.data
        for t in range(count):
            _pack(table, slot, columns, x, t, t, groups)
        return turn, groups
    groups = room.packed.ctypes.data
    for t in range(me, count, team):
        _pack(table, slot, columns, x, t, t, groups)
    return _meet(sync, team, turn), groups


@_fast
def _unpack(table, slot, row, columns, y):
    """One row of a matrix as float32."""
    panel = table[slot + ADDRESS] + row // LANES * table[slot + PANEL_BYTES]
    to = y.ctypes.data
    call(table[slot + UNPACK], panel, columns // BLOCK, row % LANES, to, 0, 0, 0, 0, 0)


@_fast
def _add_bias(y, address, inputs, first, last):
    if address:
        bias = _numbers(address, last)
        for m in range(inputs):
            for i in range(first, last):
                y[m, i] += bias[i]


@_fast
def _rms(row, weight, eps, out):
    total = np.float32(0)
    for i in range(row.shape[0]):
        total += row[i] * row[i]
    factor = np.float32(1) / np.sqrt(total / np.float32(row.shape[0]) + eps)
    for i in range(row.shape[0]):
        out[i] = row[i] * factor * weight[i]


@_fast
def _layer_norm(row, weight, bias_address, eps, out):
    size = np.float32(row.shape[0])
    total = np.float32(0)
    for i in range(row.shape[0]):
        total += row[i]
    mean = total / size
    spread = np.float32(0)
    for i in range(row.shape[0]):
        spread += (row[i] - mean) * (row[i] - mean)
    factor = np.float32(1) / np.sqrt(spread / size + eps)
    for i in range(row.shape[0]):
        out[i] = (row[i] - mean) * factor * weight[i]
    if bias_address:
        bias = _numbers(bias_address, row.shape[0])
        for i in range(row.shape[0]):
            out[i] += bias[i]


@_fast
def _norm(row, address, bias_address, shape, eps, out):
    weight = _numbers(address, row.shape[0])
    if shape[LAYER_NORM]:
        _layer_norm(row, weight, bias_address, eps, out)
    else:
        _rms(row, weight, eps, out)


@_fast
def _turn(row, cos, sin):
    """Rotary positions: dimension j with dimension j + half."""
    half = cos.shape[0]
    for j in range(half):
        a, b = row[j], row[half + j]
        row[j] = a * cos[j] - b * sin[j]
        row[half + j] = b * cos[j] + a * sin[j]


@_fast
def _activate(kind, z):
    if kind == SILU:
        return z / (np.float32(1) + np.exp(-z))
    if kind == GELU:
        return (
            np.float32(0.5) * z * (np.float32(1) + np.float32(math.erf(z * np.float32(0.70710678))))
        )
    if kind == GELU_TANH:
        inner = np.float32(0.7978845608) * (z + np.float32(0.044715) * z * z * z)
        return np.float32(0.5) * z * (np.float32(1) + np.float32(math.tanh(inner)))
    return max(z, np.float32(0))


@_fast
def _embed(me, team, shape, scale, top, tokens, positions, x, tmp):
    hidden = shape[HIDDEN]
    for t in range(me, tokens.shape[0], team):
        row = x[t]
        _unpack(top, EMBED, tokens[t], hidden, row)
        if scale[EMBEDDING] != 1:
            for i in range(hidden):
                row[i] *= scale[EMBEDDING]
        if top[POSITIONS]:
            _unpack(top, POSITIONS, positions[t], hidden, tmp[t])
            for i in range(hidden):
                row[i] += tmp[t, i]


@_fast
def _turn_and_store(me, team, shape, eps, layer, table, chunks, cos, sin, qkv):
    """Norm and turn queries and keys; keys and values go into the caches."""
    heads, kv_heads, size = shape[HEADS], shape[KV_HEADS], shape[HEAD]
    for c in range(chunks.shape[0]):
        start, length = chunks[c, START], chunks[c, LENGTH]
        last = length + chunks[c, COUNT] - 1
        blocks = carray(integers(chunks[c, CACHE]), (last // BLOCK_TOKENS + 1,))
        for unit in range(me, chunks[c, COUNT] * (heads + kv_heads), team):
            i, head = unit // (heads + kv_heads), unit % (heads + kv_heads)
            row = qkv[start + i, head * size : (head + 1) * size]
            if shape[QK_NORM]:
                weight = _numbers(table[Q_NORM if head < heads else K_NORM], size)
                _rms(row, weight, eps, row)
            if table[ROPE] >= 0:
                _turn(row, cos[table[ROPE], start + i], sin[table[ROPE], start + i])
            if head >= heads:
                k = head - heads
                place, block = (length + i) % BLOCK_TOKENS, blocks[(length + i) // BLOCK_TOKENS]
                block += (layer * 2 * kv_heads + k) * BLOCK_TOKENS * size * 4
                keys = _numbers(block, BLOCK_TOKENS * size)
                for d in range(size):
                    keys[d * BLOCK_TOKENS + place] = row[d]
                value = qkv[
                    start + i, (heads + kv_heads + k) * size : (heads + kv_heads + k + 1) * size
                ]
                _copy(value, block + (kv_heads * BLOCK_TOKENS + place) * size * 4)


@_fast
def _copy(row, address):
    to = _numbers(address, row.shape[0])
    for d in range(row.shape[0]):
        to[d] = row[d]


@_fast
def _attention(me, team, shape, factor, layer, table, chunks, qkv, scores, att):
    """Queries that share keys (a group's heads, of neighbouring tokens) go together where there are many.

    Where they are few, neighbouring heads go together too: memory gives long stretches faster than short ones.
    """
    heads, kv_heads, size = shape[HEADS], shape[KV_HEADS], shape[HEAD]
    group = heads // kv_heads
    together = TOGETHER // group * group if group < TOGETHER else TOGETHER
    queries, out = np.empty((2, TOGETHER, size), dtype=np.float32)
    firsts, lasts = np.empty((2, TOGETHER), dtype=np.int64)
    totals, mosts = np.empty((2, TOGETHER), dtype=np.float32)
    work = queries, firsts, lasts, scores, totals, mosts, out
    few = 0
    for c in range(chunks.shape[0]):
        few += chunks[c, COUNT] * group <= together
    unit, n = 0, 0
    for c in range(chunks.shape[0]):
        chunk, pairs = chunks[c], chunks[c, COUNT] * group
        if pairs <= together:
            k, last = _my_heads(n, few, kv_heads, me, team)
            n += 1
            while k < last:
                beside = min(last - k, TOGETHER // pairs)
                _attend(shape, factor, layer, table, chunk, k, beside, 0, pairs, qkv, work, att)
                k += beside
            continue
        for k in range(kv_heads):
            for pair in range(0, pairs, together):
                unit += 1
                if unit % team == me:
                    each = min(together, pairs - pair)
                    _attend(shape, factor, layer, table, chunk, k, 1, pair, each, qkv, work, att)


@_fast
def _my_heads(n, few, kv_heads, me, team):
    """My part of the n-th sequence's heads, from and to: whole sequences in turn, parts of those left over."""
    even = few // team * team
    if n < even:
        return 0, kv_heads if n % team == me else 0
    left, before = (few - even) * kv_heads, (n - even) * kv_heads
    return max(left * me // team - before, 0), min(left * (me + 1) // team - before, kv_heads)


@_fast
def _attend(shape, factor, layer, table, chunk, k, beside, pair, each, qkv, work, att):
    """`each` queries, from a pair of token and head on, of each of `beside` key-value heads from k on."""
    kv_heads, size = shape[KV_HEADS], shape[HEAD]
    group = shape[HEADS] // kv_heads
    queries, firsts, lasts, scores, totals, mosts, out = work
    row, to = qkv.ctypes.data + chunk[START] * qkv.shape[1] * 4, queries.ctypes.data
    m = 0
    for head in range(k * group, (k + beside) * group, group):
        for j in range(pair, pair + each):
            i = j // group
            lasts[m] = chunk[LENGTH] + i + 1
            firsts[m] = max(0, lasts[m] - table[WINDOW]) if table[WINDOW] > 0 else 0
            at = row + (i * qkv.shape[1] + (head + j % group) * size) * 4
            scaled(at, factor, to + m * size * 4, size)
            m += 1
    keys = (layer * 2 * kv_heads + k) * BLOCK_TOKENS * size * 4
    values = keys + kv_heads * BLOCK_TOKENS * size * 4
    attend(
        queries[:m],
        chunk[CACHE],
        keys,
        values,
        firsts,
        lasts,
        scores,
        totals[:m],
        mosts[:m],
        out[:m],
        beside,
    )
    row, to = att.ctypes.data + chunk[START] * att.shape[1] * 4, out.ctypes.data
    m = 0
    for head in range(k * group, (k + beside) * group, group):
        for j in range(pair, pair + each):
            at = row + (j // group * att.shape[1] + (head + j % group) * size) * 4
            scaled(to + m * size * 4, np.float32(1), at, size)
            m += 1


@_fast
def _best(scores, chosen, shares):
    """The places of the largest scores, best first, the lower place among equals; softmax over them."""
    for rank in range(chosen.shape[0]):
        best = -1
        for e in range(scores.shape[0]):
            taken = False
            for earlier in range(rank):
                taken = taken or chosen[earlier] == e
            if not taken and (best < 0 or scores[e] > scores[best]):
                best = e
        chosen[rank] = best
    total = np.float32(0)
    for rank in range(chosen.shape[0]):
        shares[rank] = np.exp(scores[chosen[rank]] - scores[chosen[0]])
        total += shares[rank]
    for rank in range(chosen.shape[0]):
        shares[rank] /= total


@_fast
def _up(shape, table, groups, up, inputs, first, last, base):
    """Columns first to last of up, and of gate where there is one."""
    inner = shape[INNER]
    _times(table, UP, shape[HIDDEN], groups, up, inputs, first, last, base)
    _add_bias(up, table[UP_BIAS], inputs, first, last)
    if shape[GATED]:
        _times(table, UP, shape[HIDDEN], groups, up, inputs, inner + first, inner + last, base)
        _add_bias(up, table[UP_BIAS], inputs, inner + first, inner + last)


@_fast
def _inner(shape, up, inputs, first, last):
    """Columns first to last of act(gate) * up, or of act(up), in place of `up`."""
    inner = shape[INNER]
    plain = shape[ACTIVATION] != SILU or not shape[GATED]
    for m in range(inputs):
        if plain:
            for i in range(first, last):
                z = _activate(shape[ACTIVATION], up[m, i])
                up[m, i] = z * up[m, inner + i] if shape[GATED] else z
        else:
            at = up[m].ctypes.data
            silu_times(at + first * 4, at + (inner + first) * 4, last - first)


@_fast
def _meet(sync, team, turn):
    """Wait for all; what the counter stands at then."""
    turn += team
    _wait(sync.ctypes.data, turn)
    return turn


@_fast
def _normed(me, team, sync, turn, model, slot, bias, room, count):
    """The norm of every row, where this thread reads it: few rows in its own memory, else in shared memory."""
    eps = model.scale[EPS]
    if count <= FEW:
        for t in range(count):
            _norm(room.x[t], slot, bias, model.shape, eps, room.own[me, t])
        return turn, room.own[me]
    for t in range(me, count, team):
        _norm(room.x[t], slot, bias, model.shape, eps, room.h[t])
    return _meet(sync, team, turn), room.h


@_fast
def _lowered(me, team, sync, turn, step, layer, slot, x, room):
    """A x of the rows that have an adapter, where this thread reads it: shared out as in `_normed`."""
    if step.stretches.shape[0] == 0:
        return turn, room.own_low[me]
    if step.tokens.shape[0] <= FEW:
        low = room.own_low[me]
        lora.lower(step.adapters, step.stretches, layer, slot, x, low, 0, 1)
        return turn, low
    lora.lower(step.adapters, step.stretches, layer, slot, x, room.low, me, team)
    return _meet(sync, team, turn), room.low


@_fast
def _adapt(step, layer, slot, low, y, first, last):
    """Add the adapters' part to y[:, first:last]."""
    if step.stretches.shape[0]:
        lora.change(step.adapters, step.stretches, layer, slot, low, y, first, last)


@_fast
def _add(me, team, sync, turn, model, slot, room, count):
    """x += residual * tmp, normed before where the model has such a norm."""
    hidden, residual = model.shape[HIDDEN], model.scale[RESIDUAL]
    if model.shape[POST_NORMS]:
        turn = _meet(sync, team, turn)
        for t in range(me, count, team):
            _norm(room.tmp[t], slot, 0, model.shape, model.scale[EPS], room.tmp[t])
            for i in range(hidden):
                room.x[t, i] += residual * room.tmp[t, i]
    else:
        first, last = _share(hidden, me, team)
        for t in range(count):
            for i in range(first, last):
                room.x[t, i] += residual * room.tmp[t, i]
    return _meet(sync, team, turn)


@_fast
def _attention_half(me, team, sync, turn, model, layer, step, room):
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    turn, normed = _normed(
        me, team, sync, turn, model, table[ATTN_NORM], table[ATTN_NORM_BIAS], room, count
    )
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.QKV, normed, room)
    turn, groups = _packed(me, team, sync, turn, table, QKV, shape[HIDDEN], normed, room, count)
    width = (shape[HEADS] + 2 * shape[KV_HEADS]) * shape[HEAD]
    first, last = _share(width, me, team)
    _times(table, QKV, shape[HIDDEN], groups, room.qkv, count, first, last, 0)
    _add_bias(room.qkv, table[QKV_BIAS], count, first, last)
    _adapt(step, layer, lora.QKV, low, room.qkv, first, last)
    turn = _meet(sync, team, turn)
    _turn_and_store(
        me, team, shape, model.scale[EPS], layer, table, step.chunks, step.cos, step.sin, room.qkv
    )
    turn = _meet(sync, team, turn)
    factor = model.scale[ATTENTION]
    _attention(
        me, team, shape, factor, layer, table, step.chunks, room.qkv, room.scores[me], room.att
    )
    turn = _meet(sync, team, turn)
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.OUT, room.att, room)
    width = shape[HEADS] * shape[HEAD]
    turn, groups = _packed(me, team, sync, turn, table, OUT, width, room.att, room, count)
    first, last = _share(shape[HIDDEN], me, team)
    _times(table, OUT, width, groups, room.tmp, count, first, last, 0)
    _add_bias(room.tmp, table[OUT_BIAS], count, first, last)
    _adapt(step, layer, lora.OUT, low, room.tmp, first, last)
    return _add(me, team, sync, turn, model, table[POST_ATTN_NORM], room, count)


@_fast
def _feed_forward_half(me, team, sync, turn, model, layer, step, room):
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    turn, normed = _normed(
        me, team, sync, turn, model, table[MLP_NORM], table[MLP_NORM_BIAS], room, count
    )
    if shape[EXPERTS]:
        turn = _experts(me, team, sync, turn, shape, table, normed, room, count)
    else:
        turn, low = _lowered(me, team, sync, turn, step, layer, lora.UP, normed, room)
        turn, groups = _packed(me, team, sync, turn, table, UP, shape[HIDDEN], normed, room, count)
        first, last = _share(shape[INNER], me, team)
        _up(shape, table, groups, room.up, count, first, last, 0)
        _adapt(step, layer, lora.UP, low, room.up, first, last)
        if shape[GATED]:
            inner = shape[INNER]
            _adapt(step, layer, lora.UP, low, room.up, inner + first, inner + last)
        _inner(shape, room.up, count, first, last)
        turn = _meet(sync, team, turn)
        turn, low = _lowered(me, team, sync, turn, step, layer, lora.DOWN, room.up, room)
        turn, groups = _packed(
            me, team, sync, turn, table, DOWN, shape[INNER], room.up, room, count
        )
        first, last = _share(shape[HIDDEN], me, team)
        _times(table, DOWN, shape[INNER], groups, room.tmp, count, first, last, 0)
        _add_bias(room.tmp, table[DOWN_BIAS], count, first, last)
        _adapt(step, layer, lora.DOWN, low, room.tmp, first, last)
    return _add(me, team, sync, turn, model, table[POST_MLP_NORM], room, count)


@_fast
def _experts(me, team, sync, turn, shape, table, normed, room, count):
    """Each token goes through its best experts, weighted by softmax over those experts' scores.

    Tokens that go through one expert go together: an expert's weights are read once.
    """
    hidden, chosen = shape[HIDDEN], shape[CHOSEN]
    picks, parts, places, starts = (
        room.choices[me],
        room.shares[me],
        room.places[me],
        room.starts[me],
    )
    groups = room.own_packed[me].ctypes.data
    _route(shape, table, normed, groups, picks, parts, count)
    _line_up(picks, places, starts, count, shape[EXPERTS])
    first, last = _share(shape[INNER], me, team)
    rows = shape[INNER] * (2 if shape[GATED] else 1)
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        if begin == end:
            continue
        for t in range(count):
            for rank in range(chosen):
                if picks[t, rank] == e:
                    _pack(table, UP, hidden, normed, t, places[t, rank] - begin, groups)
        up = room.up[begin:end]
        _up(shape, table, groups, up, end - begin, first, last, e * rows)
        _inner(shape, up, end - begin, first, last)
    turn = _meet(sync, team, turn)
    first, last = _share(hidden, me, team)
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        for t in range(begin, end):
            _pack(table, DOWN, shape[INNER], room.up, t, t - begin, groups)
        to, count_of = room.mixed[begin:end], end - begin
        _times(table, DOWN, shape[INNER], groups, to, count_of, first, last, e * hidden)
    for t in range(count):
        for i in range(first, last):
            room.tmp[t, i] = np.float32(0)
        for rank in range(chosen):
            row = room.mixed[places[t, rank]]
            for i in range(first, last):
                room.tmp[t, i] += parts[t, rank] * row[i]
    return turn


@_fast
def _route(shape, table, normed, groups, picks, parts, count):
    """Every thread for itself: so few numbers are not worth waiting for."""
    scores = parts[count : count + 1]
    for t in range(count):
        _pack(table, ROUTER, shape[HIDDEN], normed, t, 0, groups)
        _times(table, ROUTER, shape[HIDDEN], groups, scores, 1, 0, shape[EXPERTS], 0)
        chosen = shape[CHOSEN]
        _best(scores[0, : shape[EXPERTS]], picks[t, :chosen], parts[t, :chosen])


@_fast
def _line_up(picks, places, starts, count, experts):
    """Where each token's rows lie when all are sorted by expert; starts[e] is expert e's first."""
    place = 0
    for e in range(experts):
        starts[e] = place
        for t in range(count):
            for rank in range(picks.shape[1]):
                if picks[t, rank] == e:
                    places[t, rank] = place
                    place += 1
    starts[experts] = place


@_fast
def _states(me, team, sync, turn, model, step, room):
    top, wanted = model.top, step.wanted
    for k in range(me, wanted.shape[0], team):
        row = room.x[wanted[k]]
        _norm(row, top[NORM], top[NORM_BIAS], model.shape, model.scale[EPS], step.states[k])
    return _meet(sync, team, turn)


@_fast
def _logits(me, team, sync, turn, model, step, room):
    shape, top, count = model.shape, model.top, step.logits.shape[0]
    turn, groups = _packed(
        me, team, sync, turn, top, HEAD_MATRIX, shape[HIDDEN], step.states, room, count
    )
    first, last = _share(shape[VOCAB], me, team)
    _times(top, HEAD_MATRIX, shape[HIDDEN], groups, step.logits, count, first, last, 0)
    divisor, cap = model.scale[DIVISOR], model.scale[SOFTCAP]
    for k in range(count):
        row = step.logits[k]
        if divisor != 1:
            for i in range(first, last):
                row[i] /= divisor
        if cap != 0:
            for i in range(first, last):
                row[i] = cap * np.float32(math.tanh(row[i] / cap))
    return _meet(sync, team, turn)


@_fast
def run(me, team, sync, turn, model, step, room):
    """One step. All threads of the team call it with the same arguments but `me`.

    Args:
        sync, turn: one int64 that counts arrivals, and what it stood at before the step.
    """
    _embed(
        me,
        team,
        model.shape,
        model.scale,
        model.top,
        step.tokens,
        step.positions,
        room.x,
        room.tmp,
    )
    turn = _meet(sync, team, turn)
    for layer in range(model.layers.shape[0]):
        turn = _attention_half(me, team, sync, turn, model, layer, step, room)
        turn = _feed_forward_half(me, team, sync, turn, model, layer, step, room)
    turn = _states(me, team, sync, turn, model, step, room)
    _logits(me, team, sync, turn, model, step, room)
