"""`daulat adapters`: what changes a model for a task.

Not here: checking and storing (`models.adopt`, `models.adapters`), computing (`engine`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.cards import adapter_pairs
from daulat.cli.shell import OrderedGroup, common, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.models.adapters import AdapterEntry
    from daulat.models.catalogue import Catalogue


@click.group(cls=OrderedGroup, help=_("Adapters (LoRA): small files that change a model."))
@common
def adapters() -> None:
    pass


@adapters.command("list", help=_("What there is; of one model, with its name."))
@click.argument("base", required=False)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_adapters(base: str | None, as_json: bool) -> None:
    catalogue = _catalogue()
    entries = catalogue.adapters.entries(_name(catalogue, base) if base else None)
    if as_json:
        say.as_json([_summary(entry) for entry in entries])
        return
    if not entries:
        say.note(_("There is no adapter. `daulat adapters add BASE NAME FOLDER` adds one."))
        return
    heads = (_("Name"), _("Rank"), _("Matrices"), _("Size"), _("Licence"), _("Digest"))
    rows = [
        (e.id, str(e.rank), ", ".join(e.targets), say.size(e.size), e.licence or "-", e.digest[:19])
        for e in entries
    ]
    say.table(heads, rows, right=(1, 3))


@adapters.command(
    "add",
    help=_(
        "Add an adapter in PEFT's format to the model BASE. FOLDER holds adapter_config.json and "
        "adapter_model.safetensors. Requests then ask for the model `BASE:NAME`."
    ),
)
@click.argument("base")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@common
def add_adapter(base: str, name: str, folder: Path) -> None:
    from daulat.models.adopt import adopt

    settings(prepare=True)
    entry = adopt(_catalogue(), base, name, folder.expanduser())
    click.echo(
        _("{name} is here: rank {rank}, {size}, {digest}").format(
            name=entry.id, rank=entry.rank, size=say.size(entry.size), digest=entry.digest
        )
    )


@adapters.command("show", help=_("What is known of an adapter."))
@click.argument("base")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show_adapter(base: str, name: str, as_json: bool) -> None:
    catalogue = _catalogue()
    entry = catalogue.adapters.find(_name(catalogue, base), name)
    if as_json:
        say.as_json(_summary(entry))
    else:
        say.pairs(adapter_pairs(entry))


@adapters.command(
    "remove", help=_("Remove an adapter. A running server stops offering it at once.")
)
@click.argument("base")
@click.argument("name")
@common
def remove_adapter(base: str, name: str) -> None:
    catalogue = _catalogue()
    base = _name(catalogue, base)
    catalogue.remove_adapter(base, name)
    click.echo(_("{name} is removed.").format(name=f"{base}:{name}"))


def _catalogue() -> Catalogue:
    from daulat.models.catalogue import Catalogue

    return Catalogue(settings().home)


def _name(catalogue: Catalogue, base: str) -> str:
    """The name of a model that is here."""
    from daulat.errors import ModelNotFoundError

    entry = catalogue.get(base)
    if entry is None:
        raise ModelNotFoundError(catalogue.unknown(base))
    return entry.name


def _summary(entry: AdapterEntry) -> dict[str, Any]:
    names = (
        *("id", "name", "base", "base_digest", "digest", "rank", "targets", "parameters"),
        *("source", "licence", "created", "size"),
    )
    files = {path: {"digest": blob, "size": size} for path, (blob, size) in entry.files.items()}
    return {**{name: getattr(entry, name) for name in names}, "files": files}
