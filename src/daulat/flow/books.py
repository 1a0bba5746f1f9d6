"""One exchange's money: what its attempts may cost is reserved, what they did cost is settled, each once.

Both happen in the transactions that write the exchange's entries, so that money and record agree whatever
stops the process. Not here: limits and sums (`record.ledger`), prices (`values.money`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from daulat.flow.attempt import NOTHING, RESTING, Outcome
from daulat.flow.metering import Bound
from daulat.record import Record, charges
from daulat.record.transcript import attempted
from daulat.values.answer import Usage
from daulat.values.money import MOST
from daulat.values.plan import Step

ATTEMPTED = "exchange.attempted"


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

    Attributes:
        outcomes: of the attempts that are over, in the order in which they ended.
    """

    def __init__(self, exchange_id: str, account: Account, record: Record) -> None:
        self.outcomes: list[Outcome] = []
        self._id = exchange_id
        self._account = account
        self._record = record
        self._told: set[int] = set()
        self._unsettled: list[Outcome] = []

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
        body = attempted(number, step, self._unsettled, self._account.currency)
        # Shielded: what is settled here is settled nowhere else, whoever stops waiting for it.
        result = await asyncio.shield(
            self._record.add(
                ATTEMPTED,
                self._id,
                body,
                wish=self.wish(number, step, limit),
                settled=self.settlements(),
            )
        )
        if isinstance(result, charges.Refusal):
            raise charges.refused(result, self._account.currency)

    def ended(self, outcome: Outcome) -> None:
        """See `attempts.Books`."""
        if outcome.number not in self._told:
            self._told.add(outcome.number)
            self.outcomes.append(outcome)
            self._unsettled.append(outcome)

    def unasked(self, step: Step) -> None:
        """The exchange ends: where nobody was asked, what was set aside for the first is given back."""
        if 0 not in self._told:
            self.ended(Outcome(0, step, RESTING, NOTHING, 0))

    def settlements(self) -> Sequence[charges.Outcome]:
        """What is to be settled with the next entry; each attempt is given once."""
        unsettled, self._unsettled = self._unsettled, []
        return [self._settlement(outcome) for outcome in unsettled]

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
