"""Four-bit blocks that are chosen by what a matrix is multiplied with: GPTQ (arXiv 2210.17323).

`quantise` rounds each weight by itself. But what counts is the matrix's products with the inputs that it
meets, and inputs hang together: what one weight's rounding did wrong, the weights of the columns behind it
can make good. With H = X^T X over the inputs X [T, C], the error of a row is (w - v) H (w - v)^T, where v is
what its blocks stand for. Columns are rounded one after the other; after each, those that are left move to
where the error is least, which the Cholesky factor of H's inverse tells.

Blocks of 32 columns are taken by the strength of their inputs, the strongest first, and so are the columns
within a block. When a block's turn comes, its grid is searched for as in `quantise`, errors weighted by what
cannot be made good any more (the inverse square of the factor's diagonal).

Rows do not depend on each other. The factor is made by the linear algebra at hand, so other processors may
round a weight the other way.
"""

# pyright: basic, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from daulat.engine.native.panels import FORMS, Q4_1
from daulat.engine.native.quantise import APART, FIRST, LARGEST, TRIES, half, step_of, turned_of
from daulat.engine.native.repack import spread
from daulat.engine.native.vector import BLOCK, LANES
from daulat.models.numbers import Array, Floats

Doubles = NDArray[np.floating[Any]]
Order = NDArray[np.intp]

DAMPING = 0.01
"""Added to H's diagonal, as a share of its mean: what the inputs do not tell is not believed."""
_TILE, _SHARE = 64, 256
"""Rows in vectors that stay in the first-level cache; rows that one thread takes at a time."""
_LARGEST = np.float32(LARGEST)

_compiled = njit(boundscheck=False, nogil=True, cache=True, error_model="numpy")


def quantise_for(weights: Floats, gram: Floats, threads: int = 1) -> Array:
    """The Q4_1 blocks of a matrix whose inputs are known.

    Args:
        weights: finite numbers of float16's range, [rows, columns]; columns a multiple of 32.
        gram: [columns, columns], the sum of x x^T over the inputs x.

    Returns:
        uint8 [rows, bytes of a row].
    """
    rows, columns = weights.shape
    order, factor = _factor(gram)
    out = np.empty((rows, columns // BLOCK, FORMS[Q4_1].size // LANES), dtype=np.uint8)

    def some(first: int) -> None:
        share = slice(first, first + _SHARE)
        _fill(weights[share], order, factor, out[share])

    spread(some, range(0, rows, _SHARE), threads)
    return out.reshape(rows, -1)


def _factor(gram: Floats) -> tuple[Order, Floats]:
    """The columns' order, and the upper Cholesky factor of the inverse of H in that order, float32."""
    h = gram.astype(np.float64)
    strength = h.diagonal().copy()
    h.flat[:: len(h) + 1] += DAMPING * (float(strength.mean()) or 1.0)
    order = _order(strength)
    # With L the lower factor of H turned round, both ways, H's inverse is U^T U for U = L^-1 turned round.
    turned = order[::-1]
    lower = np.linalg.cholesky(h[np.ix_(turned, turned)])
    return order, np.ascontiguousarray(_inverse(lower)[::-1, ::-1], dtype=np.float32)


def _inverse(lower: Doubles) -> Doubles:
    """Of a lower triangular matrix; half by half, so that it is products for the most part."""
    half = len(lower) // 2
    if half <= BLOCK:
        return np.tril(np.linalg.inv(lower))
    out = np.zeros_like(lower)
    out[:half, :half] = _inverse(lower[:half, :half])
    out[half:, half:] = _inverse(lower[half:, half:])
    out[half:, :half] = -out[half:, half:] @ lower[half:, :half] @ out[:half, :half]
    return out


def _order(strength: Doubles) -> Order:
    """Blocks by the strength of their inputs, and columns within their block."""
    blocks = -strength.reshape(-1, BLOCK)
    outer = np.argsort(blocks.sum(1), kind="stable")
    inner = np.argsort(blocks, axis=1, kind="stable")
    return (outer[:, None] * BLOCK + inner[outer]).reshape(-1)


def _fill(weights: Floats, order: Order, factor: Floats, out: Array) -> None:
    """Some rows' blocks, uint8 [rows, blocks, bytes of a block]."""
    rows, columns = weights.shape
    left = np.ascontiguousarray(weights[:, order].T)
    steps = np.empty((columns, rows), dtype=np.uint8)
    scales = np.empty((columns // BLOCK, 2, rows), dtype=np.float32)
    wrong = np.empty((BLOCK, rows), dtype=np.float32)
    for first in range(0, columns, BLOCK):
        here, behind = slice(first, first + BLOCK), slice(first + BLOCK, columns)
        own = np.ascontiguousarray(factor[here, here])
        _block(left[here], own, steps[here], scales[order[first] // BLOCK], wrong)
        _pass_on(left[behind], factor[here, behind], wrong)
    placed = np.empty_like(steps)
    placed[order] = steps
    q = placed.T.reshape(rows, -1, 2, BLOCK // 2)
    out[..., :4] = np.ascontiguousarray(scales.transpose(2, 0, 1), dtype=np.float16).view(np.uint8)
    out[..., 4:] = q[:, :, 0] | (q[:, :, 1] << 4)


@_compiled
def _block(x, u, q, scales, wrong):
    """One block's grids and steps.

    x [32, R] is used up; wrong [32, R] takes the errors over u's diagonal.
    """
    weights = np.empty(BLOCK, dtype=np.float32)
    total = np.float32(0)
    for j in range(BLOCK):
        weights[j] = np.float32(1) / (u[j, j] * u[j, j])
        total += weights[j]
    for j in range(BLOCK):
        weights[j] /= total
    for first in range(0, x.shape[1], _TILE):
        n = min(_TILE, x.shape[1] - first)
        d, m = scales[0, first : first + n], scales[1, first : first + n]
        _grids(x[:, first : first + n], weights, d, m)
        for j in range(BLOCK):
            one = np.float32(1) / u[j, j]
            row, to, bad = (
                x[j, first : first + n],
                q[j, first : first + n],
                wrong[j, first : first + n],
            )
            for r in range(n):
                step = step_of(row[r], turned_of(d[r]), m[r])
                to[r] = np.uint8(step)
                bad[r] = (row[r] - (d[r] * step + m[r])) * one
            for k in range(j + 1, BLOCK):
                other, by = x[k, first : first + n], u[j, k]
                for r in range(n):
                    other[r] -= by * bad[r]


@_compiled
def _pass_on(x, u, wrong):
    """x -= u^T wrong for x [C, R], u [32, C], wrong [32, R].

    Not by the linear algebra at hand: its own threads stand in the way of those that share the rows.
    """
    for first in range(0, x.shape[1], _TILE):
        stop = min(first + _TILE, x.shape[1])
        for k in range(x.shape[0]):
            row = x[k, first:stop]
            for j in range(0, BLOCK, 4):
                a, b, c, d = u[j, k], u[j + 1, k], u[j + 2, k], u[j + 3, k]
                # Four rows by themselves: known to be contiguous, they are taken in vectors.
                one, two = wrong[j, first:stop], wrong[j + 1, first:stop]
                three, four = wrong[j + 2, first:stop], wrong[j + 3, first:stop]
                for r in range(row.shape[0]):
                    row[r] -= a * one[r] + b * two[r] + c * three[r] + d * four[r]


@_compiled
def _grids(x, weights, d, m):
    """The best grids d, m [n] for blocks x [32, n] with errors weighted (weights sum to one)."""
    n = x.shape[1]
    low, high, mean = x[0].copy(), x[0].copy(), np.zeros(n, dtype=np.float32)
    for j in range(BLOCK):
        for r in range(n):
            low[r], high[r] = min(low[r], x[j, r]), max(high[r], x[j, r])
            mean[r] += weights[j] * x[j, r]
    best, tried = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    turned = np.empty(n, dtype=np.float32)
    slope, least = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    q, qq, qx = (
        np.empty(n, dtype=np.float32),
        np.empty(n, dtype=np.float32),
        np.empty(n, dtype=np.float32),
    )
    for r in range(n):
        m[r] = _near(low[r])
        d[r] = _near((high[r] - m[r]) / np.float32(15))
    _errors(x, weights, d, m, best)
    for k in range(TRIES):
        for r in range(n):
            wide = high[r] - low[r]
            by = np.float32(FIRST) + np.float32(APART) * np.float32(k)
            turned[r] = by / wide if wide > 0 else np.float32(0)
            q[r] = qq[r] = qx[r] = 0
        for j in range(BLOCK):
            for r in range(n):
                step = step_of(x[j, r], turned[r], low[r])
                part = weights[j] * step
                q[r] += part
                qq[r] += part * step
                qx[r] += part * x[j, r]
        for r in range(n):
            spread = qq[r] - q[r] * q[r]
            s = (qx[r] - q[r] * mean[r]) / spread if spread > np.float32(1e-6) else np.float32(0)
            slope[r] = _near(max(s, np.float32(0)))
            least[r] = _near(mean[r] - slope[r] * q[r])
        _errors(x, weights, slope, least, tried)
        for r in range(n):
            better = tried[r] < best[r]
            best[r] = tried[r] if better else best[r]
            d[r] = slope[r] if better else d[r]
            m[r] = least[r] if better else m[r]


@_compiled
def _near(x):
    return half(min(max(x, -_LARGEST), _LARGEST))


@_compiled
def _errors(x, weights, d, m, out):
    n = x.shape[1]
    turned = np.empty(n, dtype=np.float32)
    for r in range(n):
        turned[r] = turned_of(d[r])
        out[r] = 0
    for j in range(BLOCK):
        for r in range(n):
            step = step_of(x[j, r], turned[r], m[r])
            off = d[r] * step + m[r] - x[j, r]
            out[r] += weights[j] * off * off
