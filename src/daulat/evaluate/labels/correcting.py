"""What a judge says of all examples, corrected by what people said of a few: prediction-powered estimates.

The labels of an answer count for that answer alone: where an endpoint has answered anew, they are left out
and counted. Several people's labels of one thing are averaged. The estimates assume that the labelled
examples are a random sample, which `sheet` sees to, and that who could not tell would have said what others
say on average. Not here: the formulas (`daulat.statistics.prediction_powered`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from daulat.evaluate.labels.book import Kind, Label, answer_digest
from daulat.route.learning.outcomes import Outcomes
from daulat.statistics.agreement import Agreement, agreement
from daulat.statistics.prediction_powered import Corrected, corrected_difference, corrected_mean
from daulat.statistics.special import FloatArray

Pair = tuple[str, str]
MAX_LABELLERS: Final = 100


@dataclass(frozen=True, slots=True)
class Said:
    """What people said of a table of answers.

    Attributes:
        scores: [n, k] mean score by people, NaN: none.
        preferences: for two endpoints of the table in its order: [n] how far the first is preferred, NaN: none.
        names: who said anything that counts.
        labels: how many count.
        automatic: of these, given to equal answers without asking.
        untold: shown, and the person could not tell.
        stale: of answers that have changed since.
        unknown: of examples or endpoints that the table does not have.
        among: how far people agree who labelled the same, by the kind of label.
    """

    scores: FloatArray
    preferences: Mapping[Pair, FloatArray]
    names: tuple[str, ...]
    labels: int
    automatic: int
    untold: int
    stale: int
    unknown: int
    among: Mapping[Kind, Agreement] = field(default_factory=dict[Kind, Agreement])


@dataclass(frozen=True, slots=True)
class Between:
    """A corrected figure of two endpoints."""

    a: str
    b: str
    found: Corrected


@dataclass(frozen=True, slots=True)
class People:
    """What a report says of those who labelled.

    Attributes:
        labels, names, automatic, untold, stale, unknown, among: as of `Said`.
        judge: how far judge and people agree on what both judged, by the kind of label.
    """

    labels: int
    names: tuple[str, ...]
    automatic: int
    untold: int
    stale: int
    unknown: int
    among: Mapping[Kind, Agreement]
    judge: Mapping[Kind, Agreement]


@dataclass(frozen=True, slots=True)
class Corrections:
    """Estimates by people and judge together.

    Attributes:
        means: of each endpoint's score.
        differences: of two endpoints' scores, a's less b's.
        win_rates: how far a is preferred to b.
    """

    people: People
    means: Mapping[str, Corrected]
    differences: tuple[Between, ...]
    win_rates: tuple[Between, ...]


def heard(table: Outcomes, labels: Sequence[Label]) -> Said:
    """The labels that count for a table of answers."""
    place = _Places(table)
    counted: list[tuple[Label, int, tuple[int, ...]]] = []
    stale = unknown = 0
    for label in labels:
        at = place.of(label)
        if at is None:
            unknown += 1
        elif not place.current(label, *at):
            stale += 1
        else:
            counted.append((label, *at))
    told = [one for one in counted if one[0].value is not None]
    names = tuple(sorted({label.by for label, _, _ in told}))[:MAX_LABELLERS]
    scores = _Ratings(names)
    preferences = _Ratings(names)
    for label, row, columns in told:
        value = float(label.value or 0.0)
        if label.kind == "score":
            scores.add((row, *columns), label.by, value)
        else:
            turned = columns[0] > columns[1]
            key = (row, *sorted(columns))
            preferences.add(key, label.by, 1 - value if turned else value)
    return Said(
        scores=_table(scores, table),
        preferences=_pairs(preferences, table),
        names=names,
        labels=len(told),
        automatic=sum(one[0].automatic for one in told),
        untold=len(counted) - len(told),
        stale=stale,
        unknown=unknown,
        among=_among(scores, preferences),
    )


def corrected(
    table: Outcomes,
    labels: Sequence[Label],
    judged: Mapping[Pair, FloatArray] | None = None,
    *,
    confidence: float = 0.95,
) -> Corrections:
    """A table's scores (and preferences) corrected by labels.

    Args:
        table: its scores are the judge's, or any other metric's.
        judged: for two endpoints of the table in its order: [n] how far a judge prefers the first one, NaN: no
            verdict; empty: what has the higher score is preferred. With verdicts on pairs the scores are mean
            preferences, of which people's points say nothing: then means and differences are of two endpoints
            alone, whose mean preferences are the win rate and what is left of it.
    """
    said, verdicts = heard(table, labels), judged or {}
    pairs = list(itertools.combinations(range(len(table.endpoints)), 2))
    rates = [_rate(table, said, verdicts, one, other, confidence) for one, other in pairs]
    people, judge = said.scores, table.scores
    if verdicts:
        people, judge = _preferred(rates, table)
    return Corrections(
        people=People(
            labels=said.labels,
            names=said.names,
            automatic=said.automatic,
            untold=said.untold,
            stale=said.stale,
            unknown=said.unknown,
            among=said.among,
            judge=_with_judge(said, None if verdicts else table.scores, rates, confidence),
        ),
        means=_means(table, people, judge, confidence),
        differences=tuple(_differences(table, people, judge, pairs, confidence)),
        win_rates=tuple(rate.between for rate in rates if rate.between is not None),
    )


# --- figures --------------------------------------------------------------------------------------


def _means(
    table: Outcomes, people: FloatArray, judge: FloatArray, confidence: float
) -> Mapping[str, Corrected]:
    return {
        name: corrected_mean(said, scores, clusters=table.clusters, confidence=confidence)
        for name, said, scores in zip(table.endpoints, people.T, judge.T, strict=True)
        if _any(said)
    }


def _differences(
    table: Outcomes,
    people: FloatArray,
    judge: FloatArray,
    pairs: Iterable[tuple[int, int]],
    confidence: float,
) -> Iterator[Between]:
    for one, other in pairs:
        said, scores = people[:, [one, other]].T, judge[:, [one, other]].T
        if _any(said.sum(axis=0)):
            found = corrected_difference(
                (said[0], said[1]),
                (scores[0], scores[1]),
                clusters=table.clusters,
                confidence=confidence,
            )
            yield Between(table.endpoints[one], table.endpoints[other], found)


@dataclass(frozen=True, slots=True)
class _Rate:
    """How far one endpoint is preferred to another, by people and by the judge, [n] each.

    Attributes:
        direct: people compared the two; else it is by the scores that they gave.
        between: None: nobody said anything.
    """

    people: FloatArray
    judge: FloatArray
    direct: bool
    between: Between | None


def _rate(
    table: Outcomes,
    said: Said,
    judged: Mapping[Pair, FloatArray],
    one: int,
    other: int,
    confidence: float,
) -> _Rate:
    pair = table.endpoints[one], table.endpoints[other]
    direct = pair in said.preferences
    people = said.preferences[pair] if direct else _higher(said.scores[:, [one, other]].T)
    judge = judged[pair] if pair in judged else _higher(table.scores[:, [one, other]].T)
    between = None
    if _any(people):
        found = corrected_mean(people, judge, clusters=table.clusters, confidence=confidence)
        between = Between(*pair, found)
    return _Rate(people, judge, direct, between)


def _preferred(rates: Sequence[_Rate], table: Outcomes) -> tuple[FloatArray, FloatArray]:
    """[n, k] mean preferences, by people and by the judge; NaN where there are more than two endpoints."""
    if len(rates) != 1:
        nothing = np.full_like(table.scores, np.nan)
        return nothing, nothing
    people, judge = (np.stack([one, 1 - one], axis=1) for one in (rates[0].people, rates[0].judge))
    return people, judge


# --- parts ----------------------------------------------------------------------------------------


class _Places:
    """Where in a table a label belongs."""

    def __init__(self, table: Outcomes) -> None:
        self._table = table
        self._rows = {own: row for row, own in enumerate(table.ids)}
        self._columns = {name: column for column, name in enumerate(table.endpoints)}

    def of(self, label: Label) -> tuple[int, tuple[int, ...]] | None:
        row = self._rows.get(label.example)
        columns = tuple(self._columns.get(name, -1) for name in label.endpoints)
        shape = 1 if label.kind == "score" else 2
        if row is None or -1 in columns or len(set(columns)) != shape:
            return None
        return row, columns

    def current(self, label: Label, row: int, columns: tuple[int, ...]) -> bool:
        """Whether the answers are those that were labelled."""
        answers = (self._table.answers[row][column] for column in columns)
        return label.answers == tuple(None if a is None else answer_digest(a) for a in answers)


class _Ratings:
    """Values by thing and person."""

    def __init__(self, people: Sequence[str]) -> None:
        self._people = {name: number for number, name in enumerate(people)}
        self.values: dict[tuple[int, ...], FloatArray] = {}

    def add(self, thing: tuple[int, ...], by: str, value: float) -> None:
        if by in self._people:
            row = self.values.setdefault(thing, np.full(len(self._people), np.nan))
            row[self._people[by]] = value


def _table(scores: _Ratings, table: Outcomes) -> FloatArray:
    made = np.full((len(table), len(table.endpoints)), np.nan)
    for (row, column), values in scores.values.items():
        made[row, column] = np.nanmean(values)
    return made


def _pairs(preferences: _Ratings, table: Outcomes) -> Mapping[Pair, FloatArray]:
    made: dict[Pair, FloatArray] = {}
    for (row, one, other), values in preferences.values.items():
        pair = table.endpoints[one], table.endpoints[other]
        made.setdefault(pair, np.full(len(table), np.nan))[row] = np.nanmean(values)
    return made


def _among(scores: _Ratings, preferences: _Ratings) -> Mapping[Kind, Agreement]:
    made: dict[Kind, Agreement] = {}
    if (found := _ratings(scores)) is not None:
        made["score"] = agreement(found, distance="interval")
    if (found := _ratings(preferences)) is not None:
        made["pairwise"] = agreement(found, distance="nominal")
    return made


def _ratings(said: _Ratings) -> FloatArray | None:
    """[things, people] of the things that more than one person labelled; None: there are none."""
    shared = [row for row in said.values.values() if (~np.isnan(row)).sum() > 1]
    return np.stack(shared) if shared else None


def _with_judge(
    said: Said, scores: FloatArray | None, rates: Iterable[_Rate], confidence: float
) -> Mapping[Kind, Agreement]:
    """Args: scores: of the judge; None: they are no points."""
    made: dict[Kind, Agreement] = {}
    if scores is not None and _any(said.scores):
        both = np.stack([said.scores.ravel(), scores.ravel()], axis=1)
        made["score"] = agreement(both, distance="interval", confidence=confidence)
    direct = [one for one in rates if one.direct]
    if direct:
        sides = [np.stack([_side(one.people), _side(one.judge)], axis=1) for one in direct]
        both = np.concatenate(sides)
        both[np.isnan(both).any(axis=1)] = np.nan
        made["pairwise"] = agreement(both, distance="nominal", confidence=confidence)
    return made


def _higher(scores: FloatArray) -> FloatArray:
    """[2, n] scores to [n]: 1 where the first is higher, 1/2 where both are the same, NaN where one is
    missing."""
    return np.asarray((np.sign(scores[0] - scores[1]) + 1) / 2, np.float64)


def _side(preferences: FloatArray) -> FloatArray:
    """Soft preferences as wins, ties and losses."""
    return np.asarray((np.sign(preferences - 0.5) + 1) / 2, np.float64)


def _any(values: FloatArray) -> bool:
    return bool((~np.isnan(values)).any())
