"""`daulat scripted`: an upstream that answers and fails as a script says, for tests and rehearsals.

Not here: the upstream (`endpoints.scripted`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daulat.cli import say
from daulat.cli.shell import common
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.endpoints.scripted import Chance, Script


@click.command(
    help=_(
        "Start an upstream that no model stands behind. It speaks the protocols of OpenAI, Azure OpenAI, "
        "Anthropic, Gemini, Vertex AI and watsonx.ai, answers what you say, fails as you say, and keeps books "
        "of what a vendor would bill. Ctrl-C ends it."
    )
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar=_("ADDRESS"),
    help=_("Address to listen on."),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8089,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("Port to listen on; 0 takes a free one."),
)
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar=_("TEXT"),
    help=_("Answer this; several are given in turn. [default: what the user said last]"),
)
@click.option(
    "--answers",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar=_("FILE"),
    help=_("Answer in turn what the lines of this file hold, JSON objects with `text`."),
)
@click.option(
    "--words",
    type=click.IntRange(0, 1_000_000),
    metavar=_("NUMBER"),
    help=_("Answer so many words of one token each."),
)
@click.option(
    "--first",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar=_("SECONDS"),
    help=_("Wait before the first token."),
)
@click.option(
    "--between",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar=_("SECONDS"),
    help=_("Wait between tokens."),
)
@click.option(
    "--late",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    metavar=_("SECONDS"),
    help=_("How late the slow faults are."),
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar=_("NAME[@K][=SHARE]"),
    help=_(
        "A fault that befalls this share of requests, 0 to 1; may be repeated. [default share: 1]"
    ),
)
@click.option(
    "--seed", type=int, default=0, metavar=_("NUMBER"), help=_("Draw the faults from this number.")
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar=_("KEY"),
    help=_("A key that is let in; may be repeated. [default: any]"),
)
@click.option(
    "--list", "listing", is_flag=True, help=_("Show the faults and what the wire shows, and end.")
)
@common
def scripted(
    host: str,
    port: int,
    answers: tuple[str, ...],
    file: Path | None,
    words: int | None,
    first: float,
    between: float,
    late: float,
    faults: tuple[str, ...],
    seed: int,
    keys: tuple[str, ...],
    listing: bool,
) -> None:
    from daulat.endpoints.scripted import FAULTS, Access, Answer, Delays, Script, recorded, serve

    if listing:
        rows = [(row.name, row.stream, row.whole, row.billed) for row in FAULTS.values()]
        say.table((_("Fault"), _("In a stream"), _("In a whole answer"), _("Billed")), rows)
        return
    if sum((bool(answers), file is not None, words is not None)) > 1:
        raise click.UsageError(_("Give one of --answer, --answers and --words."))
    script = Script(
        answers=recorded(file) if file else tuple(Answer(text) for text in answers),
        words=words,
        delays=Delays(first, between, late),
        chances=tuple(_chance(one) for one in faults),
        seed=seed,
        access=Access(keys=frozenset(keys)),
    )
    serve(script, host=host, port=port, on_ready=lambda url: _greet(url, script))


def _greet(url: str, script: Script) -> None:
    click.echo(_("Scripted upstream: {url}").format(url=url))
    for chance in script.chances:
        click.echo(f"  {chance.fault} {chance.probability:g}")
    click.echo(_("What a vendor would bill: {url}/scripted/ledger").format(url=url))
    click.echo(_("Ctrl-C ends it."))


def _chance(words: str) -> Chance:
    """`NAME[@K][=SHARE]`."""
    from daulat.endpoints.scripted import Chance, UnknownFaultError, chosen

    name, equals, share = words.partition("=")
    try:
        probability = float(share) if equals else 1.0
        return Chance(chosen(name), probability)
    except UnknownFaultError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from error
    except ValueError as error:
        message = _("The share is a number from 0 to 1: `slow=0.1`.")
        raise click.BadParameter(message, param_hint="--fault") from error
