"""A whole hall in this process before scripted upstreams, and the check that all its books agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import select

from daulat.endpoints.remote.build import endpoint
from daulat.endpoints.remote.upstream import RemoteEndpoint
from daulat.flow import Hall
from daulat.flow.setup import Setup
from daulat.models.catalogue import Catalogue
from daulat.policy import Reach, Rules
from daulat.record import Record, schema, statistics, verify
from daulat.record.keys import Keys
from daulat.route import Route
from daulat.settings import Endpoint, Money, Prices
from daulat.values.answer import Done, Event
from daulat.values.money import amount, joined
from daulat.values.plan import ANYWHERE, Caller, Limits
from daulat.values.request import ChatRequest, Message, Sampling

PRICES = Prices(input="2.5", output="10", cached="1.25", request="0.000001")
CAPABILITIES = (
    *("chat", "completions", "embeddings", "moderations", "tools", "json", "json_schema"),
    *("seed", "stop", "continue"),
)
MUCH = Limits(money_in_all=amount(1000), tokens_per_month=10**12)


@dataclass
class Hallway:
    """Asks a hall, as a client would."""

    hall: Hall
    record: Record
    caller: Caller
    endpoints: Mapping[str, RemoteEndpoint]
    events: list[Event] = field(default_factory=list[Event])

    async def ask(
        self, model: str, *, stream: bool = True, most: int | None = 50, after: int = -1
    ) -> None:
        """Ask to the end; leave after so many events where that is given."""
        sampling = Sampling(max_tokens=most)
        said = (Message("user", "Where is the harbour?"),)
        request = ChatRequest(model, said, sampling=sampling, stream=stream)
        self.events.clear()
        exchange = await self.hall.open(self.caller, request)
        async with contextlib.aclosing(exchange.events()) as events:
            async for event in events:
                self.events.append(event)
                if isinstance(event, Done) or len(self.events) == after:
                    return


@contextlib.asynccontextmanager
async def hallway(
    place: Path | str,
    home: Path,
    tables: Mapping[str, Mapping[str, Any]],
    limits: Limits = MUCH,
    routes: Mapping[str, Route] | None = None,
) -> AsyncGenerator[Hallway, None]:
    """A hall with one endpoint for each table of settings."""
    record = Record.open(place)
    usual: dict[str, Any] = {
        "kind": "compatible",
        "key": "env:SCRIPTED_KEY",
        "place": "this-machine",
        "models": ("m",),
        "capabilities": CAPABILITIES,
    }
    found = {
        name: endpoint(
            name,
            Endpoint(
                **{
                    **usual,
                    "prices": dict.fromkeys(table.get("models", ("m",)), PRICES),
                    **table,
                }
            ),
            Money(),
        )
        for name, table in tables.items()
    }
    rules = Rules(reach={"internal": Reach(frozenset({ANYWHERE}))})
    setup = Setup(rules, routes=routes or {})
    hall = Hall(Catalogue(home), Keys(record), record, found, "instance-0000000000000000", setup)
    try:
        yield Hallway(hall, record, Caller("k", "k", limits=limits), found)
    finally:
        for one in found.values():
            await one.close()
        record.close()


def limited(hallway: Hallway, limits: Limits) -> Hallway:
    """The same for another key."""
    return replace(hallway, caller=Caller("other", "other", limits=limits), events=[])


# --- the check --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sums:
    """Money and tokens, prompt and answer together."""

    money: int
    tokens: int
    attempts: int


def told(record: Record) -> Sums:
    """What the entries of the chain say was spent."""
    subjects: dict[str, list[Any]] = {}
    for entry in record.entries():
        if entry.kind.startswith("exchange."):
            subjects.setdefault(entry.subject, []).append(entry)
    attempts = [one for entries in subjects.values() for one in _attempts(entries)]
    return Sums(sum(a[0] for a in attempts), sum(a[1] for a in attempts), len(attempts))


def _attempts(entries: list[Any]) -> list[tuple[int, int]]:
    by_kind = {entry.kind: entry for entry in entries}
    closed = by_kind.get("exchange.closed")
    if closed is not None:
        assert "exchange.interrupted" not in by_kind
        ended = closed.body.get("attempts", [])
        return [_ended(one) for one in ended]
    earlier = [
        _ended(one)
        for entry in entries
        if entry.kind == "exchange.attempted"
        for one in entry.body["ended"]
    ]
    lost = by_kind.get("exchange.interrupted")
    booked = lost.body.get("booked", []) if lost else []
    return [*earlier, *((amount(one["most"]), one["tokens"]) for one in booked)]


def _ended(one: Mapping[str, Any]) -> tuple[int, int]:
    cost = one["cost"]
    money = 0 if cost is None else amount(Decimal(cost.split()[0]))
    usage = one["usage"]
    return money, usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)


def agree(record: Record, *, limited: bool = True, under_way: int = 0) -> Sums:
    """The chain, the statistics and the balances say the same; nothing is reserved but what is under way.

    Args:
        limited: a limit held, so that there are balances.
    """
    assert verify(record).fault is None
    said = told(record)
    with record.reading() as connection:
        spend = statistics.spend(connection, by=())
        money = sum(row.money for row in spend)
        tokens = sum(row.prompt_tokens + row.completion_tokens for row in spend)
        assert (money, tokens) == (said.money, said.tokens)
        reserved = connection.execute(select(schema.reservations)).all()
        opened = connection.execute(select(schema.open_exchanges.c.subject)).scalars().all()
        assert {row.subject for row in reserved} <= set(opened)
        assert len(opened) == under_way, opened
        held = sum(joined(row.units, row.parts) for row in reserved)
        rows = connection.execute(select(schema.balances)).all()
        assert bool(rows) is limited or not said.attempts
        for row in rows:
            assert joined(row.spent_units, row.spent_parts) == money
            assert joined(row.reserved_units, row.reserved_parts) == held
            assert row.spent_tokens == tokens
            assert row.reserved_tokens == sum(one.tokens for one in reserved)
    return said


# --- stopping at any step ---------------------------------------------------------------------------


class Stepped:
    """Runs a coroutine and calls `at` before its nth wait, from 0; `waits` says how many there were."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: Callable[[int], object]) -> None:
        self.waits = 0
        self._work = work
        self._at = at

    def __await__(self) -> Generator[Any, Any, Any]:
        waiting = self._work.__await__()
        send: Callable[[], Any] = lambda: next(waiting)  # noqa: E731
        while True:
            try:
                future = send()
            except StopIteration as ended:
                return ended.value
            self._at(self.waits)
            self.waits += 1
            try:
                yield future
                send = lambda: next(waiting)  # noqa: E731
            except BaseException as error:
                send = lambda error=error: waiting.throw(error)  # noqa: E731


async def cancelled_at(work: Coroutine[Any, Any, Any], number: int) -> bool:
    """Run it, cancelled at its nth wait; whether it was."""
    hit = False

    def at(wait: int) -> None:
        nonlocal hit
        task = asyncio.current_task()
        if wait == number and task is not None:
            hit = True
            asyncio.get_running_loop().call_soon(task.cancel)

    async def whole() -> None:
        await Stepped(work, at)

    await asyncio.gather(asyncio.create_task(whole()), return_exceptions=True)
    return hit


async def settled(check: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until the check holds: what nobody awaits may still be writing."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                check()
                return
            except AssertionError:
                await asyncio.sleep(0.01)


Asking = Callable[[], Awaitable[None]]
