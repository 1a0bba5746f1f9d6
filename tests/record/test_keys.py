"""Keys: what they may do, how their secrets change, and how quickly that holds everywhere."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from daulat.errors import NotFoundError, RecordError, RequestError
from daulat.record import Record, verify
from daulat.record.keys import Keys
from daulat.values.plan import Limits

ELSEWHERE = """
import sys
from pathlib import Path
from daulat.record import Record
from daulat.record.keys import Keys
record = Record.open(Path(sys.argv[1]))
getattr(Keys(record), sys.argv[2])(sys.argv[3])
record.close()
"""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record.open(tmp_path / "record.sqlite3")
    yield opened
    opened.close()


def test_a_key_keeps_all_that_it_was_given(record: Record) -> None:
    limits = Limits(1, 2, 10**27, 4, 5, 6, 7)
    end = time.time() + 1000
    caller, secret = Keys(record).create(
        "é",
        models=("a", "b:*"),
        scopes=("admin", "ask"),
        project="lab",
        data_class="personal",
        limits=limits,
        expires=end,
    )
    assert (caller.scopes, caller.project, caller.data_class) == (
        ("ask", "admin"),
        "lab",
        "personal",
    )
    assert (caller.limits, caller.expires) == (limits, float(int(end)))
    other = Keys(record)
    assert other.identify(secret) == caller == other.find(caller.id).caller
    (entry,) = record.entries(kind="key.created")
    assert entry.subject == caller.id
    assert entry.body["limits"]["money_in_all"] == 10**27
    assert entry.body["expires"] == int(end)
    assert (entry.body["project"], entry.body["scopes"]) == ("lab", ["ask", "admin"])
    assert secret not in repr(entry)
    assert verify(record).fault is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ["x"] * 257},
        {"models": ["x\n"]},
        {"models": [""]},
        {"scopes": ()},
        {"scopes": ("ask", "everything")},
        {"project": "x" * 65},
        {"data_class": "a\x00"},
        {"limits": Limits(money_per_day=-1)},
        {"limits": Limits(money_per_month=10**27 + 1)},
        {"limits": Limits(tokens_per_day=10**15 + 1)},
        {"limits": Limits(requests_per_minute=10**9 + 1)},
        {"expires": 1.0},
        {"expires": 1e12},
    ],
)
def test_out_of_bounds(record: Record, wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Keys(record).create("x", **wrong)  # pyright: ignore[reportArgumentType]
    assert record.head()[0] == 0


def test_a_key_ends_when_it_says(record: Record) -> None:
    keys = Keys(record)
    _, secret = keys.create("short", expires=int(time.time()) + 2)
    assert keys.identify(secret) is not None
    until = time.monotonic() + 5
    while keys.identify(secret) is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert Keys(record).identify(secret) is None


def test_rotation(record: Record) -> None:
    keys = Keys(record)
    caller, first = keys.create("x")
    second = keys.rotate(caller.id, 60)
    assert keys.identify(first) == keys.identify(second) == caller
    assert keys.find(caller.id).old_until is not None
    third = keys.rotate(caller.id, 0)
    assert keys.identify(first) is keys.identify(second) is None
    assert keys.identify(third) == caller
    assert keys.find(caller.id).old_until is None
    assert [e.kind for e in record.entries()] == ["key.created", "key.rotated", "key.rotated"]
    for seconds in (-1, 90 * 86_400 + 1):
        with pytest.raises(RequestError):
            keys.rotate(caller.id, seconds)
    keys.revoke(caller.id)
    assert keys.identify(third) is None
    with pytest.raises(NotFoundError):
        keys.rotate(caller.id)
    with pytest.raises(NotFoundError):
        keys.find("key-none")
    assert verify(record).fault is None


def test_an_old_secret_ends_with_its_overlap(record: Record) -> None:
    keys = Keys(record)
    caller, first = keys.create("x")
    second = keys.rotate(caller.id, 1)
    assert keys.identify(first) == caller
    time.sleep(1.1)
    assert keys.identify(first) is None
    assert keys.identify(second) == caller


def test_a_known_key_is_not_looked_up_again(record: Record) -> None:
    keys = Keys(record)
    caller, secret = keys.create("x")
    assert keys.remembered(secret) is None
    assert keys.identify(secret) == caller
    seen: list[str] = []
    event.listen(record._engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    assert all(keys.identify(secret) == caller for _ in range(100))
    assert keys.remembered(secret) == caller
    assert seen == []
    assert keys.identify(secret + "x") is None
    assert keys.remembered(secret + "x") is None
    assert [statement.split()[0] for statement in seen] == ["BEGIN", "SELECT"]


def test_what_another_process_revokes_ends_within_two_seconds(
    record: Record, tmp_path: Path
) -> None:
    keys = Keys(record)
    caller, secret = keys.create("x")
    stop = threading.Event()
    last: list[float] = []

    def ask() -> None:
        while not stop.is_set():
            if keys.identify(secret) is not None:
                last[:] = [time.monotonic()]

    asking = threading.Thread(target=ask)
    asking.start()
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "record.sqlite3")]
    subprocess.run([*command, "revoke", caller.id], check=True)
    revoked = time.monotonic()
    time.sleep(2.2)
    stop.set()
    asking.join()
    assert last[0] < revoked + 2
    assert keys.identify(secret) is None


def test_what_this_process_revokes_ends_at_once(record: Record) -> None:
    keys = Keys(record)
    stop = threading.Event()
    secrets: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            for secret in secrets[-3:]:
                keys.identify(secret)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for number in range(20):
        caller, secret = keys.create(f"n{number}")
        secrets.append(secret)
        assert keys.identify(secret) == caller
        keys.revoke(caller.id)
        assert keys.identify(secret) is None
    stop.set()
    for thread in asking:
        thread.join()


def test_the_day_of_use_is_noted_once(record: Record) -> None:
    caller, secret = Keys(record).create("x")
    assert Keys(record).find(caller.id).last_used == ""
    assert Keys(record).identify(secret) is not None
    assert Keys(record).find(caller.id).last_used == datetime.now(UTC).date().isoformat()
    seen: list[str] = []
    event.listen(record._engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    assert Keys(record).identify(secret) is not None
    assert [s.split()[0] for s in seen] == ["BEGIN", "SELECT"]
    assert record.head()[0] == 1


def test_a_key_works_where_its_use_cannot_be_noted(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    caller, secret = Keys(record).create("x")

    def fail(*arguments: object) -> None:
        if str(arguments[2]).startswith("UPDATE"):
            raise OSError("disk full")

    event.listen(record._engine, "before_cursor_execute", fail)
    with caplog.at_level(logging.WARNING):
        assert Keys(record).identify(secret) == caller
    assert "last use" in caplog.text
    assert secret not in caplog.text


def test_keys_that_cannot_be_read_let_nobody_in(record: Record, tmp_path: Path) -> None:
    _, secret = Keys(record).create("x")
    with sqlite3.connect(tmp_path / "record.sqlite3") as db:
        db.execute("ALTER TABLE keys RENAME TO elsewhere")
    with pytest.raises(RecordError, match="cannot be read"):
        Keys(record).identify(secret)


def test_what_is_remembered_is_bounded(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    from daulat.record import keys as module

    monkeypatch.setattr(module, "_MOST_REMEMBERED", 3)
    keys = Keys(record)
    made = [keys.create(f"n{number}") for number in range(5)]
    for _ in range(2):
        assert [keys.identify(secret) for _, secret in made] == [caller for caller, _ in made]
    assert len(keys._known) <= 3
