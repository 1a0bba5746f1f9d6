"""`daulat config`: what is set, where it was set, and whether a file is right.

Not here: the settings and their bounds (`settings`).
"""

from __future__ import annotations

from pathlib import Path

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, session
from daulat.cli.words import _, plural


@click.group(cls=OrderedGroup, help=_("The settings, in daulat.toml in the home."))
@common
def config() -> None:
    pass


@config.command("show", help=_("Every setting with its value and where that comes from."))
@click.option(
    "--defaults", is_flag=True, help=_("Print a daulat.toml with all defaults explained.")
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show(defaults: bool, as_json: bool) -> None:
    from daulat.settings import default_file, sources

    if defaults:
        click.echo(default_file(), nl=False)
        return
    rows = [(s.key, str(s.value), s.source) for s in sources(session().folder())]
    if as_json:
        say.as_json([{"key": k, "value": v, "source": s} for k, v, s in rows])
    else:
        say.table((_("Setting"), _("Value"), _("From")), rows)


@config.command("check", help=_("List everything that is wrong in a settings file."))
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@common
@click.pass_context
def check(context: click.Context, file: Path | None) -> None:
    from daulat.settings import problems

    path = file or session().folder() / "daulat.toml"
    if not path.exists():
        click.echo(_("There is no {file}: the defaults apply.").format(file=path))
        return
    found = problems(path)
    for problem in found:
        click.echo(problem)
    if found:
        say.note(plural("{count} fault.", "{count} faults.", len(found)))
        context.exit(1)
    click.echo(_("{file} is right.").format(file=path))
