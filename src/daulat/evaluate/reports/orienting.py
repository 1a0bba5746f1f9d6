"""Pairs turned round, so that tables say a difference in the direction in which the answer does.

Not here: which direction that is (`verdict`).
"""

from __future__ import annotations

from dataclasses import replace

from daulat.evaluate.comparing import Comparison, Pair
from daulat.statistics.multiple import Slice
from daulat.statistics.paired import Comparison as Scores
from daulat.statistics.prediction_powered import Corrected
from daulat.statistics.preferences import BothOrders, WinRate
from daulat.statistics.samples import Estimate
from daulat.statistics.significance import Discordance


def oriented(comparison: Comparison, a: str, b: str) -> Comparison:
    """The same, with this pair as a less b."""
    pairs = tuple(turned(one) if (one.b, one.a) == (a, b) else one for one in comparison.pairs)
    return replace(comparison, pairs=pairs)


def turned(pair: Pair) -> Pair:
    """The same pair, b first."""
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        scores=_scores(pair.scores),
        simultaneous=pair.simultaneous and pair.simultaneous.mirrored(),
        kept=inverse(pair.kept) or _unknown(pair.kept),
        cost=pair.cost and inverse(pair.cost),
        judged=pair.judged and _both(pair.judged),
        corrected=pair.corrected and _corrected(pair.corrected),
        preferred=pair.preferred and _preferred(pair.preferred),
    )


def inverse(ratio: Estimate) -> Estimate | None:
    """One over a ratio; None: it is zero, or not known."""
    if not ratio.value:
        return None
    low = 0.0 if ratio.high == float("inf") else 1 / ratio.high
    high = 1 / ratio.low if ratio.low > 0 else float("inf")
    return replace(ratio, value=1 / ratio.value, low=low, high=high, error=None)


def _unknown(ratio: Estimate) -> Estimate:
    return replace(ratio, value=None, low=0.0, high=float("inf"), error=None)


def turned_slice(one: Slice) -> Slice:
    """The same slice, b first."""
    return replace(
        one, difference=one.difference.mirrored(), simultaneous=one.simultaneous.mirrored()
    )


def _scores(one: Scores) -> Scores:
    return Scores(
        difference=one.difference.mirrored(),
        beats=other(one.beats),
        above=1 - one.above,
        test=one.test,
        wins=one.losses,
        ties=one.ties,
        losses=one.wins,
        discordance=one.discordance and _discordance(one.discordance),
    )


def _discordance(one: Discordance) -> Discordance:
    return replace(one, only_a=one.only_b, only_b=one.only_a)


def _won(one: WinRate) -> WinRate:
    discrete = None if one.discrete is None else 1 - one.discrete
    return WinRate(other(one.rate), discrete, one.losses, one.ties, one.wins)


def _both(one: BothOrders) -> BothOrders:
    """The pull of the place is of both endpoints alike and stays."""
    return replace(one, rate=_won(one.rate))


def _corrected(one: Corrected) -> Corrected:
    return replace(
        one,
        estimate=one.estimate.mirrored(),
        labels_only=one.labels_only.mirrored(),
        judge_only=one.judge_only.mirrored(),
    )


def _preferred(one: Corrected) -> Corrected:
    return replace(
        one,
        estimate=other(one.estimate),
        labels_only=other(one.labels_only),
        judge_only=other(one.judge_only),
    )


def other(share: Estimate) -> Estimate:
    """What is left of one: the other's win rate."""
    value = None if share.value is None else 1 - share.value
    return replace(share, value=value, low=1 - share.high, high=1 - share.low)
