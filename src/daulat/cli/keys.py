"""`daulat keys`: who may ask, for what, and how much.

Not here: how keys are made and kept (`record.keys`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, opened_record, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.record import Record
    from daulat.record.keys import KeyCard
    from daulat.settings import Settings


@click.group(cls=OrderedGroup, help=_("The keys that clients need."))
@common
def keys() -> None:
    pass


@keys.command("create", help=_("Make a key. It is printed once and stored only as a hash."))
@click.argument("name", default="key")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar=_("NAME"),
    help=_("A model that the key may use; may be repeated. [default: all]"),
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["ask", "metrics", "admin"]),
    help=_("What it may do; may be repeated. [default: ask, metrics]"),
)
@click.option(
    "--expires",
    metavar=_("TIME"),
    help=_("When it ends: after 30d (m, h, d, w), or as a day such as 2027-01-31 begins (UTC)."),
)
@click.option("--project", default="", metavar=_("NAME"), help=_("Whose budget it shares."))
@click.option(
    "--class",
    "data_class",
    default="",
    metavar=_("NAME"),
    help=_("What its texts are at least, whatever is found in them."),
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar=_("MONEY"),
    help=_("The most it may spend: 5/day, 100/month, 500 in all; may be repeated."),
)
@click.option(
    "--tokens",
    multiple=True,
    metavar=_("NUMBER"),
    help=_("Most tokens: 1000000/day, /month or /minute; may be repeated."),
)
@click.option("--requests", multiple=True, metavar=_("NUMBER"), help=_("Most requests: 60/minute."))
@common
def create_key(
    name: str,
    models: tuple[str, ...],
    scopes: tuple[str, ...],
    expires: str | None,
    project: str,
    data_class: str,
    budgets: tuple[str, ...],
    tokens: tuple[str, ...],
    requests: tuple[str, ...],
) -> None:
    from daulat.cli import limits
    from daulat.record.keys import Keys

    chosen = limits.read(budgets, tokens, requests)
    until = limits.end(expires, "--expires")
    if project:
        _check_project(settings(prepare=True), project)
    with opened_record() as record:
        caller, secret = Keys(record).create(
            name,
            models=models,
            scopes=scopes or ("ask", "metrics"),
            project=project,
            data_class=data_class,
            limits=chosen,
            expires=until,
        )
    say.note(
        _("The key {id}. It is shown this once and is stored only as a hash:").format(id=caller.id)
    )
    click.echo(secret)


@keys.command("list", help=_("Which keys there are."))
@click.option("--all", "every", is_flag=True, help=_("Also those that were revoked or have ended."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_keys(every: bool, as_json: bool) -> None:
    from daulat.cli.limits import described
    from daulat.record.keys import Keys

    with opened_record() as record:
        found = [card for card in Keys(record).cards() if every or _in_force(card)]
    if as_json:
        say.as_json([_json(card) for card in found])
        return
    currency = settings().money.currency
    rows = [
        (
            card.caller.id,
            card.caller.name,
            ", ".join(card.caller.models) or _("all"),
            card.caller.project,
            ", ".join(described(card.caller.limits, currency)),
            card.last_used,
            _state(card),
        )
        for card in found
    ]
    heads = (_("Key"), _("Name"), _("Models"), _("Project"), _("Limits"), _("Last used"))
    say.table((*heads, _("Status")), rows)


@keys.command("show", help=_("What one key may do, and how much of it is used."))
@click.argument("id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show_key(id: str, as_json: bool) -> None:
    from daulat.record.keys import Keys

    with opened_record() as record:
        card = Keys(record).find(id)
        used = _used(record, card)
    if as_json:
        say.as_json({**_json(card), "used": used})
    else:
        say.pairs(_pairs(card, used, settings().money.currency))


@keys.command(
    "rotate",
    help=_("Give a key another secret, printed once; the old one works a while beside it."),
)
@click.argument("id", metavar="ID")
@click.option(
    "--overlap",
    default="1d",
    show_default=True,
    metavar=_("TIME"),
    help=_("How long the old secret still works; 0: it ends now."),
)
@common
def rotate_key(id: str, overlap: str) -> None:
    from daulat.cli.limits import duration
    from daulat.record.keys import Keys

    seconds = duration(overlap, "--overlap")
    with opened_record() as record:
        secret = Keys(record).rotate(id, seconds)
    say.note(
        _("The new secret of {id}. It is shown this once and is stored only as a hash:").format(
            id=id
        )
    )
    click.echo(secret)


@keys.command("revoke", help=_("Make a key useless from now on."))
@click.argument("id", metavar="ID")
@common
def revoke_key(id: str) -> None:
    from daulat.record.keys import Keys

    with opened_record() as record:
        Keys(record).revoke(id)
    click.echo(_("{id} is revoked.").format(id=id))


def _check_project(chosen: Settings, project: str) -> None:
    """A misspelt project would have no budget."""
    if project not in chosen.projects:
        raise click.BadParameter(
            _("The settings have no project {name}. Add [projects.{name}] to daulat.toml.").format(
                name=project
            ),
            param_hint="--project",
        )


def _in_force(card: KeyCard) -> bool:
    import time

    end = card.caller.expires
    return not card.revoked and (end is None or time.time() < end)


def _state(card: KeyCard) -> str:
    from daulat.cli.limits import moment

    if card.revoked:
        return _("revoked")
    if not _in_force(card):
        return _("ended")
    end = card.caller.expires
    return _("until {time}").format(time=moment(end)) if end is not None else _("in force")


def _json(card: KeyCard) -> dict[str, Any]:
    from daulat.cli.limits import as_json

    caller = card.caller
    return {
        "id": caller.id,
        "name": caller.name,
        "models": list(caller.models),
        "scopes": list(caller.scopes),
        "project": caller.project,
        "class": caller.data_class,
        "limits": as_json(caller.limits),
        "expires": caller.expires,
        "created": card.created,
        "revoked": card.revoked or None,
        "last_used": card.last_used or None,
        "old_secret_until": card.old_until,
    }


def _used(record: Record, card: KeyCard) -> dict[str, Any]:
    """What the key has used today, this month, and in all; money as decimal texts."""
    from datetime import UTC, datetime

    from daulat.record import statistics
    from daulat.values.money import shown

    today = datetime.now(UTC).date().isoformat()
    spans = {"day": today, "month": today[:7], "in_all": "all"}
    with record.reading() as connection:
        found = {
            name: statistics.so_far(connection, f"key:{card.caller.id}", span)
            for name, span in spans.items()
        }
    return {
        name: {"money": shown(money), "tokens": tokens} for name, (money, tokens) in found.items()
    }


def _pairs(card: KeyCard, used: dict[str, Any], currency: str) -> list[tuple[str, str]]:
    from daulat.cli.limits import described, moment

    caller = card.caller
    old = _("until {time}").format(time=moment(card.old_until)) if card.old_until else "-"
    return [
        (_("Key"), caller.id),
        (_("Name"), caller.name),
        (_("Status"), _state(card)),
        (_("Created"), card.created[:19]),
        (_("Last used"), card.last_used or "-"),
        (_("Old secret"), old),
        (_("Scopes"), ", ".join(caller.scopes)),
        (_("Models"), ", ".join(caller.models) or _("all")),
        (_("Project"), caller.project or "-"),
        (_("Class"), caller.data_class or "-"),
        (_("Limits"), "\n".join(described(caller.limits, currency)) or "-"),
        (_("Used today"), _sum(used["day"], currency)),
        (_("This month"), _sum(used["month"], currency)),
        (_("In all"), _sum(used["in_all"], currency)),
    ]


def _sum(used: dict[str, Any], currency: str) -> str:
    return _("{money} {currency}, {tokens} tokens").format(currency=currency, **used)
