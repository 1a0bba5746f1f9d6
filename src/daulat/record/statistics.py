"""What was used, by day (UTC), key, project, endpoint and model: for `daulat spend` and the metrics.

The sums are of attempts, not of exchanges: a request that two endpoints were asked for counts at both.
Not here: who may use how much (`ledger`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, RowMapping, func, select
from sqlalchemy.dialects import postgresql, sqlite

from daulat.errors import RequestError
from daulat.record import schema
from daulat.record.prepared import Prepared
from daulat.values.answer import Usage
from daulat.values.money import PER_UNIT, joined, parted

By = Literal["day", "key", "project", "endpoint", "model"]
DIMENSIONS: Final[tuple[By, ...]] = ("day", "key", "project", "endpoint", "model")
_COUNTS: Final = (
    *("requests", "errors", "counted", "unpriced"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"),
)


@dataclass(frozen=True, slots=True)
class Used:
    """One attempt, as it is added to the statistics.

    Attributes:
        money: None: nobody knows what it cost.
        failed: the attempt gave no whole answer.
    """

    day: str
    key: str
    project: str
    endpoint: str
    model: str
    money: int | None
    usage: Usage
    failed: bool


@dataclass(frozen=True, slots=True)
class Spend:
    """Sums of one group. Money in `values.money`'s amounts; a dimension that was not asked for is empty.

    Attributes:
        counted: attempts whose tokens are the house's own estimate.
        unpriced: attempts that nobody knows the price of; `money` lacks them.
    """

    day: str
    key: str
    project: str
    endpoint: str
    model: str
    requests: int
    errors: int
    counted: int
    unpriced: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    money: int


def add(connection: Connection, many: Iterable[Used]) -> None:
    """Add attempts to the statistics: one statement, a row for each group."""
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for used in many:
        place = (used.day, used.key, used.project, used.endpoint, used.model)
        sums = groups.setdefault(place, dict.fromkeys((*_COUNTS, "money"), 0))
        for name, value in _values(used).items():
            sums[name] += value
    if groups:
        rows = [_row(place, sums) for place, sums in groups.items()]
        _adding(connection.dialect.name).run(connection, rows)


def spend(
    connection: Connection,
    *,
    since: str = "",
    until: str = "",
    by: Sequence[By] = ("endpoint",),
) -> list[Spend]:
    """Sums over days, grouped, in the order of the groups.

    Args:
        since, until: days (`2026-01-31`, UTC), both counted; empty: without that bound.
        by: what is told apart; nothing: one row with everything, or none where there is nothing.

    Raises:
        RequestError: `by` has what the statistics have not.
    """
    if unknown := set(by) - set(DIMENSIONS):
        raise RequestError(
            f"Spend is told apart by {', '.join(DIMENSIONS)}, not by {min(unknown)}.", param="by"
        )
    s = schema.statistics.c
    groups = [s[name] for name in dict.fromkeys(by)]
    sums = [func.sum(s[name]).label(name) for name in (*_COUNTS, "units", "parts")]
    query = select(*groups, *sums).group_by(*groups).order_by(*groups)
    if since:
        query = query.where(s.day >= since)
    if until:
        query = query.where(s.day <= until)
    rows = connection.execute(query).mappings().all()
    return [_spend(row) for row in rows if row["requests"] is not None]


def so_far(connection: Connection, account: str, period: str) -> tuple[int, int]:
    """The money and the tokens that an account has used in a period.

    Args:
        period: a day, a month (`2026-01`), or `all`.
    """
    s = schema.statistics.c
    query = select(
        func.sum(s.units), func.sum(s.parts), func.sum(s.prompt_tokens + s.completion_tokens)
    )
    kind, _, name = account.partition(":")
    if kind in ("key", "project"):
        query = query.where(s[kind] == name)
    if period != "all":
        # "~" stands behind every digit: the days of a month lie between its name and that.
        query = query.where(s.day >= period, s.day <= f"{period}~")
    units, parts, tokens = connection.execute(query).one()
    return joined(int(units or 0), int(parts or 0)), int(tokens or 0)


def _values(used: Used) -> dict[str, int]:
    usage = used.usage
    return {
        "requests": 1,
        "errors": int(used.failed),
        "counted": int(usage.counted),
        "unpriced": int(used.money is None),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "money": used.money or 0,
    }


def _row(place: tuple[str, ...], sums: dict[str, int]) -> dict[str, Any]:
    units, parts = parted(sums["money"])
    counts = {name: sums[name] for name in _COUNTS}
    return {**dict(zip(DIMENSIONS, place, strict=True)), **counts, "units": units, "parts": parts}


@functools.cache
def _adding(dialect: str) -> Prepared:
    """Insert a group's row, or add to the one that is there."""
    made = upsert(dialect)(schema.statistics)
    s, new = schema.statistics.c, made.excluded
    changes = {name: s[name] + new[name] for name in _COUNTS}
    changes["units"] = s.units + new.units + (s.parts + new.parts) // PER_UNIT
    changes["parts"] = (s.parts + new.parts) % PER_UNIT
    adding = made.on_conflict_do_update(index_elements=list(DIMENSIONS), set_=changes)
    return Prepared(adding, schema.statistics.c.keys())


def upsert(dialect: str) -> Any:
    """The dialect's own `insert`, which can also update."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]


def _spend(row: RowMapping) -> Spend:
    day, key, project, endpoint, model = (str(row.get(name, "")) for name in DIMENSIONS)
    counts = {name: int(row[name]) for name in _COUNTS}
    money = joined(int(row["units"]), int(row["parts"]))
    return Spend(day, key, project, endpoint, model, **counts, money=money)
