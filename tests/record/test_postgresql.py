"""The record in PostgreSQL: the same promises as in SQLite, on the real server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from daulat.errors import RecordError
from daulat.record import Record, export, verify, verify_export
from daulat.record.keys import Keys

WRITER = """
import sys
from daulat.record import Record
record = Record.open(sys.argv[1])
for i in range(int(sys.argv[2])):
    body = {"instance": "instance-0000000000000000"}
    name = f"rec-{sys.argv[3]}-{i}"
    print(record.append("exchange.opened", name, body, {"request": "x" * 500}).seq, flush=True)
"""


async def test_entries_keys_and_export(url: str, tmp_path: Path) -> None:
    record = Record.open(url)
    adds = (
        record.add("exchange.opened", f"rec-{i}", {"instance": "i"}, {"request": f"é🎉 {i}"})
        for i in range(50)
    )
    await asyncio.gather(*adds)
    keys = Keys(record)
    _, secret = keys.create("one")
    assert keys.identify(secret) is not None
    assert keys.identify("daulat-wrong") is None
    assert verify(record).fault is None
    with (tmp_path / "export.jsonl").open("wb") as file:
        export(record, file)
    record.close()
    again = Record.open(url)
    assert verify(again).entries >= 50
    assert Keys(again).identify(secret) is not None
    again.close()
    assert verify_export(tmp_path / "export.jsonl").fault is None


def test_tampering_is_found(url: str) -> None:
    record = Record.open(url)
    for i in range(6):
        record.append("exchange.opened", f"rec-{i}", {"instance": "i"}, {})
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        changed = connection.execute(
            sa.text("UPDATE entries SET data = set_byte(data, 40, 88) WHERE seq = 3")
        )
        assert changed.rowcount == 1
    engine.dispose()
    fault = verify(record).fault
    assert fault is not None
    assert fault.seq == 3
    record.close()


def test_two_processes_one_of_them_killed(url: str) -> None:
    Record.open(url).close()

    def writer(count: int, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, url, str(count), name]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    victim, other = writer(100_000, "a"), writer(60, "b")
    assert victim.stdout is not None
    acknowledged = [int(victim.stdout.readline())]
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in victim.stdout.read().split("\n")[:-1]]
    victim.wait()
    assert other.wait(60) == 0
    record = Record.open(url)
    assert verify(record).fault is None
    assert set(acknowledged) <= {entry.seq for entry in record.entries()}
    assert record.recover(lambda _: False) >= 60
    assert verify(record).fault is None
    record.close()


def test_servers_of_two_machines(url: str) -> None:
    """Neither sees the other's processes, and neither takes for dead what the other answers."""
    name = "instance-00000000000000aa"
    one, other = Record.open(url), Record.open(url)
    one.hold(name)
    one.append("exchange.opened", "rec-1", {"instance": name})
    assert other.recover(lambda _: False) == 0
    assert other.recover(lambda _: False) == 0
    one.close()
    assert other.recover(lambda _: False) == 1
    assert verify(other).fault is None
    other.close()


def test_several_servers_find_an_empty_database(url: str) -> None:
    code = "import sys; from daulat.record import Record; Record.open(sys.argv[1]).close()"
    running = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(RecordError) as caught:
        Record.open("postgresql+psycopg://daulat:secret-word@/postgres?host=/nonexistent")
    assert "secret-word" not in str(caught.value)
