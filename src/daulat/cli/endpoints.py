"""`daulat endpoints`: what is rented, and what stands elsewhere in the house's own network.

Not here: checking tables and calling (`endpoints.remote`), changing the file (`settings.editing`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.endpoints.remote.trying import Trial
    from daulat.endpoints.remote.upstream import RemoteEndpoint
    from daulat.settings import Endpoint, Settings
    from daulat.values.money import Price

_KINDS = ("openai", "azure", "mistral", "compatible", "anthropic", "gemini", "vertex", "watsonx")


@click.group(cls=OrderedGroup, help=_("Endpoints elsewhere: what is rented, and what is near."))
@common
def endpoints() -> None:
    pass


@endpoints.command(
    "add",
    help=_(
        "Write an endpoint into daulat.toml. What is not given is asked for on a terminal. The key itself "
        "is never written: say where it is, env:NAME, file:PATH or keyring:SERVICE/USER."
    ),
)
@click.argument("name")
@click.option("--kind", type=click.Choice(_KINDS), help=_("Whose protocol and ways it has."))
@click.option("--url", metavar="URL", help=_("Its address. [default: the vendor's own]"))
@click.option("--key", metavar=_("WHERE"), help=_("Where its key is, such as env:OPENAI_API_KEY."))
@click.option(
    "--place",
    metavar=_("PLACE"),
    help=_("Where its data goes: this-machine, own-network, or a name such as us."),
)
@click.option(
    "--owner", type=click.Choice(["open", "closed"]), help=_("Whether its models are open.")
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar=_("MODEL"),
    help=_("A model that clients may ask for; NAME=THEIRS where it has another name there."),
)
@click.option(
    "--version", metavar=_("VERSION"), help=_("Version of its API, where it has several.")
)
@click.option("--project", metavar="ID", help=_("Project: Vertex AI, watsonx.ai, OpenAI."))
@click.option("--location", metavar=_("PLACE"), help=_("Region: Vertex AI and watsonx.ai."))
@common
def add(name: str, **given: Any) -> None:
    from daulat.settings.editing import put

    chosen = settings(prepare=True)
    values = _values(_completed(given) if sys.stdin.isatty() else given)
    table = _table(values)
    # Built before it is written: what is wrong is told now, and not at the next start.
    asyncio.run(_built(name, table, chosen).close())
    comments = {"key": _("where the key is, not the key"), "place": _("where its data goes")}
    put(chosen.home, "endpoints", name, values, comments)
    click.echo(_("{name} is in {file}.").format(name=name, file=chosen.home / "daulat.toml"))
    for line in _policy_words(chosen, table.place):
        say.note(line)
    say.note(_("`daulat endpoints test {name}` asks it for one word.").format(name=name))


@endpoints.command("list", help=_("What there is."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def list_endpoints(as_json: bool) -> None:
    chosen = settings()
    found = [_summary(name, table, chosen) for name, table in chosen.endpoints.items()]
    if as_json:
        say.as_json(found)
        return
    if not found:
        say.note(_("There is no endpoint elsewhere. `daulat endpoints add NAME` adds one."))
        return
    heads = (_("Name"), _("Kind"), _("Place"), _("Owner"), _("Models"), _("Prices"), _("Can"))
    say.table(heads, [_row(one) for one in found])


@endpoints.command("show", help=_("What is known of an endpoint, without asking it."))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def show(name: str, as_json: bool) -> None:
    chosen = settings()
    one = _summary(name, _known(chosen, name), chosen)
    if as_json:
        say.as_json(one)
        return
    models = "\n".join(
        f"{model}  {_priced(told['price'], chosen.money.currency)}"
        for model, told in one["models"].items()
    )
    say.pairs(
        [
            (_("Name"), name),
            (_("Kind"), one["kind"]),
            (_("Address"), one["url"]),
            (_("Key"), one["key"] or _("none")),
            (_("Place"), one["place"]),
            (_("Owner"), one["owner"]),
            (_("Used"), _("yes") if one["enabled"] else _("no")),
            (_("Models"), models),
            (_("Can"), ", ".join(one["capabilities"])),
            (_("May train"), _("yes") if one["may_train"] else _("no")),
        ]
    )
    for line in _policy_words(chosen, one["place"]):
        say.note(line)


@endpoints.command(
    "test", help=_("Ask each model of an endpoint for one word. This costs a little.")
)
@click.argument("name")
@click.option("--model", "models", multiple=True, metavar=_("MODEL"), help=_("Only this model."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
@click.pass_context
def test(context: click.Context, name: str, models: tuple[str, ...], as_json: bool) -> None:
    from daulat.errors import ModelNotFoundError

    chosen = settings()
    table = _known(chosen, name)
    for model in models:
        if model not in table.models:
            there = ", ".join(table.models)
            raise ModelNotFoundError(f"{name} has no model {model!r}. There are: {there}.")
    trials = asyncio.run(_tried(_built(name, table, chosen), models or table.models))
    if as_json:
        say.as_json([_trial(one) for one in trials])
    else:
        _show_trials(trials, table, chosen.money.currency)
    if any(one.error for one in trials):
        context.exit(1)


@endpoints.command("models", help=_("The models that an endpoint says it has, by its own names."))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def models(name: str, as_json: bool) -> None:
    import dataclasses

    chosen = settings()
    table = _known(chosen, name)
    table = dataclasses.replace(table, models=table.models or ("any",))
    found = asyncio.run(_listed(_built(name, table, chosen)))
    if as_json:
        say.as_json(found)
    else:
        for model in found:
            click.echo(say.plain(model))


@endpoints.command("remove", help=_("Take an endpoint out of daulat.toml."))
@click.argument("name")
@common
def remove(name: str) -> None:
    from daulat.settings.editing import drop

    chosen = settings()
    _known(chosen, name)
    drop(chosen.home, "endpoints", name)
    click.echo(_("{name} is removed.").format(name=name))
    routes = [
        route
        for route, told in chosen.routes.items()
        if any(t.startswith(f"{name}/") for t in told.to)
    ]
    if routes:
        say.warn(_("These routes still name it: {routes}").format(routes=", ".join(routes)))


# --- asking and building --------------------------------------------------------------------------


def _completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was not given, asked for."""
    answers = dict(given)
    if not answers["kind"]:
        answers["kind"] = click.prompt(_("Kind"), type=click.Choice(_KINDS))
    if not answers["url"] and answers["kind"] in ("azure", "compatible"):
        answers["url"] = click.prompt(_("Address"))
    if not answers["key"]:
        answers["key"] = click.prompt(_("Where its key is (env:NAME, ...; empty: none)"), "")
    if not answers["place"]:
        answers["place"] = click.prompt(
            _("Where its data goes (this-machine, own-network, us, ...)")
        )
    if not answers["models"]:
        said = click.prompt(_("Models that clients may ask for, with spaces between"))
        answers["models"] = tuple(said.split())
    return answers


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The table's keys; `NAME=THEIRS` goes into `names`."""
    values = {key: value for key, value in given.items() if value and key != "models"}
    pairs = [one.partition("=") for one in given["models"]]
    if pairs:
        values["models"] = [name for name, _sign, _theirs in pairs]
    names = {name: theirs for name, _sign, theirs in pairs if theirs}
    if names:
        values["names"] = names
    return values


def _table(values: Mapping[str, Any]) -> Endpoint:
    from daulat.settings import Endpoint

    keys: dict[str, Any] = {**values, "models": tuple(values.get("models", ()))}
    return Endpoint(**keys)


def _built(name: str, table: Endpoint, chosen: Settings) -> RemoteEndpoint:
    from daulat.endpoints.remote.build import endpoint

    return endpoint(name, table, chosen.money)


def _known(chosen: Settings, name: str) -> Endpoint:
    from daulat.errors import NotFoundError

    table = chosen.endpoints.get(name)
    if table is None:
        there = ", ".join(chosen.endpoints) or "-"
        raise NotFoundError(f"There is no endpoint {name!r} in daulat.toml. There are: {there}.")
    return table


async def _tried(built: RemoteEndpoint, names: Sequence[str]) -> list[Trial]:
    from daulat.endpoints.remote.trying import tried

    try:
        return [await tried(built, name) for name in names]
    finally:
        await built.close()


async def _listed(built: RemoteEndpoint) -> list[str]:
    from daulat.endpoints.remote.trying import listed

    try:
        return await listed(built)
    finally:
        await built.close()


# --- how it looks ---------------------------------------------------------------------------------


def _summary(name: str, table: Endpoint, chosen: Settings) -> dict[str, Any]:
    built = _built(name, table, chosen)
    card = built.card
    return {
        "name": name,
        "kind": table.kind,
        "url": built.url,
        "key": table.key,
        "place": card.place,
        "owner": card.owner,
        "enabled": table.enabled,
        "models": {
            model: {"upstream": offer.upstream, "price": _price(offer.price)}
            for model, offer in card.offers.items()
        },
        "capabilities": sorted(card.capabilities),
        "may_train": card.may_train,
    }


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    prices = [_short_price(told["price"]) for told in one["models"].values()]
    used = one["name"] if one["enabled"] else _("{name} (not used)").format(name=one["name"])
    can = ", ".join(one["capabilities"])
    return (
        used,
        one["kind"],
        one["place"],
        one["owner"],
        ", ".join(one["models"]),
        ", ".join(prices),
        can,
    )


def _price(price: Price | None) -> dict[str, str] | None:
    """Units of the currency per million tokens."""
    from daulat.values.money import shown

    if price is None:
        return None
    rates = price.rates
    told = {"input": rates.input, "output": rates.output, "cached": rates.cached}
    return {name: shown(rate * 10**6) for name, rate in told.items()}


def _short_price(price: Mapping[str, str] | None) -> str:
    return f"{price['input']}/{price['output']}" if price else _("unknown")


def _priced(price: Mapping[str, str] | None, currency: str) -> str:
    if price is None:
        return _("price unknown")
    text = _("{input} in, {cached} cached, {output} out, {currency} per million tokens")
    return text.format(**price, currency=currency)


def _trial(one: Trial) -> dict[str, Any]:
    from daulat.values.money import shown

    return {
        "model": one.model,
        "first_token": one.timings and round(one.timings.first_token, 3),
        "seconds": one.timings and round(one.timings.first_token + one.timings.decode, 3),
        "prompt_tokens": one.usage and one.usage.prompt_tokens,
        "completion_tokens": one.usage and one.usage.completion_tokens,
        "cost": None if one.cost is None else shown(one.cost),
        "error": one.error and {"code": one.error.code, "message": one.error.message},
    }


def _show_trials(trials: Sequence[Trial], table: Endpoint, currency: str) -> None:
    rows: list[tuple[str, ...]] = []
    for one in map(_trial, trials):
        if one["error"]:
            rows.append((one["model"], one["error"]["code"], "", "", ""))
            continue
        tokens = f"{one['prompt_tokens']} + {one['completion_tokens']}"
        cost = _("unknown") if one["cost"] is None else f"{one['cost']} {currency}"
        rows.append((one["model"], _("works"), f"{one['first_token']:.3f} s", tokens, cost))
    heads = (_("Model"), _("Result"), _("First token"), _("Tokens"), _("Cost"))
    say.table(heads, rows, right=(2, 3, 4))
    for one in trials:
        if one.error:
            say.note(f"{one.model}: {say.plain(one.error.message)}")
            if one.error.code == "upstream_access_refused":
                where = table.key or _("nowhere")
                say.note(_("Its key is at {where}, says daulat.toml.").format(where=where))


def _policy_words(chosen: Settings, place: str) -> list[str]:
    """What the policy lets that place see, and how to allow it."""
    from daulat.values.plan import ANYWHERE, THIS_MACHINE

    if place == THIS_MACHINE:
        return []
    if chosen.policy.lock:
        return [_("The policy's lock is on: nothing leaves this machine, so it is never asked.")]
    classes = chosen.policy.classes
    whole = [n for n, c in classes.items() if place in c.places or ANYWHERE in c.places]
    redacted = [n for n, c in classes.items() if place in c.redacted or ANYWHERE in c.redacted]
    lines: list[str] = []
    if whole:
        text = _("Texts of these classes may go to {place}: {classes}.")
        lines.append(text.format(place=place, classes=", ".join(whole)))
    if redacted:
        text = _("These with all that was found replaced: {classes}.")
        lines.append(text.format(classes=", ".join(redacted)))
    if not lines:
        text = _("The policy lets no text go to {place} yet. To allow what is public, write:")
        lines.append(text.format(place=place))
        lines.append(f'\n[policy.classes.public]\nplaces = ["{place}"]\n')
    return lines
