"""A record copied from SQLite to PostgreSQL and back is the same record."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from daulat.errors import RecordError
from daulat.record import Record, ledger, schema, statistics, verify
from daulat.record.copying import migrate
from daulat.record.keys import Keys
from daulat.record.ledger import Account, Claim, Spent
from daulat.values.answer import Usage
from daulat.values.money import PER_UNIT
from daulat.values.plan import Limits

COPY = """
import sys
from pathlib import Path
from daulat.record import copying
copying.BATCH = 1
place = lambda text: text if "://" in text else Path(text)
print("begun", flush=True)
copying.migrate(place(sys.argv[1]), place(sys.argv[2]))
"""


def fill(where: str | Path, exchanges: int = 130) -> str:
    """A record with everything in it; the secret of its key."""
    record = Record.open(where)
    _, secret = Keys(record).create("é", limits=Limits(money_per_day=3), models=("a:b",))
    for number in range(exchanges):
        request = {"messages": ["é🎉", number]} if number % 3 else None
        record.append("exchange.opened", f"rec-{number}", {"instance": "i"}, {"request": request})
        if number % 2:
            record.append("exchange.closed", f"rec-{number}", {"status": "ok"}, {"answer": "x"})
    record.redact("rec-5", "wished")
    limited = (Account("key:k", Limits(money_in_all=10**30, requests_per_minute=9)),)

    def work(connection: sa.Connection) -> None:
        for number in range(3):
            claim = Claim(7 * 10**15 + number, 10, "e", "m")
            assert ledger.reserve(connection, f"s{number}", 0, limited, claim, 0.0) is None
        spent = Spent(10**7 * PER_UNIT + 1, Usage(1, 2), "e", "m")
        ledger.settle(connection, "s0", 0, limited, spent, 1.0)

    record.transact(work)
    record.close()
    return secret


def everything(where: str | Path) -> dict[str, list[tuple[object, ...]]]:
    engine = schema.open_database(where)
    with engine.begin() as connection:
        found = {
            table.name: sorted(
                (
                    tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                    for row in connection.execute(sa.select(table))
                ),
                key=repr,
            )
            for table in schema.metadata.sorted_tables
        }
    engine.dispose()
    return found


def test_there_and_back(tmp_path: Path, url: str) -> None:
    first, last = tmp_path / "a.sqlite3", tmp_path / "b.sqlite3"
    secret = fill(first)
    before = everything(first)
    steps: list[tuple[int, int]] = []
    copied = migrate(first, url, lambda done, total: steps.append((done, total)))
    assert copied.entries == copied.new == steps[-1][0] == steps[-1][1]
    assert copied.behind == 0
    assert len(steps) > 1
    migrate(url, last)
    assert everything(first) == everything(url) == everything(last) == before
    record = Record.open(last)
    assert verify(record, head=copied.head).fault is None
    assert Keys(record).identify(secret) is not None
    record.append("exchange.opened", "rec-new", {"instance": "i"}, {})
    limited = (Account("key:k", Limits(money_in_all=10**30)),)
    found = record.transact(lambda c: ledger.abandon(c, "s1"))
    assert [one.claim.money for one in found] == [7 * 10**15 + 1]
    record.transact(lambda c: ledger.reserve(c, "t", 0, limited, Claim(1, 1), 0.0))
    (row,) = record.transact(statistics.spend)
    assert row.money == 10**7 * PER_UNIT + 1 + 7 * 10**15 + 1
    assert verify(record).fault is None
    record.close()


def test_a_later_run_takes_what_has_come_since(tmp_path: Path) -> None:
    source, target = tmp_path / "a.sqlite3", tmp_path / "b.sqlite3"
    fill(source, 20)
    migrate(source, target)
    record = Record.open(source)
    record.append("exchange.opened", "rec-late", {"instance": "i"}, {})
    _, late = Keys(record).create("late")
    record.close()
    assert migrate(source, target).new == 2
    assert migrate(source, target).new == 0
    assert everything(source) == everything(target)
    copy = Record.open(target)
    assert Keys(copy).identify(late) is not None
    copy.close()


def test_other_content_is_left_alone(tmp_path: Path) -> None:
    source, other, grown = (tmp_path / f"{name}.sqlite3" for name in "abc")
    fill(source, 10)
    fill(other, 12)
    before = everything(other)
    with pytest.raises(RecordError, match="no copy of this one"):
        migrate(source, other)
    assert everything(other) == before
    migrate(source, grown)
    record = Record.open(grown)
    record.append("exchange.opened", "rec-of-its-own", {"instance": "i"}, {})
    record.close()
    with pytest.raises(RecordError, match="no copy of this one"):
        migrate(source, grown)
    with pytest.raises(RecordError, match="the record itself"):
        migrate(source, tmp_path / "x" / ".." / "a.sqlite3")
    with sqlite3.connect(tmp_path / "foreign.sqlite3") as db:
        db.execute("CREATE TABLE keys (mine TEXT)")
    with pytest.raises(RecordError, match="not copied"):
        migrate(source, tmp_path / "foreign.sqlite3")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_broken_off_it_goes_on_where_it_ended(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    source = tmp_path / "a.sqlite3"
    fill(source, 400)
    where = tmp_path / "b.sqlite3"
    target = str(where) if kind == "sqlite" else request.getfixturevalue("url")
    place = where if kind == "sqlite" else target
    command = [sys.executable, "-c", COPY, str(source), target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    engine = schema.connect(place)
    while _count(engine) < 20:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    came = _count(engine)
    engine.dispose()
    assert 20 <= came < 600
    with pytest.raises(RecordError, match="daulat record migrate"):
        Record.open(place)
    copied = migrate(source, place)
    assert copied.new <= copied.entries - came
    assert everything(source) == everything(place)


def _count(engine: sa.Engine) -> int:
    try:
        with engine.begin() as connection:
            return connection.execute(sa.select(schema.head.c.seq)).scalar() or 0
    except sa.exc.SQLAlchemyError:
        return 0


def test_a_source_that_is_not_sound_is_not_taken_for_a_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "a.sqlite3", tmp_path / "b.sqlite3"
    fill(source, 10)
    with sqlite3.connect(source) as db:
        db.execute("UPDATE entries SET kind = 'x' WHERE seq = 4")
    with pytest.raises(RecordError, match="Entry 4 of the copy is not sound"):
        migrate(source, target)
    with pytest.raises(RecordError):
        Record.open(target)


def test_the_copy_is_of_one_moment(tmp_path: Path) -> None:
    source, target = tmp_path / "a.sqlite3", tmp_path / "b.sqlite3"
    fill(source, 150)
    record = Record.open(source)
    came = iter(range(100))

    def meanwhile(_done: int, _total: int) -> None:
        record.append("exchange.opened", f"rec-meanwhile-{next(came)}", {"instance": "i"}, {})

    copied = migrate(source, target, meanwhile)
    assert copied.behind == next(came) > 1
    assert migrate(source, target).new == copied.behind
    assert everything(source) == everything(target)
    record.close()
