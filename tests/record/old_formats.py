"""Records as earlier versions wrote them: their tables, statement by statement, and some entries."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import Connection, text

from daulat.record.chain import Draft, draft, link, now

SECRET = "daulat-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

# As version 0.1.0 made them, in SQLite; in PostgreSQL BLOB is BYTEA.
FORMAT_1 = (
    """CREATE TABLE entries (
        seq INTEGER NOT NULL, time VARCHAR(27) NOT NULL, kind VARCHAR(64) NOT NULL,
        subject VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (seq))""",
    "CREATE INDEX entries_by_subject ON entries (subject)",
    "CREATE INDEX entries_by_kind ON entries (kind, seq)",
    """CREATE TABLE head (
        id INTEGER NOT NULL, seq INTEGER NOT NULL, hash VARCHAR(64) NOT NULL,
        version INTEGER NOT NULL, PRIMARY KEY (id))""",
    """CREATE TABLE open_exchanges (
        subject VARCHAR(64) NOT NULL, instance VARCHAR(64) NOT NULL, PRIMARY KEY (subject))""",
    """CREATE TABLE keys (
        id VARCHAR(64) NOT NULL, name VARCHAR(256) NOT NULL, hash VARCHAR(64) NOT NULL,
        models VARCHAR NOT NULL, created VARCHAR(27) NOT NULL, revoked VARCHAR(27),
        PRIMARY KEY (id), UNIQUE (hash))""",
    """CREATE TABLE contents (
        seq INTEGER NOT NULL, name VARCHAR(64) NOT NULL, salt BLOB NOT NULL, body BLOB,
        PRIMARY KEY (seq, name), FOREIGN KEY(seq) REFERENCES entries (seq))""",
)


def format_1(connection: Connection, exchanges: int = 3) -> str:
    """A record of format 1 with a key of SECRET, one that was revoked, and exchanges; its head."""
    bytes_ = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    for statement in FORMAT_1:
        connection.execute(text(statement.replace("BLOB", bytes_)))
    drafts = [
        draft("key.created", f"key-{n}", {"name": n, "models": []}, {}, keep=True) for n in "ab"
    ]
    drafts.append(draft("key.revoked", "key-b", {}, {}, keep=True))
    for number in range(exchanges):
        body = {"instance": "instance-0000000000000000"}
        asked = {"request": {"messages": [f"question {number} é🎉"]}}
        drafts.append(draft("exchange.opened", f"rec-{number}", body, asked, keep=True))
        said = {"answer": f"answer {number}"}
        drafts.append(draft("exchange.closed", f"rec-{number}", {"status": "ok"}, said, keep=True))
    head = _entries(connection, drafts)
    for name, revoked in (("a", None), ("b", "2026-01-02T00:00:00.000000Z")):
        row = {
            "id": f"key-{name}",
            "name": name,
            "hash": hashlib.sha256((SECRET if name == "a" else "b").encode()).hexdigest(),
            "models": json.dumps(["m"]),
            "created": "2026-01-01T00:00:00.000000Z",
            "revoked": revoked,
        }
        statement = "INSERT INTO keys VALUES (:id, :name, :hash, :models, :created, :revoked)"
        connection.execute(text(statement), row)
    return head


def _entries(connection: Connection, drafts: list[Draft]) -> str:
    hash = "0" * 64
    for seq, new in enumerate(drafts, 1):
        entry = link(new, seq, hash, now())
        hash = entry.hash
        row = (entry.seq, entry.time, entry.kind, entry.subject, entry.hash, entry.data)
        names = ("seq", "time", "kind", "subject", "hash", "data")
        statement = "INSERT INTO entries VALUES (:seq, :time, :kind, :subject, :hash, :data)"
        connection.execute(text(statement), dict(zip(names, row, strict=True)))
        for name, (salt, body) in new.contents.items():
            kept = {"seq": seq, "name": name, "salt": salt, "body": body}
            connection.execute(
                text("INSERT INTO contents VALUES (:seq, :name, :salt, :body)"), kept
            )
    end = {"seq": len(drafts), "hash": hash}
    connection.execute(text("INSERT INTO head VALUES (1, :seq, :hash, 1)"), end)
    return f"{len(drafts)}:{hash}"
