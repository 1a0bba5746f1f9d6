"""The slow, plain way to the figures that src/daulat/statistics computes fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np

from daulat.statistics.samples import Estimate


def cr2(values: Any, clusters: Any, together: bool) -> tuple[float, float]:
    """Bell and McCaffrey's variance and Satterthwaite's degrees of freedom, by matrices.

    `together`: the working covariance has examples of a cluster as copies of one another, else independent.
    """
    y, groups = np.asarray(values, float), np.asarray(clusters)
    n = len(y)
    x = np.ones((n, 1))
    hat = x @ np.linalg.inv(x.T @ x) @ x.T
    rest = np.eye(n) - hat
    rows = []
    for one in np.unique(groups):
        mine = np.flatnonzero(groups == one)
        block = np.eye(len(mine)) - hat[np.ix_(mine, mine)]
        eigen, vectors = np.linalg.eigh(block)
        root = vectors @ np.diag(1 / np.sqrt(eigen)) @ vectors.T
        rows.append(x[mine].T @ root @ rest[mine] / n)
    form = np.concatenate(rows)
    variance = float(((form @ y) ** 2).sum())
    working = (groups[:, None] == groups[None, :]).astype(float) if together else np.eye(n)
    matrix = form @ working @ form.T
    return variance, float(np.trace(matrix) ** 2 / np.trace(matrix @ matrix))


def flips(sums: Sequence[float]) -> float:
    """The share of all patterns of signs that are as extreme as the one observed."""
    observed = abs(sum(sums))
    totals = [
        abs(sum(s * v for s, v in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    return sum(total >= observed - 1e-9 for total in totals) / len(totals)


def ranks(n: int, share: float, alpha: float) -> tuple[int, int]:
    """The highest lower and the lowest upper rank whose miss is at most alpha / 2; 0 and n + 1: none."""
    chance = [comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    lower = max((k for k in range(1, n + 1) if sum(chance[:k]) <= alpha / 2), default=0)
    upper = min((k for k in range(1, n + 1) if sum(chance[k:]) <= alpha / 2), default=n + 1)
    return lower, upper


def leave_one_out(values: Sequence[float], clusters: Sequence[int]) -> list[float]:
    """The mean without each cluster in turn."""
    every = sorted(set(clusters))
    return [
        float(np.mean([v for v, c in zip(values, clusters, strict=True) if c != one]))
        for one in every
    ]


def sound(told: Estimate, bounds: tuple[float, float]) -> None:
    """What holds of every estimate, whatever the data."""
    assert bounds[0] <= told.low <= told.high <= bounds[1]
    for one in (told.low, told.high, told.value, told.error):
        assert one is None or not math.isnan(one)
    if told.value is None:
        assert (told.low, told.high) == bounds
        assert told.caveat
    else:
        assert told.low - 1e-12 <= told.value <= told.high + 1e-12
        assert bounds[0] <= told.value <= bounds[1]
    assert told.error is None or told.error >= 0
