"""Entries with the money that goes with them: many in one transaction, each whole or not at all.

Not here: transactions and who waits for them (`store`, `writer`), the chain's end (`appending`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from daulat.errors import DaulatError, RecordError
from daulat.record import charges, ledger, schema
from daulat.record.appending import Appender
from daulat.record.chain import Draft, Entry, holds

BATCH: Final = 256
"""The most that one transaction writes."""


@dataclass(frozen=True, slots=True)
class New:
    """An entry to be appended.

    Attributes:
        wish: what must be set aside; where a limit refuses it, the entry is not written.
        settled: attempts that are over; they are booked in any case.
        refused: is written in the entry's place where a limit refuses the wish.
        at: when it was told (`journal`); None: an entry's time is that of its transaction.
    """

    draft: Draft
    wish: charges.Wish | None = None
    settled: Sequence[charges.Outcome] = ()
    refused: Draft | None = None
    at: str | None = None

    @property
    def may_be_refused(self) -> bool:
        return self.wish is not None and charges.is_limited(self.wish.accounts)

    @property
    def releases(self) -> bool:
        """Whether it frees money or tokens that others may wait for."""
        return any(charges.is_limited(one.accounts) for one in self.settled)


def enter(appender: Appender, new: Sequence[New]) -> list[Entry | charges.Refusal]:
    """Settle, reserve, append; a refusal comes in place of its entry."""
    settled = [outcome for one in new for outcome in one.settled]
    if settled:
        ledger.settle_many(appender.connection, settled)
    wishes = [one.wish for one in new if one.wish is not None]
    answers = iter(ledger.reserve_many(appender.connection, wishes) if wishes else ())
    found: list[Entry | charges.Refusal] = []
    for one in new:
        answer = next(answers) if one.wish is not None else None
        if answer is not None and one.refused is not None:
            appender.append(one.refused)
        found.append(appender.append(one.draft, one.at) if answer is None else answer)
    return found


def refusal(found: Entry | charges.Refusal) -> charges.Refusal | None:
    """What `enter` found, for whoever does not ask for the entry."""
    return found if isinstance(found, charges.Refusal) else None


def enter_once(appender: Appender, new: New) -> charges.Refusal | None:
    """`enter` for an entry of which nobody knows whether it was written, once its writer is gone.

    It is known by its bytes: no two entries of a subject may be alike, unless they have contents. Where the
    refused one was written, the wish is judged anew, and what was settled is not settled again.
    """
    # PostgreSQL may still be at work on what a process that is gone had told it to commit.
    appender.lock()
    e = schema.entries.c
    query = select(e.data).where(e.subject == new.draft.subject)
    written = appender.connection.execute(query).scalars().all()
    if any(holds(data, new.draft) for data in written):
        return None
    refused = new.refused
    if refused is not None and any(holds(data, refused) for data in written):
        new = replace(new, refused=None)
    (found,) = enter(appender, [new])
    return refusal(found)


def failure(error: Exception) -> DaulatError:
    """Why nothing was written, for whoever waits."""
    if isinstance(error, DaulatError):
        return error
    why = schema.reason(error) if isinstance(error, SQLAlchemyError) else type(error).__name__
    wrapped = RecordError(
        f"The record cannot be written: {why}. Free disk space or check record.url."
    )
    wrapped.__cause__ = error
    return wrapped
