"""The chain's end within one write transaction: entries are linked one by one and written together.

Not here: transactions and who waits for them (`store`), what an entry is (`chain`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from daulat.record import schema
from daulat.record.chain import Draft, Entry, link, now
from daulat.record.prepared import Prepared

OPENED, CLOSED, INTERRUPTED = "exchange.opened", "exchange.closed", "exchange.interrupted"

_HEAD = Prepared(
    select(schema.head.c.seq, schema.head.c.hash)
    .where(schema.head.c.id == bindparam("one"))
    .with_for_update()
)
_MOVE = Prepared(update(schema.head).where(schema.head.c.id == bindparam("one")), ["seq", "hash"])
_ENTRIES = Prepared(insert(schema.entries), schema.entries.c.keys())
_CONTENTS = Prepared(insert(schema.contents), schema.contents.c.keys())
_OPEN = Prepared(insert(schema.open_exchanges), schema.open_exchanges.c.keys())
_CLOSE = Prepared(
    delete(schema.open_exchanges).where(schema.open_exchanges.c.subject == bindparam("the_subject"))
)

Row = dict[str, Any]


class Appender:
    """Links entries behind the last one; `flush` writes all of them, a statement a table.

    The head is locked when the first entry comes, so that several processes append one after the other.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._end: tuple[int, str] | None = None
        self._entries: list[Row] = []
        self._contents: list[Row] = []
        self._opened: dict[str, Row] = {}
        self._closed: list[Row] = []

    def lock(self) -> tuple[int, str]:
        """Where the chain ends; nobody else appends until this transaction is over."""
        if self._end is None:
            ((seq, hash),) = _HEAD.rows(self.connection, {"one": 1})
            self._end = seq, hash
        return self._end

    def append(self, new: Draft, at: str | None = None) -> Entry:
        """Put a draft at the end of the chain. `at`: its time, where that is not now."""
        seq, hash = self.lock()
        entry = link(new, seq + 1, hash, at or now())
        self._end = (entry.seq, entry.hash)
        self._entries.append(
            {
                "seq": entry.seq,
                "time": entry.time,
                "kind": entry.kind,
                "subject": entry.subject,
                "hash": entry.hash,
                "data": entry.data,
            }
        )
        for name, (salt, body) in new.contents.items():
            row = {"seq": entry.seq, "name": name, "salt": salt, "body": body}
            self._contents.append(row)
        self._note_open(entry)
        return entry

    def flush(self) -> None:
        """Write what was appended since the last time."""
        if not self._entries or self._end is None:
            return
        self._many(_ENTRIES, self._entries)
        self._many(_CONTENTS, self._contents)
        self._many(_OPEN, list(self._opened.values()))
        self._many(_CLOSE, self._closed)
        _MOVE.run(self.connection, [{"seq": self._end[0], "hash": self._end[1], "one": 1}])
        self._entries, self._contents, self._opened, self._closed = [], [], {}, []

    def _many(self, statement: Prepared, rows: list[Row]) -> None:
        if rows:
            statement.run(self.connection, rows)

    def _note_open(self, entry: Entry) -> None:
        """Keep the list of open exchanges, so that recovery need not search the whole chain."""
        if entry.kind == OPENED:
            instance = str(entry.body.get("instance", ""))
            self._opened[entry.subject] = {"subject": entry.subject, "instance": instance}
        elif entry.kind in (CLOSED, INTERRUPTED) and not self._opened.pop(entry.subject, None):
            self._closed.append({"the_subject": entry.subject})
