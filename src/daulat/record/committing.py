"""The thread that writes: what waits for it goes into one transaction.

So many exchanges share one flush to disk; each of them is told only after that flush. What was told before
and did not reach the database goes first, or nothing does.

Not here: what is written (`store`), what goes into an entry's transaction with it (`entering`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine

from daulat.errors import RecordError
from daulat.record import charges
from daulat.record.appending import Appender
from daulat.record.chain import Entry
from daulat.record.entering import BATCH, New, enter, enter_once, failure
from daulat.record.journal import Journal

_BEHIND: Final = 5.0
"""Seconds until what was told and could not be written is tried again."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """Something to be done in a write transaction, alone or together with others."""

    work: Callable[[Connection], T]
    future: Future[T]


@dataclass(frozen=True)
class Entering:
    """An entry to be appended, with others in a few statements."""

    new: New
    future: Future[Entry | charges.Refusal]


Task = Job[Any] | Entering


@dataclass(frozen=True, slots=True, eq=False)
class _Behind:
    """Entries that were told and that the database may lack, and where they are meanwhile."""

    entries: Sequence[New]
    journal: Journal


class Committer:
    """Write transactions, one after the other, on a thread of their own; `close` it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(writing=True)
        self._queue: queue.Queue[Task | None] = queue.Queue()
        self._behind: list[_Behind] = []
        self._closed = False
        self._appender: Appender | None = None
        self._thread = threading.Thread(target=self._write, name="record", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Whether something that was told is not in the database yet."""
        return bool(self._behind)

    def enter(self, new: New) -> Future[Entry | charges.Refusal]:
        """See `entering.enter`.

        Raises:
            RecordError: it is closed; by the future: nothing was written.
        """
        return self._submit(Entering(new, Future()))

    def run(self, work: Callable[[Connection], T]) -> Future[T]:
        """Do some work in a transaction of its own or together with others.

        Raises:
            RecordError: it is closed; by the future: nothing was written.
        """
        return self._submit(Job(work, Future[T]()))

    def catch_up(self, told: Sequence[New], journal: Journal) -> None:
        """Write what was told before all else, as soon as that can be done; then the journal is removed."""
        if self._closed:
            journal.leave()
        else:
            self._behind.append(_Behind(told, journal))
            self._queue.put(Job(lambda _: None, Future()))

    def appender(self, connection: Connection) -> Appender:
        """That of the transaction in which some work is being done."""
        assert self._appender is not None  # noqa: S101 - work runs inside `_commit`
        assert self._appender.connection is connection  # noqa: S101 - of this very transaction
        return self._appender

    def close(self) -> None:
        """Write what waits; what was told and cannot be written stays in its journal."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        for one in self._behind:
            log.error("what was told is not in the database: the next start sees to it")
            one.journal.leave()

    def _submit(self, task: Any) -> Future[Any]:
        if self._closed:
            raise RecordError("The record is closed; the server is shutting down.")
        self._queue.put(task)
        return task.future

    def _write(self) -> None:
        open_ = True
        while open_:
            jobs: list[Task] = []
            with contextlib.suppress(queue.Empty):
                job = self._queue.get(timeout=_BEHIND if self._behind else None)
                while job is not None and len(jobs) < BATCH - 1 and not self._queue.empty():
                    jobs.append(job)
                    job = self._queue.get()
                if job is None:
                    open_ = False
                else:
                    jobs.append(job)
            # Who has been cancelled before its turn wrote nothing; from here on nobody can be.
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if jobs or self._behind:
                self._commit(jobs)

    def _commit(self, jobs: list[Task]) -> None:
        """All in one transaction; if that fails, each in its own, so that one cannot harm another.

        What was told comes first, or nothing does.
        """
        behind = list(self._behind)
        try:
            with self._engine.begin() as connection:
                self._appender = appender = Appender(connection)
                for new in (new for one in behind for new in one.entries):
                    enter_once(appender, new)
                appender.flush()
                results = [
                    result
                    for together in _together(jobs)
                    for result in self._done(together, appender)
                ]
        except Exception as error:
            if behind and not jobs:
                log.error("what was told cannot be written yet", extra={"why": str(failure(error))})
            if len(jobs) == 1:
                jobs[0].future.set_exception(failure(error))
            for job in jobs if len(jobs) > 1 else ():
                self._commit([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
        for one in behind:
            self._behind.remove(one)
            one.journal.remove()

    def _done(self, together: list[Task], appender: Appender) -> list[Any]:
        """Entries in a few statements for all of them; other work by itself, for it may read entries."""
        if isinstance(together[0], Job):
            results = [together[0].work(appender.connection)]
        else:
            results = enter(appender, [e.new for e in together if isinstance(e, Entering)])
        appender.flush()
        return results


def _together(jobs: list[Task]) -> Iterator[list[Task]]:
    """The jobs in order, entries that follow each other in one list."""
    for entries, group in itertools.groupby(jobs, key=lambda job: isinstance(job, Entering)):
        found = list(group)
        if entries:
            yield found
        else:
            yield from ([job] for job in found)
