"""The process that writes for a busy server: the same chain and the same money, whoever is killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from daulat.errors import RecordError
from daulat.record import Record, frames, schema, verify, writing
from daulat.record.appending import Appender
from daulat.record.chain import draft
from daulat.record.charges import Account, Claim, Outcome, Refusal, Spent, Wish
from daulat.record.entering import New, enter
from daulat.values.answer import Usage
from daulat.values.plan import NO_LIMITS, Limits
from tests.record.test_budgets import agree, recover

INSTANCE = {"instance": "instance-0000000000000000"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry is much."""
    monkeypatch.setattr(writing, "BUSY", 1)


def children() -> list[psutil.Process]:
    """The writing processes of this one."""
    found: list[psutil.Process] = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one] if "daulat.record.writer" in one.cmdline() else []
    return found


@contextlib.asynccontextmanager
async def busy(
    where: Path | str, owner: str | None = None
) -> AsyncGenerator[tuple[Record, psutil.Process]]:
    """A record whose process is at work; with an owner, entries may be told ahead of the database."""
    record = Record.open(where)
    try:
        if owner is not None:
            record.hold(owner)
        while record._apart._link is None:
            await record.add("note", "s", {})
            await asyncio.sleep(0.01)
        (process,) = children()
        yield record, process
        await record.write_here()
    finally:
        record.close()
    assert children() == []


def account(limit: int | None) -> tuple[Account, ...]:
    return (
        Account("key:k", NO_LIMITS if limit is None else Limits(money_in_all=limit)),
        Account("all", NO_LIMITS),
    )


async def exchange(
    record: Record, name: str, who: tuple[Account, ...], *, ahead: bool = False
) -> Refusal | None:
    """Open with a claim of 30, then close with 20 spent."""
    wish = Wish(name, 0, who, Claim(30, 10, "e", "m"), 1_800_000_000.0)
    opening = {**INSTANCE, "claim": 30}
    asked = {"request": "é"}
    refusal = await record.add("exchange.opened", name, opening, asked, wish=wish, ahead=ahead)
    if refusal is None:
        spent = Outcome(name, 0, who, Spent(20, Usage(3, 4), "e", "m"), wish.now)
        closing, said = {"money": 20}, {"answer": 1}
        await record.add("exchange.closed", name, closing, said, settled=[spent], ahead=ahead)
    return refusal


async def test_what_it_writes_is_one_chain_with_what_is_written_here(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, _):
        added = [record.add("note", f"a{i}", {"i": i}, {"text": f"\ud83d {i}"}) for i in range(300)]
        here = [asyncio.to_thread(record.append, "note", f"h{i}", {"i": i}) for i in range(30)]
        await asyncio.gather(*added, *here)
        subjects = Counter(entry.subject for entry in record.entries())
        assert all(subjects[f"a{i}"] == 1 for i in range(300))
        assert all(subjects[f"h{i}"] == 1 for i in range(30))
        entry = next(record.entries(subject="a7"))
        assert (entry.body, record.contents(entry)) == ({"i": 7}, {"text": "\ud83d 7"})
        assert verify(record).fault is None


async def test_it_keeps_the_budget(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, _):
        limit = account(20 * 40 + 29)
        asked = [exchange(record, f"rec-{i}", limit) for i in range(100)]
        found = Counter(type(one) for one in await asyncio.gather(*asked))
        # Others' claims are in the way while they last; behind them one at a time fits, up to 40.
        for i in range(60):
            found[type(await exchange(record, f"late-{i}", limit))] += 1
        assert found[type(None)] == 40
        refusal = await exchange(record, "rec-last", limit)
        assert refusal == Refusal("key:k", "money_in_all", 829, 29, 30, None)


async def test_money_agrees_whenever_it_is_killed(tmp_path: Path) -> None:
    """All that was added is there once, whatever the process had written when it died."""
    draw = random.Random(5)
    path = tmp_path / "record.sqlite3"
    who = account(10**12)
    for turn in range(4):
        record = Record.open(path)
        while record._apart._link is None:
            await exchange(record, f"start-{turn}-{time.monotonic_ns()}", who)
        (process,) = children()

        async def load(turn: int = turn, record: Record = record) -> None:
            waves = (range(start, start + 40) for start in range(0, 1000, 40))
            for wave in waves:
                await asyncio.gather(*(exchange(record, f"{turn}-{i}", who) for i in wave))

        loading = asyncio.create_task(load())
        await asyncio.sleep(draw.uniform(0.01, 0.2))
        process.send_signal(signal.SIGKILL)
        await loading
        await asyncio.sleep(0.1)
        assert record._apart._link is None  # for a minute
        subjects = Counter((e.subject, e.kind) for e in record.entries())
        assert set(subjects.values()) == {1}
        assert all((f"{turn}-{i}", "exchange.closed") in subjects for i in range(1000))
        agree(record)
        await record.write_here()
        record.close()
    assert children() == []


KILLED = """
import asyncio, sys
from pathlib import Path
from daulat.record import Record, writing
from tests.record.test_writing import account, exchange
writing.BUSY = 1
async def main():
    record = Record.open(Path(sys.argv[1]))
    for number in range(1_000_000):
        await exchange(record, f"{sys.argv[2]}-{number}", account(10**12))
        if record._apart._link is not None and number % 20 == 0:
            print(record._apart._process.pid, flush=True)
asyncio.run(main())
"""


def test_it_ends_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    for turn in range(3):
        command = [sys.executable, "-c", KILLED, str(path), str(turn)]
        root = Path(__file__).parents[2]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert server.stdout is not None
        process = psutil.Process(int(server.stdout.readline()))
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(ignored)
        assert server.stdout.readline()
        time.sleep(random.uniform(0.01, 0.2))
        server.kill()
        server.communicate()
        with contextlib.suppress(psutil.NoSuchProcess):
            process.wait(10)
        record = Record.open(path)
        agree(record)
        assert recover(record) <= 1
        agree(record)
        record.close()


async def test_what_cannot_be_written_is_an_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, process):
        before = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        failed = await asyncio.gather(
            *(record.add("note", f"f{i}", {}) for i in range(5)), return_exceptions=True
        )
        assert all(isinstance(one, RecordError) for one in failed)
        assert "cannot be written" in str(failed[0])
        process.rlimit(resource.RLIMIT_FSIZE, before)
        await record.add("note", "again", {})
        assert {e.subject for e in record.entries()} == {"s", "again"}
        with pytest.raises(RecordError, match="1048576 bytes"):
            await record.add("note", "large", {"text": "a" * (1 << 20)})
        assert process.is_running()


async def test_without_it_the_record_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as record:
        with caplog.at_level(logging.WARNING):
            for i in range(50):
                await record.add("note", f"s{i}", {})
                await asyncio.sleep(0.005)
        assert sum("gone" in one.message for one in caplog.records) == 1  # not again for a minute
        assert sum(1 for _ in record.entries()) == 50
        await record.write_here()


async def test_behind_it_the_record_is_written_here(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, _):
        await record.write_here()
        assert children() == []
        await asyncio.gather(*(record.add("note", f"s{i}", {}) for i in range(50)))
        assert children() == []
        assert {f"s{i}" for i in range(50)} < {entry.subject for entry in record.entries()}


@pytest.mark.parametrize("pause", [0.0, 0.1])
async def test_who_closes_right_behind_its_death_loses_nothing(
    tmp_path: Path, pause: float
) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, process):
        process.kill()
        added = [record.add("note", f"late{i}", {}) for i in range(20)]
        added[3].cancel()
        await asyncio.sleep(pause)
        await record.write_here()
        record.close()
        ended = await asyncio.gather(*added, return_exceptions=True)
        assert isinstance(ended.pop(3), asyncio.CancelledError)
        assert ended == [None] * 19
    with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as again:
        found = Counter(entry.subject for entry in again.entries())
        assert all(found[f"late{i}"] == 1 for i in range(20) if i != 3)
        assert verify(again).fault is None


async def test_another_event_loop_writes_here(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, _):

        async def elsewhere() -> None:
            await asyncio.wait_for(record.add("note", "elsewhere", {}), 10)

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert sum(1 for _ in record.entries(subject="elsewhere")) == 1


@pytest.mark.parametrize("kind", [OSError, ValueError])
async def test_what_keeps_it_from_starting_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def none_left() -> None:
        raise kind("no more sockets")

    with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as record:
        with monkeypatch.context() as patched:
            patched.setattr(writing.socket, "socketpair", none_left)
            await record.add("note", "a", {})
            await asyncio.sleep(0.01)
        monkeypatch.setattr(record._apart, "_not_before", 0.0)  # a minute later
        while record._apart._link is None:
            await record.add("note", "b", {})
            await asyncio.sleep(0.01)
        await record.write_here()


async def test_a_text_that_no_frame_can_hold_is_written_here(tmp_path: Path) -> None:
    async with busy(tmp_path / "record.sqlite3") as (record, _):
        wish = Wish("rec-1", 0, account(10**9), Claim(3, 1, "e", "\ud83d"), 1_800_000_000.0)
        with contextlib.suppress(RecordError):  # SQLite takes no half pair, either
            await record.add("exchange.opened", "rec-1", INSTANCE, wish=wish)
        await record.add("note", "still", {})


async def test_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    await asyncio.to_thread(folder.mkdir)
    async with busy(folder / "record.sqlite3") as (record, _):
        await record.add("note", "here", {})
        assert sum(1 for _ in record.entries(subject="here")) == 1


ORPHAN = """
import asyncio, os, sqlite3, sys
from pathlib import Path
from daulat.record import Record, writing
from daulat.record.charges import Claim, Outcome, Spent, Wish
from daulat.values.answer import Usage
from tests.record.test_writing import INSTANCE, account
writing.BUSY = 1
async def main():
    record = Record.open(Path(sys.argv[1]))
    while record._apart._link is None:
        await record.add("note", "s", {})
        await asyncio.sleep(0.01)
    who, now = account(10**12), 1_800_000_000.0
    wish = Wish("A", 0, who, Claim(30, 10, "e", "m"), now)
    await record.add("exchange.opened", "A", INSTANCE, wish=wish)
    print("opened", record._apart._process.pid, flush=True)
    sys.stdin.readline()
    spent = Outcome("A", 0, who, Spent(20, Usage(3, 4), "e", "m"), now)
    closing = record.add("exchange.closed", "A", {"money": 20}, settled=[spent])
    opening = record.add("exchange.opened", "B", INSTANCE, wish=Wish("B", 0, who, wish.claim, now))
    both = asyncio.gather(closing, opening)
    await asyncio.sleep(0.1)
    print("handed over", flush=True)
    await both
asyncio.run(main())
"""


def test_what_waited_for_a_lock_is_not_written_for_a_dead_server(tmp_path: Path) -> None:
    """Else the next server would have closed what is then closed once more, and not what is then opened."""
    path = tmp_path / "record.sqlite3"
    server = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert server.stdin is not None
    assert server.stdout is not None
    process = psutil.Process(int(server.stdout.readline().split()[1]))
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    server.stdin.write("\n")
    server.stdin.flush()
    assert server.stdout.readline() == "handed over\n"
    server.kill()
    server.communicate()
    lock.execute("ROLLBACK")
    lock.close()
    record = Record.open(path)
    assert record.recover(lambda _: False) == 1
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process.wait(10)
    kinds = [entry.kind for entry in record.entries() if entry.subject in ("A", "B")]
    assert kinds == ["exchange.opened", "exchange.interrupted"]
    assert record.recover(lambda _: False) == 0
    with record.reading() as connection:
        assert connection.execute(sa.select(schema.reservations)).all() == []
    assert verify(record).fault is None
    record.close()


async def test_little_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BUSY", 1000)
    with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as record:
        await asyncio.gather(*(record.add("note", f"s{i}", {}) for i in range(200)))
        assert children() == []
        await record.write_here()


async def test_closed_while_it_starts(tmp_path: Path) -> None:
    for pause in (0.0, 0.005, 0.05, 0.2):
        with contextlib.closing(Record.open(tmp_path / "record.sqlite3")) as record:
            await record.add("note", "s", {})
            await asyncio.sleep(pause)
            await record.write_here()
        assert children() == []


async def test_postgresql(url: str) -> None:
    async with busy(url) as (record, process):
        who = account(10**12)
        loading = asyncio.gather(*(exchange(record, f"rec-{i}", who) for i in range(200)))
        await asyncio.sleep(0.05)
        process.kill()
        await loading
        subjects = Counter((e.subject, e.kind) for e in record.entries() if e.kind != "note")
        assert subjects == {
            (f"rec-{i}", kind): 1
            for i in range(200)
            for kind in ("exchange.opened", "exchange.closed")
        }
        assert verify(record).fault is None


async def test_what_a_dead_process_had_told_postgresql_to_commit(url: str) -> None:
    """It is waited for: else it would be written twice."""
    with contextlib.closing(Record.open(url)) as record:
        new = New(draft("note", "s", {"i": 1}, {}, keep=True))
        engine = schema.connect(url)
        with engine.connect() as connection, connection.begin():
            appender = Appender(connection)
            enter(appender, [new])
            appender.flush()
            waiting: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
            record._once_more(new, waiting)
            await asyncio.sleep(0.3)
            assert not waiting.done()
        assert await waiting is None
        engine.dispose()
        assert sum(1 for _ in record.entries()) == 1
        assert verify(record).fault is None


TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)
MONEY = st.integers(0, 10**27)
WHO = st.builds(
    Account,
    st.sampled_from(["key:k", "project:p", "all"]),
    st.builds(Limits, money_in_all=st.none() | MONEY, tokens_per_minute=st.none() | st.integers(0)),
)
WISHES = st.builds(
    Wish,
    st.just("rec-1"),
    st.integers(0, 9),
    st.tuples(WHO, WHO),
    st.builds(Claim, MONEY, st.integers(0, 10**12)),
    st.floats(0, 1e10),
)
OUTCOMES = st.builds(
    Outcome,
    st.just("rec-1"),
    st.integers(0, 9),
    st.tuples(WHO),
    st.builds(
        Spent,
        st.none() | MONEY,
        st.builds(Usage, st.integers(0, 10**12), counted=st.booleans()),
        st.just("e"),
        st.just("m"),
        st.booleans(),
    ),
    st.floats(0, 1e10),
)


@given(
    st.dictionaries(TEXTS, TEXTS | st.integers(-(2**53), 2**53), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b"]), TEXTS),
    st.none() | WISHES,
    st.lists(OUTCOMES, max_size=2),
    st.booleans(),
    st.data(),
)
def test_frames_bring_what_was_sent(
    body: dict[str, object],
    contents: dict[str, str],
    wish: Wish | None,
    settled: list[Outcome],
    keep: bool,
    data: st.DataObject,
) -> None:
    one = draft("note", "rec-1", body, contents, keep=keep)
    refused = draft("note", "rec-1", {"refused": True}, {}, keep=True)
    sent = [New(one, wish, tuple(settled), refused), New(one)]
    stream = b"".join(frames.new(number, new) for number, new in enumerate(sent))
    cutting, read = frames.Frames(), list[tuple[int, New]]()
    while stream:
        at = data.draw(st.integers(1, len(stream)))
        read += [frames.read_new(frame) for frame in cutting.cut(stream[:at])]
        stream = stream[at:]
    assert read == list(enumerate(sent))


def test_answers_bring_what_was_found() -> None:
    found = [
        frames.Answer(1),
        frames.Answer(2, Refusal("all", "money_in_all", 10**27, 0, 7, None)),
        frames.Answer(3, None, "The record cannot be written."),
    ]
    assert frames.read_answers(frames.answers(found)[frames.HEADER.size :]) == found
