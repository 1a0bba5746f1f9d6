"""Means and shares with intervals.

`score` is what a report uses for scores between 0 and 1: Wilson's interval for right and wrong, the same with
an effective number of examples for other scores and for clusters. `mean` is the t interval of anything else,
`proportion` counts alone. Resampling is in `bootstrap`, percentiles in `percentiles`, ratios in `ratios`.
Derivations: docs/statistics.md.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from daulat.statistics.clusters import Correction, spread
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
from daulat.statistics.special import beta_quantile, normal_quantile, t_quantile

FEWEST = 8.0
"""With fewer effective clusters than this, an estimate says so."""
_NEGLIGIBLE = 1e-12
"""A standard error below this share of the range is rounding, not spread."""


def proportion(
    successes: float, n: float, *, confidence: float = 0.95, exact: bool = False
) -> Estimate:
    """A share of n independent examples.

    E. B. Wilson, "Probable inference", JASA 22 (1927); exact: C. J. Clopper, E. S. Pearson, Biometrika 26
    (1934), which covers at least as often as it says, and is wider.

    Raises:
        ValueError: not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share.")
    alpha = level(confidence)
    method = "Clopper-Pearson" if exact else "Wilson"
    if n == 0:
        return Estimate(None, *UNIT, None, confidence, method, 0, 0, 0, Caveat.EMPTY)
    share = successes / n
    low, high = (
        _clopper_pearson(successes, n, alpha)
        if exact
        else wilson(share, n, normal_quantile(1 - alpha / 2))
    )
    error = math.sqrt(share * (1 - share) / n)
    return Estimate(share, low, high, error, confidence, method, int(n), int(n))


def wilson(share: float, n: float, quantile: float) -> Bounds:
    """The p with |share - p| <= quantile * sqrt(p (1 - p) / n); n may be any number > 0."""
    extra = quantile**2 / n
    middle = (share + extra / 2) / (1 + extra)
    half = quantile / (1 + extra) * math.sqrt(share * (1 - share) / n + extra / (4 * n))
    low = 0.0 if share == 0 else middle - half
    high = 1.0 if share == 1 else middle + half
    return max(0.0, low), min(1.0, high)


def within(value: float, error: float, quantile: float, bounds: Bounds) -> Bounds:
    """Wilson's interval for a mean between finite bounds, by the n that would give the same standard error.

    Next to an end it leans inwards, where the symmetric one is cut off and covers too rarely.
    """
    low, high = bounds
    share = (value - low) / (high - low)
    if not 0 < share < 1:
        return clipped(value - quantile * error, value + quantile * error, bounds)
    ends = wilson(share, share * (1 - share) * ((high - low) / error) ** 2, quantile)
    return low + (high - low) * ends[0], low + (high - low) * ends[1]


def _clopper_pearson(successes: float, n: float, alpha: float) -> Bounds:
    failures = n - successes
    low = beta_quantile(alpha / 2, successes, failures + 1) if successes else 0.0
    high = beta_quantile(1 - alpha / 2, successes + 1, failures) if failures else 1.0
    return low, high


def mean(
    values: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    bounds: Bounds = UNIT,
    missing: float | None = None,
    correction: Correction = "CR2",
) -> Estimate:
    """The mean with Student's t interval, cut to `bounds`.

    Args:
        values: [n]; NaN: missing.
        clusters: [n] examples that belong together; None: each stands alone.
        bounds: between what the values can lie, for an interval where all of them are equal.
        missing: what a missing value counts as; None: it is left out.
        correction: how the standard error of few clusters is corrected.

    Raises:
        ValueError: a value lies outside of the bounds.
    """
    return mean_of(
        sample(values, clusters=clusters, missing=missing), confidence, bounds, correction
    )


def mean_of(
    found: Sample, confidence: float, bounds: Bounds, correction: Correction = "CR2"
) -> Estimate:
    """`mean` of the first column of a sample."""
    alpha, method = level(confidence), _named("t", found)
    check(found, bounds)
    lacking = too_little(found)
    if lacking is not None:
        return _of_little(found, bounds, confidence, method, lacking)
    centre, width = centre_of(found), spread(found, correction)
    if negligible(width.error, found, bounds):
        return constant(found, centre, width.balance, bounds, confidence)
    half = t_quantile(1 - alpha / 2, width.freedom) * width.error
    return Estimate(
        centre,
        *clipped(centre - half, centre + half, bounds),
        width.error,
        confidence,
        method,
        found.n,
        found.clusters,
        found.missing,
        few(width.freedom, found),
    )


def score(
    values: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    missing: float | None = None,
) -> Estimate:
    """The mean of scores between 0 and 1, with an interval that keeps to that range.

    For right and wrong it is Wilson's. Otherwise Wilson's with the number of independent right-or-wrong
    examples that would have the same standard error, and Student's t: the idea is E. L. Korn's and B. I.
    Graubard's, Survey Methodology 24 (1998).

    Args:
        values: [n] in [0, 1]; NaN: missing.
        clusters: [n] examples that belong together; None: each stands alone.
        missing: what a missing value counts as; None: it is left out.

    Raises:
        ValueError: a value lies outside of [0, 1].
    """
    return score_of(sample(values, clusters=clusters, missing=missing), confidence)


def score_of(found: Sample, confidence: float) -> Estimate:
    """`score` of the first column of a sample."""
    column = found.values[:, 0]
    check(found, UNIT)
    if found.n and found.clusters == found.n and not ((column > 0) & (column < 1)).any():
        return _of_counts(found, confidence)
    method, lacking = _named("Wilson, effective n", found), too_little(found)
    if lacking is not None:
        return _of_little(found, UNIT, confidence, method, lacking)
    return _wilson_like(found, confidence, method)


def _of_counts(found: Sample, confidence: float) -> Estimate:
    told = proportion(float(found.values[:, 0].sum()), found.n, confidence=confidence)
    error = spread(found).error if found.n > 1 else None
    return replace(told, error=error, missing=found.missing)


def _wilson_like(found: Sample, confidence: float, method: str) -> Estimate:
    centre, width = centre_of(found), spread(found)
    if negligible(width.error, found, UNIT):
        return constant(found, centre, width.balance, UNIT, confidence)
    quantile = t_quantile(1 - level(confidence) / 2, width.freedom)
    ends, caveat = within(centre, width.error, quantile, UNIT), few(width.freedom, found)
    return Estimate(centre, *ends, width.error, confidence, method, *_counts(found), caveat=caveat)


def constant(
    found: Sample, value: float, groups: float, bounds: Bounds, confidence: float
) -> Estimate:
    """Where all values are equal: at most a share u of all examples has another one.

    If it were more, n equal values in a row would have a probability below 1 - confidence: u = 1 -
    alpha^(1/(n-1)). The mean is then furthest from the value if all of these others lie at an end of the range.

    Args:
        groups: independent examples, or clusters of equal weight.
    """
    alpha = level(confidence)
    share = 1 - alpha ** (1 / (groups - 1)) if groups > 1 else 1.0
    low = value - share * (value - bounds[0]) if math.isfinite(bounds[0]) else -math.inf
    high = value + share * (bounds[1] - value) if math.isfinite(bounds[1]) else math.inf
    return Estimate(
        value, low, high, 0.0, confidence, "equal values", *_counts(found), caveat=Caveat.CONSTANT
    )


def too_little(found: Sample) -> Caveat | None:
    """Why there is no spread to estimate, if there is none."""
    if found.n == 0:
        return Caveat.EMPTY
    if found.n == 1:
        return Caveat.SINGLE
    return Caveat.ONE_CLUSTER if found.clusters == 1 else None


def _of_little(
    found: Sample, bounds: Bounds, confidence: float, method: str, caveat: Caveat
) -> Estimate:
    if caveat is Caveat.EMPTY:
        return unknown(found, bounds, confidence, method, caveat)
    centre = centre_of(found)
    return Estimate(centre, *bounds, None, confidence, method, *_counts(found), caveat=caveat)


def centre_of(found: Sample) -> float:
    """The mean of the first column, kept between its least and its greatest value."""
    column = found.values[:, 0]
    return float(np.clip(column.mean(), column.min(), column.max()))


def negligible(error: float, found: Sample, bounds: Bounds) -> bool:
    """Whether a standard error is rounding alone."""
    width = bounds[1] - bounds[0]
    scale = width if math.isfinite(width) else float(np.abs(found.values).max())
    return error <= _NEGLIGIBLE * scale


def few(freedom: float, found: Sample) -> Caveat:
    """A word of warning where clusters are few."""
    grouped = found.clusters < found.n
    return Caveat.FEW_CLUSTERS if grouped and freedom < FEWEST else Caveat.NONE


def _named(method: str, found: Sample) -> str:
    return f"{method}, clustered" if found.clusters < found.n else method


def _counts(found: Sample) -> tuple[int, int, int]:
    return found.n, found.clusters, found.missing
