"""One exchange's money: what its attempts may cost is reserved, what they did cost is settled, each once.

Both happen in the transactions that write the exchange's entries, so that money and record agree whatever
stops the process. Not here: limits and sums (`record.ledger`), prices (`values.money`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daulat.errors import RecordError
from daulat.flow.attempt import Outcome
from daulat.flow.metering import NOTHING, Bound
from daulat.record import Record, charges
from daulat.record.transcript import RESTING, attempted
from daulat.values.answer import Usage
from daulat.values.money import MOST
from daulat.values.plan import Step

ATTEMPTED, CLOSED = "exchange.attempted", "exchange.closed"
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
"""Seconds until a record that could not be written is tried again."""
_LATE: set[asyncio.Future[None]] = set()
"""Tasks that nobody awaits: the event loop alone would forget them."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is.

    Attributes:
        limited: some limit holds, so that what may be used must be known.
    """

    accounts: tuple[charges.Account, ...]
    currency: str

    @property
    def limited(self) -> bool:
        return any(account.limits.any() for account in self.accounts)

    @property
    def money_matters(self) -> bool:
        """Whether a budget in money holds."""
        return any(
            limit is not None
            for account in self.accounts
            for limit in (
                account.limits.money_per_day,
                account.limits.money_per_month,
                account.limits.money_in_all,
            )
        )


class ExchangeBooks:
    """What the attempts of one exchange cost.

    What is set aside is in the record's hands from the moment that it is asked to write: who is cancelled while
    it writes leaves the writing to `close`, which waits for it.

    Args:
        first: what attempt 0 asks, for which the exchange's opening entry sets money aside.

    Attributes:
        outcomes: of the attempts that are over, in the order in which they ended.
    """

    def __init__(self, exchange_id: str, account: Account, record: Record, first: Step) -> None:
        self.outcomes: list[Outcome] = []
        self._id = exchange_id
        self._account = account
        self._record = record
        self._told: set[int] = set()
        self._unsettled: list[Outcome] = []
        self._held: dict[int, Step] = {0: first}
        self._writing: set[asyncio.Future[Any]] = set()

    def wish(self, number: int, step: Step, limit: Bound) -> charges.Wish:
        """What an attempt wants set aside."""
        claim = charges.Claim(
            min(limit.money or 0, MOST),
            min(limit.tokens, charges.MOST_TOKENS),
            step.endpoint,
            step.model,
        )
        return charges.Wish(self._id, number, self._account.accounts, claim, time.time())

    async def next(self, number: int, step: Step, limit: Bound) -> None:
        """See `attempts.Books`."""
        ended, self._unsettled = self._unsettled, []
        body = attempted(number, step, ended, self._account.currency)
        self._held[number] = step
        writing = self._record.add(
            ATTEMPTED,
            self._id,
            body,
            wish=self.wish(number, step, limit),
            settled=[self._settlement(outcome) for outcome in ended],
            refused={**body, "refused": True} if ended else None,
            ahead=True,
        )
        self._writing.add(writing)
        writing.add_done_callback(lambda done: self._written(done, number, ended))
        result = await asyncio.shield(writing)
        if isinstance(result, charges.Refusal):
            raise charges.refused(result, self._account.currency)

    def _written(self, writing: asyncio.Future[Any], number: int, ended: list[Outcome]) -> None:
        """What is set aside and what is settled, now that the record has written or could not."""
        self._writing.discard(writing)
        failed = writing.cancelled() or writing.exception() is not None
        if failed:
            self._unsettled = [*ended, *self._unsettled]
        if failed or isinstance(writing.result(), charges.Refusal):
            self._held.pop(number, None)

    def ended(self, outcome: Outcome) -> None:
        """See `attempts.Books`."""
        if outcome.number not in self._told:
            self._told.add(outcome.number)
            self.outcomes.append(outcome)
            self._unsettled.append(outcome)

    def close(
        self, closing: Callable[[], tuple[Json, Json]], *, ahead: bool = False
    ) -> asyncio.Future[Any]:
        """Write the exchange's last entry, and settle with it all that is not settled.

        It is under way when this returns, and may be shielded from who is cancelled while waiting. Where the
        record cannot be written, that is done as soon as it can be: nothing stays set aside.

        Args:
            closing: the entry's body and contents, asked for when all attempts are over.
            ahead: as for `Record.add`.

        Raises:
            RecordError: by the future; it is not written yet.
        """
        if self._writing:
            behind = asyncio.ensure_future(self._close_behind(closing, ahead))
            # Where nobody waits any more, what went wrong is seen to by the write itself.
            behind.add_done_callback(lambda done: done.cancelled() or done.exception())
            return behind
        for number, step in self._held.items() if self._account.limited else ():
            # Set aside, and then never asked.
            self.ended(Outcome(number, step, RESTING, NOTHING, 0))
        body, contents = closing()
        settled = [self._settlement(outcome) for outcome in self._unsettled]
        written = self._record.add(CLOSED, self._id, body, contents, settled=settled, ahead=ahead)

        def over(written: asyncio.Future[Any]) -> None:
            if written.cancelled() or not isinstance(written.exception(), RecordError):
                return
            late = {**body, "status": "error", "error": RecordError.code}
            _LATE.add(task := asyncio.ensure_future(self._close_late(late, settled)))
            task.add_done_callback(_LATE.discard)

        written.add_done_callback(over)
        return written

    async def _close_behind(self, closing: Callable[[], tuple[Json, Json]], ahead: bool) -> None:
        """What is being set aside must be known before it can be settled."""
        while self._writing:
            await asyncio.wait(self._writing)
        await self.close(closing, ahead=ahead)

    async def _close_late(self, body: Json, settled: Sequence[charges.Outcome]) -> None:
        """Try until the record takes it. Who is gone before leaves it to the next start."""
        for tries in itertools.count():
            await asyncio.sleep(min(_FIRST_WAIT * 2.0 ** min(tries, 10), _LONGEST_WAIT))
            with contextlib.suppress(RecordError):
                await asyncio.to_thread(self._record.close_open, self._id, body, settled)
                return

    @property
    def cost(self) -> int | None:
        """What the exchange has cost so far; None: of some attempt nobody knows."""
        total = 0
        for outcome in self.outcomes:
            if outcome.money is None:
                return None
            total += outcome.money
        return total

    def _settlement(self, outcome: Outcome) -> charges.Outcome:
        spent = charges.Spent(
            None if outcome.money is None else min(outcome.money, MOST),
            _bounded(outcome.usage),
            outcome.step.endpoint,
            outcome.step.model,
            outcome.error is not None,
        )
        accounts = self._account.accounts
        return charges.Outcome(self._id, outcome.number, accounts, spent, time.time())


def _bounded(usage: Usage) -> Usage:
    """No more than the books take; who reports more has been disbelieved before."""
    most = charges.MOST_TOKENS
    return Usage(
        min(usage.prompt_tokens, most),
        min(usage.completion_tokens, most),
        min(usage.cached_tokens, most),
        min(usage.cache_write_tokens, most),
        min(usage.reasoning_tokens, most),
        usage.counted,
    )
