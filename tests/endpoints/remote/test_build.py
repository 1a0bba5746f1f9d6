"""From daulat.toml to endpoints: what is wrong is told with its place, and what is right is as it says."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.endpoints.remote.build import build, endpoint
from daulat.endpoints.remote.prices import looked_up, said
from daulat.errors import SettingsError
from daulat.settings import Endpoint, Money, Prices, Settings
from daulat.values.answer import Usage
from daulat.values.money import FREE, Price, Rates, shown

SOUND: dict[str, Any] = {"kind": "openai", "key": "env:K", "place": "us", "models": ("gpt-4o",)}
USD = Money()


def made(**keys: Any) -> Any:
    return endpoint("oai", Endpoint(**{**SOUND, **keys}), USD)


@pytest.mark.parametrize(
    ("keys", "param", "word"),
    [
        ({"place": ""}, "place", "this-machine"),
        ({"models": ()}, "models", "endpoints models"),
        ({"models": ("a", "a")}, "models", "2 times"),
        ({"key": ""}, "key", "env:NAME"),
        ({"key": "sk-123"}, "key", "file:PATH"),
        ({"kind": "compatible"}, "url", "missing"),
        ({"kind": "azure"}, "url", "missing"),
        ({"names": {"gpt-4": "x"}}, "names", "gpt-4o"),
        ({"prices": {"gpt-4": Prices("1", "1")}}, "prices", "gpt-4o"),
        ({"prices": {"gpt-4o": Prices("1")}}, "prices.'gpt-4o'.output", "output"),
        ({"prices": {"gpt-4o": Prices("0.0000001", "1")}}, "prices.'gpt-4o'", "decimals"),
        ({"capabilities": ("chat", "tool")}, "capabilities", "tools"),
        ({"lacks": ("vision",)}, "lacks", "images"),
        ({"headers": {"a b": "x"}}, "headers", "a b"),
        ({"headers": {"a": "x\r\ny: z"}}, "headers", "a"),
        ({"place": "own-network"}, "place", "really"),
        ({"place": "this-machine", "url": "https://10.0.0.2/v1"}, "place", "really"),
        ({"url": "http://example.org/v1"}, None, "https"),
        ({"url": "example.org"}, None, "https"),
    ],
)
def test_what_is_wrong_is_named(keys: dict[str, Any], param: str | None, word: str) -> None:
    with pytest.raises(SettingsError) as raised:
        made(**keys)
    assert word in raised.value.message
    assert "oai" in raised.value.message
    assert "sk-123" not in raised.value.message
    if param is not None:
        assert raised.value.param == f"endpoints.oai.{param}"


def test_the_name_of_our_own_is_taken() -> None:
    with pytest.raises(SettingsError, match="native"):
        endpoint("native", Endpoint(**SOUND), USD)


def test_the_enabled_ones_in_their_order(tmp_path: Path) -> None:
    tables = {
        "b": Endpoint(**SOUND),
        "off": Endpoint(enabled=False),
        "a": Endpoint(
            **{**SOUND, "kind": "compatible", "url": "http://10.1.1.1/v1", "place": "own-network"}
        ),
    }
    found = build(Settings(tmp_path, endpoints=tables))
    assert list(found) == ["b", "a"]
    assert found["a"].card.offers["gpt-4o"].price == FREE


def test_a_card_says_what_its_table_says() -> None:
    card = made(
        models=("fast", "gpt-4o"),
        names={"fast": "gpt-4o-mini"},
        prices={"gpt-4o": Prices("3", "4", "1.5", request="0.01")},
        lacks=("logprobs",),
        owner="closed",
        context=1000,
        max_output=99,
        may_train=True,
    ).card
    fast, other = card.offers["fast"], card.offers["gpt-4o"]
    assert (fast.upstream, fast.context, fast.max_output) == ("gpt-4o-mini", 1000, 99)
    assert fast.price is not None
    assert fast.price.rates == Rates(150_000, 600_000, 75_000, 150_000)
    assert other.price == Price(Rates(3_000_000, 4_000_000, 1_500_000, 3_000_000), request=10**10)
    assert "logprobs" not in card.capabilities
    assert "tools" in card.capabilities
    assert card.may_train
    assert made(capabilities=("chat", "grammar")).card.capabilities == {"chat", "grammar"}


@pytest.mark.parametrize(
    ("keys", "url"),
    [
        ({}, "https://api.openai.com/v1"),
        ({"kind": "mistral"}, "https://api.mistral.ai/v1"),
        (
            {"kind": "azure", "url": "https://r.openai.azure.com/"},
            "https://r.openai.azure.com/openai/v1",
        ),
        (
            {"kind": "azure", "url": "https://r.openai.azure.com", "version": "2024-10-21"},
            "https://r.openai.azure.com/openai",
        ),
        ({"kind": "azure", "url": "https://r.example/x/"}, "https://r.example/x"),
    ],
)
def test_addresses(keys: dict[str, Any], url: str) -> None:
    assert made(**keys).url == url


# --- prices ---------------------------------------------------------------------------------------


def test_tiers_are_cliffs() -> None:
    price = looked_up("gemini", "", "gemini-2.5-pro", USD)
    assert price is not None
    assert [above for above, _rates in price.tiers] == [200_000]
    below, above = price.cost(Usage(200_000)), price.cost(Usage(200_001))
    assert above > 1.9 * below
    assert shown(below) == "0.25"


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-5-mini"),
        ("openai", "text-embedding-3-small"),
        ("azure", "gpt-4o"),
        ("mistral", "mistral-large-latest"),
        ("anthropic", "claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-pro"),
        ("vertex", "gemini-2.5-flash"),
    ],
)
@pytest.mark.parametrize("prompt", [1, 1000, 199_999, 200_001, 900_000])
def test_prices_are_those_of_genai_prices(kind: str, model: str, prompt: int) -> None:
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    from daulat.endpoints.remote.prices import PROVIDERS

    ours = looked_up(kind, "", model, USD)
    assert ours is not None
    reads = prompt // 3
    usage = TheirUsage(input_tokens=prompt, output_tokens=77, cache_read_tokens=reads)
    theirs = calc_price(usage, model, provider_id=PROVIDERS[kind]).total_price
    cost = Decimal(shown(ours.cost(Usage(prompt, 77, cached_tokens=reads))))
    assert theirs <= cost < theirs + Decimal("0.000001") + theirs / 1000


def test_what_is_not_known_has_no_price() -> None:
    assert looked_up("openai", "", "no-such-model", USD) is None
    assert looked_up("watsonx", "", "gpt-4o", USD) is None
    assert looked_up("compatible", "https://gpu.example.org/v1", "gpt-4o", USD) is None
    assert looked_up("compatible", "https://api.groq.com/openai/v1", "llama-3.1-8b-instant", USD)
    assert made(models=("no-such-model",)).card.offers["no-such-model"].price is None


def test_other_currencies() -> None:
    with pytest.raises(SettingsError, match="per_usd"):
        looked_up("openai", "", "gpt-4o", Money(currency="IDR"))
    price = looked_up("openai", "", "gpt-4o", Money(currency="IDR", per_usd="16543.21"))
    assert price is not None
    assert shown(price.rates.input * 10**6) == "41358.025"


@given(
    st.decimals(min_value="0.000001", max_value="1000000", places=6),
)
def test_rounding_is_up_and_below_a_unit(rate: Decimal) -> None:
    dollars = looked_up("openai", "", "gpt-4o", USD)
    price = looked_up("openai", "", "gpt-4o", Money(currency="XXX", per_usd=str(rate)))
    assert price is not None
    assert dollars is not None
    exact = Decimal(dollars.rates.cached) * rate
    assert exact <= price.rates.cached < exact + 1


@given(*[st.decimals(min_value=0, max_value=1000, places=6).map(str)] * 3)
def test_stated_prices_are_exact(read: str, write: str, cached: str) -> None:
    price = said(Prices(read, write, cached), "endpoints.x.prices.m")
    cost = price.cost(Usage(1_000_000, 1_000_000, cached_tokens=500_000))
    assert Decimal(shown(cost)) == Decimal(read) / 2 + Decimal(cached) / 2 + Decimal(write)
