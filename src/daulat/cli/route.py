"""`daulat route`: routers fitted on outcomes, what they would have cost and delivered.

Not here: fitting and replaying (`route.learning`), how it is shown (`routed`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, settings
from daulat.cli.standing import status
from daulat.cli.words import _
from daulat.errors import CertificateError

if TYPE_CHECKING:
    from daulat.evaluate.following import Followed
    from daulat.route.learning.features import Encode, Mode
    from daulat.route.learning.outcomes import Outcomes
    from daulat.route.learning.router import Router
    from daulat.route.learning.rules import Rule
    from daulat.settings import Settings

_SETTINGS = (0.1, 0.2, 0.3, 0.5, 0.7)
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
            encode=_encode(chosen, given["encoder"]),
            encoder=given["encoder"],
            tell=tell,
        )


def _endpoints(given: dict[str, Any]) -> tuple[str, ...]:
    pair = (given["cheap"], given["dear"])
    several = tuple(part.strip() for part in given["endpoints"].split(",") if part.strip())
    if any(pair) and (several or not all(pair)):
        raise click.UsageError(_("Give --open and --closed together, or --endpoints."))
    return tuple(map(str, pair)) if all(pair) else several


def _encode(chosen: Settings, model: str) -> Encode | None:
    if not model:
        return None
    from daulat.endpoints.encoding import encoder
    from daulat.errors import NotFoundError
    from daulat.models.catalogue import Catalogue

    entry = Catalogue(chosen.home).get(model)
    if entry is None:
        raise NotFoundError(f"There is no model {model[:80]!r}: `daulat models pull {model[:80]}`.")
    return encoder(entry, chosen.engine.threads or 1)


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


@route.command(
    "backtest",
    help=_(
        "Replay rules over TASK, a task with outcomes or an outcome file (docs/outcomes.md): what they would "
        "have cost and delivered. The record's own exchanges have no scores: they cannot be replayed before "
        "`daulat compare` has made outcomes of them."
    ),
)
@click.argument("task")
@click.option(
    "--router",
    metavar=_("NAME"),
    help=_("A router: its name or its file. Its figures, and what some settings would do."),
)
@click.option(
    "--at",
    "levels",
    multiple=True,
    type=click.FloatRange(0, 1),
    metavar=_("LEVEL"),
    help=_(
        "Setting of its dial, from 0 (cheapest) to 1 (dearest); may be repeated. [default: 0.1, 0.2, 0.3, "
        "0.5, 0.7]"
    ),
)
@click.option(
    "--keep",
    "parts",
    multiple=True,
    type=click.FloatRange(0, 1),
    metavar=_("PART"),
    help=_(
        "The setting that kept this part of the dearest endpoint's quality when it was fitted; may be repeated."
    ),
)
@click.option(
    "--certificate",
    metavar=_("NAME"),
    help=_("A certificate (`daulat certify`): its router at its threshold."),
)
@click.option(
    "--rest",
    is_flag=True,
    help=_("Only over examples that the router, or the certificate, was not made from."),
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar=_("FILE"),
    help=_("A file of rules (docs/outcomes.md)."),
)
@click.option(
    "--rule",
    "written",
    multiple=True,
    metavar=_("RULE"),
    help=_("always:ENDPOINT or random:CHEAP:DEAR:SHARE; may be repeated."),
)
@click.option(
    "--against",
    metavar=_("ENDPOINT"),
    help=_("What it is compared with. [default: the dearest, or the best]"),
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def backtest(task: str, as_json: bool, rest: bool, **given: Any) -> None:
    from daulat.cli import routed
    from daulat.route.learning import shelf
    from daulat.route.learning.backtest import curved, replay
    from daulat.route.learning.rules import Routed

    chosen = settings()
    _named, outcomes = shelf.table(chosen.home, task)
    if given["certificate"]:
        outcomes, followed = _certified(chosen, outcomes, rest, given)
        router, rules = followed.router, [followed, *_rules(chosen, None, given)]
    else:
        router = shelf.load(chosen.home, given["router"]) if given["router"] else None
        outcomes = _replayed(outcomes, router, rest)
        rules = _rules(chosen, router, given)
    against = given["against"] or _dearest(outcomes, router)
    found = [replay(outcomes, rule, against) for rule in _beside(rules, outcomes)]
    dial = next((rule for rule in rules if isinstance(rule, Routed)), None)
    whole = curved(outcomes, dial) if dial is not None else None
    if as_json:
        say.as_json(routed.replays_as_plain(found, whole))
    else:
        routed.show_replays(found, whole, chosen.money.currency)


def _certified(
    chosen: Settings, outcomes: Outcomes, rest: bool, given: dict[str, Any]
) -> tuple[Outcomes, Followed]:
    """What is replayed, and the rule; a certificate that does not stand is replayed with a warning."""
    from daulat.evaluate.certificates import Certificates
    from daulat.evaluate.following import Followed, not_used
    from daulat.evaluate.standing import look

    if given["router"]:
        raise click.UsageError(_("Give --router or --certificate, and not both."))
    found = look(Certificates(chosen.home), given["certificate"], chosen)
    if found.certificate is None or found.router is None:
        raise CertificateError(" ".join(found.void))
    for why in found.void:
        say.warn(why)
    left = not_used(outcomes, found.certificate)
    if not rest and len(left) < len(outcomes):
        say.warn(
            _(
                "The certificate was made from {count} of these examples. --rest leaves them out."
            ).format(count=len(outcomes) - len(left))
        )
    followed = Followed(found.certificate, found.router, _encode(chosen, found.router.encoder))
    return (left if rest else outcomes), followed


def _replayed(outcomes: Outcomes, router: Router | None, rest: bool) -> Outcomes:
    """What is replayed; a router's own examples flatter it."""
    from daulat.route.learning.fitting import not_seen

    if router is None:
        if rest:
            raise click.UsageError(_("--rest needs --router or --certificate."))
        return outcomes
    left = not_seen(outcomes, router)
    if rest and len(left) == 0:
        raise click.UsageError(
            _(
                "The router was fitted on all of these examples, or on copies of them. Fit it on some of them "
                "(--labels), or replay another file."
            )
        )
    if rest:
        return left
    if len(left) < len(outcomes):
        say.warn(
            _(
                "The router was fitted on {count} of these examples, and looks better on them than it is. "
                "--rest leaves them out."
            ).format(count=len(outcomes) - len(left))
        )
    return outcomes


def _rules(chosen: Settings, router: Router | None, given: dict[str, Any]) -> list[Rule]:
    from daulat.route.learning import rules, shelf

    found: list[Rule] = [rules.parse(text) for text in given["written"]]
    if router is not None:
        encode = _encode(chosen, router.encoder)
        found += [rules.Routed(router, level, encode) for level in _levels(router, given)]
    elif given["levels"] or given["parts"]:
        raise click.UsageError(_("--at and --keep need --router."))
    if given["policy"] is not None:

        def find(name: str) -> Router:
            return shelf.load(chosen.home, name)

        found.append(rules.read_rules(given["policy"], find))
    return found


def _levels(router: Router, given: dict[str, Any]) -> list[float]:
    import math

    kept = [(part, router.level_keeping(part)) for part in given["parts"]]
    for part, level in kept:
        if math.isnan(level):
            raise click.UsageError(
                _("No setting of this router kept {part:.0%} when it was fitted.").format(part=part)
            )
    levels = [*given["levels"], *(level for _part, level in kept)]
    return levels or list(_SETTINGS)


def _dearest(outcomes: Outcomes, router: Router | None) -> str:
    from daulat.route.learning.fitting import cheap_to_dear

    if router is not None and router.endpoints[-1] in outcomes.endpoints:
        return router.endpoints[-1]
    return cheap_to_dear(outcomes)[-1]


def _beside(rules: Sequence[Rule], outcomes: Outcomes) -> list[Rule]:
    """The rules, and every endpoint alone beside them."""
    from daulat.route.learning.rules import Always

    alone = [Always(name) for name in outcomes.endpoints]
    there = {rule.name for rule in rules}
    return [*(one for one in alone if one.name not in there), *rules]
