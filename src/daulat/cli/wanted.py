"""Which of the record's exchanges a command is about: the options that say it, and what they come to.

Not here: finding them (`evaluate.recorded`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from daulat.cli import say
from daulat.cli.words import _, mark

if TYPE_CHECKING:
    from daulat.evaluate.recorded import Wanted
    from daulat.record import Record
    from daulat.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])
_DAY: Final = click.DateTime(["%Y-%m-%d"])

# Why exchanges and examples are left out (`evaluate.recorded`, `evaluate.adding`), for the translators.
REASONS: Final = (
    mark("not answered"),
    mark("contents not kept"),
    mark("with tools, pictures or a structure"),
    mark("nothing to answer"),
    mark("too long"),
    mark("asked again"),
    mark("without a reference"),
)


def tell_left_out(left_out: Mapping[str, int]) -> None:
    """A line for each reason."""
    for reason, number in left_out.items():
        say.note(_("Left out: {count} {reason}").format(count=number, reason=_(reason)))


def of_record(function: Function) -> Function:
    """Give a command `--from-record` and what chooses among exchanges but their class."""
    options = (
        click.option(
            "--from-record", is_flag=True, help=_("Of recorded traffic whose contents were kept.")
        ),
        click.option(
            "--model", metavar=_("NAME"), default="", help=_("Only what this model was asked.")
        ),
        click.option(
            "--key", "keys", multiple=True, metavar="ID", help=_("Only what this key asked.")
        ),
        click.option(
            "--project", metavar=_("NAME"), help=_("Only what the keys of a project asked.")
        ),
        click.option(
            "--since", type=_DAY, metavar=_("DAY"), help=_("Only from this day (UTC) on.")
        ),
        click.option(
            "--most",
            type=click.IntRange(1, 200_000),
            default=10_000,
            show_default=True,
            metavar=_("NUMBER"),
            help=_("So many of the newest exchanges."),
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def check_none(given: Mapping[str, Any]) -> None:
    """Without `--from-record` none of these is said.

    Raises:
        UsageError: one is.
    """
    if given["model"] or given["keys"] or given["project"] or given["since"]:
        raise click.UsageError(_("--model, --key, --project and --since go with --from-record."))


def wanted(record: Record, given: Mapping[str, Any]) -> Wanted:
    """What the options say.

    Raises:
        NotFoundError: the project has no key.
    """
    from daulat.evaluate.recorded import Wanted

    keys = set(given["keys"])
    if given["project"]:
        keys |= _of_project(record, given["project"])
    since: datetime | None = given["since"]
    return Wanted(
        model=given["model"],
        keys=frozenset(keys),
        since=since.date().isoformat() if since else "",
        data_class=given["data_class"],
        most=given["most"],
    )


def _of_project(record: Record, project: str) -> set[str]:
    from daulat.errors import NotFoundError
    from daulat.record.keys import Keys

    found = {card.caller.id for card in Keys(record).cards() if card.caller.project == project}
    if not found:
        raise NotFoundError(f"No key is of the project {project!r}. `daulat keys list` shows them.")
    return found


def check_class(chosen: Settings, name: str) -> None:
    """A class that is named must be one.

    Raises:
        RequestError: there is none of that name.
    """
    from daulat.errors import RequestError
    from daulat.guard.findings import CLASSES

    order = chosen.policy.order or CLASSES
    if name and name not in order:
        raise RequestError(f"There is no class {name!r}. There are: {', '.join(order)}.")
