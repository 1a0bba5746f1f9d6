"""Tests of "no difference" between two endpoints on the same examples: sign flips of clusters, and McNemar's.

Both need no distribution. Not here: tests that may be looked at again and again (`testing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daulat.statistics.samples import IntArray, Labels, Numbers, Sample, sample
from daulat.statistics.special import FloatArray, binomial_cdf

FLIPS = 10_000
_EXACT = 16
"""Up to so many clusters that differ, every pattern of signs is tried."""
_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Significance:
    """A p-value of "no difference", two-sided.

    Attributes:
        p: in (0, 1].
        method: how it was found.
        units: independent units that speak at all: examples or clusters that differ.
    """

    p: float
    method: str
    units: int


@dataclass(frozen=True, slots=True)
class Discordance:
    """Right and wrong of two endpoints on the same examples.

    Attributes:
        both, only_a, only_b, neither: examples that were right.
        p: McNemar's exact two-sided p-value (Q. McNemar, Psychometrika 12 (1947)): only the discordant ones
            speak, and without a difference each is a fair coin.
        mid_p: the same with half of the observed outcome's probability, closer to its level (M. W. Fagerland,
            S. Lydersen, P. Laake, BMC Medical Research Methodology 13:91 (2013)).
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    mid_p: float


def sign_flips(
    a: Numbers,
    b: Numbers,
    *,
    clusters: Labels | None = None,
    missing: float | None = None,
    flips: int = FLIPS,
    seed: int = 0,
) -> Significance:
    """Permutation test: without a difference, each cluster's could as well have the other sign.

    R. A. Fisher, "The Design of Experiments" (1935), 21. All patterns of signs are tried where up to 16
    clusters differ; otherwise `flips` random ones, and p = (1 + as extreme) / (1 + tried) is never zero and
    never too small (B. Phipson, G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 9:39
    (2010)).
    """
    found = sample(a, b, clusters=clusters, missing=missing)
    return flipped(found.of(found.values[:, 0] - found.values[:, 1]), flips, seed)


def flipped(apart: Sample, flips: int, seed: int) -> Significance:
    """`sign_flips` of a sample of differences."""
    sums = differing(apart)
    if not len(sums):
        return Significance(1.0, "sign flips, exact", 0)
    total = abs(float(apart.values.sum()))
    if sums[0] == sums[-1]:
        return Significance(
            _coins(round(total / float(sums[0])), len(sums)), "sign flips, exact", len(sums)
        )
    observed = total - 1e-9 * float(sums.sum())
    if len(sums) <= _EXACT:
        extreme = np.abs(_all_signs(sums)) >= observed
        return Significance(float(extreme.mean()), "sign flips, exact", len(sums))
    count = sum(int((np.abs(one) >= observed).sum()) for one in _some_signs(sums, flips, seed))
    return Significance((1 + count) / (1 + flips), f"sign flips, {flips} drawn", len(sums))


def differing(apart: Sample) -> FloatArray:
    """[units] sizes of the clusters' summed differences that are not zero, sorted: the test goes by these."""
    sums = np.abs(apart.sums()[:, 0])
    return np.sort(sums[sums > 1e-12 * max(1.0, float(sums.max(initial=0.0)))])


def _coins(lead: int, n: int) -> float:
    """P(heads and tails of n fair coins are at least `lead` apart): all units differ by as much."""
    fewer: IntArray = np.array([(n - lead) // 2], dtype=np.int64)
    return min(1.0, 2 * float(binomial_cdf(fewer, n, 0.5)[0])) if lead else 1.0


def _all_signs(sums: FloatArray) -> FloatArray:
    """[2 ** len(sums)] totals under every pattern of signs."""
    totals = np.zeros(1)
    for one in sums:
        totals = np.concatenate([totals + one, totals - one])
    return totals


def _some_signs(sums: FloatArray, flips: int, seed: int) -> list[FloatArray]:
    """Totals under random signs, in pieces."""
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // len(sums))
    total = float(sums.sum())
    pieces: list[FloatArray] = []
    for first in range(0, flips, step):
        rows = min(flips, first + step) - first
        bits = np.unpackbits(
            generator.integers(0, 256, size=(rows, -(-len(sums) // 8)), dtype=np.uint8),
            axis=1,
            count=len(sums),
        )
        pieces.append(2 * (bits.astype(np.float64) @ sums) - total)
    return pieces


def mcnemar(a: Numbers, b: Numbers, *, missing: float | None = None) -> Discordance:
    """McNemar's exact test of right (1) and wrong (0) on the same examples, each standing alone.

    Raises:
        ValueError: a score is neither 0 nor 1.
    """
    found = sample(a, b, missing=missing)
    if not binary(found):
        raise ValueError("McNemar's test is for scores that are 0 or 1.")
    return discordance_of(found)


def discordance_of(found: Sample) -> Discordance:
    """`mcnemar` of a sample of two columns."""
    a, b = found.values.T == 1
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    counts = (int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()))
    if n == 0:
        return Discordance(*counts, p=1.0, mid_p=1.0)
    told: IntArray = np.array([fewer, max(0, fewer - 1)], dtype=np.int64)
    upto, under = (float(one) for one in binomial_cdf(told, n, 0.5))
    if fewer == 0:
        under = 0.0
    mid = 1.0 if only_a == only_b else upto + under
    return Discordance(*counts, p=min(1.0, 2 * upto), mid_p=min(1.0, mid))


def binary(found: Sample) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((found.values == 0) | (found.values == 1)).all())
