"""Appending: durable when acknowledged, from many threads and processes, whatever kills them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daulat.errors import NotFoundError, RecordError, RequestError
from daulat.record import Record, verify
from daulat.record.instances import Instance
from daulat.record.keys import Keys

WRITER = """
import sys
from pathlib import Path
from daulat.record import Record
record = Record.open(Path(sys.argv[1]))
for i in range(int(sys.argv[2])):
    body = {"instance": "instance-0000000000000000"}
    entry = record.append("exchange.opened", f"rec-{sys.argv[3]}-{i}", body, {"request": "x" * 500})
    print(entry.seq, flush=True)
    if i % 2:
        record.append("exchange.closed", f"rec-{sys.argv[3]}-{i}", {"status": "ok"})
record.close()
"""


def writer(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_the_record_verifies_and_holds_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.sqlite3"
    acknowledged: list[int] = []
    for turn in range(4):
        process = writer(path, 100_000, str(turn))
        assert process.stdout is not None
        acknowledged.append(int(process.stdout.readline()))
        time.sleep(random.uniform(0.02, 0.4))
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
    record = Record.open(path)
    assert verify(record).fault is None
    seqs = {entry.seq for entry in record.entries()}
    assert set(acknowledged) <= seqs
    left = record.recover(lambda _: False)
    assert left >= 1
    assert record.recover(lambda _: False) == 0
    interrupted = sum(1 for _ in record.entries(kind="exchange.interrupted"))
    opened = sum(1 for _ in record.entries(kind="exchange.opened"))
    closed = sum(1 for _ in record.entries(kind="exchange.closed"))
    assert interrupted == left == opened - closed
    assert verify(record).fault is None
    record.close()


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    Record.open(path).close()
    writers = [writer(path, 60, name) for name in ("a", "b")]
    assert [process.wait(60) for process in writers] == [0, 0]
    record = Record.open(path)
    verdict = verify(record)
    assert (verdict.entries, verdict.fault) == (180, None)
    record.close()


async def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.sqlite3")
    await asyncio.gather(*(record.add("x", f"s{i}", {"i": i}) for i in range(500)))
    assert [entry.seq for entry in record.entries()] == list(range(1, 501))
    assert verify(record).fault is None
    record.close()
    with pytest.raises(RecordError, match="closed"):
        await record.add("x", "s", {})


async def test_who_gives_up_waiting_stops_nobody(tmp_path: Path) -> None:
    with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as record:
        for round in range(20):
            tasks = [
                asyncio.ensure_future(record.add("note", f"rec-{round}-{i}", {})) for i in range(20)
            ]
            await asyncio.sleep(random.random() * 0.002)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert not any(isinstance(one, BaseException) for one in ended[1::2])
        assert verify(record).fault is None


def test_what_is_too_large_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.sqlite3")
    with pytest.raises(RecordError, match="1048576 bytes"):
        record.append("x", "s", {"text": "a" * (1 << 20)})
    assert record.append("x", "s", {}).seq == 1
    record.close()


def test_a_failed_transaction_harms_no_other(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.sqlite3")
    with pytest.raises(NotFoundError):
        record.redact("rec-none", "test")
    assert record.head()[0] == 0
    record.close()


@pytest.mark.parametrize("where", ["nonsense", "mysql://x/y", "sqlite:////no/such/folder/x.db"])
def test_a_database_that_cannot_be_opened_is_a_clear_error(where: str) -> None:
    with pytest.raises(RecordError):
        Record.open(where)


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    record = Record.open(path)
    keys = Keys(record)
    assert not keys.any_made()
    caller, secret = keys.create("laptop", models=("a",))
    assert secret.startswith("daulat-")
    assert keys.identify(secret) == caller
    assert keys.identify(secret + "x") is None
    assert keys.identify("x" * 10_000) is None
    assert keys.list() == [caller]
    keys.revoke(caller.id)
    assert keys.identify(secret) is None
    assert keys.list() == []
    assert keys.any_made()
    with pytest.raises(NotFoundError):
        keys.revoke(caller.id)
    with pytest.raises(RequestError):
        keys.create("")
    keys.preset("from the environment".replace(" ", "-"))
    found = keys.identify("from-the-environment")
    assert found is not None
    assert found.id == "env"
    assert [e.kind for e in record.entries()] == ["key.created", "key.revoked"]
    record.close()
    stored = b"".join(p.read_bytes() for p in path.parent.glob("record*"))
    assert secret.encode() not in stored


def test_only_processes_that_are_gone_lose_their_exchanges(tmp_path: Path) -> None:
    with Instance(tmp_path) as mine, Instance(tmp_path) as other:
        assert mine.is_alive(other.id)
        assert mine.is_alive(mine.id)
        assert not mine.is_alive("instance-0000000000000000")
        assert not mine.is_alive("../../etc/passwd")
    with Instance(tmp_path) as late:
        assert not late.is_alive(other.id)
        assert [path.name for path in (tmp_path / "instances").iterdir()] == [late.id]
