"""What a limit says to a client, and what can be charged at all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from daulat.errors import BudgetError, LimitError
from daulat.record import charges, ledger, schema
from daulat.record.charges import Account, Claim, Refusal, Spent, accounts, refused
from daulat.values.answer import Usage
from daulat.values.money import MOST, PER_UNIT
from daulat.values.plan import NO_LIMITS, Caller, Limits


@pytest.mark.parametrize(
    ("refusal", "kind", "wait", "message"),
    [
        (
            Refusal("key:k", "money_in_all", 3 * PER_UNIT, PER_UNIT, 2 * PER_UNIT, None),
            BudgetError,
            86_400,
            "The key k may use 3 USD in all; 1 USD is free and this may need up to 2 USD. "
            "Ask for fewer tokens (max_tokens), or have the budget raised.",
        ),
        (
            Refusal("project:lab", "tokens_per_day", 100, 7, 101, None),
            BudgetError,
            86_400,
            "The project lab may use 100 tokens for one day (UTC); 7 tokens is free and this may need up to "
            "101 tokens. Ask for fewer tokens (max_tokens), or have the limit raised.",
        ),
        (
            Refusal("all", "money_per_month", 100 * PER_UNIT, 0, 100 * PER_UNIT, 77),
            BudgetError,
            77,
            "All keys together may use 100 USD for one month (UTC); 0 USD is free and this may need up to "
            "100 USD. Try again in 77 seconds, or ask for fewer tokens (max_tokens).",
        ),
        (
            Refusal("key:k", "requests_per_minute", 5, 0, 1, 3),
            LimitError,
            3,
            "The key k may have 5 requests a minute; 0 are free now and this needs 1. "
            "Try again in 3 seconds, or ask for fewer tokens (max_tokens).",
        ),
        (
            Refusal("key:k", "tokens_per_minute", 5, 5, 6, None),
            LimitError,
            86_400,
            "The key k may have 5 tokens a minute; 5 are free now and this needs 6. "
            "Ask for fewer tokens (max_tokens), or have the limit raised.",
        ),
    ],
)
def test_the_words_of_a_refusal(
    refusal: Refusal, kind: type[LimitError], wait: int, message: str
) -> None:
    error = refused(refusal, "USD")
    assert type(error) is kind
    assert (error.retry_after, error.message) == (wait, message)


def test_what_is_out_of_bounds_is_no_charge() -> None:
    assert charges.MOST_TOKENS == 10**12
    for money, tokens in ((MOST + 1, 0), (-1, 0), (0, 10**12 + 1), (0, -1)):
        with pytest.raises(ValueError, match="is not between 0 and"):
            Claim(money, tokens)
    Claim(MOST, 10**12)
    most = 10**12
    Spent(MOST, Usage(most, most, most, 0, most), "e", "m")
    assert not Spent(None, Usage(0), "e", "m").failed
    bad = (
        Usage(most + 1),
        Usage(0, most + 1),
        Usage(0, 0, most + 1),
        Usage(0, 0, 0, 0, most + 1),
        Usage(-1),
    )
    for usage in bad:
        with pytest.raises(ValueError, match="is not between 0 and"):
            Spent(0, usage, "e", "m")
    with pytest.raises(ValueError, match="is not between 0 and"):
        Spent(-1, Usage(0), "e", "m")
    for name in ("key", "key:", "people:x", ""):
        with pytest.raises(ValueError, match="is not an account's id"):
            Account(name, NO_LIMITS)


def test_whom_a_request_is_charged_to() -> None:
    mine, lab, house = Limits(money_in_all=1), Limits(money_in_all=2), Limits(money_in_all=3)
    with_project = accounts(Caller("k", "k", limits=mine, project="lab"), lab, house)
    assert with_project == (
        Account("key:k", mine),
        Account("project:lab", lab),
        Account("all", house),
    )
    assert accounts(Caller("k", "k", limits=mine), lab, house) == (
        Account("key:k", mine),
        Account("all", house),
    )
    assert charges.names(with_project) == ("k", "lab")
    assert charges.names([Account("all", house)]) == ("", "")
    assert charges.is_limited(with_project)
    assert not charges.is_limited([Account("all", NO_LIMITS)])
    for limits in (Limits(requests_per_minute=1), Limits(tokens_per_minute=1)):
        assert charges.is_paced(Account("all", limits))
    assert not charges.is_paced(Account("all", mine))


WAITS = {("day", "day"): 2, ("month", "day"): 86_402, ("month", "month"): 86_401}
"""Seconds to the end of what the limit is for, rounded up."""


@pytest.mark.parametrize(
    ("name", "periods"),
    [
        ("money_per_day", ["day"]),
        ("tokens_per_day", ["day"]),
        ("money_per_month", ["day", "month"]),
        ("tokens_per_month", ["day", "month"]),
        ("money_in_all", ["day", "month", "year"]),
    ],
)
def test_a_limit_holds_for_its_period_and_no_longer(
    tmp_path: Path, name: str, periods: list[str]
) -> None:
    """10 are allowed and spent; later the same day, the next day, and the next month, 10 more are asked for."""
    later = {
        "day": datetime(2026, 1, 30, 23, 59, 59, tzinfo=UTC),
        "month": datetime(2026, 1, 31, tzinfo=UTC),
        "year": datetime(2026, 2, 1, tzinfo=UTC),
    }
    who = (Account("key:k", Limits(**{name: 10})),)
    start = datetime(2026, 1, 30, tzinfo=UTC).timestamp()
    engine = schema.open_database(tmp_path / "r.db").execution_options(writing=True)
    with engine.begin() as connection:
        claim = Claim(10, 10)
        assert ledger.reserve(connection, "a", 0, who, claim, start) is None
        ledger.settle(connection, "a", 0, who, Spent(10, Usage(10), "e", "m"), start)
        for period, when in later.items():
            answer = ledger.reserve(connection, period, 0, who, claim, when.timestamp())
            assert (answer is not None) is (period in periods)
            if answer is not None:
                assert answer.retry_after == WAITS.get((name.rpartition("_")[2], period))
    engine.dispose()
