"""What is told ahead of the database: once each, in order, whoever is killed and whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from daulat.errors import RecordError
from daulat.record import Record, frames, journal, schema, statistics, verify, writing
from daulat.record.chain import draft
from daulat.record.charges import Outcome, Spent
from daulat.record.entering import New
from daulat.record.journal import Journal, folder_of, forget, left, read
from daulat.record.telling import Pace
from daulat.values.answer import Usage
from tests.record.test_writing import INSTANCE, account, busy, children, exchange

ME = INSTANCE["instance"]
FREE = account(None)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry is much, and a slow disk is quick enough."""
    monkeypatch.setattr(writing, "BUSY", 1)
    monkeypatch.setattr("daulat.record.telling._BUSY", 1e9)
    monkeypatch.setattr("daulat.record.telling._LONGEST", 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.sqlite3"


def files(path: Path) -> list[Path]:
    return sorted(folder_of(path).glob("*"))


@contextlib.contextmanager
def locked(path: Path) -> Generator[sqlite3.Connection]:
    """A database to which nobody else can write."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        try:
            yield lock
        finally:
            lock.execute("ROLLBACK")


@contextlib.contextmanager
def full(path: Path) -> Generator[None]:
    """A database that takes no more entries."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout=10000")
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, 'it is full'); END"
        )
        try:
            yield
        finally:
            other.execute("DROP TRIGGER full")


async def until(there: Callable[[], object]) -> None:
    for _ in range(1000):
        if there():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def in_order(record: Record, names: list[str]) -> None:
    """Each exchange was opened and then closed, once each."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for entry in record.entries():
        if entry.subject in found:
            found[entry.subject].append(entry.kind)
    assert {tuple(kinds) for kinds in found.values()} == {("exchange.opened", "exchange.closed")}


def agree(record: Record) -> None:
    """What is booked is what the entries say: 20 for what was closed, 30 for what nobody knows."""
    booked = [20 for _ in record.entries(kind="exchange.closed")]
    for entry in record.entries(kind="exchange.interrupted"):
        booked += [30 for _ in entry.body.get("booked", ())]
    with record.reading() as connection:
        spend = statistics.spend(connection, by=())
        assert sum(row.money for row in spend) == sum(booked)
        assert sum(row.requests for row in spend) == len(booked)
        assert connection.execute(select(schema.reservations)).all() == []
        assert connection.execute(select(schema.open_exchanges)).all() == []
    assert verify(record).fault is None


async def test_it_is_told_before_the_database_has_it(path: Path) -> None:
    async with busy(path, ME) as (record, _):
        with locked(path):
            assert await asyncio.wait_for(exchange(record, "rec-1", FREE, ahead=True), 10) is None
            assert record.exchange("rec-1") is None
            others = [
                exchange(record, "limited", account(10**9), ahead=True),
                exchange(record, "looked-up", FREE),
            ]
            waiting = [asyncio.ensure_future(one) for one in others]
            done, _ = await asyncio.wait(waiting, timeout=0.3)
            assert not done
        await asyncio.gather(*waiting)
        assert len(files(path)) == 2
    assert files(path) == []
    with contextlib.closing(Record.open(path)) as record:
        in_order(record, ["rec-1", "limited", "looked-up"])
        times = [entry.time for entry in record.entries(subject="rec-1")]
        assert times == sorted(times)
        agree(record)


async def test_many_at_once_are_one_chain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file takes few entries, so that they take turns all the time."""
    monkeypatch.setattr(journal, "SIZE", 32 << 10)
    async with busy(path, ME) as (record, _):
        names = [f"rec-{i}" for i in range(600)]
        for start in range(0, 600, 60):
            part = names[start : start + 60]
            who = [account(10**12) if i % 5 == 0 else FREE for i in range(60)]
            both = zip(part, who, strict=True)
            await asyncio.gather(*(exchange(record, n, w, ahead=True) for n, w in both))
    with contextlib.closing(Record.open(path)) as record:
        in_order(record, names)
        agree(record)


async def test_whoever_kills_the_process_nothing_told_is_lost(path: Path) -> None:
    draw = random.Random(7)
    names: list[str] = []
    for turn in range(4):
        async with busy(path, ME) as (record, process):

            async def load(turn: int = turn, record: Record = record) -> None:
                for start in range(0, 400, 20):
                    some = [f"{turn}-{i}" for i in range(start, start + 20)]
                    await asyncio.gather(*(exchange(record, n, FREE, ahead=True) for n in some))
                    names.extend(some)

            loading = asyncio.create_task(load())
            await asyncio.sleep(draw.uniform(0.0, 0.15))
            process.kill()
            await loading
        assert files(path) == []
    with contextlib.closing(Record.open(path)) as record:
        in_order(record, names)
        agree(record)


KILLED = """
import asyncio, sys
from pathlib import Path
from daulat.record import Record, telling, writing
from tests.record.test_writing import account, exchange
writing.BUSY, telling._BUSY, telling._LONGEST = 1, 1e9, 1e9
async def main():
    record = Record.open(Path(sys.argv[1]))
    record.hold("instance-0000000000000000")
    async def one(at):
        for number in range(1_000_000):
            name = f"{sys.argv[2]}-{at}-{number}"
            if number % 3 == 2:
                await exchange(record, name, account(10**12), ahead=True)
            else:
                await exchange(record, name, account(None), ahead=True)
            print(name, flush=True)
    await asyncio.gather(*(one(at) for at in range(4)))
asyncio.run(main())
"""


def test_whoever_kills_the_server_nothing_told_is_lost(path: Path) -> None:
    draw = random.Random(8)
    told: list[str] = []
    taken = 0
    for turn in range(5):
        command = [sys.executable, "-c", KILLED, str(path), str(turn)]
        root = Path(__file__).parents[2]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert server.stdout is not None
        deadline = time.monotonic() + 60
        while not files(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.05, 0.5))
        lock = locked(path) if turn % 2 else contextlib.nullcontext()
        with lock:
            time.sleep(0.05)
            server.kill()
            out, _ = server.communicate()
        told += out.splitlines()
        taken += any(list(read(one.read_bytes())) for one in files(path))
        record = Record.open(path)
        assert files(path) == []
        assert record.recover(lambda name: name != ME) <= 4
        in_order(record, told)
        opened = Counter(e.subject for e in record.entries(kind="exchange.opened"))
        closed = Counter(
            e.subject for e in record.entries() if e.kind[9:] in ("closed", "interrupted")
        )
        assert opened == closed
        assert set(opened.values()) == {1}
        agree(record)
        record.close()
    assert taken  # else nothing was tried


def test_who_dies_while_another_opens_loses_nothing(path: Path) -> None:
    """Its journal is looked at once more before what it had open is closed as interrupted."""
    record = Record.open(path)
    record.append("exchange.opened", "rec-1", INSTANCE)
    mine = Journal(path, f"{ME}-0")
    closing = New(
        draft("exchange.closed", "rec-1", {}, {}, keep=True), at="2026-11-23T00:00:00.000000Z"
    )
    mine.write([frames.new(0, closing)], 0)
    assert record.recover(lambda _: True) == 0
    mine.leave()
    assert record.recover(lambda _: False) == 0
    kinds = [entry.kind for entry in record.entries(subject="rec-1")]
    assert kinds == ["exchange.opened", "exchange.closed"]
    assert [e.time for e in record.entries(kind="exchange.closed")] == [closing.at]
    assert files(path) == []
    record.close()


async def test_where_the_database_fails_nothing_overtakes_what_was_told(path: Path) -> None:
    async with busy(path, ME) as (record, process):
        with full(path):
            names = [f"rec-{i}" for i in range(5)]
            await asyncio.gather(*(exchange(record, name, FREE, ahead=True) for name in names))
            await asyncio.to_thread(process.wait, 10)
            await until(lambda: record._committer.is_behind)
            with pytest.raises(RecordError, match="it is full"):
                await exchange(record, "late", FREE, ahead=True)
            assert record.exchange("rec-0") is None
        await until(lambda: not record._committer.is_behind)
        in_order(record, names)
        await exchange(record, "late", FREE, ahead=True)
        in_order(record, [*names, "late"])
        assert files(path) == []
        assert verify(record).fault is None


async def test_who_closes_while_the_database_fails_leaves_it_to_the_next(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with busy(path, ME) as (record, _):
        with full(path):
            await exchange(record, "rec-1", FREE, ahead=True)
            await record.write_here()
            record.close()
            assert len(files(path)) == 2
            assert any("next start" in one.message for one in caplog.records)
            with pytest.raises(RecordError, match="it is full"):
                Record.open(path)
    with contextlib.closing(Record.open(path)) as again:
        in_order(again, ["rec-1"])
        assert files(path) == []
        agree(again)


async def test_who_ends_without_a_word_leaves_it_to_the_next(path: Path) -> None:
    async with busy(path, ME) as (record, _):
        with locked(path):
            await exchange(record, "rec-1", FREE, ahead=True)
            await asyncio.to_thread(record.close)
    with contextlib.closing(Record.open(path)) as again:
        in_order(again, ["rec-1"])


async def test_where_it_cannot_be_written_the_database_is(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with busy(path, ME) as (record, process):
        link = record._apart._link
        assert link is not None
        assert link._teller is not None
        side = link._teller.journal._sides[0]
        reading = os.open(side.path, os.O_RDONLY)
        os.dup2(reading, side._file)
        os.close(reading)
        with caplog.at_level(logging.WARNING):
            for i in range(5):
                await exchange(record, f"rec-{i}", FREE, ahead=True)
                in_order(record, [f"rec-{i}"])
        assert sum("cannot be written" in one.message for one in caplog.records) == 1
        assert process.is_running()


async def test_without_room_for_it_the_database_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(path).touch()
    async with busy(path, ME) as (record, _):
        await exchange(record, "rec-1", FREE, ahead=True)
        in_order(record, ["rec-1"])
    assert any("beside the record" in one.message for one in caplog.records)
    folder_of(path).unlink()
    monkeypatch.setattr(journal, "SIZE", 8 << 10)
    async with busy(path, ME) as (record, _):
        await record.add("note", "large", {}, {"text": "a" * 20_000}, ahead=True)
        assert sum(1 for _ in record.entries(subject="large")) == 1


async def test_what_the_journal_cannot_take_is_refused_alone(path: Path) -> None:
    async with busy(path, ME) as (record, process):
        with full(path), pytest.raises(RecordError, match="it is full"):
            await record.add("note", "large", {}, {"text": "a" * (5 << 20)}, ahead=True)
        await exchange(record, "rec-1", FREE, ahead=True)
        assert process.is_running()


def test_a_disk_that_is_nearly_full_is_an_error(path: Path) -> None:
    """Where it takes a part of what is written."""
    script = """
import resource, signal, sys
from pathlib import Path
from daulat.record.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    Journal(Path(sys.argv[1]), "x")
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{errno.EFBIG}\n"
    assert files(path) == []


async def test_a_file_that_stays_is_entered_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with busy(path, ME) as (record, process):
        with monkeypatch.context() as patched:
            await exchange(record, "rec-1", FREE, ahead=True)
            process.suspend()
            await exchange(record, "rec-2", FREE, ahead=True)
            patched.setattr(Path, "unlink", _denied)
            process.kill()
            await asyncio.wait_for(record.add("note", "on", {}), 10)
            await until(lambda: not record._committer.is_behind)
        assert sum("stays" in one.message for one in caplog.records) == 2
        assert len(files(path)) == 2
    with contextlib.closing(Record.open(path)) as again:
        in_order(again, ["rec-1", "rec-2"])
        agree(again)
    assert files(path) == []


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "no")


async def test_what_is_closed_late_waits_for_what_was_told(path: Path) -> None:
    async with busy(path, ME) as (record, process):
        process.suspend()
        await record.add("exchange.opened", "rec-1", INSTANCE, ahead=True)
        with pytest.raises(RecordError, match="does not have rec-1 yet"):
            await asyncio.to_thread(record.close_open, "rec-1", {}, [])
        process.resume()
        await until(lambda: record.exchange("rec-1"))
        assert await asyncio.to_thread(record.close_open, "rec-1", {}, [])
        assert not await asyncio.to_thread(record.close_open, "rec-1", {}, [])


async def test_who_recovers_waits_for_who_lets_go(path: Path) -> None:
    """A server that ends still writes what it told, while another already sees it gone."""
    with contextlib.closing(Record.open(path)) as other:
        async with busy(path, ME) as (record, process):
            process.suspend()
            await exchange(record, "rec-1", FREE, ahead=True)
            recovering = asyncio.ensure_future(asyncio.to_thread(other.recover, lambda _: False))
            await asyncio.sleep(0.2)
            process.kill()
            await record.write_here()
            await asyncio.to_thread(record.close)
        assert await recovering == 0
        in_order(other, ["rec-1"])
        agree(other)


def test_what_is_only_in_the_journal_of_a_dead_process_is_recovered(path: Path) -> None:
    with contextlib.closing(Record.open(path)) as record:
        mine = Journal(path, f"{ME}-0")
        told = [
            New(draft(f"exchange.{kind}", "rec-1", body, {}, keep=True))
            for kind, body in (("opened", INSTANCE), ("closed", {}))
        ]
        mine.write([frames.new(i, one) for i, one in enumerate(told)], 1)
        mine.leave()
        assert record.recover(lambda _: False) == 0
        in_order(record, ["rec-1"])
    assert files(path) == []


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("quietly", [True, False])
async def test_closed_while_it_starts(path: Path, pause: float, quietly: bool) -> None:
    record = Record.open(path)
    record.hold(ME)
    for _ in range(3):
        await record.add("note", "s", {})
    await asyncio.sleep(pause)
    if quietly:
        await record.write_here()
    await asyncio.to_thread(record.close)
    starting = record._apart._starting
    if starting is not None:
        await starting
    assert children() == []
    assert files(path) == []
    assert record._apart._link is None


async def test_texts_do_not_stay(path: Path) -> None:
    async with busy(path, ME) as (record, process):
        await record.add("exchange.opened", "rec-1", INSTANCE, {"text": "SECRET"}, ahead=True)
        named = [one for one in files(path) if b"rec-1" in one.read_bytes()]
        assert len(named) == 1
        process.suspend()
        await record.add("exchange.closed", "rec-1", {}, {"text": "SECRET"}, ahead=True)
        with contextlib.closing(Record.open(path)) as other:
            redacting = asyncio.ensure_future(asyncio.to_thread(other.redact, "rec-1", "asked for"))
            await asyncio.sleep(0.2)
            process.resume()
            await redacting
            for entry in other.entries(subject="rec-1"):
                assert other.contents(entry) in ({}, {"text": None})
        assert not any(b"rec-1" in one.read_bytes() for one in files(path))
        for i in range(30):
            await exchange(record, f"rec-1{i}", FREE, ahead=True)


@pytest.mark.parametrize("once", ["write", "wipe"])
async def test_nor_where_the_disk_fails_once(
    path: Path, once: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daulat.record.telling._TURN", 0.2)
    whole, failed = os.fdatasync, list[int]()

    def flush(file: int) -> None:
        main = threading.current_thread() is threading.main_thread()
        if main == (once == "write") and not failed:
            failed.append(file)
            raise OSError(errno.EIO, "it failed")
        whole(file)

    async with busy(path, ME) as (record, _):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", flush)
            await record.add("note", "rec-1", {}, {"text": "SECRET"}, ahead=True)
            await until(lambda: failed)
            await until(lambda: not any(b"rec-1" in one.read_bytes() for one in files(path)))
        assert sum(1 for _ in record.entries(subject="rec-1")) == 1


def test_a_server_that_hangs_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_GONE", 0.1)
    mine = Journal(path, "hanging")
    note = New(draft("note", "rec-1", {}, {}, keep=True))
    mine.write([frames.new(0, note)], 0)
    with pytest.raises(RecordError, match=r"hanging\.a, too: a server does not go on"):
        forget(path, "rec-1")
    mine.remove()
    forget(path, "rec-1")


def test_another_version_is_an_error(path: Path) -> None:
    folder_of(path).mkdir()
    (folder_of(path) / "x.a").write_bytes(b"daulat-ahead-9\n\0")
    with pytest.raises(RecordError, match="start that version once"):
        Record.open(path)
    (folder_of(path) / "x.a").write_bytes(bytes(100))
    Record.open(path).close()
    assert files(path) == []


def test_files_of_a_process_that_lives_are_left_alone(path: Path) -> None:
    mine = Journal(path, "alive")
    with left(path) as (found, held):
        assert (found, held) == ([], ["alive.a"])
    mine.write([frames.new(3, New(draft("note", "a", {}, {}, keep=True)))], 3)
    assert mine.turn()
    mine.write([frames.new(4, New(draft("note", "b", {}, {}, keep=True)))], 4)
    assert mine.done_with(2) is None
    side = mine.done_with(3)
    assert side is not None
    mine.leave()
    with left(path) as (found, holders):
        assert holders == []
        assert [new.draft.subject for one in found for new in one.entries] == ["a", "b"]
        with left(path) as (others, ours):
            assert (others, ours) == ([], ["alive.a"])
    side.wipe()  # behind the end: harmless
    with left(path) as (found, _):
        assert len(found[0].entries) == 2
        found[0].remove()
    assert files(path) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.data())
def test_what_a_power_cut_leaves_is_a_beginning(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("j") / "record.sqlite3"
    mine = Journal(path, "x")
    sent = [New(draft("note", str(i), {"i": i}, {"t": t}, keep=True)) for i, t in enumerate(texts)]
    for i, one in enumerate(sent):
        mine.write([frames.new(i, one)], i)
    whole = (folder_of(path) / "x.a").read_bytes()
    mine.remove()
    assert [one for _, one in read(whole)] == sent
    used = len(whole.rstrip(b"\0"))
    at = data.draw(st.integers(16, used))
    torn = bytearray(whole)
    if data.draw(st.booleans()):
        torn[at:] = bytes(len(whole) - at)
    else:
        torn[min(at, used - 1)] ^= data.draw(st.integers(1, 255))
    found = [one for _, one in read(bytes(torn))]
    assert found == sent[: len(found)]
    assert len(found) < len(sent) or at == used


def test_flushes_take_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daulat.record.telling._BUSY", 0.8)
    monkeypatch.setattr("daulat.record.telling._LONGEST", 0.002)

    def run(rate: int, busy: float, flush: float, seconds: float = 8.0) -> float:
        """The part of entries that are told."""
        now, told = 0.0, 0
        pace = Pace(lambda: now, lambda: now * busy)
        for _ in range(int(rate * seconds)):
            now += 1 / rate
            if pace.pays():
                pace.flushed(flush)
                told += 1
        return told / (rate * seconds)

    assert run(600, 0.4, 0.0003) == 1.0
    assert run(1200, 0.7, 0.0003) < 0.2
    assert run(50, 0.1, 0.001) == 1.0
    assert run(20, 0.1, 0.03) < 0.3  # flushes for which everybody else waits, too

    now, flush = 0.0, 0.0004
    pace = Pace(lambda: now, lambda: now * 0.6)
    told: list[bool] = []
    for i in range(6000):
        now += 1 / 600
        told.append(pace.pays())
        if told[-1]:
            pace.flushed(flush if i < 2000 else 0.0001)
    assert not all(told[:2000])
    assert all(told[3000:])  # it has been asked again


def test_a_settlement_goes_over_at_once() -> None:
    outcome = Outcome("rec-1", 0, account(5), Spent(2, Usage(3, 4), "e", "m"), 0.0)
    note = draft("note", "rec-1", {}, {}, keep=True)
    assert New(note, settled=[outcome]).releases
    assert not New(note).releases
