"""One budget for many: threads, processes, a process that is killed, a database that fails."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, event, select

from daulat.errors import RecordError
from daulat.record import Record, ledger, prepared, schema, statistics, verify
from daulat.record.ledger import Account, Claim, Spent
from daulat.values.answer import Usage
from daulat.values.money import joined
from daulat.values.plan import NO_LIMITS, Limits

BUDGET = 7_000_003
LARGEST = 60_000
NOW = 1_800_000_000.0
SHARED = (
    Account("key:k", Limits(money_per_month=BUDGET)),
    Account("project:p", NO_LIMITS),
    Account("all", Limits(money_in_all=BUDGET + 1, requests_per_minute=10**6)),
)

# Threads of one process that reserve and settle in transactions of their own, without the chain.
WORKER = """
import random, sys, threading
from pathlib import Path
from daulat.record import schema
from tests.record.test_budgets import use_up
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
engine = schema.open_database(place).execution_options(writing=True)
print("ready", flush=True)
sys.stdin.readline()
def transact(work):
    with engine.begin() as connection:
        return work(connection)
print(use_up(transact, sys.argv[2], int(sys.argv[3])), flush=True)
"""


def use_up(transact: Any, name: str, threads: int) -> int:
    """Reserve and settle in many threads until the budget is used up; what was spent."""
    total: list[int] = []

    def one(number: int) -> None:
        draw = random.Random(f"{name}{number}")
        mine = refused = 0
        for turn in itertools.count():
            subject, claim = f"{name}-{number}-{turn}", draw.randint(1, LARGEST)
            who = partial(dict, subject=subject, attempt=0, accounts=SHARED, now=NOW)
            asked = Claim(claim, 10, "e", "m")
            answer = transact(partial(ledger.reserve, **who(claim=asked)))
            if answer is not None:
                refused += 1
                if refused == 6:
                    break
                continue
            money = draw.choice((claim, claim, claim // 2, 0))
            spent = Spent(money, Usage(1, 1), "e", "m")
            transact(partial(ledger.settle, **who(spent=spent)))
            mine += money
        total.append(mine)

    running = [threading.Thread(target=one, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert len(total) == threads, "a thread failed"
    return sum(total)


def check(connection: Connection, spent: int) -> None:
    """The budget is not over, nothing is left reserved, and all sums are one."""
    rows = connection.execute(select(schema.balances)).all()
    assert {row.account for row in rows} == {"key:k", "all"}
    for row in rows:
        assert joined(row.spent_units, row.spent_parts) == spent <= BUDGET
        assert (row.reserved_units, row.reserved_parts, row.reserved_tokens) == (0, 0, 0)
    assert BUDGET - spent < LARGEST
    assert sum(row.money for row in statistics.spend(connection)) == spent
    assert connection.execute(select(schema.reservations)).all() == []


def watch(engine: sa.Engine, stop: threading.Event, wrong: list[str]) -> None:
    """At no moment is more spent and reserved than the budget."""
    b = schema.balances.c
    while not stop.is_set():
        with engine.begin() as connection:
            query = select(schema.balances).where(b.account == "key:k")
            for row in connection.execute(query):
                held = joined(row.reserved_units, row.reserved_parts)
                if joined(row.spent_units, row.spent_parts) + held > BUDGET:
                    wrong.append(repr(row))
        time.sleep(0.01)


def test_two_hundred_threads(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.sqlite3")
    stop, wrong = threading.Event(), []
    watching = threading.Thread(target=watch, args=(record._engine, stop, wrong))
    watching.start()
    spent = use_up(record.transact, "t", 200)
    stop.set()
    watching.join()
    assert not wrong
    record.transact(lambda connection: check(connection, spent))
    record.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_four_processes(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    place: str | Path = tmp_path / "record.sqlite3"
    if kind == "postgresql":
        place = request.getfixturevalue("url")
    engine = schema.open_database(place)
    running = [_worker(place, f"w{n}", 4) for n in range(4)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    stop, wrong = threading.Event(), []
    watching = threading.Thread(target=watch, args=(engine, stop, wrong))
    watching.start()
    spent = sum(int(process.communicate("go\n")[0]) for process in _all_at_once(running))
    stop.set()
    watching.join()
    assert not wrong
    with engine.begin() as connection:
        check(connection, spent)
    engine.dispose()


def _worker(place: str | Path, name: str, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(place), name, str(threads)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def _all_at_once(running: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return running


# --- a hall as small as can be: money and the chain in one transaction ------------------------------


def opened(record: Record, subject: str, money: int) -> None:
    def work(connection: Connection) -> None:
        claim = Claim(money, money, "e", "m")
        assert ledger.reserve(connection, subject, 0, SHARED, claim, NOW) is None
        body = {"instance": "instance-0000000000000000", "claim": money}
        record.append_within(connection, "exchange.opened", subject, body)

    record.transact(work)


def closed(record: Record, subject: str, money: int) -> None:
    def work(connection: Connection) -> None:
        spent = Spent(money, Usage(money), "e", "m")
        ledger.settle(connection, subject, 0, SHARED, spent, NOW)
        record.append_within(connection, "exchange.closed", subject, {"money": money})

    record.transact(work)


def recover(record: Record) -> int:
    """Close what a dead process left, with the money that it may have cost."""

    def work(connection: Connection) -> int:
        left = connection.execute(select(schema.open_exchanges.c.subject)).scalars().all()
        for subject in left:
            lost = ledger.abandon(connection, subject)
            body = {"money": sum(one.claim.money for one in lost)}
            record.append_within(connection, "exchange.interrupted", subject, body)
        return len(left)

    return record.transact(work)


def agree(record: Record) -> None:
    """What is reserved is what is open; what is spent is what the entries say."""
    assert verify(record).fault is None
    entries = list(record.entries())
    ended = {e.subject: e.body["money"] for e in entries if e.kind != "exchange.opened"}
    claims = {e.subject: e.body["claim"] for e in entries if e.kind == "exchange.opened"}
    under_way = {subject: claim for subject, claim in claims.items() if subject not in ended}
    with record.reading() as connection:
        held = connection.execute(select(schema.reservations)).all()
        assert {r.subject: joined(r.units, r.parts) for r in held} == under_way
        spend = statistics.spend(connection, by=())
        assert sum(row.money for row in spend) == sum(ended.values())
        assert sum(row.requests for row in spend) == len(ended)
        for row in connection.execute(select(schema.balances)):
            assert joined(row.spent_units, row.spent_parts) == sum(ended.values())
            assert joined(row.reserved_units, row.reserved_parts) == sum(under_way.values())


AT_WORK = """
import sys
from pathlib import Path
from daulat.record import Record
from tests.record.test_budgets import closed, opened
record = Record.open(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100_000):
    opened(record, f"{sys.argv[2]}-{number}", 30)
    if number % 3:
        closed(record, f"{sys.argv[2]}-{number}", number % 31)
"""


def test_killed_between_any_two_steps_money_and_record_agree(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", AT_WORK, str(path), f"t{turn}"],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(random.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        record = Record.open(path)
        agree(record)
        if turn % 2:
            assert recover(record) > 0
            assert recover(record) == 0
            agree(record)
        record.close()
    record = Record.open(path)
    recover(record)
    agree(record)
    with record.reading() as connection:
        assert connection.execute(select(schema.reservations)).all() == []
    record.close()


def test_whichever_statement_fails_money_and_record_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.open(tmp_path / "record.sqlite3")
    due = 0

    def fail(*_: object) -> None:
        nonlocal due
        due -= 1
        if due == 0:
            raise sa.exc.OperationalError("injected", {}, OSError("disk I/O error"))

    def raw(connection: sa.Connection) -> Any:
        fail()
        return connection.connection

    event.listen(record._engine, "before_cursor_execute", fail)
    event.listen(record._engine, "commit", fail)
    monkeypatch.setattr(prepared, "_raw", raw)
    failures = 0
    for number in itertools.count(1):
        steps = (
            lambda n=number: opened(record, f"a{n}", 50),
            lambda n=number: closed(record, f"a{n}", 60),
            lambda n=number: opened(record, f"b{n}", 70),
            lambda: recover(record),
        )
        due, failed = number, False
        for step in steps:
            try:
                step()
            except RecordError:
                failed = True
                break
        due = 0
        agree(record)
        failures += failed
        if not failed:
            break
        recover(record)
        agree(record)
    assert failures == number - 1 > 30
    record.close()
