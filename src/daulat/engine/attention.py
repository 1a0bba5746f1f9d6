"""Attention over what a cache holds, in PyTorch: which of its slots new tokens see, and what they make of them.

Either many sequences bring one token each, or one sequence brings many: B sequences of n tokens, one of both
numbers 1. Every shape here follows from the shapes of the arguments, so that a captured step (`graphs`) may
hold it.

Why gathered slots and `scaled_dot_product_attention`: it is the same code on every device, so that the tests
of the processor hold it. PyTorch's `nn.attention.varlen` takes block tables itself and has no code for the
processor; `flex_attention` needs a compiler on the user's machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine.cache import BLOCK_TOKENS, blocks_for
from daulat.engine.pages import Pages


@dataclass(frozen=True, slots=True)
class View:
    """What new tokens see of the cache.

    Attributes:
        slots: [B, L]; where a sequence has no such token, the slot of nothing.
        bias: [B, 1, n, L]: 0 for what a token sees, minus infinity for what it does not.
    """

    slots: Tensor
    bias: Tensor


def view(pages: Pages, tables: Tensor, positions: Tensor, window: int | None) -> View:
    """What tokens see of their sequences, themselves included.

    Args:
        tables: [B, W], the numbers of the sequences' blocks.
        positions: [B, n], ascending by one.
        window: how many tokens a token sees, itself included; None: all.
    """
    count = positions.shape[1]
    length = tables.shape[1] * BLOCK_TOKENS
    if window is not None:
        length = min(length, blocks_for(window + count - 1) * BLOCK_TOKENS)
    last = positions[:, -1:]
    places = (last - length + 1).clamp(min=0) + torch.arange(length, device=tables.device)
    slots = tables.gather(1, places // BLOCK_TOKENS) * BLOCK_TOKENS + places % BLOCK_TOKENS
    distance = positions[:, :, None] - places[:, None]
    unseen = distance < 0 if window is None else (distance < 0) | (distance >= window)
    bias = torch.zeros(unseen.shape, dtype=pages.dtype, device=tables.device)
    return View(
        slots.masked_fill(places > last, pages.nothing),
        bias.masked_fill(unseen, -torch.inf)[:, None],
    )


def attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float) -> Tensor:
    """softmax(scale * q k + bias) v.

    Args:
        q: [B, n, Q, D].
        keys, values: [B, L, K, D]; Q is a multiple of K.
        bias: [B, 1, n, L].

    Returns:
        [B, n, Q, D]
    """
    batch, count, _, size = q.shape
    kv_heads = keys.shape[2]
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    if count == 1:  # the heads that share a key are its rows
        rows = q.view(batch, kv_heads, -1, size)
        out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=bias, scale=scale)
        return out.reshape(q.shape)
    # The heads that share a key are as many sequences that share it.
    grouped = q.view(count, kv_heads, -1, size).permute(2, 1, 0, 3)
    keys, values = (kv.expand(len(grouped), -1, -1, -1) for kv in (keys, values))
    out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=scale)
    return out.permute(2, 1, 0, 3).reshape(q.shape)


def attend_anew(q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """A sequence's first tokens [n, Q, D] among themselves, [n, K, D]; as `attend`."""
    q, keys, values = (x.transpose(0, 1)[None] for x in (q, keys, values))
    out = F.scaled_dot_product_attention(
        q, keys, values, is_causal=True, scale=scale, enable_gqa=True
    )
    return out[0].transpose(0, 1)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn [tokens, heads, D]: dimension j with dimension j + dims/2; those beyond `dims` stay."""
    half = cos.shape[-1]
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat((*turned, rest) if rest.shape[-1] else turned, dim=-1).to(heads.dtype)
