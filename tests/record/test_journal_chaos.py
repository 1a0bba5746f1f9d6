"""A busy server in a bad world: its writer killed and stopped, its database locked and full, others at it."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daulat.errors import DaulatError
from daulat.record import Record
from daulat.record.journal import folder_of
from tests.record.test_journal import agree, full, locked

SECONDS = 3.0
SERVER = """
import asyncio, signal, sys
from pathlib import Path
from daulat.errors import RecordError
from daulat.record import Record, telling, writing
from tests.record.test_writing import account, exchange
writing.BUSY, writing._AGAIN = 1, 0.3
telling._BUSY, telling._LONGEST, telling._TURN = 1e9, 1e9, 0.2
async def main():
    record = Record.open(Path(sys.argv[1]))
    record.hold("instance-0000000000000000")
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async def client(at):
        number = 0
        while not over.is_set():
            number += 1
            name = f"{sys.argv[2]}-{at}-{number}"
            try:
                who = account(10**12 if number % 3 == 2 else None)
                await exchange(record, name, who, ahead=True)
                print(name, flush=True)
            except RecordError:
                await asyncio.sleep(0.02)
    await asyncio.gather(*(client(at) for at in range(4)))
    await record.write_here()
    record.close()
asyncio.run(main())
"""


class World:
    """What happens to a server from outside, at random."""

    def __init__(self, path: Path, told: Path, server: int, draw: random.Random) -> None:
        self._path, self._told, self._server, self._draw = path, told, server, draw

    def happen(self) -> None:
        happenings = (self._kill, self._stop, self._lock, self._fill, self._redact)
        with contextlib.suppress(psutil.Error, sqlite3.Error, DaulatError):
            self._draw.choice(happenings)()

    def _writers(self) -> list[psutil.Process]:
        return psutil.Process(self._server).children()

    def _kill(self) -> None:
        for one in self._writers():
            one.kill()

    def _stop(self) -> None:
        for one in self._writers():
            one.suspend()
            time.sleep(self._draw.uniform(0.0, 0.3))
            one.resume()

    def _lock(self) -> None:
        with locked(self._path):
            time.sleep(self._draw.uniform(0.0, 0.4))

    def _fill(self) -> None:
        with full(self._path):
            time.sleep(self._draw.uniform(0.0, 0.4))

    def _redact(self) -> None:
        with contextlib.closing(Record.open(self._path)) as record:
            told = self._told.read_text(encoding="utf-8").split()
            if told:
                record.redact(self._draw.choice(told[-20:]), "at random")


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_told_is_lost_in_a_bad_world(tmp_path: Path, seed: int) -> None:
    draw, path, told = random.Random(seed), tmp_path / "record.sqlite3", list[str]()
    for turn, end in enumerate([signal.SIGKILL, signal.SIGTERM]):
        said = tmp_path / f"told-{turn}"
        with said.open("w", encoding="utf-8") as out:
            command = [sys.executable, "-c", SERVER, str(path), str(turn)]
            server = subprocess.Popen(command, stdout=out, cwd=Path(__file__).parents[2])
        world = World(path, said, server.pid, draw)
        over = time.monotonic() + 30
        while not said.stat().st_size and time.monotonic() < over:
            time.sleep(0.05)
        over = time.monotonic() + SECONDS
        while time.monotonic() < over:
            time.sleep(draw.uniform(0.02, 0.3))
            world.happen()
        server.send_signal(end)
        server.wait(60)
        told += said.read_text(encoding="utf-8").split()
        with contextlib.closing(Record.open(path)) as record:
            assert list(folder_of(path).glob("*")) == []
            check(record, told)
    assert len(told) > 100


def check(record: Record, told: list[str]) -> None:
    found: dict[str, list[str]] = {}
    for entry in record.entries():
        if entry.kind.startswith("exchange."):
            found.setdefault(entry.subject, []).append(entry.kind.removeprefix("exchange."))
    assert [name for name in told if found[name] != ["opened", "closed"]] == []
    record.recover(lambda _: False)
    ends = (["opened"], ["opened", "closed"], ["opened", "interrupted"])
    assert [kinds for kinds in found.values() if kinds not in ends] == []
    agree(record)
