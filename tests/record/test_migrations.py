"""A record that an earlier version wrote is upgraded as it is opened, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import houses
import pytest
import sqlalchemy as sa
from old_formats import SECRET, format_1

from daulat.errors import RecordError
from daulat.record import Record, ledger, migrations, schema, verify
from daulat.record.keys import Keys
from daulat.record.ledger import Account, Claim
from daulat.values.plan import Limits


def old(path: Path, exchanges: int = 3) -> str:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        head = format_1(connection, exchanges)
    engine.dispose()
    return head


def shape(engine: sa.Engine) -> dict[str, object]:
    """Tables, columns, keys and indexes as the database has them."""
    found = sa.inspect(engine)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)),
            found.get_pk_constraint(table)["constrained_columns"],
            sorted((i["name"] or "", i["unique"]) for i in found.get_indexes(table)),
            sorted(c["name"] or "" for c in found.get_check_constraints(table)),
        )
        for table in found.get_table_names()
    }


def bare(value: object) -> object:
    # SQLite keeps the words of a type; BIGINT and INTEGER are one there.
    return eval(repr(value).replace("'BIGINT'", "'INTEGER'"))  # noqa: S307 - our own repr


def test_an_old_record_opens_and_proves_itself(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    head = old(path)
    record = Record.open(path)
    assert verify(record, head=head).fault is None
    assert f"{record.head()[0]}:{record.head()[1]}" == head
    keys = Keys(record)
    caller = keys.identify(SECRET)
    assert caller is not None
    assert (caller.id, caller.models, caller.scopes) == ("key-a", ("m",), ("ask", "metrics"))
    assert not caller.limits.any()
    assert [(card.caller.id, bool(card.revoked)) for card in keys.cards()] == [
        ("key-a", False),
        ("key-b", True),
    ]
    wished = (Account("key:key-a", Limits(money_per_day=5)),)
    assert (
        record.transact(lambda c: ledger.reserve(c, "rec-9", 0, wished, Claim(5, 5), 0.0)) is None
    )
    record.append("exchange.opened", "rec-9", {"instance": "i"}, {"request": "x"})
    assert verify(record, head=head).fault is None
    record.close()
    copy = migrations.copy_of(path, 1)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as before:
        assert before.execute("SELECT version FROM head").fetchone() == (1,)
        assert before.execute("SELECT count(*) FROM entries").fetchone() == (
            int(head.split(":")[0]),
        )
    Record.open(path).close()
    assert [p.name for p in tmp_path.glob("*bak*")] == [copy.name]


def test_an_upgraded_database_is_like_a_new_one(tmp_path: Path) -> None:
    old(tmp_path / "old.sqlite3")
    engines = [schema.open_database(tmp_path / name) for name in ("old.sqlite3", "new.sqlite3")]
    upgraded, new = (bare(shape(engine)) for engine in engines)
    assert upgraded == new
    for engine in engines:
        engine.dispose()


def test_in_postgresql_it_needs_a_word(url: str) -> None:
    engine = sa.create_engine(url)
    schema.open_database(url).dispose()
    new = shape(engine)
    houses.emptied(url)
    with engine.begin() as connection:
        head = format_1(connection)
    with pytest.raises(RecordError, match="daulat record upgrade"):
        Record.open(url)
    assert schema.upgrade_database(url) == 1
    assert schema.upgrade_database(url) is None
    assert shape(engine) == new
    record = Record.open(url)
    assert verify(record, head=head).fault is None
    assert Keys(record).identify(SECRET) is not None
    record.close()
    engine.dispose()


def test_without_a_copy_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    old(path, 400)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE head SET version = 3"))
    with pytest.raises(RecordError, match="Upgrade Daulat"):
        schema.open_database(path)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE head SET version = 1"))
    engine.dispose()
    # No file may be as large as the copy would be.
    limited = (
        "import resource, sys; from pathlib import Path\n"
        "from daulat.record import schema; from daulat.errors import RecordError\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try: schema.open_database(Path(sys.argv[1]))\n"
        "except RecordError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=True
    )
    assert "no copy of it could be laid" in done.stdout, done
    assert not list(tmp_path.glob("*bak*"))
    with sqlite3.connect(path) as after:
        assert after.execute("SELECT version FROM head").fetchone() == (1,)


def test_several_processes_upgrade_at_once(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    head = old(path, 40)
    code = "import sys; from pathlib import Path; from daulat.record import Record; "
    code += "Record.open(Path(sys.argv[1])).close()"
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    record = Record.open(path)
    assert verify(record, head=head).fault is None
    record.close()


def test_a_step_that_fails_is_taken_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    old(path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE statistics (x INTEGER)"))
    before = shape(engine)
    with pytest.raises(RecordError, match="already exists"):
        schema.open_database(path)
    assert shape(engine) == before
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE statistics"))
    engine.dispose()
    record = Record.open(path)
    assert verify(record).fault is None
    record.close()
