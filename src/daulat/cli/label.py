"""`daulat label`: a few labels by people, without knowing whose answers they see.

Not here: who is asked what and what labels add up to (`evaluate.labels`), the keys of the terminal
(`labelling`), the page (`console`).
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Final

import click

from daulat.cli import say
from daulat.cli.shell import common, settings
from daulat.cli.words import _, plural
from daulat.errors import RequestError

if TYPE_CHECKING:
    from daulat.evaluate.labels.book import Kind
    from daulat.evaluate.labels.correcting import Corrections, Said
    from daulat.evaluate.labels.sheet import Sheet
    from daulat.statistics.agreement import Agreement
    from daulat.statistics.prediction_powered import Corrected
    from daulat.statistics.samples import Estimate

FEWEST: Final = 20


@click.command(
    help=_(
        "Label answers to TASK (or to the answers in a file): which of two is better, or how good one is. "
        "Whose "
        "they are is hidden, the examples are a random sample, and everything can be stopped and gone on with. "
        "A few dozen labels are enough to correct what a judge says of all."
    )
)
@click.argument("task")
@click.option("--n", "n", type=click.IntRange(1, 100_000), default=50, show_default=True,
              metavar=_("NUMBER"), help=_("So many examples."))  # fmt: skip
@click.option(
    "--pairwise", "kind", flag_value="pairwise", help=_("Which of two answers is better.")
)
@click.option("--score", "kind", flag_value="score", help=_("How many points an answer gets."))
@click.option(
    "--scale", metavar=_("LOW-HIGH"), help=_("The points. [default: the judge's, or 1-5]")
)
@click.option("--endpoints", metavar=_("A,B"), help=_("Whose answers. [default: everybody's]"))
@click.option("--by", metavar=_("NAME"), help=_("Who labels. [default: your name on this machine]"))
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
              metavar=_("NUMBER"), help=_("Another seed draws other examples."))  # fmt: skip
@click.option("--name", metavar=_("NAME"), help=_("Keep the labels of a file under this name."))
@click.option("--browser", is_flag=True, help=_("Label on a page in the browser."))
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar=_("NUMBER"),
              help=_("The page's port; 0 takes a free one."))  # fmt: skip
@click.option("--report", is_flag=True, help=_("Show what the labels say, and ask for none."))
@click.option("--json", "as_json", is_flag=True, help=_("The report as JSON, for other programs."))
@common
def label(
    task: str,
    n: int,
    kind: Kind | None,
    scale: str | None,
    endpoints: str | None,
    by: str | None,
    seed: int,
    name: str | None,
    browser: bool,
    port: int,
    report: bool,
    as_json: bool,
) -> None:
    from daulat.evaluate.judges.verdicts import scale_of
    from daulat.evaluate.labels.desk import Desk, Session
    from daulat.evaluate.labels.sheet import sheet

    chosen = settings(prepare=True)
    names = [one.strip() for one in endpoints.split(",") if one.strip()] if endpoints else []
    found = sheet(chosen.home, task, name=name or "", endpoints=names)
    if report or as_json:
        _report(found, as_json)
        return
    points = scale_of(scale) if scale else found.scale
    who = (by or getpass.getuser()).strip()
    session = Session(who, kind or found.kind, n, seed, points)
    desk = Desk(found, session)
    if browser:
        if names or not (found.folder / "task.json").is_file():
            raise RequestError(
                "The page labels all answers to a task: leave --endpoints out, and make a task of a file with "
                "`daulat task add NAME FILE`."
            )
        from daulat.cli.labelling_page import serve_page

        serve_page(chosen, found.name, session, port)
        return
    from daulat.cli.labelling import at_the_keyboard

    at_the_keyboard(desk)


# --- what the labels say ------------------------------------------------------------------------------


def _report(found: Sheet, as_json: bool) -> None:
    from daulat.evaluate.labels.book import Labels
    from daulat.evaluate.labels.correcting import corrected, told

    result = corrected(found.outcomes, Labels(found.folder).all())
    if as_json:
        say.as_json(told(result))
        return
    said = result.said
    if not said.labels:
        raise RequestError(
            f"Nobody has labelled {found.name} yet, or only answers that have changed since: `daulat label "
            f"{found.name}` begins."
        )
    click.echo(
        plural("{count} label", "{count} labels", said.labels) + " · " + ", ".join(said.people)
    )
    _estimates(result)
    _agreements(result)
    _remarks(said)


def _estimates(result: Corrections) -> None:
    rows = [
        *((name, _("score"), one) for name, one in result.means.items()),
        *((f"{a} - {b}", _("difference"), one) for (a, b), one in result.differences.items()),
        *((f"{a} > {b}", _("win rate"), one) for (a, b), one in result.rates.items()),
    ]
    heads = ("", "", _("People alone"), _("Judge alone"), _("Corrected"), _("Labels"), _("Worth"))
    say.table(heads, [(name, what, *_figures(one)) for name, what, one in rows], right=(5, 6))


def _figures(one: Corrected) -> tuple[str, ...]:
    worth = "" if one.worth is None else f"{one.worth:.0f}"
    parts = (one.labels_only, one.judge_only, one.estimate)
    return (*map(_interval, parts), str(one.estimate.n), worth)


def _interval(one: Estimate) -> str:
    if one.value is None:
        return _("not known")
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _agreements(result: Corrections) -> None:
    for heard, among in ((_("Judge and people"), result.judge), (_("People"), result.said.among)):
        for kind, found in among.items():
            what = _("which is better") if kind == "pairwise" else _("points")
            click.echo(f"{heard}, {what}: {_agreement(found, kind)}")


def _agreement(found: Agreement, kind: Kind) -> str:
    parts = [_("Krippendorff's alpha {interval}").format(interval=_interval(found.alpha))]
    if found.kappa is not None:
        parts.append(_("Cohen's kappa {interval}").format(interval=_interval(found.kappa)))
    if found.share is not None and kind == "pairwise":
        parts.append(_("{share} the same").format(share=f"{found.share:.0%}"))
    return ", ".join(parts)


def _remarks(said: Said) -> None:
    """What must be known to read the figures."""
    if said.stale:
        say.warn(
            plural(
                "{count} label is of an answer that has changed since, and does not count.",
                "{count} labels are of answers that have changed since, and do not count.",
                said.stale,
            )
        )
    if said.untold:
        say.note(
            plural(
                "{count} time somebody could not tell: it counts as if others had labelled it.",
                "{count} times somebody could not tell: these count as if others had labelled them.",
                said.untold,
            )
        )
    if said.labels < FEWEST:
        say.warn(_("With so few labels the intervals are a guess: give 50 or more."))
