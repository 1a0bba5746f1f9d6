"""Who judges a comparison: from a task's metric to a judge that can be asked, and what a report says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daulat.evaluate import metrics
from daulat.evaluate.answers import Answer
from daulat.evaluate.asking import Answering, Asking
from daulat.evaluate.examples import Chosen, Example
from daulat.evaluate.judges.judge import Judge, way_of
from daulat.evaluate.judges.rounds import Judged, Kind, Pair, Round, related
from daulat.evaluate.metrics import judged as rows
from daulat.statistics.bradley_terry import Strength, bradley_terry
from daulat.statistics.preferences import BothOrders, both_orders
from daulat.values.money import PER_UNIT

_KINDS: Final[Mapping[str, Kind]] = {rows.PAIRWISE: "pairwise", rows.RUBRIC: "rubric"}


@dataclass(frozen=True, slots=True)
class Appointed:
    """A judge with what stands behind its name.

    Attributes:
        related: the compared endpoints that are the judge itself.
    """

    judge: Judge
    kind: Kind
    answering: Answering
    related: tuple[str, ...]

    def round(
        self,
        examples: Sequence[Example],
        endpoints: Sequence[str],
        texts: Sequence[Sequence[str | None]],
    ) -> Round:
        """What it is asked about these answers; see `Round`."""
        return Round(self.judge, self.kind, self.answering, examples, endpoints, texts)


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What a report says of the judge, beside its verdicts.

    Attributes:
        identity: what stood behind the name.
        kind, way, ties, scale, reasons: how it was asked.
        verdicts, same, unreadable, unanswered, words, mass: see `rounds.Count`.
        money: its replies have cost, in the currency; None: of some it is not known.
        related: the compared endpoints that are the judge itself.
    """

    model: str
    identity: tuple[str, ...]
    place: str
    kind: Kind
    way: str
    ties: bool
    scale: str
    reasons: bool
    verdicts: int
    same: int
    unreadable: int
    unanswered: int
    words: tuple[str, ...]
    mass: float | None
    money: float | None
    related: tuple[str, ...]


async def appointed(
    asking: Asking, chosen: Chosen, compared: Mapping[str, Answering]
) -> Appointed | None:
    """The judge of a task; None: its metric needs none.

    Raises:
        ModelNotFoundError: nothing has the judge's name.
        RequestError: the judge cannot tell verdicts in the way that is wanted.
    """
    kind = _KINDS.get(chosen.name)
    if kind is None:
        return None
    usual = {name: one.default for name, one in metrics.metric(chosen.name).options.items()}
    options = {**usual, **chosen.options}
    rules = rows.rules_of(chosen.name, options)
    answering = await asking.answering(options["judge"].strip())
    way = way_of(options["way"], rules, answering.can)
    judge = Judge(answering.name, rules, way, int(options["max_tokens"]))
    return Appointed(judge, kind, answering, related(answering, compared))


def reported(who: Appointed, found: Judged, replies: Iterable[Answer]) -> JudgeReport:
    """What is said of a judge.

    Args:
        replies: all that it answered to this comparison.
    """
    rules, count = who.judge.rules, found.count
    return JudgeReport(
        model=who.judge.model,
        identity=who.answering.identity,
        place=who.answering.place,
        kind=who.kind,
        way=who.judge.way,
        ties=rules.ties,
        scale=str(rules.scale) if who.kind == "rubric" else "",
        reasons=rules.reasons,
        verdicts=count.verdicts,
        same=count.same,
        unreadable=count.unreadable,
        unanswered=count.unanswered,
        words=tuple(count.words),
        mass=count.mean_mass,
        money=_money(replies),
        related=who.related,
    )


def orders(found: Judged, clusters: Sequence[str]) -> Mapping[Pair, BothOrders]:
    """Win rates of the first endpoint of each pair; empty, where points are given.

    Args:
        clusters: [n] of the examples.
    """
    return {
        pair: both_orders(first, found.second[pair], clusters=clusters)
        for pair, first in found.first.items()
    }


def _money(replies: Iterable[Answer]) -> float | None:
    amounts = [one.money for one in replies]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) / PER_UNIT if len(known) == len(amounts) else None


def strengths(found: Judged, clusters: Sequence[str]) -> tuple[Strength, ...]:
    """Of more than two endpoints by all verdicts on pairs; empty: there are no more, or points are given."""
    preferences = found.preferences()
    if len(preferences) < 2:
        return ()
    left = np.concatenate([np.full(len(p), pair[0]) for pair, p in preferences.items()])
    right = np.concatenate([np.full(len(p), pair[1]) for pair, p in preferences.items()])
    told = np.concatenate(list(preferences.values()))
    return bradley_terry(left, right, told, clusters=np.tile(clusters, len(preferences)))


def like(texts: Sequence[Sequence[str | None]], tokens: int) -> list[list[str]]:
    """Answers as long as they may be expected to be in place of those that are not there yet, all of them
    different: to tell what judging will cost before anything is answered."""
    return [
        [
            text if text is not None else f"{row}.{column} ".ljust(tokens * 4, "x")
            for column, text in enumerate(cells)
        ]
        for row, cells in enumerate(texts)
    ]
