"""One step of a decoder, as every thread of a team runs it: each takes its share of every matrix's rows.

    embed -> [norm -> qkv | turn -> attend | out -> norm -> up | down] for each block -> norm -> logits

`|` is where all wait for all. Nothing here knows a family: `SHAPE`, `SCALE` and the tables say what there is.
The arithmetic is that of `engine.decoder`, in float32; the sums of one number are made in one order, whatever
else is in the step.

The tables, in whole numbers (0: there is none):
- a matrix takes five: address, bytes of a row, and the functions that multiply few inputs by it, that multiply
  many inputs by it, and that unpack a row;
- a vector of float32 takes one, its address.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native.attention import TOGETHER, attend
from daulat.engine.native.attention import compiled as _fast
from daulat.engine.native.vector import (
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
QKV, OUT, UP, DOWN, ROUTER = range(2, 27, 5)
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
) = range(27, 39)
LAYER_SIZE = 39

EMBED, HEAD_MATRIX, POSITIONS = 0, 5, 10
NORM, NORM_BIAS = 15, 16
TOP_SIZE = 17
MATRIX_SIZE = 5
ADDRESS, ROW_BYTES, MULTIPLY, READ, UNPACK = range(MATRIX_SIZE)

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
    reads: how many of the tokens are read (`engine.decoder.Chunk`); they come first.
    wanted: the rows whose logits are asked for, int64 [W].
    cos, sin: float32 [rope tables, T, dimensions / 2].
    logits: float32 [W, V], to be filled.
    """

    chunks: Any
    tokens: Any
    positions: Any
    reads: Any
    wanted: Any
    cos: Any
    sin: Any
    logits: Any


class Room(NamedTuple):
    """Memory to work in, float32 where not said otherwise.

    Attributes:
        x, h, tmp: [T, H]; own: [team, FEW, H].
        qkv: [T, (Q + 2K) D]; att: [T, Q D].
        up: [T or T * experts chosen, 2I or I].
        scores: [team, TOGETHER, longest sequence and two blocks more].
        choices, places: int64 [team, T + 1, experts chosen]; shares: [team, T + 1, experts].
        starts, read_by: int64 [team, experts + 1]; gathered: [team, T, H]; mixed: [T * experts chosen, H].
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
    read_by: Any
    gathered: Any
    mixed: Any


FEW = 16
"""Up to so many tokens every thread norms them all for itself, which is quicker than waiting for the others."""

SHARE = 16
"""Rows are shared out in pieces of so many, so that vectors end where a thread's part ends."""

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
def _times(table, slot, columns, x, y, reads, inputs, first, last, base):
    """y[:, first:last] = x times rows base + first to base + last of a matrix.

    The first `reads` inputs are tokens that are read (`panels`), the others are written.
    """
    if last == first:
        return
    weights, row_bytes = table[slot + ADDRESS], table[slot + ROW_BYTES]
    weights += (base + first) * row_bytes
    at, to, xb, yb = x.ctypes.data, y.ctypes.data + first * 4, x.shape[1] * 4, y.shape[1] * 4
    blocks, rows = columns // 32, last - first
    if reads:
        call(table[slot + READ], weights, row_bytes, blocks, at, xb, to, yb, reads, rows)
    if inputs > reads:
        at, to, left = at + reads * xb, to + reads * yb, inputs - reads
        call(table[slot + MULTIPLY], weights, row_bytes, blocks, at, xb, to, yb, left, rows)


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
        at = top[EMBED] + tokens[t] * top[EMBED + ROW_BYTES]
        call(top[EMBED + UNPACK], at, hidden // 32, row.ctypes.data, 0, 0, 0, 0, 0, 0)
        if scale[EMBEDDING] != 1:
            for i in range(hidden):
                row[i] *= scale[EMBEDDING]
        if top[POSITIONS]:
            at = top[POSITIONS] + positions[t] * top[POSITIONS + ROW_BYTES]
            call(top[POSITIONS + UNPACK], at, hidden // 32, tmp[t].ctypes.data, 0, 0, 0, 0, 0, 0)
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
    """Queries that share keys (a group's heads, of neighbouring tokens) go together where there are many."""
    heads, kv_heads, size = shape[HEADS], shape[KV_HEADS], shape[HEAD]
    group = heads // kv_heads
    total = 0
    for c in range(chunks.shape[0]):
        total += chunks[c, COUNT] * heads
    together = TOGETHER if total >= 4 * team * TOGETHER else 1
    queries, out = np.empty((2, together, size), dtype=np.float32)
    firsts, lasts = np.empty((2, together), dtype=np.int64)
    totals = np.empty(together, dtype=np.float32)
    unit = 0
    for c in range(chunks.shape[0]):
        start, length, blocks = chunks[c, START], chunks[c, LENGTH], chunks[c, CACHE]
        pairs = chunks[c, COUNT] * group
        for k in range(kv_heads):
            keys = (layer * 2 * kv_heads + k) * BLOCK_TOKENS * size * 4
            values = keys + kv_heads * BLOCK_TOKENS * size * 4
            for pair in range(0, pairs, together):
                unit += 1
                if unit % team != me:
                    continue
                inputs = min(together, pairs - pair)
                for m in range(inputs):
                    i, head = (pair + m) // group, k * group + (pair + m) % group
                    lasts[m] = length + i + 1
                    firsts[m] = max(0, lasts[m] - table[WINDOW]) if table[WINDOW] > 0 else 0
                    for d in range(size):
                        queries[m, d] = factor * qkv[start + i, head * size + d]
                attend(
                    queries[:inputs],
                    blocks,
                    keys,
                    values,
                    firsts,
                    lasts,
                    scores,
                    totals,
                    out[:inputs],
                )
                for m in range(inputs):
                    i, head = (pair + m) // group, k * group + (pair + m) % group
                    for d in range(size):
                        att[start + i, head * size + d] = out[m, d]


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
def _inner(shape, table, h, up, reads, inputs, first, last, base):
    """Columns first to last of act(gate) * up, or of act(up), into `up`."""
    inner = shape[INNER]
    _times(table, UP, shape[HIDDEN], h, up, reads, inputs, first, last, base)
    _add_bias(up, table[UP_BIAS], inputs, first, last)
    if shape[GATED]:
        _times(table, UP, shape[HIDDEN], h, up, reads, inputs, inner + first, inner + last, base)
        _add_bias(up, table[UP_BIAS], inputs, inner + first, inner + last)
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
    width = (shape[HEADS] + 2 * shape[KV_HEADS]) * shape[HEAD]
    first, last = _share(width, me, team)
    reads = step.reads
    _times(table, QKV, shape[HIDDEN], normed, room.qkv, reads, count, first, last, 0)
    _add_bias(room.qkv, table[QKV_BIAS], count, first, last)
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
    first, last = _share(shape[HIDDEN], me, team)
    _times(table, OUT, shape[HEADS] * shape[HEAD], room.att, room.tmp, reads, count, first, last, 0)
    _add_bias(room.tmp, table[OUT_BIAS], count, first, last)
    return _add(me, team, sync, turn, model, table[POST_ATTN_NORM], room, count)


@_fast
def _feed_forward_half(me, team, sync, turn, model, layer, step, room):
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    reads = step.reads
    turn, normed = _normed(
        me, team, sync, turn, model, table[MLP_NORM], table[MLP_NORM_BIAS], room, count
    )
    if shape[EXPERTS]:
        turn = _experts(me, team, sync, turn, shape, table, normed, room, reads, count)
    else:
        first, last = _share(shape[INNER], me, team)
        _inner(shape, table, normed, room.up, reads, count, first, last, 0)
        turn = _meet(sync, team, turn)
        first, last = _share(shape[HIDDEN], me, team)
        _times(table, DOWN, shape[INNER], room.up, room.tmp, reads, count, first, last, 0)
        _add_bias(room.tmp, table[DOWN_BIAS], count, first, last)
    return _add(me, team, sync, turn, model, table[POST_MLP_NORM], room, count)


@_fast
def _experts(me, team, sync, turn, shape, table, normed, room, reads, count):
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
    _route(shape, table, normed, picks, parts, count)
    _line_up(picks, places, starts, count, shape[EXPERTS])
    first, last = _share(shape[INNER], me, team)
    rows = shape[INNER] * (2 if shape[GATED] else 1)
    gathered, read_by = room.gathered[me], room.read_by[me]
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        if begin == end:
            continue
        read = 0
        for t in range(count):
            for rank in range(chosen):
                if picks[t, rank] == e:
                    gathered[places[t, rank] - begin] = normed[t]
                    read += t < reads
        read_by[e] = read
        up = room.up[begin:end]
        _inner(shape, table, gathered, up, read, end - begin, first, last, e * rows)
    turn = _meet(sync, team, turn)
    first, last = _share(hidden, me, team)
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        if begin < end:
            to = room.mixed[begin:end]
            _times(
                table,
                DOWN,
                shape[INNER],
                room.up[begin:end],
                to,
                read_by[e],
                end - begin,
                first,
                last,
                e * hidden,
            )
    for t in range(count):
        for i in range(first, last):
            room.tmp[t, i] = np.float32(0)
        for rank in range(chosen):
            row = room.mixed[places[t, rank]]
            for i in range(first, last):
                room.tmp[t, i] += parts[t, rank] * row[i]
    return turn


@_fast
def _route(shape, table, normed, picks, parts, count):
    """Every thread for itself: so few numbers are not worth waiting for."""
    scores = parts[count : count + 1]
    for t in range(count):
        _times(table, ROUTER, shape[HIDDEN], normed[t : t + 1], scores, 0, 1, 0, shape[EXPERTS], 0)
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
def _logits(me, team, sync, turn, model, step, room):
    shape, top, wanted = model.shape, model.top, step.wanted
    count = wanted.shape[0]
    for k in range(me, count, team):
        row = room.x[wanted[k]]
        _norm(row, top[NORM], top[NORM_BIAS], shape, model.scale[EPS], room.h[k])
    turn = _meet(sync, team, turn)
    first, last = _share(shape[VOCAB], me, team)
    _times(top, HEAD_MATRIX, shape[HIDDEN], room.h, step.logits, 0, count, first, last, 0)
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
    _logits(me, team, sync, turn, model, step, room)
