"""Servers as they are, on one budget or killed in the middle: not one amount too much, and all books agree."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import houses
import psutil
import spending
from houses import Server

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Delays, Script
from daulat.values.money import amount
from daulat.values.plan import Limits
from tests.flow.halls import agree


@pytest.mark.parametrize(("kind", "servers"), [("sqlite", 1), ("sqlite", 3), ("postgresql", 3)])
def test_many_clients_on_one_budget(
    tmp_path: Path, kind: str, servers: int, request: pytest.FixtureRequest
) -> None:
    """Nothing over the budget, hardly anything unused, every refusal in words, nothing left reserved."""
    url = request.getfixturevalue("url") if kind == "postgresql" else ""
    told = spending.on_one_budget(
        tmp_path / "home", servers=servers, clients=40, requests=4, record=url
    )
    assert told["over"] == 0
    assert 0 <= told["unused_share"] < 0.15
    assert 60 <= told["answered"] <= 80
    assert told["statuses"].keys() == {"200", "429"}
    (words,) = told["refusals"]
    assert words.endswith(f"may use {told['budget']:.12g} USD in all")


async def _load(url: str, key: str, until: asyncio.Event) -> None:
    """Ask, streams and whole answers, retried and cut ones, until the server is gone."""
    draw = random.Random(1)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def client() -> None:
            while not until.is_set():
                body = {
                    "model": draw.choice(("m", "again", "cut")),
                    "messages": [{"role": "user", "content": "Where?"}],
                    "max_tokens": 20,
                    "stream": draw.random() < 0.6,
                }
                headers = {"Authorization": f"Bearer {key}"}
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    where = f"{url}/v1/chat/completions"
                    async with session.post(where, json=body, headers=headers) as answer:
                        await answer.read()

        await asyncio.gather(*(client() for _ in range(12)))


async def _killed(server: Server, key: str, seconds: float) -> None:
    """Kill it in the middle of its work."""
    until = asyncio.Event()
    loading = asyncio.create_task(_load(server.url, key, until))
    await asyncio.sleep(seconds)
    houses.kill(server)
    until.set()
    await loading


MODELS = """
[endpoints.up]
kind = "compatible"
url = "{url}/v1"
key = "env:SCRIPTED_KEY"
place = "own-network"
models = ["m", "again", "cut"]
names = {{ again = "m+error_500_then_ok", cut = "m+dies_mid_stream@5" }}
"""
PRICE = '[endpoints.up.prices.{}]\ninput = "2.5"\noutput = "10"\n'


def test_killed_at_any_moment_under_load(tmp_path: Path) -> None:
    """The next start books what was under way: no less than the upstream bills for it, and all sums agree."""
    home = tmp_path / "home"
    draw = random.Random()
    with scripted.running(Script(words=20, delays=Delays(between=0.002)), strict=False) as upstream:
        prices = "".join(PRICE.format(name) for name in ("m", "again", "cut"))
        houses.settings(home, MODELS.format(url=upstream.url) + prices)
        key = houses.key(home, Limits(money_in_all=amount(1000)))
        interrupted = 0
        for _ in range(6):
            server = houses.start(home)
            asyncio.run(_killed(server, key, draw.uniform(0.3, 1.2)))
            houses.stop(server)
            houses.stop(houses.start(home))
            with houses.opened(home) as record:
                said = agree(record)
                interrupted = sum(e.kind == "exchange.interrupted" for e in record.entries())
        assert interrupted > 6
        # A stream that the upstream cut is booked as heard: its last token may have been lost on the way.
        cut = [e for e in upstream.ledger()["entries"] if "dies" in (e["fault"] or "")]
        billed = upstream.ledger()["totals"]
        lost = len(cut)
        assert said.tokens >= billed["prompt_tokens"] + billed["completion_tokens"] - lost


def test_two_servers_one_killed(tmp_path: Path) -> None:
    """The other goes on undisturbed: what it answers is not taken for what the dead one left."""
    home = tmp_path / "home"
    with scripted.running(Script(words=20, delays=Delays(between=0.005))) as upstream:
        houses.settings(home, spending.endpoint(upstream))
        key = houses.key(home, Limits(money_in_all=amount(1000)))
        with houses.running(home, 2) as (one, other):
            until = asyncio.Event()

            async def both() -> None:
                going_on = asyncio.create_task(_load(other.url, key, until))
                await _killed(one, key, 1.5)
                third = await asyncio.to_thread(houses.start, home)
                await asyncio.sleep(0.5)
                until.set()
                await going_on
                await asyncio.to_thread(houses.stop, third)

            asyncio.run(both())
        with houses.opened(home) as record:
            agree(record)
            entries = list(record.entries())
        owners = {e.subject: e.body["instance"] for e in entries if e.kind == "exchange.opened"}
        lost = {owners[e.subject] for e in entries if e.kind == "exchange.interrupted"}
        assert len(lost) == 1
        closed = [e for e in entries if e.kind == "exchange.closed"]
        assert len({owners[e.subject] for e in closed}) >= 2


def test_a_full_disk_and_room_again(tmp_path: Path) -> None:
    """While no file may grow, nothing is answered and nothing is lost; then all goes on, and all sums agree."""
    home = tmp_path / "home"
    with scripted.running(Script(words=20, delays=Delays(between=0.002)), strict=False) as upstream:
        prices = "".join(PRICE.format(name) for name in ("m", "again", "cut"))
        houses.settings(home, MODELS.format(url=upstream.url) + prices)
        key = houses.key(home, Limits(money_in_all=amount(1000)))
        with houses.running(home) as (server,):
            told = asyncio.run(_full_for_a_while(server, key))
        with houses.opened(home) as record:
            agree(record)
            answered = sum(e.body.get("status") == "ok" for e in record.entries())
            interrupted = [e for e in record.entries() if e.kind == "exchange.interrupted"]
    assert told["full"].keys() <= {503}
    assert told["full"][503] >= 3
    assert told["before"].keys() == told["after"].keys() == {200}
    assert answered == sum(told[when][200] for when in ("before", "after"))
    assert not interrupted


async def _full_for_a_while(server: Server, key: str) -> dict[str, Counter[int]]:
    told: dict[str, Counter[int]] = {}
    process = psutil.Process(server.process.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)

    def limit(most: int) -> None:
        for one in (process, *process.children(recursive=True)):
            one.rlimit(psutil.RLIMIT_FSIZE, (most, before[1]))

    async with aiohttp.ClientSession() as session:
        told["before"] = await _statuses(session, server.url, key)
        limit(4096)
        told["full"] = await _statuses(session, server.url, key)
        # In the middle of answers, which are then closed as soon as there is room.
        limit(before[0])
        asking = [asyncio.create_task(_statuses(session, server.url, key)) for _ in range(3)]
        await asyncio.sleep(0.03)
        limit(4096)
        told["full"] += sum([await one for one in asking], Counter[int]())
        limit(before[0])
        await asyncio.sleep(3.0)
        told["after"] = await _statuses(session, server.url, key)
    return told


async def _statuses(session: aiohttp.ClientSession, url: str, key: str) -> Counter[int]:
    """Of some requests at once."""

    async def one() -> int:
        body = {"model": "m", "messages": [{"role": "user", "content": "Where?"}], "max_tokens": 20}
        headers = {"Authorization": f"Bearer {key}"}
        where = f"{url}/v1/chat/completions"
        async with session.post(where, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    return Counter(await asyncio.gather(*(one() for _ in range(6))))
