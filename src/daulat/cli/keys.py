"""`daulat keys`: who may ask.

Not here: how keys are made and kept (`record.keys`).
"""

from __future__ import annotations

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, opened_record
from daulat.cli.words import _


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
@common
def create_key(name: str, models: tuple[str, ...]) -> None:
    from daulat.record.keys import Keys

    with opened_record() as record:
        caller, secret = Keys(record).create(name, models=models)
    say.note(
        _("The key {id}. It is shown this once and is stored only as a hash:").format(id=caller.id)
    )
    click.echo(secret)


@keys.command("list", help=_("Which keys there are."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_keys(as_json: bool) -> None:
    from daulat.record.keys import Keys

    with opened_record() as record:
        found = Keys(record).list()
    if as_json:
        say.as_json([{"id": k.id, "name": k.name, "models": list(k.models)} for k in found])
        return
    rows = [(k.id, k.name, ", ".join(k.models) or _("all")) for k in found]
    say.table((_("Key"), _("Name"), _("Models")), rows)


@keys.command("revoke", help=_("Make a key useless from now on."))
@click.argument("id", metavar="ID")
@common
def revoke_key(id: str) -> None:
    from daulat.record.keys import Keys

    with opened_record() as record:
        Keys(record).revoke(id)
    click.echo(_("{id} is revoked.").format(id=id))
