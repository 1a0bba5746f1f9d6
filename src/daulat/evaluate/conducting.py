"""One comparison from its beginning to its report; whoever has a face puts words between the steps.

    plan = await planned(asking, folder, request)    who answers, which examples
    run = plan.run(asking, answers)                  what is to be asked (`running`)
    await plan.forecast(asking, answers, run)        what that will cost (`estimating`)
    await run.go()
    await plan.judging(asking, answers).go()         where a judge scores: what it is to be asked
    verdicts = plan.verdicts(answers)                what it said
    table = await plan.table(answers, ..., verdicts) answers beside their scores
    compare(table, plan.about(...), plan.known())    what they say (`comparing`)
    heard(comparison, verdicts, by_people(...))      with what judge and people say (`hearing`)
    keep(folder, comparison, table, verdicts)        its report, and the table as outcomes

Not here: how a report looks (`reports`), words between the steps (the command).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Final

from daulat.canon import canonical, digest
from daulat.errors import RequestError
from daulat.evaluate import metrics, reports
from daulat.evaluate.answers import Answer, Answers
from daulat.evaluate.asking import Answering, Asking
from daulat.evaluate.comparing import About, Cell, Comparison, Known, Table, outcomes, text_of
from daulat.evaluate.estimating import GUESSED_TOKENS, Forecast, forecast
from daulat.evaluate.examples import Example, Task
from daulat.evaluate.judges.appointing import (
    Appointed,
    JudgeReport,
    appointed,
    like,
    orders,
    reported,
    strengths,
)
from daulat.evaluate.judges.rounds import NO_VERDICTS, Judged, Pair, Round, keep_preferences
from daulat.evaluate.metrics.score import Score, Scorer
from daulat.evaluate.running import Ended, How, Run, in_order, jobs
from daulat.evaluate.tasks import COMPARISONS, IMPORTED, OUTCOMES, VERDICTS
from daulat.route.learning.outcomes import Outcomes, read, write
from daulat.statistics.bradley_terry import Strength
from daulat.statistics.preferences import BothOrders
from daulat.values.money import PER_UNIT, shown

MAX_ENDPOINTS: Final = 16
_AT_ONCE: Final = 2
"""Answers that are scored at a time where a metric takes its time."""

OnScore = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compared.

    Attributes:
        examples: of the task, all of them.
        limit: so many of them, drawn by the seed; None: all.
    """

    task: Task
    examples: tuple[Example, ...]
    how: How
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a judge said, and what a report says of it.

    Attributes:
        orders: of each pair, in both orders; empty, where points are given.
        strengths: of more than two endpoints.
    """

    judged: Judged
    report: JudgeReport
    orders: Mapping[Pair, BothOrders]
    strengths: tuple[Strength, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A comparison that can be run.

    Attributes:
        id: 12 hexadecimal digits; the same for the same task, endpoints and ways of asking: begun again, it
            goes on.
        examples: those that are asked, in their order.
        answering: the endpoints that are asked; the others' answers are `imported`.
        appointed: who judges; None: the metric needs nobody.
    """

    id: str
    request: Request
    examples: tuple[Example, ...]
    answering: Mapping[str, Answering]
    imported: Outcomes | None
    appointed: Appointed | None = None

    def run(
        self, asking: Asking, answers: Answers, on: Callable[[str], None] = lambda _name: None
    ) -> Run:
        """What is to be asked still."""
        how = replace(self.request.how, endpoints=tuple(self.answering))
        every = (jobs(example, how, self.answering) for example in self.examples)
        return Run(
            *(asking, answers, every, how.endpoints),
            concurrency=how.concurrency,
            since=how.since,
            on=on,
        )

    def judging(
        self, asking: Asking, answers: Answers, on: Callable[[str], None] = lambda _name: None
    ) -> Run:
        """What the judge is to be asked still about the answers that are there."""
        assert self.appointed is not None  # noqa: S101 - only asked where somebody judges
        asked = self._round(self.appointed, _texts(self._unscored(answers)))
        how = self.request.how
        return Run(
            *(asking, answers, asked.jobs(), [self.appointed.judge.model]),
            concurrency=how.concurrency,
            since=how.since,
            on=on,
        )

    async def forecast(self, asking: Asking, answers: Answers, run: Run) -> tuple[Forecast, ...]:
        """What asking will cost, the judge last."""
        how = self.request.how
        asked = await forecast(
            asking, self.answering, run.questions(), answers.all(), how.max_tokens
        )
        return (*asked, *await self._forecast_judge(asking, answers))

    async def _forecast_judge(self, asking: Asking, answers: Answers) -> tuple[Forecast, ...]:
        """What is not answered yet is taken for as long as answers are expected to be."""
        who = self.appointed
        if who is None:
            return ()
        tokens = min(self.request.how.max_tokens, GUESSED_TOKENS)
        texts = like(_texts(self._unscored(answers)), tokens)
        asked = self._round(who, texts)
        questions = Run(asking, answers, asked.jobs(), [who.judge.model]).questions()
        replies = list(asked.replies(answers.get))
        names = {who.judge.model: who.answering}
        told = await forecast(asking, names, questions, replies, who.judge.reply_tokens)
        return tuple(replace(one, judges=True) for one in told)

    def verdicts(self, answers: Answers) -> Verdicts | None:
        """What the judge said so far; None: nobody judges."""
        who = self.appointed
        if who is None:
            return None
        asked = self._round(who, _texts(self._unscored(answers)))
        judged = asked.judged(answers.get)
        clusters = [one.cluster or one.id for one in self.examples]
        report = reported(who, judged, asked.replies(answers.get))
        return Verdicts(judged, report, orders(judged, clusters), strengths(judged, clusters))

    async def table(
        self,
        answers: Answers,
        on: OnScore = lambda _done, _all: None,
        verdicts: Verdicts | None = None,
    ) -> Table:
        """Answers beside their scores.

        Args:
            verdicts: the scores are the judge's.

        Raises:
            RequestError: the metric cannot judge an example.
        """
        table = self._unscored(answers)
        chosen = self.request.task.metric
        if verdicts is not None:
            return _by_judge(table, verdicts.judged)
        if not chosen.name:
            return table
        return await _scored(table, metrics.scorer(chosen), metrics.metric(chosen.name).slow, on)

    def _round(self, who: Appointed, texts: Sequence[Sequence[str | None]]) -> Round:
        return who.round(self.examples, self.request.how.endpoints, texts)

    def _unscored(self, answers: Answers) -> Table:
        """Answers, with the scores alone that came with a file."""
        given = {example.id: self._asked(example, answers) for example in self.examples}
        kept = self._imported()
        names = self.request.how.endpoints
        cells = tuple(
            tuple(given[e.id].get(name) or kept.get((e.id, name), Cell()) for name in names)
            for e in self.examples
        )
        return Table(names, self.examples, cells)

    def known(self) -> dict[str, Known]:
        """What is known of the endpoints that are asked."""
        return {n: Known(a.identity, a.place, a.open) for n, a in self.answering.items()}

    def about(
        self, currency: str, ended: Ended, budget: int | None = None, spent: int | None = None
    ) -> About:
        """What a report says of how it came about.

        Args:
            budget, spent: in `values.money`'s amounts.
        """
        task, how = self.request.task, asdict(self.request.how)
        kept = set(how) - {"since"} if self.answering else {"endpoints", "seed"}
        return About(
            id=self.id,
            task=task.name,
            digest=task.digest,
            metric={"name": task.metric.name, "options": dict(task.metric.options)},
            how={n: how[n] for n in how if n in kept} | {"limit": self.request.limit},
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            currency=currency,
            ended=ended.how,
            why=ended.why,
            budget=None if budget is None else shown(budget),
            spent=shown(spent) if spent is not None and self.answering else None,
        )

    def _asked(self, example: Example, answers: Answers) -> dict[str, Cell]:
        """The cells of the endpoints that were asked."""
        found: dict[str, Answer] = {}
        samples: dict[str, list[str]] = {}
        how = replace(self.request.how, endpoints=tuple(self.answering))
        for job in jobs(example, how, self.answering):
            answer = answers.get(job.key, how.since)
            if answer is None:
                continue
            if job.sample == 0:
                found[job.question.model] = answer
            elif answer.status == "answered":
                samples.setdefault(job.question.model, []).append(answer.text)
        return {
            name: Cell(answer, None, tuple(samples.get(name, ()))) for name, answer in found.items()
        }

    def _imported(self) -> dict[tuple[str, str], Cell]:
        """The cells of the endpoints whose answers came with the file."""
        if self.imported is None:
            return {}
        table = self.imported
        return {
            (own, name): _cell(table, row, column)
            for row, own in enumerate(table.ids)
            for column, name in enumerate(table.endpoints)
            if name not in self.answering
        }


async def planned(asking: Asking, folder: Path, request: Request) -> Plan:
    """Find out who answers, and which examples are asked.

    Args:
        folder: the task's.

    Raises:
        ModelNotFoundError: an endpoint is neither a name of the house's nor one whose answers were imported.
        RequestError: too few or too many endpoints, or one twice.
    """
    names, task = request.how.endpoints, request.task
    if not 1 <= len(names) <= MAX_ENDPOINTS or len(set(names)) != len(names):
        raise RequestError(
            f"A comparison is of 1 to {MAX_ENDPOINTS} different endpoints: --endpoints A,B.",
            param="endpoints",
        )
    imported = read(folder / IMPORTED) if task.imported else None
    there = () if imported is None else imported.endpoints
    answering = {name: await asking.answering(name) for name in names if name not in there}
    who = await appointed(asking, task.metric, answering)
    how = asdict(request.how)
    told = {
        "judge": list(who.answering.identity) if who else None,
        "task": task.digest,
        "imported": imported.digest() if imported else None,
        "metric": [task.metric.name, dict(task.metric.options)],
        "endpoints": [[n, list(answering[n].identity) if n in answering else []] for n in names],
        "how": {n: how[n] for n in how if n not in ("endpoints", "concurrency", "since")},
    }
    drawn = in_order(request.examples, request.how.seed, request.limit)
    own = digest(canonical(told)).removeprefix("sha256:")[:12]
    return Plan(own, request, tuple(drawn), answering, imported, who)


def keep(
    folder: Path,
    comparison: Comparison,
    table: Table,
    language: str = "en",
    verdicts: Verdicts | None = None,
) -> reports.Paths:
    """Write the report, in a language, and the outcomes that routers and certificates are made of."""
    target = folder / COMPARISONS / comparison.about.id
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    paths = reports.write(comparison, target, language)
    found = outcomes(table)
    if len(found):
        write(found, folder / OUTCOMES)
        judged = verdicts.judged if verdicts else NO_VERDICTS
        keep_preferences(folder / VERDICTS, judged, [example.id for example in table.examples])
    return paths


def _by_judge(table: Table, judged: Judged) -> Table:
    cells = tuple(
        tuple(
            replace(cell, score=None if isnan(value) else Score(float(value)))
            for cell, value in zip(row, values, strict=True)
        )
        for row, values in zip(table.cells, judged.scores, strict=True)
    )
    return replace(table, cells=cells)


def _texts(table: Table) -> list[list[str | None]]:
    return [[text_of(cell) for cell in row] for row in table.cells]


async def _scored(table: Table, judge: Scorer, slow: bool, on: OnScore) -> Table:
    """The table with the scores of all answers that have none."""
    every = [
        (row, column)
        for row, cells in enumerate(table.cells)
        for column, cell in enumerate(cells)
        if cell.score is None and text_of(cell) is not None
    ]
    gate = asyncio.Semaphore(_AT_ONCE)
    scores: dict[tuple[int, int], Score] = {}

    async def one(place: tuple[int, int]) -> None:
        row, column = place
        answer = table.cells[row][column].answer
        assert answer is not None  # noqa: S101 - only such are taken above
        example = table.examples[row]
        async with gate:
            scores[place] = await _score(judge, example, answer.text, slow)
        on(len(scores), len(every))

    for start in range(0, len(every), 256):
        await asyncio.gather(*map(one, every[start : start + 256]))
    cells = tuple(
        tuple(replace(c, score=scores.get((i, k), c.score)) for k, c in enumerate(row))
        for i, row in enumerate(table.cells)
    )
    return replace(table, cells=cells)


async def _score(judge: Scorer, example: Example, answer: str, slow: bool) -> Score:
    if not slow:
        return await metrics.scored(judge, example, answer)
    found = await asyncio.to_thread(judge, example, answer)
    return found if isinstance(found, Score) else await found


def _cell(table: Outcomes, row: int, column: int) -> Cell:
    text = table.answers[row][column]
    score, cost = float(table.scores[row, column]), float(table.costs[row, column])
    if text is None and isnan(score) and isnan(cost):
        return Cell()
    answer = Answer(
        *("", table.ids[row], table.endpoints[column], 0, "answered", text or "", "stop"),
        money=None if isnan(cost) else round(cost * PER_UNIT),
        seconds=float(table.seconds[row, column]),
        time=0.0,
        logprob=_known(float(table.logprobs[row, column])),
        probe=table.probes[row][column],
    )
    return Cell(
        answer,
        None if isnan(score) else Score(score),
        table.samples[row][column],
    )


def _known(value: float) -> float | None:
    return None if isnan(value) else value
