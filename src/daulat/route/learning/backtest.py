"""Replaying a rule over outcomes that are there already: what it would have cost and delivered.

Where a rule draws by lot, expectations are taken. Every figure has an interval (`statistics`, clustered);
differences and ratios are paired over the same examples. Not here: the rules (`rules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daulat.errors import DataError
from daulat.route.learning.curves import Figures, Published, figures, published
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.route.learning.rules import Played, Routed, Rule
from daulat.statistics.intervals import mean, score
from daulat.statistics.paired import difference
from daulat.statistics.percentiles import percentile
from daulat.statistics.ratios import ratio
from daulat.statistics.samples import POSITIVE, Estimate

SLOW: Final = 0.95


@dataclass(frozen=True, slots=True)
class Replay:
    """What a rule would have done, beside one endpoint for everything, the reference.

    Attributes:
        examples: how many were replayed; left_out: those without a score that was needed.
        answers: the share that each endpoint answers; asks: the share that it is asked.
        quality: mean score; kept: that over the reference's; behind: that less the reference's.
        cost: money an example; cost_there: with the reference; spending: the one over the other; None: not
            known.
        seconds: mean; slow: the 95th percentile; None: not known, or the rule draws by lot.
    """

    rule: str
    reference: str
    examples: int
    left_out: int
    answers: tuple[tuple[str, float], ...]
    asks: tuple[tuple[str, float], ...]
    quality: Estimate
    kept: Estimate
    behind: Estimate
    cost: Estimate | None
    cost_there: Estimate | None
    spending: Estimate | None
    seconds: Estimate | None
    slow: Estimate | None


@dataclass(frozen=True, slots=True)
class Curved:
    """What a router of two endpoints comes to over its whole dial, on examples that need not be its own.

    Attributes:
        examples: those with the scores of both.
        figures: of every threshold; published: by RouteLLM's protocol of eleven points.
    """

    examples: int
    figures: Figures
    published: Published


def curved(outcomes: Outcomes, routed: Routed) -> Curved | None:
    """The figures of a router on a table; None where it has more than two endpoints or nothing is scored.

    Raises:
        NotFoundError: the table lacks an endpoint.
    """
    table = outcomes.only(routed.router.endpoints)
    rows = np.flatnonzero(~np.isnan(table.scores).any(axis=1))
    if len(table.endpoints) != 2 or len(rows) == 0:
        return None
    table = table.take(rows)
    needs, (cheap, dear) = routed.steps(table).needs(), table.scores.T
    return Curved(
        len(rows), figures(needs, cheap, dear, table.clusters), published(needs, cheap, dear)
    )


def replay(outcomes: Outcomes, rule: Rule, reference: str, confidence: float = 0.95) -> Replay:
    """Replay a rule.

    Args:
        reference: the endpoint that it is compared with.

    Raises:
        DataError: no example has the scores that it takes.
        NotFoundError: the table lacks an endpoint.
    """
    played = rule.play(outcomes)
    needed = played.answers > 0
    needed[:, outcomes.column(reference)] = True
    rows = np.flatnonzero(~(needed & np.isnan(outcomes.scores)).any(axis=1))
    if len(rows) == 0:
        raise DataError(
            f"No example has a score of {reference} and of what this rule chooses ({rule.name}). Score more "
            "answers, or take another rule."
        )
    kept = Played(played.answers[rows], played.asks[rows], played.seen[rows])
    left_out = len(outcomes) - len(rows)
    return _replayed(outcomes.take(rows), kept, rule.name, reference, confidence, left_out)


def _replayed(
    table: Outcomes, played: Played, name: str, reference: str, confidence: float, left_out: int
) -> Replay:
    column, clusters = table.column(reference), table.clusters
    got, best = _expected(table.scores, played.answers), table.scores[:, column]
    cost, there = _expected(table.costs, played.asks), table.costs[:, column]
    seconds = _expected(table.seconds, played.asks)
    by_lot = bool(((played.asks > 0) & (played.asks < 1)).any())
    return Replay(
        rule=name,
        reference=reference,
        examples=len(table),
        left_out=left_out,
        answers=_by_endpoint(table, played.answers),
        asks=_by_endpoint(table, played.asks),
        quality=score(got, clusters=clusters, confidence=confidence),
        kept=ratio(got, best, clusters=clusters, confidence=confidence),
        behind=difference(got, best, clusters=clusters, confidence=confidence),
        cost=_mean(cost, clusters, confidence),
        cost_there=_mean(there, clusters, confidence),
        spending=None
        if _unknown(cost) or _unknown(there)
        else ratio(cost, there, clusters=clusters, confidence=confidence),
        seconds=_mean(seconds, clusters, confidence),
        slow=None
        if by_lot or _unknown(seconds)
        else percentile(seconds, SLOW, clusters=clusters, confidence=confidence),
    )


def _expected(values: FloatArray, shares: FloatArray) -> FloatArray:
    """float64 [n]: what is got on average; what is never asked need not be known."""
    return np.where(shares > 0, shares * values, 0.0).sum(axis=1)


def _by_endpoint(table: Outcomes, shares: FloatArray) -> tuple[tuple[str, float], ...]:
    return tuple(zip(table.endpoints, map(float, shares.mean(axis=0)), strict=True))


def _mean(values: FloatArray, clusters: tuple[str, ...], confidence: float) -> Estimate | None:
    if _unknown(values):
        return None
    return mean(values, clusters=clusters, confidence=confidence, bounds=POSITIVE)


def _unknown(values: FloatArray) -> bool:
    return bool(np.isnan(values).any())
