"""One record's database copied into another, from SQLite to PostgreSQL or back, and proven.

Entries go over in batches, each with the head it ends at, so that what has arrived is a sound chain at
every moment: a copy that was broken off goes on where it ended, and one that is whole takes what has come
since. Keys, balances, reservations and statistics go over last, in one transaction. Until then the target
is marked and no server opens it.

The source is only read, in one transaction: the copy is of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from daulat.errors import RecordError
from daulat.record import migrations, schema
from daulat.record.store import Record
from daulat.record.verify import FaultFound, Walk, stored_links

Progress = Callable[[int, int], None]

BATCH: Final = 100
STATE: Final = tuple(
    table
    for table in schema.metadata.sorted_tables
    if table not in (schema.entries, schema.contents, schema.head)
)
"""What is not the chain: it changes in place, so it is copied as a whole."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Attributes:
    entries: how many the target has now, `new` of which came this time.
    head: `seq:hash` of both.
    behind: entries that came into the source while it was copied.
    """

    entries: int
    new: int
    head: str
    behind: int


def migrate(source: str | Path, target: str | Path, progress: Progress | None = None) -> Copied:
    """Copy a record into an empty database, or bring an earlier copy up to date.

    Args:
        source, target: a path for SQLite, else an SQLAlchemy URL.
        progress: told (entries copied, entries in all) now and then.

    Raises:
        RecordError: the target has other content, either cannot be used, or the copy is not sound.
    """
    Record.open(source).close()  # which enters what a process that is gone had told
    ours = schema.connect(source)
    theirs: Engine | None = None
    try:
        theirs = schema.connect(target)
        if _same(ours, theirs):
            raise RecordError("That is the record itself: name another database.")
        return _migrate(ours, theirs, progress)
    except SQLAlchemyError as error:
        raise RecordError(
            f"The record was not copied to its end: {schema.reason(error)}. Put that right and run "
            "the command again: it goes on where it ended."
        ) from error
    finally:
        ours.dispose()
        if theirs is not None:
            theirs.dispose()


def _migrate(ours: Engine, theirs: Engine, progress: Progress | None) -> Copied:
    writing = theirs.execution_options(writing=True)
    snapshot = ours if ours.dialect.name == "sqlite" else _repeatable(ours)
    with snapshot.begin() as reading:
        end = _head(reading)
        with writing.begin() as connection:
            start = _begin(connection, reading)
        for done in _entries(reading, writing, start):
            if progress is not None:
                progress(done, end[0])
        with writing.begin() as connection:
            _prove(connection, end)
            _state(reading, connection)
            _lock(connection, end)
            connection.execute(update(schema.head).values(version=schema.VERSION))
    with ours.begin() as connection:
        behind = _head(connection)[0] - end[0]
    return Copied(end[0], end[0] - start[0], f"{end[0]}:{end[1]}", behind)


def _begin(connection: Connection, reading: Connection) -> tuple[int, str]:
    """Make the target ready and mark it; where it ends.

    Raises:
        RecordError: it has something else.
    """
    found = migrations.version(connection)
    if found is None:
        schema.metadata.create_all(connection)
        row = {"id": 1, "seq": 0, "hash": schema.EMPTY_HASH, "version": schema.INCOMPLETE}
        connection.execute(insert(schema.head).values(row))
        return 0, schema.EMPTY_HASH
    if found not in (schema.VERSION, schema.INCOMPLETE):
        raise RecordError(
            f"The target has a record of format {found}. Name a database without a record."
        )
    start = _head(connection, lock=True)
    if not _is_part(reading, start) or (start[0] == 0 and _has_state(connection)):
        raise RecordError(
            "The target has a record that is no copy of this one. Name an empty database."
        )
    connection.execute(update(schema.head).values(version=schema.INCOMPLETE))
    return start


def _is_part(reading: Connection, start: tuple[int, str]) -> bool:
    """Whether a chain that ends so is the beginning of ours."""
    if start[0] == 0:
        return start[1] == schema.EMPTY_HASH
    e = schema.entries.c
    return reading.execute(select(e.hash).where(e.seq == start[0])).scalar() == start[1]


def _has_state(connection: Connection) -> bool:
    counted = (connection.execute(select(func.count()).select_from(t)).scalar() for t in STATE)
    return any(counted)


def _entries(reading: Connection, writing: Engine, start: tuple[int, str]) -> Iterator[int]:
    """Copy what comes after `start`; yields how far it is."""
    e, c = schema.entries.c, schema.contents.c
    while True:
        query = select(schema.entries).where(e.seq > start[0]).order_by(e.seq).limit(BATCH)
        entries = _rows(reading, query)
        if not entries:
            return
        first, last = entries[0]["seq"], entries[-1]["seq"]
        contents = _rows(reading, select(schema.contents).where(c.seq.between(first, last)))
        with writing.begin() as connection:
            _lock(connection, start)
            connection.execute(insert(schema.entries), entries)
            if contents:
                connection.execute(insert(schema.contents), contents)
            start = (last, entries[-1]["hash"])
            connection.execute(update(schema.head).values(seq=start[0], hash=start[1]))
        yield last


def _state(reading: Connection, connection: Connection) -> None:
    """Put the source's keys, balances and all else in the place of the target's."""
    for table in STATE:
        connection.execute(delete(table))
        result = reading.execute(select(table).execution_options(yield_per=1000)).mappings()
        for part in result.partitions():
            connection.execute(insert(table), [dict(row) for row in part])
        ours, theirs = (_sorted(one, table) for one in (reading, connection))
        if any(mine != other for mine, other in zip(ours, theirs, strict=True)):
            raise RecordError(f"The copy of {table.name} is not like the source; nothing is lost.")


def _sorted(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """All rows, by their keys, in an order that does not depend on a database's language."""
    keys = [column.name for column in table.primary_key.columns]
    rows = connection.execute(select(table)).mappings().all()
    ordered = sorted(rows, key=lambda row: [row[name] for name in keys])
    return (tuple(row[c.name] for c in table.columns) for row in ordered)


def _prove(connection: Connection, end: tuple[int, str]) -> None:
    """Walk the copy, link by link, to the source's head.

    Raises:
        RecordError: it is not sound.
    """
    walk = Walk(None)
    try:
        for link in stored_links(connection):
            walk.step(link)
        walk.end(*end)
    except FaultFound as found:
        raise RecordError(
            f"Entry {found.fault.seq} of the copy is not sound ({found.fault.message}). If "
            "`daulat record verify` finds the same in the source, it was so before."
        ) from found


def _lock(connection: Connection, expected: tuple[int, str]) -> None:
    """Nobody else may write the target meanwhile.

    Raises:
        RecordError: somebody did.
    """
    if _head(connection, lock=True) != expected:
        raise RecordError("Somebody else is writing the target. Stop that, and use an empty one.")


def _head(connection: Connection, *, lock: bool = False) -> tuple[int, str]:
    query = select(schema.head.c.seq, schema.head.c.hash).where(schema.head.c.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).one()
    return row.seq, row.hash


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _repeatable(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _same(one: Engine, other: Engine) -> bool:
    if one.dialect.name != other.dialect.name:
        return False
    if one.dialect.name != "sqlite":
        return one.url == other.url
    return Path(one.url.database or "").resolve() == Path(other.url.database or "").resolve()
