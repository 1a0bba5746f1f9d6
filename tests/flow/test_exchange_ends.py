"""Whatever ends an exchange, nothing stays set aside: a real record, and a caller whose tokens are limited."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from obedient import END, HANG, Act, Obedient, chat
from sqlalchemy import func, select

from daulat.endpoints import Endpoint
from daulat.errors import DaulatError, UpstreamUnavailableError
from daulat.flow import Hall, Setup
from daulat.flow.breakers import FAILURES
from daulat.models.catalogue import Catalogue
from daulat.policy import Reach, Rules
from daulat.record import Record, schema
from daulat.record.keys import Keys
from daulat.record.verify import verify
from daulat.values.plan import Caller, Limits

DOWN = UpstreamUnavailableError("It is down.")
CUT = UpstreamUnavailableError("The connection broke.", billable=True)
CALLER = Caller("key-1", "limited", limits=Limits(tokens_per_day=10_000_000))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with contextlib.closing(Record.open(f"sqlite:///{tmp_path / 'record.sqlite3'}")) as found:
        yield found


def hall_of(record: Record, folder: Path, *endpoints: Obedient) -> Hall:
    known: dict[str, Endpoint] = {one.card.name: one for one in endpoints}
    rules = Rules(reach={"internal": Reach(frozenset({"us"}), frozenset())})
    return Hall(Catalogue(folder), Keys(record), record, known, "test", Setup(rules))


def reserved(record: Record) -> int:
    with record.reading() as connection:
        return connection.execute(
            select(func.count()).select_from(schema.reservations)
        ).scalar_one()


def closed(record: Record) -> list[str]:
    return [entry.body["status"] for entry in record.entries(kind="exchange.closed")]


@pytest.fixture
async def _settled(record: Record) -> AsyncIterator[None]:
    yield
    for _ in range(100):
        if not reserved(record):
            break
        await asyncio.sleep(0.02)
    assert reserved(record) == 0
    assert verify(record).fault is None


pytestmark = pytest.mark.usefixtures("_settled")


async def test_where_nobody_may_be_asked(record: Record, tmp_path: Path) -> None:
    hall = hall_of(record, tmp_path, Obedient("a", ["ok", *END]))
    for _ in range(FAILURES):
        hall._breakers.failed("a/m", time.monotonic())
    exchange = await hall.open(CALLER, chat())
    assert reserved(record) == 1
    with pytest.raises(UpstreamUnavailableError):
        async for _ in exchange.events():
            pass
    assert [(one.number, one.error) for one in exchange.outcomes] == [(0, "left_alone")]
    assert closed(record) == ["error"]


async def test_where_nobody_waits_until_it_is_written(record: Record, tmp_path: Path) -> None:
    hall = hall_of(record, tmp_path, Obedient("a", ["ok", *END]))
    for _ in range(20):
        opening = asyncio.create_task(hall.open(CALLER, chat()))
        await asyncio.sleep(0.0003)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).events().aclose()


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_where_the_reader_leaves(record: Record, tmp_path: Path, turns: int) -> None:
    scripts: tuple[list[Act], ...] = ([0, DOWN], [0.001, "abcd", 0, CUT], ["ef", HANG])
    steps = [
        Obedient(name, script, can=["continue"])
        for name, script in zip("abc", scripts, strict=True)
    ]
    hall = hall_of(record, tmp_path, *steps)

    async def read() -> None:
        exchange = await hall.open(CALLER, chat())
        async with contextlib.aclosing(exchange.events()) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(read())
    for _ in range(turns):
        await asyncio.sleep(0.0002)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, DaulatError):
        await task
    await asyncio.sleep(0.05)
    assert set(closed(record)) <= {"cancelled"}
    assert all(step.open == 0 for step in steps)
