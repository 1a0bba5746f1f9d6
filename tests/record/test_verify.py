"""Whatever is done to the record behind its back is found, and named."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daulat.canon import canonical
from daulat.record import Record, export, verify, verify_export

Tamper = Callable[[sqlite3.Connection], object]


def fill(path: Path, **options) -> list[str]:
    """Six exchanges' ends and a key's entry; the subjects."""
    record = Record.open(path, **options)
    for i in range(3):
        body = {"instance": "gone", "number": i}
        record.append("exchange.opened", f"rec-{i}", body, {"request": f"secret question {i}"})
        record.append("exchange.closed", f"rec-{i}", {"status": "ok"}, {"answer": f"answer {i}"})
    record.close()
    return [f"rec-{i}" for i in range(3)]


def fault(path: Path, head: str | None = None) -> tuple[int, str] | None:
    record = Record.open(path)
    verdict = verify(record, head=head)
    record.close()
    return None if verdict.fault is None else (verdict.fault.seq, verdict.fault.what)


def forged(seq: int, previous: str) -> tuple[bytes, str]:
    data = canonical(
        {
            "seq": seq,
            "time": "2026-01-01T00:00:00.000000Z",
            "kind": "exchange.closed",
            "subject": "rec-9",
            "previous": previous,
            "body": {},
            "contents": {},
        }
    )
    return data, hashlib.sha256(data).hexdigest()


def change_body(db: sqlite3.Connection, rehash: bool) -> None:
    data = db.execute("SELECT data FROM entries WHERE seq = 3").fetchone()[0]
    data = data.replace(b'"number":1', b'"number":7')
    db.execute("UPDATE entries SET data = ? WHERE seq = 3", (data,))
    if rehash:
        new = hashlib.sha256(data).hexdigest()
        db.execute("UPDATE entries SET hash = ? WHERE seq = 3", (new,))


def delete_and_renumber(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM contents WHERE seq = 3")
    db.execute("DELETE FROM entries WHERE seq = 3")
    for seq in range(4, 7):
        db.execute("UPDATE contents SET seq = ? WHERE seq = ?", (seq - 1, seq))
        db.execute("UPDATE entries SET seq = ? WHERE seq = ?", (seq - 1, seq))
    db.execute("UPDATE head SET seq = 5")


def insert_forged(db: sqlite3.Connection) -> None:
    for seq in range(6, 2, -1):
        db.execute("UPDATE entries SET seq = ? WHERE seq = ?", (seq + 1, seq))
        db.execute("UPDATE contents SET seq = ? WHERE seq = ?", (seq + 1, seq))
    previous = db.execute("SELECT hash FROM entries WHERE seq = 2").fetchone()[0]
    data, new = forged(3, previous)
    row = (3, "2026-01-01T00:00:00.000000Z", "exchange.closed", "rec-9", new, data)
    db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
    db.execute("UPDATE head SET seq = 7")


def swap(db: sqlite3.Connection) -> None:
    for before, after in ((3, 99), (4, 3), (99, 4)):
        db.execute("UPDATE entries SET seq = ? WHERE seq = ?", (after, before))
        db.execute("UPDATE contents SET seq = ? WHERE seq = ?", (after, before))


def cut_tail(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM contents WHERE seq = 6")
    db.execute("DELETE FROM entries WHERE seq = 6")


CASES: dict[str, tuple[Tamper, tuple[int, str]]] = {
    "body changed": (lambda db: change_body(db, rehash=False), (3, "changed")),
    "body changed and hashed anew": (lambda db: change_body(db, rehash=True), (3, "changed")),
    "column changed": (
        lambda db: db.execute("UPDATE entries SET kind = 'x' WHERE seq = 2"),
        (2, "changed"),
    ),
    "contents changed": (
        lambda db: db.execute("UPDATE contents SET body = '\"no\"' WHERE seq = 4"),
        (4, "contents changed"),
    ),
    "contents gone": (
        lambda db: db.execute("DELETE FROM contents WHERE seq = 4"),
        (4, "contents missing"),
    ),
    "first removed": (
        lambda db: db.executescript(
            "DELETE FROM contents WHERE seq=1; DELETE FROM entries WHERE seq=1"
        ),
        (1, "removed"),
    ),
    "one removed": (
        lambda db: db.executescript(
            "DELETE FROM contents WHERE seq=3; DELETE FROM entries WHERE seq=3"
        ),
        (3, "removed"),
    ),
    "removed and renumbered": (delete_and_renumber, (3, "removed")),
    "inserted": (insert_forged, (3, "inserted")),
    "swapped": (swap, (3, "reordered")),
    "tail cut": (cut_tail, (6, "removed")),
    "head edited": (lambda db: db.execute("UPDATE head SET hash = 'x'"), (6, "changed")),
    "bytes that are no entry": (
        lambda db: db.execute(
            "UPDATE entries SET data = '{}', hash = ? WHERE seq = 2",
            (hashlib.sha256(b"{}").hexdigest(),),
        ),
        (2, "changed"),
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_tampering_is_found_and_named(case: str, tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    fill(path)
    assert fault(path) is None
    tamper, expected = CASES[case]
    with sqlite3.connect(path) as db:
        tamper(db)
    assert fault(path) == expected


def test_a_tail_cut_with_its_head_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    fill(path)
    record = Record.open(path)
    head = "{}:{}".format(*record.head())
    record.close()
    assert fault(path, head) is None
    with sqlite3.connect(path) as db:
        cut_tail(db)
        new = db.execute("SELECT hash FROM entries WHERE seq = 5").fetchone()[0]
        db.execute("UPDATE head SET seq = 5, hash = ?", (new,))
    assert fault(path) is None
    assert fault(path, head) == (6, "removed")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seq=st.integers(1, 6),
    where=st.sampled_from(["entries.data", "entries.hash", "contents.body"]),
    place=st.integers(0, 10_000),
    flip=st.integers(1, 255),
)
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, seq: int, where: str, place: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "record.sqlite3"
    fill(path)
    table, column = where.split(".")
    with sqlite3.connect(path) as db:
        old = db.execute(f"SELECT {column} FROM {table} WHERE seq = ?", (seq,)).fetchone()[0]
        data = bytearray(old.encode() if isinstance(old, str) else old)
        data[place % len(data)] ^= flip
        new = data.decode("latin-1") if isinstance(old, str) else bytes(data)
        db.execute(f"UPDATE {table} SET {column} = ? WHERE seq = ?", (new, seq))
    found = fault(path)
    assert found is not None
    assert found[0] in (seq, seq + 1)


def _bytes_on_disk(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in path.parent.glob(path.name + "*"))


@pytest.mark.parametrize("way", ["redact", "expire"])
def test_removed_contents_are_gone_and_the_chain_verifies(way: str, tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    fill(path)
    assert b"secret question 1" in _bytes_on_disk(path)
    record = Record.open(path, keep_days=30)
    if way == "redact":
        record.redact("rec-1", "the customer asked for it")
    else:
        assert record.expire(datetime.now(UTC) + timedelta(days=29)) == 0
        assert record.expire(datetime.now(UTC) + timedelta(days=31)) == 6
    exchange = record.exchange("rec-1")
    assert exchange is not None
    assert record.contents(exchange.opened) == {"request": None}
    assert verify(record).fault is None
    record.close()
    assert b"secret question 1" not in _bytes_on_disk(path)


def test_digests_prove_a_text_and_do_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    fill(path, contents="digests")
    assert b"secret question" not in _bytes_on_disk(path)
    record = Record.open(path)
    exchange = record.exchange("rec-2")
    assert exchange is not None
    assert record.prove(exchange.opened, "request", "secret question 2")
    assert not record.prove(exchange.opened, "request", "secret question 3")
    assert verify(record).fault is None
    record.close()


def test_an_export_verifies_alone_and_shows_tampering(tmp_path: Path) -> None:
    path, file = tmp_path / "record.sqlite3", tmp_path / "export.jsonl"
    fill(path)
    record = Record.open(path)
    record.redact("rec-0", "test")
    out = io.BytesIO()
    assert export(record, out) == 7
    record.close()
    file.write_bytes(out.getvalue())
    assert verify_export(file).fault is None
    lines = out.getvalue().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3] + lines[4:]))
    found = verify_export(file).fault
    assert found is not None
    assert (found.seq, found.what) == (4, "removed")
    line = json.loads(lines[2])
    line["entry"]["body"]["number"] = 9
    file.write_bytes(b"".join([*lines[:2], json.dumps(line).encode() + b"\n", *lines[3:]]))
    found = verify_export(file).fault
    assert found is not None
    assert (found.seq, found.what) == (3, "changed")
