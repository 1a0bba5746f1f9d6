"""Many clients on one budget at once, and what must hold afterwards; benchmarks/money.py says what for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import houses
from sqlalchemy import select

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Script, Upstream
from daulat.record import schema, statistics, verify
from daulat.values.money import PER_UNIT, Price, Rates, joined, per_million
from daulat.values.plan import Limits

PRICE = Price(Rates(per_million("2.5"), per_million("10"), per_million("1.25"), per_million("2.5")))
WORDS = 8
QUESTION = "Where is the harbour of Surabaya, and how does one get there from the station?"
PATIENCE = 120.0


@dataclass
class Told:
    """What the clients saw."""

    answered: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])
    messages: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


def endpoint(upstream: Upstream) -> str:
    """The settings of the one endpoint."""
    return f"""
[endpoints.up]
kind = "openai"
url = "{upstream.url}/v1"
key = "env:SCRIPTED_KEY"
place = "own-network"
models = ["m"]
[endpoints.up.prices.m]
input = "2.5"
output = "10"
cached = "1.25"
"""


def one_answer(upstream: Upstream) -> int:
    """What the question costs, by the upstream's own books."""
    last = upstream.ledger()["entries"][-1]
    return (
        last["prompt_tokens"] * PRICE.rates.input + last["completion_tokens"] * PRICE.rates.output
    )


async def use_up(urls: Sequence[str], key: str, clients: int, requests: int) -> Told:
    """Each client asks its requests one after the other; who is told to wait a second does so, others stop."""
    told = Told()
    started = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(
            *(_client(session, urls[n % len(urls)], key, requests, told) for n in range(clients))
        )
    told.seconds = time.monotonic() - started
    return told


async def _client(
    session: aiohttp.ClientSession, url: str, key: str, requests: int, told: Told
) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": WORDS,
    }
    for number in range(requests):
        body["stream"] = number % 2 == 0
        while True:
            wait = await _asked(session, url, key, body, told)
            if wait == 0:
                break
            if wait != 1:
                return
            await asyncio.sleep(0.2)


async def _asked(
    session: aiohttp.ClientSession, url: str, key: str, body: dict[str, Any], told: Told
) -> int:
    """Seconds that the client shall wait; 0: it was answered."""
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        text = await answer.text()
        told.statuses[str(answer.status)] += 1
        if answer.status == 200:
            told.answered += 1
            if body["stream"] and "[DONE]" not in text:
                told.wrong.append(f"a stream that was cut: {text[-200:]}")
            return 0
        if answer.status != 429 or '"insufficient_quota"' not in text:
            told.wrong.append(text[:300])
            return -1
        told.messages[text[: text.find(";")]] += 1
        return int(answer.headers["retry-after"])


def checked(home: Path, upstream: Upstream, budget: int, free: int, told: Told) -> dict[str, Any]:
    """The figures.

    Args:
        free: what was spent on another key.

    Raises:
        AssertionError: what must hold does not.
    """
    entries = upstream.ledger()["entries"]
    billed = sum(
        e["prompt_tokens"] * PRICE.rates.input + e["completion_tokens"] * PRICE.rates.output
        for e in entries
    )
    with houses.opened(home) as record, record.reading() as connection:
        assert verify(record).fault is None
        spent = sum(row.money for row in statistics.spend(connection, by=())) - free
        balances = connection.execute(
            select(schema.balances).where(schema.balances.c.account.like("key:%"))
        ).all()
        left = connection.execute(select(schema.reservations)).all()
        opened = connection.execute(select(schema.open_exchanges)).all()
    assert not told.wrong, told.wrong[:3]
    assert not left, len(left)
    assert not opened, len(opened)
    assert spent == billed - free, (spent, billed)
    assert spent <= budget, (spent, budget)
    for row in balances:
        assert joined(row.spent_units, row.spent_parts) == spent
        assert (row.reserved_units, row.reserved_parts, row.reserved_tokens) == (0, 0, 0)
    return {
        "answered": told.answered,
        "statuses": dict(told.statuses),
        "budget": budget / PER_UNIT,
        "spent": spent / PER_UNIT,
        "over": max(0, spent - budget),
        "unused_share": round(1 - spent / budget, 4),
        "seconds": round(told.seconds, 2),
        "answers_a_second": round(told.answered / told.seconds, 1),
        "refusals": dict(told.messages),
    }


def on_one_budget(
    home: Path, *, servers: int, clients: int, requests: int, record: str = ""
) -> dict[str, Any]:
    """Clients that would need about twice the budget, on so many servers of one home."""
    with scripted.running(Script(words=WORDS)) as upstream:
        houses.settings(home, endpoint(upstream), record)
        free = houses.key(home, name="free")
        with houses.running(home, servers) as running:
            urls = [server.url for server in running]
            asyncio.run(use_up(urls[:1], free, 1, 1))
            each = one_answer(upstream)
            budget = each * clients * requests // 2
            key = houses.key(home, Limits(money_in_all=budget), name="shared")
            told = asyncio.run(use_up(urls, key, clients, requests))
        return checked(home, upstream, budget, each, told)
