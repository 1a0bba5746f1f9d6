"""Who may use how much, and what was used: reserved before an endpoint hears of a request, settled after.

All works on a connection in the record's write transaction, so that money and the chain are written
together or not at all. A request is charged to several accounts: its key's, its project's, the house's.
Limits hold for what is spent and what others have reserved together, to the last amount.

Days and months are of UTC; an attempt is booked in those in which it was reserved. Of requests and tokens
a minute, no 60 seconds whatever have more than the limit (`balances.Windows`). What a vendor bills is
booked, also where it is more than was reserved: then, and only then, an account can be over its limit.

One row is locked before anything is looked at, the head of the chain, which whoever appends locks too: so
there is one order of locks, whichever comes first. SQLite has its write lock from the transaction's start;
PostgreSQL must run at its default isolation (read committed), where statements see what was committed.

Not here: prices (`values.money`), what an attempt may cost at most (who asks), the words (`charges`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_

from daulat.record import schema, statistics
from daulat.record.balances import SPAN, Books, Windows, periods
from daulat.record.charges import (
    HOUSE,
    LIMITS,
    Account,
    Claim,
    Limit,
    Outcome,
    Refusal,
    Reservation,
    Spent,
    Wish,
    accounts,
    is_limited,
    is_paced,
    names,
    refused,
)
from daulat.values.answer import Usage
from daulat.values.money import joined, parted

__all__ = [
    "Account",
    "Claim",
    "Outcome",
    "Refusal",
    "Reservation",
    "Spent",
    "Wish",
    "abandon",
    "accounts",
    "refused",
    "reserve",
    "reserve_many",
    "settle",
    "settle_many",
]

_SOON: Final = 1

# --- reserving --------------------------------------------------------------------------------------


def reserve(
    connection: Connection,
    subject: str,
    attempt: int,
    accounts: tuple[Account, ...],
    claim: Claim,
    now: float,
) -> Refusal | None:
    """Set aside what an attempt may cost, or say which limit it would break. See `reserve_many`."""
    return reserve_many(connection, [Wish(subject, attempt, accounts, claim, now)])[0]


def reserve_many(connection: Connection, wishes: Sequence[Wish]) -> list[Refusal | None]:
    """Set aside what each attempt may cost, in order, or say which limit it would break.

    An attempt without any limit writes nothing. Where several limits refuse, it is told the one that
    lasts longest. Limits of money and tokens do not refuse what needs none.
    """
    if not any(is_limited(wish.accounts) for wish in wishes):
        return [None] * len(wishes)
    _lock(connection)
    held = {a.id for wish in wishes for a in wish.accounts if a.limits.any()}
    books = Books(connection, held, {_day(wish.now) for wish in wishes})
    windows = Windows(connection, _paced(wishes), min(int(wish.now) for wish in wishes))
    made: list[dict[str, Any]] = []
    answers: list[Refusal | None] = []
    for wish in wishes:
        refusal = _refusal(wish, books, windows)
        answers.append(refusal)
        if refusal is None and is_limited(wish.accounts):
            made.append(_set_aside(wish, books, windows))
    books.save()
    windows.save()
    if made:
        connection.execute(insert(schema.reservations), made)
    return answers


def _refusal(wish: Wish, books: Books, windows: Windows) -> Refusal | None:
    for account in wish.accounts:
        if account.limits.any():
            books.begin(account.id, _day(wish.now))
    found = list(_broken(wish, books, windows))
    return max(found, key=_lasting) if found else None


def _lasting(refusal: Refusal) -> float:
    return math.inf if refusal.retry_after is None else refusal.retry_after


def _broken(wish: Wish, books: Books, windows: Windows) -> Iterator[Refusal]:
    """The limits that the attempt would break."""
    for account in wish.accounts:
        for limit in LIMITS:
            most = getattr(account.limits, limit.name)
            needed = _needed(wish, limit)
            if most is None or not needed:
                continue
            free, wait = _free(wish, account, limit, most, needed, books, windows)
            if free < needed:
                wait = None if needed > most else wait
                yield Refusal(account.id, limit.name, most, max(0, free), needed, wait)


def _needed(wish: Wish, limit: Limit) -> int:
    match limit.what:
        case "money":
            return wish.claim.money
        case "tokens":
            return wish.claim.tokens
        case "requests":
            return int(wish.attempt == 0)


def _free(
    wish: Wish,
    account: Account,
    limit: Limit,
    most: int,
    needed: int,
    books: Books,
    windows: Windows,
) -> tuple[int, int | None]:
    """What a limit leaves, and in how many seconds it may leave more; None: that never comes."""
    if limit.period is None:
        kind, second = int(limit.what == "tokens"), int(wish.now)
        free = most - windows.used(account.id, second)[kind]
        if free >= needed:
            return free, 0
        return free, windows.until(account.id, second, kind, most - needed)
    balance = books.balance(account.id, periods(_day(wish.now))[limit.period])
    if limit.what == "money":
        spent, reserved = balance.spent_money, balance.reserved_money
    else:
        spent, reserved = balance.spent_tokens, balance.reserved_tokens
    # What others have reserved may soon be free again; what is spent is so until the period ends.
    waits = _SOON if spent + needed <= most else _until_next(limit.period, wish.now)
    return most - spent - reserved, waits


def _set_aside(wish: Wish, books: Books, windows: Windows) -> dict[str, Any]:
    """Count the attempt in books and windows; the row that remembers it."""
    day, second, claim = _day(wish.now), int(wish.now), wish.claim
    held = [account for account in wish.accounts if account.limits.any()]
    for account in held:
        books.reserve(account.id, day, claim.money, claim.tokens)
        if is_paced(account):
            windows.count(account.id, second, int(wish.attempt == 0), claim.tokens)
    units, parts = parted(claim.money)
    key, project = names(wish.accounts)
    return {
        "subject": wish.subject,
        "attempt": wish.attempt,
        "day": day,
        "second": second,
        "held": json.dumps([account.id for account in held]),
        "key": key,
        "project": project,
        "endpoint": claim.endpoint,
        "model": claim.model,
        "units": units,
        "parts": parts,
        "tokens": claim.tokens,
    }


# --- settling ---------------------------------------------------------------------------------------


def settle(
    connection: Connection,
    subject: str,
    attempt: int,
    accounts: tuple[Account, ...],
    spent: Spent,
    now: float,
) -> None:
    """Release what was set aside for an attempt and book what it did cost. See `settle_many`."""
    settle_many(connection, [Outcome(subject, attempt, accounts, spent, now)])


def settle_many(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Release what was set aside for each attempt and book what it did cost.

    An attempt with limits that has no reservation was settled or abandoned before: nothing is changed.
    Attempts without any limit have none, and each call counts.
    """
    _lock(connection)
    limited = [(o.subject, o.attempt) for o in outcomes if is_limited(o.accounts)]
    reserved = _take(connection, limited)
    booked: list[tuple[Reservation | None, statistics.Used]] = []
    for outcome in outcomes:
        found = reserved.pop((outcome.subject, outcome.attempt), None)
        if found is not None or not is_limited(outcome.accounts):
            booked.append((found, _used(outcome, found)))
    _book(connection, booked)


def abandon(connection: Connection, subject: str) -> list[Reservation]:
    """Book in full what was set aside for attempts whose outcome nobody will know; which those were.

    Their tokens are booked as an answer's and as estimated.
    """
    _lock(connection)
    r = schema.reservations.c
    query = select(schema.reservations).where(r.subject == subject).order_by(r.attempt)
    found = [_reservation(row) for row in connection.execute(query)]
    if found:
        connection.execute(delete(schema.reservations).where(r.subject == subject))
        _book(connection, [(one, _lost(one)) for one in found])
    return found


def _book(
    connection: Connection, booked: Sequence[tuple[Reservation | None, statistics.Used]]
) -> None:
    """Move from reserved to spent, and into the statistics, which may begin no balance meanwhile."""
    charged = {account for _, used in booked for account in _charged(used)}
    books = Books(connection, charged, {used.day for _, used in booked})
    timed = [found for found, _ in booked if found is not None]
    first = min((found.second for found in timed), default=0)
    windows = Windows(connection, {a for found in timed for a in found.held}, first + SPAN)
    for found, used in booked:
        tokens = used.usage.total_tokens
        for account in _charged(used):
            books.spend(account, used.day, used.money or 0, tokens)
        for account in found.held if found is not None else ():
            assert found is not None  # noqa: S101 - narrows the type
            books.reserve(account, found.day, -found.claim.money, -found.claim.tokens)
            windows.correct(account, found.second, tokens - found.claim.tokens)
    books.save()
    windows.save()
    statistics.add(connection, (used for _, used in booked))


def _take(
    connection: Connection, attempts: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Reservation]:
    """Remove reservations; what they were."""
    if not attempts:
        return {}
    r = schema.reservations.c
    query = select(schema.reservations).where(tuple_(r.subject, r.attempt).in_(attempts))
    found = [_reservation(row) for row in connection.execute(query)]
    if found:
        rows = [{"of": one.subject, "number": one.attempt} for one in found]
        connection.execute(_TAKING, rows)
    return {(one.subject, one.attempt): one for one in found}


def _used(outcome: Outcome, found: Reservation | None) -> statistics.Used:
    spent = outcome.spent
    key, project = names(outcome.accounts) if found is None else (found.key, found.project)
    return statistics.Used(
        _day(outcome.now) if found is None else found.day,
        key,
        project,
        spent.endpoint,
        spent.model,
        spent.money,
        spent.usage,
        spent.failed,
    )


def _lost(found: Reservation) -> statistics.Used:
    """What is booked for an attempt whose outcome nobody knows."""
    claim = found.claim
    usage = Usage(0, claim.tokens, counted=True)
    return statistics.Used(
        *(found.day, found.key, found.project, claim.endpoint, claim.model),
        *(claim.money, usage, True),
    )


def _reservation(row: Any) -> Reservation:
    claim = Claim(joined(row.units, row.parts), row.tokens, row.endpoint, row.model)
    held = tuple(json.loads(row.held))
    return Reservation(
        row.subject, row.attempt, row.day, row.second, held, row.key, row.project, claim
    )


# --- small things -----------------------------------------------------------------------------------

_LOCKING: Final = select(schema.head.c.seq).where(schema.head.c.id == 1).with_for_update()
_TAKING: Final = delete(schema.reservations).where(
    schema.reservations.c.subject == bindparam("of"),
    schema.reservations.c.attempt == bindparam("number"),
)


def _lock(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCKING)


def _paced(wishes: Sequence[Wish]) -> set[str]:
    return {a.id for wish in wishes for a in wish.accounts if is_paced(a)}


def _charged(used: statistics.Used) -> tuple[str, ...]:
    """The accounts whose balances an attempt counts in."""
    key = (f"key:{used.key}",) if used.key else ()
    project = (f"project:{used.project}",) if used.project else ()
    return (*key, *project, HOUSE)


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _until_next(period: int, now: float) -> int | None:
    """Seconds until the next day or month begins; None: there is none."""
    moment = datetime.fromtimestamp(now, UTC)
    today = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case 0:
            following = today + timedelta(days=1)
        case 1:
            following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        case _:
            return None
    return int((following - moment).total_seconds()) + 1
