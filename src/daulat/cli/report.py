"""`daulat report`: what a comparison found, once more, in any language. Nobody is asked, nothing is computed.

Not here: what a report says (`evaluate.reports`), making a comparison (`compare`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from daulat.cli import say
from daulat.cli.shell import common, settings
from daulat.cli.words import _, language

if TYPE_CHECKING:
    from rich.console import Console

    from daulat.evaluate.comparing import Comparison

_LANGUAGES: Final = ("en", "id")
_PIPE: Final = 120
"""Columns where the output is no terminal."""


@click.command(
    help=_("Show the newest report of TASK, and write its pages (HTML, Markdown) once more.")
)
@click.argument("task")
@click.option("--comparison", metavar="ID", help=_("An older one."))
@click.option(
    "--language", "tongue", type=click.Choice(_LANGUAGES), help=_("Of the report. [default: yours]")
)
@click.option("--open", "opening", is_flag=True, help=_("Open the page in a browser."))
@click.option("--json", "as_json", is_flag=True, help=_("The whole report, as JSON."))
@common
def report(
    task: str, comparison: str | None, tongue: str | None, opening: bool, as_json: bool
) -> None:
    from daulat.evaluate import reports
    from daulat.evaluate.reports import keeping

    file = _file(task, comparison)
    found = keeping.read(file)
    if as_json:
        click.echo(file.read_text(encoding="utf-8").rstrip("\n"))
        return
    paths = reports.written(found, file.parent, tongue or language())
    show(found, tongue or language())
    say.note(_("The page is {file}.").format(file=paths.html))
    if opening:
        click.launch(str(paths.html))


def show(comparison: Comparison, tongue: str) -> None:
    """Print a report; a pipe gets lines of bounded length and no colours."""
    from daulat.evaluate.reports import terminal

    terminal.show(comparison, tongue, console())


def console() -> Console:
    """Where reports are printed."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE
    return Console(width=width, highlight=False)


def _file(task: str, comparison: str | None) -> Path:
    """The report.json of a comparison.

    Raises:
        NotFoundError: there is no such task, or no such comparison of it.
    """
    from daulat.errors import NotFoundError
    from daulat.evaluate.reports import JSON
    from daulat.evaluate.tasks import COMPARISONS, Tasks

    folder = Tasks(settings().home).folder(task) / COMPARISONS
    there = sorted(folder.glob(f"*/{JSON}"), key=lambda path: path.stat().st_mtime)
    if not there:
        raise NotFoundError(
            f"{task} was not compared yet: `daulat compare {task} --endpoints A,B` does."
        )
    if comparison is None:
        return there[-1]
    names = [path.parent.name for path in there]
    if comparison not in names:
        raise NotFoundError(
            f"{task} has no comparison {comparison[:80]!r}. It has: {', '.join(names[-20:])}."
        )
    return folder / comparison / JSON
