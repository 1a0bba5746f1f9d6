"""`daulat label`: a few labels by people, without knowing whose answers they see.

Not here: who is asked what and what labels add up to (`evaluate.labels`), the keys of the terminal
(`labelling`), the page (`console`).
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from daulat.cli import say
from daulat.cli.shell import common, settings
from daulat.cli.words import _, language
from daulat.errors import RequestError

if TYPE_CHECKING:
    from daulat.evaluate.labels.book import Kind
    from daulat.evaluate.labels.sheet import Sheet


@click.command(
    help=_(
        "Label answers to TASK (or to the answers in a file): which of two is better, or how good one is. "
        "Whose they are is hidden, the examples are a random sample, and everything can be stopped and gone "
        "on with. A few dozen labels are enough to correct what a judge says of all."
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
    from daulat.evaluate.judges.rounds import preferences
    from daulat.evaluate.labels.book import Labels
    from daulat.evaluate.labels.correcting import corrected
    from daulat.evaluate.reports.keeping import plain
    from daulat.evaluate.tasks import VERDICTS

    judged = preferences(found.folder / VERDICTS, found.outcomes)
    result = corrected(found.outcomes, Labels(found.folder).all(), judged)
    if as_json:
        say.as_json(plain(result))
        return
    if not result.people.labels:
        raise RequestError(
            f"Nobody has labelled {found.name} yet, or only answers that have changed since: `daulat label "
            f"{found.name}` begins."
        )
    from daulat.cli.report import console
    from daulat.evaluate.reports.cleaning import harmless
    from daulat.evaluate.reports.sections.judging import labelled
    from daulat.evaluate.reports.terminal import show_section
    from daulat.evaluate.reports.words import Words

    told = harmless(result, found.outcomes.endpoints)
    show_section(labelled(told, Words(language()), pairwise=bool(judged)), console())
