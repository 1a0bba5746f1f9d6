"""A record that fails at any step of the database: who is answered is recorded, and all books agree."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from daulat.endpoints.scripted import Upstream
from daulat.errors import RecordError, UpstreamError
from daulat.flow import books, trying
from daulat.record import Record
from daulat.values.answer import Done
from tests.flow.halls import Hallway, agree, hallway, settled
from tests.flow.test_books import ROUTES, embed, tables


class Faults:
    """Fails from the `due`th step of the database on, for `times` steps; 0: never."""

    def __init__(self) -> None:
        self.due = self.times = self.seen = 0

    def step(self) -> None:
        self.seen += 1
        if self.due and self.due <= self.seen < self.due + self.times:
            raise sqlite3.OperationalError("disk I/O error")

    def arm(self, due: int, times: int) -> None:
        self.due, self.times, self.seen = due, times, 0


def wrapped(engine: sa.Engine, faults: Faults) -> None:
    """Give the engine connections of the driver's own class that fail."""

    class Cursor(sqlite3.Cursor):
        def execute(self, *what: Any) -> Any:
            faults.step()
            return super().execute(*what)

        def executemany(self, *what: Any) -> Any:
            faults.step()
            return super().executemany(*what)

        def fetchone(self) -> Any:
            faults.step()
            return super().fetchone()

        def fetchall(self) -> Any:
            faults.step()
            return super().fetchall()

    class Connection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(Cursor)

        def commit(self) -> None:
            faults.step()
            super().commit()

    def connect(_dialect: Any, _record: Any, cargs: Any, cparams: Any) -> Any:
        faults.step()
        return sqlite3.connect(*cargs, **cparams, factory=Connection)

    event.listen(engine, "do_connect", connect)
    engine.dispose()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(books, "_FIRST_WAIT", 0.01)


ASKS = {
    "stream": lambda h: h.ask("m"),
    "retry": lambda h: h.ask("again"),
    "fallback": lambda h: h.ask("fallback"),
    "hedge": lambda h: h.ask("hedge"),
    "continued": lambda h: h.ask("continued"),
    "embeddings": lambda h: embed(h, "m"),
}


@pytest.mark.parametrize("times", [1, 10**9])
@pytest.mark.parametrize("name", ASKS)
async def test_whatever_step_fails(
    name: str, times: int, upstream: Upstream, tmp_path: Path
) -> None:
    faults = Faults()
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream), routes=ROUTES) as here:
        wrapped(here.record._engine, faults)
        await ASKS[name](here)
        refused = 0
        for due in range(1, 500):
            here.hall._breakers._states.clear()
            before = _whole(here.record)
            faults.arm(due, times)
            failed = await _fails(here, name)
            reached = faults.seen >= due
            faults.arm(0, 0)
            await settled(lambda: agree(here.record))
            assert _whole(here.record) == before + (not failed)
            refused += failed
            if not reached:
                break
        assert not failed
        assert refused > 3


async def _fails(here: Hallway, name: str) -> bool:
    """Whether the client gets no answer; then it is told that the record failed."""
    # An answer that nobody could go on with ends with the error of the one that broke off.
    expected = (RecordError, UpstreamError) if name == "continued" else RecordError
    try:
        async with asyncio.timeout(10):
            await ASKS[name](here)
    except expected:
        assert not any(isinstance(one, Done) for one in here.events)
        return True
    return False


def _whole(record: Record) -> int:
    """Answers that the record has as whole."""
    return sum(e.body.get("status") == "ok" for e in record.entries(kind="exchange.closed"))
