"""Two endpoints on the same examples: how far apart they are, and whether that could be chance.

Everything goes by the differences, example by example: what makes an example hard for both cancels out. The
other endpoint first gives the same figures mirrored. Derivations and assumptions: docs/statistics.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from daulat.statistics.clusters import Spread, spread
from daulat.statistics.intervals import (
    centre_of,
    mean_of,
    negligible,
    score_of,
    too_little,
)
from daulat.statistics.samples import (
    BOTH,
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
)
from daulat.statistics.significance import (
    FLIPS,
    Discordance,
    Significance,
    binary,
    differing,
    discordance_of,
    flipped,
)
from daulat.statistics.special import normal_quantile, t_cdf

_FEW = 10
"""Fewer differing examples than this, and Student's t is a guess: an estimate says so."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Endpoint a beside endpoint b.

    Attributes:
        difference: mean of a's scores less b's, in [-1, 1].
        beats: the chance that a scores higher than b on an example drawn at random, ties counted half.
        above: how much confidence the data give to a's mean being above b's: see `above`.
        test: permutation test of no difference, by flipping the signs of clusters.
        wins, ties, losses: examples on which a scored higher, the same, lower.
        discordance: McNemar's test where all scores are right or wrong and each example stands alone.
    """

    difference: Estimate
    beats: Estimate
    above: float
    test: Significance
    wins: int
    ties: int
    losses: int
    discordance: Discordance | None


def compare(
    a: Numbers,
    b: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    missing: float | None = None,
    flips: int = FLIPS,
    seed: int = 0,
) -> Comparison:
    """Everything about two endpoints' scores on the same examples.

    Args:
        a, b: [n] in [0, 1]; NaN: missing.
        clusters: [n] examples that belong together; None: each stands alone.
        missing: what a missing score counts as; None: an example that either lacks is left out.
        flips: patterns of signs that the test tries where it cannot try them all.

    Raises:
        ValueError: a score lies outside of [0, 1].
    """
    found = sample(a, b, clusters=clusters, missing=missing)
    apart = found.of(found.values[:, 0] - found.values[:, 1])
    signs = np.sign(apart.values[:, 0])
    alone = found.clusters == found.n
    return Comparison(
        difference=_difference_of(found, confidence),
        beats=score_of(found.of((signs + 1) / 2), confidence),
        above=_above_of(apart, BOTH),
        test=flipped(apart, flips, seed),
        wins=int((signs > 0).sum()),
        ties=int((signs == 0).sum()),
        losses=int((signs < 0).sum()),
        discordance=discordance_of(found) if alone and binary(found) else None,
    )


def difference(
    a: Numbers,
    b: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    missing: float | None = None,
) -> Estimate:
    """Mean of a's scores less b's over the same examples; arguments as of `compare`.

    Right and wrong, each example alone: D. G. Bonett's and R. M. Price's adjusted interval, Journal of
    Educational and Behavioral Statistics 37 (2012). Otherwise Student's t on the differences, clustered.
    """
    found = sample(a, b, clusters=clusters, missing=missing)
    return _difference_of(found, confidence)


def _difference_of(found: Sample, confidence: float) -> Estimate:
    apart = found.of(found.values[:, 0] - found.values[:, 1])
    for column in found.values.T:
        check(found.of(column), UNIT)
    if found.n and found.clusters == found.n and binary(found):
        return _bonett_price(apart, confidence)
    told = mean_of(apart, confidence, BOTH)
    if told.caveat is Caveat.NONE and len(differing(apart)) < _FEW:
        return replace(told, caveat=Caveat.FEW_DIFFER)
    return told


def _bonett_price(apart: Sample, confidence: float) -> Estimate:
    """As if there were two more examples, one that only a gets right and one that only b does."""
    column = apart.values[:, 0]
    value, n = centre_of(apart), apart.n + 2
    centre = float(column.sum()) / n
    error = math.sqrt(max(0.0, (np.abs(column).sum() + 2) / n - centre**2) / n)
    half = normal_quantile(1 - level(confidence) / 2) * error
    low, high = clipped(min(value, centre - half), max(value, centre + half), BOTH)
    counts = (apart.n, apart.clusters, apart.missing)
    return Estimate(value, low, high, error, confidence, "Bonett-Price", *counts)


def above(
    values: Numbers,
    *,
    clusters: Labels | None = None,
    bounds: Bounds = BOTH,
    missing: float | None = None,
) -> float:
    """How much confidence the data give to the mean of differences being above zero, in [0, 1].

    It is T(mean / standard error), T Student's distribution: one less the one-sided p-value, the level at
    which a one-sided interval begins to exclude zero. For normal differences it is also the posterior
    probability under the prior 1 / sigma that knows nothing (A. Gelman et al., "Bayesian Data Analysis", 3rd
    ed., 3.2). It is no probability that a is better on an example: that is `Comparison.beats`.
    """
    return _above_of(sample(values, clusters=clusters, missing=missing), bounds)


def _above_of(apart: Sample, bounds: Bounds) -> float:
    if apart.n == 0:
        return 0.5
    value = centre_of(apart)
    if too_little(apart) is not None:
        return 0.5
    width = spread(apart)
    if negligible(width.error, apart, bounds):
        return _above_constant(value, width, bounds)
    return t_cdf(value / width.error, width.freedom)


def _above_constant(value: float, width: Spread, bounds: Bounds) -> float:
    """From the level at which the interval of equal values (`intervals.constant`) reaches zero."""
    if value == 0:
        return 0.5
    end = bounds[0] if value > 0 else bounds[1]
    share = value / (value - end) if math.isfinite(end) else 0.0
    doubt = (1 - share) ** (width.balance - 1) / 2
    return 1 - doubt if value > 0 else doubt
