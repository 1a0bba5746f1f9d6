"""What the answers of several endpoints to the same examples say: a `Comparison`, complete, without its looks.

Scores are of answers and of refusals, which are answers that a model chose to give; a text that the policy
let nobody have, an error and what was not asked yet have none. Every figure of quality has an interval, and
differences go example by example, by clusters. docs/compare.md explains the figures to users,
docs/statistics.md derives them.

Not here: statistics (`daulat.statistics`), files and words (`report`).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from daulat.evaluate.answers import Answer
from daulat.evaluate.examples import Example
from daulat.evaluate.judges.appointing import JudgeReport
from daulat.evaluate.labels.correcting import People
from daulat.evaluate.metrics.score import Score
from daulat.route.learning.outcomes import FloatArray, Outcomes
from daulat.statistics import intervals, multiple, paired, percentiles, power, ratios
from daulat.statistics.bradley_terry import Strength
from daulat.statistics.multiple import Slice
from daulat.statistics.power import Advice
from daulat.statistics.prediction_powered import Corrected
from daulat.statistics.preferences import BothOrders
from daulat.statistics.samples import POSITIVE, Estimate
from daulat.values.money import PER_UNIT

SCHEMA: Final = "daulat.comparison/1"
CONFIDENCE: Final = 0.95
MARGIN: Final = 0.02
PERCENTILES: Final = (0.5, 0.9, 0.99)
_DECIMALS: Final = 9
"""Of scores: a trace of a score would make the cost of a good answer a number without a meaning."""
_EXCERPT: Final = 1_000
"""Characters of a prompt and of an answer in an example that is shown."""
_CONTRASTS: Final = 5
_THIRDS_FROM: Final = 30
"""Fewer examples are not parted by length."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One endpoint's answer to one example. No answer: it was not asked yet. No score: it has none."""

    answer: Answer | None = None
    score: Score | None = None
    samples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Examples beside endpoints.

    Attributes:
        cells: [n][k].
    """

    endpoints: tuple[str, ...]
    examples: tuple[Example, ...]
    cells: tuple[tuple[Cell, ...], ...]

    def column(self, endpoint: str) -> list[Cell]:
        """All cells of an endpoint."""
        place = self.endpoints.index(endpoint)
        return [row[place] for row in self.cells]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the examples.

    Attributes:
        answered: also those that were `cut` at the longest answer allowed.
        refused: by the model itself or its vendor's filter.
        barred: by the policy, so that nobody was asked.
        failed: errors; missing: not asked yet.
        redacted: sent with what was found replaced.
    """

    wanted: int
    answered: int
    refused: int
    barred: int
    failed: int
    missing: int
    cut: int
    redacted: int


@dataclass(frozen=True, slots=True)
class Side:
    """One endpoint.

    Attributes:
        identity: what stood behind the name; empty: its answers were imported.
        errors: how often each code came; the policy's refusals too.
        score: mean; None: nothing is judged. `delivered`: the same where an error and a barred text count as 0.
        cost: units of the currency an answer; None: of no answer it is known.
        cost_per_good: money for each point of score: for right and wrong, for each right answer.
        money: spent on all outcomes together; `unpriced`: answers that nobody knows the price of.
        seconds, first_seconds: percentiles, `p50`, `p90`, `p99`; None: not known.
        counted: answers whose tokens are an estimate of the house's.
        corrected: mean score by people's labels and the judge together; None: nobody labelled.
    """

    name: str
    identity: tuple[str, ...]
    place: str
    open: bool | None
    counts: Counts
    errors: Mapping[str, int]
    score: Estimate | None
    delivered: Estimate | None
    cost: Estimate | None
    cost_per_good: Estimate | None
    money: float
    unpriced: int
    seconds: Mapping[str, Estimate] | None
    first_seconds: Mapping[str, Estimate] | None
    prompt_tokens: int
    completion_tokens: int
    counted: int
    corrected: Corrected | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two endpoints on the examples that both were scored on.

    Attributes:
        scores: a's less b's; see `statistics.paired`.
        adjusted: the test's p-value after Holm, among all pairs.
        kept: a's mean score as a share of b's.
        advice: how many examples it takes to tell them apart, all pairs at once; None: nothing to go by.
            `wanted`: to tell a difference of the margin.
        simultaneous: the difference with an interval that holds for all pairs at once (Bonferroni).
        cost: a's cost as a share of b's; None: not known.
        judged: a judge's verdicts in both orders; None: no judge compared them.
        corrected: the difference by people's labels and the judge together; None: nobody labelled.
        preferred: likewise how far a is preferred to b, from 0 to 1.
    """

    a: str
    b: str
    scores: paired.Comparison
    adjusted: float
    kept: Estimate
    advice: Advice | None
    wanted: Advice | None = None
    simultaneous: Estimate | None = None
    cost: Estimate | None = None
    judged: BothOrders | None = None
    corrected: Corrected | None = None
    preferred: Corrected | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one slice; `scores` by endpoint."""

    name: str
    examples: int
    scores: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Division:
    """The examples parted by something.

    Attributes:
        by: `category`, `language` or `length` (of the prompt, in characters).
        against: for each endpoint but the first, its differences to the first (first less other) within each
            part, Holm-adjusted among the parts.
    """

    by: str
    parts: tuple[Part, ...]
    against: Mapping[str, tuple[Slice, ...]]


@dataclass(frozen=True, slots=True)
class Contrast:
    """An example on which two endpoints differ much. Texts are excerpts."""

    example: str
    prompt: str
    references: tuple[str, ...]
    a: str
    b: str
    answers: tuple[str, str]
    scores: tuple[float, float]
    details: tuple[str, str]


@dataclass(frozen=True, slots=True)
class About:
    """What was compared, and how.

    Attributes:
        id: of the comparison: of the task, the endpoints and how they were asked.
        task: its name; `digest` of its examples.
        metric: with its options.
        how: how endpoints were asked.
        ended: `done`, `budget`, `failing` or `stopped`; `why`: in words.
        budget, spent: in the currency, as decimal numbers; spent is what the books say of this comparison.
    """

    id: str
    task: str
    digest: str
    metric: Mapping[str, Any]
    how: Mapping[str, Any]
    created: str
    currency: str
    ended: str = "done"
    why: str = ""
    budget: str | None = None
    spent: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a report says.

    Attributes:
        examples: that were to be asked; `clusters` of them.
        contrasts: examples on which the first endpoint and another differ most.
        margin: the largest difference of mean scores that does not matter to the user.
        judge: the endpoint whose verdicts the scores are; empty: they are the metric's. `judging`: what became
            of its verdicts.
        strengths: of all endpoints, where a judge compared more than two.
        people: whose labels the corrected figures rest on; None: nobody labelled these answers.
    """

    about: About
    examples: int
    clusters: int
    confidence: float
    endpoints: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    divisions: tuple[Division, ...]
    contrasts: tuple[Contrast, ...]
    margin: float = MARGIN
    judge: str = ""
    judging: JudgeReport | None = None
    strengths: tuple[Strength, ...] = ()
    people: People | None = None
    schema: str = field(default=SCHEMA)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an endpoint beyond its answers."""

    identity: tuple[str, ...] = ()
    place: str = ""
    open: bool | None = None


def compare(
    table: Table, about: About, known: Mapping[str, Known], *, margin: float = MARGIN
) -> Comparison:
    """The comparison of a table.

    Args:
        known: by endpoint; one that is not there had its answers imported.
        margin: the largest difference of mean scores that does not matter, between 0 and 1.
    """
    numbers = _Numbers(table)
    judged = not np.isnan(numbers.scores).all()
    return Comparison(
        about=about,
        examples=len(table.examples),
        clusters=len(set(numbers.clusters)),
        confidence=CONFIDENCE,
        endpoints=tuple(
            _side(name, table, numbers, known.get(name, Known())) for name in table.endpoints
        ),
        pairs=_pairs(numbers, margin) if judged else (),
        divisions=_divisions(table, numbers) if judged else (),
        contrasts=_contrasts(table, numbers) if judged else (),
        margin=margin,
    )


class _Numbers:
    """The table's figures as arrays, [n, k], NaN where there is none."""

    def __init__(self, table: Table) -> None:
        self.endpoints = table.endpoints
        self.clusters = [example.cluster or example.id for example in table.examples]
        found = self._array(table, lambda cell: cell.score and cell.score.value)
        self.scores = np.round(found, _DECIMALS)
        self.costs = self._array(table, lambda cell: _spent(cell.answer))
        self.seconds = self._array(table, lambda cell: _given(cell.answer) and cell.answer.seconds)
        self.firsts = self._array(
            table, lambda cell: _given(cell.answer) and cell.answer.first_seconds
        )

    def column(self, values: FloatArray, endpoint: str) -> FloatArray:
        return values[:, self.endpoints.index(endpoint)]

    def score(self, endpoint: str) -> FloatArray:
        return self.column(self.scores, endpoint)

    def _array(self, table: Table, of: Callable[[Any], float | bool | None]) -> FloatArray:
        found = [[_number(of(cell)) for cell in row] for row in table.cells]
        return np.array(found, np.float64).reshape(len(table.cells), len(table.endpoints))


def _number(value: float | bool | None) -> float:
    return math.nan if value is None or value is False else float(value)


def _given(answer: Answer | None) -> bool:
    return answer is not None and answer.final


def _spent(answer: Answer | None) -> float | None:
    if answer is None or not answer.final or answer.money is None:
        return None
    return answer.money / PER_UNIT


# --- one endpoint ---------------------------------------------------------------------------------


def _side(name: str, table: Table, numbers: _Numbers, known: Known) -> Side:
    cells = table.column(name)
    given = [cell.answer for cell in cells if cell.answer is not None]
    scores, costs = numbers.score(name), numbers.column(numbers.costs, name)
    judged, priced = not np.isnan(scores).all(), not np.isnan(costs).all()
    seconds = numbers.column(numbers.seconds, name)
    firsts = numbers.column(numbers.firsts, name)
    clusters = numbers.clusters
    answered = [one for one in given if one.final]
    return Side(
        name=name,
        identity=known.identity,
        place=known.place,
        open=known.open,
        counts=_counts(cells),
        errors=dict(Counter(a.code for a in given if not a.final).most_common()),
        score=intervals.score(scores, clusters=clusters) if judged else None,
        delivered=None if np.isnan(numbers.scores).all() else _delivered(cells, scores, clusters),
        cost=intervals.mean(costs, clusters=clusters, bounds=POSITIVE) if priced else None,
        cost_per_good=ratios.ratio(costs, scores, clusters=clusters) if priced and judged else None,
        money=sum(one.money or 0 for one in given) / PER_UNIT,
        unpriced=sum(one.money is None for one in answered),
        seconds=_percentiles(seconds, clusters),
        first_seconds=_percentiles(firsts, clusters),
        prompt_tokens=sum(one.prompt_tokens for one in answered),
        completion_tokens=sum(one.completion_tokens for one in answered),
        counted=sum(one.counted for one in answered),
    )


def _counts(cells: Sequence[Cell]) -> Counts:
    found = Counter(cell.answer.status if cell.answer else "missing" for cell in cells)
    answers = [cell.answer for cell in cells if cell.answer]
    return Counts(
        len(cells),
        *(found[status] for status in ("answered", "refused", "barred", "failed", "missing")),
        cut=sum(one.cut for one in answers),
        redacted=sum(one.redacted for one in answers),
    )


def _delivered(cells: Sequence[Cell], scores: FloatArray, clusters: Sequence[str]) -> Estimate:
    """The mean where nothing was delivered counts as 0; what was not asked yet does not count."""
    nothing = np.array([cell.answer is not None and not cell.answer.final for cell in cells])
    return intervals.score(np.where(nothing, 0.0, scores), clusters=clusters)


def _percentiles(values: FloatArray, clusters: Sequence[str]) -> Mapping[str, Estimate] | None:
    if np.isnan(values).all():
        return None
    return {
        f"p{share * 100:g}": percentiles.percentile(values, share, clusters=clusters)
        for share in PERCENTILES
    }


# --- two endpoints --------------------------------------------------------------------------------


def _pairs(numbers: _Numbers, margin: float) -> tuple[Pair, ...]:
    names = list(itertools.combinations(numbers.endpoints, 2))
    found: list[paired.Comparison] = []
    for a, b in names:
        found.append(paired.compare(numbers.score(a), numbers.score(b), clusters=numbers.clusters))
    adjusted = multiple.holm([one.test.p for one in found])
    every = [_simultaneous(numbers, a, b, len(names)) for a, b in names]
    return tuple(
        Pair(
            *(a, b, one, float(p)),
            ratios.ratio(numbers.score(a), numbers.score(b), clusters=numbers.clusters),
            power.advise(wide),
            power.advise(wide, difference=margin),
            wide,
            _relative_cost(numbers, a, b),
        )
        for (a, b), one, p, wide in zip(names, found, adjusted, every, strict=True)
    )


def _simultaneous(numbers: _Numbers, a: str, b: str, count: int) -> Estimate:
    every = multiple.simultaneous(CONFIDENCE, count)
    scores = numbers.score(a), numbers.score(b)
    return paired.difference(*scores, clusters=numbers.clusters, confidence=every)


def _relative_cost(numbers: _Numbers, a: str, b: str) -> Estimate | None:
    costs = [numbers.column(numbers.costs, name) for name in (a, b)]
    if any(np.isnan(one).all() for one in costs):
        return None
    return ratios.ratio(*costs, clusters=numbers.clusters)


# --- slices ---------------------------------------------------------------------------------------


def _divisions(table: Table, numbers: _Numbers) -> tuple[Division, ...]:
    parted = {
        "category": [example.category for example in table.examples],
        "language": [example.language for example in table.examples],
        "length": _thirds(table),
    }
    return tuple(
        _division(by, names, numbers)
        for by, names in parted.items()
        if len({name for name in names if name}) > 1
    )


def _division(by: str, names: Sequence[str], numbers: _Numbers) -> Division:
    first, *others = numbers.endpoints
    labels = np.asarray(names)
    clusters = np.asarray(numbers.clusters)
    parts: list[Part] = []
    for name in sorted({name for name in names if name}, key=_length if by == "length" else None):
        here = labels == name
        scores = {
            e: intervals.score(numbers.score(e)[here], clusters=clusters[here])
            for e in numbers.endpoints
        }
        parts.append(Part(name, int(here.sum()), scores))
    against = {
        other: multiple.by_slice(
            numbers.score(first), numbers.score(other), names, clusters=numbers.clusters
        )
        for other in others
    }
    return Division(by, tuple(parts), against)


def _length(name: str) -> int:
    """Where a third begins."""
    return int(name.partition("-")[0] or 0)


def _thirds(table: Table) -> list[str]:
    """A third of the examples each: short, middle and long prompts; nothing where there are few of them."""
    lengths = np.array([len(example.prompt) for example in table.examples])
    if len(lengths) < _THIRDS_FROM:
        return [""] * len(lengths)
    low, high = (int(np.quantile(lengths, share)) for share in (1 / 3, 2 / 3))
    if low == high:
        return [""] * len(lengths)
    names = (f"-{low}", f"{low + 1}-{high}", f"{high + 1}-")
    return [names[int(n > low) + int(n > high)] for n in lengths]


# --- examples -------------------------------------------------------------------------------------


def _contrasts(table: Table, numbers: _Numbers) -> tuple[Contrast, ...]:
    """For the first endpoint and each other one: where either is furthest ahead."""
    first, *others = table.endpoints
    found: list[Contrast] = []
    for other in others:
        apart = numbers.score(first) - numbers.score(other)
        for sign in (1, -1):
            ahead = [int(i) for i in np.argsort(-sign * apart, kind="stable")]
            good = [i for i in ahead if not math.isnan(apart[i]) and sign * apart[i] > 0]
            found += [_contrast(table, i, first, other) for i in good[:_CONTRASTS]]
    return tuple(found)


def _contrast(table: Table, row: int, a: str, b: str) -> Contrast:
    example = table.examples[row]
    cells = [table.cells[row][table.endpoints.index(name)] for name in (a, b)]
    texts = [cell.answer.text[:_EXCERPT] if cell.answer else "" for cell in cells]
    scores = [cell.score or Score(0.0) for cell in cells]
    return Contrast(
        *(example.id, example.prompt[:_EXCERPT]),
        tuple(one[:_EXCERPT] for one in example.references[:3]),
        *(a, b),
        (texts[0], texts[1]),
        (scores[0].value, scores[1].value),
        (scores[0].detail, scores[1].detail),
    )


# --- as outcomes ----------------------------------------------------------------------------------


def outcomes(table: Table) -> Outcomes:
    """The table as outcomes, for routers and certificates: examples that some endpoint answered."""
    rows = [i for i, row in enumerate(table.cells) if any(_given(cell.answer) for cell in row)]
    kept = Table(
        table.endpoints,
        tuple(table.examples[i] for i in rows),
        tuple(table.cells[i] for i in rows),
    )
    numbers = _Numbers(kept)
    logprobs = [
        [_number(c.answer.logprob if c.answer else None) for c in row] for row in kept.cells
    ]
    shape = (len(rows), len(table.endpoints))
    return Outcomes(
        endpoints=table.endpoints,
        ids=tuple(example.id for example in kept.examples),
        prompts=tuple(example.prompt for example in kept.examples),
        answers=tuple(tuple(text_of(cell) for cell in row) for row in kept.cells),
        scores=numbers.scores,
        costs=numbers.costs,
        seconds=numbers.seconds,
        categories=tuple(example.category for example in kept.examples),
        clusters=tuple(numbers.clusters),
        logprobs=np.array(logprobs, np.float64).reshape(shape),
        samples=tuple(tuple(cell.samples for cell in row) for row in kept.cells),
        probes=tuple(tuple(c.answer.probe if c.answer else () for c in row) for row in kept.cells),
    )


def text_of(cell: Cell) -> str | None:
    """The answer's text; None: there is no answer, or it is not known."""
    if cell.answer is None or not cell.answer.final:
        return None
    # Of an imported answer often only the score is known.
    return cell.answer.text if cell.answer.text or cell.answer.key else None
