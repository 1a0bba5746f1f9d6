"""What a judge prefers: win rates with ties, both orders, and the pull of the position.

A preference is a number in [0, 1]: 1 the endpoint wins, 0 the other does, 1/2 a tie; a judge that gives
probabilities gives what lies between. The rate and its standard error are those of AlpacaEval's leaderboard
(`winrate` there: the mean and s / sqrt(n)); its length-controlled rate is in `length_control`. More than two
endpoints: `bradley_terry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daulat.statistics.intervals import mean_of, score_of
from daulat.statistics.samples import Bounds, Estimate, Labels, Numbers, Sample, sample

HALF: Bounds = (-0.5, 0.5)
"""The range of a position's pull."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often one endpoint is preferred to another.

    Attributes:
        rate: mean preference; its `error` is the standard error.
        discrete: wins and half of the ties, over all.
        wins, ties, losses: preferences above, at and below 1/2.
    """

    rate: Estimate
    discrete: float | None
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class BothOrders:
    """The same pairs judged twice, each endpoint shown first once.

    Attributes:
        rate: win rate with each example's two verdicts averaged; one that turns with the order is a tie.
        bias: how far the answer shown first is preferred beyond 1/2, in [-1/2, 1/2]; 0: the place does not
            matter.
        inconsistent: share of pairs whose winner changes with the order.
        for_first, for_second: of these, how many went to what was shown first, and second.
    """

    rate: WinRate
    bias: Estimate
    inconsistent: Estimate
    for_first: int
    for_second: int


def win_rate(
    preferences: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
    missing: float | None = None,
) -> WinRate:
    """Win rate from one verdict an example.

    Args:
        preferences: [n] in [0, 1]; NaN: no verdict.
        clusters: [n] examples that belong together; None: each stands alone.
        missing: what a missing verdict counts as; None: it is left out.

    Raises:
        ValueError: a preference lies outside of [0, 1].
    """
    return _win_rate_of(sample(preferences, clusters=clusters, missing=missing), confidence)


def _win_rate_of(found: Sample, confidence: float) -> WinRate:
    column = found.values[:, 0]
    wins, losses = int((column > 0.5).sum()), int((column < 0.5).sum())
    ties = found.n - wins - losses
    discrete = (wins + ties / 2) / found.n if found.n else None
    return WinRate(score_of(found, confidence), discrete, wins, ties, losses)


def both_orders(
    first: Numbers,
    second: Numbers,
    *,
    clusters: Labels | None = None,
    confidence: float = 0.95,
) -> BothOrders:
    """Win rate and position bias from two verdicts an example.

    Showing each endpoint first once cancels a pull of the position that is the same for both (L. Zheng et
    al., "Judging LLM-as-a-judge", arXiv:2306.05685).

    Args:
        first: [n] preferences for the endpoint where its answer was shown first, in [0, 1]; NaN: no verdict.
        second: [n] preferences for the same endpoint where its answer was shown second.
        clusters: [n] examples that belong together; None: each stands alone.

    Raises:
        ValueError: a preference lies outside of [0, 1].
    """
    found = sample(first, second, clusters=clusters)
    early, late = found.values.T
    turned = (early - 0.5) * (late - 0.5) < 0
    return BothOrders(
        rate=_win_rate_of(found.of((early + late) / 2), confidence),
        bias=mean_of(found.of((early - late) / 2), confidence, HALF),
        inconsistent=score_of(found.of(turned.astype(np.float64)), confidence),
        for_first=int((turned & (early > 0.5)).sum()),
        for_second=int((turned & (early < 0.5)).sum()),
    )
