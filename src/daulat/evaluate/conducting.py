"""One comparison from its beginning to its report; whoever has a face puts words between the steps.

    plan = await planned(asking, folder, request)    who answers, which examples
    run = plan.run(asking, answers)                  what is to be asked (`running`)
    await plan.forecast(asking, answers, run)        what that will cost (`estimating`)
    await run.go()
    table = await plan.table(answers)                answers beside their scores
    compare(table, plan.about(...), plan.known())    what they say (`comparing`)
    keep(folder, comparison, table)                  its report, and the table as outcomes

Not here: how a report looks (`reports`), words between the steps (the command).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
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
from daulat.evaluate.estimating import Forecast, forecast
from daulat.evaluate.examples import Example, Task
from daulat.evaluate.metrics.score import Score, Scorer
from daulat.evaluate.running import Ended, How, Run, in_order, jobs
from daulat.evaluate.tasks import COMPARISONS, IMPORTED, OUTCOMES
from daulat.route.learning.outcomes import Outcomes, read, write
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
class Plan:
    """A comparison that can be run.

    Attributes:
        id: 12 hexadecimal digits; the same for the same task, endpoints and ways of asking: begun again, it
            goes on.
        examples: those that are asked, in their order.
        answering: the endpoints that are asked; the others' answers are `imported`.
    """

    id: str
    request: Request
    examples: tuple[Example, ...]
    answering: Mapping[str, Answering]
    imported: Outcomes | None

    def run(
        self, asking: Asking, answers: Answers, on: Callable[[str], None] = lambda _name: None
    ) -> Run:
        """What is to be asked still."""
        how = replace(self.request.how, endpoints=tuple(self.answering))
        return Run(asking, answers, self.examples, how, self.answering, on)

    async def forecast(self, asking: Asking, answers: Answers, run: Run) -> tuple[Forecast, ...]:
        """What asking will cost."""
        how = self.request.how
        return await forecast(
            asking, self.answering, run.questions(), answers.all(), how.max_tokens
        )

    async def table(self, answers: Answers, on: OnScore = lambda _done, _all: None) -> Table:
        """Answers beside their scores.

        Raises:
            RequestError: the metric cannot judge an example.
        """
        given = {example.id: self._asked(example, answers) for example in self.examples}
        kept = self._imported()
        names = self.request.how.endpoints
        cells = tuple(
            tuple(given[e.id].get(name) or kept.get((e.id, name), Cell()) for name in names)
            for e in self.examples
        )
        table = Table(names, self.examples, cells)
        chosen = self.request.task.metric
        if not chosen.name:
            return table
        return await _scored(table, metrics.scorer(chosen), metrics.metric(chosen.name).slow, on)

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
    how = asdict(request.how)
    told = {
        "task": task.digest,
        "imported": imported.digest() if imported else None,
        "metric": [task.metric.name, dict(task.metric.options)],
        "endpoints": [[n, list(answering[n].identity) if n in answering else []] for n in names],
        "how": {n: how[n] for n in how if n not in ("endpoints", "concurrency", "since")},
    }
    drawn = in_order(request.examples, request.how.seed, request.limit)
    own = digest(canonical(told)).removeprefix("sha256:")[:12]
    return Plan(own, request, tuple(drawn), answering, imported)


def keep(folder: Path, comparison: Comparison, table: Table, language: str = "en") -> reports.Paths:
    """Write the report, in a language, and the outcomes that routers and certificates are made of."""
    target = folder / COMPARISONS / comparison.about.id
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    paths = reports.write(comparison, target, language)
    found = outcomes(table)
    if len(found):
        write(found, folder / OUTCOMES)
    return paths


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
    )
    return Cell(
        answer,
        None if isnan(score) else Score(score),
        table.samples[row][column],
    )


def _known(value: float) -> float | None:
    return None if isnan(value) else value
