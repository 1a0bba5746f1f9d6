"""What accounts have spent and reserved by day, by month and in all, and what they asked each second.

`Books` and `Windows` hold the rows that a list of requests needs, change them in memory, and write back
what has changed: a few statements for a whole list. Whoever uses them holds the database's write lock.

A balance's row is begun when a limit first needs it, with what the statistics say was spent before; from
then on it is kept in step with them, limits or not. Not here: what is allowed (`ledger`).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select

from daulat.record import schema, statistics
from daulat.record.prepared import Prepared
from daulat.values.money import joined, parted

IN_ALL: Final = "all"
SPAN: Final = 60
"""A window's length in seconds."""

_B, _W = schema.balances.c, schema.windows.c
_BALANCES: Final = Prepared(
    select(schema.balances).where(
        _B.account.in_(bindparam("accounts", expanding=True)),
        _B.period.in_(bindparam("periods", expanding=True)),
    )
)
_WINDOWS: Final = Prepared(
    select(schema.windows).where(
        _W.account.in_(bindparam("accounts", expanding=True)), _W.second >= bindparam("first")
    )
)


@dataclass(slots=True)
class Balance:
    """Of one account in one period. Money in `values.money`'s amounts."""

    spent_money: int
    spent_tokens: int
    reserved_money: int = 0
    reserved_tokens: int = 0


def periods(day: str) -> tuple[str, str, str]:
    """The periods that a day (`2026-01-31`) lies in: it, its month, all."""
    return day, day[:7], IN_ALL


class Books:
    """The balances of some accounts in the periods of some days."""

    def __init__(
        self, connection: Connection, accounts: Collection[str], days: Iterable[str]
    ) -> None:
        self._connection = connection
        self._changed: set[tuple[str, str]] = set()
        self._rows: dict[tuple[str, str], Balance] = {}
        wanted = {period for day in days for period in periods(day)}
        asked = {"accounts": sorted(accounts), "periods": sorted(wanted)}
        for row in _BALANCES.rows(connection, asked) if accounts and wanted else ():
            account, period, *spent_and_reserved = row
            units, parts, tokens, held_units, held_parts, held_tokens = spent_and_reserved
            self._rows[account, period] = Balance(
                joined(units, parts), tokens, joined(held_units, held_parts), held_tokens
            )

    def begin(self, account: str, day: str) -> None:
        """See that the account has its rows for that day."""
        for period in periods(day):
            if (account, period) not in self._rows:
                spent = statistics.so_far(self._connection, account, period)
                self._rows[account, period] = Balance(*spent)
                self._changed.add((account, period))

    def balance(self, account: str, period: str) -> Balance:
        """As it stands. To be read only.

        Raises:
            KeyError: it was not begun.
        """
        return self._rows[account, period]

    def spend(self, account: str, day: str, money: int, tokens: int) -> None:
        """Book what was used, where the account has balances."""
        for balance in self._changing(account, day):
            balance.spent_money += money
            balance.spent_tokens += tokens

    def reserve(self, account: str, day: str, money: int, tokens: int) -> None:
        """Set aside, or release what is below 0."""
        for balance in self._changing(account, day):
            balance.reserved_money += money
            balance.reserved_tokens += tokens

    def save(self) -> None:
        """Write what was changed."""
        if self._changed:
            rows = [_balance_row(place, self._rows[place]) for place in sorted(self._changed)]
            _replacing(self._connection.dialect.name, "balances").run(self._connection, rows)

    def _changing(self, account: str, day: str) -> list[Balance]:
        places = [(account, period) for period in periods(day)]
        found = [place for place in places if place in self._rows]
        self._changed.update(found)
        return [self._rows[place] for place in found]


class Windows:
    """Requests and tokens of some accounts in the last minute, by the second.

    All seconds count that touch the last 60: a limit is kept in any 60 seconds whatever, not only in those of
    the clock; who goes on at the limit gets 60 parts of 61 of it. Seconds that lie ahead count, too: another
    machine's clock may be fast.
    """

    def __init__(self, connection: Connection, accounts: Collection[str], first: int) -> None:
        self._connection = connection
        self._first = first
        self._rows: dict[str, dict[int, list[int]]] = {account: {} for account in accounts}
        self._begun: set[str] = set()
        self._changed: set[tuple[str, int]] = set()
        asked = {"accounts": sorted(accounts), "first": first - SPAN}
        for row in _WINDOWS.rows(connection, asked) if accounts else ():
            account, second, requests, tokens = row
            self._rows[account][second] = [requests, tokens]

    def used(self, account: str, second: int) -> tuple[int, int]:
        """Requests and tokens that count at that second."""
        counting = [n for at, n in self._rows[account].items() if at >= second - SPAN]
        return sum(n[0] for n in counting), sum(n[1] for n in counting)

    def until(self, account: str, second: int, kind: int, free: int) -> int:
        """Seconds until so much at most counts, if nothing more comes; `kind` 0: requests, 1: tokens."""
        rows = self._rows[account]
        last = max(rows, default=second)
        for later in range(second + 1, last + SPAN + 1):
            if self.used(account, later)[kind] <= free:
                return later - second
        return last + SPAN + 1 - second

    def count(self, account: str, second: int, requests: int, tokens: int) -> None:
        """Add a request, its tokens, or both."""
        rows = self._rows[account]
        if second not in rows:
            rows[second] = [0, 0]
            self._begun.add(account)
        rows[second][0] += requests
        rows[second][1] += tokens
        self._changed.add((account, second))

    def correct(self, account: str, second: int, tokens: int) -> None:
        """Add to the tokens of a second that still counts, or take from them."""
        if second in self._rows.get(account, {}):
            self._rows[account][second][1] += tokens
            self._changed.add((account, second))

    def save(self) -> None:
        """Write what was changed; drop what counts no more."""
        if self._begun:
            old = _W.account.in_(sorted(self._begun)), _W.second < self._first - SPAN
            self._connection.execute(delete(schema.windows).where(*old))
        if self._changed:
            rows = [
                {"account": a, "second": s, "requests": n[0], "tokens": n[1]}
                for a, s in sorted(self._changed)
                for n in [self._rows[a][s]]
            ]
            _replacing(self._connection.dialect.name, "windows").run(self._connection, rows)


def _balance_row(place: tuple[str, str], balance: Balance) -> dict[str, Any]:
    spent, reserved = parted(balance.spent_money), parted(balance.reserved_money)
    return {
        "account": place[0],
        "period": place[1],
        "spent_units": spent[0],
        "spent_parts": spent[1],
        "spent_tokens": balance.spent_tokens,
        "reserved_units": reserved[0],
        "reserved_parts": reserved[1],
        "reserved_tokens": balance.reserved_tokens,
    }


@functools.cache
def _replacing(dialect: str, name: str) -> Prepared:
    """Insert a row, or put it in the place of the one with its key."""
    table = schema.metadata.tables[name]
    made = statistics.upsert(dialect)(table)
    rest = {c.name: made.excluded[c.name] for c in table.columns if not c.primary_key}
    keys = [c.name for c in table.primary_key.columns]
    replacing = made.on_conflict_do_update(index_elements=keys, set_=rest)
    return Prepared(replacing, table.c.keys())
