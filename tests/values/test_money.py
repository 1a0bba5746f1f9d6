"""Amounts and prices: exact, bounded, and never rounded."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.values.answer import Usage
from daulat.values.money import (
    FREE,
    MOST,
    PER_UNIT,
    Price,
    Rates,
    amount,
    joined,
    parted,
    per_million,
    shown,
)

RATES = st.builds(Rates, *(st.integers(0, 10**9) for _ in range(4)))
PRICES = st.builds(
    Price,
    RATES,
    st.lists(st.tuples(st.integers(1, 5000), RATES), max_size=3).map(
        lambda tiers: tuple(sorted(tiers, key=lambda tier: tier[0]))
    ),
    st.integers(0, 10**12),
)


@given(st.integers(0, MOST))
def test_an_amount_is_shown_and_read_back_exactly(number: int) -> None:
    assert amount(shown(number)) == number
    assert shown(-number) == (f"-{shown(number)}" if number else "0")
    units, parts = parted(number)
    assert (units, parts) == (number // 10**12, number % 10**12)
    assert joined(units, parts) == number
    assert Fraction(Decimal(shown(number))) == Fraction(number, PER_UNIT)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("5", 5 * 10**12),
        (7, 7 * 10**12),
        (Decimal("0.1"), 10**11),
        ("0.000000000001", 1),
        ("1e3", 10**15),
        ("10000000000", 10**22),
        (str(10**15), MOST),
    ],
)
def test_amounts(text: str | int | Decimal, number: int) -> None:
    assert amount(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "-0.000000000001",
        "nan",
        "inf",
        "0.0000000000001",
        "1e99",
        str(10**15 + 1),
        "1,5",
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        amount(text)


def test_a_price_per_million_is_exact_to_six_decimals() -> None:
    assert per_million("0.0375") == 37_500
    assert per_million("0.000001") == 1
    with pytest.raises(ValueError, match="decimals"):
        per_million("0.0000001")


@given(PRICES, *(st.integers(0, 6000) for _ in range(4)))
def test_a_cost_is_the_sum_of_its_tokens(
    price: Price, fresh: int, cached: int, written: int, answer: int
) -> None:
    prompt = fresh + cached + written
    rates = price.rates
    for above, others in price.tiers:
        rates = others if prompt > above else rates
    each = [rates.input] * fresh + [rates.cached] * cached + [rates.cache_write] * written
    usage = Usage(prompt, answer, cached, written)
    assert price.cost(usage) == price.request + sum(each) + answer * rates.output
    assert price.cost(usage) <= price.bound(prompt, answer)
    assert FREE.cost(usage) == FREE.bound(prompt, answer) == 0


def test_more_cached_than_there_was_costs_nothing_less() -> None:
    price = Price(Rates(10, 1, 2, 3), request=5)
    assert price.cost(Usage(10, 0, 8, 8)) == 5 + 16 + 24
    assert price.bound(10, 4) == 5 + 100 + 4
    tiered = Price(Rates(1, 1, 1, 1), ((10, Rates(5, 7, 50, 6)),), 2)
    assert tiered.bound(3, 2) == 2 + 150 + 14
    assert tiered.cost(Usage(10, 1)) == 2 + 11
    assert tiered.cost(Usage(11, 1)) == 2 + 55 + 7
