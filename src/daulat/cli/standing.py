"""`daulat route status`: which certificates requests are answered by, and what has become of these.

Not here: how that is found out (`house.service`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import common, opened_record, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.house.service import Service


@click.command(
    "status",
    help=_("Which certificates daulat/auto follows, and what has become of its requests."),
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def status(name: str | None, as_json: bool) -> None:
    from daulat.errors import NotFoundError
    from daulat.house.service import service

    with opened_record() as record:
        found = service(settings(), record)
    if name is not None:
        there = ", ".join(one.served.standing.name for one in found) or _("none")
        found = tuple(one for one in found if one.served.standing.name == name)
        if not found:
            raise NotFoundError(
                f"There is no certificate {name[:80]!r}. There are: {there}. `daulat certify TASK` makes one."
            )
    if as_json:
        say.as_json([_json(one) for one in found])
    elif not found:
        say.note(_("There is no certificate yet. `daulat certify TASK` makes one."))
    else:
        for number, one in enumerate(found):
            click.echo("\n" if number else "", nl=False)
            say.pairs(_told(one))


def _told(one: Service) -> list[tuple[str, str]]:
    paper = one.served.standing.certificate
    told = [(_("Certificate"), one.served.standing.name), (_("Followed"), _followed(one))]
    if paper is None:
        return told
    told += [
        (_("Open"), paper.open.endpoint),
        (_("Closed"), paper.closed.endpoint),
        (_("Certified"), _certified(one)),
        (_("Requests"), _requests(one)),
    ]
    return [*told, (_("Audits"), _audits(one))]


def _followed(one: Service) -> str:
    if one.served.rule is None:
        return _("no: {why}").format(why=one.served.why)
    if one.ended:
        return _("no, the closed endpoint answers: {why}").format(why=one.ended)
    return _("yes, as {name}").format(name=f"daulat/auto/{one.served.standing.name}")


def _certified(one: Service) -> str:
    paper = one.served.standing.certificate
    assert paper is not None  # noqa: S101 - asked before
    told = _("{keep} of the quality with {confidence} confidence, {share} closed")
    return told.format(
        keep=_percent(paper.keep),
        confidence=_percent(paper.confidence),
        share=_percent(paper.closed_share.value),
    )


def _requests(one: Service) -> str:
    told = {
        "kept": _("{count} by the open one"),
        "escalated": _("{count} by the closed one"),
        "outside": _("{count} not of this kind"),
        "void": _("{count} while void"),
        "alone": _("{count} with one of the two missing"),
    }
    parts = [text.format(count=one.ways[way]) for way, text in told.items() if one.ways.get(way, 0)]
    return ", ".join(parts) or _("none yet")


def _audits(one: Service) -> str:
    if one.served.rule is None or one.watch is None:
        return _("none")
    if one.served.rule.loss is None:
        return _("none: the examples had no answers to hold them against")
    told = _("{count}, {differ} differ and {most} may; {evidence} of the evidence for an end")
    drift = one.watch.drift
    text = told.format(
        count=drift.losses,
        differ=_percent(drift.mean),
        most=_percent(one.served.rule.loss),
        evidence=_percent(drift.evidence),
    )
    if not one.watch.unanswered:
        return text
    return text + _("; {count} without an answer").format(count=one.watch.unanswered)


def _json(one: Service) -> dict[str, Any]:
    rule, watch = one.served.rule, one.watch
    paper = one.served.standing.certificate
    return {
        "name": one.served.standing.name,
        "certificate": one.served.standing.digest,
        "followed": rule is not None and not one.ended,
        "why": one.served.why or one.ended,
        "open": paper.open.endpoint if paper else None,
        "closed": paper.closed.endpoint if paper else None,
        "keep": paper.keep if paper else None,
        "confidence": paper.confidence if paper else None,
        "closed_share": paper.closed_share.value if paper else None,
        "requests": dict(one.ways),
        "audits": None
        if watch is None or rule is None
        else {
            "looked_at": watch.drift.losses,
            "unanswered": watch.unanswered,
            "differ": watch.drift.mean,
            "may_differ": rule.loss,
            "evidence": watch.drift.evidence,
        },
    }


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.3g} %"
