"""Attention of one sequence's new tokens over its cached ones, in PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from daulat.engine.cache import BLOCK_TOKENS, SequenceCache, blocks_for
from daulat.engine.tensors import tensor


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn [tokens, heads, D]: dimension j with dimension j + dims/2; those beyond `dims` stay."""
    half = cos.shape[-1]
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat((*turned, rest) if rest.shape[-1] else turned, dim=-1).to(heads.dtype)


def extend(cache: SequenceCache, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Put in the keys and values of new tokens, each [n, K, D]; all so far come back, [K, length + n, D].

    The cache's length moves only by `advance`, when every layer has been through.
    """
    count = keys.shape[0]
    new = torch.stack([keys, values]).transpose(1, 2)  # [2, K, n, D]
    used = [tensor(cache.block(i)[layer]) for i in range(blocks_for(cache.length + count))]
    done = 0
    while done < count:
        number, place = divmod(cache.length + done, BLOCK_TOKENS)
        some = min(BLOCK_TOKENS - place, count - done)
        used[number][:, :, place : place + some] = new[:, :, done : done + some]
        done += some
    keys, values = torch.cat(used, dim=2)[:, :, : cache.length + count]
    return keys, values


def attend(q: Tensor, keys: Tensor, values: Tensor, window: int | None, scale: float) -> Tensor:
    """softmax(scale * q k) v, causal, within the window.

    Args:
        q: [n, Q, D], the last n tokens' queries.
        keys, values: [K, length, D], all tokens' so far, the new ones included; Q is a multiple of K.
        window: how many tokens a token sees, itself included; None: all.

    Returns:
        [n, Q, D]
    """
    n, heads, _ = q.shape
    if n == 1:
        return _attend_one(q, keys, values, window, scale)
    if window is not None:
        # No new token looks back further than the first one's window.
        first = max(0, keys.shape[1] - n - window + 1)
        keys, values = keys[:, first:], values[:, first:]
    group = heads // keys.shape[0]
    length = keys.shape[1]
    mask = None if length == n and (window is None or window >= n) else _mask(n, length, window)
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        keys.repeat_interleave(group, 0)[None],
        values.repeat_interleave(group, 0)[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
    )
    return out[0].transpose(0, 1)


def _attend_one(
    q: Tensor, keys: Tensor, values: Tensor, window: int | None, scale: float
) -> Tensor:
    """One new token: it may see all that is cached, so the heads that share a key are its rows."""
    if window is not None:
        keys, values = keys[:, -window:], values[:, -window:]
    kv_heads = keys.shape[0]
    grouped = q.view(1, kv_heads, -1, q.shape[-1])
    out = F.scaled_dot_product_attention(grouped, keys[None], values[None], scale=scale)
    return out.reshape(q.shape)


def _mask(n: int, length: int, window: int | None) -> Tensor:
    """[n, length]: True where the i-th new token may look."""
    queries = torch.arange(length - n, length)[:, None]
    distance = queries - torch.arange(length)[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)
