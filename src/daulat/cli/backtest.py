"""`daulat route backtest`: what rules would have cost and delivered, on outcomes or on recorded traffic.

Not here: replaying (`route.learning.backtest`, `evaluate.replaying`), how it is shown (`routed`, `replays`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import common, opened_record, settings
from daulat.cli.wanted import check_class, check_none, of_record, wanted
from daulat.cli.words import _
from daulat.errors import CertificateError

if TYPE_CHECKING:
    from daulat.evaluate.following import Followed
    from daulat.route.learning.features import Encode
    from daulat.route.learning.outcomes import Outcomes
    from daulat.route.learning.router import Router
    from daulat.route.learning.rules import Rule
    from daulat.settings import Settings

_SETTINGS = (0.1, 0.2, 0.3, 0.5, 0.7)


@click.command(
    help=_(
        "Replay rules over TASK, a task with outcomes or an outcome file (docs/outcomes.md), or over recorded "
        "traffic: what they would have cost and delivered. Traffic has real costs, and no scores but those "
        "of audits."
    ),
)
@click.argument("task", required=False)
@of_record
@click.option(
    "--data-class",
    metavar=_("CLASS"),
    default="",
    help=_("Of the record: only exchanges of that class."),
)
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
def backtest(task: str | None, from_record: bool, as_json: bool, rest: bool, **given: Any) -> None:
    if (task is None) != from_record:
        raise click.UsageError(_("Give a task or --from-record."))
    if task is None:
        if rest or given["against"]:
            raise click.UsageError(_("--rest and --against go with a task's outcomes."))
        _over_traffic(settings(), as_json, given)
        return
    check_none(given)
    if given["data_class"]:
        raise click.UsageError(_("--data-class goes with --from-record."))
    _over_outcomes(settings(), task, rest, as_json, given)


def _over_outcomes(
    chosen: Settings, task: str, rest: bool, as_json: bool, given: dict[str, Any]
) -> None:
    from daulat.cli import routed
    from daulat.route.learning import shelf
    from daulat.route.learning.backtest import curved, replay
    from daulat.route.learning.rules import Routed

    _named, outcomes = shelf.table(chosen.home, task)
    router, rules = _asked(chosen, given)
    certified = bool(given["certificate"])
    outcomes = _unused(outcomes, rules[0], rest) if certified else _replayed(outcomes, router, rest)
    against = given["against"] or _dearest(outcomes, router)
    found = [replay(outcomes, rule, against) for rule in _beside(rules, outcomes.endpoints)]
    dial = next((rule for rule in rules if isinstance(rule, Routed)), None)
    whole = curved(outcomes, dial) if dial is not None else None
    if as_json:
        say.as_json(routed.replays_as_plain(found, whole))
    else:
        routed.show_replays(found, whole, chosen.money.currency)


def _over_traffic(chosen: Settings, as_json: bool, given: dict[str, Any]) -> None:
    from daulat.cli import replays
    from daulat.evaluate.replaying import Replaying
    from daulat.evaluate.traffic import traffic
    from daulat.house.directory import directory

    check_class(chosen, given["data_class"])
    _router, rules = _asked(chosen, given)
    currency = chosen.money.currency
    with opened_record() as record, say.working() as tell:
        which = wanted(record, given)
        found = traffic(
            record, which, currency, lambda looked: tell(_("Reading the record"), looked, 0)
        )
        replaying = Replaying(found, directory(chosen))
        every = _beside(rules, replaying.alone(rules))
        rows = [replaying.then()]
        for done, rule in enumerate(every):
            tell(_("Replaying"), done, len(every))
            rows.append(replaying.replay(rule))
    if as_json:
        say.as_json(replays.as_plain(found, rows, currency))
    else:
        replays.show(found, rows, currency)


def _asked(chosen: Settings, given: dict[str, Any]) -> tuple[Router | None, list[Rule]]:
    """The rules that were asked for, a certificate the first, and the router that they go by."""
    from daulat.route.learning import shelf

    if given["certificate"]:
        followed = _certified(chosen, given)
        return followed.router, [followed, *_rules(chosen, None, given)]
    router = shelf.load(chosen.home, given["router"]) if given["router"] else None
    return router, _rules(chosen, router, given)


def _certified(chosen: Settings, given: dict[str, Any]) -> Followed:
    """A certificate as a rule; one that does not stand is replayed with a warning."""
    from daulat.evaluate.certificates import Certificates
    from daulat.evaluate.following import Followed
    from daulat.evaluate.standing import look

    if given["router"]:
        raise click.UsageError(_("Give --router or --certificate, and not both."))
    found = look(Certificates(chosen.home), given["certificate"], chosen)
    if found.certificate is None or found.router is None:
        raise CertificateError(" ".join(found.void))
    for why in found.void:
        say.warn(why)
    return Followed(found.certificate, found.router, encode(chosen, found.router.encoder))


def _unused(outcomes: Outcomes, followed: Rule, rest: bool) -> Outcomes:
    """What is replayed; a certificate's own examples flatter it."""
    from daulat.evaluate.following import Followed, not_used

    assert isinstance(followed, Followed)  # noqa: S101 - narrows the type
    left = not_used(outcomes, followed.certificate)
    if not rest and len(left) < len(outcomes):
        say.warn(
            _(
                "The certificate was made from {count} of these examples. --rest leaves them out."
            ).format(count=len(outcomes) - len(left))
        )
    return left if rest else outcomes


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
        encodes = encode(chosen, router.encoder)
        found += [rules.Routed(router, level, encodes) for level in _levels(router, given)]
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


def _beside(rules: Sequence[Rule], endpoints: Sequence[str]) -> list[Rule]:
    """The rules, and every endpoint alone beside them."""
    from daulat.route.learning.rules import Always

    alone = [Always(name) for name in endpoints]
    there = {rule.name for rule in rules}
    return [*(one for one in alone if one.name not in there), *rules]


def encode(chosen: Settings, model: str) -> Encode | None:
    if not model:
        return None
    from daulat.endpoints.encoding import encoder
    from daulat.errors import NotFoundError
    from daulat.models.catalogue import Catalogue

    entry = Catalogue(chosen.home).get(model)
    if entry is None:
        raise NotFoundError(f"There is no model {model[:80]!r}: `daulat models pull {model[:80]}`.")
    return encoder(entry, chosen.engine.threads or 1)
