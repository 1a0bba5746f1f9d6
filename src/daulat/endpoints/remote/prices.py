"""What a model costs: what daulat.toml says, else what genai-prices knows of its vendor.

Prices are amounts a token in the house's currency (`values.money`). One that is looked up is rounded up to
what an amount can hold, so that a budget is never overdrawn by rounding. genai-prices comes with its
data; nothing is fetched. What depends on more than the prompt's length (a batch, a region, a search) is
not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from daulat.errors import SettingsError
from daulat.settings import Money, Prices
from daulat.values.money import MOST, PER_UNIT, Price, Rates, amount, per_million

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "azure": "azure",
    "mistral": "mistral",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex": "google",
}
"""genai-prices' names by kind; a `compatible` server is known by its address, if it is."""

_KEYS: Final = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")


def said(given: Prices, place: str) -> Price:
    """The price that a table of the settings states.

    Args:
        place: that table's name, for messages.

    Raises:
        SettingsError: input or output is missing, or a number is finer than an amount can be.
    """
    for name in ("input", "output"):
        if getattr(given, name) == "":
            raise SettingsError(
                f'[{place}] has no {name}: write {name} = "0" if it costs nothing.',
                param=f"{place}.{name}",
            )
    try:
        read, write = per_million(given.input), per_million(given.output)
        cached = per_million(given.cached) if given.cached else read
        kept = per_million(given.cache_write) if given.cache_write else read
        request = amount(given.request) if given.request else 0
    except ValueError as error:
        raise SettingsError(f"[{place}]: {error}.", param=place) from None
    return Price(Rates(read, write, cached, kept), request=request)


def looked_up(kind: str, url: str, model: str, money: Money) -> Price | None:
    """The price that genai-prices knows today; None: it does not know the model.

    Args:
        model: as the endpoint names it.

    Raises:
        SettingsError: the currency is not the dollar, and what a dollar is in it is not said.
    """
    found = _prices(kind, url, model)
    if found is None:
        return None
    every = [getattr(found, key, None) for key in _KEYS]
    if every[0] is None:
        return None
    starts = sorted({tier.start for price in every for tier in getattr(price, "tiers", ())})
    rate = _rate(money)
    rates = [_rates(every, start, rate) for start in (0, *starts)]
    return Price(rates[0], tuple(zip(starts, rates[1:], strict=True)))


def _prices(kind: str, url: str, model: str) -> Any:
    """genai-prices' prices of a million tokens in dollars, as they are today."""
    # Imported here: it has every vendor's prices, and a start without endpoints needs none.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    provider = PROVIDERS.get(kind)
    if provider is None and kind != "compatible":
        return None
    try:
        _provider, info = get_snapshot().find_provider_model(
            model, None, provider, None if provider else url
        )
    except LookupError:
        return None
    return info.get_prices(datetime.now(UTC))


def _rates(every: list[Any], start: int, rate: Decimal) -> Rates:
    """The rates behind that many tokens of a prompt; what is not priced apart costs as much as input."""
    read, write, cached, kept = (_at(price, start) for price in every)
    assert read is not None  # noqa: S101 - the caller has looked
    return Rates(
        _amount(read, rate),
        _amount(write or Decimal(0), rate),
        _amount(read if cached is None else cached, rate),
        _amount(read if kept is None else kept, rate),
    )


def _at(price: Any, start: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base
    for tier in price.tiers:
        if tier.start <= start and start:
            chosen = tier.price
    return chosen


def _amount(per_mtok: Decimal, rate: Decimal) -> int:
    exact = per_mtok * rate * (PER_UNIT // 10**6)
    return min(int(exact.to_integral_value(ROUND_CEILING)), MOST)


def _rate(money: Money) -> Decimal:
    """Units of the currency for a dollar."""
    if money.per_usd:
        return Decimal(money.per_usd)
    if money.currency == "USD":
        return Decimal(1)
    raise SettingsError(
        f"[money] per_usd is missing: prices that are looked up are in US dollars. Say how many "
        f"{money.currency} one is, or state the prices of every model.",
        param="money.per_usd",
    )
