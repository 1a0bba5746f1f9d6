"""The load of benchmarks/gateway.py, in a process of its own: `python benchmarks/load.py < job.json`.

Three kinds of job, with the fields of `Job`:

    rate      so many requests a second for so many seconds, whatever becomes of them (open loop). A time begins
              when the request was due, not when it could be sent, so that a server that stalls cannot hide it
              by holding up the load (no coordinated omission).
    streams   so many streams, begun at a rate, each followed to its end
    many      so many requests, a fixed number of them under way at a time (closed loop)

Prints a JSON object a line: {"done": n} as it goes (`many` only), and the result last. Failures are counted by
what was wrong (benchmarks/questions.py), and the first of each kind is quoted. Linux only: requests are paced
by timerfd_create(2), as event loops keep milliseconds at best.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import json
import os
import random
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent))
from questions import MARKS, Exchange, Forms, Streamed
from wire import Pool

SWEEP = 0.25
"""Seconds between looks for what has taken too long."""
OPEN = 16
"""Connections before the first request."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask of whom. Times in seconds."""

    kind: str
    url: str
    key: str
    model: str
    rate: float = 100.0
    seconds: float = 10.0
    warm: float = 2.0
    """Asked at the same rate beforehand; its failures count, its times do not."""
    requests: int = 0
    """`streams` and `many`: how many."""
    under_way: int = 16
    streamed: int = 0
    """`many`: each so-manieth is a stream; 0: none."""
    tokens: int = 200
    """Of a question, and of its answer."""
    timeout: float = 10.0
    connections: int = 512
    """At most; what is due when all are in use waits, and the wait counts."""


class Ticker:
    """Calls back whenever periods have passed, with their number."""

    def __init__(self, period: float, passed: Callable[[int], None]) -> None:
        self._passed = passed
        libc = ctypes.CDLL(None, use_errno=True)
        nonblock_cloexec = os.O_NONBLOCK | os.O_CLOEXEC
        self._timer = libc.timerfd_create(time.CLOCK_MONOTONIC, nonblock_cloexec)
        whole, part = divmod(round(period * 1e9), 10**9)
        spec = (ctypes.c_long * 4)(whole, part, whole, part)
        if self._timer < 0 or libc.timerfd_settime(self._timer, 0, spec, None):
            raise OSError(ctypes.get_errno(), "no timer")
        self.started = time.monotonic()
        asyncio.get_running_loop().add_reader(self._timer, self._tick)

    def _tick(self) -> None:
        self._passed(int.from_bytes(os.read(self._timer, 8), sys.byteorder))

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._timer)
        os.close(self._timer)


class Tally:
    """What came of the requests."""

    def __init__(self) -> None:
        self.failures = collections.Counter[str]()
        self.quoted = dict[str, str]()
        self.took, self.late, self.ends = array("d"), array("d"), array("d")
        self.answered = 0

    def add(self, exchange: Exchange) -> None:
        if exchange.failure:
            self.failures[exchange.failure] += 1
            self.quoted.setdefault(exchange.failure, exchange.why)
            return
        self.answered += 1
        if exchange.counted:
            self.took.append(exchange.ended - exchange.scheduled)
            self.late.append(exchange.sent - exchange.scheduled)
            self.ends.append(exchange.ended)

    def told(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "failures": dict(self.failures),
            "quoted": self.quoted,
            **milliseconds("", self.took),
            "late_p99_ms": milliseconds("late_", self.late).get("late_p99_ms"),
        }


def milliseconds(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 (nearest rank) and the largest; nothing of nothing."""
    values = sorted(seconds)
    if not values:
        return {}
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        f"{name}{word}_ms": round(1e3 * values[max(0, -int(-share * len(values) // 1) - 1)], 3)
        for word, share in ranks.items()
    }


class Load:
    """One job at work."""

    def __init__(self, job: Job) -> None:
        self.job, self.tally = job, Tally()
        self.pool = Pool(job.url, job.connections)
        self.next = random.randrange(MARKS)  # noqa: S311 - so that no two jobs ask the same
        self.under_way = dict[Exchange, None]()
        self.idle = asyncio.Event()
        host = f"{self.pool.host}:{self.pool.port}"
        self.plain, self.stream = (
            Forms(host, job.key, job.model, job.tokens, stream=stream) for stream in (False, True)
        )

    def ask(self, scheduled: float, *, stream: bool = False, counted: bool = True) -> Exchange:
        kind, forms = (Streamed, self.stream) if stream else (Exchange, self.plain)
        exchange = kind(forms, self.next, scheduled, self.ended, counted=counted)
        self.next += 1
        self.under_way[exchange] = None
        self.pool.ask(exchange)
        return exchange

    def ended(self, exchange: Exchange) -> None:
        del self.under_way[exchange]
        self.pool.ended(exchange)
        self.tally.add(exchange)
        if not self.under_way:
            self.idle.set()

    async def sweep(self) -> None:
        """End what takes too long: the oldest come first."""
        while True:
            await asyncio.sleep(SWEEP)
            limit = time.monotonic() - self.job.timeout
            while self.under_way and (oldest := next(iter(self.under_way))).scheduled < limit:
                oldest.late()

    async def drained(self) -> None:
        while self.under_way:
            self.idle.clear()
            await self.idle.wait()

    async def paced(self, count: int, ask: Callable[[int, float], None]) -> float:
        """Ask so many times at the job's rate, then wait for what is under way; when the first was due."""
        period, number, enough = 1 / self.job.rate, 0, asyncio.Event()

        def passed(periods: int) -> None:
            nonlocal number
            for number in range(number + 1, min(number + periods, count) + 1):  # noqa: B020
                ask(number - 1, ticker.started + number * period)
            if number >= count:
                enough.set()

        ticker = Ticker(period, passed)
        await enough.wait()
        ticker.stop()
        await self.drained()
        return ticker.started + period


async def rate(load: Load) -> dict[str, Any]:
    """Requests at a constant rate; what was achieved, and how long each took."""
    job = load.job
    warm, count = round(job.rate * job.warm), round(job.rate * job.seconds)
    first = await load.paced(
        warm + count, lambda number, due: _unheard(load.ask(due, counted=number >= warm))
    )
    begun, told = first + warm / job.rate, load.tally.told()
    return {**told, "asked": job.rate, "achieved": round(_achieved(load, begun), 2)}


def _unheard(exchange: Exchange) -> None:
    """Its tally hears of it."""


def _achieved(load: Load, begun: float) -> float:
    """Answers a second, in a window as long as the requests' that begins and ends later by the median time.

    In a steady state these are all of them, whatever a single slow one does; where a queue grows, those at the
    end of the queue are missing.
    """
    took = sorted(load.tally.took)
    if not took:
        return 0.0
    end = begun + load.job.seconds + took[len(took) // 2] + 1 / load.job.rate
    return sum(one <= end for one in load.tally.ends) / load.job.seconds


async def streams(load: Load) -> dict[str, Any]:
    """Streams begun at a rate and followed to their ends; from the first on, how many ran together."""
    job, all_of_them = load.job, list[Streamed]()

    def begin(_number: int, due: float) -> None:
        exchange = load.ask(due, stream=True)
        assert isinstance(exchange, Streamed)
        all_of_them.append(exchange)

    await load.paced(job.requests, begin)
    whole = [one for one in all_of_them if not one.failure]
    told = {**load.tally.told(), "asked": job.rate, "streams": len(all_of_them)}
    if whole:
        told |= milliseconds("first_", [one.first - one.scheduled for one in whole])
        told |= milliseconds("gap_", [one.gap for one in whole])
        together = min(one.ended for one in whole) - max(one.first for one in whole)
        told["chunks"] = {
            "least": min(o.chunks for o in whole),
            "most": max(o.chunks for o in whole),
        }
        told["together_s"] = round(max(0.0, together), 1)
    return told


async def many(load: Load) -> dict[str, Any]:
    """So many requests, each behind another's end."""
    job, begun, over = load.job, time.monotonic(), asyncio.Event()
    step, asked, ended = max(1, job.requests // 100), 0, load.ended

    def another() -> None:
        nonlocal asked
        if asked < job.requests:
            asked += 1
            load.ask(time.monotonic(), stream=bool(job.streamed) and not asked % job.streamed)

    def heard(exchange: Exchange) -> None:
        ended(exchange)
        done = load.tally.answered + load.tally.failures.total()
        if not done % step:
            print(json.dumps({"done": done}), flush=True)
        if done == job.requests:
            over.set()
        # From the loop: a refused connection must not call itself a thousand times over.
        asyncio.get_running_loop().call_soon(another)

    load.ended = heard  # type: ignore[method-assign]
    for _ in range(min(job.under_way, job.requests)):
        another()
    await over.wait()
    took = time.monotonic() - begun
    return {**load.tally.told(), "achieved": round(load.tally.answered / took, 1)}


KINDS = {"rate": rate, "streams": streams, "many": many}


async def run(job: Job) -> dict[str, Any]:
    """Do it.

    Raises:
        KeyError: no such kind.
        OSError: the server takes no connections.
    """
    work, load = KINDS[job.kind], Load(job)
    await load.pool.open(min(OPEN, job.connections))
    sweeper = asyncio.create_task(load.sweep())
    try:
        return {**await work(load), "connections": load.pool.peak}
    finally:
        sweeper.cancel()


def main() -> None:
    job = Job(**json.load(sys.stdin))
    # Nothing here makes circles that must be found; looking for them would be heard in the figures.
    gc.disable()
    print(json.dumps(uvloop.run(run(job))))


if __name__ == "__main__":
    main()
