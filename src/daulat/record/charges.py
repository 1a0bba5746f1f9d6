"""What is charged to whom: accounts, claims, what was spent, and what a limit says.

Values only. Not here: the books in the database (`ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from daulat.errors import BudgetError, LimitError
from daulat.values.answer import Usage
from daulat.values.money import MOST, shown
from daulat.values.plan import Caller, Limits

MOST_TOKENS: Final = 10**12
"""Tokens of one attempt."""
HOUSE: Final = "all"
_NEVER: Final = 86_400

What = Literal["money", "tokens", "requests"]


@dataclass(frozen=True, slots=True)
class Account:
    """Something with limits. `id`: `key:ID`, `project:NAME`, or `all`.

    Raises:
        ValueError: another kind of id.
    """

    id: str
    limits: Limits

    def __post_init__(self) -> None:
        kind, _, name = self.id.partition(":")
        if self.id != HOUSE and not (kind in ("key", "project") and name):
            raise ValueError(f"{self.id!r} is not an account's id")


@dataclass(frozen=True, slots=True)
class Claim:
    """The most that one attempt can cost. `endpoint`, `model`: what is asked, for the statistics.

    Raises:
        ValueError: below 0 or out of bounds.
    """

    money: int
    tokens: int
    endpoint: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        _within(self.money, MOST)
        _within(self.tokens, MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt did cost.

    Attributes:
        money: None: nobody knows; its tokens are booked all the same.
        failed: it gave no whole answer.

    Raises:
        ValueError: below 0 or out of bounds.
    """

    money: int | None
    usage: Usage
    endpoint: str
    model: str
    failed: bool = False

    def __post_init__(self) -> None:
        usage = self.usage
        _within(self.money or 0, MOST)
        for tokens in (usage.prompt_tokens, usage.completion_tokens):
            _within(tokens, MOST_TOKENS)
        for tokens in (usage.cached_tokens, usage.reasoning_tokens):
            _within(tokens, MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class Wish:
    """An attempt that wants to begin. `attempt` counts from 0; `now` in seconds since 1970."""

    subject: str
    attempt: int
    accounts: tuple[Account, ...]
    claim: Claim
    now: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt that has ended. `accounts`: those with which it was reserved."""

    subject: str
    attempt: int
    accounts: tuple[Account, ...]
    spent: Spent
    now: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A limit that an attempt would break.

    Attributes:
        limit: the name of a field of `Limits`.
        left: what is neither spent nor reserved.
        retry_after: seconds until it may be less so; None: waiting does not help.
    """

    account: str
    limit: str
    most: int
    left: int
    needed: int
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for an attempt whose outcome is not known."""

    subject: str
    attempt: int
    day: str
    second: int
    held: tuple[str, ...]
    key: str
    project: str
    claim: Claim


@dataclass(frozen=True, slots=True)
class Limit:
    """A field of `values.plan.Limits`, a row of the table below.

    Attributes:
        period: which of `balances.periods`; None: any 60 seconds.
    """

    name: str
    what: What
    period: int | None
    words: str


LIMITS: Final = (
    Limit("money_per_day", "money", 0, "for one day (UTC)"),
    Limit("money_per_month", "money", 1, "for one month (UTC)"),
    Limit("money_in_all", "money", 2, "in all"),
    Limit("tokens_per_day", "tokens", 0, "for one day (UTC)"),
    Limit("tokens_per_month", "tokens", 1, "for one month (UTC)"),
    Limit("requests_per_minute", "requests", None, "a minute"),
    Limit("tokens_per_minute", "tokens", None, "a minute"),
)
_BY_NAME: Final = {limit.name: limit for limit in LIMITS}


def accounts(caller: Caller, project: Limits, house: Limits) -> tuple[Account, ...]:
    """What a caller's requests are charged to."""
    own = (Account(f"key:{caller.id}", caller.limits),)
    shared = (Account(f"project:{caller.project}", project),) if caller.project else ()
    return (*own, *shared, Account(HOUSE, house))


def refused(refusal: Refusal, currency: str = "") -> LimitError:
    """The error that tells a client of a refusal."""
    limit = _BY_NAME[refusal.limit]
    wait = refusal.retry_after
    if limit.period is None:
        return LimitError(
            f"{_owner(refusal.account)} may have {refusal.most} {limit.what} a minute; "
            f"{refusal.left} are free now and this needs {refusal.needed}. {_next(refusal)}",
            retry_after=_NEVER if wait is None else wait,
        )
    said = [_figure(limit.what, n, currency) for n in (refusal.most, refusal.left, refusal.needed)]
    return BudgetError(
        f"{_owner(refusal.account)} may use {said[0]} {limit.words}; {said[1]} is free and this may "
        f"need up to {said[2]}. {_next(refusal)}",
        retry_after=_NEVER if wait is None else wait,
    )


def is_limited(accounts: Iterable[Account]) -> bool:
    """Whether any of the accounts has a limit."""
    return any(account.limits.any() for account in accounts)


def is_paced(account: Account) -> bool:
    """Whether the account has a limit a minute."""
    limits = account.limits
    return limits.requests_per_minute is not None or limits.tokens_per_minute is not None


def names(accounts: Iterable[Account]) -> tuple[str, str]:
    """The key and the project among accounts; empty: none."""
    found = {kind: name for kind, _, name in (a.id.partition(":") for a in accounts)}
    return found.get("key", ""), found.get("project", "")


def _within(value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ValueError(f"{value} is not between 0 and {most}")


def _owner(account: str) -> str:
    kind, _, name = account.partition(":")
    return "All keys together" if account == HOUSE else f"The {kind} {name}"


def _figure(what: What, number: int, currency: str) -> str:
    return f"{shown(number)} {currency}".strip() if what == "money" else f"{number} {what}"


def _next(refusal: Refusal) -> str:
    if refusal.needed > refusal.most:
        return "Ask for fewer tokens (max_tokens), or have the limit raised."
    if refusal.retry_after is None:
        return "Ask for fewer tokens (max_tokens), or have the budget raised."
    return f"Try again in {refusal.retry_after} seconds, or ask for fewer tokens (max_tokens)."
