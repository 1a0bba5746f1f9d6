"""Intervals by drawing the clusters again: the BCa bootstrap.

B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987); T. J. DiCiccio, B. Efron, Statistical
Science 11 (1996). Whole clusters are drawn, so that what holds examples together is kept (A. C. Davison, D.
V. Hinkley, "Bootstrap methods and their application", 1997, 3.8). The same data give the same interval, in
whatever order they come: sums of clusters are sorted first, and the generator is seeded. With few clusters it
covers too rarely, as docs/benchmarks.md shows; it is for figures that have no formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from daulat.statistics.intervals import centre_of, constant, negligible, too_little
from daulat.statistics.samples import (
    UNIT,
    Bounds,
    Caveat,
    Estimate,
    Labels,
    Numbers,
    Sample,
    check,
    clipped,
    level,
    sample,
    unknown,
)
from daulat.statistics.special import FloatArray, normal_cdf, normal_quantile

DRAWS = 10_000
_AT_ONCE = 2_000_000
"""Drawn clusters that are held in memory together."""

Figure = Callable[[FloatArray], FloatArray]
"""From totals [draws, k] of the columns to the figure, [draws]."""


def share_of_totals(totals: FloatArray) -> FloatArray:
    """[draws] first column over the last; 0 / 0 is 0 and x / 0 infinite."""
    above, below = totals[:, 0], totals[:, -1]
    empty = below == 0
    quotient = above / np.where(empty, 1.0, below)
    return np.where(empty & (above != 0), np.copysign(np.inf, above), quotient)


def bootstrap_mean(
    values: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    bounds: Bounds = UNIT,
    missing: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean with a BCa interval; arguments as of `intervals.mean`."""
    found = sample(values, clusters=clusters, missing=missing)
    check(found, bounds)
    lacking = too_little(found)
    if lacking is Caveat.EMPTY:
        return unknown(found, bounds, confidence, "BCa bootstrap", lacking)
    columns = np.stack([found.sums()[:, 0], found.sizes], axis=1)
    return bca(found, columns, share_of_totals, centre_of(found), confidence, bounds, draws, seed)


def bca(
    found: Sample,
    columns: FloatArray,
    figure: Figure,
    value: float,
    confidence: float,
    bounds: Bounds,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The BCa interval of a smooth figure of the clusters' totals.

    Args:
        columns: float64 [clusters, k]: what is added up over the drawn clusters.
        figure: from such totals to the figure.
        value: the figure of the data themselves.

    Raises:
        ValueError: fewer than 100 draws.
    """
    if draws < 100:
        raise ValueError(f"{draws} draws are too few; 1,000 are the least for an interval.")
    alpha, groups = level(confidence), len(columns)
    if groups < 2:
        caveat = too_little(found) or Caveat.ONE_CLUSTER
        counts = (found.n, found.clusters, found.missing)
        return Estimate(value, *bounds, None, confidence, "BCa bootstrap", *counts, caveat)
    drawn = np.sort(figure(resampled(columns, draws, seed)))
    error = float(drawn.std(ddof=1)) if math.isfinite(drawn[-1]) else math.inf
    if negligible(error, found, bounds):
        return constant(found, value, groups, bounds, confidence)
    shares = _adjusted(columns, figure, value, drawn, alpha)
    low = drawn[math.floor(shares[0] * (draws - 1))]
    high = drawn[math.ceil(shares[1] * (draws - 1))]
    return Estimate(
        value,
        *clipped(min(float(low), value), max(float(high), value), bounds),
        error if math.isfinite(error) else None,
        confidence,
        "BCa bootstrap" if found.clusters == found.n else "BCa bootstrap, clustered",
        found.n,
        found.clusters,
        found.missing,
        Caveat.NONE if math.isfinite(high) else Caveat.UNBOUNDED,
    )


def resampled(columns: FloatArray, draws: int, seed: int = 0) -> FloatArray:
    """float64 [draws, k]: totals of as many clusters as there are, drawn with replacement."""
    columns = columns[np.lexsort(columns.T)]
    groups, width = columns.shape
    generator = np.random.default_rng(seed)
    totals = np.empty((draws, width))
    step = max(1, _AT_ONCE // groups)
    for first in range(0, draws, step):
        last = min(draws, first + step)
        chosen = generator.integers(0, groups, size=(last - first, groups), dtype=np.int32)
        for column in range(width):
            totals[first:last, column] = columns[:, column].take(chosen).sum(axis=1)
    return totals


def _adjusted(
    columns: FloatArray, figure: Figure, value: float, drawn: FloatArray, alpha: float
) -> Bounds:
    """Which shares of the sorted draws are the ends: corrected for bias and for a changing spread."""
    rounding = 1e-12 * max(1.0, abs(value))
    below = (np.sum(drawn < value - rounding) + np.sum(drawn <= value + rounding)) / 2
    bias = normal_quantile(float(np.clip(below / len(drawn), 1e-6, 1 - 1e-6)))
    bend = _acceleration(figure(columns.sum(axis=0) - columns))
    ends = [bias + normal_quantile(p) for p in (alpha / 2, 1 - alpha / 2)]
    low, high = (normal_cdf(bias + end / max(1e-6, 1 - bend * end)) for end in ends)
    return low, high


def _acceleration(left_out: FloatArray) -> float:
    """From the figure with each cluster left out in turn (jackknife)."""
    if not np.isfinite(left_out).all():
        return 0.0
    away = left_out.mean() - left_out
    squares = float((away**2).sum())
    return float((away**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
