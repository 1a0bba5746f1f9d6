"""Appending to the record and reading it.

One thread of a process writes (`committing`). Several processes may append to one database: the transaction
takes the write lock before it looks where the chain ends. One of them is a server's own, for what its event
loop adds when that is much (`writing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from daulat.canon import canonical
from daulat.errors import NotFoundError, RecordError
from daulat.record import charges, ledger, schema
from daulat.record.appending import CLOSED, INTERRUPTED, OPENED
from daulat.record.chain import Entry, commitment, draft, parse
from daulat.record.committing import Committer
from daulat.record.entering import New, enter_once, failure, refusal
from daulat.record.journal import Journal, Left, folder_of, forget, left
from daulat.record.link import Pending
from daulat.record.telling import Waiting
from daulat.record.writing import Writing
from daulat.values.money import shown

T = TypeVar("T")
REMOVED = "contents.removed"
_LETTING_GO = 5.0
"""Seconds for a process that is gone to let go of its files."""
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Exchange:
    """Both ends of an exchange; `closed` is None while it is being answered."""

    opened: Entry
    closed: Entry | None


class Record:
    """An open record; use `Record.open`, and `close` it."""

    def __init__(self, engine: Engine, where: str | Path, *, keep: bool, keep_days: int) -> None:
        self._engine = engine
        self._where = where
        self._apart = Writing(where, self._lost)
        self._committer = Committer(engine)
        self._keep = keep
        self._keep_days = keep_days
        self._closed = False
        self._holding: Connection | None = None
        self._rewriting: set[asyncio.Future[None]] = set()

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        contents: Literal["full", "digests"] = "full",
        keep_days: int = 0,
    ) -> Record:
        """Open a database (a path: SQLite; else an SQLAlchemy URL), creating what is missing.

        Args:
            contents: whether texts are kept, or only commitments to them.
            keep_days: how long `expire` leaves contents; 0: for ever.

        Raises:
            RecordError: it cannot be opened.
        """
        if isinstance(where, Path):
            try:
                where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                where.touch(mode=0o600)
            except OSError as error:
                raise RecordError(
                    f"The record {where} cannot be written ({error.strerror}). "
                    "Free the place, or name another home with --home."
                ) from error
        record = cls(
            schema.open_database(where), where, keep=contents == "full", keep_days=keep_days
        )
        try:
            record._take_over()
        except BaseException:
            record.close()
            raise
        return record

    def close(self) -> None:
        """Write what waits here, then let go of the database; `write_here` comes before it."""
        if not self._closed:
            self._closed = True
            self._committer.close()
            self._apart.end()
            if self._holding is not None:
                self._holding.close()
            self._engine.dispose()

    # --- writing ------------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        contents: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Add an entry; it is on disk when this returns.

        Raises:
            RecordError: it could not be written.
        """
        new = draft(kind, subject, body, contents or {}, keep=self._keep)
        entry = self._committer.enter(New(new)).result()
        assert isinstance(entry, Entry)  # noqa: S101 - nothing was wished for
        return entry

    def add(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        contents: Mapping[str, Any] | None = None,
        *,
        wish: charges.Wish | None = None,
        settled: Sequence[charges.Outcome] = (),
        refused: Mapping[str, Any] | None = None,
        ahead: bool = False,
    ) -> Waiting:
        """`append` for the event loop, with the money that goes with the entry: all of it or nothing.

        It is under way when this returns: who is cancelled while waiting shields the future if it is to be
        written in any case. Where much is added, a process of its own writes it.

        Args:
            wish: what must be set aside; where a limit refuses it, the entry is not written and the refusal
                comes back, but what is settled is.
            settled: attempts that are over.
            refused: the body of the entry that is written in its place where a limit refuses the wish, so
                that what is settled is in the chain, too.
            ahead: its future may be done when the entry is on disk but not yet in the database, for some
                hundredths of a second, if no limit can refuse it: nobody looks there for it at once.

        Raises:
            RecordError: by the future; it could not be written.
        """
        try:
            new = New(
                draft(kind, subject, body, contents or {}, keep=self._keep),
                wish,
                settled,
                None if refused is None else draft(kind, subject, refused, {}, keep=self._keep),
            )
            posted = None if self._committer.is_behind else self._apart.post(new, ahead=ahead)
            if posted is None:
                future = self._committer.enter(new)
                posted = asyncio.ensure_future(_told(asyncio.wrap_future(future)))
            return posted
        except Exception as error:
            failed: Waiting = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _lost(self, entries: Sequence[Pending], journal: Journal | None) -> None:
        """Of entries whose writer is gone: see that they are written, and tell who waits."""
        if journal is not None:
            told = [new for new in (one.told for one in entries) if new is not None]
            self._committer.catch_up(told, journal)
        for one in entries:
            if one.told is None:
                self._once_more(one.new, one.future)

    def _once_more(self, new: New, waiting: Waiting) -> None:
        async def again() -> None:
            def enter(connection: Connection) -> charges.Refusal | None:
                return enter_once(self._committer.appender(connection), new)

            try:
                found = await asyncio.wrap_future(self._committer.run(enter))
            except Exception as error:
                if not waiting.done():
                    waiting.set_exception(error)
            else:
                if not waiting.done():
                    waiting.set_result(found)

        self._rewriting.add(task := asyncio.ensure_future(again()))
        task.add_done_callback(self._rewriting.discard)

    async def write_here(self) -> None:
        """See that another process has written all that it was given, and that it ends."""
        await self._apart.close()
        await asyncio.gather(*self._rewriting)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a write transaction of its own or together with what else waits.

        Raises:
            RecordError: the database refused.
            DaulatError: whatever `work` raised; then nothing of it was written.
        """
        return self._committer.run(work).result()

    def append_within(
        self, connection: Connection, kind: str, subject: str, body: Mapping[str, Any]
    ) -> Entry:
        """Add an entry without contents inside a transaction of `transact`."""
        return self._committer.appender(connection).append(
            draft(kind, subject, body, {}, keep=True)
        )

    def close_open(
        self, subject: str, body: Mapping[str, Any], settled: Sequence[charges.Outcome]
    ) -> bool:
        """Close an exchange that is open, with its money; whether it was.

        Raises:
            RecordError: it could not be written, or is told and not in the database yet.
        """
        o, e = schema.open_exchanges.c, schema.entries.c

        def work(connection: Connection) -> bool:
            if connection.execute(select(o.subject).where(o.subject == subject)).first() is None:
                if connection.execute(select(e.seq).where(e.subject == subject)).first() is None:
                    raise RecordError(f"The record does not have {subject} yet.")
                return False
            ledger.settle_many(connection, settled)
            self.append_within(connection, CLOSED, subject, body)
            return True

        return self.transact(work)

    def hold(self, instance: str) -> None:
        """Tell others on this database that a process is at work, for as long as this is open.

        On PostgreSQL, by an advisory lock of a connection of its own, which ends with the process; beside
        SQLite, by the name of what it tells ahead of the database.

        Raises:
            RecordError: the database refused.
        """
        self._apart.owner = instance
        if self._engine.dialect.name != "postgresql":
            return
        try:
            self._holding = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._holding.execute(select(func.pg_advisory_lock(_number(instance))))
        except SQLAlchemyError as error:
            raise failure(error) from error

    def recover(self, is_alive: Callable[[str], bool]) -> int:
        """Close the exchanges that a process which is gone had left open; how many there were.

        Args:
            is_alive: whether a process of this machine is at work; of another's, `hold` tells.
        """
        until = time.monotonic() + _LETTING_GO
        count, waits = self._recovered(is_alive)
        while waits and time.monotonic() < until:
            time.sleep(_PAUSE)
            more, waits = self._recovered(is_alive)
            count += more
        return count

    def _recovered(self, is_alive: Callable[[str], bool]) -> tuple[int, bool]:
        """How many were closed, and whether somebody who is gone has still to let go of his journal."""

        def is_gone(connection: Connection, name: str) -> bool:
            return not is_alive(name) and not _is_held(connection, name)

        with contextlib.ExitStack() as stack:
            taken: list[Left] = []

            def work(connection: Connection) -> tuple[int, bool]:
                # Whatever a process that is gone had told the database to commit is seen behind the lock.
                self._committer.appender(connection).lock()
                o = schema.open_exchanges
                before = set(connection.execute(select(o.c.instance).distinct()).scalars())
                gone = {name for name in before if is_gone(connection, name)}
                # Behind that: who is gone tells no more.
                taken[:], holders = self._entered(connection, stack)
                rows = connection.execute(select(o)).all()
                late = {row.instance for row in rows} - before
                gone |= {name for name in late if is_gone(connection, name)}
                letting_go = {name for name in gone if any(h.startswith(name) for h in holders)}
                lost = [row.subject for row in rows if row.instance in gone - letting_go]
                for subject in lost:
                    body = _booked(ledger.abandon(connection, subject))
                    self.append_within(connection, INTERRUPTED, subject, body)
                return len(lost), bool(letting_go)

            found = self.transact(work)
            for one in taken:
                one.remove()
        return found

    def _take_over(self) -> None:
        """Enter what processes that are gone have told and did not live to write."""
        if not isinstance(self._where, Path) or not folder_of(self._where).exists():
            return
        with contextlib.ExitStack() as stack:
            taken, _ = self.transact(lambda connection: self._entered(connection, stack))
            for one in taken:
                one.remove()

    def _entered(
        self, connection: Connection, stack: contextlib.ExitStack
    ) -> tuple[list[Left], list[str]]:
        """Enter what is left of processes that are gone; it is nobody else's until the stack is closed.

        The transaction comes before the files' locks, so that no two processes wait for each other. See
        `journal.left` for what comes back.
        """
        stack.close()  # this may be the second try
        if not isinstance(self._where, Path):
            return [], []
        found, holders = stack.enter_context(left(self._where))
        appender = self._committer.appender(connection)
        for new in (new for one in found for new in one.entries):
            enter_once(appender, new)
        appender.flush()
        return found, holders

    def expire(self, now: datetime | None = None) -> int:
        """Remove the contents whose time is over; how many entries had some."""
        if not self._keep_days:
            return 0
        limit = (now or datetime.now(UTC)) - timedelta(days=self._keep_days)
        before = limit.isoformat(timespec="microseconds").replace("+00:00", "Z")

        def work(connection: Connection) -> int:
            c, e = schema.contents.c, schema.entries.c
            old = select(c.seq).where(c.seq == e.seq, e.time < before).distinct()
            seqs = connection.execute(old).scalars().all()
            if seqs:
                self._remove(connection, seqs, "record", "the time to keep them is over")
            return len(seqs)

        return self._swept(work)

    def redact(self, exchange_id: str, reason: str) -> Entry:
        """Remove the contents of one exchange now; that it was done, and why, stays.

        Raises:
            NotFoundError: no such exchange, or its contents are gone already.
            RecordError: a server that hangs has told of it and has not written that yet.
        """
        if isinstance(self._where, Path):
            forget(self._where, exchange_id)

        def work(connection: Connection) -> Entry:
            e, c = schema.entries.c, schema.contents.c
            found = select(c.seq).where(c.seq == e.seq, e.subject == exchange_id).distinct()
            seqs = connection.execute(found).scalars().all()
            if not seqs:
                raise NotFoundError(
                    f"The record has no contents of {exchange_id[:64]}. "
                    "`daulat record show` lists the exchanges."
                )
            return self._remove(connection, seqs, exchange_id, reason[:1000])

        return self._swept(work)

    def _remove(self, connection: Connection, seqs: Any, subject: str, reason: str) -> Entry:
        for start in range(0, len(seqs), 500):
            part = list(seqs[start : start + 500])
            connection.execute(delete(schema.contents).where(schema.contents.c.seq.in_(part)))
        body = {"entries": _ranges(sorted(seqs)), "reason": reason}
        return self.append_within(connection, REMOVED, subject, body)

    def _swept(self, work: Callable[[Connection], T]) -> T:
        """`transact`, then empty SQLite's log, in which removed contents would linger."""
        result = self.transact(work)
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None  # noqa: S101 - connected two lines above
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return result

    # --- reading ------------------------------------------------------------------------------------

    def head(self) -> tuple[int, str]:
        """Number and hash of the last entry."""
        with self.reading() as connection:
            row = connection.execute(select(schema.head.c.seq, schema.head.c.hash)).one()
        return row.seq, row.hash

    def entries(
        self,
        *,
        subject: str | None = None,
        kind: str | None = None,
        after: int = 0,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        """Entries in the order of the chain, or the newest first."""
        e = schema.entries.c
        query = select(e.hash, e.data).where(e.seq > after)
        if subject is not None:
            query = query.where(e.subject == subject)
        if kind is not None:
            query = query.where(e.kind == kind)
        query = query.order_by(e.seq.desc() if newest_first else e.seq).limit(limit)
        with self.reading() as connection:
            for row in connection.execute(query.execution_options(yield_per=200)):
                yield parse(row.data, row.hash)

    def exchange(self, exchange_id: str) -> Exchange | None:
        """An exchange's entries."""
        found = {entry.kind: entry for entry in self.entries(subject=exchange_id)}
        opened = found.get(OPENED)
        return Exchange(opened, found.get(CLOSED) or found.get(INTERRUPTED)) if opened else None

    def contents(self, entry: Entry) -> dict[str, Any]:
        """Name to contents; None for those that were not kept or have been removed."""
        c = schema.contents.c
        with self.reading() as connection:
            rows = connection.execute(select(c.name, c.body).where(c.seq == entry.seq)).all()
        kept = {row.name: json.loads(row.body) for row in rows if row.body is not None}
        return {name: kept.get(name) for name in entry.commitments}

    def prove(self, entry: Entry, name: str, value: Any) -> bool:
        """Whether `value` is what the entry was committed to, also where only digests are kept."""
        c = schema.contents.c
        query = select(c.salt).where(c.seq == entry.seq, c.name == name)
        with self.reading() as connection:
            salt = connection.execute(query).scalar()
        if salt is None or name not in entry.commitments:
            return False
        return commitment(salt, canonical(value)) == entry.commitments[name][0]

    @contextlib.contextmanager
    def reading(self) -> Generator[Connection]:
        """A read transaction: one moment of the record.

        Raises:
            RecordError: the database refused.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RecordError(f"The record cannot be read: {schema.reason(error)}.") from error


async def _told(writing: asyncio.Future[Entry | charges.Refusal]) -> charges.Refusal | None:
    return refusal(await writing)


def _is_held(connection: Connection, instance: str) -> bool:
    """Whether a process holds PostgreSQL's lock of that name (`Record.hold`)."""
    if connection.dialect.name != "postgresql":
        return False
    taken = select(func.pg_try_advisory_xact_lock(_number(instance)))
    return not connection.execute(taken).scalar()


def _number(instance: str) -> int:
    """The 64 bits by which PostgreSQL knows a process's lock."""
    digest = hashlib.sha256(instance.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _booked(lost: Sequence[charges.Reservation]) -> dict[str, Any]:
    """What was set aside for attempts whose outcome nobody will know, and so was booked in full."""
    if not lost:
        return {}
    booked = [
        {
            "attempt": one.attempt,
            "endpoint": one.claim.endpoint,
            "model": one.claim.model,
            "most": shown(one.claim.money),
            "tokens": one.claim.tokens,
        }
        for one in lost
    ]
    return {"booked": booked}


def _ranges(seqs: list[int]) -> list[list[int]]:
    """[1, 2, 3, 7] as [[1, 3], [7, 7]]."""
    ranges: list[list[int]] = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ranges
