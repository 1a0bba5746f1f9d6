"""A real house before a scripted upstream, and a comparison in it, step by step as the command does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from daulat.endpoints.scripted import Upstream
from daulat.evaluate.answers import Answers
from daulat.evaluate.comparing import Comparison, Table, compare
from daulat.evaluate.conducting import Plan, Request, keep, planned
from daulat.evaluate.examples import Chosen, Example, Task
from daulat.evaluate.running import Ended, How, Run
from daulat.evaluate.tasks import ANSWERS, Tasks
from daulat.house import House, open_house
from daulat.house.asking import HouseAsking, caller
from daulat.record import statistics
from daulat.settings import load
from daulat.values.request import Message

PRICES = '{ input = "2.5", output = "10" }'


def examples(count: int, text: str = "Say yes to question {}.", **more: Any) -> list[Example]:
    return [
        Example(str(i), (Message("user", text.format(i)),), ("yes",), **more) for i in range(count)
    ]


def settings(
    home: Path, upstream: Upstream, models: list[str], policy: str = "", more: str = ""
) -> None:
    """One endpoint, `up`, with these models at one price."""
    home.mkdir(exist_ok=True, mode=0o700)
    prices = "\n".join(f'"{model}" = {PRICES}' for model in models)
    (home / "daulat.toml").write_text(
        f"""
[policy.classes.internal]
places = ["us"]
{policy}
[endpoints.up]
kind = "compatible"
url = "{upstream.url}/v1"
key = "env:SCRIPTED_KEY"
place = "us"
models = {models!r}
retries = 0
{more}
[endpoints.up.prices]
{prices}
""".replace("'", '"'),
        encoding="utf-8",
    )


@dataclass
class Bench:
    """A house with one task in it."""

    house: House
    tasks: Tasks
    task: Task
    plans: list[Plan] = field(default_factory=list[Plan])

    @property
    def folder(self) -> Path:
        return self.tasks.folder(self.task.name)

    async def plan(self, how: How, limit: int | None = None) -> Plan:
        request = Request(self.task, self.tasks.examples(self.task.name), how, limit)
        asking = HouseAsking(self.house, caller("compare-plan"))
        return await planned(asking, self.folder, request)

    def asking(self, plan: Plan, budget: int | None = None) -> HouseAsking:
        return HouseAsking(self.house, caller(f"compare-{plan.id}", budget=budget))

    async def run(
        self, *endpoints: str, budget: int | None = None, limit: int | None = None, **how: Any
    ) -> Ran:
        """Ask, as often as it is called."""
        wanted = How(endpoints, **{"max_tokens": 20, **how})
        plan = await self.plan(wanted, limit)
        with Answers(self.folder / ANSWERS) as answers:
            run = plan.run(self.asking(plan, budget), answers)
            asked = len(list(run.questions()))
            ended = await run.go()
            table = await plan.table(answers)
        comparison = compare(table, plan.about("USD", ended), plan.known())
        keep(self.folder, comparison, table)
        return Ran(plan, run, ended, table, comparison, asked, self.spent(plan))

    def spent(self, plan: Plan) -> int:
        with self.house.record.reading() as connection:
            return statistics.so_far(connection, f"key:compare-{plan.id}", "all")[0]


@dataclass
class Ran:
    """`asked`: questions that were open when it began; `spent`: what the books say, in amounts."""

    plan: Plan
    run: Run
    ended: Ended
    table: Table
    comparison: Comparison
    asked: int
    spent: int


@asynccontextmanager
async def bench(
    home: Path, made: list[Example], metric: Chosen | None = None
) -> AsyncGenerator[Bench]:
    chosen = load(home)
    tasks = Tasks(home)
    task = Task("t", "2026-01-01T00:00:00Z", {"file": "x"}, {}, metric or Chosen("exact"), 0, "")
    kept = tasks.add(task, made, replacing=True)
    async with open_house(chosen) as house:
        yield Bench(house, tasks, replace(kept))
