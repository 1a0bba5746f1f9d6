"""One step of a decoder, as every thread of a team runs it: each takes its share of every matrix's rows.

    embed -> [norm : qkv -> turn | attend | out | add -> norm : up | down | add] for each block -> norm | logits

In the last block only rows whose states are asked for go on from `turn`; of others keys and values are left.
`|` is where all wait for all; `:` too, unless there are few rows, which every thread norms for itself.
From one to the next a thread goes on with what it has made: it turns the heads whose rows of qkv it multiplied,
and packs its columns of up. Memory is written again only when all have met since it was last read.

Tokens that are read come first in a step, those that the model has written behind them: a matrix may multiply
the ones by other instructions than the others (`Inputs`), so what a token is decides its bits, not its company.

Nothing here knows a family: `SHAPE`, `SCALE` and the tables say what there is.
The arithmetic is that of `engine.decoder`, in float32; the sums of one number are made in one order, whatever
else is in the step. Rows whose sequence has an adapter get its part behind each matrix (`lora`).

The tables, in whole numbers (0: there is none):
- a matrix takes ten: address, bytes of a panel, bytes of a block of a group of its inputs, and the functions
  that multiply, that unpack a row, and that pack an input (`panels`); for inputs that are read, how many are a
  group, bytes of its block, and the functions that multiply and pack (`tiles`, or once more those of `panels`);
- a vector of float32 takes one, its address.
"""

# pyright: basic, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from daulat.engine.cache import BLOCK_TOKENS
from daulat.engine.native import lora, tile_activation, tile_attention, tiles, units
from daulat.engine.native.attention import TOGETHER, attend, scaled
from daulat.engine.native.attention import compiled as _fast
from daulat.engine.native.panels import GROUP
from daulat.engine.native.vector import (
    BLOCK,
    LANES,
    arrive,
    ask_to_write,
    call,
    floats,
    give_way,
    integers,
    look,
    silu_times,
    store_every_other,
    store_pairs,
)

# --- the tables' places ---------------------------------------------------------------------------

HIDDEN, HEADS, KV_HEADS, HEAD, INNER, VOCAB, EXPERTS, CHOSEN = range(8)
LAYER_NORM, GATED, ACTIVATION, QK_NORM, POST_NORMS, TILES, SHORT = range(8, 15)
SHAPE_SIZE = 15
EPS, ATTENTION, EMBEDDING, RESIDUAL, DIVISOR, SOFTCAP = range(6)
SCALE_SIZE = 6

WINDOW, ROPE = 0, 1
QKV, OUT, UP, DOWN, ROUTER = range(2, 52, 10)
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
) = range(52, 64)
LAYER_SIZE = 64

EMBED, HEAD_MATRIX, POSITIONS = 0, 10, 20
NORM, NORM_BIAS = 30, 31
TOP_SIZE = 32
MATRIX_SIZE = 10
ADDRESS, PANEL_BYTES, GROUP_BYTES, MULTIPLY, UNPACK, PACK = range(6)
READ_GROUP, READ_BYTES, READ_MULTIPLY, READ_PACK = range(6, MATRIX_SIZE)

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
        keys and values as `attention.attend` has them.
    tokens, positions: int64 [T].
    wanted: the rows whose last hidden states are asked for, int64 [W].
    cos, sin: float32 [rope tables, T, dimensions / 2].
    states: float32 [W or more, H]; the first W are filled: hidden states behind the last norm.
    logits: float32 [any, V or more], to be filled with the logits of the first states.
    adapters: int64 [adapters, layers, ...] of `lora.table`; stretches: of `lora.stretches`.
    read: so many tokens, the first ones, are read and not written; read_states: so many of the states.
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
    read: Any
    read_states: Any


class Room(NamedTuple):
    """Memory to work in, float32 where not said otherwise.

    Attributes:
        x, h: [T, H]: what goes from block to block, its norm.
        tmp: [T, H or more]: what half a block adds to it.
        own_x, own_h: [team, FEW, H].
        qkv: [T, (Q + 2K) D or more]; att: [T, Q D].
        up: [T or T * experts chosen, 2I or I or more]; own_up: [team, T, 2 PIECE or more].
        scores: [team, TOGETHER, WIDTH], of `attention`.
        asked: [team, 2, queries at once, D], queries and results; spans: int64, sums: [team, 2, queries].
        choices, places: int64 [team, T + 1, experts chosen]; shares: [team, T + 1, experts].
        starts: int64 [team, experts + 1]; mixed: [T * experts chosen, H].
        low: [T, ranks]; own_low: [team, FEW, ranks]: between an adapter's two matrices.
        wide: [team, `lora.WIDE`].
        packed: uint8 [2, room for the inputs of a matrix in groups]: of `down`, and before, of the others;
        own_packed: [team, room for a few].
        tiles: uint8 [team, room for `tiles.multiply`, and for `tile_attention`].
    """

    x: Any
    h: Any
    tmp: Any
    own_x: Any
    own_h: Any
    qkv: Any
    att: Any
    up: Any
    own_up: Any
    scores: Any
    asked: Any
    spans: Any
    sums: Any
    choices: Any
    shares: Any
    places: Any
    starts: Any
    mixed: Any
    low: Any
    own_low: Any
    wide: Any
    packed: Any
    own_packed: Any
    tiles: Any


class Inputs(NamedTuple):
    """Inputs to a matrix, packed: those that are read in groups of their own, before the others.

    Attributes:
        groups: address of the first group.
        read: how many are read.
        tiles: address of this thread's room for panels.
    """

    groups: Any
    read: Any
    tiles: Any


class Rows(NamedTuple):
    """The rows that a thread adds up, norms and packs: its own ones for all, or all for itself.

    Attributes:
        first, last: which.
        x, h: as in `Room`.
        packed: where they are packed, as `Inputs`.
    """

    first: Any
    last: Any
    x: Any
    h: Any
    packed: Any


FEW = 4
"""Up to so many tokens every thread norms and packs them all for itself, which is quicker than waiting for the
others."""

SHARE = 32
"""A matrix's rows are shared out in pieces of so many: whole panels, and whole blocks of the next's columns."""

PIECE = 128
"""Columns of `up` that are made and activated at once, for many rows."""

STORED = 2048
"""What it costs to store a number of a key, in columns that its row is multiplied with."""
BESIDE = 64
"""What a query costs beside its keys, in keys."""

_attend_by_tiles = tile_attention.attend if units.compiled() else tile_attention.absent
_silu_packed = tile_activation.silu_packed if units.compiled() else tile_activation.absent

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
def _at(x, t):
    """Address of a row."""
    return x.ctypes.data + t * x.shape[1] * 4


@_fast
def _share(count, piece, me, team):
    """My part of `count`, in whole pieces: from, to."""
    parts = (count + piece - 1) // piece
    return min(parts * me // team * piece, count), min(parts * (me + 1) // team * piece, count)


@_fast
def _heads(shape, me, team):
    """My rows of qkv, in whole heads and whole panels, shared out by what they cost: from, to."""
    heads, kv_heads, size, hidden = shape[HEADS], shape[KV_HEADS], shape[HEAD], shape[HIDDEN]
    width, piece = (heads + 2 * kv_heads) * size, np.lcm(shape[HEAD], SHARE)
    total = width * hidden + kv_heads * size * STORED
    first = last = 0
    for row in range(0, width, piece):
        cost = row * hidden + min(max(row - heads * size, 0), kv_heads * size) * STORED
        if cost * team < total * me:
            first = min(row + piece, width)
        if cost * team < total * (me + 1):
            last = min(row + piece, width)
    return first, last


@_fast
def _rows(me, team, room, count, read):
    """My rows, in whole groups where there are enough: threads that write to one group slow each other."""
    if count <= FEW:
        packed = _inputs_at(room.own_packed[me], read, room, me)
        return Rows(0, count, room.own_x[me], room.own_h[me], packed)
    first, last = _share(count, GROUP if count >= GROUP * team else 1, me, team)
    return Rows(first, last, room.x, room.h, _inputs_at(room.packed[0], read, room, me))


@_fast
def _inputs_at(place, read, room, me):
    return Inputs(place.ctypes.data, read, room.tiles[me].ctypes.data)


@_fast
def _others(table, slot, columns, packed):
    """Where the groups of those that are not read begin."""
    groups = (packed.read + table[slot + READ_GROUP] - 1) // table[slot + READ_GROUP]
    return packed.groups + groups * (columns // BLOCK) * table[slot + READ_BYTES]


@_fast
def _times(table, slot, columns, packed, y, inputs, first, last, base):
    """y[:, first:last] = rows base + first to base + last of a matrix times its inputs, which are packed."""
    _times_at(table, slot, columns, packed, y, first, inputs, base + first, base + last)


@_fast
def _times_at(table, slot, columns, packed, y, column, inputs, first, last):
    """Columns of y from one on = rows first to last of a matrix times its inputs."""
    if last == first or inputs == 0:
        return
    panel_bytes, blocks, read = table[slot + PANEL_BYTES], columns // BLOCK, packed.read
    panel = table[slot + ADDRESS] + first // LANES * panel_bytes
    to, to_bytes, rows = y.ctypes.data + column * 4, y.shape[1] * 4, last - first
    if read > 0:
        groups, room, multiply = packed.groups, packed.tiles, table[slot + READ_MULTIPLY]
        call(multiply, panel, panel_bytes, blocks, groups, to, to_bytes, read, rows, room)
    if inputs > read:
        groups, multiply = _others(table, slot, columns, packed), table[slot + MULTIPLY]
        to, inputs = to + read * to_bytes, inputs - read
        call(multiply, panel, panel_bytes, blocks, groups, to, to_bytes, inputs, rows, 0)


@_fast
def _pack(table, slot, columns, first, last, numbers, place, packed):
    """Columns first to last of an input to a matrix, at an address, into its place among the inputs."""
    blocks, before = (last - first) // BLOCK, first // BLOCK
    if place < packed.read:
        size, of_block = table[slot + READ_GROUP], table[slot + READ_BYTES]
        groups, pack = packed.groups, table[slot + READ_PACK]
    else:
        size, of_block = GROUP, table[slot + GROUP_BYTES]
        groups, pack = _others(table, slot, columns, packed), table[slot + PACK]
        place -= packed.read
    group = groups + (place // size * (columns // BLOCK) + before) * of_block
    call(pack, numbers, blocks, group, place % size, 0, 0, 0, 0, 0)


@_fast
def _pack_row(table, slot, columns, x, t, place, packed):
    _pack(table, slot, columns, 0, columns, _at(x, t), place, packed)


@_fast
def _packed(me, team, sync, turn, table, slot, columns, x, room, count, read):
    """All rows of x as a matrix's inputs, where this thread reads them."""
    rows = _rows(me, team, room, count, read)
    for t in range(rows.first, rows.last):
        _pack_row(table, slot, columns, x, t, t, rows.packed)
    return _meet_of_many(sync, team, turn, count), rows.packed


@_fast
def _unpack(table, slot, row, columns, y):
    """One row of a matrix as float32."""
    panel = table[slot + ADDRESS] + row // LANES * table[slot + PANEL_BYTES]
    to = y.ctypes.data
    call(table[slot + UNPACK], panel, columns // BLOCK, row % LANES, to, 0, 0, 0, 0, 0)


@_fast
def _add_bias(y, address, inputs, first, last):
    _add_bias_at(y, first, address, inputs, first, last - first)


@_fast
def _add_bias_at(y, column, address, inputs, first, count):
    """Columns of y from one on += so many of the biases, from the first on."""
    if address:
        bias = floats(address + first * 4, count)
        for m in range(inputs):
            for i in range(count):
                y[m, column + i] += bias[i]


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
        bias = floats(bias_address, row.shape[0])
        for i in range(row.shape[0]):
            out[i] += bias[i]


@_fast
def _norm(row, address, bias_address, shape, eps, out):
    weight = floats(address, row.shape[0])
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
def _embed(model, step, rows):
    shape, scale, top = model.shape, model.scale, model.top
    hidden, row_bytes = shape[HIDDEN], rows.x.shape[1] * 4
    x, h = _at(rows.x, 0), _at(rows.h, 0)
    for t in range(rows.first, rows.last):
        row, position = floats(x + t * row_bytes, hidden), floats(h + t * row_bytes, hidden)
        _unpack(top, EMBED, step.tokens[t], hidden, row)
        if scale[EMBEDDING] != 1:
            for i in range(hidden):
                row[i] *= scale[EMBEDDING]
        if top[POSITIONS]:
            _unpack(top, POSITIONS, step.positions[t], hidden, position)
            for i in range(hidden):
                row[i] += position[i]


@_fast
def _turn_and_store(first, last, model, layer, step, qkv):
    """Norm and turn some heads of queries and keys; keys and values go into the caches."""
    table, shape, chunks = model.layers[layer], model.shape, step.chunks
    heads, kv_heads, size = shape[HEADS], shape[KV_HEADS], shape[HEAD]
    half, angles = step.cos.shape[2], table[ROPE] * step.cos.shape[1]
    all_cos, all_sin, queries = step.cos.ctypes.data, step.sin.ctypes.data, _at(qkv, 0)
    row_bytes = qkv.shape[1] * 4
    for c in range(chunks.shape[0]):
        start, length, count = chunks[c, START], chunks[c, LENGTH], chunks[c, COUNT]
        blocks = integers(chunks[c, CACHE], (length + count - 1) // BLOCK_TOKENS + 1)
        for head in range(first, last):
            for i in range(count):
                row = floats(queries + head * size * 4 + (start + i) * row_bytes, size)
                if head < heads + kv_heads and shape[QK_NORM]:
                    weight = floats(table[Q_NORM if head < heads else K_NORM], size)
                    _rms(row, weight, model.scale[EPS], row)
                if head < heads + kv_heads and table[ROPE] >= 0:
                    t = angles + start + i
                    cos, sin = (
                        floats(all_cos + t * half * 4, half),
                        floats(all_sin + t * half * 4, half),
                    )
                    _turn(row, cos, sin)
                if head >= heads:
                    place, block = (length + i) % BLOCK_TOKENS, blocks[(length + i) // BLOCK_TOKENS]
                    block += _in_block(shape, layer, head - heads)
                    if shape[SHORT]:
                        _store_short(row, head < heads + kv_heads, block, place)
                    else:
                        _store(row, head < heads + kv_heads, block, place)


@_fast
def _in_block(shape, layer, head):
    """Where in a block of the cache a head's keys begin; its values are as many heads further as there are."""
    number_bytes = 2 if shape[SHORT] else 4
    return (layer * 2 * shape[KV_HEADS] + head) * BLOCK_TOKENS * shape[HEAD] * number_bytes


@_fast
def _ask_for_places(first, last, model, layer, step):
    """Of a written token, memory is asked for the places of its keys while they are made: each is a line."""
    shape, chunks = model.shape, step.chunks
    heads, kv_heads, size = shape[HEADS], shape[KV_HEADS], shape[HEAD]
    for c in range(chunks.shape[0]):
        if chunks[c, COUNT] > 1:
            continue
        place = chunks[c, LENGTH] % BLOCK_TOKENS
        blocks = integers(chunks[c, CACHE], chunks[c, LENGTH] // BLOCK_TOKENS + 1)
        block = blocks[chunks[c, LENGTH] // BLOCK_TOKENS] + place * 4
        for head in range(max(first, heads), min(last, heads + kv_heads)):
            at = block + _in_block(shape, layer, head - heads)
            ask_to_write(at, BLOCK_TOKENS * 4, size // 2 if shape[SHORT] else size)


@_fast
def _store(row, is_key, block, place):
    """Keys lie dimension by dimension, values token by token."""
    if is_key:
        keys = floats(block, BLOCK_TOKENS * row.shape[0])
        for d in range(row.shape[0]):
            keys[d * BLOCK_TOKENS + place] = row[d]
    else:
        _copy(row, block + place * row.shape[0] * 4)


@_fast
def _store_short(row, is_key, block, place):
    """Keys lie by pairs of dimensions, values by pairs of tokens, as matrix units want them."""
    size, x = row.shape[0], row.ctypes.data
    if is_key:
        store_pairs(x, size, block + place * 4, BLOCK_TOKENS * 4)
    else:
        store_every_other(x, size, block + place // 2 * size * 4 + place % 2 * 2)


@_fast
def _copy(row, address):
    to = floats(address, row.shape[0])
    for d in range(row.shape[0]):
        to[d] = row[d]


@_fast
def _attention(me, team, model, layer, step, room):
    """Queries that share keys (a group's heads, of neighbouring tokens) go together where there are many.

    Where they are few, neighbouring heads go together too: memory gives long stretches faster than short ones.
    Many are shared out by what they cost, key head by key head, and by tiles go some shares at once.
    """
    shape, window, chunks = model.shape, model.layers[layer, WINDOW], step.chunks
    kv_heads, group = shape[KV_HEADS], shape[HEADS] // shape[KV_HEADS]
    (queries, out), (firsts, lasts) = room.asked[me], room.spans[me]
    totals, mosts = room.sums[me]
    work = queries, firsts, lasts, room.scores[me], totals, mosts, out
    packed = _inputs_at(room.packed[0], step.read, room, me)
    few, total = 0, 0
    for c in range(chunks.shape[0]):
        pairs, together = chunks[c, COUNT] * group, _together(shape, step, c)
        few += together == 0
        for pair in range(0, pairs if together else 0, max(together, 1)):
            total += kv_heads * _cost(chunks[c], window, group, pair, min(together, pairs - pair))
    n = 0
    for c in range(chunks.shape[0]):
        pairs = chunks[c, COUNT] * group
        if _together(shape, step, c) == 0:
            k, last = _my_heads(n, few, kv_heads, me, team)
            n += 1
            while k < last:
                beside = min(last - k, TOGETHER // pairs)
                _attend(model, layer, chunks[c], k, beside, 0, pairs, room, work, packed)
                k += beside
    begin, end, done = total * me // team, total * (me + 1) // team, 0
    for k in range(kv_heads):
        for c in range(chunks.shape[0]):
            pairs, together = chunks[c, COUNT] * group, _together(shape, step, c)
            room_for = tile_attention.TOGETHER if _by_tiles(shape, chunks[c], step.read) else 0
            first = -1
            for pair in range(0, pairs if together else 0, max(together, 1)):
                last, before = min(pair + together, pairs), done
                done += _cost(chunks[c], window, group, pair, last - pair)
                if not begin <= before < end:
                    continue
                first = pair if first < 0 else first
                each = last - first
                if last == pairs or done >= end or each + together > room_for:
                    _attend(model, layer, chunks[c], k, 1, first, each, room, work, packed)
                    first = -1


@_fast
def _together(shape, step, c):
    """Of how many queries a chunk's shares are; 0: few enough to go with other heads'."""
    group = shape[HEADS] // shape[KV_HEADS]
    most = TOGETHER
    if _by_tiles(shape, step.chunks[c], step.read):
        most = tile_attention.SHARE
    elif step.chunks[c, COUNT] * group <= TOGETHER // group * group:
        return 0
    return most // group * group if group < most else most


@_fast
def _by_tiles(shape, chunk, read):
    return shape[TILES] != 0 and chunk[START] < read


@_fast
def _cost(chunk, window, group, pair, inputs):
    """About how long some queries of a chunk take."""
    keys = chunk[LENGTH] + (pair + inputs - 1) // group + 1
    return inputs * ((min(keys, window) if window > 0 else keys) + BESIDE)


@_fast
def _my_heads(n, few, kv_heads, me, team):
    """My part of the n-th sequence's heads, from and to: whole sequences in turn, parts of those left over."""
    even = few // team * team
    if n < even:
        return 0, kv_heads if n % team == me else 0
    left, before = (few - even) * kv_heads, (n - even) * kv_heads
    return max(left * me // team - before, 0), min(left * (me + 1) // team - before, kv_heads)


@_fast
def _attend(model, layer, chunk, k, beside, pair, each, room, work, packed):
    """`each` queries, from a pair of token and head on, of each of `beside` key-value heads from k on.

    Whole blocks of a head are packed at once.
    """
    shape, table, qkv = model.shape, model.layers[layer], room.qkv
    kv_heads, size, window = shape[KV_HEADS], shape[HEAD], table[WINDOW]
    group, width = shape[HEADS] // kv_heads, shape[HEADS] * size
    queries, firsts, lasts, scores, totals, mosts, out = work
    row, to = qkv.ctypes.data + chunk[START] * qkv.shape[1] * 4, queries.ctypes.data
    m = 0
    for head in range(k * group, (k + beside) * group, group):
        for j in range(pair, pair + each):
            i = j // group
            lasts[m] = chunk[LENGTH] + i + 1
            firsts[m] = max(0, lasts[m] - window) if window > 0 else 0
            at = row + (i * qkv.shape[1] + (head + j % group) * size) * 4
            scaled(at, model.scale[ATTENTION], to + m * size * 4, size)
            m += 1
    keys, values = _in_block(shape, layer, k), _in_block(shape, layer, kv_heads + k)
    if _by_tiles(shape, chunk, packed.read):
        _attend_by_tiles(
            queries,
            m,
            chunk[CACHE],
            keys,
            values,
            firsts,
            lasts,
            packed.tiles,
            totals,
            mosts,
            out,
        )
    else:
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
            shape[SHORT],
        )
    m, found, att, att_bytes = 0, _at(out, 0), _at(room.att, 0), room.att.shape[1] * 4
    for head in range(k * group, (k + beside) * group, group):
        for j in range(pair, pair + each):
            t, first = chunk[START] + j // group, (head + j % group) * size
            numbers = found + m * size * 4
            scaled(numbers, np.float32(1), att + t * att_bytes + first * 4, size)
            if size % BLOCK == 0:
                _pack(table, OUT, width, first, first + size, numbers, t, packed)
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
def _up(shape, table, packed, up, inputs, first, last, base):
    """Columns first to last of up, and of gate where there is one."""
    inner = shape[INNER]
    _times(table, UP, shape[HIDDEN], packed, up, inputs, first, last, base)
    _add_bias(up, table[UP_BIAS], inputs, first, last)
    if shape[GATED]:
        _times(table, UP, shape[HIDDEN], packed, up, inputs, inner + first, inner + last, base)
        _add_bias(up, table[UP_BIAS], inputs, inner + first, inner + last)


@_fast
def _inner(shape, up, inputs, first, last):
    """Columns first to last of act(gate) * up, or of act(up), in place of `up`."""
    _act(shape, up, 0, inputs, first, shape[INNER] + first, last - first)


@_fast
def _by_silu(shape):
    """Whether `silu_times` is the activation."""
    return shape[ACTIVATION] == SILU and shape[GATED] != 0


@_fast
def _act(shape, y, begin, end, first, other, count):
    """So many columns of the gate, from `first` on, and of up, from `other` on, in place of the gate's."""
    plain = not _by_silu(shape)
    rows, row_bytes = _at(y, 0), y.shape[1] * 4
    for m in range(begin, end):
        if plain:
            for i in range(count):
                z = _activate(shape[ACTIVATION], y[m, first + i])
                y[m, first + i] = z * y[m, other + i] if shape[GATED] else z
        else:
            at = rows + m * row_bytes
            silu_times(at + first * 4, at + other * 4, count)


@_fast
def _packed_at_once(table, shape, y, first, other, column, count, down):
    """Tokens that are read, if `down` takes them as tiles: `_act` of so many columns, packed from `column` on.

    Returns:
        how many tokens.
    """
    by_tiles = table[DOWN + READ_GROUP] == tiles.GROUP and table[DOWN + READ_BYTES] == tiles.BYTES
    if not by_tiles or not _by_silu(shape):
        return 0
    at, row_bytes, blocks = _at(y, 0), y.shape[1] * 4, shape[INNER] // BLOCK
    for t in range(down.read):
        gate, up = at + t * row_bytes + first * 4, at + t * row_bytes + other * 4
        group = down.groups + (t // tiles.GROUP * blocks + column // BLOCK) * tiles.BYTES
        _silu_packed(gate, up, count // BLOCK, group, t % tiles.GROUP)
    return down.read


@_fast
def _piece(table, shape, packed, own, inputs, first, last, down):
    """Columns first to last of what goes into `down`, packed, where nobody else wants them.

    They are made in little room, which stays in the nearer cache.
    """
    inner, hidden, count = shape[INNER], shape[HIDDEN], last - first
    bias, other = table[UP_BIAS], PIECE if shape[GATED] else 0
    _times_at(table, UP, hidden, packed, own, 0, inputs, first, last)
    _add_bias_at(own, 0, bias, inputs, first, count)
    if shape[GATED]:
        _times_at(table, UP, hidden, packed, own, PIECE, inputs, inner + first, inner + last)
        _add_bias_at(own, PIECE, bias, inputs, inner + first, count)
    done = _packed_at_once(table, shape, own, 0, other, first, count, down)
    _act(shape, own, done, inputs, 0, other, count)
    at, own_bytes = _at(own, 0), own.shape[1] * 4
    for t in range(done, inputs):
        _pack(table, DOWN, inner, first, last, at + t * own_bytes, t, down)


@_fast
def _activated(shape, table, up, inputs, first, last, packed):
    """Columns first to last of what goes into `down`, packed; in float32 they stay in `up`, for adapters."""
    other = shape[INNER] + first
    done = _packed_at_once(table, shape, up, first, other, first, last - first, packed)
    _inner(shape, up, inputs, first, last)
    at, row_bytes = _at(up, 0) + first * 4, up.shape[1] * 4
    for t in range(done, inputs):
        _pack(table, DOWN, shape[INNER], first, last, at + t * row_bytes, t, packed)


@_fast
def _meet(sync, team, turn):
    """Wait for all; what the counter stands at then."""
    turn += team
    _wait(sync.ctypes.data, turn)
    return turn


@_fast
def _meet_others(sync, team, turn):
    """The same of threads that go apart."""
    return turn if team == 1 else _meet(sync, team, turn)


@_fast
def _meet_of_many(sync, team, turn, count):
    """Few rows every thread has by itself (`_rows`)."""
    return turn if count <= FEW else _meet(sync, team, turn)


@_fast
def _sum(model, post_norm, x, tmp, out):
    """out = x + residual * tmp, which is normed before where the model has such a norm."""
    residual = model.scale[RESIDUAL]
    if model.shape[POST_NORMS]:
        _norm(tmp, post_norm, 0, model.shape, model.scale[EPS], out)
        tmp = out
    for i in range(x.shape[0]):
        out[i] = x[i] + residual * tmp[i]


@_fast
def _inputs(sync, team, turn, model, added, post_norm, table, norm, slot, room, rows, count):
    """Add what the half block before has given to my rows, norm them and pack them for a matrix.

    Args:
        added: whether there was a half block before; post_norm: its norm.
        norm, slot: places in the table, the norm's bias behind it; 0: nothing is packed.
    """
    x, h, tmp, hidden = _at(rows.x, 0), _at(rows.h, 0), _at(room.tmp, 0), model.shape[HIDDEN]
    row_bytes, tmp_bytes = rows.x.shape[1] * 4, room.tmp.shape[1] * 4
    for t in range(rows.first, rows.last):
        row, to = floats(x + t * row_bytes, hidden), floats(h + t * row_bytes, hidden)
        if added:
            _sum(model, post_norm, row, floats(tmp + t * tmp_bytes, hidden), to)
            _copy(to, x + t * row_bytes)
        _norm(row, table[norm], table[norm + 1], model.shape, model.scale[EPS], to)
        if slot:
            _pack(table, slot, hidden, 0, hidden, h + t * row_bytes, t, rows.packed)
    return _meet_of_many(sync, team, turn, count)


@_fast
def _lowered(me, team, sync, turn, step, layer, slot, x, room):
    """A x of the rows that have an adapter, where this thread reads it: few rows' in its own memory."""
    if step.stretches.shape[0] == 0:
        return turn, room.own_low[me]
    if step.tokens.shape[0] <= FEW:
        low = room.own_low[me]
        lora.lower(step.adapters, step.stretches, layer, slot, x, low, 0, 1)
        return turn, low
    lora.lower(step.adapters, step.stretches, layer, slot, x, room.low, me, team)
    return _meet(sync, team, turn), room.low


@_fast
def _adapt(step, layer, slot, low, y, first, last, wide):
    """Add the adapters' part to y[:, first:last]."""
    if step.stretches.shape[0]:
        lora.change(step.adapters, step.stretches, layer, slot, low, y, first, last, wide)


@_fast
def _query(me, team, sync, turn, model, layer, step, room, rows):
    """Queries, and keys and values, which go into the caches."""
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    hidden, size = shape[HIDDEN], shape[HEAD]
    former = model.layers[layer - 1, POST_MLP_NORM]
    turn = _inputs(
        sync, team, turn, model, layer > 0, former, table, ATTN_NORM, QKV, room, rows, count
    )
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.QKV, rows.h, room)
    first, last = _heads(shape, me, team)
    _ask_for_places(first // size, last // size, model, layer, step)
    _times(table, QKV, hidden, rows.packed, room.qkv, count, first, last, 0)
    _add_bias(room.qkv, table[QKV_BIAS], count, first, last)
    _adapt(step, layer, lora.QKV, low, room.qkv, first, last, room.wide[me])
    _turn_and_store(first // size, last // size, model, layer, step, room.qkv)
    return _meet(sync, team, turn)


@_fast
def _narrow(me, team, sync, turn, step, last, room, rows):
    """Where few rows are asked for, from here on they are all: their numbers go to the front."""
    count, asked = step.tokens.shape[0], last.tokens.shape[0]
    if asked == count:
        return turn, rows
    x, qkv = _at(room.x, 0), _at(room.qkv, 0)
    x_bytes, qkv_bytes = room.x.shape[1] * 4, room.qkv.shape[1] * 4
    if me == 0:  # one after the other, so that none is written over before it has gone
        for k in range(asked):
            t = step.wanted[k]
            _copy(floats(x + t * x_bytes, room.x.shape[1]), x + k * x_bytes)
            _copy(floats(qkv + t * qkv_bytes, room.qkv.shape[1]), qkv + k * qkv_bytes)
    turn = _meet(sync, team, turn)
    rows = _rows(me, team, room, asked, last.read)
    if asked <= FEW:
        to = _at(rows.x, 0)
        for k in range(asked):
            _copy(floats(x + k * x_bytes, room.x.shape[1]), to + k * x_bytes)
    return turn, rows


@_fast
def _attention_half(me, team, sync, turn, model, layer, step, room):
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    hidden, size = shape[HIDDEN], shape[HEAD]
    _attention(me, team, model, layer, step, room)
    turn = _meet(sync, team, turn)
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.OUT, room.att, room)
    width, packed = shape[HEADS] * size, _inputs_at(room.packed[0], step.read, room, me)
    if size % BLOCK:
        turn, packed = _packed(
            me, team, sync, turn, table, OUT, width, room.att, room, count, step.read
        )
    first, last = _share(hidden, SHARE, me, team)
    _times(table, OUT, width, packed, room.tmp, count, first, last, 0)
    _add_bias(room.tmp, table[OUT_BIAS], count, first, last)
    _adapt(step, layer, lora.OUT, low, room.tmp, first, last, room.wide[me])
    return _meet(sync, team, turn)


@_fast
def _feed_forward_half(me, team, sync, turn, model, layer, step, room, rows):
    table, shape, count = model.layers[layer], model.shape, step.tokens.shape[0]
    hidden, inner, former = shape[HIDDEN], shape[INNER], table[POST_ATTN_NORM]
    slot = 0 if shape[EXPERTS] else UP
    turn = _inputs(sync, team, turn, model, True, former, table, MLP_NORM, slot, room, rows, count)
    if shape[EXPERTS]:
        turn = _experts(me, team, sync, turn, shape, table, rows.h, room, count, step.read)
        return _meet(sync, team, turn)
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.UP, rows.h, room)
    first, last = _share(inner, SHARE, me, team)
    packed = _inputs_at(room.packed[1], step.read, room, me)
    if count > FEW and step.stretches.shape[0] == 0:
        for at in range(first, last, PIECE):
            end = min(at + PIECE, last)
            _piece(table, shape, rows.packed, room.own_up[me], count, at, end, packed)
    else:
        _up(shape, table, rows.packed, room.up, count, first, last, 0)
        _adapt(step, layer, lora.UP, low, room.up, first, last, room.wide[me])
        if shape[GATED]:
            _adapt(step, layer, lora.UP, low, room.up, inner + first, inner + last, room.wide[me])
        _activated(shape, table, room.up, count, first, last, packed)
    turn = _meet(sync, team, turn)
    turn, low = _lowered(me, team, sync, turn, step, layer, lora.DOWN, room.up, room)
    first, last = _share(hidden, SHARE, me, team)
    _times(table, DOWN, inner, packed, room.tmp, count, first, last, 0)
    _add_bias(room.tmp, table[DOWN_BIAS], count, first, last)
    _adapt(step, layer, lora.DOWN, low, room.tmp, first, last, room.wide[me])
    return _meet(sync, team, turn)


@_fast
def _experts(me, team, sync, turn, shape, table, normed, room, count, read):
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
    alone = _inputs_at(room.own_packed[me], 0, room, me)
    _route(shape, table, normed, alone, picks, parts, count)
    _line_up(picks, places, starts, count, shape[EXPERTS])
    first, last = _share(shape[INNER], SHARE, me, team)
    rows = shape[INNER] * (2 if shape[GATED] else 1)
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        if begin == end:
            continue
        packed = _inputs_at(room.own_packed[me], _of_these(picks, e, read), room, me)
        for t in range(count):
            for rank in range(chosen):
                if picks[t, rank] == e:
                    _pack_row(table, UP, hidden, normed, t, places[t, rank] - begin, packed)
        up = room.up[begin:end]
        _up(shape, table, packed, up, end - begin, first, last, e * rows)
        _inner(shape, up, end - begin, first, last)
    turn = _meet(sync, team, turn)
    first, last = _share(hidden, SHARE, me, team)
    for e in range(shape[EXPERTS]):
        begin, end = starts[e], starts[e + 1]
        packed = _inputs_at(room.own_packed[me], _of_these(picks, e, read), room, me)
        for t in range(begin, end):
            _pack_row(table, DOWN, shape[INNER], room.up, t, t - begin, packed)
        to, count_of = room.mixed[begin:end], end - begin
        _times(table, DOWN, shape[INNER], packed, to, count_of, first, last, e * hidden)
    for t in range(count):
        for i in range(first, last):
            room.tmp[t, i] = np.float32(0)
        for rank in range(chosen):
            row = room.mixed[places[t, rank]]
            for i in range(first, last):
                room.tmp[t, i] += parts[t, rank] * row[i]
    return turn


@_fast
def _of_these(picks, expert, count):
    """How many of the first tokens go through an expert."""
    found = 0
    for t in range(count):
        for rank in range(picks.shape[1]):
            found += picks[t, rank] == expert
    return found


@_fast
def _route(shape, table, normed, alone, picks, parts, count):
    """Every thread for itself: so few numbers are not worth waiting for."""
    scores = parts[count : count + 1]
    for t in range(count):
        _pack_row(table, ROUTER, shape[HIDDEN], normed, t, 0, alone)
        _times(table, ROUTER, shape[HIDDEN], alone, scores, 1, 0, shape[EXPERTS], 0)
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
def _states(me, team, sync, turn, model, step, room, rows):
    top, wanted, eps, hidden = model.top, step.wanted, model.scale[EPS], model.shape[HIDDEN]
    for k in range(me, wanted.shape[0], team):
        t, state = wanted[k], floats(_at(step.states, k), hidden)
        row, half = floats(_at(rows.x, t), hidden), floats(_at(room.tmp, t), hidden)
        _sum(model, model.layers[-1, POST_MLP_NORM], row, half, state)
        _norm(state, top[NORM], top[NORM_BIAS], model.shape, eps, state)
    return _meet(sync, team, turn)


@_fast
def _logits(me, team, sync, turn, model, step, room):
    shape, top, count = model.shape, model.top, step.logits.shape[0]
    read = min(step.read_states, count)
    turn, packed = _packed(
        me, team, sync, turn, top, HEAD_MATRIX, shape[HIDDEN], step.states, room, count, read
    )
    first, last = _share(shape[VOCAB], SHARE, me, team)
    _times(top, HEAD_MATRIX, shape[HIDDEN], packed, step.logits, count, first, last, 0)
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
def run(me, team, sync, turn, all_sync, all_, all_turn, model, step, last, room):
    """One step. All threads of the team call it with the same arguments but `me`.

    Threads may go apart: each is a team of its own, with its own rows and room, and waits for all others where
    it needs their keys and values.

    Args:
        sync, turn: one int64 that counts arrivals, and what it stood at before the step.
        all_sync, all_, all_turn: the same of threads that go apart, and how many they are; else 1.
        last: what the last block makes of the step: the wanted tokens alone, or the same step.
    """
    rows, layers = _rows(me, team, room, step.tokens.shape[0], step.read), model.layers.shape[0]
    _embed(model, step, rows)
    for layer in range(layers):
        turn = _query(me, team, sync, turn, model, layer, step, room, rows)
        all_turn = _meet_others(all_sync, all_, all_turn)
        if layer == layers - 1:
            turn, rows = _narrow(me, team, sync, turn, step, last, room, rows)
            step = last
        turn = _attention_half(me, team, sync, turn, model, layer, step, room)
        turn = _feed_forward_half(me, team, sync, turn, model, layer, step, room, rows)
    turn = _states(me, team, sync, turn, model, step, room, rows)
    _logits(me, team, sync, turn, model, step, room)
    _meet_others(all_sync, all_, all_turn)
