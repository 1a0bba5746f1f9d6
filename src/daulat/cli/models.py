"""`daulat models`: what is in the store.

Not here: fetching and checking (`models`), the passport (`trust.passport`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.cards import passport_pairs, use
from daulat.cli.shell import OrderedGroup, common, settings
from daulat.cli.words import _, plural

if TYPE_CHECKING:
    from daulat.models.catalogue import Catalogue, ModelEntry
    from daulat.models.shelf import Shelf


@click.group(cls=OrderedGroup, help=_("The models on this machine."))
@common
def models() -> None:
    pass


@models.command("list", help=_("What there is."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_models(as_json: bool) -> None:
    entries = _catalogue().entries()
    if as_json:
        say.as_json([_summary(entry) for entry in entries])
        return
    if not entries:
        say.note(_("There is no model yet. `daulat models pull starter` fetches a small one."))
        return
    heads = (_("Name"), _("Use"), _("Format"), _("Size"), _("Licence"), _("Digest"))
    rows = [
        (e.name, use(e.kind), e.format, say.size(e.size), e.licence or "-", e.digest[:19])
        for e in entries
    ]
    say.table(heads, rows, right=(3,))


@models.command(
    "pull",
    help=_(
        "Fetch a model: `starter`, a Hugging Face id such as "
        "`ibm-granite/granite-3.3-2b-instruct`, a local folder, or a local GGUF file. "
        "An interrupted pull goes on where it stopped."
    ),
)
@click.argument("what")
@click.option("--name", metavar=_("NAME"), help=_("Its name here. [default: its own]"))
@common
def pull_model(what: str, name: str | None) -> None:
    from daulat.models.pull import pull

    chosen = settings(prepare=True)
    with say.progress(what) as progress:
        entry = pull(_catalogue(), what, name=name, hub_url=chosen.models.hub, progress=progress)
    click.echo(
        _("{name} is here: {size}, {digest}").format(
            name=entry.name, size=say.size(entry.size), digest=entry.digest
        )
    )


@models.command("show", help=_("A model's passport."))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show_model(name: str, as_json: bool) -> None:
    from daulat.trust.passport import passport

    paper = passport(_entry(name)).as_dict()
    if as_json:
        say.as_json(paper)
    else:
        say.pairs(passport_pairs(paper))


@models.command("verify", help=_("Compare every file with its digest; all models without a name."))
@click.argument("name", required=False)
@common
@click.pass_context
def verify_model(context: click.Context, name: str | None) -> None:
    catalogue = _catalogue()
    entries = [_entry(name)] if name else list(catalogue.entries())
    damaged = 0
    for entry in entries:
        with say.progress(entry.name) as progress:
            faults = catalogue.verify(entry.name, progress)
        state = _("damaged") if faults else _("sound")
        click.echo(f"{entry.name}: {state}")
        for fault in faults:
            click.echo(f"  {fault}")
        _verify_prepared(entry)
        damaged += bool(faults)
    if damaged:
        say.note(
            plural(
                "{count} model is damaged: remove it and pull it again.",
                "{count} models are damaged: remove them and pull them again.",
                damaged,
            )
        )
        context.exit(1)


@models.command("remove", help=_("Remove a model; bytes that another model shares stay."))
@click.argument("name")
@common
def remove_model(name: str) -> None:
    entry = _entry(name)
    catalogue = _catalogue()
    catalogue.remove(entry.name)
    if all(other.digest != entry.digest for other in catalogue.entries()):
        _shelf().remove(entry.digest)
    click.echo(_("{name} is removed.").format(name=entry.name))


@models.command(
    "prepare",
    help=_(
        "Make a model's weights ready for this machine now, in the number format that it would be loaded "
        "in, so that its first start is quick."
    ),
)
@click.argument("name")
@click.option(
    "--format",
    "numbers",
    type=click.Choice(["auto", "float32", "bfloat16", "int8", "int4"]),
    help=_("The number format. [default: engine.dtype of daulat.toml]"),
)
@common
def prepare_model(name: str, numbers: str | None) -> None:
    from daulat.endpoints.pool import prepare

    entry, engine = _entry(name), settings().engine
    if numbers:
        engine = dataclasses.replace(engine, dtype=numbers)
    with say.progress(entry.name) as progress:
        kept = prepare(
            entry, engine, lambda done, all_: progress(entry.size * done // all_, entry.size)
        )
    if kept:
        told = _("{name} is ready as {numbers}: {size}.")
        click.echo(told.format(name=entry.name, numbers=kept[0], size=say.size(kept[1])))
    else:
        click.echo(_("{name} needs no preparation: it is read as it is.").format(name=entry.name))


def _verify_prepared(entry: ModelEntry) -> None:
    """Damaged ones are removed and not counted: they are made anew from the model's files."""
    for file in _shelf().verify(entry.digest):
        told = _(
            "the prepared weights {file} were damaged and are removed; the next start makes them anew"
        )
        click.echo(f"  {told.format(file=file)}")


def _shelf() -> Shelf:
    from daulat.models.shelf import shelf_of

    return shelf_of(settings().engine.prepared)


def _catalogue() -> Catalogue:
    from daulat.models.catalogue import Catalogue

    return Catalogue(settings().home)


def _entry(name: str) -> ModelEntry:
    from daulat.errors import ModelNotFoundError

    catalogue = _catalogue()
    entry = catalogue.get(name)
    if entry is None:
        raise ModelNotFoundError(catalogue.unknown(name))
    return entry


def _summary(entry: ModelEntry) -> dict[str, Any]:
    names = ("name", "kind", "digest", "format", "source", "revision", "licence", "created")
    return {**{name: getattr(entry, name) for name in names}, "size": entry.size}
