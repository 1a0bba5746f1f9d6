"""`daulat route`: routers fitted on outcomes.

Not here: fitting (`route.learning`), what rules would have done (`backtest`), how it is shown (`routed`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.backtest import backtest, encode
from daulat.cli.shell import OrderedGroup, common, settings
from daulat.cli.standing import status
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.route.learning.features import Mode
    from daulat.route.learning.outcomes import Outcomes
    from daulat.route.learning.router import Router
    from daulat.settings import Settings

_SEED = click.IntRange(0, 2**31 - 1)


@click.group(
    cls=OrderedGroup,
    help=_("Routers: how much of the dear endpoint a task needs, learnt from outcomes."),
)
@common
def route() -> None:
    pass


route.add_command(status)


@route.command(
    "fit",
    help=_(
        "Fit a router on TASK: a task with outcomes (`daulat compare`), or an outcome file (docs/outcomes.md)."
    ),
)
@click.argument("task")
@click.option(
    "--mode",
    type=click.Choice(["before", "cascade", "both"]),
    help=_(
        "before: choose from the prompt alone. cascade: the cheapest endpoint answers first, its answer is "
        "kept or not. both: fit both, keep the better. [default: cascade where its answers are known]"
    ),
)
@click.option("--open", "cheap", metavar=_("NAME"), help=_("The open endpoint of two."))
@click.option("--closed", "dear", metavar=_("NAME"), help=_("The closed endpoint of two."))
@click.option(
    "--endpoints",
    metavar="A,B,C",
    default="",
    help=_("Endpoints to choose from, from cheap to dear. [default: all, by their mean cost]"),
)
@click.option(
    "--labels",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar=_("NUMBER"),
    help=_("Learn from so many examples, drawn by the seed. [default: all, at most 6,000]"),
)
@click.option(
    "--seed", type=_SEED, default=0, show_default=True, metavar=_("NUMBER"), help=_("Of all lots.")
)
@click.option(
    "--encoder",
    metavar=_("MODEL"),
    default="",
    help=_("An embedding model of this machine, whose vectors of prompts count as well. Slower."),
)
@click.option("--name", metavar=_("NAME"), help=_("Of the router. [default: the task's]"))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def fit(task: str, mode: str | None, as_json: bool, **given: Any) -> None:
    from daulat.cli import routed
    from daulat.route.learning import shelf

    chosen = settings(prepare=True)
    named, outcomes = shelf.table(chosen.home, task)
    fitted = [_fitted(chosen, outcomes, one, given) for one in _modes(outcomes, mode, given)]
    best = max(fitted, key=lambda router: router.earned() if router.curve else 0.0)
    name = given["name"] or named
    path = shelf.save(chosen.home, name, best)
    if as_json:
        say.as_json(routed.as_plain(name, best))
        return
    for router in fitted:
        routed.show(name, router, kept=router is best)
    say.note(_("It is kept in {path}.").format(path=path))
    if best.fitted_on.labels < best.fitted_on.examples:
        say.note(
            _(
                "`daulat route backtest {task} --router {name} --rest` replays it over what it has not seen."
            ).format(task=task, name=name)
        )


def _modes(outcomes: Outcomes, mode: str | None, given: dict[str, Any]) -> Sequence[Mode]:
    from daulat.route.learning.fitting import usable

    if mode == "both":
        return ("before", "cascade")
    if mode == "before":
        return ("before",)
    if mode == "cascade":
        return ("cascade",)
    table = usable(outcomes, _endpoints(given))
    known = any(row[0] is not None for row in table.answers)
    return ("cascade",) if known else ("before",)


def _fitted(chosen: Settings, outcomes: Outcomes, mode: Mode, given: dict[str, Any]) -> Router:
    from daulat.route.learning.fitting import fit as fit_router

    with _steps() as tell:
        return fit_router(
            outcomes,
            mode,
            endpoints=_endpoints(given),
            labels=given["labels"],
            seed=given["seed"],
            encode=encode(chosen, given["encoder"]),
            encoder=given["encoder"],
            tell=tell,
        )


def _endpoints(given: dict[str, Any]) -> tuple[str, ...]:
    pair = (given["cheap"], given["dear"])
    several = tuple(part.strip() for part in given["endpoints"].split(",") if part.strip())
    if any(pair) and (several or not all(pair)):
        raise click.UsageError(_("Give --open and --closed together, or --endpoints."))
    return tuple(map(str, pair)) if all(pair) else several


@contextlib.contextmanager
def _steps() -> Generator[Callable[[str, int, int], None], None, None]:
    """A line on standard error that says how far fitting is; silent where no terminal is."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    words = {
        "features": _("Reading the examples"),
        "cross-validation": _("Cross-validation"),
        "last fit": _("Fitting on all examples"),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=words[what], completed=done, total=total
        )


@route.command("show", help=_("The routers of this home, or one of them."))
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show(name: str | None, as_json: bool) -> None:
    from daulat.cli import routed
    from daulat.route.learning import shelf

    home = settings().home
    names = [name] if name else shelf.routers(home)
    found = [(one, shelf.load(home, one)) for one in names]
    if as_json:
        plain = [routed.as_plain(*one) for one in found]
        say.as_json(plain[0] if name else plain)
    elif name:
        routed.show(name, found[0][1])
    elif found:
        routed.show_all(found)
    else:
        say.note(_("There are no routers. `daulat route fit TASK` makes one."))


route.add_command(backtest)
