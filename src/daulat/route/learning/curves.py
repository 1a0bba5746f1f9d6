"""How much quality a share of dear calls buys: RouteLLM's protocol as published, and an exact one beside it.

A *need* says of every example how much it is worth to leave the cheap endpoint; the largest needs go first.
Both curves are for two endpoints. RouteLLM: I. Ong et al., "RouteLLM: Learning to Route LLMs with Preference
Data" (arXiv 2406.18665): PGR is the share of the gap between cheap and dear that is closed, APGR its mean
over the share of dear calls, CPT(x) the share of dear calls for a PGR of x.

Not here: more than two endpoints, and what choices cost (`choosing`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daulat.route.learning.outcomes import FloatArray

DRAWS: Final = 1000
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Published:
    """RouteLLM's figures. NaN: the dear endpoint is not better, so there is no gap to close.

    Attributes:
        cpt20, cpt50, cpt80: dear calls, in percent.
    """

    apgr: float
    cpt20: float
    cpt50: float
    cpt80: float


def published(need: FloatArray, cheap: FloatArray, dear: FloatArray, steps: int = 10) -> Published:
    """The figures as RouteLLM's evaluation computes them (routellm/evals, commit 0b64fda).

    Thresholds are the quantiles of the need at 0, 1/steps, ..., 1; what is at or above one goes to the dear
    endpoint, at the last one what is above. APGR is the trapezoidal area between them, CPT a linear
    interpolation. Where needs are tied, two thresholds may be one; its own code stops there, this one goes on.
    """
    edges = np.percentile(need, np.linspace(0, 1, steps + 1) * 100)  # as pandas.qcut does
    chosen = [need >= edge for edge in edges[:-1]] + [need > edges[-1]]
    # In percent before anything is compared, as there: rounding decides which of equal qualities is reached.
    n = len(need)
    share = np.array([100 * one.sum() / n for one in chosen])
    quality = np.array([100 * np.where(one, dear, cheap).sum() / n for one in chosen])
    order = np.argsort(share, kind="stable")
    share, quality = share[order], quality[order]
    low, high = 100 * float(cheap.sum()) / n, 100 * float(dear.sum()) / n
    gap, width = high - low, float(share[-1] - share[0])
    if gap <= 0 or width <= 0:
        return Published(math.nan, math.nan, math.nan, math.nan)
    area = float(np.trapezoid(quality, share)) - low * width
    cpt = [float(np.interp(low + part * gap, quality, share)) for part in (0.2, 0.5, 0.8)]
    return Published(area / (gap * width), *cpt)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Quality for every share of dear calls that a threshold can give.

    Attributes:
        share: float64 [m] from 0 to 1, rising; quality: float64 [m], the mean score. Between two points some of
            the tied examples go, drawn at random: quality is linear there.
        cheap, dear: the mean scores of the two endpoints alone.
    """

    share: FloatArray
    quality: FloatArray
    cheap: float
    dear: float

    def area(self) -> float:
        """The mean quality over all shares."""
        return float(np.trapezoid(self.quality, self.share))

    def apgr(self) -> float:
        """The mean share of the gap that is closed; NaN where there is no gap."""
        gap = self.dear - self.cheap
        return (self.area() - self.cheap) / gap if gap > 0 else math.nan

    def share_for(self, quality: float) -> float:
        """The least share of dear calls that gives this quality; NaN where none does."""
        reached = np.flatnonzero(self.quality >= quality - _ROUNDING)
        if len(reached) == 0:
            return math.nan
        at = int(reached[0])
        if at == 0:
            return 0.0
        low, high = self.quality[at - 1], self.quality[at]
        part = (quality - low) / (high - low)
        return float(self.share[at - 1] + part * (self.share[at] - self.share[at - 1]))

    def cpt(self, part: float) -> float:
        """Dear calls, in percent, that close this part of the gap; NaN where there is no gap."""
        gap = self.dear - self.cheap
        return 100 * self.share_for(self.cheap + part * gap) if gap > 0 else math.nan

    def keeping(self, part: float) -> float:
        """Dear calls, in percent, that give this part of the dear endpoint's quality."""
        return 100 * self.share_for(part * self.dear)


def exact(need: FloatArray, cheap: FloatArray, dear: FloatArray) -> Curve:
    """The curve over every threshold. Arguments are float64 [n], without NaN."""
    return _Sorted(need, cheap, dear).curve(np.ones(len(need)))


class _Sorted:
    """Examples from the largest need to the smallest, for curves with many weights."""

    def __init__(self, need: FloatArray, cheap: FloatArray, dear: FloatArray) -> None:
        self.order = np.argsort(-need, kind="stable")
        ordered = need[self.order]
        self.cheap, self.dear = cheap[self.order], dear[self.order]
        self.ends = np.append(np.flatnonzero(np.diff(ordered)), len(need) - 1)

    def curve(self, weights: FloatArray) -> Curve:
        """The curve where example i counts `weights[i]` times."""
        weights = weights[self.order]
        total = weights.sum()
        low = float(weights @ self.cheap / total)
        share = np.cumsum(weights)[self.ends] / total
        gain = np.cumsum(weights * (self.dear - self.cheap))[self.ends] / total
        high = low + float(gain[-1])
        return Curve(np.append(0.0, share), low + np.append(0.0, gain), low, high)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a curve comes to; dear calls in percent. NaN: not defined there."""

    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    keep90: Interval
    keep95: Interval
    keep99: Interval


def figures(
    need: FloatArray,
    cheap: FloatArray,
    dear: FloatArray,
    clusters: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> Figures:
    """The figures of the exact curve with bootstrap percentile intervals; whole clusters are drawn.

    The router is taken as it is: how it would differ if it were fitted on other examples is not in them.
    """
    ordered = _Sorted(need, cheap, dear)
    value = _figures(ordered.curve(np.ones(len(need))))
    drawn = np.array([_figures(ordered.curve(w)) for w in redrawn(clusters, draws, seed)])
    low, high = _ends(drawn)
    return Figures(*(Interval(*map(float, one)) for one in zip(value, low, high, strict=True)))


def _figures(curve: Curve) -> list[float]:
    keeping = [curve.keeping(part) for part in (0.9, 0.95, 0.99)]
    return [curve.apgr(), curve.cpt(0.5), curve.cpt(0.8), *keeping]


def _ends(drawn: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Percentiles of [draws, figures]; a figure that is undefined in many draws has no ends."""
    ends = np.full((2, drawn.shape[1]), math.nan)
    for column in range(drawn.shape[1]):
        known = drawn[~np.isnan(drawn[:, column]), column]
        if len(known) >= 0.9 * len(drawn):
            ends[:, column] = np.quantile(known, [0.025, 0.975])
    return ends[0], ends[1]


def redrawn(clusters: Sequence[str], draws: int, seed: int) -> list[FloatArray]:
    """How often each example counts when whole clusters are drawn with replacement, [n] a draw."""
    _, code = np.unique(np.array(clusters), return_inverse=True)
    count = int(code.max()) + 1
    random = np.random.default_rng(seed)
    return [_drawn(random, count)[code] for _ in range(draws)]


def _drawn(random: np.random.Generator, count: int) -> FloatArray:
    picked: NDArray[np.int64] = random.integers(0, count, count)
    return np.bincount(picked, minlength=count).astype(np.float64)
