"""`daulat certify` and `daulat certificate`: how little of the closed endpoint a promise of quality needs.

Not here: how certificates are made (`evaluate.certifying`), signed and kept.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, session, settings
from daulat.cli.words import _
from daulat.errors import CertificateError, RequestError

if TYPE_CHECKING:
    from daulat.evaluate.certificates import Signed
    from daulat.evaluate.certifying import Certified, Demand
    from daulat.evaluate.standing import Standing
    from daulat.route.certificate import Measured, Mode, Reason
    from daulat.route.learning.outcomes import Outcomes

NO = 3
"""The exit code where all went well and the answer is no."""


@click.command(
    "certify",
    help=_("Use as little of a closed endpoint as keeps its quality, and prove it."),
    epilog=_(
        "TASK is a task that was compared, or a file of outcomes (docs/outcomes.md). A part of the examples "
        "fits a router, the others show how many requests may stay with the open endpoint. The result is "
        "signed. Exit code 3: the goal could not be certified."
    ),
)
@click.argument("task", metavar="TASK")
@click.option(
    "--keep",
    default=0.95,
    show_default=True,
    metavar=_("SHARE"),
    help=_("The share of the closed endpoint's quality to keep."),
)
@click.option(
    "--confidence",
    default=0.95,
    show_default=True,
    metavar=_("SHARE"),
    help=_("How sure that is to be."),
)
@click.option(
    "--open",
    "open_",
    default="",
    metavar=_("NAME"),
    help=_("The open endpoint. [default: the cheapest]"),
)
@click.option(
    "--closed", default="", metavar=_("NAME"), help=_("The closed one. [default: the dearest]")
)
@click.option(
    "--labels",
    type=click.IntRange(min=1),
    metavar=_("NUMBER"),
    help=_("Learn and test on so many scored examples at most; the others audit. [default: all]"),
)
@click.option(
    "--audit",
    default=0.1,
    show_default=True,
    metavar=_("SHARE"),
    help=_("Without --labels: the share of the scored examples that audits."),
)
@click.option(
    "--mode",
    type=click.Choice(["before", "cascade"]),
    help=_(
        "Choose from the prompt alone, or once the open endpoint has answered. "
        "[default: cascade where its answers are known]"
    ),
)
@click.option(
    "--seed", default=0, show_default=True, metavar=_("NUMBER"), help=_("Of all that is drawn.")
)
@click.option(
    "--name",
    default="",
    metavar=_("NAME"),
    help=_("What the certificate is called. [default: as TASK]"),
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
@click.pass_context
def certify(
    context: click.Context,
    task: str,
    keep: float,
    confidence: float,
    open_: str,
    closed: str,
    labels: int | None,
    audit: float,
    mode: Mode | None,
    seed: int,
    name: str,
    as_json: bool,
) -> None:
    from daulat.evaluate.certificates import Certificates, signed
    from daulat.evaluate.certifying import Demand, make
    from daulat.evaluate.routers import Learnt, fitter
    from daulat.evaluate.windows import window
    from daulat.trust.signing import house_key

    chosen = settings(prepare=True)
    outcomes, where = window(chosen, task, name)
    pair = _pair(outcomes, open_, closed)
    demand = Demand(*pair, keep, confidence, labels, audit, seed)
    way = mode or _mode(outcomes, demand.open)
    with say.working() as tell:
        found = make(outcomes, demand, fitter(way, tell=tell), where)
    path = None
    one = None
    if found.certificate is not None:
        one = signed(found.certificate, house_key(chosen.home))
        assert isinstance(found.router, Learnt)  # noqa: S101 - what the fitter makes
        path = Certificates(chosen.home).put(one, found.router.router)
    if as_json:
        say.as_json(_json(found, demand, way, one))
    else:
        _say(found, demand, one, path)
    if one is None:
        context.exit(NO)


@click.group(
    cls=OrderedGroup, help=_("Certificates: how much of a closed endpoint's quality is kept.")
)
@common
def certificate() -> None:
    pass


@certificate.command("list", help=_("Which certificates there are."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_certificates(as_json: bool) -> None:
    from daulat.evaluate.standing import standing

    found = standing(settings())
    if as_json:
        say.as_json([_listed(one) for one in found])
        return
    if not found:
        say.note(_("There are no certificates. `daulat certify TASK` makes one."))
        return
    rows = [_row(one) for one in found]
    heads = (_("Certificate"), _("Task"), _("Open"), _("Closed"), _("Keeps"), _("Closed share"))
    say.table((*heads, _("Made"), _("Status")), rows, right=(4, 5))


@certificate.command(
    "show", help=_("What a certificate says. NAME is one of the home's, or a file.")
)
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show_certificate(name: str, as_json: bool) -> None:
    one = _found(name)
    if as_json:
        say.as_json(one.as_dict())
        return
    say.pairs(_details(one))


@certificate.command(
    "verify",
    help=_(
        "Check a signature, and whether the certificate still stands. NAME is one of the home's, or a file."
    ),
    epilog=_("Exit code 3: it is void. 1: it is not a certificate, or not signed by that key."),
)
@click.argument("name", metavar="NAME")
@click.option(
    "--key",
    default="",
    metavar=_("ID"),
    help=_("Whose signature it has to be. [default: this house's]"),
)
@click.option(
    "--outcomes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar=_("FILE"),
    help=_("The outcomes that it must have been made from."),
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
@click.pass_context
def verify_certificate(
    context: click.Context, name: str, key: str, outcomes: Path | None, as_json: bool
) -> None:
    from daulat.trust.signing import known_key

    one = _found(name)
    one.verify()
    wanted = key or known_key(session().folder())
    if one.signature.key != wanted:
        raise CertificateError(
            f"The signature fits, and it is by the key {one.signature.key}, not by "
            f"{wanted or 'this house, which has no key yet'}. If that is the key of whoever you rely on, say "
            f"so: --key {one.signature.key}."
        )
    reasons = _changed(name, one, outcomes)
    if as_json:
        say.as_json(
            {
                "signature": "good",
                "key": one.signature.key,
                "stands": not reasons,
                "void": [asdict(reason) for reason in reasons],
            }
        )
    else:
        _say_state(one, reasons)
    if reasons:
        context.exit(NO)


# --- what is asked for -------------------------------------------------------------------------------------


def _pair(outcomes: Outcomes, open_: str, closed: str) -> tuple[str, str]:
    """Those that are named, else the cheapest and the dearest of the others."""
    from daulat.route.learning.fitting import cheap_to_dear

    for name in filter(None, (open_, closed)):
        outcomes.column(name)
    others = [one for one in cheap_to_dear(outcomes) if one not in (open_, closed)]
    if len(others) + bool(open_) + bool(closed) < 2:
        raise RequestError(
            "A certificate is about two endpoints, an open and a closed one: give outcomes of both."
        )
    return open_ or others[0], closed or others[-1]


def _mode(outcomes: Outcomes, open_: str) -> Mode:
    column = outcomes.column(open_)
    known = sum(row[column] is not None for row in outcomes.answers)
    return "cascade" if known == len(outcomes) else "before"


def _found(name: str) -> Signed:
    from daulat.evaluate.certificates import Certificates, read
    from daulat.values.names import is_name

    if is_name(name) and name in (kept := Certificates(session().folder())).names():
        return kept.get(name)
    path = Path(name).expanduser()
    return read(path) if path.is_file() else Certificates(session().folder()).get(name)


def _changed(name: str, one: Signed, outcomes: Path | None) -> tuple[Reason, ...]:
    """Held against this home's router, task and models, and the outcomes that are named."""
    from daulat.evaluate.certificates import Certificates
    from daulat.evaluate.standing import changes
    from daulat.route.certificate import Reason
    from daulat.route.learning.outcomes import read

    chosen, paper = settings(), one.certificate
    kept = Certificates(chosen.home)
    data = ""
    if outcomes is not None:
        data = read(outcomes).only((paper.open.endpoint, paper.closed.endpoint)).digest()
    # The router of a certificate that came as a file is not expected here.
    router = kept.router(name) if name in kept.names() else None
    gone = (Reason("router", paper.router, ""),) if router is None and name in kept.names() else ()
    return gone + changes(paper, router, chosen, data)


# --- what is said ------------------------------------------------------------------------------------------


def _say(found: Certified, demand: Demand, one: Signed | None, path: Path | None) -> None:
    if one is None:
        _say_not(found, demand)
        return
    paper = one.certificate
    click.echo(
        _(
            "Certified: with {confidence} confidence, at least {keep} of {closed}'s quality is kept, while it "
            "answers about {share} of the requests."
        ).format(
            confidence=_percent(paper.confidence),
            keep=_percent(paper.keep),
            closed=say.plain(paper.closed.endpoint),
            share=_percent(paper.closed_share.value),
        )
    )
    click.echo()
    say.pairs(
        [
            (_("Open, {name}").format(name=paper.open.endpoint), _percent(found.open_quality)),
            (
                _("Closed, {name}").format(name=paper.closed.endpoint),
                _percent(found.closed_quality),
            ),
            *_details(one),
        ]
    )
    _say_forecast(found, demand)
    say.note(_("Written to {path}.").format(path=path))


def _say_not(found: Certified, demand: Demand) -> None:
    from daulat.evaluate.thresholds import FIRST

    click.echo(
        _(
            "Not certified: these examples do not show that {keep} of {closed}'s quality is kept if {open} "
            "answers anything at all."
        ).format(
            keep=_percent(demand.keep), closed=say.plain(demand.closed), open=say.plain(demand.open)
        )
    )
    verdict = found.verdict
    if verdict.instead:
        click.echo(
            _(
                "What they show with {confidence} confidence: {kept} is kept where {open} answers {share}."
            ).format(
                confidence=_percent(demand.confidence),
                kept=_percent(verdict.instead),
                open=say.plain(demand.open),
                share=_percent(1 - FIRST),
            )
        )
    needed = found.forecast.needed
    if needed is None:
        click.echo(
            _(
                "As far as these examples tell, no number of labels would show it: improve the open model, or "
                "keep less (--keep)."
            )
        )
        return
    labels = round(needed * found.labels)
    click.echo(
        _("The goal needs about {count} more labels.").format(count=max(1, labels - found.labels))
    )


def _say_forecast(found: Certified, demand: Demand) -> None:
    now = found.forecast.shares[0][1]
    better = [(times, share) for times, share in found.forecast.shares[1:] if share < now - 0.01]
    if not better:
        return
    told = ", ".join(
        _("{share} with {count} labels").format(share=_percent(share), count=times * found.labels)
        for times, share in better
    )
    say.note(_("More labels would lower the closed share, to about: {told}.").format(told=told))


def _details(one: Signed) -> list[tuple[str, str]]:
    paper = one.certificate
    return [
        (_("Certificate"), paper.name),
        (_("Task"), paper.task),
        (_("Open"), _identity(paper.open)),
        (_("Closed"), _identity(paper.closed)),
        (_("Keeps"), _("at least {share}").format(share=_percent(paper.keep))),
        (_("Confidence"), _percent(paper.confidence)),
        (_("Closed share"), _figure(paper.closed_share)),
        (_("Cost saved"), _figure(paper.saved)),
        (_("Quality kept"), _figure(paper.kept)),
        (_("Chosen"), _chosen(paper.mode)),
        (_("Threshold"), _threshold(paper.threshold)),
        (
            _("Examples"),
            _("{train} to learn, {calibrate} to test, {audit} to audit, {aside} set aside").format(
                train=paper.train,
                calibrate=paper.calibrate,
                audit=paper.audit,
                aside=paper.set_aside,
            ),
        ),
        (_("Method"), f"{paper.method} ({paper.tested})"),
        (_("Router"), paper.router),
        (_("Data"), paper.data_digest),
        (_("Seed"), str(paper.seed)),
        (_("Made"), f"{paper.made} ({paper.program})"),
        (_("Signed by"), one.signature.key),
    ]


def _say_state(one: Signed, reasons: tuple[Reason, ...]) -> None:
    click.echo(_("The signature is good: {key}.").format(key=one.signature.key))
    if not reasons:
        click.echo(_("The certificate stands, as far as can be seen from here."))
        return
    click.echo(_("The certificate is void. Certify again. What has changed:"))
    say.table(
        (_("What"), _("Was"), _("Is")),
        [(reason.what, reason.was, reason.now or _("gone")) for reason in reasons],
    )


def _listed(one: Standing) -> dict[str, Any]:
    paper = None if one.certificate is None else one.certificate.as_dict()
    return {
        "name": one.name,
        "digest": one.digest,
        "stands": not one.void,
        "void": list(one.void),
        "certificate": paper,
    }


def _row(one: Standing) -> tuple[str, ...]:
    paper, state = one.certificate, _("void: {why}").format(why=" ".join(one.void))
    if paper is None:
        return (one.name, "", "", "", "", "", "", state)
    return (
        one.name,
        paper.task,
        paper.open.endpoint,
        paper.closed.endpoint,
        _percent(paper.keep),
        _percent(paper.closed_share.value),
        paper.made[:10],
        state if one.void else _("stands"),
    )


def _json(found: Certified, demand: Demand, mode: Mode, one: Signed | None) -> dict[str, Any]:
    verdict = found.verdict
    return {
        "certified": one is not None,
        **(one.as_dict() if one else {"certificate": None, "signature": None}),
        "demand": asdict(demand),
        "mode": mode,
        "open_quality": found.open_quality,
        "closed_quality": found.closed_quality,
        "instead": None
        if one or verdict.instead is None
        else {"keep": verdict.instead, "threshold": float(verdict.tested[0])},
        "forecast": {
            "closed_shares": [
                {"labels": times * found.labels, "closed_share": share}
                for times, share in found.forecast.shares
            ],
            "labels_needed": None
            if found.forecast.needed is None
            else round(found.forecast.needed * found.labels),
        },
    }


def _chosen(mode: Mode) -> str:
    words = {
        "before": _("from the prompt alone"),
        "cascade": _("once the open endpoint has answered"),
    }
    return words[mode]


def _threshold(value: float) -> str:
    from daulat.evaluate.thresholds import ALL_OPEN

    return _("none: everything stays open") if value == ALL_OPEN else f"{value:.6g}"


def _identity(one: Any) -> str:
    return f"{one.endpoint} ({one.model})" if one.model else one.endpoint


def _figure(one: Measured) -> str:
    if one.value is None:
        return _("not known")
    low, high = (_percent(end) if end is not None else "?" for end in (one.low, one.high))
    told = _("{value} ({low} to {high}; {method}, {n} examples)")
    return told.format(value=_percent(one.value), low=low, high=high, method=one.method, n=one.n)


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.4g} %"
