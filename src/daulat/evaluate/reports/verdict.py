"""What a comparison comes down to, by rules: which endpoint is better, as good, or that it cannot be told.

Two endpoints, difference d of their mean scores with its interval, margin m, the largest difference that does
not matter:

    too few        fewer than ten examples, or all of one cluster: nothing is tested
    as good        the whole interval lies within -m to +m
    better, worse  the interval leaves out zero, and the test says so as well
    not worse      the interval lies above -m: at most m worse, and perhaps better
    unclear        none of these

With more than two endpoints, intervals hold for all pairs at once and tests are adjusted after Holm, so that
choosing the best of many by what was seen is allowed. "As good" comes before "better": a difference that is
certain and too small to matter does not matter. Not here: words (`telling`), figures (`daulat.statistics`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from daulat.evaluate.comparing import Comparison, Pair, Side
from daulat.evaluate.reports.orienting import inverse, other
from daulat.statistics.multiple import simultaneous
from daulat.statistics.samples import BOTH, Estimate, clipped
from daulat.statistics.special import normal_quantile

Source = Literal["scores", "judge", "people"]


class Standing(StrEnum):
    """How a stands to b."""

    TOO_FEW = "too few"
    AS_GOOD = "as good"
    BETTER = "better"
    WORSE = "worse"
    NOT_WORSE = "not worse"
    UNCLEAR = "unclear"


FEWEST = 10
"""Of fewer examples nothing is said."""
_OPEN = (Standing.UNCLEAR, Standing.TOO_FEW, Standing.NOT_WORSE)
"""Nothing says which of the two is better."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a is ahead of b.

    Attributes:
        apart: a's mean score less b's. Where there are several pairs, its interval holds for all at once.
        p: of no difference, adjusted for all pairs; None: the interval alone decides.
        source: whose scores these are: the metric's, a judge's, or people's with the judge's help.
        cost: a's cost as a share of b's; None: not known.
        needed: examples that would tell a difference of the margin; None: not known.
        won: a's win rate in the eyes of a judge, corrected by people's labels where there are any; None: no
            judge compared them.
    """

    a: str
    b: str
    apart: Estimate
    p: float | None
    source: Source
    cost: Estimate | None = None
    needed: int | None = None
    won: Estimate | None = None

    def mirrored(self) -> Gap:
        """How far b is ahead of a."""
        cost = None if self.cost is None else inverse(self.cost)
        won = None if self.won is None else other(self.won)
        return replace(self, a=self.b, b=self.a, apart=self.apart.mirrored(), cost=cost, won=won)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a report.

    Attributes:
        subject: the endpoint that the answer is about: one that spares something and is good enough, else the
            best.
        standing: how it stands to `gap.b`; None: there is one endpoint, or nothing was scored.
        gap: how far it is ahead; None as above.
        field: how many endpoints there are.
        others: endpoints, besides `gap.b`, that cannot be told from the subject either.
        tops: the subject is better than each of the others.
    """

    subject: str
    standing: Standing | None
    gap: Gap | None
    field: int
    others: tuple[str, ...] = ()
    tops: bool = False


def standing(gap: Gap, margin: float, confidence: float) -> Standing:
    """By the rules above."""
    apart = gap.apart
    if apart.value is None or apart.error is None or apart.n < FEWEST:
        return Standing.TOO_FEW
    if -margin < apart.low and apart.high < margin:
        return Standing.AS_GOOD
    chance = gap.p is not None and gap.p >= 1 - confidence
    if apart.low > 0 and not chance:
        return Standing.BETTER
    if apart.high < 0 and not chance:
        return Standing.WORSE
    return Standing.NOT_WORSE if apart.low > -margin else Standing.UNCLEAR


def gap_of(comparison: Comparison, pair: Pair) -> Gap:
    """How far a pair is apart: by people's labels where there are any, else by scores."""
    count = len(comparison.pairs)
    advice = pair.wanted
    needed = advice.needed if advice and advice.needed and advice.needed > advice.n else None
    if pair.corrected is not None:
        apart = widened(pair.corrected.estimate, count)
        pairwise = comparison.judging is not None and comparison.judging.kind == "pairwise"
        rate = pair.preferred.estimate if pairwise and pair.preferred else None
        return Gap(pair.a, pair.b, apart, None, "people", pair.cost, needed, rate)
    apart = pair.simultaneous or widened(pair.scores.difference, count)
    won = pair.judged.rate.rate if pair.judged else None
    source: Source = "judge" if comparison.judge else "scores"
    return Gap(pair.a, pair.b, apart, pair.adjusted, source, pair.cost, needed, won)


def gaps(comparison: Comparison) -> dict[tuple[str, str], Gap]:
    """Of every pair that was scored, both ways round."""
    found = [gap_of(comparison, pair) for pair in comparison.pairs]
    return {(gap.a, gap.b): gap for one in found for gap in (one, one.mirrored())}


def verdict(comparison: Comparison) -> Verdict:
    """The answer to "is the cheaper one good enough?", as far as the figures give one."""
    known, field = gaps(comparison), len(comparison.endpoints)
    leader = best(comparison, known)
    if leader is None or not known:
        return Verdict(comparison.endpoints[0].name, None, None, field)
    beside = {
        one.name: known[one.name, leader]
        for one in comparison.endpoints
        if (one.name, leader) in known
    }
    stands = {
        name: standing(gap, comparison.margin, comparison.confidence)
        for name, gap in beside.items()
    }
    sparing = _sparing(comparison, leader, stands)
    if sparing is not None:
        return Verdict(sparing, stands[sparing], beside[sparing], field)
    nearest = min(beside, key=lambda name: _order(beside[name], stands[name]))
    gap = beside[nearest].mirrored()
    told = standing(gap, comparison.margin, comparison.confidence)
    results = {one.name: one for one in comparison.endpoints}
    if told is Standing.NOT_WORSE and not _spares(results[leader], results[nearest]):
        # What is asked is whether the other one, which is behind, is good enough.
        told = Standing.UNCLEAR
    others = tuple(name for name in beside if name != nearest and stands[name] in _OPEN)
    tops = all(one is Standing.WORSE for one in stands.values())
    return Verdict(leader, told, gap, field, others, tops)


def best(comparison: Comparison, known: dict[tuple[str, str], Gap]) -> str | None:
    """The endpoint that is furthest ahead of the others on average; of equals the first; None: no scores."""
    ahead = {one.name: _ahead(one.name, known) for one in comparison.endpoints}
    there = {name: value for name, value in ahead.items() if value is not None}
    return max(there, key=lambda name: there[name]) if there else None


def widened(estimate: Estimate, questions: int) -> Estimate:
    """With an interval that holds for so many questions at once (Bonferroni), by the normal distribution.

    An end moves away from the value by the ratio of the quantiles, and not beyond -1 to 1.
    """
    if questions < 2 or estimate.value is None:
        return estimate
    every = simultaneous(estimate.confidence, questions)
    factor = normal_quantile((1 + every) / 2) / normal_quantile((1 + estimate.confidence) / 2)
    low = estimate.value - factor * (estimate.value - estimate.low)
    high = estimate.value + factor * (estimate.high - estimate.value)
    ends = clipped(low, high, BOTH)
    return replace(estimate, low=ends[0], high=ends[1], confidence=every)


def _sparing(comparison: Comparison, leader: str, stands: dict[str, Standing]) -> str | None:
    """The cheapest endpoint that is as good as the leader, or else not worse, and spares something."""
    results = {one.name: one for one in comparison.endpoints}
    for wanted in (Standing.AS_GOOD, Standing.NOT_WORSE):
        fit = [
            name
            for name, told in stands.items()
            if told is wanted and _spares(results[name], results[leader])
        ]
        if fit:
            return min(fit, key=lambda name: _cost(results[name]) or 0.0)
    return None


def _spares(one: Side, other: Side) -> bool:
    """Whether it costs less; where costs are not known, whether it alone is open."""
    cost, than = _cost(one), _cost(other)
    if cost is None or than is None:
        return one.open is True and other.open is not True
    return cost < than


def _cost(result: Side) -> float | None:
    return None if result.cost is None else result.cost.value


def _order(gap: Gap, told: Standing) -> tuple[int, float]:
    """Nearest to the leader first: those that cannot be told from it, then those as good, then the others."""
    rank = 0 if told in _OPEN else 1 if told is Standing.AS_GOOD else 2
    return rank, -(gap.apart.value or 0.0)


def _ahead(name: str, known: dict[tuple[str, str], Gap]) -> float | None:
    found = [gap.apart.value for (a, _b), gap in known.items() if a == name]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None
