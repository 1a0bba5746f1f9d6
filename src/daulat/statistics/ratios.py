"""Ratios of two means of the same examples: cost per good answer, quality kept.

Fieller's interval asks for which ratios R the mean of (above - R * below) may be zero (E. C. Fieller, JRSS B
16 (1954)); it knows when the denominator may be zero, and then has no upper end. The delta method is its
approximation for a denominator that is certain. Both with clustered standard errors.
"""

from __future__ import annotations

import math
from typing import Literal

from daulat.statistics.bootstrap import DRAWS, bca, share_of_totals
from daulat.statistics.clusters import Spread, spread
from daulat.statistics.intervals import constant, few, negligible, too_little
from daulat.statistics.samples import (
    POSITIVE,
    Bounds,
    Caveat,
    Estimate,
    Labels,
    Numbers,
    Sample,
    clipped,
    level,
    sample,
    unknown,
)
from daulat.statistics.special import t_quantile

Method = Literal["fieller", "delta", "bootstrap"]


def ratio(
    above: Numbers,
    below: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    method: Method = "fieller",
    missing: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """mean(above) / mean(below) over the same examples.

    Cost per good answer: `ratio(costs, scores)`. Share of b's quality that a keeps: `ratio(scores_a,
    scores_b)`.

    Args:
        above, below: [n], none negative; NaN: missing.
        clusters: [n] examples that belong together; None: each stands alone.
        missing: what a missing value counts as; None: the example is left out.

    Raises:
        ValueError: a value is negative.
    """
    found = sample(above, below, clusters=clusters, missing=missing)
    if found.n and found.values.min() < 0:
        raise ValueError("A ratio is of values that are not negative.")
    name = {"fieller": "Fieller", "delta": "delta method", "bootstrap": "BCa bootstrap"}[method]
    if found.n == 0:
        return unknown(found, POSITIVE, confidence, name, Caveat.EMPTY)
    top, bottom = (float(one) for one in found.values.mean(axis=0))
    if bottom == 0:
        return unknown(found, POSITIVE, confidence, name, Caveat.NOTHING_GOOD)
    value, lacking = top / bottom, too_little(found)
    if lacking is not None:
        return _told(found, value, POSITIVE, None, confidence, name, lacking)
    if method == "bootstrap":
        sums = found.sums()
        return bca(found, sums, share_of_totals, value, confidence, POSITIVE, draws, seed)
    return _by_formula(found, value, confidence, method, name)


def _by_formula(
    found: Sample, value: float, confidence: float, method: Method, name: str
) -> Estimate:
    means, width = found.values.mean(axis=0), spread(found)
    quantile = t_quantile(1 - level(confidence) / 2, width.freedom)
    error = _delta(found, value, float(means[1]))
    if negligible(error, found, POSITIVE):
        return _equal(found, value, width, confidence, name)
    if method == "delta":
        ends = (value - quantile * error, value + quantile * error)
    else:
        ends = _fieller(float(means[0]), float(means[1]), width, quantile)
    caveat = Caveat.UNBOUNDED if math.isinf(ends[1]) else few(width.freedom, found)
    return _told(found, value, ends, error, confidence, name, caveat)


def _delta(found: Sample, value: float, bottom: float) -> float:
    """The standard error of the ratio as of the mean of (above - value * below) / mean(below)."""
    residuals = (found.values[:, 0] - value * found.values[:, 1]) / bottom
    return spread(found.of(residuals)).error


def _fieller(top: float, bottom: float, width: Spread, quantile: float) -> Bounds:
    """Where (top - R bottom)^2 <= quantile^2 Var(top - R bottom), for R >= 0."""
    squared, covariance = quantile**2, width.covariance
    a = bottom**2 - squared * float(covariance[1, 1])
    b = top * bottom - squared * float(covariance[0, 1])
    c = top**2 - squared * float(covariance[0, 0])
    inside = b**2 - a * c
    if a > 0:
        root = math.sqrt(max(0.0, inside))
        return (b - root) / a, (b + root) / a
    if c <= 0 or inside < 0 or a == 0:
        return 0.0, math.inf
    return (b - math.sqrt(inside)) / a, math.inf


def _equal(found: Sample, value: float, width: Spread, confidence: float, name: str) -> Estimate:
    """Every example has the same ratio: a share of all may have none of either (`intervals.constant`)."""
    low = constant(found, value, width.balance, (0.0, value), confidence).low
    high = value * (value / low) if low > 0 else (math.inf if value else 0.0)
    return _told(found, value, (low, high), 0.0, confidence, name, Caveat.CONSTANT)


def _told(
    found: Sample,
    value: float,
    ends: Bounds,
    error: float | None,
    confidence: float,
    name: str,
    caveat: Caveat,
) -> Estimate:
    counts = (found.n, found.clusters, found.missing)
    return Estimate(value, *clipped(*ends, POSITIVE), error, confidence, name, *counts, caveat)
