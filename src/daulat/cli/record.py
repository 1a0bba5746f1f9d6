"""`daulat record`: look back, and check that nothing was changed.

Not here: the record (`record`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.cards import exchange_pairs, status
from daulat.cli.shell import OrderedGroup, common, opened_record, settings
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.record import Entry, Record, Verdict


@click.group(cls=OrderedGroup, help=_("What was asked and answered, unchangeable unnoticed."))
@common
def record() -> None:
    pass


@record.command(
    "show", help=_("The newest exchanges, or all that is kept of one: `daulat record show rec-…`.")
)
@click.argument("id", metavar="[ID]", required=False)
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    metavar=_("NUMBER"),
    help=_("How many."),
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@click.option("--contents", is_flag=True, help=_("Also what was asked and answered."))
@common
def show(id: str | None, count: int, as_json: bool, contents: bool) -> None:
    with opened_record() as kept:
        if id is None:
            entries = list(kept.entries(kind="exchange.opened", limit=count, newest_first=True))
            shown = [_described(kept, e.subject, contents) for e in entries]
        else:
            shown = [_described(kept, id, True)]
    if as_json:
        say.as_json(shown[0] if id else shown)
    elif id:
        say.pairs(exchange_pairs(shown[0]))
    else:
        _table(shown, contents)


@record.command(
    "verify",
    help=_(
        "Check every entry's link and contents and print the head. Note the head elsewhere: "
        "`--head` then proves that nothing up to it was changed. With FILE, checks an export."
    ),
)
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--head", metavar="SEQ:HASH", help=_("A head that was noted earlier."))
@common
@click.pass_context
def verify(context: click.Context, file: Path | None, head: str | None) -> None:
    from daulat.record import verify, verify_export

    if file is not None:
        verdict = verify_export(file, head=head)
    else:
        with opened_record() as kept, say.progress(_("Entries")) as progress:
            verdict = verify(kept, head=head, progress=progress)
    _report(verdict)
    if verdict.fault is not None:
        context.exit(1)


@record.command("export", help=_("Write all entries and kept contents as JSON lines."))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar=_("FILE"),
    help=_("A new file. [default: standard output]"),
)
@common
def export_record(output: Path | None) -> None:
    from daulat.errors import RequestError
    from daulat.record import export

    with opened_record() as kept:
        if output is None or str(output) == "-":
            count = export(kept, sys.stdout.buffer)
        else:
            try:
                with output.open("xb") as file:
                    count = export(kept, file)
            except OSError as error:
                raise RequestError(
                    f"Cannot write {output} ({error.strerror}): give another file."
                ) from error
    say.note(plural("{count} entry written.", "{count} entries written.", count))


@record.command(
    "redact",
    help=_("Remove the contents of one exchange; that they were removed stays in the record."),
)
@click.argument("id", metavar="ID")
@click.option("--reason", required=True, metavar=_("TEXT"), help=_("Why; kept in the record."))
@common
def redact(id: str, reason: str) -> None:
    with opened_record() as kept:
        kept.redact(id, reason)
    click.echo(_("The contents of {id} are removed.").format(id=id))


@record.command(
    "upgrade",
    help=_(
        "Bring the database to this version's format. SQLite does so by itself; stop all servers "
        "and back it up first."
    ),
)
@common
def upgrade() -> None:
    from daulat.record import schema

    had = schema.upgrade_database(settings(prepare=True).record_place)
    if had is None:
        click.echo(_("The record has format {number} already.").format(number=schema.VERSION))
    else:
        click.echo(
            _("The record had format {old} and has format {new} now.").format(
                old=had, new=schema.VERSION
            )
        )


@record.command(
    "migrate",
    help=_(
        "Copy the record with keys, budgets and statistics into another database, and verify the "
        "copy. Run again, it goes on where it ended. The record itself stays as it is."
    ),
)
@click.option(
    "--to",
    "target",
    required=True,
    envvar="DAULAT_MIGRATE_TO",
    metavar="URL",
    help=_("SQLAlchemy URL of an empty database, or the path of a new SQLite file."),
)
@common
def migrate(target: str) -> None:
    from daulat.record.copying import migrate

    place = target if "://" in target else Path(target).expanduser()
    with say.progress(_("Entries")) as progress:
        copied = migrate(settings(prepare=True).record_place, place, progress)
    click.echo(plural("{count} entry, sound.", "{count} entries, sound.", copied.entries))
    click.echo(_("Head: {head}").format(head=copied.head))
    if copied.behind:
        say.warn(
            plural(
                "{count} entry came meanwhile. Stop the server and run this again.",
                "{count} entries came meanwhile. Stop the server and run this again.",
                copied.behind,
            )
        )
    else:
        say.note(_("Set record.url to the new database to use it."))


def _report(verdict: Verdict) -> None:
    if verdict.fault is None:
        click.echo(plural("{count} entry, sound.", "{count} entries, sound.", verdict.entries))
        click.echo(_("Head: {head}").format(head=verdict.head))
        return
    fault = verdict.fault
    click.echo(
        _("Entry {number}: {what}. {message}").format(
            number=fault.seq, what=fault.what, message=fault.message
        )
    )


def _described(kept: Record, id: str, contents: bool) -> dict[str, Any]:
    """One exchange as JSON: both its entries, with their contents where wanted."""
    from daulat.errors import NotFoundError

    exchange = kept.exchange(id)
    if exchange is None:
        raise NotFoundError(f"The record has no exchange {id}. `daulat record show` lists them.")
    entries = [e for e in (exchange.opened, exchange.closed) if e is not None]
    return {"id": id, "entries": [_entry(kept, e, contents) for e in entries]}


def _entry(kept: Record, entry: Entry, contents: bool) -> dict[str, Any]:
    head = {"seq": entry.seq, "time": entry.time, "kind": entry.kind, "hash": entry.hash}
    shown = {**head, "body": entry.body}
    return {**shown, "contents": kept.contents(entry)} if contents else shown


def _table(shown: list[dict[str, Any]], contents: bool) -> None:
    heads = (_("Record"), _("Time"), _("Key"), _("Model"), _("Status"), _("Tokens"))
    say.table(heads, [_row(one) for one in shown], right=(5,))
    if contents:
        for one in shown:
            click.echo()
            say.pairs(exchange_pairs(one))


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    opened, closed = one["entries"][0], one["entries"][-1]
    usage = closed["body"].get("usage", {})
    tokens = usage.get("completion_tokens", "-")
    shown = status(opened, None if closed is opened else closed)
    body = opened["body"]
    return (one["id"], opened["time"][:19], body["key"], body["model"], shown, str(tokens))
