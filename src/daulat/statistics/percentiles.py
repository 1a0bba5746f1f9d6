"""Percentiles of latencies and the like, with intervals that need no distribution.

Between the l-th and the u-th smallest of n values lies the percentile unless fewer than l, or at least u, of
them fell below it: a binomial probability (H. A. David, H. N. Nagaraja, "Order statistics", 3rd ed., 2003,
7.1). In clusters, n is the number of independent examples that would know the share below the percentile as
well (R. S. Woodruff, JASA 47 (1952), for the idea of going by that share).
"""

from __future__ import annotations

import math

import numpy as np

from daulat.statistics.clusters import spread
from daulat.statistics.intervals import too_little
from daulat.statistics.samples import (
    POSITIVE,
    Bounds,
    Caveat,
    Estimate,
    Labels,
    Numbers,
    Sample,
    check,
    level,
    sample,
    unknown,
)
from daulat.statistics.special import binomial_cdf, normal_quantile, t_quantile

_METHOD = "order statistics"


def percentile(
    values: Numbers,
    share: float,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    bounds: Bounds = POSITIVE,
) -> Estimate:
    """The value below which a share of all examples lies.

    The figure itself interpolates between neighbours as numpy and most dashboards do (type 7 of R. J.
    Hyndman, Y. Fan, The American Statistician 50 (1996)). Its end is infinite where so few values cannot
    bound it: the 99th percentile needs 368 of them for both ends at 95 %.

    Args:
        values: [n]; NaN: missing, left out.
        share: strictly between 0 and 1, such as 0.99.
        clusters: [n] examples that belong together; None: each stands alone.
        bounds: between what the values can lie.

    Raises:
        ValueError: the share is not strictly between 0 and 1, or a value lies outside of the bounds.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"A percentile's share lies between 0 and 1, and {share} does not.")
    found, alpha = sample(values, clusters=clusters), level(confidence)
    check(found, bounds)
    if found.n == 0:
        return unknown(found, bounds, confidence, _METHOD, Caveat.EMPTY)
    ordered = np.sort(found.values[:, 0])
    value = float(np.quantile(ordered, share))
    lower, upper = _ranks(_effective(found, value, share, alpha), found.n, share, alpha)
    low = min(value, float(ordered[lower - 1])) if lower >= 1 else bounds[0]
    high = max(value, float(ordered[upper - 1])) if upper <= found.n else bounds[1]
    caveat = Caveat.NONE if lower >= 1 and upper <= found.n else Caveat.UNBOUNDED
    counts = (found.n, found.clusters, found.missing)
    return Estimate(value, low, high, None, confidence, _METHOD, *counts, caveat)


def _effective(found: Sample, value: float, share: float, alpha: float) -> int:
    """How many independent examples know as much, 0 to n."""
    if found.clusters == found.n:
        return found.n
    if too_little(found) is not None:
        return 0
    width = spread(found.of((found.values[:, 0] <= value).astype(np.float64)))
    quantiles = normal_quantile(1 - alpha / 2) / t_quantile(1 - alpha / 2, width.freedom)
    if width.error == 0:
        return math.floor(width.balance)
    equal = share * (1 - share) / width.error**2 * quantiles**2
    return math.floor(min(equal, found.n))


def _ranks(effective: int, n: int, share: float, alpha: float) -> tuple[int, int]:
    """The ranks, from 1, of the interval's ends among n values; 0 and n + 1: there is none."""
    if effective == 0:
        return 0, n + 1
    below = binomial_cdf(np.arange(effective + 1), effective, share)
    lower = int(np.searchsorted(below, alpha / 2, side="right"))
    upper = int(np.searchsorted(below, 1 - alpha / 2, side="left")) + 1
    if effective == n:
        return lower, upper
    lower = math.floor(lower * n / effective)
    return lower, math.ceil(upper * n / effective) if upper <= effective else n + 1
