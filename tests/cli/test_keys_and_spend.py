"""`daulat keys`, `daulat spend` and the record's upgrade and migration, as a person uses them."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import daulat

from daulat.record import Record, ledger
from daulat.record.keys import Keys
from daulat.record.ledger import Account, Spent
from daulat.values.answer import Usage
from daulat.values.money import PER_UNIT
from daulat.values.plan import NO_LIMITS, Limits

sys.path.insert(0, str(Path(__file__).parents[1] / "record"))

DAY = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    text = '[money]\ncurrency = "IDR"\n[projects.lab]\nmoney_per_month = "20000000"\n'
    (home / "daulat.toml").write_text(text)
    return home


def used(home: Path) -> None:
    """Some attempts, on two days."""
    record = Record.open(home / "record.sqlite3")
    who = (Account("key:key-a", NO_LIMITS), Account("project:lab", NO_LIMITS))

    def work(connection: object) -> None:
        for number, (endpoint, money) in enumerate(
            (("=cmd()", 12_000_000 * PER_UNIT + 5), ("native", 0), ("native", None))
        ):
            usage = Usage(100, 10, 40, counted=number == 1)
            spent = Spent(money, usage, endpoint, "m", failed=number == 2)
            ledger.settle(connection, f"s{number}", 0, who, spent, DAY - number * 86_400)  # pyright: ignore

    record.transact(work)
    record.close()


def test_a_key_with_everything(place: Path) -> None:
    made = daulat(
        *(place, "keys", "create", "alice", "--budget", "5000/day", "--budget", "100000.5/month"),
        *("--budget", "20000000", "--tokens", "1000/day", "--tokens", "20000/month"),
        *("--tokens", "500/minute", "--requests", "60/minute", "--project", "lab"),
        *("--class", "personal", "--scope", "ask", "--scope", "admin", "--expires", "2099-12-31"),
    )
    assert made.returncode == 0, made.stderr
    (secret,) = made.stdout.splitlines()
    record = Record.open(place / "record.sqlite3")
    caller = Keys(record).identify(secret)
    record.close()
    assert caller is not None
    assert caller.limits == Limits(
        *(5000 * PER_UNIT, 100_000_500_000_000_000, 20_000_000 * PER_UNIT),
        *(1000, 20_000, 60, 500),
    )
    assert (caller.scopes, caller.project, caller.data_class) == (
        ("ask", "admin"),
        "lab",
        "personal",
    )
    assert caller.expires == datetime(2099, 12, 31, tzinfo=UTC).timestamp()
    listed = daulat(place, "keys", "list").stdout
    assert "5000 IDR a day, 100000.5 IDR a month, 20000000 IDR in all" in listed
    assert "until 2099-12-31 00:00" in listed
    shown = json.loads(daulat(place, "keys", "show", caller.id, "--json").stdout)
    assert shown["limits"]["money_per_month"] == "100000.5"
    rotated = daulat(place, "keys", "rotate", caller.id, "--overlap", "0")
    assert rotated.returncode == 0
    assert rotated.stdout.startswith("daulat-")
    assert rotated.stdout != made.stdout
    assert daulat(place, "keys", "revoke", caller.id).returncode == 0
    assert caller.id not in daulat(place, "keys", "list").stdout
    assert "revoked" in daulat(place, "keys", "list", "--all").stdout
    assert daulat(place, "record", "verify").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "5/year"), "5/year is not a limit"),
        (("--budget", "5/"), "is not a limit"),
        (("--budget", "five"), "five is not an amount"),
        (("--budget", "-5/day"), "not an amount"),
        (("--budget", "5/day", "--budget", "6/day"), "second limit"),
        (("--tokens", "5"), "N/day, N/month, N/minute"),
        (("--tokens", "1.5/day"), "not a whole number"),
        (("--requests", "9" * 19 + "/minute"), "not a whole number"),
        (("--requests", "9999999999/minute"), "out of bounds"),
        (("--expires", "tomorrow"), "neither a time"),
        (("--expires", "1999-01-01"), "time to come"),
        (("--project", "lob"), "no project lob"),
        (("--scope", "root"), "root"),
    ],
)
def test_what_is_refused(place: Path, words: tuple[str, ...], said: str) -> None:
    done = daulat(place, "keys", "create", "x", *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert daulat(place, "keys", "list", "--json").stdout.strip() == "[]"


def test_spend(place: Path) -> None:
    used(place)
    since = ("--since", "2026-01-01", "--until", "2026-01-31")
    table = daulat(place, "spend", *since)
    lines = table.stdout.splitlines()
    assert lines[0].split() == [
        *("Endpoint", "Model", "Requests", "Errors", "Prompt", "Answer", "Cached", "IDR")
    ]
    assert lines[-1].split() == ["Total", "3", "1", "300", "30", "120", "12000000.000000000005"]
    assert "1 request has no known price" in table.stderr
    assert "The tokens of 1 request are our own count" in table.stderr
    found = json.loads(daulat(place, "spend", *since, "--by", "day", "--json").stdout)
    assert [row["day"] for row in found["rows"]] == ["2026-01-29", "2026-01-30", "2026-01-31"]
    assert found["total"]["money"] == "12000000.000000000005"
    assert "endpoint" not in found["rows"][0]
    text = daulat(place, "spend", *since, "--by", "endpoint", "--by", "key", "--csv").stdout
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["endpoint"], row["key"]) for row in rows] == [
        ("'=cmd()", "key-a"),
        ("native", "key-a"),
    ]
    assert daulat(place, "spend").stdout.count("\n") == 1
    wrong = daulat(place, "spend", "--since", "2026-02-01", "--until", "2026-01-01")
    assert wrong.returncode == 2
    assert "before the first" in wrong.stderr
    said = daulat(place, "spend", *since, more={"LANGUAGE": "id"})
    assert "Permintaan" in said.stdout
    assert "tidak diketahui harganya" in said.stderr


def test_an_old_record_is_upgraded_and_copied(place: Path) -> None:
    import sqlalchemy as sa
    from old_formats import SECRET, format_1

    engine = sa.create_engine(f"sqlite:///{place / 'record.sqlite3'}")
    with engine.begin() as connection:
        head = format_1(connection)
    engine.dispose()
    first = daulat(place, "record", "upgrade")
    assert "format 1 and has format 2" in first.stdout
    assert "format 2 already" in daulat(place, "record", "upgrade").stdout
    target = place / "copy.sqlite3"
    copied = daulat(place, "record", "migrate", "--to", str(target))
    assert copied.returncode == 0, copied.stderr
    assert head in copied.stdout
    assert "record.url" in copied.stderr
    (place / "daulat.toml").write_text(f'[record]\nurl = "sqlite:///{target}"\n')
    assert head in daulat(place, "record", "verify").stdout
    record = Record.open(target)
    assert Keys(record).identify(SECRET) is not None
    record.close()
    with sqlite3.connect(place / "foreign.sqlite3") as db:
        db.execute("CREATE TABLE head (id, seq, hash, version)")
        db.execute("INSERT INTO head VALUES (1, 5, 'x', 2)")
    refused = daulat(place, "record", "migrate", "--to", str(place / "foreign.sqlite3"))
    assert refused.returncode == 1
    assert "no copy of this one" in refused.stderr
