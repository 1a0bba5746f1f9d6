"""From daulat.toml to endpoints: every cross-check that one table alone cannot make."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, get_args

from daulat.endpoints.remote.kinds import Made, maker
from daulat.endpoints.remote.prices import looked_up, said
from daulat.endpoints.remote.upstream import RemoteEndpoint
from daulat.errors import SettingsError
from daulat.net.calls import Client, checked
from daulat.net.lock import is_loopback
from daulat.settings import Endpoint, Money, Settings
from daulat.values.money import FREE, Price
from daulat.values.plan import (
    OWN_NETWORK,
    THIS_MACHINE,
    Capability,
    EndpointCard,
    Offer,
    Patience,
)

RESERVED: Final = ("native",)
CAPABILITIES: Final[tuple[str, ...]] = get_args(Capability)
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_NEAR: Final = (THIS_MACHINE, OWN_NETWORK)


def build(settings: Settings) -> Mapping[str, RemoteEndpoint]:
    """The endpoints that are enabled, by name, in the order of the file. None of them is asked.

    Raises:
        SettingsError: the first thing that is wrong, with its place in the file.
    """
    return {
        name: endpoint(name, table, settings.money)
        for name, table in settings.endpoints.items()
        if table.enabled
    }


def all_cards(settings: Settings) -> dict[str, EndpointCard]:
    """This machine's endpoint and those that are set, by name, for who looks without asking.

    Raises:
        SettingsError: as `build`.
    """
    native = EndpointCard(RESERVED[0], THIS_MACHINE, "open")
    return {native.name: native, **{name: one.card for name, one in build(settings).items()}}


def endpoint(name: str, table: Endpoint, money: Money) -> RemoteEndpoint:
    """One endpoint.

    Raises:
        SettingsError: as `build`.
    """
    _check_words(name, table)
    make = maker(table.kind)
    if make is None:
        raise _wrong(name, "kind", f"is {table.kind!r}, which this version does not have yet.")
    made = make(name, table)
    _check_place(name, table, made)
    card = EndpointCard(
        name=name,
        place=table.place,
        owner=table.owner,
        offers={model: _offer(name, table, made, model, money) for model in table.models},
        capabilities=_capabilities(table, made),
        may_train=table.may_train,
        patience=Patience(
            table.first_seconds, table.between_seconds, table.total_seconds, table.retries
        ),
    )
    client = Client(
        made.url,
        f"The endpoint {name}",
        private=table.place in _NEAR,
        connect_seconds=table.connect_seconds,
    )
    headers = {**made.headers, **table.headers}
    return RemoteEndpoint(card, made.dialect, client, made.access, replace(table, headers=headers))


def _check_words(name: str, table: Endpoint) -> None:
    if name in RESERVED:
        raise _wrong(name, "", f"cannot be called {name!r}: that is this machine's own endpoint.")
    if not table.place:
        raise _wrong(
            name,
            "place",
            f"is missing: say where its data goes, {THIS_MACHINE}, {OWN_NETWORK}, or a name that the "
            "policy uses, such as us.",
        )
    if not table.models:
        raise _wrong(
            name,
            "models",
            f"is empty: name those that clients may ask for. `daulat endpoints models {name}` lists "
            "what it has.",
        )
    for model, times in Counter(table.models).items():
        if times > 1:
            raise _wrong(name, "models", f"has {model!r} {times} times.")
    _check_known(name, "names", table.names, table.models, "model of this endpoint")
    _check_known(name, "prices", table.prices, table.models, "model of this endpoint")
    _check_known(name, "capabilities", table.capabilities, CAPABILITIES, "capability")
    _check_known(name, "lacks", table.lacks, CAPABILITIES, "capability")
    for header, value in table.headers.items():
        if not (_HEADER.fullmatch(header) and value.isascii() and value.isprintable()):
            raise _wrong(name, "headers", f"has {header[:64]!r}, which no request can have.")


def _check_known(
    name: str, key: str, words: Iterable[str], known: Iterable[str], what: str
) -> None:
    there = list(known)
    for word in words:
        if word not in there:
            near = difflib.get_close_matches(word, there, 1, cutoff=0.7)
            hint = f"Did you mean {near[0]!r}?" if near else "There are: " + ", ".join(there) + "."
            raise _wrong(name, key, f"has {word!r}, which is no {what}. {hint}")


def _check_place(name: str, table: Endpoint, made: Made) -> None:
    """A place that is near cannot be the address of a vendor."""
    private = table.place in _NEAR
    _scheme, host = checked(made.url, f"[endpoints.{name}]", private=private)
    away = made.own_url or (table.place == THIS_MACHINE and not is_loopback(host))
    if private and away:
        raise _wrong(
            name,
            "place",
            f"is {table.place!r}, and {host} is not there: say where its data really goes.",
        )


def _offer(name: str, table: Endpoint, made: Made, model: str, money: Money) -> Offer:
    upstream = table.names.get(model, model)
    return Offer(
        model=model,
        upstream=upstream,
        price=_price(name, table, made, model, money),
        context=table.context or None,
        max_output=table.max_output,
    )


def _price(name: str, table: Endpoint, made: Made, model: str, money: Money) -> Price | None:
    """What is said; what is known; nothing, for what runs on the house's own machines."""
    if model in table.prices:
        return said(table.prices[model], f"endpoints.{name}.prices.{model!r}")
    if table.place in _NEAR:
        return FREE
    for known_as in dict.fromkeys((table.names.get(model, model), model)):
        found = looked_up(table.kind, made.url, known_as, money)
        if found is not None:
            return found
    return None


def _capabilities(table: Endpoint, made: Made) -> frozenset[str]:
    stated: frozenset[str] = frozenset(table.capabilities) or frozenset(made.dialect.capabilities)
    return stated - frozenset(table.lacks)


def _wrong(name: str, key: str, what: str) -> SettingsError:
    place = f"endpoints.{name}" + (f".{key}" if key else "")
    return SettingsError(f"[endpoints.{name}] {key}{' ' if key else ''}{what}", param=place)
